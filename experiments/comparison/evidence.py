"""The comparison of two groups of runs on their shared seeds and test examples.

    evidence = compare(pair_up(first, second), margin=0.01)
    evidence.verdict, evidence.accuracy.crossed.interval

From three seeds on, a verdict is about other seeds and other examples. One seed has the exact
McNemar test on the examples that just one of the two classifies correctly; it is about this seed
only. Two seeds say nothing about others, and have no test.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison import statistics
from experiments.comparison.groups import names_of_pair
from experiments.comparison.names import conditions_of
from experiments.runs.records import Run

BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "better", "worse", "equivalent", "inconclusive"

Pairs = Sequence[tuple[Run, Run]]


class Difference(NamedTuple):
    """A mean over shared seeds and examples, second minus first."""

    mean: float
    crossed: statistics.Crossed | None  # over other seeds and examples; None if there are too few


class Power(NamedTuple):
    """What so many seeds and examples can detect, and how many detect the observed difference."""

    detectable: float  # minimum detectable difference
    seeds: int | None  # None if no number is enough, as the next
    examples: int | None


class Evidence(NamedTuple):
    """The comparison of two groups, second minus first."""

    names: tuple[str, str]
    conditions: str  # how both differ from published runs, if their names do not include it
    margin: float
    seeds: list[int]  # shared ones; of a baseline those of the other
    examples: int
    distinct: int | None  # examples; None if the records do not say which have the same text
    only_first: int  # examples that just one classifies correctly, at the first shared seed
    only_second: int
    mcnemar: float  # p-value of these
    accuracy: Difference
    log_loss: Difference
    brier_score: Difference
    power: Power | None
    p_value: float | None  # None for two seeds
    corrected_p_value: float | None
    compared: int  # rows over which it is corrected

    @property
    def verdict(self) -> str:
        """BETTER, WORSE, EQUIVALENT or INCONCLUSIVE, of the second group."""
        if self.corrected_p_value is not None and self.corrected_p_value < statistics.LEVEL:
            return BETTER if self.accuracy.mean > 0 else WORSE
        return EQUIVALENT if self.is_within_margin else INCONCLUSIVE

    @property
    def is_within_margin(self) -> bool:
        """Whether two one-sided tests at 5 % are significant."""
        crossed = self.accuracy.crossed
        return crossed is not None and max(map(abs, crossed.equivalence)) < self.margin


def compare(pairs: Pairs, margin: float) -> Evidence:
    """Return the comparison of the groups that `pair_up` paired; the margin is of accuracy."""
    one, other = pairs[0]
    correct = _differences(pairs, "is_correct")  # (S, N)
    tests = (run.test for pair in pairs for run in pair)
    known = next((test["same_text"] for test in tests if "same_text" in test), None)  # (N,)
    clusters = known or range(correct.shape[1])
    units = statistics.units_of(correct, clusters)
    crossed = statistics.cross(units) if statistics.can_cross(units) else None
    only_first, only_second = int((correct[0] < 0).sum()), int((correct[0] > 0).sum())
    of_first_seed = statistics.mcnemar(only_first, only_second)
    of_many_seeds = crossed.p_value if crossed else None
    p_value = of_first_seed if len(pairs) == 1 else of_many_seeds
    network = other if one.weights is None else one  # a baseline has no weights
    is_alike = conditions_of(one).allow(conditions_of(other))
    return Evidence(
        names=names_of_pair(one, other),
        conditions=", ".join(conditions_of(network).deviations) if is_alike else "",
        margin=margin,
        seeds=[(y if x.is_baseline else x).seed for x, y in pairs],
        examples=correct.shape[1],
        distinct=len(set(known)) if known else None,
        only_first=only_first,
        only_second=only_second,
        mcnemar=of_first_seed,
        accuracy=Difference(float(correct.mean()), crossed),
        log_loss=_difference_of_losses(pairs, "log_losses", clusters),
        brier_score=_difference_of_losses(pairs, "brier_scores", clusters),
        power=_power_of(units, correct.shape[1]),
        p_value=p_value,
        corrected_p_value=p_value,
        compared=1,
    )


def correct_p_values(found: Sequence[Evidence]) -> list[Evidence]:
    """Return comparisons of several rows with p-values corrected over them by Holm's method."""
    tested = [evidence for evidence in found if evidence.p_value is not None]
    corrected = iter(statistics.holm([evidence.p_value for evidence in tested]))
    return [
        evidence
        if evidence.p_value is None
        else evidence._replace(corrected_p_value=next(corrected), compared=len(tested))
        for evidence in found
    ]


def _differences(pairs: Pairs, values: str) -> np.ndarray:
    """Return (S, N): what the second run of each pair has on each example, minus the first's."""
    return np.array([getattr(y, values).astype(float) - getattr(x, values) for x, y in pairs])


def _difference_of_losses(pairs: Pairs, losses: str, clusters: Sequence[int]) -> Difference:
    found = _differences(pairs, losses)
    units = statistics.units_of(found, clusters)
    is_known = found.any() and statistics.can_cross(units)
    return Difference(float(found.mean()), statistics.cross(units) if is_known else None)


def _power_of(units: np.ndarray, examples: int) -> Power | None:
    """Return the power of (S, C) units of accuracy; None if their spread is not known."""
    S, C = units.shape
    if not units.any() or C == 1 or not (S == 1 or statistics.can_cross(units)):
        return None
    components, mean = statistics.components_of(units), float(units.mean())
    distinct = statistics.examples_needed(components, mean, S)
    return Power(
        detectable=statistics.detectable_difference(components, S, C),
        seeds=statistics.seeds_needed(components, mean, C) if S > 1 else None,
        examples=None if distinct is None else math.ceil(distinct * examples / C),
    )
