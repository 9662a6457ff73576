"""Two rows side by side: the question, the tests, and the messages on which they differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.comparison.statistics import (
    bootstrap_interval,
    mcnemar,
    t_interval,
    verdict,
    wilson_interval,
)
from experiments.comparison.summaries import BASE, accuracy, is_right, pair_up
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
    first: list[dict[str, Any]], second: list[dict[str, Any]], texts: Sequence[str] | None = None
) -> str:
    """Returns two groups side by side: the question, the tests, and where they differ.

    Args:
        first: its records, one for each seed.
        second: the other's.
        texts: of the test messages, if they are at hand.

    Raises:
        ValueError: when the two share no seed.
    """
    pairs = pair_up(first, second)
    names = [group[0]["name"] for group in (first, second)]
    if not pairs:
        raise ValueError(
            f"{names[0]} and {names[1]} share no seed: run one of them with the other's"
        )
    one, other = pairs[0]
    a, b = is_right(one), is_right(other)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = mcnemar(only_a, only_b)
    differences = [accuracy(y) - accuracy(x) for x, y in pairs]
    over_messages = np.mean([is_right(y).astype(float) - is_right(x) for x, y in pairs], axis=0)
    lines = [
        question_of(one, other),
        "",
        *(
            f"{record['name']} ({record['model']}), seed {record['seed']}: "
            f"{int(r.sum())} of {len(r)}, {r.mean():.2%} "
            f"({percent_interval(wilson_interval(int(r.sum()), len(r)))})"
            for record, r in ((one, a), (other, b))
        ),
        f"Only {names[0]} right: {only_a}; only {names[1]} right: {only_b}; exact McNemar "
        f"p = {p:.3g}: {names[1]} is {verdict(p, only_b - only_a)}.",
        "",
        f"Over {len(pairs)} seeds, {names[1]} minus {names[0]}, in points of test accuracy:",
        f"  mean {100 * np.mean(differences):+.2f}",
        "  other seeds, these messages: 95 % "
        + (percent_interval(t_interval(differences)) if len(pairs) > 1 else "needs two seeds")
        + " (t)",
        "  other messages, these seeds: 95 % "
        f"{percent_interval(bootstrap_interval(over_messages))} (bootstrap)",
        "",
        "Test messages on which they differ, at the first seed:",
    ]
    for i in np.flatnonzero(a != b):
        shown = f"  {texts[i]}" if texts is not None and len(texts) == len(a) else ""
        lines.append(
            f"  {i:3} {'spam' if one['test']['labels'][i] else 'ham ':4} "
            f"P(spam) {one['test']['p_spam'][i]:.3f} and {other['test']['p_spam'][i]:.3f}"
            f"{'  in training' if one['test']['in_training'][i] else ''}{shown}"
        )
    return "\n".join(lines)


def question_of(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Returns the question that a pair of records answers."""
    if one["row"] == BASE and other["row"] in QUESTIONS:
        return QUESTIONS[other["row"]]

    def name(record: dict[str, Any]) -> str:
        flags = ROWS[record["row"]].flags or "no flags" if record["row"] else record["model"]
        return f"{record['name']} ({flags})"

    return f"{name(one)} or {name(other)}?"
