"""From records to what each row comes to: groups of seeds, and each group's summary."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.comparison.statistics import Interval, holm, mcnemar, verdict, wilson_interval
from experiments.records import FINISHED
from experiments.rows import ROWS

BASE = 1  # the row that the others are held against


def is_right(record: dict[str, Any]) -> np.ndarray:
    """Returns (N,) booleans: which test messages a run tells right."""
    return np.array(record["test"]["labels"]) == np.array(record["test"]["predictions"])


def accuracy(record: dict[str, Any], unseen_only: bool = False) -> float:
    """Returns the share of test messages told right, or of those that training does not hold."""
    right = is_right(record)
    if unseen_only:
        right = right[~np.array(record["test"]["in_training"])]
    return float(right.mean())


def group_records(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Returns finished records of rows and baselines by name, in order of their seeds.

    Of several with one name and seed, made by other versions or on other machines, the newest.
    Stand-ins count only where no published model was run, so that the two are never mixed.
    """
    finished = [r for r in records if r["status"] == FINISHED and r["name"] != "run"]
    is_real = any(r["row"] is not None and not r["stands_in"] for r in finished)
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for record in sorted(finished, key=lambda record: record["date"]):
        if not (is_real and record["stands_in"]):
            newest[record["name"], record["seed"]] = record
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, seed in sorted(newest, key=lambda key: (key[0].startswith("baseline"), *key)):
        groups.setdefault(name, []).append(newest[name, seed])
    return groups


def pair_up(
    first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns the records of two groups that share a seed; a baseline goes with every seed."""
    if second[0]["row"] is None:
        return [(record, second[0]) for record in first]
    if first[0]["row"] is None:
        return [(first[0], record) for record in second]
    by_seed = {record["seed"]: record for record in second}
    return [(record, by_seed[record["seed"]]) for record in first if record["seed"] in by_seed]


class Summary(NamedTuple):
    """What a group of records, one for each seed, comes to."""

    name: str
    row: int | None
    model: str
    published_percent: float | None
    seed: int  # the first, of which the next four are
    right: int
    total: int
    interval: Interval
    unseen_accuracy: float
    seeds: int
    mean: float
    deviation: float  # standard, over seeds
    lowest: float
    highest: float
    train_seconds: float  # median
    device: str
    only_base: int | None  # messages that only row 1 gets right, and the next only this one
    only_this: int | None
    p_value: float | None
    corrected_p_value: float | None
    verdict: str


def summarise(groups: dict[str, list[dict[str, Any]]]) -> list[Summary]:
    """Returns a summary of each group; p-values are corrected over the groups shown."""
    base = groups.get(f"row {BASE:02d}")
    tests: dict[str, tuple[int, int, float]] = {}
    for name, group in groups.items():
        pairs = pair_up(base, group) if base and group is not base else []
        if pairs:
            one, other = (is_right(record) for record in pairs[0])
            counts = int((one & ~other).sum()), int((other & ~one).sum())
            tests[name] = (*counts, mcnemar(*counts))
    corrected = dict(zip(tests, holm([p for *_, p in tests.values()]), strict=True))

    summaries = []
    for name, group in groups.items():
        first, shares = group[0], [accuracy(record) for record in group]
        right, total = int(is_right(first).sum()), len(first["test"]["labels"])
        only_base, only_this, p = tests.get(name, (None, None, None))
        words = ""
        if p is not None:
            words = verdict(corrected[name], only_this - only_base)
        seconds = [r["seconds"].get("prefix", 0) + r["seconds"]["train"] for r in group]
        summaries.append(
            Summary(
                name=name,
                row=first["row"],
                model=first["model"],
                published_percent=ROWS[first["row"]].test_accuracy if first["row"] else None,
                seed=first["seed"],
                right=right,
                total=total,
                interval=wilson_interval(right, total),
                unseen_accuracy=accuracy(first, unseen_only=True),
                seeds=len(group),
                mean=float(np.mean(shares)),
                deviation=float(np.std(shares, ddof=1)) if len(group) > 1 else math.nan,
                lowest=min(shares),
                highest=max(shares),
                train_seconds=float(np.median(seconds)),
                device=first["environment"]["device"],
                only_base=only_base,
                only_this=only_this,
                p_value=p,
                corrected_p_value=corrected.get(name),
                verdict=words,
            )
        )
    return summaries
