"""Tiny classifiers of every design, as the reference implementation and as the optimised one."""

import itertools
import random
from copy import deepcopy

import pandas as pd
import torch
from helpers import assert_equal, randomise

from experiments.config.design import Design
from experiments.data.datasets import Splits, TextDataset, create_loaders
from experiments.model.classifier import create_classifier
from experiments.shortcuts.prefix import cache_frozen_prefix

CPU = torch.device("cpu")
CONFIG = {
    "vocab_size": 97, "context_length": 24, "emb_dim": 32, "n_heads": 4, "n_layers": 3,
    "drop_rate": 0.0, "qkv_bias": True,
}  # fmt: skip
PAD = 96
LAYERS = ("last_layer", "last_block", "last_two_blocks", "all", "lora", "lora_alternative")
POSITIONS = ("first", "last", "flexible")
CHOICES = {
    "layers": LAYERS,
    "position": POSITIONS,
    "average": (False, True),
    "no_mask": (False, True),
    "no_padding": (False, True),
}
OPTIONS = {  # how it is built, trained and optimised
    "products": ("as parameters", "cast once", "cast at use"),
    "checkpointing": (False, True),
    "config": (CONFIG, CONFIG | {"n_layers": 1}, CONFIG | {"qkv_bias": False}),
    "accumulation_steps": (1, 3),
    "max_grad_norm": (None, 1e-3),
}


def covering(factors, seed=0):
    """Few combinations that contain every pair of choices of two factors, found greedily."""
    rng, names = random.Random(seed), list(factors)

    def pairs_of(chosen):
        return set(itertools.combinations([(name, chosen[name]) for name in names], 2))

    numbers = {name: range(len(choices)) for name, choices in factors.items()}
    places = [[(name, i) for i in numbers[name]] for name in names]
    missing = {p for a, b in itertools.combinations(places, 2) for p in itertools.product(a, b)}
    while missing:
        needed = dict(min(missing))
        drawn = [{n: needed.get(n, rng.choice(numbers[n])) for n in names} for _ in range(60)]
        best = max(drawn, key=lambda chosen: len(pairs_of(chosen) & missing))
        missing -= pairs_of(best)
        yield {name: factors[name][i] for name, i in best.items()}


def datasets_of(no_padding=False, max_length=18):
    """One token, none, more than the limit, duplicates, and a real token that equals PAD.

    The training texts end in a short batch.
    """
    texts = ["a", "", "abc", "abcdefghijklmnopqrstuvwxyz", "abc", chr(PAD), "bc" + chr(PAD), "bca",
             "the longer one", "hello", "b", "abcd", "zyxw vuts", "to be", "abcdefghijklmnop",
             "abcdefghijklmnoq", "ham", "spam", "eggs"]  # fmt: skip
    frame = pd.DataFrame({"Label": [i % 2 for i in range(len(texts))], "Text": texts})
    encoded = [[ord(c) % CONFIG["vocab_size"] for c in text] or [PAD] for text in texts]
    parts = (slice(0, 11), slice(8, 15), slice(12, None))
    return Splits(*(TextDataset(frame[p], encoded[p], max_length, PAD, no_padding) for p in parts))


def classifier(
    layers="last_block", position="last", average=False, no_mask=False, config=CONFIG,
    checkpointing=False,
):  # fmt: skip
    design = Design(config, position, average, no_mask, layers, lora_rank=3, lora_scaling=1.5)
    torch.manual_seed(3)
    return randomise(create_classifier(design, None, 3, 2, checkpointing))


def both_paths(*, no_padding=False, products="as parameters", device=CPU, **choices):
    """The reference implementation and the optimised one on a device, each with its loaders."""
    plain, datasets = classifier(**choices), datasets_of(no_padding)
    dtype = None if products == "as parameters" else torch.get_default_dtype()
    cast_once, size = products == "cast once", 1 if no_padding else 4
    moved = deepcopy(plain).to(device)
    short = cache_frozen_prefix(moved, datasets, dtype=dtype, cast_once=cast_once)
    both = ((plain, datasets), (short.model, short.datasets))
    return tuple((model, create_loaders(examples, size)) for model, examples in both)


def trajectory(model, loaders, steps=10, accumulation_steps=1, device=CPU, max_grad_norm=None):
    """Gradients of a few steps, the logits after the first and the last, and all parameters."""
    torch.manual_seed(5)
    seen = []
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    batches = itertools.chain.from_iterable(itertools.repeat(loaders.train))
    for step in range(1, steps + 1):
        model.train()
        for *inputs, labels in itertools.islice(batches, accumulation_steps):
            logits = model(*(x.to(device) for x in inputs))
            loss = torch.nn.functional.cross_entropy(logits, labels.to(device))
            (loss / accumulation_steps).backward()
        seen += [p.grad.clone() for p in parameters]
        if max_grad_norm:
            torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if step in (1, steps):
            model.eval()
            with torch.no_grad():
                seen += [
                    model(inputs.to(device), lengths.to(device))
                    for loader in loaders
                    for inputs, lengths, _ in loader
                ]
    return seen + list(model.state_dict().values())


def assert_same(expected, actual, tolerance=1e-9):
    assert_equal([x.cpu() for x in actual], [x.cpu() for x in expected], tolerance)
