"""What a run prints, logs and records: its plan, its result, and the published figures."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from experiments.config.rows import DATA_SHA256, ROWS, name_of_row, published_count
from experiments.config.settings import TRAINABLE, RuntimeConfig, Settings
from experiments.data.corpus import Corpus, same_texts
from experiments.data.datasets import Splits
from experiments.data.separated import list_some
from experiments.runs.records import FAILED, FINISHED, read_finished, record_path, write_record
from experiments.system.devices import device_is_available, lacks_bfloat16
from experiments.system.distributed import world
from experiments.system.files import write_or_rescue
from experiments.system.terminal import printable
from experiments.training.loop import History
from experiments.training.metrics import measure
from experiments.training.optimization import Watch, no_op
from experiments.training.resume import Resume

DIGITS = 9  # after the point, of a recorded probability

# ----------------------------------------------------------------------------------------- the plan


def describe_corpus(corpus: Corpus) -> str:
    """Return the classes of custom data, and what a user should know about the data."""
    labels = pd.concat(corpus.splits.values())["Label"]
    names = enumerate(corpus.class_names)
    classes = list_some((f"{i} = {name} ({(labels == i).sum():,})" for i, name in names), most=20)
    notes = "\n  ".join(corpus.notes)
    return printable(f"Data: {notes}\nClasses: {classes}")


def describe_run(
    settings: Settings, datasets: Splits, num_classes: int, device: torch.device
) -> str:
    """Return a description of a run, before its weights are loaded."""
    config, training = settings.design.config, settings.training
    trained, total = settings.design.count_parameters(num_classes)
    train, validation, test = map(len, datasets)
    all_steps = training.count_steps(train)
    steps = training.max_steps or all_steps
    epochs = math.ceil(training.num_epochs * steps / all_steps)
    padding = "not padded, at most" if settings.data.no_padding else "padded to"
    num_cut = sum(dataset.num_cut for dataset in datasets)
    cpu = f", {_count(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else ""
    if device.type == "cpu" and settings.runtime.device == "auto" and device_is_available("mps"):
        cpu += " (--device mps uses the GPU; its results differ slightly)"
    if settings.runtime.precision == "bfloat16" and lacks_bfloat16(device):
        cpu += " (it has no units for bfloat16: float32 is faster)"
    lines = {
        "Model": [
            settings.weights.description,
            f"{_count(config['n_layers'], 'block')} of width {config['emb_dim']}, "
            f"{_count(config['n_heads'], 'head')}",
            settings.weights.note,
        ],
        "Trained": [
            TRAINABLE[settings.model.trainable_layers],
            f"{trained:,} of {total:,} parameters",
            f"{_count(steps, 'step')} of {training.accumulation_steps} x {training.batch_size} "
            f"examples, {_count(epochs, 'epoch')}",
        ],
        "Examples": [
            "generated messages" * settings.data.demo,
            f"{train:,} training, {validation:,} validation, {test:,} test, {padding} "
            + _count(datasets.train.max_length, "token")
            + (f", {num_cut:,} truncated" if num_cut else ""),
            *(_describe_lengths(datasets) if settings.custom.data else []),
        ],
        "Device": [f"{device}{cpu}", f"torch {torch.__version__}"],
    }
    shown = (f"{name}: {'; '.join(filter(None, parts))}" for name, parts in lines.items())
    return printable("\n".join(shown))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _describe_lengths(datasets: Splits) -> Iterator[str]:
    """Yield how long the texts are, and what padding them to the longest one costs."""
    lengths, train = torch.cat([dataset.full_lengths for dataset in datasets]), datasets.train
    most = int(lengths.double().quantile(0.99).ceil())
    yield f"99 % of the texts have up to {most:,} tokens, the longest {lengths.max():,}"
    if train.no_padding:
        return
    padded = train.max_length * len(train) / int(train.lengths.sum())
    yield f"padding makes {padded:.1f} times as many tokens as the texts have"
    if train.max_length > 2 * most:
        yield f"--context_length {most} would be faster"


# --------------------------------------------------------------------------------------- the result


class Clock:
    """Seconds of the phases of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def stop(self, phase: str, seconds: float | None = None) -> None:
        """Save the seconds since the last stop, or a given number, as those of a phase."""
        now = time.perf_counter()
        self.seconds[phase] = now - self._started if seconds is None else seconds
        self._started = now


