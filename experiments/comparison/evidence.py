"""The comparison of designs with another one, on their shared seeds and test examples.

    found = compare_all([pair_up(first, second), pair_up(first, third)], margin=0.02)
    found[0].verdict, found[0].accuracy.crossed.interval

From three seeds on, a verdict is about other seeds and other examples. One seed compares two
models, not two designs: the exact McNemar test of accuracy, or a t test of another metric, over
distinct texts. Two seeds have no test.
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np

from experiments.comparison import statistics
from experiments.comparison.groups import names_of_pair
from experiments.comparison.names import conditions_of
from experiments.comparison.power import Outlook
from experiments.comparison.statistics import LEVEL, Crossed, Prior, can_cross, sum_by_text
from experiments.runs.records import Run

METRICS = {  # and the field of `Evidence`; their values are means over examples
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "log_loss": "log_loss",
    "brier": "brier_score",
}
VALUES = {  # of a run, one for each example
    "accuracy": "is_correct",
    "balanced_accuracy": "is_correct",
    "log_loss": "log_losses",
    "brier": "brier_scores",
}
LOSSES = ("log_loss", "brier")  # smaller is better

Pairs = Sequence[tuple[Run, Run]]


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


class Evidence(NamedTuple):
    """The comparison of two designs, second minus first."""

    names: tuple[str, str]
    conditions: str  # how both differ from published runs, if their names do not include it
    metric: str  # that verdict, p-values and power are about
    margin: float  # of this metric
    seeds: list[int]  # shared ones; of a baseline those of the other
    collapsed: tuple[list[int], list[int]]  # seeds of each whose model predicts one class only
    accuracies: tuple[list[float], list[float]]  # of each, by shared seed
    examples: int
    distinct: int | None  # texts; None if the records do not say which are the same
    only_first: int  # examples that just one classifies correctly, at the first shared seed
    only_second: int
    mcnemar: float  # p-value of these, over distinct texts
    is_identical: bool
    accuracy: Difference
    balanced_accuracy: Difference
    log_loss: Difference
    brier_score: Difference
    outlook: Outlook | None  # None if the spread of such runs is not known
    p_value: float | None  # None for two seeds
    corrected_p_value: float | None
    compared: int  # designs over which it is corrected

    @property
    def difference(self) -> Difference:
        """The difference of the metric."""
        return getattr(self, METRICS[self.metric])

    @property
    def power(self) -> Power | None:
        """What other runs of both would detect; None if that is not known."""
        return self.outlook and _power_of(self.outlook, self.difference.mean, self.examples)

    @property
    def verdict(self) -> Verdict:
        """What the comparison says."""
        if self.is_identical:
            return Verdict.IDENTICAL
        p_value = 1.0 if self.corrected_p_value is None else self.corrected_p_value
        if len(self.seeds) == 1:
            return Verdict.MODELS_DIFFER if p_value < LEVEL else Verdict.MODELS_INCONCLUSIVE
        return verdict_of(*self.difference, p_value, self.margin, self.metric)


def verdict_of(
    mean: float, crossed: Crossed | None, p_value: float, margin: float, metric: str
) -> Verdict:
    """Return what a difference over seeds and examples says."""
    if p_value < LEVEL:
        return Verdict.BETTER if (mean < 0) == (metric in LOSSES) else Verdict.WORSE
    return Verdict.EQUIVALENT if crossed and crossed.is_within(margin) else Verdict.INCONCLUSIVE


def compare_all(
    pairs_by_design: Sequence[Pairs], margin: float, metric: str = "accuracy"
) -> list[Evidence]:
    """Return the comparisons of all designs of a table.

    The seeds' variances of designs with the same data have a common prior, and p-values are
    corrected over all designs by Holm's method.
    """
    layouts = [_layouts_of(pairs) for pairs in pairs_by_design]
    by_data: dict[str, list[Layouts]] = {}
    for pairs, found in zip(pairs_by_design, layouts, strict=True):
        by_data.setdefault(pairs[0][0].data, []).extend([found] * (not _are_identical(pairs)))
    priors = {
        data: {
            name: statistics.pool_seeds([found[name].units for found in same])
            for name in METRICS.values()
        }
        for data, same in by_data.items()
    }
    evidence = [
        _compare(pairs, found, priors[pairs[0][0].data], margin, metric)
        for pairs, found in zip(pairs_by_design, layouts, strict=True)
    ]
    tested = [i for i, e in enumerate(evidence) if e.p_value is not None and not e.is_identical]
    corrected = statistics.holm([evidence[i].p_value for i in tested])
    level = LEVEL / max(1, sum(p >= LEVEL for p in corrected))  # of Holm's next test
    for i, p_value in zip(tested, corrected, strict=True):
        outlook = _outlook_of(evidence[i], layouts[i][METRICS[metric]], level)
        more = {"corrected_p_value": p_value, "compared": len(tested), "outlook": outlook}
        evidence[i] = evidence[i]._replace(**more)
    return evidence


def collapsed_seeds(runs: Sequence[Run]) -> list[int]:
    """Return the seeds of networks that predict only one of several classes."""
    networks = [run for run in runs if run.weights is not None and np.ptp(run.labels)]
    return [run.seed for run in networks if not np.ptp(run.predictions)]


# -------------------------------------------------------------------------------------- one design


class Layout(NamedTuple):
    """The differences of one metric."""

    units: np.ndarray  # (S, C) of seeds and distinct texts
    reach: float


Layouts = dict[str, Layout]  # by the field of `Evidence`


def values_of(run: Run, metric: str) -> np.ndarray:
    """Return (N,) values of the test examples, whose mean is the metric."""
    values = getattr(run, VALUES[metric]).astype(float)
    return values * _weights_of(run.labels) if metric == "balanced_accuracy" else values


def _weights_of(labels: np.ndarray) -> np.ndarray:
    """Return (N,) weights of mean 1, with which all classes count the same."""
    _, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(counts) * counts))[of_class]


def layout_of(
    contrast: np.ndarray, metric: str, labels: np.ndarray, texts: Sequence[int]
) -> Layout:
    """Return the layout of (S, N) values of a contrast of a metric."""
    weights = _weights_of(labels) if metric == "balanced_accuracy" else np.ones(len(labels))
    reach = 0.0 if metric in LOSSES else statistics.reach_of(weights, texts)
    return Layout(statistics.units_of(contrast, texts), reach)


def _layouts_of(pairs: Pairs) -> Layouts:
    labels, texts, layouts = pairs[0][0].labels, texts_of(list(chain(*pairs))), {}
    for metric, name in METRICS.items():
        differences = np.array([values_of(y, metric) - values_of(x, metric) for x, y in pairs])
        layouts[name] = layout_of(differences, metric, labels, texts)
    return layouts


def _same_text_of(runs: Iterable[Run]) -> list[int] | None:
    return next((run.test["same_text"] for run in runs if "same_text" in run.test), None)


def texts_of(runs: Sequence[Run]) -> Sequence[int]:
    """Return (N,) numbers of texts; if the records do not say, each example has its own."""
    return _same_text_of(runs) or range(len(runs[0].labels))


def _are_identical(pairs: Pairs) -> bool:
    return all(np.array_equal(x.probabilities, y.probabilities) for x, y in pairs)


def _compare(
    pairs: Pairs, layouts: Layouts, priors: dict[str, Prior], margin: float, metric: str
) -> Evidence:
    (one, other), (first, second) = pairs[0], zip(*pairs, strict=True)
    correct, same_text = other.is_correct.astype(int) - one.is_correct, _same_text_of(chain(*pairs))
    is_alike = conditions_of(one).allow(conditions_of(other))
    network = other if one.weights is None else one  # a baseline has no weights
    differences = {name: _difference(layouts[name], priors[name]) for name in layouts}
    of_texts = sum_by_text(correct[None], texts_of(list(chain(*pairs))))[0].round(9)
    mcnemar = statistics.mcnemar(int((of_texts < 0).sum()), int((of_texts > 0).sum()))
    p_value = _p_value_of(layouts, differences, metric, mcnemar)
    return Evidence(
        names=names_of_pair(one, other),
        conditions=", ".join(conditions_of(network).deviations) if is_alike else "",
        metric=metric,
        margin=margin,
        seeds=[(y if x.weights is None else x).seed for x, y in pairs],
        collapsed=(collapsed_seeds(first), collapsed_seeds(second)),
        accuracies=([float(x.is_correct.mean()) for x in first],
                    [float(y.is_correct.mean()) for y in second]),
        examples=len(correct),
        distinct=len(set(same_text)) if same_text else None,
        only_first=int((correct < 0).sum()),
        only_second=int((correct > 0).sum()),
        mcnemar=mcnemar,
        is_identical=_are_identical(pairs),
        **differences,
        outlook=None,
        p_value=p_value,
        corrected_p_value=p_value,
        compared=1,
    )  # fmt: skip


def _difference(layout: Layout, prior: Prior) -> Difference:
    units, reach = layout
    is_known = can_cross(units) and (reach or units.any())
    return Difference(
        float(units.mean()), statistics.cross(units, prior, reach) if is_known else None
    )


def _p_value_of(
    layouts: Layouts, differences: dict[str, Difference], metric: str, of_texts: float
) -> float | None:
    (units, reach), crossed = layouts[METRICS[metric]], differences[METRICS[metric]].crossed
    if len(units) == 1 and metric != "accuracy":
        return statistics.p_value_of_one_seed(units, reach) if units.shape[1] > 1 else None
    if len(units) == 1:
        return of_texts
    if crossed and metric == "accuracy" and not np.ptp(units, axis=0).any():
        return max(crossed.p_value, of_texts)  # equal seeds are no more certain than one
    return crossed.p_value if crossed else None


def _outlook_of(evidence: Evidence, layout: Layout, level: float) -> Outlook | None:
    (units, reach), (S, C) = layout, layout.units.shape
    crossed = evidence.difference.crossed
    if C == 1 or not (S == 1 or crossed):
        return None
    means = tuple(float(np.mean(values)) for values in evidence.accuracies)
    return Outlook(
        crossed.spread if crossed else statistics.spread_of(units, reach=reach),
        level,
        S,
        C,
        reach or 1.0,
        means if evidence.metric == "accuracy" else None,
    )


@cache
def _power_of(outlook: Outlook, mean: float, examples: int) -> Power | None:
    """Return the power at an observed mean difference; it takes a tenth of a second."""
    worse, better = outlook.detectable(-1), outlook.detectable(1)
    if worse is None and better is None:
        return None
    texts = outlook.examples_needed(mean)
    return Power(
        worse=worse,
        better=better,
        seeds=outlook.seeds_needed(mean) if outlook.seeds > 1 else None,
        examples=None if texts is None else math.ceil(texts * examples / outlook.examples),
    )
