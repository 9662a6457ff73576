"""Records of runs: one JSON file for each, written whole or not at all.

    write_record(Path("results"), record)
    records, problems = read_records(Path("results"))

`additional_experiments.py` writes a record for each run, `compare_experiments.py` reads them;
`docs/record.md` describes the fields. Records of version 1 are read as if they were of version 2.
"""

import json
from pathlib import Path
from typing import Any

from experiments.config.published import CHECKPOINT_SHA256, DATA_SHA256, SPAM_CLASSES
from experiments.config.rows import ROWS
from experiments.system.files import write_whole

VERSION = 2
ROUNDED = 5e-7  # the least that version 1, which has six digits, can tell from 0
FINISHED, FAILED = "finished", "failed"
FIELDS = {  # of every record; a finished one has those of RESULTS too
    "version": int,
    "status": str,
    "digest": str,
    "name": str,  # "row 16", "baseline majority", or "run"
    "row": (int, type(None)),
    "stands_in": bool,
    "model": str,
    "seed": int,
    "settings": dict,
    "environment": dict,
    "date": str,
}
SINCE_2 = {  # fields that version 1 lacks
    "weights": (str, type(None)),  # SHA-256 of the checkpoint, or "random"; none of baselines
    "data": str,  # SHA-256 of the splits
    "classes": list,  # their names, in the order of their numbers
    "precision": str,
    "prefix_reused": bool,
}
RESULTS = {
    "losses": list,  # [batch, train, validation]
    "accuracies": list,  # [epoch, train, validation], over a few batches
    "correct": dict,  # split: [right, of]
    "test": dict,  # labels, predictions, probabilities, in_training: one entry a message
    "seconds": dict,
    "peak_memory_mib": (int, float, type(None)),
    "trainable_parameters": int,
    "parameters": int,
}
OPTIONAL = {  # lacked by the first of version 2
    "best": (list, type(None)),  # [epoch, loss]
    "split": (dict, type(None)),  # of one's own messages: of what it is, its seed, flags
}
TEST = {  # of each test message
    "labels": int,
    "predictions": int,
    "probabilities": list,  # of each class; version 1 has p_spam, that of spam alone
    "in_training": bool,
}
OPTIONAL_TEST = {"same_text": int}  # the place of the first message with the very text
TEST_1 = {name: TEST[name] for name in TEST if name != "probabilities"} | {"p_spam": (int, float)}


def record_path(folder: Path, record: dict[str, Any]) -> Path:
    """Returns where a record belongs: by its name, seed, and all that it depends on."""
    name = record["name"].replace(" ", "_")
    return folder / f"{name}_seed_{record['seed']}_{record['digest'][:12]}.json"


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Writes a record whole or not at all, and returns its path.

    Raises:
        ValueError: when a field is missing or of another type.
        OSError: when it cannot be written.
    """
    if problem := find_problem(record):
        raise ValueError(f"not a record: {problem}")
    path = record_path(folder, record)
    write_whole(path, (json.dumps(record, allow_nan=False) + "\n").encode())
    return path


def read_record(path: Path) -> dict[str, Any]:
    """Returns a record, as the newest version has it.

    Raises:
        ValueError: when the file is none, or of an unknown version.
        OSError: when it cannot be read.
    """
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested without end
        raise ValueError(f"{path} is no record: {error}") from error
    if problem := find_problem(record, readable=(1, VERSION)):
        raise ValueError(f"{path} is no record: {problem}")
    return record if record["version"] == VERSION else upgrade(record)


def upgrade(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record of version 1 with the fields of version 2, as far as it tells them.

    A checkpoint is known by its name only. Whether the prefix was reused is not known: None.
    """
    model, environment = record["model"], record["environment"]
    size, _, origin = model.rpartition(", ")
    weights: str | None = model
    if record["name"].startswith("baseline "):
        weights = None
    elif model.startswith("checkpoint "):
        weights = model
    elif origin == "random weights":
        weights = "random"
    elif origin == "pretrained weights":
        weights = CHECKPOINT_SHA256.get(size.partition("(")[2].rstrip(")"), model)
    device_type = environment["device"].partition(", ")[0]
    if weights is None:  # whatever the machine has, a baseline is computed there
        device_type = "cpu"
    elif device_type not in ("cpu", "mps"):  # the name of a card
        device_type = "cuda"
    test = dict(record.get("test", {}))
    if "p_spam" in test:
        p_spam = [min(max(p, ROUNDED), 1 - ROUNDED) for p in test.pop("p_spam")]
        test["probabilities"] = [[1 - p, p] for p in p_spam]
    return record | {
        "version": VERSION,
        "test": test,
        "weights": weights,
        "data": DATA_SHA256,
        "classes": list(SPAM_CLASSES),
        "precision": record["settings"].get("precision", "float32"),
        "prefix_reused": None,
        "environment": environment | {"device_type": device_type},
    }


def read_records(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the records of a folder by their file names, and what is wrong with the others."""
    records, problems = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(read_record(path))
        except (ValueError, OSError) as error:
            problems.append(str(error))
    return records, problems


def is_finished(path: Path) -> bool:
    """Says whether there is a record of a run that came to its end."""
    try:
        return path.is_file() and read_record(path)["status"] == FINISHED
    except ValueError:
        return False


def find_problem(record: Any, readable: tuple[int, ...] = (VERSION,)) -> str | None:
    """Returns what keeps something from being a record of these versions, or None."""
    if not isinstance(record, dict):
        return f"{type(record).__name__} in place of an object"
    if (version := record.get("version")) not in readable:
        return f"version {version}, expected {' or '.join(map(str, readable))}"
    expected = FIELDS | (SINCE_2 if version > 1 else {})
    expected |= RESULTS if record.get("status") == FINISHED else {}
    expected |= {name: kind for name, kind in OPTIONAL.items() if name in record}
    for name, kind in expected.items():
        if name not in record:
            return f"{name} is missing"
        if not isinstance(record[name], kind):
            return f"{name} is {type(record[name]).__name__}"
    if record["row"] is not None and record["row"] not in ROWS:
        return f"row {record['row']} is none of the table"
    for name in ["device"] if version == 1 else ["device", "device_type"]:
        if not isinstance(record["environment"].get(name), str):
            return f"the environment lacks the {name}"
    return find_wrong_result(record) if record["status"] == FINISHED else None


def find_wrong_result(record: dict[str, Any]) -> str | None:
    """Returns what is wrong with the results of a finished record, or None."""
    test, seconds = record["test"], record["seconds"]
    if not all(isinstance(seconds.get(name, 0), int | float) for name in ("prefix", "train")):
        return "seconds hold something else than numbers"
    if "train" not in seconds:
        return "seconds lack train"
    expected = TEST if record["version"] > 1 else TEST_1
    expected = expected | {name: kind for name, kind in OPTIONAL_TEST.items() if name in test}
    if set(test) != set(expected):
        return f"test has {', '.join(test)}"
    for name, kind in expected.items():
        if not isinstance(test[name], list) or not all(isinstance(v, kind) for v in test[name]):
            return f"test has other {name} than expected"
    if len({len(values) for values in test.values()}) != 1:
        return "test has lists of different lengths"
    if not test["labels"]:
        return "test has no message"
    is_whole = record["version"] == 1 or all(are_probabilities(p) for p in test["probabilities"])
    return None if is_whole else "test has other probabilities than expected"


def are_probabilities(values: list[Any]) -> bool:
    """Says whether these are the probabilities of two classes or more."""
    return len(values) > 1 and all(isinstance(value, int | float) for value in values)
