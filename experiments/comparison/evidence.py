"""Two groups of records held against each other: what their shared seeds and messages say.

    evidence = weigh(pair_up(first, second), margin=0.01)
    evidence.verdict, evidence.accuracy.crossed.interval

From three seeds on, a verdict is over other seeds and other messages. One seed has the exact
McNemar test on the messages that just one of the two gets right, which is of this seed alone. Two
seeds say nothing of others, and nothing is known by them.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison.crossed import (
    FEWEST_SEEDS,
    Crossed,
    components_of,
    cross,
    messages_to_settle,
    seeds_to_settle,
    smallest_seen,
    units_of,
)
from experiments.comparison.groups import Record, conditions_of, names_of_pair
from experiments.comparison.statistics import LEVEL, holm, mcnemar
from experiments.training.metrics import brier_scores, log_losses

BETTER, WORSE, EQUIVALENT, NOT_KNOWN = "better", "worse", "equivalent", "not known"


class Difference(NamedTuple):
    """A mean over shared seeds and messages, second minus first."""

    mean: float
    crossed: Crossed | None  # over other seeds and messages; None where nothing is known of them


class Outlook(NamedTuple):
    """What so many seeds and messages can show, and how many show what was seen."""

    smallest: float  # true difference that is found with 80 % power
    seeds: int | None  # None where no number is enough, as the next
    messages: int | None


class Evidence(NamedTuple):
    """What is known of the difference of two groups, second minus first."""

    names: tuple[str, str]
    conditions: str  # in what both are no published runs, where their names do not say so
    margin: float
    seeds: list[int]  # that both have; of a baseline those of the other
    messages: int
    distinct: int | None  # messages; None where records do not tell which have the same text
    only_first: int  # messages that just one gets right, at the first shared seed
    only_second: int
    mcnemar: float  # p-value of these
    accuracy: Difference
    log_loss: Difference
    brier_score: Difference
    outlook: Outlook | None
    p_value: float | None  # None of two seeds
    corrected_p_value: float | None
    compared: int  # rows over which it is corrected

    @property
    def verdict(self) -> str:
        """One of four words on the second group."""
        if self.corrected_p_value is not None and self.corrected_p_value < LEVEL:
            return BETTER if self.accuracy.mean > 0 else WORSE
        return EQUIVALENT if self.is_within_margin else NOT_KNOWN

    @property
    def is_within_margin(self) -> bool:
        """Whether two one-sided tests at 5 % say so."""
        crossed = self.accuracy.crossed
        return crossed is not None and max(map(abs, crossed.equivalence)) < self.margin


# --------------------------------------------------------------------------- a run's test messages


def is_right(record: Record) -> np.ndarray:
    """Returns (N,) booleans: which test messages a run tells right."""
    return np.array(record["test"]["labels"]) == np.array(record["test"]["predictions"])


def log_losses_of(record: Record) -> np.ndarray:
    """Returns (N,) log losses of a run's test messages."""
    return log_losses(*probabilities_and_labels(record))


def brier_scores_of(record: Record) -> np.ndarray:
    """Returns (N,) Brier scores of a run's test messages."""
    return brier_scores(*probabilities_and_labels(record))


def probabilities_and_labels(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N, K) probabilities and (N,) labels of a run's test messages."""
    return np.array(record["test"]["probabilities"]), np.array(record["test"]["labels"])


def same_texts(pairs: Sequence[tuple[Record, Record]]) -> list[int] | None:
    """Returns (N,), equal for messages with the very same text; None where no record tells."""
    tests = (record["test"] for pair in pairs for record in pair)
    return next((test["same_text"] for test in tests if "same_text" in test), None)


# --------------------------------------------------------------------------------------- two groups


def weigh(pairs: Sequence[tuple[Record, Record]], margin: float) -> Evidence:
    """Returns what the shared seeds and messages of two groups say.

    Args:
        pairs: their records of each seed that both have, as `pair_up` has them.
        margin: of accuracy, within which they are equivalent.
    """
    right = differences_of(pairs, is_right)  # (S, N)
    known = same_texts(pairs)
    clusters = known or range(right.shape[1])
    units = units_of(right, clusters)
    accuracy = Difference(float(right.mean()), cross(units) if is_enough(units) else None)
    only_first, only_second = int((right[0] < 0).sum()), int((right[0] > 0).sum())
    of_first_seed = mcnemar(only_first, only_second)
    p_value = accuracy.crossed.p_value if accuracy.crossed else None
    if len(pairs) == 1:
        p_value = of_first_seed
    return Evidence(
        names=names_of_pair(*pairs[0]),
        conditions=shared_conditions(*pairs[0]),
        margin=margin,
        seeds=[(x if x["row"] else y)["seed"] for x, y in pairs],
        messages=right.shape[1],
        distinct=len(set(known)) if known else None,
        only_first=only_first,
        only_second=only_second,
        mcnemar=of_first_seed,
        accuracy=accuracy,
        log_loss=difference_of_losses(pairs, log_losses_of, clusters),
        brier_score=difference_of_losses(pairs, brier_scores_of, clusters),
        outlook=outlook_of(units, right.shape[1]),
        p_value=p_value,
        corrected_p_value=p_value,
        compared=1,
    )


def differences_of(
    pairs: Sequence[tuple[Record, Record]], values: Callable[[Record], np.ndarray]
) -> np.ndarray:
    """Returns (S, N): what the second of each pair has on each message, less the first's."""
    return np.array([values(y).astype(float) - values(x) for x, y in pairs])


def difference_of_losses(
    pairs: Sequence[tuple[Record, Record]],
    losses: Callable[[Record], np.ndarray],
    clusters: Sequence[int],
) -> Difference:
    """Returns the difference of two groups' losses, without an interval where none differs."""
    found = differences_of(pairs, losses)
    units = units_of(found, clusters)
    crossed = cross(units) if is_enough(units) and found.any() else None
    return Difference(float(found.mean()), crossed)


def is_enough(units: np.ndarray) -> bool:
    """Says whether (S, C) units tell anything of other seeds and other messages."""
    return len(units) >= FEWEST_SEEDS and units.shape[1] > 1


def outlook_of(units: np.ndarray, messages: int) -> Outlook | None:
    """Returns what as many seeds and messages can show.

    None of two seeds or one distinct message, and where no message differs, so that nothing is
    known of how far differences spread.

    Args:
        units: (S, C), of accuracy.
        messages: of which there are C distinct ones.
    """
    S, C = units.shape
    if not units.any() or C == 1 or not (S == 1 or is_enough(units)):
        return None
    components, mean = components_of(units), float(units.mean())
    settled = messages_to_settle(components, mean, S)
    return Outlook(
        smallest=smallest_seen(components, S, C),
        seeds=seeds_to_settle(components, mean, C) if S > 1 else None,
        messages=None if settled is None else math.ceil(settled * messages / C),
    )


def shared_conditions(one: Record, other: Record) -> str:
    """Returns in what two runs are no published ones, where both are so; a baseline is either."""
    network = other if one["weights"] is None else one
    is_alike = conditions_of(one).allow(conditions_of(other))
    return ", ".join(conditions_of(network).deviations) if is_alike else ""


def correct(found: Sequence[Evidence]) -> list[Evidence]:
    """Returns the evidence on several rows with p-values corrected over them, by Holm's method."""
    tested = [evidence for evidence in found if evidence.p_value is not None]
    corrected = iter(holm([evidence.p_value for evidence in tested]))
    return [
        evidence
        if evidence.p_value is None
        else evidence._replace(corrected_p_value=next(corrected), compared=len(tested))
        for evidence in found
    ]
