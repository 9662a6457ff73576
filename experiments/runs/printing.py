"""What a run prints and logs: its plan, its results, and the published figures next to them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch

from experiments.config.rows import DATA_SHA256, ROWS, name_of_row, published_count
from experiments.config.settings import TRAINABLE, Settings
from experiments.data.corpus import Corpus
from experiments.data.datasets import Splits
from experiments.runs.results import Result
from experiments.system.devices import device_is_available, lacks_bfloat16
from experiments.system.distributed import world
from experiments.system.terminal import printable
from experiments.training.memory import count_parameters
from experiments.training.optimization import Watch, no_op


def describe_corpus(corpus: Corpus) -> str:
    """Return the classes of custom data, and what a user should know about the data."""
    labels = pd.concat(corpus.splits.values())["Label"]
    counts = labels.value_counts().reindex(range(corpus.num_classes), fill_value=0)
    names = enumerate(corpus.class_names)
    classes = ", ".join(f"{number} {name} ({counts[number]:,})" for number, name in names)
    return printable(
        "\n".join([*(f"Data: {note}" for note in corpus.notes), f"Classes: {classes}"])
    )


def describe_run(
    settings: Settings, datasets: Splits, num_classes: int, device: torch.device
) -> str:
    """Return a description of a run, before its weights are loaded."""
    config, training = settings.design.config, settings.training
    note = settings.weights.note
    trained, total = count_parameters(settings.design, num_classes)
    train, validation, test = map(len, datasets)
    padding = "not padded, at most" if settings.data.no_padding else "padded to"
    num_cut = sum(dataset.num_cut for dataset in datasets)
    steps = training.max_steps or training.count_steps(train)
    threads = torch.get_num_threads()
    cpu = f", {_count(threads, 'thread')}" if device.type == "cpu" else ""
    if device.type == "cpu" and settings.runtime.device == "auto" and device_is_available("mps"):
        cpu += " (--device mps uses the GPU; its results differ slightly)"
    if settings.runtime.precision == "bfloat16" and lacks_bfloat16(device):
        cpu += " (it has no units for bfloat16: float32 is faster)"
    generated = "generated messages: " if settings.data.demo else ""
    lines = (
        f"Model: {settings.weights.description}; {_count(config['n_layers'], 'block')} of width "
        f"{config['emb_dim']}, {_count(config['n_heads'], 'head')}" + (f"; {note}" if note else ""),
        f"Trained: {TRAINABLE[settings.model.trainable_layers]}; {trained:,} of {total:,} "
        f"parameters; {_count(steps, 'step')} of {training.accumulation_steps} x "
        f"{training.batch_size} examples, {_count(training.num_epochs, 'epoch')}",
        f"Data: {generated}{train:,} training, {validation:,} validation, {test:,} test examples, "
        f"{padding} {_count(datasets.train.max_length, 'token')}"
        + (f", {num_cut:,} truncated" if num_cut else ""),
        _describe_lengths(datasets) if settings.custom.data else "",
        f"Device: {device}{cpu}; torch {torch.__version__}",
    )
    return printable("\n".join(filter(None, lines)))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _describe_lengths(datasets: Splits) -> str:
    """Return how long the texts are, and what padding them to the longest one costs."""
    lengths = torch.cat([dataset.full_lengths for dataset in datasets])
    most = int(lengths.double().quantile(0.99).ceil())
    train = datasets.train
    padded = train.max_length * len(train) / int(train.lengths.sum())
    line = f"Lengths: 99 % of the texts have up to {most:,} tokens, the longest {lengths.max():,}"
    if train.no_padding:
        return line
    line += f"; padding makes {padded:.1f} times as many tokens as the texts have"
    is_outlier = train.max_length > 2 * most
    return line + f"; --context_length {most} would be faster" * is_outlier


def describe_result(result: Result, settings: Settings) -> str:
    """Return the final accuracies and the peak memory, and the published accuracies of the row."""
    names = ("Training", "Validation", "Test")
    counts = dict(zip(names, result.correct.values(), strict=True))
    lines = [f"{name} accuracy: {k / n:.2%}" for name, (k, n) in counts.items()]
    if settings.custom.data:
        sizes, names = result.labels.bincount(), result.corpus.class_names
        lines[-1] += f" (the largest class has {sizes.max() / sizes.sum():.2%})"
        if len(predicted := result.predictions.unique()) == 1:
            lines.append(f"All predictions are {names[predicted.item()]!r}")
    if not math.isnan(result.peak_memory_mib):
        lines.append(f"Peak memory: {result.peak_memory_mib:,.0f} MiB")
    is_published = not settings.is_substitute and settings.runtime.precision == "float32"
    if (row := settings.row) and is_published and result.corpus.digest == DATA_SHA256:
        lines.append(f"Row {row}, published and here:")
        for percent, (name, (k, n)) in zip(ROWS[row][1:4], counts.items(), strict=True):
            count = published_count(percent, n)
            count = "no count" if count is None else f"{count:,}"
            lines.append(
                f"  {name:10} {percent:6.2f}% ({count} of {n:,})   {k / n:7.2%} ({k:,} of {n:,})"
            )
    if settings.data.demo:
        lines.append("This was the demo: these figures mean nothing about GPT-2.")
    return "\n".join(lines)


@contextmanager
def log_to_tensorboard(settings: Settings, record: str | None) -> Iterator[Watch]:
    """Yield a function that logs a training and a validation value, if `--tensorboard` asks for it.

    What an earlier run with the same digest of its record logged is no longer shown.
    """
    folder = settings.output.tensorboard
    if folder is None or not world.is_main:
        yield no_op
        return
    from torch.utils.tensorboard import SummaryWriter  # of a package that is optional

    name = f"{name_of_row(settings.row).replace(' ', '_')}_seed_{settings.seed}"
    name += f"_{record[:12]}" if record else ""
    with SummaryWriter(folder / name, purge_step=0) as writer:

        def watch(what: str, step: int, training: float, validation: float) -> None:
            writer.add_scalar(f"{what}/training", training, step)
            writer.add_scalar(f"{what}/validation", validation, step)
            writer.flush()

        yield watch
