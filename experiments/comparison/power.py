"""The power of other runs of two designs: what they detect, and how many runs detect a difference.

The correctness of one design changes with its accuracy, and the spread of a difference with it: a
design that is worse by 3 points has more errors than one that is better by 3 points. So the spread
is that of the difference asked about.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.comparison.statistics import Components, Spread

POWER = 0.8
MOST = 10**7  # seeds or examples that are considered


class Outlook(NamedTuple):
    """The power of other runs of two designs, estimated from the spread of some runs."""

    spread: Spread
    level: float  # of the test, corrected for several designs
    seeds: int  # of these runs, as the next
    examples: int
    reach: float = 1.0  # of a text of ordinary size
    accuracies: tuple[float, float] | None = None  # None for values whose spread does not change

    def detectable(self, sign: int) -> float | None:
        """Return the smallest true difference with this sign that is found with a power of 80 %.

        None if the second accuracy would be above 1 or below 0.
        """
        found = 0.0
        for _ in range(20):  # the spread depends on the difference
            last, found = found, self._found_at(sign * found, self.seeds, self.examples)
            if self.accuracies and not 0 <= self.accuracies[0] + sign * found <= 1:
                return None
            if abs(found - last) < 1e-4 * found:
                break
        return found

    def seeds_needed(self, difference: float) -> int | None:
        """Return how many seeds, not fewer than now, detect a difference, or None."""
        found = partial(self._found_at, difference, examples=self.examples)
        return _fewest(found, difference, self.seeds)

    def examples_needed(self, difference: float) -> int | None:
        """Return how many examples, not fewer than now, detect a difference, or None."""
        return _fewest(partial(self._found_at, difference, self.seeds), difference, self.examples)

    def _found_at(self, difference: float, seeds: int, examples: int) -> float:
        """Return what is found with a power of 80 % if the spread is that of a difference.

        It is 0.84 standard deviations above the threshold, which is itself random.
        """
        of_seeds, of_rest, reach = self._ratios(difference)
        components = Components(*np.multiply(self.spread.components, (of_seeds, of_rest, of_rest)))
        true = Spread(components, self.spread.prior_degrees, 0.0).error(seeds, examples)
        test = Spread(components, self.spread.prior_degrees, reach).error(seeds, examples)
        if self.spread.prior_degrees:  # the variance is in part that of other designs
            own, now = (seeds - 1) / test.degrees, self.spread.error(seeds, examples).seeds
            test = test._replace(seeds=own * test.seeds + (1 - own) * now)
        threshold, variance = test.quantile(self.level / 2), test.seeds + test.examples
        random = 0.0
        if test.seeds:
            random = (threshold * test.seeds / variance) ** 2 / (2 * test.degrees)
        return threshold + _ABOVE * math.sqrt(true.seeds + true.examples + random)

    def _ratios(self, difference: float) -> tuple[float, float, float]:
        """Return the factors of the seeds' and the other components, and the reach.

        Correctness has the variance a (1 - a); the correlation of both designs stays the same. A
        seed shifts the normal quantile of the accuracy, so that its effect is that of the density.
        """
        if self.accuracies is None:
            return 1.0, 1.0, self.spread.reach
        seeds, examples, rest = self.spread.components
        one, observed = np.clip(self.accuracies, 1e-3, 1 - 1e-3)
        other = min(max(one + difference, 1e-3), 1 - 1e-3)
        v, before, after = one * (1 - one), observed * (1 - observed), other * (1 - other)
        total = (seeds + examples + rest) / self.reach**2 or 1e-9
        correlation = min(1.0, max(0.0, (v + before - total) / (2 * math.sqrt(v * before))))
        new = max(v + after - 2 * correlation * math.sqrt(v * after), abs(difference))
        of_seeds = (_density(one) + _density(other)) / (_density(one) + _density(observed))
        of_examples, shift = examples + rest / self.seeds, abs(difference)
        reach = self.spread.reach
        if reach and of_examples + shift:  # more examples differ, with most of the seeds
            size = (self.reach + reach) / 2
            added = shift * self.reach * size
            squares = of_examples * reach**2 + added * size**2
            reach = math.sqrt(squares / (of_examples + added))
        return of_seeds, new / total, reach


_ABOVE = float(stats.norm.ppf(POWER))


def _fewest(found: Callable[[int], float], difference: float, start: int) -> int | None:
    numbers = range(start, MOST + 1)
    place = bisect_left(numbers, True, key=lambda n: found(n) <= abs(difference))
    return numbers[place] if place < len(numbers) else None


def _density(accuracy: float) -> float:
    return float(stats.norm.pdf(stats.norm.ppf(accuracy))) ** 2
