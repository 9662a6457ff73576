"""The comparison of designs with another one, on their shared seeds and test examples.

    found = compare_all([pair_up(first, second), pair_up(first, third)], margin=0.02)
    found[0].verdict, found[0].difference.crossed.interval

From three seeds on, a verdict is about other seeds and other examples. One seed compares two
models, not two designs: the exact McNemar test of accuracy, or a t test of another metric, over
distinct texts. Two seeds have no test.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from experiments.comparison import statistics
from experiments.comparison.groups import names_of_pair
from experiments.comparison.metrics import ACCURACY, METRICS, Metric
from experiments.comparison.names import conditions_of
from experiments.comparison.power import Outlook
from experiments.comparison.statistics import LEVEL, Crossed, Prior, can_cross, sum_by_text
from experiments.runs.records import Run

Pairs = Sequence[tuple[Run, Run]]


# ------------------------------------------------------------------------------ values of examples


class Layout(NamedTuple):
    """The differences of one metric."""

    units: np.ndarray  # (S, C) of seeds and distinct texts
    reach: float


Layouts = dict[str, Layout]  # by metric


def values_of(run: Run, metric: Metric) -> np.ndarray:
    """Return (N,) values of the test examples, whose mean is the metric."""
    return getattr(run, metric.values) * _weights_of(run.labels, metric)


def _weights_of(labels: np.ndarray, metric: Metric) -> np.ndarray:
    """Return (N,) weights of mean 1: of balanced accuracy, so that all classes count the same."""
    if metric.name != "balanced_accuracy":
        return np.ones(len(labels))
    _, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(counts) * counts))[of_class]


def layout_of(
    contrast: np.ndarray, metric: Metric, labels: np.ndarray, texts: Sequence[int]
) -> Layout:
    """Return the layout of (S, N) values of a contrast of a metric."""
    reach = 0.0 if metric.is_loss else statistics.reach_of(_weights_of(labels, metric), texts)
    return Layout(statistics.units_of(contrast, texts), reach)


def _layouts_of(pairs: Pairs) -> Layouts:
    labels, texts, layouts = pairs[0][0].labels, texts_of(chain(*pairs)), {}
    for name, metric in METRICS.items():
        differences = np.array([values_of(y, metric) - values_of(x, metric) for x, y in pairs])
        layouts[name] = layout_of(differences, metric, labels, texts)
    return layouts


def texts_of(runs: Iterable[Run]) -> Sequence[int]:
    """Return (N,) numbers of texts; if no record says, a range: each example has its own."""
    runs = list(runs)
    own = range(len(runs[0].labels))
    return next((run.test["same_text"] for run in runs if "same_text" in run.test), own)


def are_identical(pairs: Iterable[tuple[Run, Run]]) -> bool:
    """Return whether all probabilities of the runs of each pair are the same."""
    return all(np.array_equal(x.probabilities, y.probabilities) for x, y in pairs)


# ------------------------------------------------------------------------------------- comparisons


class Verdict(StrEnum):
    """What a comparison says of the second design, or of two models."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    IDENTICAL = "identical"  # every probability of every seed is the same
    INCONCLUSIVE = "inconclusive"
    MODELS_DIFFER = "these two models differ"  # of one seed, which says nothing about designs
    MODELS_INCONCLUSIVE = "inconclusive for these two models"

    @property
    def is_directed(self) -> bool:
        """Whether one design is better than the other."""
        return self in (Verdict.BETTER, Verdict.WORSE)

    @property
    def is_inconclusive(self) -> bool:
        """Whether it needs more runs."""
        return self in (Verdict.INCONCLUSIVE, Verdict.MODELS_INCONCLUSIVE)


class Difference(NamedTuple):
    """A mean over shared seeds and examples, second minus first."""

    mean: float
    crossed: Crossed | None  # over other seeds and examples; None if there are too few


class Power(NamedTuple):
    """What as many seeds and examples detect with 80 %, and how many detect the observed mean."""

    worse: float | None  # minimum detectable difference; None if none is possible, as the next
    better: float | None
    seeds: int | None
    examples: int | None

    @property
    def detectable(self) -> float:
        """The minimum detectable difference in both directions, or in the one possible."""
        return max(value for value in (self.worse, self.better) if value is not None)

    @property
    def needed(self) -> str:
        """The numbers of seeds and of examples that detect the observed difference."""
        counts = (self.seeds, "seeds"), (self.examples, "examples")
        return " or ".join(f"{number:,} {what}" for number, what in counts if number is not None)


