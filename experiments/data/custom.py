"""A user's own messages: from tables to checked splits with numbered classes.

    corpus = load_own(settings.own)
    corpus.splits["train"], corpus.class_names, corpus.notes

What cannot work is a ValueError; what a user ought to know before training is a note.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import pandas as pd

from experiments.config.settings import Own
from experiments.data.corpus import Corpus, digest_of
from experiments.data.splitting import (
    balance_classes,
    groups_of_texts,
    split_by_text,
    thin_classes,
)
from experiments.data.tables import read_table

DATA = {  # the splits, and how a message names them
    "train": "training data",
    "validation": "validation data",
    "test": "test data",
}
FEWEST = 3  # messages of a class, below which it is told
SHOWN, SHOWN_LETTERS = 3, 60  # of what a note lists
CASE_DIGITS_BLANKS = re.compile(r"[\d\s]")


def load_own(own: Own) -> Corpus:
    """Returns the user's own messages, split and checked.

    Raises:
        OSError: when a file cannot be read.
        ValueError: when it cannot be trained or tested on what is in them.
    """
    paths = {"train": own.data, "validation": own.validation_data, "test": own.test_data}
    tables, notes = {}, []
    for name, path in paths.items():
        if path:
            table = read_table(str(path), own.text_column, own.label_column)
            tables[name] = table.messages
            columns = f"texts are {table.text_column!r}, labels {table.label_column!r}"
            notes.append(f"{path}: {columns}")
    corpus = prepare_own(tables, own.split, own.split_seed, own.balance, own.train_size)
    return corpus._replace(notes=[*notes, *corpus.notes])


def prepare_own(
    tables: Mapping[str, pd.DataFrame],
    shares: Sequence[int],
    split_seed: int,
    balance: bool = False,
    train_size: int | None = None,
) -> Corpus:
    """Returns the three splits, of which those not given are made of the training data.

    What is given stays in its order, and as it is, but for what `balance` and `train_size` take
    from the training data. With a split given, the others keep their ratio.

    Args:
        tables: messages with Label and Text, both str; "train", and if given "validation", "test".
        shares: of training, validation and test.
        split_seed: of all that is chosen at random.
        balance: cuts the classes of the training data to the smallest, before it is split.
        train_size: messages to train on, in the end; if None, all.

    Raises:
        ValueError: when it cannot be trained or tested on that.
    """
    for name, messages in tables.items():
        check_labels(messages, DATA[name])
    notes = [*notes_on_texts(pd.concat(tables.values())), *notes_on_labels(tables["train"])]
    train = tables["train"]
    if balance:
        train = balance_classes(train, split_seed)
        notes.append(f"balanced: {len(train):,} of {len(tables['train']):,} messages are kept")
    wanted = {name: share for name, share in zip(DATA, shares, strict=True)
              if name == "train" or name not in tables}  # fmt: skip
    splits = {**tables, "train": train}
    if len(wanted) > 1:
        check_enough(train, len(wanted))
        splits |= split_by_text(train, wanted, split_seed)
    if train_size is not None:
        available = len(splits["train"])
        splits["train"] = thin_classes(splits["train"], train_size, split_seed)
        notes.append(f"trained on {train_size:,} of {available:,} messages")
    splits = {name: splits[name] for name in DATA}
    class_names = sort_names(splits["train"]["Label"])
    check_known(splits, class_names)
    notes += [*notes_on_classes(splits, class_names), *notes_on_overlap(splits)]
    numbered = number_labels(splits, class_names)
    how = [*map(str, shares), str(balance), str(train_size)]
    whole = digest_of(tables, how)
    return Corpus(numbered, class_names, digest_of(numbered, class_names), notes, whole)


def sort_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns the different labels in order, by value where all are whole numbers."""
    names = set(labels)
    are_numbers = all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", name) for name in names)
    return tuple(sorted(names, key=int if are_numbers else None))


