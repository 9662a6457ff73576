"""Statistics of paired classifiers; knows no designs and no records.

    cross(units_of(differences, clusters), reach=1.0).interval  # (S, N), of several seeds

Two designs are trained with the same S seeds and tested on the same N examples. Their differences
(S, N), or any other contrast of per-example values, are a balanced two-way layout: the components
of variance are those of seeds, of examples, and the rest, which is their interaction. The mean has
the variance (seeds + rest / N) / S + examples / N. The two parts are treated differently:

1. *Seeds.* Their part is estimated from few seeds. Its uncertainty is integrated out: the error of
   the mean is a sum of two t variables (Behrens and Fisher), because degrees of freedom that are
   estimated jump where the seeds agree by chance. Several designs have a common prior of this part
   (empirical Bayes), so that many comparisons do not select the smallest estimates.
2. *Examples.* Where few examples differ, the test set lacks others by chance. So many missing ones
   are added to the variance that the interval is as wide as the exact one if no example differs.

Sources: Wilson 1927, J. Am. Stat. Assoc. 22; McNemar 1947, Psychometrika 12; Holm 1979, Scand. J.
Stat. 6; Fisher 1935, Ann. Eugenics 6, and Robinson 1976, Ann. Stat. 4 (two t variables); Smyth
2004, Stat. Appl. Genet. Mol. Biol. 3 (prior of variances); Bonett & Price 2012, J. Educ. Behav.
Stat. 37 (added examples); Satterthwaite 1946, Biometrics Bulletin 2; Miller 2024, "Adding Error
Bars to Evals", arXiv 2411.00640 (clusters, paired differences).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

LEVEL = 0.05  # of a test; intervals contain 95 %
MIN_SEEDS = 3  # fewer say nothing about other seeds
MISSING = 10 / 3  # examples added: 1.645 * sqrt(10 / 3) = 3.0, as 1 - 0.05^(1 / N) is 3.0 / N


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float


# ------------------------------------------------------------------------------------------ counts


def wilson_interval(count: int, total: int) -> Interval:
    """Return Wilson's 95 % interval of a proportion."""
    found = stats.binomtest(count, total).proportion_ci(1 - LEVEL, method="wilson")
    return Interval(found.low, found.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of examples that just one of two classifies correctly."""
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's step-down method, in the same order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def pairing_limits(first: int, second: int, total: int) -> Interval:
    """Return the smallest and largest p-value that two counts of correct examples allow.

    The first is that of errors which overlap as much as they can, the second as little.
    """
    more, fewer = max(first, second), min(first, second)
    difference, most = more - fewer, min(total - more, fewer)
    return Interval(mcnemar(difference, 0), mcnemar(difference + most, most))


# ------------------------------------------------------------------------------ the two-way layout


class Components(NamedTuple):
    """Components of the variance of a difference; none is below 0."""

    seeds: float
    examples: float
    rest: float  # interaction of seed and example, and noise

    def parts(self, seeds: int, examples: int) -> tuple[float, float, float]:
        """Return the variance of a mean over so many seeds and examples, by component."""
        return self.seeds / seeds, self.examples / examples, self.rest / (seeds * examples)


def units_of(differences: np.ndarray, clusters: Sequence[int]) -> np.ndarray:
    """Return (S, C) values of (S, N) differences, whose examples with the same text are clusters.

    Clusters of unequal size count by their size: each has the sum of the deviations of its examples
    from the mean, as in robust standard errors. `clusters` are (N,).
    """
    mean = differences.mean()
    return mean + sum_by_text(differences - mean, clusters)


def sum_by_text(values: np.ndarray, clusters: Sequence[int]) -> np.ndarray:
    """Return (S, C) sums of (S, N) values by cluster, times C / N; they have the same mean."""
    _, place = np.unique(np.asarray(clusters), return_inverse=True)  # (N,)
    sums = np.array([np.bincount(place, weights=row) for row in values])
    return sums * sums.shape[1] / len(place)


def components_of(units: np.ndarray) -> Components:
    """Return the components of variance of (S, C) units; of one seed, those of its examples."""
    S, C = units.shape
    of_seeds, of_examples = units.mean(axis=1), units.mean(axis=0)
    if S == 1:
        return Components(0.0, float(of_examples.var(ddof=1)), 0.0)
    effects = units - of_seeds[:, None] - of_examples + units.mean()
    rest = float(np.square(effects).sum()) / ((S - 1) * (C - 1))
    seeds = float(of_seeds.var(ddof=1)) - rest / C
    examples = float(of_examples.var(ddof=1)) - rest / S
    return Components(max(0.0, seeds), max(0.0, examples), rest)


class Prior(NamedTuple):
    """What the designs of an analysis say about the variance of one's seeds' means."""

    variance: float  # mean over designs
    degrees: float  # that it is worth; 0 if the designs have nothing in common
    designs: int

    def moderate(self, variance: float, degrees: float) -> float:
        """Return the mean of the prior's variance and one of so many degrees of freedom."""
        total = self.degrees + degrees
        return (self.degrees * self.variance + degrees * variance) / total

    def with_one(self, variance: float) -> "Prior":
        """Return the prior of as many designs, one of which has this variance."""
        others = self.designs - 1
        return self._replace(variance=(others * self.variance + variance) / self.designs)


NO_PRIOR = Prior(0.0, 0.0, 0)


def pool_seeds(units_by_design: Sequence[np.ndarray]) -> Prior:
    """Return the prior of the seeds' variance from the (S, C) units of K designs.

    The spread of the K logarithms says how much designs have in common (Smyth 2004). All designs
    are compared with the same one, so that their differences have a correlation r, and their mean
    variance has at most K / (1 + (K - 1) r²) times the degrees of freedom of one. r is 1 / 2 if all
    designs depend alike on the seed, and larger if the first one depends on it more.
    """
    found = [units.mean(axis=1) for units in units_by_design if can_cross(units)]
    variances = np.array([of_seeds.var(ddof=1) for of_seeds in found])  # (K,)
    degrees = np.array([len(of_seeds) - 1 for of_seeds in found])
    K = len(found)
    if K < 2 or not variances.any():
        return NO_PRIOR
    mean = float(np.average(variances, weights=degrees))
    logs = np.log(np.maximum(variances, mean / 1000)) - special.digamma(degrees / 2)
    logs += np.log(degrees / 2)
    by_chance = float(special.polygamma(1, degrees / 2).mean())
    excess = float(logs.var(ddof=1)) - by_chance  # of the logarithms' variance
    correlation = 0.5
    if len(set(degrees)) == 1:
        of_mean = float(np.mean(found, axis=0).var(ddof=1))
        correlation = max(correlation, (K * of_mean / mean - 1) / (K - 1))
    most = (K / (1 + (K - 1) * min(1.0, correlation**2)) - 1) * float(degrees.mean())
    if special.polygamma(1, most / 2) >= excess:
        return Prior(mean, most, K)
    found = optimize.brentq(lambda d: special.polygamma(1, d / 2) - excess, 1e-6, most)
    return Prior(mean, float(found), K)


# --------------------------------------------------------------------- the distribution of the mean


class Error(NamedTuple):
    """The error of a mean, which has a part of seeds and one of examples."""

    seeds: float  # variance
    degrees: float  # of freedom of this variance
    least: float  # part of it that is certain, because the rest is well known
    examples: float  # variance
    examples_degrees: float

    def tail(self, size: float) -> float:
        """Return the probability of an error above `size`, which is not below 0."""
        of_seeds = self.seeds
        if self.seeds:
            of_seeds = np.maximum(
                self.seeds * self.degrees / _chi_squares(self.degrees), self.least
            )
        variance = of_seeds + self.examples
        if not np.all(variance):
            return 0.5 if size == 0 else 0.0
        share = np.maximum(self.examples / variance, 1e-9)
        below = special.stdtr(self.examples_degrees / share**2, -size / np.sqrt(variance))
        return float(np.average(below, weights=_WEIGHTS)) if self.seeds else float(below)

    def quantile(self, probability: float) -> float:
        """Return what errors exceed with this probability, at most a half."""
        high = math.sqrt(self.seeds + self.examples)
        if not high:
            return 0.0
        while self.tail(high) > probability:
            high *= 2
        return float(optimize.brentq(lambda x: self.tail(x) - probability, 0, high))

    def interval(self, mean: float, level: float) -> Interval:
        """Return the interval around a mean that excludes a share of `level`."""
        half = self.quantile(level / 2)
        return Interval(mean - half, mean + half)


_NODES = (np.arange(200) + 0.5) / 200
_PLACES, _WEIGHTS = _NODES**6, _NODES**5  # dense near 0, where a variance is large


@lru_cache
def _chi_squares(degrees: float) -> np.ndarray:
    """Return quantiles of the chi-squared distribution at `_PLACES`."""
    return 2 * special.gammaincinv(degrees / 2, _PLACES)


class Spread(NamedTuple):
    """What determines the error of a mean over any number of seeds and examples."""

    components: Components
    prior: Prior  # of the seeds' variance
    reach: float  # how much a missing example can differ

    def error(self, seeds: int, examples: int) -> Error:
        """Return the error of a mean over so many seeds and examples."""
        of_seeds, of_examples, rest = self.components.parts(seeds, examples)
        return Error(
            seeds=of_seeds + rest,
            degrees=self.prior.degrees + seeds - 1,
            least=rest,
            examples=of_examples + MISSING * (self.reach / examples) ** 2,
            examples_degrees=examples - 1,
        )


def spread_of(units: np.ndarray, prior: Prior = NO_PRIOR, reach: float = 0.0) -> Spread:
    """Return the spread of (S, C) units, whose missing examples are as those that differ.

    If none differs, a missing one differs by `reach`.
    """
    components, (S, C) = components_of(units), units.shape
    if S > 1:
        variance = prior.moderate(float(units.mean(axis=1).var(ddof=1)), S - 1)
        components = components._replace(seeds=max(0.0, variance - components.rest / C))
    return Spread(components, prior, reach and (_typical(units) or reach))


def _typical(units: np.ndarray) -> float:
    """Return by how much the examples that differ do so; 0 if none does."""
    squares = np.square(units.mean(axis=0) - units.mean())
    return math.sqrt(float(np.square(squares).sum() / squares.sum())) if squares.any() else 0.0


# ------------------------------------------------------------------------------------- the results


class Crossed(NamedTuple):
    """A mean difference and its uncertainty over other seeds and examples."""

    mean: float
    interval: Interval  # 95 %
    equivalence: Interval  # 90 %, with missing examples that differ as much as they can
    p_value: float
    components: Components
    seeds_limit: float  # 95 % upper limit for the share of the seeds in the mean's variance
    spread: Spread

    def is_within(self, margin: float) -> bool:
        """Return whether two one-sided tests at 5 % are significant."""
        return max(map(abs, self.equivalence)) < margin


def can_cross(units: np.ndarray) -> bool:
    """Return whether (S, C) units say anything about other seeds and examples."""
    return len(units) >= MIN_SEEDS and units.shape[1] > 1


def cross(units: np.ndarray, prior: Prior = NO_PRIOR, reach: float = 0.0) -> Crossed:
    """Return the mean of a contrast over other seeds and examples.

    Args:
        units: (S, C) differences, or any contrast of per-example values.
        prior: of the seeds' variance, from `pool_seeds` of all contrasts of one analysis.
        reach: how much a missing example can differ: 1 for correctness, 0 for losses, which differ
            on every example.

    Raises:
        ValueError: if there are too few seeds or examples.
    """
    S, C = units.shape
    if not can_cross(units):
        raise ValueError(f"{S} seeds and {C} examples, expected {MIN_SEEDS} and 2 or more")
    spread, mean = spread_of(units, prior, reach), float(units.mean())
    error, cautious = spread.error(S, C), spread._replace(reach=max(reach, _typical(units)))
    return Crossed(
        mean=mean,
        interval=error.interval(mean, LEVEL),
        equivalence=cautious.error(S, C).interval(mean, 2 * LEVEL),
        p_value=2 * error.tail(abs(mean)),
        components=spread.components,
        seeds_limit=_limit_of_seeds(error),
        spread=spread,
    )


def p_value_of_one_seed(units: np.ndarray, reach: float = 0.0) -> float:
    """Return the p-value of (1, C) units, of the mean over other examples with this seed."""
    return 2 * spread_of(units, reach=reach).error(*units.shape).tail(abs(float(units.mean())))


def _limit_of_seeds(error: Error) -> float:
    highest = error.seeds * error.degrees / float(stats.chi2.ppf(LEVEL, error.degrees))
    total = highest + error.examples
    return max(0.0, highest - error.least) / total if total else 0.0


def reach_of(weights: np.ndarray, clusters: Sequence[int]) -> float:
    """Return how much a text of ordinary size can differ if its examples have (N,) weights."""
    return math.sqrt(float(np.square(sum_by_text(weights[None], clusters)).mean()))


def interval_over_splits(differences: Sequence[float], test: int, training: int) -> Interval:
    """Return the 95 % interval over other splits of the mean difference of several splits.

    The training sets of J splits overlap, so that they agree more than independent data would: the
    variance of their mean is (1 / J + test / training examples) of their own, not 1 / J.
    Source: Nadeau & Bengio 2003, "Inference for the Generalization Error", Machine Learning 52.
    """
    variance = float(np.var(differences, ddof=1)) * (1 / len(differences) + test / training)
    half = float(stats.t.ppf(1 - LEVEL / 2, len(differences) - 1)) * math.sqrt(variance)
    mean = float(np.mean(differences))
    return Interval(mean - half, mean + half)
