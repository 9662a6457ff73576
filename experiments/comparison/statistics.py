"""Intervals and tests of counts; knows nothing of rows and records.

Sources: Wilson 1927, J. Am. Stat. Assoc. 22; McNemar 1947, Psychometrika 12; Holm 1979, Scand. J.
Stat. 6. Intervals and binomial tests are SciPy's.
"""

from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

LEVEL = 0.05  # of a test; intervals hold 95 %


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
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values corrected by Holm's step-down method, in the same order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def pairing_limits(first: int, second: int, total: int) -> Interval:
    """Returns the smallest and largest p-value that two counts allow, whoever erred where.

    The published table holds counts, but not which messages were wrong. The errors overlap at most
    where all of the better one's are the worse one's too, and at least where they can avoid it.
    """
    more, fewer = max(first, second), min(first, second)
    difference, most = more - fewer, min(total - more, fewer)
    return Interval(mcnemar(difference, 0), mcnemar(difference + most, most))
