"""The texts of test messages, where they are at hand; no record holds one.

The user's own are read again from the file that a record names, and are shown if its splits are
still those of the record. The published ones are those of the CSV that `additional_experiments.py`
has written.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.comparison.groups import Record
from experiments.config.flags import own_of_flags
from experiments.data.custom import load_own
from experiments.data.sms_spam import read_messages

Texts = dict[str, list[str]]  # of the test messages in their order, by the digest of the data


def find_texts(records: Sequence[Record], test_csv: Path) -> Texts:
    """Returns the texts of records' test messages, as far as they are at hand.

    Says on stderr which of the user's own are no longer there.

    Args:
        records: of one data set or several.
        test_csv: a file with `Label` and `Text`, which holds for records with its very labels.

    Raises:
        ValueError: when the CSV is there, and is none of messages.
    """
    in_csv = read_messages(test_csv) if test_csv.is_file() else None
    found: Texts = {}
    for record in {record["data"]: record for record in records}.values():
        if in_csv is not None and in_csv["Label"].tolist() == record["test"]["labels"]:
            found[record["data"]] = in_csv["Text"].tolist()
        elif flags := (record.get("split") or {}).get("flags"):
            try:
                found[record["data"]] = read_again(flags, record["data"])
            except (OSError, ValueError) as error:
                print(f"Their texts are not shown: {error}", file=sys.stderr)
    return found


def read_again(flags: Sequence[str], digest: str) -> list[str]:
    """Returns the texts of the test messages that a command line made.

    Args:
        flags: of the command line, those that name and split the messages.
        digest: of the splits.

    Raises:
        OSError: when a file cannot be read.
        ValueError: when it cannot be read again, or holds other messages now.
    """
    own = own_of_flags(flags)
    if str(own.data) == "-":
        raise ValueError("the messages came from standard input, which cannot be read again")
    corpus = load_own(own)
    if corpus.digest != digest:
        raise ValueError(f"{own.data} holds other messages than when it was trained on")
    return corpus.splits["test"]["Text"].tolist()
