"""Records of runs: one JSON file for each, written whole or not at all.

    write_record(Path("results"), record)
    records, problems = read_records(Path("results"))

`additional_experiments.py` writes a record for each run, `compare_experiments.py` reads them;
`docs/record.md` describes the fields.
"""

import json
from pathlib import Path
from typing import Any

from experiments.files import write_whole
from experiments.rows import ROWS

VERSION = 1
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
RESULTS = {
    "losses": list,  # [batch, train, validation]
    "accuracies": list,  # [epoch, train, validation], over a few batches
    "correct": dict,  # split: [right, of]
    "test": dict,  # labels, predictions, p_spam, in_training: one entry a message
    "seconds": dict,
    "peak_memory_mib": (int, float, type(None)),
    "trainable_parameters": int,
    "parameters": int,
}


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
    """Returns a record.

    Raises:
        ValueError: when the file is none, or of another version.
        OSError: when it cannot be read.
    """
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested without end
        raise ValueError(f"{path} is no record: {error}") from error
    if problem := find_problem(record):
        raise ValueError(f"{path} is no record: {problem}")
    return record


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


def find_problem(record: Any) -> str | None:
    """Returns what keeps something from being a record, or None."""
    if not isinstance(record, dict):
        return f"{type(record).__name__} in place of an object"
    if record.get("version") != VERSION:
        return f"version {record.get('version')}, expected {VERSION}"
    expected = FIELDS | (RESULTS if record.get("status") == FINISHED else {})
    for name, kind in expected.items():
        if name not in record:
            return f"{name} is missing"
        if not isinstance(record[name], kind):
            return f"{name} is {type(record[name]).__name__}"
    if record["row"] is not None and record["row"] not in ROWS:
        return f"row {record['row']} is none of the table"
    return find_wrong_result(record) if record["status"] == FINISHED else None


def find_wrong_result(record: dict[str, Any]) -> str | None:
    """Returns what is wrong with the results of a finished record, or None."""
    if "train" not in record["seconds"] or "device" not in record["environment"]:
        return "seconds lack train, or the environment lacks the device"
    if not all(isinstance(values, list) for values in record["test"].values()):
        return "test has something else than lists"
    if set(record["test"]) != {"labels", "predictions", "p_spam", "in_training"}:
        return f"test has {', '.join(record['test'])}"
    if len({len(values) for values in record["test"].values()}) != 1:
        return "test has lists of different lengths"
    return None
