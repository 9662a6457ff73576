"""Summaries of groups: counts, intervals, means over seeds, and the comparison with a reference."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison.evidence import Evidence, Pairs, compare_all, values_of
from experiments.comparison.groups import Groups, References, pair_up
from experiments.comparison.names import conditions_of
from experiments.comparison.sentences import format_interval, sentence
from experiments.comparison.statistics import Interval, interval_over_splits, wilson_interval
from experiments.config.rows import DATA_SHA256, ROWS
from experiments.runs.records import Run

MIN_SPLITS = 3  # fewer say nothing about other splits
OF_FIRST = ("row", "model", "weights", "data", "precision", "seed")  # fields of the first seed
MEANS = ("macro_f1", "auroc", "log_loss", "brier_score", "calibration_error")  # over seeds


class Summary(NamedTuple):
    """The runs of a group, one per seed."""

    name: str
    row: int | None
    model: str
    weights: str | None
    data: str
    precision: str
    substitute: str | None  # for the published model, if there is one
    published_percent: float | None
    seed: int  # the first, of which the next four are
    right: int
    total: int
    interval: Interval
    accuracy_without_duplicates: float  # of training examples
    seeds: int
    value: float  # mean of the metric over the seeds that are compared
    largest_class: float  # its share of the test examples
    mean: float
    deviation: float  # standard, over seeds
    lowest: float
    highest: float
    macro_f1: float | None  # means over seeds, as the next four; None without details
    auroc: float | None  # also None if the test examples lack a class
    log_loss: float | None
    brier_score: float | None
    calibration_error: float | None
    train_seconds: float  # median
    device: str  # several, if seeds were run on several
    evidence: Evidence | None  # compared with the reference, if it can be, as the next two
    verdict: str
    sentence: str


def summarise(
    groups: Groups,
    margin: float,
    reference: str | None = None,
    metric: str = "accuracy",
    *,
    details: bool = True,
) -> list[Summary]:
    """Return a summary of each group; p-values are corrected over all of them.

    Without `details`, metrics and sentences, which take milliseconds for each, are left out.
    """
    pairs = pairs_by_name(groups, reference)
    compared = compare_all(list(pairs.values()), margin, metric)
    evidence = dict(zip(pairs, compared, strict=True))
    return [
        _summarise_group(name, group, evidence.get(name), metric, details)
        for name, group in groups.items()
    ]


def pairs_by_name(groups: Groups, reference: str | None = None) -> dict[str, Pairs]:
    """Return the pairs of runs of a reference and each group that has one and shares seeds."""
    references, pairs = References(groups, reference), {}
    for name, group in groups.items():
        found = references.of(group[0])
        if len(found) == 1 and (paired := pair_up(found[0], group)):
            pairs[name] = paired
    return pairs


def _summarise_group(
    name: str, group: list[Run], evidence: Evidence | None, metric: str, details: bool
) -> Summary:
    first, shares = group[0], [float(run.is_correct.mean()) for run in group]
    right, total = int(first.is_correct.sum()), len(first.labels)
    metrics = [run.metrics for run in group] if details else []
    is_published = first.row is not None and first.data == DATA_SHA256
    distinct = first.is_correct[~first.in_training]
    shared = evidence.seeds if evidence else ()
    compared = [run for run in group if run.seed in shared] or group
    return Summary(
        name=name,
        **{field: getattr(first, field) for field in OF_FIRST},
        substitute=conditions_of(first).substitute,
        published_percent=ROWS[first.row].test_accuracy if is_published else None,
        right=right,
        total=total,
        interval=wilson_interval(right, total),
        accuracy_without_duplicates=float(distinct.mean()) if len(distinct) else math.nan,
        seeds=len(group),
        value=float(np.mean([values_of(run, metric).mean() for run in compared])),
        largest_class=float(np.bincount(first.labels).max() / total),
        mean=float(np.mean(shares)),
        deviation=float(np.std(shares, ddof=1)) if len(group) > 1 else math.nan,
        lowest=min(shares),
        highest=max(shares),
        **{name: _mean_of([getattr(m, name) for m in metrics]) for name in MEANS},
        train_seconds=float(np.median([run.train_seconds for run in group])),
        device="; ".join(dict.fromkeys(run.environment["device"] for run in group)),
        evidence=evidence,
        verdict=evidence.verdict if evidence else "",
        sentence=sentence(evidence) if evidence and details else "",
    )


def _mean_of(values: list[float | None]) -> float | None:
    return float(np.mean(values)) if values and values[0] is not None else None


def compare_over_splits(groups: Groups, summaries: Sequence[Summary]) -> list[str]:
    """Return a sentence for each row that is compared on three or more splits of one file."""
    found: dict[tuple[str | None, ...], dict[int, Summary]] = {}
    for summary in summaries:
        run = groups[summary.name][0]
        if summary.evidence and run.split:
            weights, _, precision = conditions_of(run)
            same = run.name, weights, precision, run.split["of"]
            found.setdefault(same, {})[run.split["seed"]] = summary
    enough = (by_seed for by_seed in found.values() if len(by_seed) >= MIN_SPLITS)
    return [_describe_splits(by_seed, groups) for by_seed in enough]


def _describe_splits(by_seed: dict[int, Summary], groups: Groups) -> str:
    summaries = list(by_seed.values())
    run, (first, second) = groups[summaries[0].name][0], summaries[0].evidence.names
    differences = [summary.evidence.accuracy.mean for summary in summaries]
    found = interval_over_splits(differences, len(run.labels), run.correct["train"][1])
    seeds = ", ".join(map(str, sorted(by_seed)))
    interval = f", 95 % confidence interval {format_interval(found)}"
    return (
        f"Over {len(by_seed)} splits of the same examples (--split_seed {seeds}), {second} minus "
        f"{first}: {100 * float(np.mean(differences)):+.2f} points of test "
        f"accuracy{interval if found.low < found.high else ''}, over other splits."
    )
