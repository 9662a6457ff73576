"""What a run found, and the record that it leaves."""

import math
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.config.flags import flags_of_own
from experiments.config.published import DATA_SHA256, SPAM_CLASSES
from experiments.config.settings import Own, Settings
from experiments.data.corpus import Corpus
from experiments.runs.fingerprint import describe_subject, digest_of_run, list_versions
from experiments.runs.records import (
    FAILED,
    FINISHED,
    VERSION,
    is_finished,
    record_path,
    write_record,
)
from experiments.runs.sources import git_commit
from experiments.system.devices import device_name
from experiments.system.torchrun import count_processes
from experiments.training.loop import History
from experiments.training.metrics import measure

DIGITS = 9  # after the point, of a recorded probability


class Clock:
    """Seconds of the phases of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    def stop(self, phase: str, seconds: float | None = None) -> None:
        """Notes the seconds since the last stop, or other ones, and starts anew."""
        now = time.perf_counter()
        self.seconds[phase] = now - self.started if seconds is None else seconds
        self.started = now


@dataclass
class Result:
    """What a run found."""

    history: History
    correct: dict[str, tuple[int, int]]  # split: messages told right, and of how many
    probabilities: Tensor  # (N, K), of the test messages
    labels: Tensor  # (N,)
    in_training: list[bool]  # whether a training message has the very text
    same_text: list[int]  # the first test message that has it
    seconds: dict[str, float]  # by phase; prefix and train make up the training time
    parameters: tuple[int, int] = (0, 0)  # trained, and in all
    kernels: str = ""
    prefix_reused: bool = False


def begin_record(settings: Settings, corpus: Corpus | None, device: torch.device) -> dict[str, Any]:
    """Returns what a record holds before its run: who made it, and with what.

    Args:
        settings: of one seed.
        corpus: the user's own messages; None for the published ones, which are known unread.
        device: where it is computed.
    """
    data, class_names = DATA_SHA256, SPAM_CLASSES
    if corpus:
        data, class_names = corpus.digest, corpus.class_names
    subject, name = describe_subject(settings), device_name(device)
    return subject | {
        "version": VERSION,
        "digest": digest_of_run(settings, subject, data, device.type, name),
        "data": data,
        "classes": list(class_names),
        "split": describe_split(settings.own, corpus) if corpus else None,
        "prefix_reused": False,
        "seed": settings.seed,
        "environment": list_versions()
        | {
            "platform": platform.platform(),
            "device": name,
            "device_type": device.type,
            "threads": torch.get_num_threads(),
            "processes": count_processes(),
            "shortcuts": not settings.machine.no_shortcuts,
            "git_commit": git_commit(),
        },
    }


def describe_split(own: Own, corpus: Corpus) -> dict[str, Any]:
    """Returns what a record tells of the user's own messages: where they were, and the split."""
    return {"of": corpus.whole, "seed": own.split_seed, "flags": flags_of_own(own)}


def finish_record(
    record: dict[str, Any], result: Result, peak_mib: float, peak_since: str
) -> dict[str, Any]:
    """Returns a record with what its run found.

    Args:
        record: what was known before.
        result: what the run found.
        peak_mib: the most memory held, in MiB.
        peak_since: since when that is, as `start_peak` has it.
    """
    probabilities = result.probabilities.double().numpy()
    metrics = measure(probabilities, result.labels.numpy())._asdict()
    del metrics["bins"]
    return record | {
        "status": FINISHED,
        "date": now(),
        "prefix_reused": result.prefix_reused,
        "losses": [list(line) for line in result.history.losses],
        "accuracies": [list(line) for line in result.history.accuracies],
        "best": result.history.best and list(result.history.best),
        "correct": {name: list(counts) for name, counts in result.correct.items()},
        "test": {
            "labels": result.labels.tolist(),
            "predictions": result.probabilities.argmax(dim=-1).tolist(),
            "probabilities": probabilities.round(DIGITS).tolist(),
            "in_training": result.in_training,
            "same_text": result.same_text,
        },
        "metrics": metrics,
        "seconds": {name: round(s, 3) for name, s in result.seconds.items()},
        "peak_memory_mib": None if math.isnan(peak_mib) else round(peak_mib, 1),
        "trainable_parameters": result.parameters[0],
        "parameters": result.parameters[1],
        "environment": record["environment"]
        | {"kernels": result.kernels, "peak_since": peak_since},
    }


def record_failure(folder: Path, record: dict[str, Any], error: Exception) -> None:
    """Leaves the record of a run that failed, unless there is one that came to its end."""
    if not is_finished(record_path(folder, record)):
        with suppress(OSError):  # the first error is the one to tell
            failed = {"status": FAILED, "date": now(), "error": str(error)}
            write_record(folder, record | failed)


def now() -> str:
    """Returns the date and time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def published_row(record: dict[str, Any]) -> int | None:
    """Returns the row whose published figures are those of a record's very settings, if any are."""
    is_published = not record["stands_in"] and record["precision"] == "float32"
    return record["row"] if is_published and record["data"] == DATA_SHA256 else None
