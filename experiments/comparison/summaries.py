"""From groups of seeds to what each comes to: counts, intervals, and evidence against row 1."""

import math
from typing import NamedTuple

import numpy as np

from experiments.comparison.evidence import Evidence, correct, is_right, weigh
from experiments.comparison.flags import MARGIN
from experiments.comparison.groups import Groups, Record, bases_of, conditions_of, pair_up
from experiments.comparison.sentences import sentence
from experiments.comparison.statistics import Interval, wilson_interval
from experiments.config.published import DATA_SHA256
from experiments.config.rows import ROWS
from experiments.training.metrics import Metrics, measure


def accuracy(record: Record, unseen_only: bool = False) -> float:
    """Returns the share of test messages told right, or of those that training does not hold.

    NaN where training holds them all.
    """
    right = is_right(record)
    if unseen_only:
        right = right[~np.array(record["test"]["in_training"])]
    return float(right.mean()) if len(right) else math.nan


def metrics_of(record: Record) -> Metrics:
    """Returns what a run's probabilities of the test messages are worth."""
    return measure(np.array(record["test"]["probabilities"]), np.array(record["test"]["labels"]))


def published_percent(record: Record) -> float | None:
    """Returns the test accuracy published for a record's row, None on messages of one's own."""
    is_published = record["row"] is not None and record["data"] == DATA_SHA256
    return ROWS[record["row"]].test_accuracy if is_published else None


def training_seconds(record: Record) -> float:
    """Returns how long a run trains, with what computing the hidden states before it costs."""
    return record["seconds"].get("prefix", 0) + record["seconds"]["train"]


def held_against_base(groups: Groups, group: list[Record], margin: float) -> Evidence | None:
    """Returns the evidence on a group against row 1, None where nothing pairs them."""
    bases = bases_of(groups, group[0])
    pairs = pair_up(bases[0], group) if len(bases) == 1 else []
    return weigh(pairs, margin) if pairs else None


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
    evidence: Evidence | None  # against row 1, where it is held against it, as the next two
    verdict: str
    sentence: str


def summarise(groups: Groups, margin: float = MARGIN / 100) -> list[Summary]:
    """Returns a summary of each group; p-values are corrected over the groups shown.

    Args:
        groups: by name.
        margin: of accuracy, within which two rows are equivalent.
    """
    found = {name: held_against_base(groups, group, margin) for name, group in groups.items()}
    held = {name: evidence for name, evidence in found.items() if evidence}
    corrected = dict(zip(held, correct(list(held.values())), strict=True))
    return [summarise_group(name, group, corrected.get(name)) for name, group in groups.items()]


def summarise_group(name: str, group: list[Record], evidence: Evidence | None) -> Summary:
    """Returns what a group comes to, with the evidence on it against row 1."""
    first, shares = group[0], [accuracy(record) for record in group]
    right, total = int(is_right(first).sum()), len(first["test"]["labels"])
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
        evidence=evidence,
        verdict=evidence.verdict if evidence else "",
        sentence=sentence(evidence) if evidence else "",
    )
