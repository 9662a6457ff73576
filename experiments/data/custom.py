"""A user's own examples: from files to checked splits with numbered classes.

    tables, notes, text_columns = read_custom(custom)
    splits, class_names, more_notes = split_custom(tables, custom)

What makes training or testing impossible is a ValueError; what a user should know before training
is a note.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import pandas as pd

from experiments.config.settings import CustomData
from experiments.data.separated import list_some
from experiments.data.splitting import balance_classes, group_by_text, split_by_text, subsample
from experiments.data.tables import Examples, read_table

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
            found = read_table(str(path), custom)
            notes += _describe(str(path), found, custom)
            text_columns = text_columns or tuple(found.table.text_columns)
            if custom.split_column:
                tables |= _split_by_column(found, custom.split_column)
            else:
                tables[name] = found.examples
    return _leave_out(tables, custom, notes), notes, text_columns


def _describe(path: str, found: Examples, custom: CustomData) -> Iterator[str]:
    """Yield what was found in a file, and warnings with the flags that help."""
    table, examples = found.table, found.examples
    unused = [repr(name) for name in table.names if name not in table.used]
    texts = " and ".join(map(repr, table.text_columns))
    others = f", not used {list_some(unused)}" if unused else ""
    lines = f" in {table.source.line:,} lines" if table.unit == "line" else ""
    duplicates = int(examples["Text"].duplicated().sum())
    repeated = f", {duplicates:,} with the text of an earlier one" if duplicates else ""
    yield f"{path}: {table.source}; {len(examples):,} examples{lines}{repeated}"
    yield f"{path}: texts {texts}, labels {table.label_column!r}{others}"
    yield from (f"{path}: {note}" for note in table.source.notes)
    labels = examples["Label"]

    def lines_of(chosen: pd.Series) -> str:
        return f"{table.unit} {list_some(f'{found.lines[i]:,}' for i in examples.index[chosen])}"

    missing = labels.str.strip().str.casefold().isin(_MISSING) & ~labels.isin(custom.drop_label)
    if missing.any():
        names = _list_counts(labels[missing].value_counts())
        flag = f"--drop_label {' '.join(sorted(set(labels[missing])))}"
        yield (
            f"labels that look like missing values: {names}; {lines_of(missing)}; {flag} leaves "
            "them out"
        )
    known = set(labels)
    lists = labels.map(lambda label: _is_list(label, known))
    if lists.any():
        yield (
            f"labels that look like lists, of which each combination is a class: "
            f"{list_some(map(repr, dict.fromkeys(labels[lists])))}; {lines_of(lists)}; write one "
            "label per example"
        )
    for name, cells in found.others.items():
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


def _split_by_column(found: Examples, name: str) -> dict[str, pd.DataFrame]:
    cells = pd.Series(found.others[name]).str.strip().str.casefold()
    splits = cells.map(_SPLITS)
    if splits.isna().any():
        first = splits.index[splits.isna()][0]
        raise ValueError(
            f"--split_column {name} has {found.others[name][first]!r} in {found.table.unit} "
            f"{found.lines[first]}, expected train, validation or test"
        )
    tables = {s: found.examples[splits == s].reset_index(drop=True) for s in _NAMES}
    if tables["train"].empty:
        raise ValueError(f"--split_column {name} has no training examples")
    return {split: examples for split, examples in tables.items() if len(examples)}


def _leave_out(tables: dict, custom: CustomData, notes: list[str]) -> dict[str, pd.DataFrame]:
    """Return tables without the labels and small classes that flags exclude; note which."""
    known = set(pd.concat(tables.values())["Label"])
    if unknown := [label for label in custom.drop_label if label not in known]:
        raise ValueError(f"--drop_label {unknown[0]!r}: no example has that label")
    left_out = set(custom.drop_label)
    train = group_by_text(tables["train"])["Label"].value_counts()
    if custom.min_class_size > 1:
        left_out |= {name for name in known if train.get(name, 0) < custom.min_class_size}
    if not left_out:
        return tables
    counts = pd.concat(tables.values())["Label"].value_counts()
    names = ", ".join(f"{name!r} ({counts[name]})" for name in sorted(left_out))
    notes.append(f"left out: {sum(counts[name] for name in left_out):,} examples of {names}")
    chosen = {name: t[~t["Label"].isin(left_out)] for name, t in tables.items()}
    if chosen["train"].empty:
        raise ValueError("no training examples are left: lower --min_class_size")
    return {name: examples.reset_index(drop=True) for name, examples in chosen.items()}


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
        names = ", ".join(f"{name!r} ({count})" for name, count in few.items())
        raise ValueError(
            f"each class needs {num_splits} different texts, one per split; fewer have {names}: "
            f"add some, leave them out with --min_class_size {num_splits}, or name a file for each "
            "split"
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
                f"data lacks: {list_some(map(repr, _sort_names(unknown)))}; it has "
                f"{list_some(map(repr, class_names))}"
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
        yield f"{len(several):,} texts have several labels: {list_some(shown)}"
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


def _appearance_of(name: str) -> str:
    """Return a name without case, blanks, invisible characters and zeros after a point."""
    name = unicodedata.normalize("NFKC", name).casefold()
    name = "".join(c for c in name if not c.isspace() and unicodedata.category(c) != "Cf")
    return re.sub(r"^(\d+)\.0+$", r"\1", name)


def _core_of(text: str) -> str:
    return re.sub(r"[\d\s]", "", text.casefold())


def _list_counts(counts: pd.Series) -> str:
    return list_some(f"{name!r} ({count})" for name, count in counts.items())
