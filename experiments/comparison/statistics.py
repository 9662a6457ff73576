"""Statistics of paired classifiers; knows no rows and no records.

    cross(units_of(differences, clusters)).interval  # (S, N), of several seeds

Two designs are trained with the same S seeds and tested on the same N examples. Three things follow
from their (S, N) differences, one for each seed and example:

1. *Components of variance* of a balanced two-way layout: seeds, examples, and the rest, which is
   their interaction. A mean has the variance seeds / S + examples / N + rest / (S N).
2. *A paired multi-bootstrap*: seeds and examples are resampled together, the same for both designs.
   A plain one counts the rest three times, once with each margin (Owen 2007, Ann. Appl. Stat. 1);
   so each part is scaled to its own variance first.
3. *The minimum detectable difference*: the smallest true one that is found with a power of 80 %.

The wider of the t interval and the bootstrap's is taken: with few seeds the bootstrap's is too
narrow, and few examples that differ are not normally distributed.

Sources: Wilson 1927, J. Am. Stat. Assoc. 22; McNemar 1947, Psychometrika 12; Holm 1979, Scand. J.
Stat. 6; Sellam et al. 2022, "The MultiBERTs", arXiv 2106.16163 (multi-bootstrap); Miller 2024,
"Adding Error Bars to Evals", arXiv 2411.00640 (clusters, paired differences); Satterthwaite 1946,
Biometrics Bulletin 2; Carpenter, Goldstein & Rasbash 2003, Appl. Stat. 52 (scaled effects).
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # of a test; intervals contain 95 %
DRAWS = 2_000  # of the bootstrap
POWER = 0.8
MIN_SEEDS = 3  # fewer say nothing about other seeds
MOST = 10**7  # seeds or examples that are considered


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

    def error(self, seeds: int, examples: int) -> float:
        """Return the standard error of that mean."""
        return math.sqrt(sum(self.parts(seeds, examples)))

    def degrees(self, seeds: int, examples: int) -> float:
        """Return Satterthwaite's degrees of freedom of that error.

        Its square is made of mean squares: those of seeds and of examples, less that of the rest,
        which cancels that of a component of 0.
        """
        squares = []  # mean squares and their degrees of freedom
        if self.seeds:
            squares.append((self.rest + examples * self.seeds, seeds - 1))
        if self.examples:
            squares.append((self.rest + seeds * self.examples, examples - 1))
        if len(squares) != 1:
            rest = -self.rest if squares else self.rest
            squares.append((rest, (seeds - 1) * (examples - 1)))
        total = sum(square for square, _ in squares)
        return total**2 / sum(square**2 / degrees for square, degrees in squares)


def units_of(differences: np.ndarray, clusters: Sequence[int]) -> np.ndarray:
    """Return (S, C) values of (S, N) differences, whose examples with the same text are clusters.

    Clusters of unequal size count by their size: each has the sum of the deviations of its examples
    from the mean, as in robust standard errors. `clusters` are (N,).
    """
    _, place = np.unique(np.asarray(clusters), return_inverse=True)  # (N,)
    C, N, mean = place.max() + 1, len(place), differences.mean()
    sums = np.zeros((len(differences), C))
    np.add.at(sums, (slice(None), place), differences - mean)
    return mean + sums * C / N


def decompose(units: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of (S, C) units, and effects: (S,) seeds, (C,) examples, (S, C) the rest."""
    mean = float(units.mean())
    seeds, examples = units.mean(axis=1) - mean, units.mean(axis=0) - mean
    return mean, seeds, examples, units - mean - seeds[:, None] - examples


def components_of(units: np.ndarray) -> Components:
    """Return the components of variance of (S, C) units; of one seed, those of its examples."""
    S, C = units.shape
    if S == 1:
        return Components(0.0, float(units.var(ddof=1)), 0.0)
    _, *effects = decompose(units)
    seeds, examples, rest = (float((effect**2).sum()) for effect in effects)  # sums of squares
    seeds, examples, rest = C * seeds / (S - 1), S * examples / (C - 1), rest / ((S - 1) * (C - 1))
    return Components(max(0.0, (seeds - rest) / C), max(0.0, (examples - rest) / S), rest)


# --------------------------------------------------------------------- the distribution of the mean


class Student(NamedTuple):
    """A mean with a standard error of so many degrees of freedom."""

    mean: float
    error: float
    degrees: float

    def interval(self, level: float) -> Interval:
        """Return the interval that excludes a share of `level`."""
        half = float(stats.t.ppf(1 - level / 2, self.degrees)) * self.error
        return Interval(self.mean - half, self.mean + half)

    @property
    def p_value(self) -> float:
        """Two-sided, of a true difference of 0."""
        return 2 * float(stats.t.sf(abs(self.mean) / self.error, self.degrees))


class Bootstrap(NamedTuple):
    """The means of resampled seeds and examples."""

    means: np.ndarray  # (DRAWS,)

    def interval(self, level: float) -> Interval:
        """Return the percentiles that exclude a share of `level`."""
        low, high = np.quantile(self.means, [level / 2, 1 - level / 2])
        return Interval(float(low), float(high))

    @property
    def p_value(self) -> float:
        """Two-sided, by the share of means on the other side of 0."""
        beyond = min(np.count_nonzero(self.means <= 0), np.count_nonzero(self.means >= 0))
        return min(1.0, 2 * (beyond + 1) / (len(self.means) + 1))


