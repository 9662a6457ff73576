"""Two rows side by side: the question, the tests, and the messages on which they differ."""

from collections.abc import Sequence

import numpy as np

from experiments.comparison.groups import BASE, Record, conditions_of, name_of, pair_up
from experiments.comparison.statistics import (
    Interval,
    bootstrap_interval,
    mcnemar,
    t_interval,
    verdict,
    wilson_interval,
)
from experiments.comparison.summaries import accuracy, is_right
from experiments.comparison.tables import percent_interval
from experiments.rows import ROWS

QUESTIONS = {  # what row 1 beside another one asks; other pairs are named by their flags
    2: "Does the first token, which has seen nothing of the message, carry what the last does?",
    3: "Is a new head on frozen features enough?",
    4: "Do two trained blocks do better than one?",
    5: "Does training everything do better than training the last block?",
    6: "Does a medium model do better than a small one?",
    7: "Does a large model do better than a small one?",
    8: "Does an XL model do better than a small one?",
    9: "Does an XL model trained whole do better than a small one's last block?",
    10: "What is pretraining worth?",
    11: "Does LoRA on all layers do better than training the last block?",
    12: "Does LoRA on an XL model do better than a small one's last block?",
    13: "What does padding to the whole context cost?",
    14: "Is no padding, in batches of one, better?",
    15: "Is no padding, with the gradients of eight messages a step, better?",
    16: "Is the last real token better than the last one, padding or not?",
    17: "Does a classifier do better without the causal mask?",
    18: "Does ignoring the padding token's label change anything? (It cannot: labels are 0 and 1.)",
    19: "Is the mean over all positions better than the last one?",
}


def compare_pair(
    first: list[Record], second: list[Record], texts: Sequence[str] | None = None
) -> str:
    """Returns two groups side by side: the question, the tests, and where they differ.

    Args:
        first: its records, one for each seed.
        second: the other's.
        texts: of the test messages, if they are at hand.

    Raises:
        ValueError: when the two share no seed, or have other test messages.
    """
    names = names_of_pair(first[0], second[0])
    pairs = pair_up(first, second)
    if not pairs:
        raise ValueError(
            f"{names[0]} and {names[1]} share no seed: run one of them with the other's"
        )
    one, other = pairs[0]
    check_messages(one, other, names)
    a, b = is_right(one), is_right(other)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = mcnemar(only_a, only_b)
    return "\n".join(
        [
            question_of(one, other),
            "",
            *(describe(record, r) for record, r in ((one, a), (other, b))),
            f"Only {names[0]} right: {only_a}; only {names[1]} right: {only_b}; exact McNemar "
            f"p = {p:.3g}: {names[1]} is {verdict(p, only_b - only_a)}.",
            *warnings_of(first, second),
            "",
            *describe_spreads(pairs, names),
            "",
            "Test messages on which they differ, at the first seed:",
            *list_messages(one, other, texts),
        ]
    )


def names_of_pair(one: Record, other: Record) -> tuple[str, str]:
    """Returns what two groups are called: by their rows where only these tell them apart."""
    if conditions_of(one).allow(conditions_of(other)):
        return one["name"], other["name"]
    return name_of(one), name_of(other)


def check_messages(one: Record, other: Record, names: tuple[str, str]) -> None:
    """Raises ValueError when two runs were tested on other messages."""
    labels, others = one["test"]["labels"], other["test"]["labels"]
    if labels != others:
        raise ValueError(
            f"{names[0]} and {names[1]} were tested on other messages, {len(labels)} and "
            f"{len(others)} with {sum(labels)} and {sum(others)} of them spam: a pair needs the "
            "same messages in the same order"
        )


def describe(record: Record, right: np.ndarray) -> str:
    """Returns a line on what a run found, with what it started from."""
    conditions = conditions_of(record)
    model = ", ".join([*([] if conditions.stand_in else [record["model"]]), *conditions.deviations])
    count, total = int(right.sum()), len(right)
    interval = percent_interval(wilson_interval(count, total))
    return (
        f"{record['name']} ({model}), seed {record['seed']}: {count} of {total}, "
        f"{right.mean():.2%} ({interval})"
    )


def warnings_of(first: list[Record], second: list[Record]) -> list[str]:
    """Returns in what two groups differ besides their rows."""
    one, other = conditions_of(first[0]), conditions_of(second[0])
    found = []
    if not one.allow(other):
        parts = [part for part, x, y in zip(one._fields, one, other, strict=True) if x != y]
        found.append(f"They differ in {' and '.join(parts)}, and not by their rows alone.")
    devices = sorted({r["environment"]["device_type"] for r in (*first, *second) if r["row"]})
    if len(devices) > 1:
        found.append(f"They were run on {' and '.join(devices)}, which round in other ways.")
    return found


def describe_spreads(pairs: list[tuple[Record, Record]], names: tuple[str, str]) -> list[str]:
    """Returns the mean difference over seeds, and how far other seeds and messages spread it."""
    differences = [accuracy(y) - accuracy(x) for x, y in pairs]
    over_messages = np.mean([is_right(y).astype(float) - is_right(x) for x, y in pairs], axis=0)
    seeds = "needs two seeds"
    if len(pairs) > 1:
        seeds = interval_or(t_interval(differences), "needs seeds that differ")
    messages = interval_or(bootstrap_interval(over_messages), "needs messages that differ")
    return [
        f"Over {len(pairs)} seed{'s' if len(pairs) > 1 else ''}, {names[1]} minus {names[0]}, in "
        "points of test accuracy:",
        f"  mean {100 * np.mean(differences):+.2f}",
        f"  other seeds, these messages: 95 % {seeds} (t)",
        f"  other messages, these seeds: 95 % {messages} (bootstrap)",
    ]


def interval_or(interval: Interval, word: str) -> str:
    """Returns an interval in percent, or a word where equal values leave it no width."""
    has_width = interval.high - interval.low > 1e-9  # rounding leaves some
    return percent_interval(interval) if has_width else word


def list_messages(one: Record, other: Record, texts: Sequence[str] | None) -> list[str]:
    """Returns a line for each test message that just one of two runs tells right.

    It gives the probability of the second of two classes, or of the right one of more.
    """
    test, names = one["test"], one["classes"]
    known = texts is not None and len(texts) == len(test["labels"])
    width = max(map(len, names))
    lines = []
    for i in np.flatnonzero(is_right(one) != is_right(other)):
        label = test["labels"][i]
        shown = 1 if len(names) == 2 else label
        p, q = (record["test"]["probabilities"][i][shown] for record in (one, other))
        lines.append(
            f"  {i:3} {names[label]:{width}} P({names[shown]}) {p:.3f} and {q:.3f}"
            f"{'  in training' if test['in_training'][i] else ''}"
            f"{f'  {texts[i]}' if known else ''}"
        )
    return lines


def question_of(one: Record, other: Record) -> str:
    """Returns the question that a pair of records answers."""
    is_plain = conditions_of(one).allow(conditions_of(other))
    if is_plain and one["row"] == BASE and other["row"] in QUESTIONS:
        return QUESTIONS[other["row"]]
    flags = [ROWS[r["row"]].flags or "no flags" if r["row"] else r["model"] for r in (one, other)]
    names = names_of_pair(one, other)
    return f"{names[0]} ({flags[0]}) or {names[1]} ({flags[1]})?"
