"""Split, balance and subsample examples such that their classes keep their shares.

    splits = split_by_text(examples, {"train": 70, "validation": 10, "test": 20}, seed=123)
    fewer = subsample(splits["train"], 100, seed=123)

All take a table with the columns Label and Text, and select the same examples for the same seed.
"""

from collections.abc import Mapping, Sequence

import pandas as pd


def split_by_text(
    examples: pd.DataFrame, shares: Mapping[str, int], seed: int
) -> dict[str, pd.DataFrame]:
    """Return the examples of each split, shuffled; equal texts are in the same split.

    The groups of equal texts of a label, the largest first, are assigned one by one to the split
    that lacks most examples. So without duplicates each label has its share of each split, to
    within one example. Each label needs at least as many different texts as there are splits.
    """
    shuffled = examples.sample(frac=1, random_state=seed)
    split_of: dict[str, str] = {}
    for _, groups in group_by_text(shuffled).groupby("Label"):
        assigned = _assign(groups["total"].tolist(), list(shares.values()))
        split_of |= zip(groups["Text"], (list(shares)[i] for i in assigned), strict=True)
    splits = shuffled["Text"].map(split_of)
    return {name: shuffled[splits == name].reset_index(drop=True) for name in shares}


def group_by_text(examples: pd.DataFrame) -> pd.DataFrame:
    """Return the different texts, the most frequent first, else in their order.

    The Label is the text's most frequent one, of several the first by name; total counts examples.
    """
    pairs = examples.groupby(["Text", "Label"], sort=False).size().reset_index(name="count")
    pairs["total"] = pairs.groupby("Text")["count"].transform("sum")
    ranked = pairs.sort_values("Label").sort_values("count", ascending=False, kind="stable")
    groups = ranked.drop_duplicates("Text")
    return groups.sort_index().sort_values("total", ascending=False, kind="stable")


def _assign(sizes: Sequence[int], shares: Sequence[int]) -> list[int]:
    """Return the split of each group; the last ones go to the empty splits, if as many as these."""
    lacking, empty, assigned = _apportion(sum(sizes), shares), set(range(len(shares))), []
    for left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
        candidates = sorted(empty) if left <= len(empty) else range(len(shares))
        split = max(candidates, key=lacking.__getitem__)
        lacking[split] -= size
        empty.discard(split)
        assigned.append(split)
    return assigned


def _apportion(total: int, shares: Sequence[int]) -> list[int]:
    """Return whole numbers proportional to the shares with the sum `total` (largest remainder)."""
    whole = sum(shares)
    parts = [total * share // whole for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: -(total * shares[i] % whole))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def balance_classes(examples: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return equally many random examples of each label, in their order."""
    smallest = examples["Label"].value_counts().min()
    chosen = examples.sample(frac=1, random_state=seed).groupby("Label").head(smallest).index
    return examples.loc[chosen.sort_values()].reset_index(drop=True)


def subsample(examples: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """Return `size` random examples, stratified by label, in their order.

    Of the n examples of a label, the i-th has the rank i / n; the lowest ranks are taken. So each
    label keeps its share to within one example, and a smaller sample is part of a larger one.
    Fewer examples or more labels than `size` are a ValueError.
    """
    num_classes = examples["Label"].nunique()
    if not num_classes <= size <= len(examples):
        raise ValueError(
            f"--train_size {size} must be between the number of classes, {num_classes}, and the "
            f"number of training examples, {len(examples)}"
        )
    by_label = examples["Label"].sample(frac=1, random_state=seed).pipe(lambda x: x.groupby(x))
    ranks = by_label.cumcount() / by_label.transform("size")
    chosen = ranks.sort_values(kind="stable").index[:size]
    return examples.loc[chosen.sort_values()].reset_index(drop=True)
