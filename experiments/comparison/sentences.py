"""The result of a comparison in a sentence that can be quoted."""

from experiments.comparison.evidence import (
    BETTER,
    EQUIVALENT,
    IDENTICAL,
    MODELS_DIFFER,
    WORSE,
    Evidence,
    Power,
)
from experiments.comparison.statistics import MIN_SEEDS, Interval

FIXED = "All results are conditional on this train/test split."  # printed once


def sentence(evidence: Evidence) -> str:
    """Return the result for the second of two groups, compared with the first."""
    if evidence.verdict == IDENTICAL:
        text = _finding(evidence)
        return f"{text[0].upper()}{text[1:]}: all probabilities of all seeds are the same."
    describe = _of_many_seeds if evidence.accuracy.crossed else _of_too_few
    text = _of_one_seed(evidence) if len(evidence.seeds) == 1 else describe(evidence)
    return f"{text[0].upper()}{text[1:]}"


def _finding(evidence: Evidence) -> str:
    first, second = evidence.names
    found = {
        BETTER: f"{second} is better than {first}",
        WORSE: f"{second} is worse than {first}",
        IDENTICAL: f"{second} is identical to {first}",
        MODELS_DIFFER: f"the models of {second} and {first} differ",
        EQUIVALENT: f"{second} is equivalent to {first} within {_points(evidence.margin)}",
    }.get(evidence.verdict, f"the comparison of {second} with {first} is inconclusive")
    return f"{found} ({evidence.conditions})" if evidence.conditions else found


def _of_one_seed(evidence: Evidence) -> str:
    first, second = evidence.names
    text = (
        f"with seed {evidence.seeds[0]} only, {_finding(evidence)}: of {_examples_of(evidence)}, "
        f"{evidence.only_second} are classified correctly by {second} only and "
        f"{evidence.only_first} by {first} only, exact McNemar p = {_p_value_of(evidence)}. This "
        "says nothing about other seeds."
    )
    return text if evidence.verdict == MODELS_DIFFER else text + _describe_power(evidence)


def _of_too_few(evidence: Evidence) -> str:
    few = f"{len(evidence.seeds)} seeds say nothing about other seeds, {MIN_SEEDS} are needed"
    if len(evidence.seeds) >= MIN_SEEDS:
        few = "test examples that all have the same text say nothing about others"
    mean = 100 * evidence.accuracy.mean
    return f"{_finding(evidence)}: {few}. The mean difference is {mean:+.2f} points."


def _of_many_seeds(evidence: Evidence) -> str:
    crossed = evidence.accuracy.crossed
    text = (
        f"{_finding(evidence)}: {100 * crossed.mean:+.2f} points of test accuracy, 95 % confidence "
        f"interval {in_points(crossed.interval)} over seeds and examples, "
        f"p = {_p_value_of(evidence)}, from {len(evidence.seeds)} seeds and "
        f"{_examples_of(evidence)}."
    )
    if evidence.verdict == EQUIVALENT:
        inside = f"{in_points(crossed.equivalence)}, is within the margin."
        return f"{text} The 90 % confidence interval, {inside}"
    if evidence.verdict in (BETTER, WORSE):
        small = f" The difference is below {_points(evidence.margin)}, the margin."
        return text + small * evidence.is_within_margin
    return text + _describe_power(evidence)


def _describe_power(evidence: Evidence) -> str:
    if not (power := evidence.power):
        return ""
    observed = "; the observed one is too small for any number of seeds or examples alone"
    if needed := numbers_needed(power):
        observed = f"; the observed one takes about {' or '.join(needed)} in total"
    text = f" Such runs detect a difference of {_points(power.detectable)} with a power of 80 %"
    return f"{text}{observed if evidence.accuracy.mean else ''}."


def numbers_needed(power: Power) -> list[str]:
    """Return the numbers of seeds and of examples that detect the observed difference."""
    counts = (power.seeds, "seeds"), (power.examples, "examples")
    return [f"{number:,} {what}" for number, what in counts if number is not None]


def _examples_of(evidence: Evidence) -> str:
    total, distinct = evidence.examples, evidence.distinct
    few = f" ({distinct:,} distinct)" if distinct not in (None, total) else ""
    return f"{total:,} test examples{few}"


def _p_value_of(evidence: Evidence) -> str:
    corrected = f" ({evidence.corrected_p_value:.3g} by Holm over {evidence.compared} rows)"
    return f"{evidence.p_value:.3g}{corrected if evidence.compared > 1 else ''}"


def _points(share: float) -> str:
    number = f"{100 * share:.2g}"
    return f"{number} point{'' if number == '1' else 's'}"


def in_points(interval: Interval) -> str:
    """Return an interval of differences of accuracy in points."""
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"
