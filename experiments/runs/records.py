"""Records of runs: one JSON file for each, written whole or not at all.

Every field is checked when it is read, and nothing that takes a `Run` checks it again.
`docs/reference.md` describes the fields.
"""

import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from experiments.config.rows import ROWS, name_of_row
from experiments.system.files import write_whole

VERSION = 2
FINISHED, FAILED = "finished", "failed"
OPTIONAL = ("split", "label", "best")  # fields that the first records lack
TEST = ("labels", "predictions", "probabilities", "in_training")  # one entry per test example
SLACK = 1e-4  # rounding error of probabilities
LARGEST = 1e30  # of losses and seconds


def _array(run: "Run", name: str) -> Any:
    import numpy as np

    return np.array(run.test[name])


def _metric(function: str, run: "Run") -> Any:
    from experiments.training import metrics

    return getattr(metrics, function)(run.probabilities, run.labels)


@dataclass(frozen=True)
class Run:
    """A record, read and checked once; its fields are those of the file."""

    version: int
    status: str
    digest: str  # SHA-256 of everything that the result depends on
    name: str  # "row 16", "baseline majority", or "run"
    row: int | None
    stands_in: bool  # whether the model is a substitute for the row's published one
    model: str
    weights: str | None  # SHA-256 of the checkpoint, or "random"; None for baselines
    data: str  # SHA-256 of the splits
    classes: list  # names, in the order of their numbers
    precision: str
    prefix_reused: bool
    seed: int
    settings: dict
    environment: dict
    date: str
    split: dict | None = None  # of custom data
    label: str | None = None  # name that a user gave the design
    best: list | None = None  # [epoch, loss]
    losses: list = field(default_factory=list)  # [batch, train, validation]
    accuracies: list = field(default_factory=list)  # [epoch, train, validation]
    correct: dict = field(default_factory=dict)  # split: [correct, total]
    test: dict = field(default_factory=dict)  # lists of `TEST`
    seconds: dict = field(default_factory=dict)
    peak_memory_mib: int | float | None = None
    trainable_parameters: int = 0
    parameters: int = 0

    # Arrays of the N test examples and K classes.
    labels = cached_property(lambda run: _array(run, "labels"))  # (N,)
    predictions = cached_property(lambda run: _array(run, "predictions"))  # (N,)
    is_correct = cached_property(lambda run: run.labels == run.predictions)  # (N,)
    in_training = cached_property(lambda run: _array(run, "in_training"))  # (N,) its text is
    probabilities = cached_property(lambda run: _array(run, "probabilities"))  # (N, K)
    log_losses = cached_property(lambda run: _metric("log_losses", run))  # (N,)
    brier_scores = cached_property(lambda run: _metric("brier_scores", run))  # (N,)
    metrics = cached_property(lambda run: _metric("measure", run))
    is_baseline = property(lambda run: run.weights is None)
    # With what the cached activations cost, whichever run computed them.
    train_seconds = property(lambda run: run.seconds.get("prefix", 0) + run.seconds["train"])


def record_path(folder: Path, record: dict[str, Any]) -> Path:
    """Return the path of a record: by its name, its seed, and all that it depends on."""
    name = f"{record['name']} seed {record['seed']} {record['digest'][:12]}.json"
    return folder / name.replace(" ", "_")


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Write a record whole and return its path; raise ValueError if it is invalid."""
    run_of(record)
    path = record_path(folder, record)
    write_whole(path, (json.dumps(record, allow_nan=False) + "\n").encode())
    return path


def run_of(record: Any) -> Run:
    """Return the run of a record; raise ValueError if it is invalid."""
    _check_fields(record)
    if record["status"] == FINISHED:
        _check_test(record["test"], len(record["classes"]))
        _check_training(record)
    return Run(**{f.name: record[f.name] for f in fields(Run) if f.name in record})


def read_run(path: Path) -> Run:
    """Return the run of a file; raise ValueError if that is not a record."""
    try:
        return run_of(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested too deeply
        raise ValueError(f"{path} is not a record: {error}") from error


def read_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Return the runs of a folder by their file names, and what is wrong with other files."""
    runs, problems = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            runs.append(read_run(path))
        except (ValueError, OSError) as error:
            problems.append(str(error))
    return runs, problems


