"""Seeds and messages together: what a difference comes to that others of both would move.

    found = cross(units_of(differences, clusters))  # (S, N), the same seeds and messages for both
    found.interval, found.p_value

Two designs are run with the same seeds and tell the same messages. Had they met other seeds and
other messages, their difference would be another one; three things follow from the (S, N)
differences, one for each seed and message:

1. *Components of variance*, of a balanced two-way layout: what seeds bring, what messages bring,
   and what is left, seed by message. A mean over S seeds and C messages has the variance
   seeds / S + messages / C + rest / (S C), with Satterthwaite's degrees of freedom.
2. *A paired multi-bootstrap*: seeds and messages are drawn anew together, the same for both.
3. *What could be seen at all*: the smallest true difference that is found four times out of five.

Of the t interval and the bootstrap's, the wider counts: with few seeds the bootstrap is too narrow,
and few messages that differ are not normally distributed. Messages with the very same text are no
two messages, but one unit.

The plain bootstrap counts what is left three times over, once with each margin (Owen 2007, Ann.
Appl. Stat. 1). So each part is scaled to its own variance before it is drawn.

Sources: Sellam et al. 2022, "The MultiBERTs", arXiv 2106.16163 (multi-bootstrap); Miller 2024,
"Adding Error Bars to Evals", arXiv 2411.00640 (clusters, paired differences); Satterthwaite 1946,
Biometrics Bulletin 2; Carpenter, Goldstein & Rasbash 2003, Appl. Stat. 52 (scaled effects).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.comparison.statistics import LEVEL, Interval

DRAWS = 2_000  # of the bootstrap
POWER = 0.8  # with which the smallest difference that could be seen is found
FEWEST_SEEDS = 3  # of which anything is said about others
MOST = 10**7  # seeds or messages that anyone could take to settle a difference


class Components(NamedTuple):
    """Variances of a difference by where they come from; none is below 0."""

    seeds: float
    messages: float
    rest: float  # seed by message, with the noise

    def error(self, seeds: int, messages: int) -> float:
        """Returns the standard error of a mean over so many seeds and messages."""
        parts = self.seeds / seeds, self.messages / messages, self.rest / (seeds * messages)
        return math.sqrt(sum(parts))

    def shares(self, seeds: int, messages: int) -> list[float]:
        """Returns the shares that each part has in the variance of a mean over so many."""
        parts = self.seeds / seeds, self.messages / messages, self.rest / (seeds * messages)
        return [part / (sum(parts) or 1) for part in parts]

    def degrees(self, seeds: int, messages: int) -> float:
        """Returns Satterthwaite's degrees of freedom of that error.

        Its square is made of mean squares: that of seeds and that of messages, less that of the
        rest. Where a component is 0, its mean square is that of the rest, and the two cancel.
        """
        squares = []  # mean squares and their degrees of freedom
        if self.seeds:
            squares.append((self.rest + messages * self.seeds, seeds - 1))
        if self.messages:
            squares.append((self.rest + seeds * self.messages, messages - 1))
        if len(squares) != 1:
            sign = -1 if squares else 1
            squares.append((sign * self.rest, (seeds - 1) * (messages - 1)))
        total = sum(square for square, _ in squares)
        return total**2 / sum(square**2 / degrees for square, degrees in squares)


# ------------------------------------------------------------------------------------- the layout


def units_of(differences: np.ndarray, clusters: Sequence[int]) -> np.ndarray:
    """Returns (S, C): one value a seed and cluster of messages, whose means are those of messages.

    Clusters of unequal size count by their size: each holds the sum of how far its messages lie
    from the mean, as robust standard errors have it.

    Args:
        differences: (S, N), one a seed and message.
        clusters: (N,), equal for messages with the very same text.
    """
    _, place = np.unique(np.asarray(clusters), return_inverse=True)  # (N,)
    C, N, mean = place.max() + 1, len(place), differences.mean()
    sums = np.zeros((len(differences), C))
    np.add.at(sums, (slice(None), place), differences - mean)
    return mean + sums * C / N


class Effects(NamedTuple):
    """A layout taken apart: their sum is the layout, and each has the mean 0 but the first."""

    mean: float
    seeds: np.ndarray  # (S,)
    messages: np.ndarray  # (C,)
    rest: np.ndarray  # (S, C)


def take_apart(units: np.ndarray) -> Effects:
    """Returns the effects of (S, C) units."""
    mean = float(units.mean())
    seeds, messages = units.mean(axis=1) - mean, units.mean(axis=0) - mean
    return Effects(mean, seeds, messages, units - mean - seeds[:, None] - messages)


def mean_squares(effects: Effects) -> tuple[float, float, float]:
    """Returns the mean squares of seeds, of messages, and of the rest."""
    S, C = effects.rest.shape
    return (
        C * float((effects.seeds**2).sum()) / (S - 1),
        S * float((effects.messages**2).sum()) / (C - 1),
        float((effects.rest**2).sum()) / ((S - 1) * (C - 1)),
    )


def components_of(units: np.ndarray) -> Components:
    """Returns the components of variance of (S, C) units; of one seed, those of messages alone."""
    S, C = units.shape
    if S == 1:
        return Components(0.0, float(units.var(ddof=1)), 0.0)
    seeds, messages, rest = mean_squares(take_apart(units))
    return Components(max(0.0, (seeds - rest) / C), max(0.0, (messages - rest) / S), rest)


# ---------------------------------------------------------------------- how a mean is distributed


class Student(NamedTuple):
    """A mean with a standard error of so many degrees of freedom."""

    mean: float
    error: float
    degrees: float

    def interval(self, level: float) -> Interval:
        """Returns what other seeds and messages leave in, all but a share of `level`."""
        half = float(stats.t.ppf(1 - level / 2, self.degrees)) * self.error
        return Interval(self.mean - half, self.mean + half)

    @property
    def p_value(self) -> float:
        """Two-sided, of a true difference of 0."""
        return 2 * float(stats.t.sf(abs(self.mean) / self.error, self.degrees))


class Drawn(NamedTuple):
    """A mean with what it came to in draws of the bootstrap."""

    means: np.ndarray  # (DRAWS,)

    def interval(self, level: float) -> Interval:
        """Returns the percentiles that leave out a share of `level`."""
        low, high = np.quantile(self.means, [level / 2, 1 - level / 2])
        return Interval(float(low), float(high))

    @property
    def p_value(self) -> float:
        """Two-sided, by the share of draws on the other side of 0."""
        beyond = min(np.count_nonzero(self.means <= 0), np.count_nonzero(self.means >= 0))
        return min(1.0, 2 * (beyond + 1) / (len(self.means) + 1))


class Alike(NamedTuple):
    """A mean of messages that are all alike, which others need not be.

    So many messages of which none is otherwise leave room for a share p of such ones as long as
    (1 - p)^messages is not too small. Each may move a difference of shares by 1.
    """

    mean: float
    messages: int

    def interval(self, level: float) -> Interval:
        """Returns the mean give or take the share that may be otherwise."""
        half = 1 - (level / 2) ** (1 / self.messages)
        return Interval(self.mean - half, self.mean + half)

    @property
    def p_value(self) -> float:
        """Two-sided, of a true difference of 0."""
        return min(1.0, 2 * (1 - min(1.0, abs(self.mean))) ** self.messages)


def bootstrap_means(units: np.ndarray, components: Components, seed: int = 0) -> np.ndarray:
    """Returns (DRAWS,) means over seeds and messages drawn anew, each as often as there are.

    Args:
        units: (S, C).
        components: to which the effects are scaled.
        seed: of the draws.
    """
    (S, C), effects = units.shape, take_apart(units)
    generator = np.random.default_rng(seed)
    seeds, messages = draw_anew(S, generator), draw_anew(C, generator)
    of_seeds = seeds @ scale(effects.seeds, components.seeds) / S
    of_messages = messages @ scale(effects.messages, components.messages) / C
    rest = (messages @ scale(effects.rest, components.rest).T * seeds).sum(axis=1) / (S * C)
    return effects.mean + of_seeds + of_messages + rest


def draw_anew(number: int, generator: np.random.Generator) -> np.ndarray:
    """Returns (DRAWS, number): how often each of so many comes when as many are drawn of them."""
    drawn = generator.integers(number, size=(DRAWS, number))
    drawn += number * np.arange(DRAWS)[:, None]  # each draw has its own places
    return np.bincount(drawn.ravel(), minlength=DRAWS * number).reshape(DRAWS, number)


def scale(effects: np.ndarray, variance: float) -> np.ndarray:
    """Returns effects with this mean square."""
    square = float(np.square(effects).mean())
    return effects * math.sqrt(variance / square) if square else effects


# -------------------------------------------------------------------------------- what it comes to


class Crossed(NamedTuple):
    """What a difference comes to over other seeds and messages."""

    mean: float
    interval: Interval  # 95 %
    equivalence: Interval  # 90 %: within a margin if both one-sided tests at 5 % say so
    p_value: float
    components: Components


def cross(units: np.ndarray) -> Crossed:
    """Returns what (S, C) units come to over other seeds and messages.

    Raises:
        ValueError: with fewer than three seeds or two messages, which say nothing of others.
    """
    S, C = units.shape
    if S < FEWEST_SEEDS or C < 2:
        raise ValueError(f"{S} seeds and {C} messages, expected {FEWEST_SEEDS} and 2 or more")
    found = distribution_of(units)
    return Crossed(
        mean=float(units.mean()),
        interval=found.interval(LEVEL),
        equivalence=distribution_of(with_two_more(units)).interval(2 * LEVEL),
        p_value=found.p_value,
        components=components_of(units),
    )


def distribution_of(units: np.ndarray) -> Student | Drawn | Alike:
    """Returns how the mean of (S, C) units is distributed, by the way that spreads it wider."""
    (S, C), mean, components = units.shape, float(units.mean()), components_of(units)
    if not (error := components.error(S, C)):
        return Alike(mean, C)
    student = Student(mean, error, components.degrees(S, C))
    drawn = Drawn(bootstrap_means(units, components))
    return max(student, drawn, key=lambda way: width(way.interval(LEVEL)))


def with_two_more(units: np.ndarray) -> np.ndarray:
    """Returns (S, C + 2) units: two more messages, as far off as the farthest, one to each side.

    Where few messages differ, those that happen to be missing make both the difference and its
    spread too small, and two designs seem equivalent too often. Means stay as they are.

    Source: Bonett & Price 2012, J. Educ. Behav. Stat. 37, of paired shares, with shares of 1.
    """
    effects = take_apart(units)
    of_seeds, farthest = effects.mean + effects.seeds, np.abs(effects.messages).max()
    return np.column_stack([units, of_seeds + farthest, of_seeds - farthest])


def width(interval: Interval) -> float:
    """Returns how wide an interval is."""
    return interval.high - interval.low


def smallest_seen(components: Components, seeds: int, messages: int) -> float:
    """Returns the smallest true difference that so many show with 80 % power, tested at 5 %."""
    quantiles = stats.t.ppf([1 - LEVEL / 2, POWER], components.degrees(seeds, messages))
    return float(quantiles.sum()) * components.error(seeds, messages)


def seeds_to_settle(components: Components, difference: float, messages: int) -> int | None:
    """Returns how many seeds show a difference as reliably on such messages, None if none do."""
    return fewest(
        lambda seeds: smallest_seen(components, seeds, messages) <= abs(difference), FEWEST_SEEDS
    )


def messages_to_settle(components: Components, difference: float, seeds: int) -> int | None:
    """Returns how many messages show a difference as reliably by such seeds, None if none do."""
    return fewest(lambda messages: smallest_seen(components, seeds, messages) <= abs(difference), 2)


def fewest(are_enough: Callable[[int], bool], start: int) -> int | None:
    """Returns the smallest number from a start on that is enough, None if `MOST` is not."""
    if not are_enough(MOST):
        return None
    low, high = start - 1, start  # the first never is
    while not are_enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if are_enough(middle) else (middle, high)
    return high