@dataclass
class Result:
    """The result of a run."""

    corpus: Corpus
    history: History
    correct: dict[str, tuple[int, int]]  # by split: correct predictions, and examples
    probabilities: Tensor  # (N, K), of the test examples
    labels: Tensor  # (N,)
    seconds: dict[str, float]  # by phase; prefix and train make up the training time
    parameters: tuple[int, int] = (0, 0)  # trained, and in all
    kernels: str = ""
    prefix_reused: bool = False
    peak_memory_mib: float = math.nan
    peak_since: str = "process"  # since when: "run" or "process"
    predictions: Tensor = field(init=False)  # (N,)

    def __post_init__(self) -> None:
        self.predictions = self.probabilities.argmax(dim=-1)


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


# --------------------------------------------------------------------------------------- the record


class Recorder:
    """The record of one run, from its begin to its end."""

    def __init__(self, folder: Path, begun: dict[str, Any], state: Path) -> None:
        self.begun, self.digest, self.path = begun, begun["digest"], record_path(folder, begun)
        self.state = state  # of training, while it is unfinished

    def create_resume(self, runtime: RuntimeConfig) -> Resume:
        """Return what saves the state of training, and restores the one that was saved."""
        if runtime.no_resume and world.is_main:
            self.state.unlink(missing_ok=True)
        key = {"digest": self.digest, "processes": world.size, "parallel": runtime.parallel}
        return Resume(self.state, key, runtime.save_every)

    def write(self, result: Result) -> None:
        """Write the record; if that fails, write it to a temporary folder and raise OSError."""
        if not world.is_main:
            return
        record = _finish_record(self.begun, result)
        write_or_rescue(self.path, lambda path: write_record(path.parent, record))
        self.state.unlink(missing_ok=True)
        print(printable(f"Recorded: {self.path}"))

    def write_failure(self, error: Exception) -> None:
        """Record that the run failed, unless a finished record of it exists."""
        if world.is_main and not read_finished(self.path):
            with suppress(OSError):  # the first error is the one to report
                failed = {"status": FAILED, "date": _now(), "error": str(error)}
                write_record(self.path.parent, self.begun | failed)


def _finish_record(record: dict[str, Any], result: Result) -> dict[str, Any]:
    """Return a record that `begin_record` began with the results of its run."""
    probabilities = result.probabilities.double().numpy()
    metrics = measure(probabilities, result.labels.numpy())._asdict()
    del metrics["bins"]
    texts, peak = result.corpus.splits["test"]["Text"], result.peak_memory_mib
    return record | {
        "status": FINISHED,
        "date": _now(),
        "prefix_reused": result.prefix_reused,
        "losses": [list(line) for line in result.history.losses],
        "accuracies": [list(line) for line in result.history.accuracies],
        "best": result.history.best and list(result.history.best),
        "correct": {name: list(counts) for name, counts in result.correct.items()},
        "test": {
            "labels": result.labels.tolist(),
            "predictions": result.predictions.tolist(),
            "probabilities": probabilities.round(DIGITS).tolist(),
            "in_training": texts.isin(result.corpus.splits["train"]["Text"]).tolist(),
            "same_text": same_texts(texts),
        },
        "metrics": metrics,
        "seconds": {name: round(s, 3) for name, s in result.seconds.items()},
        "peak_memory_mib": None if math.isnan(peak) else round(peak, 1),
        "trainable_parameters": result.parameters[0],
        "parameters": result.parameters[1],
        "environment": record["environment"]
        | {
            "threads": torch.get_num_threads(),
            "kernels": result.kernels,
            "peak_since": result.peak_since,
        },
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
