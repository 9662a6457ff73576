"""A small trained classifier in each design, for the tests of saving and predicting."""

import itertools

import torch
from helpers import randomise

from experiments.config.parsing import resolve
from experiments.config.settings import TRAINABLE, default_values
from experiments.data.sms_spam import demo_tokenizer
from experiments.model.classifier import build_classifier
from experiments.model.prediction import Classifier
from experiments.model.saved import save_classifier
from experiments.shortcuts.model import OptimizedClassifier
from experiments.system.devices import dtype_of

CONFIG = {
    "vocab_size": 50257, "context_length": 24, "drop_rate": 0.0, "qkv_bias": True, "emb_dim": 8,
    "n_layers": 3, "n_heads": 2,
}  # fmt: skip
CLASSES = ["no", "perhaps", "yes"]
MAX_LENGTH = 18
LAYERS = tuple(TRAINABLE)
CHOICES = [  # token position, averaging, no mask, no padding
    *itertools.product(("first", "last", "flexible"), *[(False, True)] * 3)
]
TEXTS = ["a", "", "abc", "the longest of all these texts is cut", "cab", "to be", "\tx\n", "abc"]


def settings_of(
    base, path=None, layers="last_block", position="last", average=False, no_mask=False,
    no_padding=False, **flags,
):  # fmt: skip
    """The settings of a run that finetunes the base and saves the classifier."""
    values = {
        "weights": str(base), "trainable_layers": layers, "trainable_token_pos": position,
        "average_embeddings": average, "disable_causal_mask": no_mask, "no_padding": no_padding,
        "lora_rank": 3, "lora_alpha": 1.5, "demo": True,  # for its tokenizer
        "save_model": path, "seed": 5,
    }  # fmt: skip
    return resolve(default_values() | values | flags)


def train(settings):
    """A classifier whose trained parameters are far from their initial values."""
    model = build_classifier(settings, len(CLASSES))
    torch.manual_seed(3)
    randomise(torch.nn.ParameterList(p for p in model.parameters() if p.requires_grad), std=0.1)
    return model


def save(settings, model=None):
    """Saves a trained classifier and returns it."""
    model = model or train(settings)
    save_classifier(settings, model, MAX_LENGTH, CLASSES, record="digest")
    return model


def classifier_of(model, description, batch_size=3):
    """The optimised classifier, as `classify.py` loads it."""
    optimised = OptimizedClassifier(
        model, no_padding=description.no_padding, dtype=dtype_of(description.precision)
    )
    device = torch.device("cpu")
    return Classifier(optimised.eval(), description, demo_tokenizer(), device, batch_size)


def predict(model, description, batch_size=3):
    """The probabilities of `TEXTS` by the optimised classifier."""
    return classifier_of(model, description, batch_size).classify(TEXTS)


@torch.no_grad()
def predict_one_by_one(model, settings):
    """The probabilities of `TEXTS` by the reference implementation, text by text."""
    no_padding = settings.data.no_padding
    max_length = CONFIG["context_length"] if no_padding else MAX_LENGTH
    logits = []
    for text in TEXTS:
        tokens = (demo_tokenizer().encode(text) or [50256])[:max_length]
        length = len(tokens)
        tokens += [] if no_padding else [50256] * (max_length - length)
        logits.append(model(torch.tensor([tokens]), torch.tensor([length])))
    return torch.softmax(torch.cat(logits), dim=-1)
