"""A few short runs in every way that processes can share them; torchrun starts it, as a test does.

torchrun --nproc_per_node=2 tests/shared_runs.py FILE replicate shard
"""

import sys
from itertools import chain

import pandas as pd
import torch
from helpers import randomise

from experiments.config.flags import parse_args
from experiments.data.datasets import create_datasets, create_loaders
from experiments.model.classifier import Design, create_classifier
from experiments.model.recomputing import RecomputedBlocks
from experiments.shortcuts.switch import take_shortcuts
from experiments.system.distributed import joined
from experiments.system.torchrun import rank
from experiments.training.finetuning import evaluate, finetune
from experiments.training.sharding import gather_shards, spread

CPU = torch.device("cpu")
CONFIG = {
    "vocab_size": 97, "context_length": 16, "emb_dim": 32, "n_heads": 4, "n_layers": 3,
    "drop_rate": 0.0, "qkv_bias": True,
}  # fmt: skip
RUNS = {  # what is trained, position, and how; seven training messages make a short last batch
    "a batch that is not divided": ("last_block", "flexible", "--batch_size 5"),
    "all layers": ("all", "last", "--batch_size 3 --accumulation_steps 2"),
    "LoRA": ("lora", "first", "--batch_size 2 --max_grad_norm 0.1"),
    "the head": ("last_layer", "last", "--batch_size 4 --keep_best"),
    "a batch of one": ("all", "flexible", "--batch_size 1 --accumulation_steps 4 --no_padding"),
    "labels that do not count": ("last_block", "last", "--batch_size 3 --ignore_index 1"),
    "blocks that are computed again": ("all", "last", "--batch_size 3 --activation_checkpointing"),
    "classes that weigh": ("last_two_blocks", "flexible", "--batch_size 4 --class_weights"),
}


class CharacterTokenizer:
    """One token a character."""

    def encode(self, text):
        return [ord(character) % CONFIG["vocab_size"] for character in text]


def messages(count, first):
    texts = ["ab" * (1 + (7 * i) % 6) + chr(97 + i) for i in range(first, first + count)]
    return pd.DataFrame({"Label": [i % 3 // 2 for i in range(count)], "Text": texts})


def one_run(layers, position, flags, parallel, plain):
    """Losses, accuracies, counts, probabilities and parameters of a run."""
    training = parse_args(["--num_epochs", "2", "--learning_rate", "0.01", *flags.split()]).training
    splits = {"train": messages(7, 0), "validation": messages(5, 9), "test": messages(4, 20)}
    datasets = create_datasets(
        splits, CharacterTokenizer(), limit=14, no_padding="--no_padding" in flags
    )
    for dataset in datasets:  # the small vocabulary has another padding token
        dataset.tokens[dataset.tokens == 50256] = 96
    design = Design(CONFIG, position, False, False, layers, 2, 2.0)
    whole = model = randomise(create_classifier(design, None, 1, 2))
    if "--activation_checkpointing" in flags:
        whole.trf_blocks = RecomputedBlocks(*whole.trf_blocks)
    if not plain:
        model, datasets, *_ = take_shortcuts(whole, datasets)
    model = spread(model, 2, parallel)
    torch.manual_seed(2)
    loaders = create_loaders(datasets, training.batch_size)
    history = finetune(model, loaders, datasets.train.labels, training, CPU, fused=True)
    correct, probabilities, labels = evaluate(model, loaders, CPU)
    whole = gather_shards(whole, design, 2)
    numbers = [*chain(*history.losses), *chain(*history.accuracies), *chain(*correct.values())]
    numbers = torch.tensor([*numbers, *(history.best or ())])
    return [numbers, probabilities, labels, *whole.state_dict().values()]


def all_runs(parallel):
    """Each run of `RUNS`, plain and with shortcuts."""
    torch.set_default_dtype(torch.float64)
    try:
        return [one_run(*run, parallel, plain) for run in RUNS.values() for plain in (True, False)]
    finally:
        torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    with joined(CPU):
        results = {parallel: all_runs(parallel) for parallel in sys.argv[2:]}
        if rank() == 0:
            torch.save(results, sys.argv[1])
