"""What a run prints: what it is about to do, and what it found beside what was published."""

import platform

import pandas as pd
import tiktoken
import torch

from experiments.config.rows import ROWS, published_count
from experiments.config.settings import TRAINABLE, Network, Reading
from experiments.data.corpus import Corpus
from experiments.data.datasets import Splits

SPLIT_NAMES = {"train": "Training", "validation": "Validation", "test": "Test"}


def describe_corpus(corpus: Corpus) -> str:
    """Returns which classes the user's own messages have, and what to know of them."""
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(corpus.class_names))
    return "\n".join([f"Classes: {classes}", *(f"Messages: {note}" for note in corpus.notes)])


def describe_run(
    network: Network,
    reading: Reading,
    parameters: tuple[int, int],
    datasets: Splits,
    device: torch.device,
) -> str:
    """Returns what a run is about to do.

    Args:
        network: which network is built.
        reading: which messages are read.
        parameters: how many are trained, and in all.
        datasets: of the three splits.
        device: where it is computed.
    """
    cut = sum(dataset.num_cut for dataset in datasets)
    sizes = {name: len(dataset) for name, dataset in datasets._asdict().items()}
    lines = [
        describe_model(network),
        describe_trainable(network, parameters),
        describe_messages(sizes, datasets.train.max_length, reading.no_padding)
        + (f", which cuts {cut:,} of them" if cut else ""),
        describe_device(device),
        f"Versions: Python {platform.python_version()}, torch {torch.__version__}, "
        f"tiktoken {tiktoken.__version__}, pandas {pd.__version__}",
    ]
    if network.checkpoint_note:
        lines.insert(1, f"Checkpoint: {network.checkpoint_note}")
    demo = "Demo: made-up messages and a tiny random model; its figures mean nothing about GPT-2."
    return "\n".join([demo, *lines] if reading.demo else lines)


def describe_model(network: Network) -> str:
    """Returns which network is built."""
    config = network.config
    return (
        f"Model: {network.description}; {config['n_layers']} blocks of width "
        f"{config['emb_dim']}, {config['n_heads']} heads"
    )


def describe_trainable(network: Network, parameters: tuple[int, int]) -> str:
    """Returns what of it is trained: how many parameters, and of how many."""
    trainable, total = parameters
    return (
        f"Trainable: {TRAINABLE[network.trainable_layers]}; {trainable:,} of {total:,} parameters"
    )


def describe_messages(sizes: dict[str, int], length: int, no_padding: bool) -> str:
    """Returns how many messages each split has, and how many tokens each message."""
    cut = "at their own lengths, up to" if no_padding else "cut and padded to"
    return (
        f"Data: {sizes['train']:,} training, {sizes['validation']:,} validation, "
        f"{sizes['test']:,} test messages, {cut} {length} tokens"
    )


def describe_device(device: torch.device) -> str:
    """Returns where a run is computed."""
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"Device: {device}{threads}"


def describe_result(
    correct: dict[str, tuple[int, int]], peak_mib: float, row: int | None, demo: bool
) -> str:
    """Returns the final accuracies and the peak memory, and beside them what was published.

    Args:
        correct: messages told right in each split, and of how many.
        peak_mib: the most memory held, in MiB.
        row: the row of the table that the settings make, if any.
        demo: whether the messages are made up.
    """
    lines = [f"{SPLIT_NAMES[name]} accuracy: {k / n:.2%}" for name, (k, n) in correct.items()]
    lines.append(f"Peak memory: {peak_mib:,.0f} MiB")
    if row:
        lines.append(f"Row {row} as published, and here:")
        for percent, (name, (k, n)) in zip(ROWS[row][1:4], correct.items(), strict=True):
            count = published_count(percent, n) or "no count"
            lines.append(
                f"  {SPLIT_NAMES[name]:10} {percent:6.2f}% ({count} of {n:,})"
                f"   {k / n:7.2%} ({k:,} of {n:,})"
            )
    if demo:
        lines.append("This was the demo: these figures mean nothing about GPT-2.")
    return "\n".join(lines)
