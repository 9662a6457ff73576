"""A small trained classifier in each design, for the tests of saving and classifying."""

import itertools

import torch
from checkpoints import write_checkpoint
from helpers import randomise

from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.settings import TRAINABLE
from experiments.data.demo import demo_tokenizer
from experiments.model.classifier import Design, create_classifier
from experiments.model.description import Description
from experiments.model.prediction import Classifier
from experiments.model.saved import trained_tensors
from experiments.runs.fingerprint import checkpoint_sha256

SMALL = {"n_vocab": 50257, "n_ctx": 24, "n_embd": 64, "n_head": 1, "n_layer": 3}
CONFIG = {
    "vocab_size": 50257, "context_length": 24, "emb_dim": 64, "n_heads": 1, "n_layers": 3,
    "drop_rate": 0.0, "qkv_bias": True,
}  # fmt: skip
LAYERS = tuple(TRAINABLE)
CHOICES = [  # token position, averaging, no mask, no padding
    *itertools.product(("first", "last", "flexible"), *[(False, True)] * 3)
]
TEXTS = ["a", "", "abc", "the longest of all these texts is cut", "cab", "to be", "\tx\n", "abc"]


def make_base(folder):
    """A checkpoint's path, digest and weights."""
    path = write_checkpoint(folder / "base.safetensors", SMALL)
    return path, checkpoint_sha256(path), load_gpt2_checkpoint(path)[1]


def describe(
    layers="last_block", position="last", average=False, no_mask=False, no_padding=False, **more
):
    design = Design(CONFIG, position, average, no_mask, layers, lora_rank=3, lora_scaling=1.5)
    told = {
        "design": design,
        "class_names": ["no", "perhaps", "yes"],
        "max_length": CONFIG["context_length"] if no_padding else 18,
        "no_padding": no_padding,
        "tokenizer": "bytes",
        "precision": "float32",
        "seed": 5,
        "is_whole": False,
        "base": None if more.get("is_whole") or layers == "all" else "a" * 64,
        "base_path": "nowhere.safetensors",
        "settings": {"batch_size": 8},
        "record": None,
    }
    return Description(**told | more)


def train(description, params):
    """A classifier whose trained parameters are far from where they began."""
    classes = len(description.class_names)
    model = create_classifier(description.design, params, description.seed, classes)
    torch.manual_seed(3)
    for parameter in trained_tensors(model).values():
        randomise(torch.nn.ParameterList([parameter]), std=0.1)
    return model


def ask(model, description, texts=TEXTS, batch_size=3):
    """The probabilities that the fast classifier tells."""
    device = torch.device("cpu")
    return Classifier(model, description, demo_tokenizer(), device, batch_size).classify(texts)


@torch.no_grad()
def ask_plainly(model, description, texts=TEXTS, no_padding=None):
    """The probabilities by the plain model, message by message."""
    no_padding = description.no_padding if no_padding is None else no_padding
    answers = []
    for text in texts:
        tokens = (demo_tokenizer().encode(text) or [50256])[: description.max_length]
        length = len(tokens)
        tokens += [] if no_padding else [50256] * (description.max_length - length)
        answers.append(model(torch.tensor([tokens]), torch.tensor([length])))
    return torch.softmax(torch.cat(answers), dim=-1)