@dataclass(eq=False)
class Evidence:
    """The comparison of two designs, second minus first."""

    pairs: Pairs  # the runs of the shared seeds
    metric: Metric  # that verdict, p-values and power are about
    margin: float  # of this metric
    layout: Layout  # of this metric
    differences: dict[str, Difference]  # by metric
    compared: int = 1  # designs over which the p-value is corrected
    level: float | None = None  # of each test, so corrected; None if nothing is tested
    corrected_p_value: float | None = field(init=False)

    names = property(lambda self: names_of_pair(*self.pairs[0]))
    seeds = property(lambda self: [(y if x.is_baseline else x).seed for x, y in self.pairs])
    examples = property(lambda self: len(self.pairs[0][0].labels))
    difference = property(lambda self: self.differences[self.metric.name])
    is_identical = cached_property(lambda self: are_identical(self.pairs))

    def __post_init__(self) -> None:
        self.corrected_p_value = self.p_value

    @cached_property
    def conditions(self) -> str:
        """How both differ from published runs, if their names do not include it."""
        one, other = self.pairs[0]
        network = other if one.is_baseline else one
        is_alike = conditions_of(one).allow(conditions_of(other))
        return ", ".join(conditions_of(network).deviations) if is_alike else ""

    @cached_property
    def distinct(self) -> int | None:
        """The number of distinct texts; None if the records do not say which are the same."""
        texts = texts_of(chain(*self.pairs))
        return None if isinstance(texts, range) else len(set(texts))

    @cached_property
    def only_correct(self) -> tuple[int, int]:
        """How many examples just one of the two classifies correctly, at the first shared seed."""
        one, other = (run.is_correct for run in self.pairs[0])
        return int((one & ~other).sum()), int((other & ~one).sum())

    @cached_property
    def p_value(self) -> float | None:
        """The p-value of the difference; None for two seeds."""
        (units, reach), crossed = self.layout, self.difference.crossed
        if len(units) == 1 and self.metric == ACCURACY:
            return _mcnemar_of(self.pairs)
        if len(units) == 1:
            return statistics.p_value_of_one_seed(units, reach) if units.shape[1] > 1 else None
        if crossed and self.metric == ACCURACY and not np.ptp(units, axis=0).any():
            return max(crossed.p_value, _mcnemar_of(self.pairs))  # equal seeds add no certainty
        return crossed.p_value if crossed else None

    @cached_property
    def power(self) -> Power | None:
        """What other runs of both would detect, which takes a tenth of a second to compute."""
        (units, reach), (mean, crossed) = self.layout, self.difference
        S, C = units.shape
        if self.level is None or C == 1 or not (S == 1 or crossed):
            return None
        spread = crossed.spread if crossed else statistics.spread_of(units, reach=reach)
        accuracies = None
        if self.metric == ACCURACY:
            of_both = zip(*self.pairs, strict=True)
            accuracies = tuple(float(np.mean([r.is_correct.mean() for r in of])) for of in of_both)
        outlook = Outlook(spread, self.level, S, C, reach or 1.0, accuracies)
        worse, better = outlook.detectable(-1), outlook.detectable(1)
        if worse is None and better is None:
            return None
        texts = outlook.examples_needed(mean)
        return Power(
            worse=worse,
            better=better,
            seeds=outlook.seeds_needed(mean) if S > 1 else None,
            examples=None if texts is None else math.ceil(texts * self.examples / C),
        )

    @property
    def verdict(self) -> Verdict:
        """What the comparison says."""
        if self.is_identical:
            return Verdict.IDENTICAL
        p_value = 1.0 if self.corrected_p_value is None else self.corrected_p_value
        if len(self.seeds) == 1:
            return Verdict.MODELS_DIFFER if p_value < LEVEL else Verdict.MODELS_INCONCLUSIVE
        return verdict_of(self.difference, p_value, self.margin, self.metric)


def verdict_of(difference: Difference, p_value: float, margin: float, metric: Metric) -> Verdict:
    """Return what a difference over seeds and examples says."""
    mean, crossed = difference
    if p_value < LEVEL:
        return Verdict.BETTER if (mean < 0) == metric.is_loss else Verdict.WORSE
    return Verdict.EQUIVALENT if crossed and crossed.is_within(margin) else Verdict.INCONCLUSIVE


def compare_all(
    pairs_by_design: Sequence[Pairs], margin: float, metric: Metric = ACCURACY
) -> list[Evidence]:
    """Return the comparisons of all designs of a table.

    The seeds' variances of designs with the same data have a common prior, and p-values are
    corrected over all designs by Holm's method.
    """
    layouts = [_layouts_of(pairs) for pairs in pairs_by_design]
    by_data: dict[str, list[Layouts]] = {}
    for pairs, found in zip(pairs_by_design, layouts, strict=True):
        by_data.setdefault(pairs[0][0].data, []).extend([found] * (not are_identical(pairs)))
    priors = {
        data: {name: statistics.pool_seeds([found[name].units for found in same])
               for name in METRICS}
        for data, same in by_data.items()
    }  # fmt: skip
    evidence = []
    for pairs, found in zip(pairs_by_design, layouts, strict=True):
        of_data = priors[pairs[0][0].data]
        differences = {name: _difference(found[name], of_data[name]) for name in METRICS}
        evidence.append(Evidence(pairs, metric, margin, found[metric.name], differences))
    tested = [e for e in evidence if e.p_value is not None and not e.is_identical]
    corrected = statistics.holm([e.p_value for e in tested])
    level = LEVEL / max(1, sum(p >= LEVEL for p in corrected))  # of Holm's next test
    for e, p_value in zip(tested, corrected, strict=True):
        e.corrected_p_value, e.compared, e.level = p_value, len(tested), level
    return evidence


def _difference(layout: Layout, prior: Prior) -> Difference:
    units, reach = layout
    is_known = can_cross(units) and (reach or units.any())
    return Difference(
        float(units.mean()), statistics.cross(units, prior, reach) if is_known else None
    )


def _mcnemar_of(pairs: Pairs) -> float:
    """Return the exact p-value of the distinct texts on which the first pair differs."""
    one, other = (run.is_correct.astype(int) for run in pairs[0])
    of_texts = sum_by_text((other - one)[None], texts_of(chain(*pairs)))[0].round(9)
    return statistics.mcnemar(int((of_texts < 0).sum()), int((of_texts > 0).sum()))