def is_finished(path: Path) -> bool:
    """Return whether there is a record of a finished run."""
    try:
        return path.is_file() and read_run(path).status == FINISHED
    except ValueError:
        return False


def _check_fields(record: Any) -> None:
    _require(isinstance(record, dict), f"{type(record).__name__} instead of an object")
    version, status = record.get("version"), record.get("status")
    _require(version == VERSION, f"version {version}, expected {VERSION}")
    for f in fields(Run):
        has_default = f.default is not MISSING or f.default_factory is not MISSING
        if f.name in record:
            value = record[f.name]
            is_valid = isinstance(value, f.type) and (f.type is bool or not isinstance(value, bool))
            _require(is_valid, f"{f.name} is {type(value).__name__}")
        elif f.name not in OPTIONAL and (status == FINISHED or not has_default):
            raise ValueError(f"{f.name} is missing")
    _require(status in (FINISHED, FAILED), f"status is {status!r}")
    row, name, split = record["row"], record["name"], record.get("split")
    _require(row is None or row in ROWS, f"row {row} is not in the table")
    is_baseline = row is None and name.startswith("baseline ")
    _require(is_baseline or name == name_of_row(row), f"row {row} has the name {name!r}")
    _require(row is None or record["weights"] is not None, "weights is NoneType")
    _require(_is_list(record["classes"], _is_text) and len(record["classes"]) > 1, "no classes")
    for key in ("device", "device_type"):
        _require(_is_text(record["environment"].get(key)), f"the environment lacks the {key}")
    if split is not None:
        is_valid = _is_text(split.get("of")) and _is_number(split.get("seed"), kind=int)
        is_valid &= isinstance(split.get("custom", {}), dict)
        _require(is_valid and _is_list(split.get("flags", []), _is_text), "invalid split")


def _check_test(test: dict[str, Any], num_classes: int) -> None:
    is_valid = set(test) - {"same_text"} == set(TEST)
    _require(is_valid, f"test has {', '.join(test)}, expected {', '.join(TEST)}")
    total = len(test["labels"]) if isinstance(test["labels"], list) else 0
    is_class = partial(_is_number, high=num_classes - 1, kind=int)

    def are_probabilities(p: Any) -> bool:
        return _is_list(p, lambda v: _is_number(v, 1), num_classes) and abs(sum(p) - 1) <= SLACK

    checks = {
        "labels": is_class,
        "predictions": is_class,
        "probabilities": are_probabilities,
        "in_training": lambda value: isinstance(value, bool),
        "same_text": partial(_is_number, high=total - 1, kind=int),
    }
    _require(total > 0, "no test examples")
    for name, values in test.items():
        _require(_is_list(values, checks[name], total), f"invalid {name} of test examples")
    for k, p in zip(test["predictions"], test["probabilities"], strict=True):
        _require(p[k] >= max(p) - SLACK, "predictions contradict the probabilities")


def _check_training(record: dict[str, Any]) -> None:
    seconds, peak = record["seconds"], record["peak_memory_mib"]
    _require("train" in seconds and all(map(_is_number, seconds.values())), "invalid seconds")
    _require(peak is None or _is_number(peak), "invalid peak_memory_mib")
    for name, most in (("losses", LARGEST), ("accuracies", 1)):
        for row in record[name]:
            is_valid = _is_list(row, _is_number, 3) and max(row[1:]) <= most
            _require(is_valid, f"invalid {name}: {row}")
    for name in ("train", "validation", "test"):
        counts = record["correct"].get(name)
        is_valid = _is_list(counts, _is_number, 2) and counts[0] <= counts[1] > 0
        _require(is_valid, f"invalid counts of correct {name} examples")
    is_valid = not record["losses"] or _is_number(record["settings"].get("batch_size"), low=1)
    _require(is_valid, "settings lack the batch_size")


def _require(is_valid: bool, problem: str) -> None:
    if not is_valid:
        raise ValueError(problem)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any, high: float = LARGEST, low: float = 0, kind: Any = int | float) -> bool:
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return is_number and low <= value <= high  # NaN is not


def _is_list(values: Any, is_valid: Callable[[Any], bool], size: int | None = None) -> bool:
    return isinstance(values, list) and size in (None, len(values)) and all(map(is_valid, values))
