"""Two groups compared in detail: the question, the tests, and the examples on which they differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison.evidence import Evidence, compare
from experiments.comparison.groups import (
    BASE,
    have_same_test_examples,
    names_of_pair,
    pair_up,
)
from experiments.comparison.names import conditions_of, design_name
from experiments.comparison.sentences import FIXED, sentence
from experiments.comparison.statistics import wilson_interval
from experiments.comparison.tables import percent_interval, with_interval
from experiments.config.rows import ROWS
from experiments.runs.records import Run

QUESTIONS = {  # of a comparison with row 1; other pairs are described by their flags
    2: "Does the first token, which attends to no other, classify as well as the last one?",
    3: "Is a new head on frozen features enough?",
    4: "Do two trained blocks do better than one?",
    5: "Does training everything do better than training the last block?",
    6: "Does a medium model do better than a small one?",
    7: "Does a large model do better than a small one?",
    8: "Does an XL model do better than a small one?",
    9: "Does an XL model, all of it trained, do better than a small one's last block?",
    10: "What is pretraining worth?",
    11: "Does LoRA on all layers do better than training the last block?",
    12: "Does LoRA on an XL model do better than a small one's last block?",
    13: "What does padding to the whole context cost?",
    14: "Is no padding, in batches of one, better?",
    15: "Is no padding, with the gradients of eight examples per step, better?",
    16: "Is the last real token better than the last one, padding or not?",
    17: "Does a classifier do better without the causal mask?",
    18: "Does ignoring the padding token's label change anything? (It cannot: labels are 0 and 1.)",
    19: "Is the mean over all positions better than the last one?",
}
QUESTIONS_OF_BASELINES = {
    "baseline majority": "Does always predicting the most frequent class do better?",
    "baseline bag_of_words": "Does logistic regression on the words of a text do better?",
}


def describe_pair(
    first: list[Run], second: list[Run], margin: float, texts: Sequence[str] | None = None
) -> str:
    """Return two groups compared: the question, the tests, and the examples that differ.

    The margin is of accuracy. Raises ValueError if the two share no seed, or no test examples.
    """
    names = names_of_pair(first[0], second[0])
    both = " and ".join(names)
    if not (pairs := pair_up(first, second)):
        raise ValueError(f"{both} share no seed: run one of them with the other's")
    one, other = pairs[0]
    if not have_same_test_examples(one, other):
        raise ValueError(
            f"{both} were tested on different examples ({len(one.labels)} and "
            f"{len(other.labels)}): a pair needs the same examples in the same order"
        )
    evidence = compare(pairs, margin)
    return "\n".join(
        [
            question_of(one, other),
            "",
            sentence(evidence),
            FIXED,
            *_warnings_of(first, second),
            "",
            *map(_describe, (one, other)),
            f"Only {names[0]} correct: {evidence.only_first}; only {names[1]} correct: "
            f"{evidence.only_second}; exact McNemar p = {evidence.mcnemar:.3g}, of this seed only",
            "",
            *_describe_differences(evidence),
            "",
            "Test examples on which they differ, at the first seed:",
            *_list_examples(one, other, texts),
        ]
    )


def question_of(one: Run, other: Run) -> str:
    """Return the question that a pair of runs answers."""
    question = QUESTIONS.get(other.row) or QUESTIONS_OF_BASELINES.get(other.name)
    if question and design_name(one) == BASE and conditions_of(one).allow(conditions_of(other)):
        return question
    flags = [ROWS[run.row].flags or "no flags" if run.row else run.model for run in (one, other)]
    names = names_of_pair(one, other)
    return f"{names[0]} ({flags[0]}) or {names[1]} ({flags[1]})?"


def _describe(run: Run) -> str:
    conditions = conditions_of(run)
    model = ", ".join([*([] if conditions.substitute else [run.model]), *conditions.deviations])
    count, total = int(run.is_correct.sum()), len(run.labels)
    return (
        f"{design_name(run)} ({model}), seed {run.seed}: {count} of {total}, {count / total:.2%} "
        f"({percent_interval(wilson_interval(count, total))})"
    )


def _warnings_of(first: list[Run], second: list[Run]) -> list[str]:
    one, other = conditions_of(first[0]), conditions_of(second[0])
    found = []
    if not one.allow(other):
        parts = [part for part, x, y in zip(one._fields, one, other, strict=True) if x != y]
        found.append(f"They differ in {' and '.join(parts)}, not in their rows alone.")
    devices = sorted(
        {run.environment["device_type"] for run in (*first, *second) if not run.is_baseline}
    )
    if len(devices) > 1:
        found.append(f"They were run on {' and '.join(devices)}, which round differently.")
    return found


def _describe_differences(evidence: Evidence) -> list[str]:
    first, second = evidence.names
    count = len(evidence.seeds)
    lines = [
        f"{second} minus {first}, mean over {count} seed{'s' if count > 1 else ''}:",
        f"  test accuracy, points {with_interval(evidence.accuracy, 100)}",
        f"  log loss              {with_interval(evidence.log_loss, 1)}",
        f"  Brier score           {with_interval(evidence.brier_score, 1)}",
    ]
    if crossed := evidence.accuracy.crossed:
        parts = crossed.components.parts(count, evidence.distinct or evidence.examples)
        words = zip(("seeds", "examples", "both together"), parts, strict=True)
        shares = ", ".join(f"{word} {100 * part / (sum(parts) or 1):.0f} %" for word, part in words)
        lines.append(f"  variance of the mean difference in accuracy: {shares}")
    return lines


class Example(NamedTuple):
    """A test example that just one of two runs classifies correctly."""

    number: int  # in the order of the test examples, from 0
    label: str
    shown: str  # the second of two classes, or the correct one of more
    first: float  # its probability
    second: float
    in_training: bool
    text: str | None


def differing_examples(one: Run, other: Run, texts: Sequence[str] | None) -> list[Example]:
    """Return the test examples that just one of two runs classifies correctly."""
    names, found = one.classes, []
    for i in np.flatnonzero(one.is_correct != other.is_correct).tolist():
        label = one.test["labels"][i]
        shown = 1 if len(names) == 2 else label
        p, q = (run.test["probabilities"][i][shown] for run in (one, other))
        is_known, text = one.test["in_training"][i], texts[i] if texts else None
        found.append(Example(i, names[label], names[shown], p, q, is_known, text))
    return found


def _list_examples(one: Run, other: Run, texts: Sequence[str] | None) -> list[str]:
    width = max(map(len, one.classes))
    return [
        f"  {e.number:3} {e.label:{width}} P({e.shown}) {e.first:.3f} and {e.second:.3f}"
        f"{'  in training' if e.in_training else ''}"
        f"{'' if e.text is None else '  ' + ' '.join(e.text.split())}"
        for e in differing_examples(one, other, texts)
    ]
