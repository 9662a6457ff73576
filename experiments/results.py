"""What a run found, and the record that it leaves."""

import hashlib
import math
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tiktoken
import torch
from torch import Tensor

from experiments.devices import device_name
from experiments.files import sha256_of
from experiments.flags import design_of, stands_in
from experiments.published import SPLIT_SHA256
from experiments.records import FINISHED, VERSION
from experiments.settings import Network, Settings
from experiments.sources import git_commit, source_digest
from experiments.training import History
from gpt_download import CHECKPOINTS


class Clock:
    """Seconds of the phases of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    def stop(self, phase: str) -> None:
        """Notes the seconds since the last stop, and starts anew."""
        now = time.perf_counter()
        self.seconds[phase], self.started = now - self.started, now


@dataclass
class Result:
    """What a run found."""

    history: History
    correct: dict[str, tuple[int, int]]  # split: messages told right, and of how many
    p_spam: Tensor  # (N,), of the test messages
    labels: Tensor  # (N,)
    in_training: list[bool]  # whether a training message has the very text
    seconds: dict[str, float]  # by phase; prefix and train make up the training time
    parameters: tuple[int, int] = (0, 0)  # trained, and in all
    kernels: str = ""


def identify_weights(network: Network) -> Any:
    """Returns what tells the weights that a run starts from apart from all others."""
    if network.checkpoint:
        return sha256_of(network.checkpoint)
    return network.weights if network.weights == "random" else CHECKPOINTS[network.parameter_count]


def begin_record(settings: Settings, device: torch.device) -> dict[str, Any]:
    """Returns what a record holds before its run: who made it, and with what."""
    if settings.baseline:
        told, weights, row = {"baseline": settings.baseline}, None, None
        name = f"baseline {settings.baseline}"
    else:
        told, weights = settings.identity, identify_weights(settings.network)
        row = design_of(settings)
        name = "run" if row is None else f"row {row:02d}"
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "tiktoken": tiktoken.__version__,
    }
    shortcuts = not settings.machine.no_shortcuts
    depends_on = [
        told | {"weights": weights}, settings.seed, shortcuts, device.type, versions,
        SPLIT_SHA256, source_digest(),
    ]  # fmt: skip
    return {
        "version": VERSION,
        "digest": hashlib.sha256(repr(depends_on).encode()).hexdigest(),
        "name": name,
        "row": row,
        "stands_in": stands_in(settings),
        "model": settings.baseline or settings.network.description,
        "seed": settings.seed,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in told.items()},
        "environment": versions
        | {
            "platform": platform.platform(),
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "shortcuts": shortcuts,
            "git_commit": git_commit(),
        },
    }


def finish_record(record: dict[str, Any], result: Result, peak_mib: float) -> dict[str, Any]:
    """Returns a record with what its run found."""
    predictions = (result.p_spam > 0.5).long()
    return record | {
        "status": FINISHED,
        "date": now(),
        "losses": [list(line) for line in result.history.losses],
        "accuracies": [list(line) for line in result.history.accuracies],
        "correct": {name: list(counts) for name, counts in result.correct.items()},
        "test": {
            "labels": result.labels.tolist(),
            "predictions": predictions.tolist(),
            "p_spam": [round(p, 6) for p in result.p_spam.tolist()],
            "in_training": result.in_training,
        },
        "seconds": {name: round(s, 3) for name, s in result.seconds.items()},
        "peak_memory_mib": None if math.isnan(peak_mib) else round(peak_mib, 1),
        "trainable_parameters": result.parameters[0],
        "parameters": result.parameters[1],
        "environment": record["environment"] | {"kernels": result.kernels},
    }


def now() -> str:
    """Returns the date and time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
