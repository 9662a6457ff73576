"""Intervals and tests of shares, seeds and messages; knows nothing of rows and records.

Sources: Wilson 1927, J. Am. Stat. Assoc. 22; McNemar 1947, Psychometrika 12; Holm 1979, Scand. J.
Stat. 6. Intervals and binomial tests are SciPy's.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # of a test; intervals hold 95 %
DRAWS = 10_000  # of the bootstrap


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float


def wilson_interval(count: int, total: int) -> Interval:
    """Returns Wilson's 95 % interval of a share."""
    found = stats.binomtest(count, total).proportion_ci(1 - LEVEL, method="wilson")
    return Interval(found.low, found.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the exact two-sided p-value of as many messages that just one of two gets right."""
    discordant = only_first + only_second
    return stats.binomtest(only_first, discordant).pvalue if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values corrected by Holm's step-down method, in the same order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def t_interval(values: Sequence[float]) -> Interval:
    """Returns the 95 % interval of a mean by Student's t; without limits for less than two."""
    if len(values) < 2:
        return Interval(-math.inf, math.inf)
    half = stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * np.std(values, ddof=1)
    half /= math.sqrt(len(values))
    return Interval(float(np.mean(values) - half), float(np.mean(values) + half))


def bootstrap_interval(differences: np.ndarray, seed: int = 0) -> Interval:
    """Returns the 95 % interval of a mean over messages, by drawing as many anew (percentiles).

    Args:
        differences: (N,), one a message.
        seed: of the draws.
    """
    draws = np.random.default_rng(seed).integers(len(differences), size=(DRAWS, len(differences)))
    means = differences[draws].mean(axis=1)  # (DRAWS,)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return Interval(float(low), float(high))


def verdict(p_value: float, difference: float) -> str:
    """Returns a test's outcome in words."""
    if p_value >= LEVEL or difference == 0:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def pairing_limits(first: int, second: int, total: int) -> Interval:
    """Returns the smallest and largest p-value that two counts allow, whoever erred where.

    The published table holds counts, but not which messages were wrong. The errors overlap at most
    where all of the better one's are the worse one's too, and at least where they can avoid it.
    """
    more, fewer = max(first, second), min(first, second)
    difference, most = more - fewer, min(total - more, fewer)
    return Interval(mcnemar(difference, 0), mcnemar(difference + most, most))