def number_labels(
    splits: Mapping[str, pd.DataFrame], class_names: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Returns the splits with each label's place among the names in its stead."""
    numbers = {name: number for number, name in enumerate(class_names)}
    return {
        name: pd.DataFrame(
            {"Label": split["Label"].map(numbers).astype(int), "Text": split["Text"]}
        )
        for name, split in splits.items()
    }


# ----------------------------------------------------------------------------------------- checks


def check_labels(messages: pd.DataFrame, data: str) -> None:
    """Raises ValueError when a message has no label."""
    missing = messages.index[messages["Label"].str.strip() == ""]
    if len(missing):
        raise ValueError(
            f"{len(missing):,} of {len(messages):,} messages of the {data} have no label, first "
            f"message {missing[0] + 1}: give them one, or leave them out"
        )


def check_enough(train: pd.DataFrame, num_splits: int) -> None:
    """Raises ValueError unless there are two classes, each with a text for every split.

    A text counts for the label that it most often has, as where it is split.
    """
    labels = train["Label"].unique()
    counts = groups_of_texts(train)["Label"].value_counts().reindex(labels, fill_value=0)
    few = counts[counts < num_splits].sort_index()
    if len(few):
        listed = list_some(f"{name!r} ({count})" for name, count in few.items())
        raise ValueError(
            f"a class needs {num_splits} different texts, one for each split that is made of them; "
            f"fewer have {listed}: add some, leave the class out, or name a file for each split"
        )


def check_known(splits: Mapping[str, pd.DataFrame], class_names: Sequence[str]) -> None:
    """Raises ValueError when there is one class only, or a label that training lacks."""
    if len(class_names) < 2:
        raise ValueError(
            f"all messages to train on are of the class {class_names[0]!r}, expected two or more"
        )
    for name in ("validation", "test"):
        labels = splits[name]["Label"]
        unknown = labels[~labels.isin(class_names)]
        if len(unknown):
            raise ValueError(
                f"the {DATA[name]} has labels that the training data lacks: "
                f"{list_some(map(repr, sort_names(unknown)))}, in {len(unknown):,} messages; "
                f"training has {list_some(map(repr, class_names))}"
            )


# ------------------------------------------------------------------------------------------ notes


def notes_on_texts(messages: pd.DataFrame) -> list[str]:
    """Returns what there is to say of empty texts, and of equal ones with different labels."""
    notes = []
    if empty := int((messages["Text"].str.strip() == "").sum()):
        notes.append(f"{empty:,} of {len(messages):,} texts are empty or blank, and kept so")
    labels = messages.drop_duplicates().groupby("Text", sort=False)["Label"].agg(list)
    torn = labels[labels.str.len() > 1]
    if len(torn):
        shown = list_some(f"{shorten(text)} ({', '.join(of)})" for text, of in torn.items())
        notes.append(f"{len(torn):,} texts stand there with different labels: {shown}")
    return notes


def notes_on_labels(train: pd.DataFrame) -> list[str]:
    """Returns what there is to say of labels that may be meant as one."""
    alike: dict[str, list[str]] = {}
    for name in sort_names(train["Label"]):
        alike.setdefault("".join(name.casefold().split()), []).append(repr(name))
    shown = [" and ".join(names) for names in alike.values() if len(names) > 1]
    return [f"classes that differ in case or blanks only: {list_some(shown)}"] if shown else []


def notes_on_classes(splits: Mapping[str, pd.DataFrame], class_names: Sequence[str]) -> list[str]:
    """Returns which classes have few messages to train on, or none to validate or test on."""
    notes = []
    for name, split in splits.items():
        counts = split["Label"].value_counts().reindex(class_names, fill_value=0)
        few = counts[counts < (FEWEST if name == "train" else 1)]
        if len(few):
            shown = list_some(f"{label!r} ({count})" for label, count in few.items())
            notes.append(f"the {DATA[name]} has few or no messages of these classes: {shown}")
    return notes


def notes_on_overlap(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    """Returns how many texts of a split stand in an earlier one, as they are or nearly so.

    Nearly: but for case, digits and blanks, if anything else is left.
    """
    notes = []
    for first, second in combinations(splits, 2):
        earlier, texts = set(splits[first]["Text"]), splits[second]["Text"]
        cores = {core_of(text) for text in earlier} - {""}
        equal = sum(text in earlier for text in texts)
        near = sum(text not in earlier and core_of(text) in cores for text in texts)
        where = f"of {len(texts):,} texts of the {DATA[second]} stand in the {DATA[first]}"
        if equal:
            notes.append(f"{equal:,} {where} as well")
        if near:
            notes.append(f"{near:,} {where} but for case, digits and blanks")
    return notes


def core_of(text: str) -> str:
    """Returns a text without case, digits and blanks."""
    return CASE_DIGITS_BLANKS.sub("", text.casefold())


def list_some(items: Iterable[str]) -> str:
    """Returns the first items, and how many more there are."""
    items = list(items)
    more = f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def shorten(text: str) -> str:
    """Returns a text in quotes, cut where it would fill the line."""
    return repr(text if len(text) <= SHOWN_LETTERS else text[:SHOWN_LETTERS] + "…")
