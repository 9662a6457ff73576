"""The examples of a run in three splits: published, generated, or the user's own.

    corpus = load_corpus(settings.data, settings.custom)
    corpus.splits["train"], corpus.class_names, corpus.notes

Custom data that make training or testing impossible are a ValueError; what a user should know
before training is a note. Until they are split, examples are numbered as in their file: the index
of their table has the numbers, and is named "line" or "example".
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import pandas as pd

from experiments.config.rows import DATA_SHA256, SPAM_CLASSES
from experiments.config.settings import CustomData, DataConfig
from experiments.data.separated import list_some
from experiments.data.sms_spam import demo_splits, prepare_splits, read_messages
from experiments.data.splitting import balance_classes, group_by_text, split_by_text, subsample
from experiments.data.tables import Table, read_table

Tables = Mapping[str, pd.DataFrame]  # by the name of a split: Label and Text of its examples

_NAMES = {"train": "training data", "validation": "validation data", "test": "test data"}
_SPLITS = {  # cell of --split_column: split
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MISSING = {"nan", "none", "null", "na", "n/a", "<na>", "#n/a", "nat", "-", "?"}  # as labels
_FEW = 3  # training examples of a class, below which a note reports it
_SHOWN_LETTERS = 60  # in a note


class Corpus(NamedTuple):
    """The splits of a data set, and what is known about it."""

    splits: Tables  # train, validation and test, with labels that are numbers of classes
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
        tables, notes, text_columns = read_custom(custom)
        how = [*map(str, custom.split), str(custom.balance), str(custom.train_size)]
        whole = digest_of(tables, how)
        try:
            splits, class_names, more_notes = split_custom(tables, custom)
        except ValueError as error:
            for note in notes:  # what was read may explain it
                error.add_note(f"Data: {note}")
            raise
        digest = digest_of(splits, class_names)
        return Corpus(splits, class_names, digest, notes + more_notes, whole, text_columns)
    files = demo_splits() if data.demo else prepare_splits(data.data_dir)
    splits = {name: read_messages(file) for name, file in files.items()}
    digest = digest_of(splits, SPAM_CLASSES) if data.demo else DATA_SHA256
    return Corpus(splits, SPAM_CLASSES, digest)


def digest_of(splits: Tables, class_names: Sequence[str]) -> str:
    """Return the SHA-256 of splits and class names, which identifies a data set in records."""
    columns = {name: split.to_dict("list") for name, split in splits.items()}
    return hashlib.sha256(json.dumps([list(class_names), columns]).encode()).hexdigest()


def same_texts(texts: Iterable[str]) -> list[int]:
    """Return for each text the index of the first text that is equal to it."""
    first: dict[str, int] = {}
    return [first.setdefault(text, i) for i, text in enumerate(texts)]


# ------------------------------------------------------------------------- from files to examples


def read_custom(
    custom: CustomData,
) -> tuple[dict[str, pd.DataFrame], list[str], tuple[str, ...]]:
    """Return the examples of each split, what was found in each file, and the text columns.

    Labels and small classes that flags exclude are left out. Raises `read_table`'s errors.
    """
    tables, notes, text_columns = {}, [], ()
    paths = (custom.data, custom.validation_data, custom.test_data)
    for name, path in zip(_NAMES, paths, strict=True):
        if path:
            table, rows = read_table(str(path), custom)
            index = pd.Index(rows.numbers, name=table.unit)
            examples = pd.DataFrame({"Label": rows.labels, "Text": rows.texts}, index, dtype=str)
            others = dict(zip(table.others, rows.others, strict=True))
            notes += _describe(table, examples, others, custom)
            text_columns = text_columns or tuple(table.text_columns)
            has_splits = custom.split_column is not None
            tables |= _split_by_column(examples, others) if has_splits else {name: examples}
    labels = pd.concat(examples["Label"] for examples in tables.values())
    if unknown := [label for label in custom.drop_label if label not in labels.array]:
        raise ValueError(f"--drop_label {unknown[0]!r}: no example has that label")
    left_out = set(custom.drop_label)
    if custom.min_class_size > 1:
        sizes = group_by_text(tables["train"])["Label"].value_counts()
        left_out |= {name for name in set(labels) if sizes.get(name, 0) < custom.min_class_size}
    if left_out:
        counts = labels[labels.isin(left_out)].value_counts().sort_index()
        notes.append(f"{counts.sum():,} examples left out: {', '.join(_with_counts(counts))}")
        tables = {name: t[~t["Label"].isin(left_out)] for name, t in tables.items()}
        if tables["train"].empty:
            raise ValueError("no training examples are left: lower --min_class_size")
    return tables, notes, text_columns


def _split_by_column(
    examples: pd.DataFrame, others: Mapping[str, list[str]]
) -> dict[str, pd.DataFrame]:
    ((name, cells),) = others.items()
    splits = [_SPLITS.get(cell.strip().casefold()) for cell in cells]
    if None in splits:
        first = splits.index(None)
        raise ValueError(
            f"--split_column {name} has {cells[first]!r} in {examples.index.name} "
            f"{examples.index[first]}, expected train, validation or test"
        )
    if "train" not in splits:
        raise ValueError(f"--split_column {name} has no training examples")
    return {split: examples[[s == split for s in splits]] for split in _NAMES if split in splits}


def _describe(
    table: Table, examples: pd.DataFrame, others: Mapping[str, list[str]], custom: CustomData
) -> Iterator[str]:
    """Yield what was found in a file, and warnings with the flags that help."""
    source, labels = table.source, examples["Label"]
    unused = [repr(name) for name in table.names if name not in table.used]
    not_used = f", not used {list_some(unused)}" if unused else ""
    lines = f" in {source.line:,} lines" if table.unit == "line" else ""
    count = f"{len(labels):,} example{'s' * (len(labels) != 1)}"
    duplicates = int(examples["Text"].duplicated().sum())
    repeated = f", {duplicates:,} with the text of an earlier one" if duplicates else ""
    yield f"{source.name}: {source}; {count}{lines}{repeated}"
    yield f"{source.name}: {table.columns}{not_used}"
    yield from (f"{source.name}: {note}" for note in source.notes)
    words = labels.str.strip().str.casefold()
    missing = labels[words.isin(_MISSING) & ~labels.isin(custom.drop_label)]
    if len(missing):
        flag = f"--drop_label {' '.join(sorted(set(missing)))}"
        yield (
            "labels that look like missing values: "
            f"{list_some(_with_counts(missing.value_counts()))}; {_where(missing)}; {flag} leaves "
            "them out"
        )
    known = set(labels)
    lists = labels[labels.isin([label for label in known if _is_list(label, known)])]
    if len(lists):
        yield (
            f"labels that look like lists, of which each combination is a class: "
            f"{list_some(map(repr, dict.fromkeys(lists)))}; {_where(lists)}; write one label per "
            "example"
        )
    for name, cells in others.items():
        known = {cell.strip().casefold() for cell in cells}
        if custom.split_column is None and len(known) > 1 and known <= _SPLITS.keys():
            yield (
                f"the column {name!r} looks like a split ({', '.join(sorted(known))}): "
                f"--split_column {name} uses it"
            )


def _is_list(label: str, known: set[str]) -> bool:
    if re.fullmatch(r"\s*[\[{(].*[\])}]\s*", label):
        return True
    parts = [label.split(separator) for separator in "#|,;/+&" if separator in label]
    return any(sum(part.strip() in known for part in of) >= 2 for of in parts)


def _where(chosen: pd.Series | pd.DataFrame) -> str:
    return f"{chosen.index.name or 'example'} {list_some(f'{i:,}' for i in chosen.index)}"


def _with_counts(counts: pd.Series) -> list[str]:
    return [f"{name!r} ({count})" for name, count in counts.items()]


# ------------------------------------------------------------------------ from examples to splits


def split_custom(
    tables: Tables, custom: CustomData
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...], list[str]]:
    """Return the three splits with numbered labels, the names of the classes, and notes.

    Missing splits are made from the training data, balanced before and subsampled after that.
    """
    for name, examples in tables.items():
        missing = examples[examples["Label"].str.strip() == ""]
        if len(missing):
            raise ValueError(
                f"examples of the {_NAMES[name]} without a label: {len(missing):,} of "
                f"{len(examples):,} ({_where(missing)}): add the labels, or remove the examples"
            )
    notes, train = list(_notes_on_examples(tables)), tables["train"]
    if custom.balance:
        train = balance_classes(train, custom.split_seed)
        notes.append(f"balanced: {len(train):,} of {len(tables['train']):,} examples are used")
    splits = {**tables, "train": train}
    shares = {name: share for name, share in zip(_NAMES, custom.split, strict=True)
              if name == "train" or name not in tables}  # fmt: skip
    if len(shares) > 1:
        _check_enough(train, len(shares))
        splits |= split_by_text(train, shares, custom.split_seed)
    splits = {name: splits[name] for name in _NAMES}
    if (size := custom.train_size) is not None:
        notes.append(f"trained on {size:,} of {len(splits['train']):,} examples")
        splits["train"] = subsample(splits["train"], size, custom.split_seed)
    class_names = _sort_names(splits["train"]["Label"])
    _check_known(splits, class_names)
    notes += _notes_on_splits(splits, class_names)
    numbers = {name: number for number, name in enumerate(class_names)}
    for name, split in splits.items():
        labels = split["Label"].map(numbers).astype(int)
        splits[name] = split.assign(Label=labels).reset_index(drop=True)
    return splits, class_names, notes


def _sort_names(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels)
    are_numbers = all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", name) for name in names)
    return tuple(sorted(names, key=int if are_numbers else None))


def _check_enough(train: pd.DataFrame, num_splits: int) -> None:
    labels = train["Label"].unique()
    counts = group_by_text(train)["Label"].value_counts().reindex(labels, fill_value=0)
    few = counts[counts < num_splits].sort_index()
    if len(few):
        raise ValueError(
            f"each class needs {num_splits} different texts, one per split; fewer have "
            f"{', '.join(_with_counts(few))}: add some, leave them out with --min_class_size "
            f"{num_splits}, or name a file for each split"
        )


def _check_known(splits: Tables, class_names: Sequence[str]) -> None:
    if len(class_names) < 2:
        raise ValueError(
            f"all training examples have the class {class_names[0]!r}, expected two or more classes"
        )
    for name in ("validation", "test"):
        labels = splits[name]["Label"]
        unknown = labels[~labels.isin(class_names)].value_counts().sort_index()
        if len(unknown):
            raise ValueError(
                f"the {_NAMES[name]} has labels that the training data lacks: "
                f"{list_some(_with_counts(unknown))}; it has {list_some(map(repr, class_names))}"
            )


def _notes_on_examples(tables: Tables) -> Iterator[str]:
    for name, examples in tables.items():
        empty = examples[examples["Text"].str.strip() == ""]
        if len(empty):
            count = f"{len(empty):,} of {len(examples):,} ({_where(empty)})"
            yield f"empty or blank texts of the {_NAMES[name]}, which are used: {count}"
    pairs = pd.concat(tables.values()).drop_duplicates()
    labels = pairs.groupby("Text", sort=False)["Label"].agg(list)
    several = labels[labels.str.len() > 1]
    if len(several):
        texts = (t if len(t) <= _SHOWN_LETTERS else t[:_SHOWN_LETTERS] + "…" for t in several.index)
        shown = (f"{text!r} ({', '.join(of)})" for text, of in zip(texts, several, strict=True))
        yield f"texts with several labels: {len(several):,}: {list_some(shown)}"
    similar: dict[str, list[str]] = {}
    for name in _sort_names(tables["train"]["Label"]):
        similar.setdefault(_appearance_of(name), []).append(ascii(name))
    if shown := [" and ".join(names) for names in similar.values() if len(names) > 1]:
        yield f"classes whose names look alike: {list_some(shown)}"


def _notes_on_splits(splits: Tables, class_names: Sequence[str]) -> Iterator[str]:
    for name, split in splits.items():
        counts = split["Label"].value_counts().reindex(class_names, fill_value=0)
        few = counts[counts < (_FEW if name == "train" else 1)]
        if len(few):
            classes = list_some(_with_counts(few))
            yield f"the {_NAMES[name]} has few or no examples of these classes: {classes}"
    for first, second in combinations(splits, 2):
        earlier, texts = set(splits[first]["Text"]), splits[second]["Text"]
        cores = {_core_of(text) for text in earlier} - {""}
        others = [text for text in texts if text not in earlier]
        what = f"texts of the {_NAMES[second]} that are also in the {_NAMES[first]}"
        if equal := len(texts) - len(others):
            yield f"{what}: {equal:,} of {len(texts):,}"
        if near := sum(_core_of(text) in cores for text in others):
            yield f"{what}, apart from case, digits and blanks: {near:,} of {len(texts):,}"


def _appearance_of(name: str) -> str:
    """Return a name without case, blanks, invisible characters and zeros after a point."""
    name = unicodedata.normalize("NFKC", name).casefold()
    name = "".join(c for c in name if not c.isspace() and unicodedata.category(c) != "Cf")
    return re.sub(r"^(\d+)\.0+$", r"\1", name)


def _core_of(text: str) -> str:
    return re.sub(r"[\d\s]", "", text.casefold())
