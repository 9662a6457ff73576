"""Messages in three splits, with what their labels mean."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd


class Corpus(NamedTuple):
    """The splits of a data set, and what is known of it."""

    splits: dict[str, pd.DataFrame]  # train, validation and test: Label (a class's number), Text
    class_names: tuple[str, ...]  # in the order of their numbers
    digest: str  # SHA-256 that tells these splits and classes from all others
    notes: Sequence[str] = ()  # what a user ought to know before training
    whole: str = ""  # SHA-256 of what was split and how, whatever the seed; of one's own messages


def same_texts(texts: Iterable[str]) -> list[int]:
    """Returns for each text the place of the first one that is the very same."""
    first: dict[str, int] = {}
    return [first.setdefault(text, i) for i, text in enumerate(texts)]


def digest_of(splits: Mapping[str, pd.DataFrame], class_names: Sequence[str]) -> str:
    """Returns the SHA-256 that tells splits and classes from all others."""
    columns = {name: split.to_dict("list") for name, split in splits.items()}
    return hashlib.sha256(json.dumps([list(class_names), columns]).encode()).hexdigest()
