"""The power of other runs of two designs: what they detect, and how many runs detect a difference.

A difference of accuracies changes its own spread: a design that is worse by 3 points errs on other
examples, too, and one that is better on fewer. So correctness has a model, which is fitted to the
components of variance of some runs, and predicts those of another difference.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from experiments.comparison.statistics import Components, Spread

POWER = 0.8
MOST = 10**7  # seeds or examples that are considered

_ABOVE = float(special.ndtri(POWER))
_NORMAL = special.ndtri((np.arange(400) + 0.5) / 400)
_NORMALS = special.ndtri(stats.qmc.Halton(3, scramble=False).random(2049)[1:]).T  # (3, 2048)


# ----------------------------------------------------------------------------------- correctness


class Probit(NamedTuple):
    """A model of two designs: correct if a sum of normal effects is below what sets the accuracy.

    The sum has variance 1, of which these are shares. The rest is noise.
    """

    seed: float  # of the seed, on all examples
    example: float  # of the example, with all seeds
    both: float  # of the example, with all seeds of both designs

    def components(self, first: float, second: float) -> Components:
        """Return the components of variance of a difference of two accuracies."""
        seeds, examples = (
            sum(_covariance(a, a, share) for a in (first, second))
            for share in (self.seed, self.example)
        )
        rest = first * (1 - first) + second * (1 - second) - examples - seeds
        examples -= 2 * _covariance(first, second, self.both)
        return Components(seeds, max(0.0, examples), max(0.0, rest))

    def moments(self, first: float, second: float, seeds: int) -> tuple[float, float, float]:
        """Return the second to fourth central moment of the mean over seeds of an example."""
        both = math.sqrt(self.both) * _NORMALS[0]
        p, q = (
            _chance(accuracy, self.example, both + math.sqrt(self.example - self.both) * normal)
            for accuracy, normal in zip((first, second), _NORMALS[1:], strict=True)
        )
        mean, v, w = q - p - (second - first), p * (1 - p), q * (1 - q)
        # Cumulants of the noise, a sum of differences of Bernoulli variables.
        k2, k3 = (v + w) / seeds, (w * (1 - 2 * q) - v * (1 - 2 * p)) / seeds**2
        k4 = (v * (1 - 6 * v) + w * (1 - 6 * w)) / seeds**3
        fourth = mean**4 + 6 * mean**2 * k2 + 4 * mean * k3 + 3 * k2**2 + k4
        moments = mean**2 + k2, mean**3 + 3 * mean * k2 + k3, fourth
        return tuple(float(moment.mean()) for moment in moments)


@cache
def fit_probit(components: Components, first: float, second: float) -> Probit:
    """Return the model in which a difference of two accuracies has these components."""

    def covariances(share: float) -> float:
        return _covariance(first, first, share) + _covariance(second, second, share)

    variance = first * (1 - first) + second * (1 - second)
    example = _share_with(covariances, variance - components.rest - components.seeds)
    shared = (covariances(example) - components.examples) / 2
    both = _share_with(lambda share: _covariance(first, second, share), shared)
    return Probit(_share_with(covariances, components.seeds), example, min(both, example))


def _share_with(covariance: Callable[[float], float], value: float) -> float:
    """Return the share of an effect with a covariance, or the nearest one from 0 to 1."""
    least, most = 0.0, 0.999
    if covariance(most) <= value:
        return most
    below = covariance(least) < value
    return optimize.brentq(lambda share: covariance(share) - value, least, most) if below else least


def _covariance(first: float, second: float, share: float) -> float:
    """Return the covariance of two correct answers that share an effect."""
    p, q = (_chance(accuracy, share, math.sqrt(share) * _NORMAL) for accuracy in (first, second))
    return float((p * q).mean()) - first * second


def _chance(accuracy: float, share: float, effect: np.ndarray) -> np.ndarray:
    """Return the probability of a correct answer, given an effect with this share."""
    return special.ndtr((special.ndtri(accuracy) - effect) / math.sqrt(1 - share))


# ----------------------------------------------------------------------------------------- power


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

        None if not even a second accuracy of 1, or of 0, is found.
        """

        def excess(size: float) -> float:
            return size - self._found_at(sign * size, self.seeds, self.examples)

        if self.accuracies is None:  # the same for all differences
            return self._found_at(0.0, self.seeds, self.examples)
        most = 1 - self.accuracies[0] if sign > 0 else self.accuracies[0]
        return optimize.brentq(excess, 0.0, most, xtol=1e-6) if excess(most) >= 0 else None

    def seeds_needed(self, difference: float) -> int | None:
        """Return how many seeds, not fewer than now, detect a difference, or None."""
        found = partial(self._found_at, difference, examples=self.examples)
        return _fewest(found, difference, self.seeds)

    def examples_needed(self, difference: float) -> int | None:
        """Return how many examples, not fewer than now, detect a difference, or None."""
        return _fewest(partial(self._found_at, difference, self.seeds), difference, self.examples)

    def _found_at(self, difference: float, seeds: int, examples: int) -> float:
        """Return what is found with a power of 80 % if the spread is that of a difference.

        The threshold of the test is estimated from the same runs. It is high by chance if seeds
        differ by chance, or if many examples do, which changes the mean as well.
        """
        components, (second, third, fourth), reach = self._predict(difference, seeds)
        prior = self.spread.prior
        true = Spread(components, prior, 0.0).error(seeds, examples)
        test = Spread(components, prior, reach).error(seeds, examples)
        if prior.degrees:  # the variance is in part that of other designs
            own = components.seeds + components.rest / examples
            test = test._replace(seeds=prior.with_one(own).moderate(own, seeds - 1) / seeds)
        threshold, variance = test.quantile(self.level / 2), test.seeds + test.examples
        if not variance:
            return 0.0
        of_seeds = threshold * max(0.0, test.seeds - test.least) / variance
        slope = threshold / (2 * variance * examples)  # by the variance of an example
        of_examples = slope**2 * (fourth - second**2) - 2 * slope * np.sign(difference) * third
        chance = of_seeds**2 / (2 * max(1, seeds - 1)) + of_examples / examples
        return threshold + _ABOVE * math.sqrt(max(0.0, true.seeds + true.examples + chance))

    def _predict(
        self, difference: float, seeds: int
    ) -> tuple[Components, tuple[float, float, float], float]:
        """Return components, moments of an example's mean over seeds, and the reach of a test."""
        if self.accuracies is None:
            components = self.spread.components
            second = components.examples + components.rest / seeds
            return components, (second, 0.0, 3 * second**2), self.spread.reach
        first, observed, other = np.clip(
            [*self.accuracies, self.accuracies[0] + difference], 1e-3, 1 - 1e-3
        )
        scaled = Components(*(value / self.reach**2 for value in self.spread.components))
        model = fit_probit(scaled, first, observed)
        components = [value * self.reach**2 for value in model.components(first, other)]
        if self.seeds == 1:  # the difference of two models, which has no part of seeds
            components = [0.0, sum(components), 0.0]
        second, third, fourth = (
            moment * self.reach**power
            for power, moment in enumerate(model.moments(first, other, seeds), start=2)
        )
        reach = math.sqrt(fourth / second) if second else self.spread.reach
        return Components(*components), (second, third, fourth), reach


def _fewest(found: Callable[[int], float], difference: float, start: int) -> int | None:
    numbers = range(start, MOST + 1)
    place = bisect_left(numbers, True, key=lambda n: found(n) <= abs(difference))
    return numbers[place] if place < len(numbers) else None
