"""Records of runs: one JSON file for each, written whole or not at all.

Every field is checked when it is read, and nothing that takes a `Run` checks it again. What follows
from the probabilities must agree with them, and the test part with its checksum.
`docs/reference.md` describes the fields.
"""

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

from experiments.config.rows import ROWS, name_of_row
from experiments.config.settings import GROUPS, Settings, flags_of
from experiments.system.files import write_whole
from experiments.system.terminal import printable

VERSION = 2
FINISHED, FAILED = "finished", "failed"
OPTIONAL = ("split", "label", "best", "test_sha256")  # fields that the first records lack
TEST = ("labels", "predictions", "probabilities", "in_training")  # one entry per test example
SLACK = 1e-4  # rounding error of the sum of an example's probabilities
ROUNDING = 1e-6  # of a recorded probability, and of metrics
_FLAGS = {f.name: f for group in (*GROUPS.values(), Settings) for f in flags_of(group)}
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
    test_sha256: str | None = None  # of `test`
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
    if "test" in record:
        record = record | {"test_sha256": checksum_of(record["test"])}
    run_of(record)
    path = record_path(folder, record)
    write_whole(path, (json.dumps(record, allow_nan=False) + "\n").encode())
    return path


def rename_design(path: Path, label: str) -> None:
    """Give the design of a recorded run another name; its result stays as it is."""
    record = json.loads(path.read_bytes())
    if record.get("label") != label:
        write_record(path.parent, record | {"label": label})


def checksum_of(test: dict[str, Any]) -> str:
    """Return the SHA-256 of the test part of a record."""
    return hashlib.sha256(json.dumps(test, sort_keys=True).encode()).hexdigest()


def run_of(record: Any) -> Run:
    """Return the run of a record; raise ValueError if it is invalid."""
    _check_fields(record)
    if record["status"] == FINISHED:
        _check_test(record["test"], len(record["classes"]))
        _check_training(record)
        _check_results(record)
    return Run(**{f.name: record[f.name] for f in fields(Run) if f.name in record})


def read_run(path: Path) -> Run:
    """Return the run of a file; raise ValueError if that is not a record."""
    try:
        return run_of(_printable(json.loads(path.read_bytes())))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested too deeply
        raise ValueError(f"{path} is not a record: {error}") from error


