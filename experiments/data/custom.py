"""A user's own examples: from files to checked splits with numbered classes.

    tables, columns = read_custom(custom)
    splits, class_names, notes = split_custom(tables, custom)

What makes training or testing impossible is a ValueError; what a user should know before training
is a note.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import pandas as pd

from experiments.config.settings import CustomData
from experiments.data.splitting import balance_classes, group_by_text, split_by_text, subsample
from experiments.data.tables import read_table

Tables = Mapping[str, pd.DataFrame]  # by the name of a split: Label and Text of its examples

_NAMES = {"train": "training data", "validation": "validation data", "test": "test data"}
_FEW = 3  # training examples of a class, below which a note reports it
_SHOWN, _SHOWN_LETTERS = 3, 60  # in a note


def read_custom(custom: CustomData) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return the examples of each file, and notes that name the columns; raises `read_table`'s."""
    tables, notes = {}, []
    paths = (custom.data, custom.validation_data, custom.test_data)
    for name, path in zip(_NAMES, paths, strict=True):
        if path:
            table = read_table(str(path), custom.text_column, custom.label_column)
            tables[name] = table.examples
            notes.append(f"{path}: texts {table.text_column!r}, labels {table.label_column!r}")
    return tables, notes


def split_custom(
    tables: Tables, custom: CustomData
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...], list[str]]:
    """Return the three splits with numbered labels, the names of the classes, and notes.

    Missing splits are made from the training data, balanced before and subsampled after that.
    """
    for name, examples in tables.items():
        _check_labels(examples, _NAMES[name])
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
    if (size := custom.train_size) is not None:
        notes.append(f"trained on {size:,} of {len(splits['train']):,} examples")
        splits["train"] = subsample(splits["train"], size, custom.split_seed)
    splits = {name: splits[name] for name in _NAMES}
    class_names = _sort_names(splits["train"]["Label"])
    _check_known(splits, class_names)
    notes += _notes_on_splits(splits, class_names)
    numbers = {name: number for number, name in enumerate(class_names)}
    for name, split in splits.items():
        splits[name] = split.assign(Label=split["Label"].map(numbers).astype(int))
    return splits, class_names, notes


def _sort_names(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels)
    are_numbers = all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", name) for name in names)
    return tuple(sorted(names, key=int if are_numbers else None))


def _check_labels(examples: pd.DataFrame, data: str) -> None:
    missing = examples.index[examples["Label"].str.strip() == ""]
    if len(missing):
        raise ValueError(
            f"{len(missing):,} of {len(examples):,} examples of the {data} have no label, first "
            f"example {missing[0] + 1}: add the labels, or remove the examples"
        )


def _check_enough(train: pd.DataFrame, num_splits: int) -> None:
    labels = train["Label"].unique()
    counts = group_by_text(train)["Label"].value_counts().reindex(labels, fill_value=0)
    few = counts[counts < num_splits].sort_index()
    if len(few):
        raise ValueError(
            f"each class needs {num_splits} different texts, one per split; fewer have "
            f"{_list_counts(few)}: add some, remove the class, or name a file for each split"
        )


def _check_known(splits: Tables, class_names: Sequence[str]) -> None:
    if len(class_names) < 2:
        raise ValueError(
            f"all training examples have the class {class_names[0]!r}, expected two or more classes"
        )
    for name in ("validation", "test"):
        labels = splits[name]["Label"]
        unknown = labels[~labels.isin(class_names)]
        if len(unknown):
            raise ValueError(
                f"{len(unknown):,} examples of the {_NAMES[name]} have labels that the training "
                f"data lacks: {_list_some(map(repr, _sort_names(unknown)))}; it has "
                f"{_list_some(map(repr, class_names))}"
            )


def _notes_on_examples(tables: Tables) -> Iterator[str]:
    examples = pd.concat(tables.values())
    if empty := int((examples["Text"].str.strip() == "").sum()):
        yield f"{empty:,} of {len(examples):,} texts are empty or blank; they are used"
    labels = examples.drop_duplicates().groupby("Text", sort=False)["Label"].agg(list)
    several = labels[labels.str.len() > 1]
    if len(several):
        texts = (t if len(t) <= _SHOWN_LETTERS else t[:_SHOWN_LETTERS] + "…" for t in several.index)
        shown = (f"{text!r} ({', '.join(of)})" for text, of in zip(texts, several, strict=True))
        yield f"{len(several):,} texts have several labels: {_list_some(shown)}"
    similar: dict[str, list[str]] = {}
    for name in _sort_names(tables["train"]["Label"]):
        similar.setdefault("".join(name.casefold().split()), []).append(repr(name))
    if shown := [" and ".join(names) for names in similar.values() if len(names) > 1]:
        yield f"classes that differ only in case or blanks: {_list_some(shown)}"


def _notes_on_splits(splits: Tables, class_names: Sequence[str]) -> Iterator[str]:
    for name, split in splits.items():
        counts = split["Label"].value_counts().reindex(class_names, fill_value=0)
        few = counts[counts < (_FEW if name == "train" else 1)]
        if len(few):
            yield f"the {_NAMES[name]} has few or no examples of these classes: {_list_counts(few)}"
    for first, second in combinations(splits, 2):
        earlier, texts = set(splits[first]["Text"]), splits[second]["Text"]
        cores = {_core_of(text) for text in earlier} - {""}
        others = [text for text in texts if text not in earlier]
        where = f"of {len(texts):,} texts of the {_NAMES[second]} are also in the {_NAMES[first]}"
        if equal := len(texts) - len(others):
            yield f"{equal:,} {where}"
        if near := sum(_core_of(text) in cores for text in others):
            yield f"{near:,} {where}, apart from case, digits and blanks"


def _core_of(text: str) -> str:
    return re.sub(r"[\d\s]", "", text.casefold())


def _list_some(items: Iterable[str]) -> str:
    items = list(items)
    more = f" and {len(items) - _SHOWN:,} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def _list_counts(counts: pd.Series) -> str:
    return _list_some(f"{name!r} ({count})" for name, count in counts.items())
