"""The result of a run, and the record that is made of it."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.config.settings import RuntimeConfig
from experiments.data.corpus import Corpus, same_texts
from experiments.runs.records import FAILED, FINISHED, is_finished, record_path, write_record
from experiments.system.distributed import world
from experiments.system.files import write_or_rescue
from experiments.system.terminal import printable
from experiments.training.loop import History
from experiments.training.metrics import measure
from experiments.training.resume import Resume

DIGITS = 9  # after the point, of a recorded probability


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
        if world.is_main and not is_finished(self.path):
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
