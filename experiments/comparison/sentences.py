"""The result of a comparison in a sentence that can be quoted."""

from experiments.comparison.evidence import Evidence, Verdict
from experiments.comparison.metrics import ACCURACY
from experiments.comparison.statistics import MIN_SEEDS

FIXED = "All results are conditional on this train/test split."  # printed once


def sentence(evidence: Evidence) -> str:
    """Return the result for the second of two designs, compared with the first."""
    describe = _of_many_seeds if evidence.difference.crossed else _of_too_few
    text = _of_one_seed(evidence) if len(evidence.seeds) == 1 else describe(evidence)
    return f"{text[0].upper()}{text[1:]}"


def _finding(evidence: Evidence) -> str:
    first, second = evidence.names
    margin = evidence.metric.format_size(evidence.margin)
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
    test = "exact McNemar over distinct texts" if evidence.metric == ACCURACY else "t test"
    only_first, only_second = evidence.only_correct
    return (
        f"with seed {evidence.seeds[0]} only, {_finding(evidence)}. Of {_examples_of(evidence)}, "
        f"{only_second} are classified correctly by {second} only and "
        f"{only_first} by {first} only; {test}, p {_p_value_of(evidence)}. One seed "
        f"supports no claim about the designs.{_power_of(evidence)}"
    )


def _of_too_few(evidence: Evidence) -> str:
    few = f"{len(evidence.seeds)} seeds say nothing about other seeds, {MIN_SEEDS} are needed"
    if len(evidence.seeds) >= MIN_SEEDS:
        few = "test examples that all have the same text say nothing about others"
    mean = evidence.metric.format_mean(evidence.difference.mean)
    return f"{_finding(evidence)}: {few}. The mean difference is {mean}."


def _of_many_seeds(evidence: Evidence) -> str:
    crossed, metric = evidence.difference.crossed, evidence.metric
    text = (
        f"{_finding(evidence)}: {metric.format_mean(crossed.mean)} of {metric.title}, 95 % "
        f"confidence interval {metric.format_interval(crossed.interval)}, p "
        f"{_p_value_of(evidence)}, from {len(evidence.seeds)} seeds and {_examples_of(evidence)}."
    )
    if evidence.verdict == Verdict.EQUIVALENT:
        inside = metric.format_interval(crossed.equivalence)
        return f"{text} The 90 % confidence interval, {inside}, is within the margin."
    if evidence.verdict.is_directed and crossed.is_within(evidence.margin):
        margin = metric.format_size(evidence.margin)
        return f"{text} The difference is within {margin}, the margin."
    return text + _power_of(evidence)


def _power_of(evidence: Evidence) -> str:
    metric, count = evidence.metric, len(evidence.seeds)
    if not (evidence.verdict.is_inconclusive and (power := evidence.power)):
        return ""
    sides = [(power.better, "better"), (power.worse, "worse")]
    if metric.is_loss:
        sides = [(power.worse, "better"), (power.better, "worse")]
    found = [f"{metric.format_size(x)} {side}" for x, side in sides if x is not None]
    observed = "; the observed one is too small for any number of seeds or examples alone"
    if power.needed:
        observed = f"; the observed one takes about {power.needed} in total"
    return (
        f" Minimum detectable difference at 80 % power, estimated from {count} "
        f"seed{'s' if count > 1 else ''}: {' or '.join(found)}"
        f"{observed if evidence.difference.mean else ''}."
    )


def _examples_of(evidence: Evidence) -> str:
    total, distinct = evidence.examples, evidence.distinct
    few = f" ({distinct:,} distinct)" if distinct not in (None, total) else ""
    return f"{total:,} test examples{few}"


def _p_value_of(evidence: Evidence) -> str:
    several = f" ({format_p(evidence.corrected_p_value)} Holm-adjusted over {evidence.compared} "
    p_value = f"= {format_p(evidence.p_value)}".replace("= <", "<")
    return f"{p_value}{f'{several}designs)' if evidence.compared > 1 else ''}"


def format_p(p_value: float | None) -> str:
    """Return a p-value, `< 0.0001` for a smaller one; empty without a test."""
    if p_value is None:
        return ""
    return f"{p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"