def _printable(value: Any) -> Any:
    """Return a value of a record with printable texts; those of a comparison are in it."""
    if isinstance(value, dict):
        return {printable(k): v if k == "test" else _printable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [*map(_printable, value)]
    return printable(value) if isinstance(value, str) else value


def read_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Return the runs of a folder by their file names, and what is wrong with other files."""
    runs, problems = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            runs.append(read_run(path))
        except (ValueError, OSError) as error:
            problems.append(str(error))
    return runs, problems


def read_finished(path: Path) -> Run | None:
    """Return the finished run of a file, or None if it has none."""
    with suppress(ValueError):
        if path.is_file() and (run := read_run(path)).status == FINISHED:
            return run
    return None


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
    classes = record["classes"]
    _require(_is_list(classes, _is_text) and len(classes) > 1, "no classes")
    _require(len(set(classes)) == len(classes), "two classes have the same name")
    _require(_is_count(record["seed"]), "invalid seed")
    try:
        datetime.fromisoformat(record["date"])
    except ValueError as error:
        raise ValueError(f"date is {record['date']!r}") from error
    for key, value in record["settings"].items():
        _require(_is_setting(key, value), f"setting {key} is {value!r}")
    for key in ("device", "device_type"):
        _require(_is_text(record["environment"].get(key)), f"the environment lacks the {key}")
    _require(split is None or _is_split(split), "invalid split")


def _is_split(split: dict[str, Any]) -> bool:
    custom, sizes = split.get("custom", {}), split.get("sizes", {})
    if not (isinstance(custom, dict) and isinstance(sizes, dict)):
        return False
    texts = (split.get("of"), *(split.get(name, "") for name in ("test", "name")))
    plain = (custom.get("train_size"), custom.get("balance"))
    is_valid = all(map(_is_text, (*texts, custom.get("data", "")))) and all(map(_is_plain, plain))
    is_valid &= all(map(_is_count, (split.get("seed"), *sizes.values())))
    return is_valid and _is_list(split.get("flags", []), _is_text)  # flags: of the first records


def _check_test(test: dict[str, Any], num_classes: int) -> None:
    is_valid = set(test) - {"same_text"} == set(TEST)
    _require(is_valid, f"test has {', '.join(test)}, expected {', '.join(TEST)}")
    total = len(test["labels"]) if isinstance(test["labels"], list) else 0
    _require(total > 0, "no test examples")
    highest = {"labels": num_classes - 1, "predictions": num_classes - 1, "same_text": total - 1}
    for name, values in test.items():
        is_valid = isinstance(values, list) and len(values) == total
        if is_valid and name == "probabilities":
            is_valid = _are_probabilities(values, num_classes)
        elif is_valid:  # types first, so that they can be compared
            is_valid = set(map(type, values)) == {int if name in highest else bool}
            is_valid = is_valid and 0 <= min(values) <= max(values) <= highest.get(name, 1)
        _require(is_valid, f"invalid {name} of test examples")
    for k, p in zip(test["predictions"], test["probabilities"], strict=True):
        _require(p[k] >= max(p) - ROUNDING, "predictions contradict the probabilities")


def _are_probabilities(rows: list[Any], num_classes: int) -> bool:
    """Return whether each row is a distribution; a sum is not within limits if NaN is in it."""
    if not all(isinstance(row, list) and len(row) == num_classes for row in rows):
        return False
    values = [*chain.from_iterable(rows)]
    is_valid = set(map(type, values)) <= {int, float} and 0 <= min(values) <= max(values) <= 1
    return is_valid and all(abs(sum(row) - 1) <= SLACK for row in rows)


def _check_training(record: dict[str, Any]) -> None:
    seconds, peak = record["seconds"], record["peak_memory_mib"]
    _require("train" in seconds and all(map(_is_number, seconds.values())), "invalid seconds")
    _require(peak is None or _is_number(peak), "invalid peak_memory_mib")
    for name in ("trainable_parameters", "parameters"):
        _require(_is_number(record[name]), f"invalid {name}")
    best = record.get("best")
    _require(best is None or _is_list(best, _is_number, 2), f"invalid best: {best}")
    for name, most in (("losses", LARGEST), ("accuracies", 1)):
        for row in record[name]:
            is_valid = _is_list(row, _is_number, 3) and max(row[1:]) <= most
            _require(is_valid, f"invalid {name}: {row}")
    for name in ("train", "validation", "test"):
        counts = record["correct"].get(name)
        is_valid = _is_list(counts, _is_count, 2) and counts[0] <= counts[1] > 0
        _require(is_valid, f"invalid counts of correct {name} examples")
    is_valid = not record["losses"] or _is_number(record["settings"].get("batch_size"), low=1)
    _require(is_valid, "settings lack the batch_size")


def _check_results(record: dict[str, Any]) -> None:
    """Compare what was computed from the test part with what follows from it."""
    test, known = record["test"], record.get("test_sha256")
    _require(known in (None, checksum_of(test)), "the test part was changed: wrong test_sha256")
    labels, predictions = test["labels"], test["predictions"]
    count, total = sum(map(int.__eq__, labels, predictions)), len(labels)
    expected = f"{record['correct']['test']} correct test examples, expected {[count, total]}"
    _require(record["correct"]["test"] == [count, total], expected)
    metrics = record.get("metrics") or {}  # the first records have none
    _require(isinstance(metrics, dict), "metrics is not an object")
    for name, (low, high) in _limits_of_metrics(test, count / total).items():
        value = metrics.get(name, low)
        is_valid = _is_number(value, high + ROUNDING, low - ROUNDING)
        _require(is_valid, f"{name} {value}, expected {low:.6g} from the probabilities")
    pairs, classes = Counter(zip(labels, predictions, strict=True)), range(len(record["classes"]))
    confusion = [[pairs[label, k] for k in classes] for label in classes]
    is_valid = metrics.get("confusion", confusion) == confusion
    _require(is_valid, "the confusion matrix is that of other results")


def _limits_of_metrics(test: dict[str, Any], accuracy: float) -> dict[str, tuple[float, float]]:
    """Return the limits of metrics whose probabilities were rounded after they were computed."""
    smallest, total = sys.float_info.epsilon, len(test["labels"])
    of_label = [p[k] for p, k in zip(test["probabilities"], test["labels"], strict=True)]
    least, most = (
        -sum(math.log(max(p + error, smallest)) for p in of_label) / total
        for error in (ROUNDING, -ROUNDING)
    )
    squares = (sum(q * q for q in p) for p in test["probabilities"])
    brier = sum(s - 2 * p + 1 for s, p in zip(squares, of_label, strict=True)) / (2 * total)
    return {
        "accuracy": (accuracy, accuracy),
        "log_loss": (least, most),
        "brier_score": (brier - SLACK, brier + SLACK),
    }


def _is_setting(name: str, value: Any) -> bool:
    """Return whether a flag can have this value; any single value if no flag has the name."""
    if name not in _FLAGS:
        return not isinstance(value, list | dict)
    default, choices = _FLAGS[name].default, _FLAGS[name].metadata["options"].get("choices")
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        return _is_number(value, sys.float_info.max, -sys.float_info.max)
    if value is None:
        return default is None
    return (_is_text(value) or _is_number(value)) and (choices is None or value in choices)


def _require(is_valid: bool, problem: str) -> None:
    if not is_valid:
        raise ValueError(problem)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_number(value: Any, high: float = LARGEST, low: float = 0, kind: Any = int | float) -> bool:
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return is_number and low <= value <= high  # NaN is not


_is_count = partial(_is_number, kind=int)


def _is_list(values: Any, is_valid: Callable[[Any], bool], size: int | None = None) -> bool:
    return isinstance(values, list) and size in (None, len(values)) and all(map(is_valid, values))
