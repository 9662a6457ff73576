"""What is known of the difference of two groups, in a sentence that can be quoted."""

from experiments.comparison.crossed import FEWEST_SEEDS
from experiments.comparison.evidence import BETTER, EQUIVALENT, WORSE, Evidence, Outlook
from experiments.comparison.statistics import Interval

FIXED = "The split of the data is fixed: what another one would bring is not in it."


def sentence(evidence: Evidence) -> str:
    """Returns what is known of the second of two groups against the first one, in prose."""
    seeds = len(evidence.seeds)
    if seeds == 1:
        text = of_one_seed(evidence)
    elif evidence.accuracy.crossed is None:
        text = of_too_few(evidence)
    else:
        text = of_many_seeds(evidence)
    return f"{text[0].upper()}{text[1:]} {FIXED}"


def finding(evidence: Evidence) -> str:
    """Returns the verdict with the names of both."""
    first, second = evidence.names
    said = {
        BETTER: f"{second} is better than {first}",
        WORSE: f"{second} is worse than {first}",
        EQUIVALENT: f"{second} is equivalent to {first} within {points(evidence.margin)}",
    }.get(evidence.verdict, f"whether {second} is better or worse than {first} is not known")
    return f"{said} ({evidence.conditions})" if evidence.conditions else said


def of_one_seed(evidence: Evidence) -> str:
    """Returns what a single seed says, which is of no other one."""
    first, second = evidence.names
    text = (
        f"with seed {evidence.seeds[0]} alone, {finding(evidence)}: of {messages_of(evidence)}, "
        f"only {second} tells {evidence.only_second} right and only {first} {evidence.only_first}, "
        f"exact McNemar p = {p_of(evidence)}. Nothing is known of other seeds."
    )
    return text if evidence.verdict in (BETTER, WORSE) else text + of_outlook(evidence)


def of_too_few(evidence: Evidence) -> str:
    """Returns what two seeds say, or messages that all have one text: nothing of others."""
    few = f"{len(evidence.seeds)} seeds say nothing of other seeds, {FEWEST_SEEDS} do"
    if len(evidence.seeds) >= FEWEST_SEEDS:
        few = "test messages of one text say nothing of others"
    mean = 100 * evidence.accuracy.mean
    return f"{finding(evidence)}: {few}. The mean difference is {mean:+.2f} points."


def of_many_seeds(evidence: Evidence) -> str:
    """Returns what is known over other seeds and other messages."""
    crossed = evidence.accuracy.crossed
    text = (
        f"{finding(evidence)}: {100 * crossed.mean:+.2f} points of test accuracy over other seeds "
        f"and other messages, 95 % interval {in_points(crossed.interval)}, p = {p_of(evidence)}, "
        f"from {len(evidence.seeds)} seeds and {messages_of(evidence)}."
    )
    if evidence.verdict == EQUIVALENT:
        return f"{text} Its 90 % interval, {in_points(crossed.equivalence)}, is within the margin."
    if evidence.verdict in (BETTER, WORSE):
        small = f" The difference is below {points(evidence.margin)}, the margin."
        return text + small * evidence.is_within_margin
    return text + of_outlook(evidence)


def of_outlook(evidence: Evidence) -> str:
    """Returns what such runs could have shown, and what would show the difference seen."""
    if not (outlook := evidence.outlook):
        return ""
    shown = f" Such runs show a difference of {points(outlook.smallest)} four times out of five"
    if not evidence.accuracy.mean:
        return f"{shown}."
    if not (ways := ways_to_settle(outlook)):
        return f"{shown}; the one seen is too small for any number of seeds or of messages alone."
    return f"{shown}; to show the one seen takes about {' or '.join(ways)} in all."


def ways_to_settle(outlook: Outlook) -> list[str]:
    """Returns how many seeds, or messages, show the difference seen, if such numbers do."""
    counts = (outlook.seeds, "seeds"), (outlook.messages, "messages")
    return [f"{number:,} {what}" for number, what in counts if number is not None]


# ------------------------------------------------------------------------------------------- parts


def messages_of(evidence: Evidence) -> str:
    """Returns how many test messages there are, and how many distinct ones if fewer."""
    total, distinct = evidence.messages, evidence.distinct
    few = f" ({distinct:,} distinct)" if distinct not in (None, total) else ""
    return f"{total:,} test messages{few}"


def p_of(evidence: Evidence) -> str:
    """Returns the p-value, and what it becomes where several rows are compared."""
    p_value = f"{evidence.p_value:.3g}"
    if evidence.compared == 1:
        return p_value
    return f"{p_value} ({evidence.corrected_p_value:.3g} by Holm over {evidence.compared} rows)"


def points(share: float) -> str:
    """Returns a share of accuracy as points."""
    number = f"{100 * share:.2g}"
    return f"{number} point{'' if number == '1' else 's'}"


def in_points(interval: Interval) -> str:
    """Returns an interval of differences in points."""
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"
