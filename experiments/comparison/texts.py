"""Texts of test examples, where they are available; records do not contain them.

Custom data are read again, and shown if their split is still that of the record. The published ones
are in the CSV file that `additional_experiments.py` writes.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.config.parsing import read_custom_values
from experiments.config.rows import DATA_SHA256
from experiments.config.settings import DataConfig
from experiments.data.corpus import load_corpus
from experiments.data.sms_spam import read_messages
from experiments.runs.records import Run
from experiments.system.terminal import printable

Texts = dict[str, list[str]]  # of the test examples in their order, by the digest of the data


def find_texts(runs: Iterable[Run], test_csv: Path, *, custom: bool = True) -> Texts:
    """Return the available test texts of runs; print on stderr which custom data are not.

    `test_csv` is used for runs with the same labels. Raises ValueError if it exists, but lacks the
    columns `Label` and `Text`. Without `custom`, only the published texts are found.
    """
    in_csv = read_messages(test_csv) if test_csv.is_file() else None
    found: Texts = {}
    for run in {run.data: run for run in runs if custom or run.data == DATA_SHA256}.values():
        if in_csv is not None and in_csv["Label"].tolist() == run.test["labels"]:
            found[run.data] = in_csv["Text"].tolist()
        elif "custom" in (run.split or {}):
            try:
                found[run.data] = _read_again(run.split, run.data)
            except (OSError, ValueError, TypeError) as error:  # TypeError: not values of flags
                print(printable(f"Texts are not available: {error}"), file=sys.stderr)
    return found


def _read_again(split: dict[str, Any], digest: str) -> list[str]:
    custom = read_custom_values(split["custom"])
    if custom.data in (None, Path("-")):
        raise ValueError("the examples came from standard input, which cannot be read again")
    corpus = load_corpus(DataConfig(), custom)
    if corpus.digest != digest:
        raise ValueError(f"{custom.data} contains other examples than at the time of training")
    return corpus.splits["test"]["Text"].tolist()
