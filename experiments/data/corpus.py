"""The examples of a run in three splits: published, generated, or the user's own.

corpus = load_corpus(settings.data, settings.custom)
corpus.splits["train"], corpus.class_names, corpus.notes
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from experiments.config.rows import DATA_SHA256, SPAM_CLASSES
from experiments.config.settings import CustomData, DataConfig
from experiments.data.custom import read_custom, split_custom
from experiments.data.demo import demo_splits
from experiments.data.sms_spam import prepare_splits, read_messages


class Corpus(NamedTuple):
    """The splits of a data set, and what is known about it."""

    splits: Mapping[str, pd.DataFrame]  # train, validation and test: Label (class number), Text
    class_names: tuple[str, ...]  # in the order of their numbers
    digest: str  # SHA-256 of the splits and class names
    notes: Sequence[str] = ()  # what a user should know before training
    whole: str = ""  # SHA-256 of custom data and how they are split, without the seed
    text_columns: tuple[str, ...] = ()  # of custom data, joined to the texts

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def load_corpus(data: DataConfig, custom: CustomData) -> Corpus:
    """Return the examples of a run; download the published ones if needed.

    OSError or ValueError: a file cannot be read, has changed, or its examples cannot be used.
    """
    if custom.data:
        tables, found, text_columns = read_custom(custom)
        try:
            splits, class_names, notes = split_custom(tables, custom)
        except ValueError as error:
            for line in found:  # what was read may explain it
                error.add_note(f"Data: {line}")
            raise
        how = [*map(str, custom.split), str(custom.balance), str(custom.train_size)]
        digest, whole = digest_of(splits, class_names), digest_of(tables, how)
        return Corpus(splits, class_names, digest, [*found, *notes], whole, text_columns)
    files = demo_splits() if data.demo else prepare_splits(data.data_dir)
    splits = {name: read_messages(file) for name, file in files.items()}
    digest = digest_of(splits, SPAM_CLASSES) if data.demo else DATA_SHA256
    return Corpus(splits, SPAM_CLASSES, digest)


def digest_of(splits: Mapping[str, pd.DataFrame], class_names: Sequence[str]) -> str:
    """Return the SHA-256 of splits and class names, which identifies a data set in records."""
    columns = {name: split.to_dict("list") for name, split in splits.items()}
    return hashlib.sha256(json.dumps([list(class_names), columns]).encode()).hexdigest()


def same_texts(texts: Iterable[str]) -> list[int]:
    """Return for each text the index of the first text that is equal to it."""
    first: dict[str, int] = {}
    return [first.setdefault(text, i) for i, text in enumerate(texts)]
