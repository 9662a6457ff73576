"""From groups of seeds to what each comes to: counts, intervals, and a test against row 1."""

import math
from typing import Any, NamedTuple

import numpy as np

from experiments.comparison.groups import bases_of, conditions_of, pair_up
from experiments.comparison.statistics import Interval, holm, mcnemar, verdict, wilson_interval
from experiments.metrics import Metrics, measure
from experiments.published import DATA_SHA256
from experiments.rows import ROWS


def is_right(record: dict[str, Any]) -> np.ndarray:
    """Returns (N,) booleans: which test messages a run tells right."""
    return np.array(record["test"]["labels"]) == np.array(record["test"]["predictions"])


def accuracy(record: dict[str, Any], unseen_only: bool = False) -> float:
    """Returns the share of test messages told right, or of those that training does not hold.

    NaN where training holds them all.
    """
    right = is_right(record)
    if unseen_only:
        right = right[~np.array(record["test"]["in_training"])]
    return float(right.mean()) if len(right) else math.nan


def metrics_of(record: dict[str, Any]) -> Metrics:
    """Returns what a run's probabilities of the test messages are worth."""
    return measure(np.array(record["test"]["probabilities"]), np.array(record["test"]["labels"]))


def published_percent(record: dict[str, Any]) -> float | None:
    """Returns the test accuracy published for a record's row, None on messages of one's own."""
    is_published = record["row"] is not None and record["data"] == DATA_SHA256
    return ROWS[record["row"]].test_accuracy if is_published else None


def training_seconds(record: dict[str, Any]) -> float:
    """Returns how long a run trains, with what computing the hidden states before it costs."""
    return record["seconds"].get("prefix", 0) + record["seconds"]["train"]


class PairedTest(NamedTuple):
    """How a group does against row 1, on the messages that just one of the two gets right."""

    only_base: int
    only_this: int
    p_value: float


def held_against_base(
    groups: dict[str, list[dict[str, Any]]], group: list[dict[str, Any]]
) -> PairedTest | None:
    """Returns a group's test at the first seed that it shares with row 1, None if there is none."""
    bases = bases_of(groups, group[0])
    pairs = pair_up(bases[0], group) if len(bases) == 1 else []
    if not pairs:
        return None
    one, other = (is_right(record) for record in pairs[0])
    counts = int((one & ~other).sum()), int((other & ~one).sum())
    return PairedTest(*counts, mcnemar(*counts))


class Summary(NamedTuple):
    """What a group of records, one for each seed, comes to."""

    name: str
    row: int | None
    model: str
    weights: str | None
    data: str
    precision: str
    stand_in: str | None  # what stands in for the published model, if anything does
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
    macro_f1: float  # means over seeds, as the next four
    auroc: float | None  # None where a class is absent from the test messages
    log_loss: float
    brier_score: float
    calibration_error: float
    train_seconds: float  # median
    device: str  # several, where seeds were run on several
    only_base: int | None  # messages that only row 1 gets right, and the next only this one
    only_this: int | None
    p_value: float | None
    corrected_p_value: float | None
    verdict: str


def summarise(groups: dict[str, list[dict[str, Any]]]) -> list[Summary]:
    """Returns a summary of each group; p-values are corrected over the groups shown."""
    found = {name: held_against_base(groups, group) for name, group in groups.items()}
    tests = {name: test for name, test in found.items() if test}
    corrected = holm([test.p_value for test in tests.values()])
    corrected_of = dict(zip(tests, corrected, strict=True))
    return [
        summarise_group(name, group, tests.get(name), corrected_of.get(name))
        for name, group in groups.items()
    ]


def summarise_group(
    name: str, group: list[dict[str, Any]], test: PairedTest | None, corrected: float | None
) -> Summary:
    """Returns what a group comes to, with its test against row 1 and the corrected p-value."""
    first, shares = group[0], [accuracy(record) for record in group]
    right, total = int(is_right(first).sum()), len(first["test"]["labels"])
    only_base, only_this, p_value = test or (None, None, None)
    metrics = [metrics_of(record) for record in group]
    return Summary(
        name=name,
        row=first["row"],
        model=first["model"],
        weights=first["weights"],
        data=first["data"],
        precision=first["precision"],
        stand_in=conditions_of(first).stand_in,
        published_percent=published_percent(first),
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
        macro_f1=float(np.mean([m.macro_f1 for m in metrics])),
        auroc=None if metrics[0].auroc is None else float(np.mean([m.auroc for m in metrics])),
        log_loss=float(np.mean([m.log_loss for m in metrics])),
        brier_score=float(np.mean([m.brier_score for m in metrics])),
        calibration_error=float(np.mean([m.calibration_error for m in metrics])),
        train_seconds=float(np.median([training_seconds(record) for record in group])),
        device="; ".join(dict.fromkeys(record["environment"]["device"] for record in group)),
        only_base=only_base,
        only_this=only_this,
        p_value=p_value,
        corrected_p_value=corrected,
        verdict=verdict(corrected, test.only_this - test.only_base) if test else "",
    )
