"""Splitting, balancing and thinning messages so that their classes keep their shares.

    splits = split_by_text(messages, {"train": 70, "validation": 10, "test": 20}, seed=123)
    fewer = thin_classes(splits["train"], 100, seed=123)

All take a table with the columns Label and Text, and choose the same for the same seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def split_by_text(
    messages: pd.DataFrame, shares: Mapping[str, int], seed: int
) -> dict[str, pd.DataFrame]:
    """Returns the messages of each split, shuffled; equal texts are never parted.

    Equal texts make a group, which counts for the label that most of them have. The groups of a
    label are dealt out as `deal` says, largest first, else in shuffled order. So where no text
    comes twice each label is split to within a message of its shares.

    Args:
        messages: the table to split, with at least as many different texts of each label as splits.
        shares: by the name of a split, its part of the sum of all.
        seed: of the shuffle.
    """
    shuffled = messages.sample(frac=1, random_state=seed)
    split_of: dict[str, str] = {}
    for _, groups in groups_of_texts(shuffled).groupby("Label"):
        dealt = deal(groups["total"].tolist(), list(shares.values()))
        split_of |= zip(groups["Text"], (list(shares)[i] for i in dealt), strict=True)
    splits = shuffled["Text"].map(split_of)
    return {name: shuffled[splits == name].reset_index(drop=True) for name in shares}


def groups_of_texts(messages: pd.DataFrame) -> pd.DataFrame:
    """Returns the different texts, the most frequent first, else in the order they come in.

    Its columns are Text, Label (the text's most frequent one, at a tie the first by name), and
    total, how many messages have the text.
    """
    pairs = messages.groupby(["Text", "Label"], sort=False).size().reset_index(name="count")
    pairs["total"] = pairs.groupby("Text")["count"].transform("sum")
    ranked = pairs.sort_values("Label").sort_values("count", ascending=False, kind="stable")
    groups = ranked.drop_duplicates("Text")
    return groups.sort_index().sort_values("total", ascending=False, kind="stable")


def deal(sizes: Sequence[int], shares: Sequence[int]) -> list[int]:
    """Returns for each group, in order, the index of the split that it goes to.

    A group goes to the split that lacks most messages, at a tie to the earlier one. But when only
    as many groups are left as there are splits without any, these come first; so no split stays
    without one, if there are enough groups.
    """
    lacking = apportion(sum(sizes), shares)
    without = set(range(len(shares)))
    dealt = []
    for left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
        among = sorted(without) if left <= len(without) else range(len(shares))
        split = max(among, key=lacking.__getitem__)
        lacking[split] -= size
        without.discard(split)
        dealt.append(split)
    return dealt


def apportion(total: int, shares: Sequence[int]) -> list[int]:
    """Returns whole numbers in the ratio of the shares that make the total (largest remainder)."""
    whole = sum(shares)
    parts = [total * share // whole for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: -(total * shares[i] % whole))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def balance_classes(messages: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns as many messages of each label, chosen at random, in the order they stand in."""
    smallest = messages["Label"].value_counts().min()
    shuffled = messages.sample(frac=1, random_state=seed)
    chosen = shuffled.groupby("Label").head(smallest).index
    return messages.loc[chosen.sort_values()].reset_index(drop=True)


def thin_classes(messages: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """Returns so many of the messages, stratified by label, in the order they stand in.

    The messages are shuffled and ranked within their label; the i-th of n comes at i / n, and the
    first ones are taken. So each label keeps its share to within a message and has one at least,
    and what is taken for a smaller size is part of what is taken for a larger one.

    Raises:
        ValueError: when there are fewer messages than that, or more labels.
    """
    num_classes = messages["Label"].nunique()
    if not num_classes <= size <= len(messages):
        raise ValueError(
            f"--train_size {size} has to be between the number of classes, {num_classes}, and that "
            f"of the training messages, {len(messages)}"
        )
    by_label = messages["Label"].sample(frac=1, random_state=seed).pipe(lambda x: x.groupby(x))
    places = by_label.cumcount() / by_label.transform("size")
    chosen = places.sort_values(kind="stable").index[:size]
    return messages.loc[chosen.sort_values()].reset_index(drop=True)


def class_weights(labels: Sequence[int], num_classes: int) -> np.ndarray:
    """Returns (K,) weights of the classes, n / (K n_k): as one on average over the messages.

    Raises:
        ValueError: when a class does not occur.
    """
    counts = np.bincount(labels, minlength=num_classes)  # (K,)
    if not counts.all():
        raise ValueError(f"class {counts.argmin()} has no message to be weighed by")
    return len(labels) / (num_classes * counts)
