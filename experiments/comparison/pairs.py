"""Two rows side by side: the question, the tests, and the messages on which they differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison.evidence import Evidence, is_right, weigh
from experiments.comparison.groups import (
    BASE,
    Record,
    conditions_of,
    names_of_pair,
    pair_up,
)
from experiments.comparison.sentences import sentence
from experiments.comparison.statistics import wilson_interval
from experiments.comparison.tables import percent_interval, with_interval
from experiments.config.rows import ROWS

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
OF_BASELINES = {
    "baseline majority": "Does telling every message the most frequent class do better?",
    "baseline bag_of_words": "Does logistic regression on the words of a message do better?",
}


def compare_pair(
    first: list[Record],
    second: list[Record],
    margin: float,
    texts: Sequence[str] | None = None,
) -> str:
    """Returns two groups side by side: the question, the tests, and where they differ.

    Args:
        first: its records, one for each seed.
        second: the other's.
        margin: of accuracy, within which they are equivalent.
        texts: of the test messages, if they are at hand.

    Raises:
        ValueError: when the two share no seed, or have other test messages.
    """
    names = names_of_pair(first[0], second[0])
    if not (pairs := pair_up(first, second)):
        raise ValueError(
            f"{names[0]} and {names[1]} share no seed: run one of them with the other's"
        )
    one, other = pairs[0]
    check_messages(one, other, names)
    evidence = weigh(pairs, margin)
    return "\n".join(
        [
            question_of(one, other),
            "",
            sentence(evidence),
            *warnings_of(first, second),
            "",
            *(describe(record) for record in (one, other)),
            f"Only {names[0]} right: {evidence.only_first}; only {names[1]} right: "
            f"{evidence.only_second}; exact McNemar p = {evidence.mcnemar:.3g}, of this seed alone",
            "",
            *describe_differences(evidence),
            "",
            "Test messages on which they differ, at the first seed:",
            *list_messages(one, other, texts),
        ]
    )


def check_messages(one: Record, other: Record, names: tuple[str, str]) -> None:
    """Raises ValueError when two runs were tested on other messages."""
    labels, others = one["test"]["labels"], other["test"]["labels"]
    if labels != others:
        raise ValueError(
            f"{names[0]} and {names[1]} were tested on other messages, {len(labels)} and "
            f"{len(others)} with {sum(labels)} and {sum(others)} of them spam: a pair needs the "
            "same messages in the same order"
        )


def describe(record: Record) -> str:
    """Returns a line on what a run found, with what it started from."""
    conditions = conditions_of(record)
    model = ", ".join([*([] if conditions.stand_in else [record["model"]]), *conditions.deviations])
    right = is_right(record)
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


def describe_differences(evidence: Evidence) -> list[str]:
    """Returns how two groups differ in accuracy and losses, and where the spread comes from."""
    first, second = evidence.names
    count = len(evidence.seeds)
    lines = [f"{second} minus {first}, a mean over {count} seed{'s' if count > 1 else ''}:"]
    for word, difference, scale in (
        ("test accuracy, points", evidence.accuracy, 100),
        ("log loss", evidence.log_loss, 1),
        ("Brier score", evidence.brier_score, 1),
    ):
        lines.append(f"  {word:21} {with_interval(difference, scale)}")
    if crossed := evidence.accuracy.crossed:
        parts = crossed.components.shares(count, evidence.distinct or evidence.messages)
        words = ("seeds", "messages", "both together")
        of_each = ", ".join(f"{w} {100 * p:.0f} %" for w, p in zip(words, parts, strict=True))
        lines.append(f"  variance of the mean difference in accuracy: {of_each}")
    return lines


class Message(NamedTuple):
    """A test message that just one of two runs tells right."""

    number: int  # in the order of the test messages, from 0
    label: str
    shown: str  # the second of two classes, or the right one of more
    first: float  # its probability
    second: float
    in_training: bool
    text: str | None


def differing(one: Record, other: Record, texts: Sequence[str] | None) -> list[Message]:
    """Returns the test messages that just one of two runs tells right.

    Args:
        one: a run.
        other: another of the same test messages.
        texts: theirs, if they are at hand.
    """
    test, names, found = one["test"], one["classes"], []
    for i in np.flatnonzero(is_right(one) != is_right(other)):
        label = test["labels"][i]
        shown = 1 if len(names) == 2 else label
        p, q = (record["test"]["probabilities"][i][shown] for record in (one, other))
        is_known, text = test["in_training"][i], texts[i] if texts else None
        found.append(Message(int(i), names[label], names[shown], p, q, is_known, text))
    return found


def list_messages(one: Record, other: Record, texts: Sequence[str] | None) -> list[str]:
    """Returns a line for each test message that just one of two runs tells right.

    Blanks and line ends of a text are one blank there.
    """
    width = max(map(len, one["classes"]))
    return [
        f"  {m.number:3} {m.label:{width}} P({m.shown}) {m.first:.3f} and {m.second:.3f}"
        f"{'  in training' if m.in_training else ''}"
        f"{'' if m.text is None else '  ' + ' '.join(m.text.split())}"
        for m in differing(one, other, texts)
    ]


def question_of(one: Record, other: Record) -> str:
    """Returns the question that a pair of records answers."""
    is_plain = conditions_of(one).allow(conditions_of(other))
    known = QUESTIONS.get(other["row"]) or OF_BASELINES.get(other["name"])
    if is_plain and one["row"] == BASE and known:
        return known
    flags = [ROWS[r["row"]].flags or "no flags" if r["row"] else r["model"] for r in (one, other)]
    names = names_of_pair(one, other)
    return f"{names[0]} ({flags[0]}) or {names[1]} ({flags[1]})?"