class Constant(NamedTuple):
    """A mean of examples that are all alike, which a share p of other examples need not be.

    That share is absent from a sample with the probability (1 - p)^examples.
    """

    mean: float
    examples: int

    def interval(self, level: float) -> Interval:
        """Return the mean plus or minus the share that may be different."""
        half = 1 - (level / 2) ** (1 / self.examples)
        return Interval(self.mean - half, self.mean + half)

    @property
    def p_value(self) -> float:
        """Two-sided, of a true difference of 0."""
        return min(1.0, 2 * (1 - min(1.0, abs(self.mean))) ** self.examples)


def distribution_of(units: np.ndarray) -> Student | Bootstrap | Constant:
    """Return the distribution of the mean of (S, C) units, the wider of two."""
    (S, C), mean, components = units.shape, float(units.mean()), components_of(units)
    if not (error := components.error(S, C)):
        return Constant(mean, C)
    student = Student(mean, error, components.degrees(S, C))
    bootstrap = Bootstrap(bootstrap_means(units, components))
    return max(student, bootstrap, key=lambda found: np.ptp(found.interval(LEVEL)))


def bootstrap_means(units: np.ndarray, components: Components, seed: int = 0) -> np.ndarray:
    """Return (DRAWS,) means of (S, C) units, resampled with effects of these variances."""
    (S, C), (mean, *effects) = units.shape, decompose(units)
    generator = np.random.default_rng(seed)
    seeds, examples = resample(S, generator), resample(C, generator)
    of_seeds, of_examples, rest = map(_scale, effects, components)
    interaction = (examples @ rest.T * seeds).sum(axis=1) / (S * C)
    return mean + seeds @ of_seeds / S + examples @ of_examples / C + interaction


def resample(number: int, generator: np.random.Generator) -> np.ndarray:
    """Return (DRAWS, number): how often each of `number` is drawn in as many draws."""
    drawn = generator.integers(number, size=(DRAWS, number))
    drawn += number * np.arange(DRAWS)[:, None]  # each row has its own places
    return np.bincount(drawn.ravel(), minlength=DRAWS * number).reshape(DRAWS, number)


def _scale(effects: np.ndarray, variance: float) -> np.ndarray:
    square = float(np.square(effects).mean())
    return effects * math.sqrt(variance / square) if square else effects


# ------------------------------------------------------------------------------------- the results


class Crossed(NamedTuple):
    """A mean difference and its uncertainty over other seeds and examples."""

    mean: float
    interval: Interval  # 95 %
    equivalence: Interval  # 90 %: inside a margin if two one-sided tests at 5 % are significant
    p_value: float
    components: Components


def can_cross(units: np.ndarray) -> bool:
    """Return whether (S, C) units say anything about other seeds and examples."""
    return len(units) >= MIN_SEEDS and units.shape[1] > 1


def cross(units: np.ndarray) -> Crossed:
    """Return the difference over other seeds and examples; raise ValueError if they are too few."""
    if not can_cross(units):
        S, C = units.shape
        raise ValueError(f"{S} seeds and {C} examples, expected {MIN_SEEDS} and 2 or more")
    found = distribution_of(units)
    return Crossed(
        mean=float(units.mean()),
        interval=found.interval(LEVEL),
        equivalence=distribution_of(add_two_examples(units)).interval(2 * LEVEL),
        p_value=found.p_value,
        components=components_of(units),
    )


def add_two_examples(units: np.ndarray) -> np.ndarray:
    """Return (S, C + 2) units: two more, as far from the mean as the farthest, one on each side.

    Where few examples differ, those that the test set lacks by chance make both the difference and
    its spread too small, and two designs seem equivalent too often.
    Source: Bonett & Price 2012, J. Educ. Behav. Stat. 37, for paired proportions of 1.
    """
    mean, of_seeds, of_examples, _ = decompose(units)
    farthest = np.abs(of_examples).max()
    return np.column_stack([units, mean + of_seeds + farthest, mean + of_seeds - farthest])


def detectable_difference(components: Components, seeds: int, examples: int) -> float:
    """Return the smallest true difference that a test at 5 % finds with a power of 80 %."""
    quantiles = stats.t.ppf([1 - LEVEL / 2, POWER], components.degrees(seeds, examples))
    return float(quantiles.sum()) * components.error(seeds, examples)


def seeds_needed(components: Components, difference: float, examples: int) -> int | None:
    """Return how many seeds detect a difference on such examples; None if no number does."""
    return _fewest(lambda n: detectable_difference(components, n, examples), difference, MIN_SEEDS)


def examples_needed(components: Components, difference: float, seeds: int) -> int | None:
    """Return how many examples detect a difference with such seeds; None if no number does."""
    return _fewest(lambda n: detectable_difference(components, seeds, n), difference, 2)


def _fewest(detectable: Callable[[int], float], difference: float, start: int) -> int | None:
    numbers = range(start, MOST + 1)  # what is detectable decreases
    found = bisect_left(numbers, True, key=lambda n: detectable(n) <= abs(difference))
    return numbers[found] if found < len(numbers) else None


def mean_of_splits(differences: Sequence[float], test: int, training: int) -> Student:
    """Return the distribution over other splits of the mean difference of several splits.

    The training sets of J splits overlap, so that they agree more than independent data would: the
    variance of their mean is (1 / J + test / training examples) of their own, not 1 / J.
    Source: Nadeau & Bengio 2003, "Inference for the Generalization Error", Machine Learning 52.
    """
    variance = float(np.var(differences, ddof=1)) * (1 / len(differences) + test / training)
    return Student(float(np.mean(differences)), math.sqrt(variance), len(differences) - 1)
