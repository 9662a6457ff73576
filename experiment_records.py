"""What is known of a run: the published rows, and the records of runs made here.

    write_record(Path("results"), record)
    records, problems = read_records(Path("results"))

`additional_experiments.py` writes a record for each run, `compare_experiments.py` reads them. A
record is one JSON file, written whole or not at all; `docs/record.md` describes its fields.

Source of the published figures: the table of the additional experiments to Raschka 2024, "Build a
Large Language Model (From Scratch)", chapter 6, measured on an A100.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from gpt_download import sha256_of, write_whole

# --------------------------------------------------------------------------- the published table


class Row(NamedTuple):
    """One published run: its flags, and what an A100 gave for them."""

    flags: str
    train_accuracy: float  # percent, as the two below
    validation_accuracy: float
    test_accuracy: float
    train_minutes: float


XL = '--model_size "gpt2-xl (1558M)"'
ROWS = {
    1: Row("", 96.63, 99.33, 95.00, 0.28),
    2: Row("--trainable_token_pos first", 78.46, 80.54, 75.00, 0.28),
    3: Row("--trainable_layers last_layer", 78.65, 79.87, 72.00, 0.25),
    4: Row("--trainable_layers last_two_blocks", 98.85, 98.66, 98.33, 0.33),
    5: Row("--trainable_layers all", 99.62, 96.64, 96.67, 0.69),
    6: Row('--model_size "gpt2-medium (355M)"', 87.50, 91.28, 84.67, 0.75),
    7: Row('--model_size "gpt2-large (774M)"', 99.52, 98.66, 96.67, 1.50),
    8: Row(XL, 99.81, 99.81, 98.33, 2.83),  # no count of 149 messages gives 99.81 %
    9: Row(f"{XL} --trainable_layers all", 100.00, 98.66, 98.67, 8.12),
    10: Row("--weights random --trainable_layers all", 100.00, 96.64, 93.67, 0.69),
    11: Row("--trainable_layers lora --lora_rank 16 --lora_alpha 16", 100.00, 97.32, 96.67, 0.75),
    12: Row(
        f"--trainable_layers lora --lora_rank 16 --lora_alpha 8 {XL}", 100.00, 98.66, 98.33, 5.79
    ),
    13: Row('--context_length "model_context_length"', 83.08, 87.92, 78.33, 2.46),
    14: Row("--no_padding --batch_size 1", 100.00, 98.66, 98.00, 1.75),
    15: Row("--no_padding --batch_size 1 --accumulation_steps 8", 99.33, 98.66, 98.33, 1.70),
    16: Row('--trainable_token_pos "flexible"', 99.42, 98.66, 98.33, 0.30),
    17: Row("--disable_causal_mask", 99.23, 98.66, 95.33, 0.29),
    18: Row("--ignore_index 50256", 96.63, 99.33, 95.00, 0.28),
    19: Row("--average_embeddings", 97.79, 99.33, 96.33, 0.32),
}
SIZES = {"train": 1040, "validation": 149, "test": 300}  # messages, with batches of 8


def published_count(percent: float, total: int) -> int | None:
    """Returns the count of `total` that a published percentage stands for, None if none does."""
    count = round(percent / 100 * total)
    return count if round(100 * count / total, 2) == percent else None


# --------------------------------------------------------------------------------------- records

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


# ---------------------------------------------------------------------------- where it comes from


def source_digest() -> str:
    """Returns a digest of the source files beside this one, so that edited code runs anew."""
    modules = (
        "additional_experiments", "baselines", "command_line", "experiment_flags",
        "experiment_records", "gpt_checkpoint", "gpt_classifier", "gpt_download",
        "previous_chapters", "shortcuts", "spam_data", "training",
    )  # fmt: skip
    folder = Path(__file__).parent
    return " ".join(sha256_of(folder / f"{module}.py") for module in modules)


def git_commit() -> str | None:
    """Returns the commit of the repository around the source files, `-dirty` if edited, or None."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()
