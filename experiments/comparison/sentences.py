"""The result of a comparison in a sentence that can be quoted."""

from experiments.comparison.evidence import LOSSES, Evidence, Power, Verdict
from experiments.comparison.statistics import LEVEL, MIN_SEEDS, Crossed, Interval

FIXED = "All results are conditional on this train/test split."  # printed once
METRIC_NAMES = {
    "accuracy": "test accuracy",
    "balanced_accuracy": "balanced test accuracy",
    "log_loss": "log loss",
    "brier": "Brier score",
}


def sentence(evidence: Evidence) -> str:
    """Return the result for the second of two designs, compared with the first."""
    describe = _of_many_seeds if evidence.difference.crossed else _of_too_few
    text = _of_one_seed(evidence) if len(evidence.seeds) == 1 else describe(evidence)
    return f"{text[0].upper()}{text[1:]}"


def _finding(evidence: Evidence) -> str:
    first, second = evidence.names
    margin = in_units(evidence.margin, evidence.metric)
    found = {
        Verdict.BETTER: f"{second} is better than {first}",
        Verdict.WORSE: f"{second} is worse than {first}",
        Verdict.EQUIVALENT: f"{second} is equivalent to {first} within {margin}",
        Verdict.IDENTICAL: f"{second} and {first} are identical: all probabilities are the same",
        Verdict.MODELS_DIFFER: f"the models of {second} and {first} differ",
    }.get(evidence.verdict, f"the comparison of {second} with {first} is inconclusive")
    return f"{found} ({evidence.conditions})" if evidence.conditions else found


def _of_one_seed(evidence: Evidence) -> str:
    first, second = evidence.names
    test = "exact McNemar over distinct texts" if evidence.metric == "accuracy" else "t test"
    return (
        f"with seed {evidence.seeds[0]} only, {_finding(evidence)}. Of {_examples_of(evidence)}, "
        f"{evidence.only_second} are classified correctly by {second} only and "
        f"{evidence.only_first} by {first} only; {test}, p {_p_value_of(evidence)}. One seed "
        f"supports no claim about the designs.{_power_of(evidence)}"
    )


def _of_too_few(evidence: Evidence) -> str:
    few = f"{len(evidence.seeds)} seeds say nothing about other seeds, {MIN_SEEDS} are needed"
    if len(evidence.seeds) >= MIN_SEEDS:
        few = "test examples that all have the same text say nothing about others"
    mean = format_mean(evidence.difference.mean, evidence.metric)
    return f"{_finding(evidence)}: {few}. The mean difference is {mean}."


def _of_many_seeds(evidence: Evidence) -> str:
    crossed = evidence.difference.crossed
    digits, scale = digits_of(evidence.metric)
    text = (
        f"{_finding(evidence)}: {format_mean(crossed.mean, evidence.metric)} of "
        f"{METRIC_NAMES[evidence.metric]}, 95 % confidence interval "
        f"{format_interval(crossed.interval, digits, scale)}, p {_p_value_of(evidence)}, from "
        f"{len(evidence.seeds)} seeds and {_examples_of(evidence)}."
    )
    if evidence.verdict == Verdict.EQUIVALENT:
        inside = format_interval(crossed.equivalence, digits, scale)
        return f"{text} The 90 % confidence interval, {inside}, is within the margin."
    if evidence.verdict.is_directed and crossed.is_within(evidence.margin):
        margin = in_units(evidence.margin, evidence.metric)
        return f"{text} The difference is within {margin}, the margin."
    return text + _power_of(evidence)


def describe_collapsed(name: str, seeds: list[int], total: int) -> str:
    """Return which seeds of a design predict one class only, and what so many seeds can miss."""
    numbers = ", ".join(map(str, seeds))
    return f"{name}: {len(seeds)} of {total} seeds predict one class only ({numbers})."


def what_seeds_miss(total: int) -> str:
    """Return which failures of single seeds so many seeds can miss."""
    seeds, miss, they = (
        ("seed", "misses", "it excludes") if total == 1 else ("seeds", "miss", "they exclude")
    )
    return (
        f"{total} good {seeds} {miss} a failure of 1 seed in 10 with a probability of "
        f"{0.9**total:.0%}; {they} failures of more than {1 - LEVEL ** (1 / total):.0%} of the "
        "seeds."
    )


def _power_of(evidence: Evidence) -> str:
    if not (evidence.verdict.is_inconclusive and (power := evidence.power)):
        return ""
    sides = [(power.better, "better"), (power.worse, "worse")]
    if evidence.metric in LOSSES:
        sides = [(power.worse, "better"), (power.better, "worse")]
    found = [f"{in_units(x, evidence.metric)} {side}" for x, side in sides if x is not None]
    text = (
        f" Minimum detectable difference at 80 % power, estimated from {len(evidence.seeds)} "
        f"seed{'s' if len(evidence.seeds) > 1 else ''}: {' or '.join(found)}"
    )
    needed = numbers_needed(power)
    observed = f"; the observed one takes about {' or '.join(needed)} in total"
    if not needed:
        observed = "; the observed one is too small for any number of seeds or examples alone"
    return f"{text if found else ''}{observed if found and evidence.difference.mean else ''}."


def numbers_needed(power: Power) -> list[str]:
    """Return the numbers of seeds and of examples that detect the observed difference."""
    counts = (power.seeds, "seeds"), (power.examples, "examples")
    return [f"{number:,} {what}" for number, what in counts if number is not None]


def _examples_of(evidence: Evidence) -> str:
    total, distinct = evidence.examples, evidence.distinct
    few = f" ({distinct:,} distinct)" if distinct not in (None, total) else ""
    return f"{total:,} test examples{few}"


def _p_value_of(evidence: Evidence) -> str:
    several = f" ({format_p(evidence.corrected_p_value)} Holm-adjusted over {evidence.compared} "
    p_value = f"= {format_p(evidence.p_value)}".replace("= <", "<")
    return f"{p_value}{f'{several}designs)' if evidence.compared > 1 else ''}"


# ------------------------------------------------------------------------------------- numbers


def digits_of(metric: str) -> tuple[int, int]:
    """Return the digits after the point and the factor with which a metric is shown."""
    return (3, 1) if metric in LOSSES else (2, 100)


def format_mean(mean: float, metric: str) -> str:
    """Return a difference with its unit: `+2.00 points`, `-0.020`."""
    digits, scale = digits_of(metric)
    return f"{scale * mean:+.{digits}f}{' points' if scale > 1 else ''}"


def format_difference(mean: float, crossed: Crossed | None, digits: int, scale: int) -> str:
    """Return a difference with its 95 % interval if there is one, without unit."""
    text = f"{scale * mean:+.{digits}f}"
    return f"{text} ({format_interval(crossed.interval, digits, scale)})" if crossed else text


def in_units(size: float, metric: str) -> str:
    """Return the size of a difference with its unit: `2 points`, `0.02`."""
    if metric in LOSSES:
        return f"{size:.3g}"
    number = f"{100 * size:.1f}".removesuffix(".0")
    return f"{number} point{'' if number == '1' else 's'}"


def format_p(p_value: float) -> str:
    """Return a p-value, `< 0.0001` for a smaller one."""
    return f"{p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"


def format_interval(interval: Interval, digits: int = 2, scale: int = 100) -> str:
    """Return an interval of differences, of accuracies in points."""
    return f"{scale * interval.low:+.{digits}f} to {scale * interval.high:+.{digits}f}"
