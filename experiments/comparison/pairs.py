"""Two groups compared in detail: the question, the tests, and the examples on which they differ."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.comparison.evidence import Evidence, Pairs, compare_all, values_of
from experiments.comparison.groups import BASE, Groups, names_of_pair, pair_up
from experiments.comparison.metrics import ACCURACY, METRICS, Metric
from experiments.comparison.names import conditions_of, design_name
from experiments.comparison.notes import describe_devices, describe_failures
from experiments.comparison.sentences import FIXED, sentence
from experiments.comparison.tables import Cells, markdown
from experiments.config.parsing import read_custom_values
from experiments.config.rows import DATA_SHA256, ROWS
from experiments.config.settings import DataConfig
from experiments.data.corpus import load_corpus
from experiments.data.sms_spam import read_messages
from experiments.runs.records import Run
from experiments.system.terminal import printable

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
    groups: Groups,
    first: list[Run],
    second: list[Run],
    margin: float,
    metric: Metric = ACCURACY,
    texts: Sequence[str] | None = None,
    most: int | None = None,
) -> str:
    """Return two groups compared: the question, the metrics, and the examples that differ.

    p-values are adjusted over the designs of all groups. Of the examples, `most` are listed, or
    all. Raises ValueError if the two share no seed, or no test examples.
    """
    both = " and ".join(names_of_pair(first[0], second[0]))
    if not (pairs := pair_up(first, second)):
        raise ValueError(f"{both} share no seed: run one of them with the other's")
    one, other = pairs[0]
    if one.test["labels"] != other.test["labels"] or len(one.classes) != len(other.classes):
        raise ValueError(
            f"{both} were tested on different examples ({len(one.labels)} and "
            f"{len(other.labels)}): a pair needs the same examples in the same order"
        )
    more = [  # designs over which p-values are corrected, too
        pair_up(first, group)
        for group in groups.values()
        if group not in (first, second) and conditions_of(one).allow(conditions_of(group[0]))
    ]
    evidence, *_ = compare_all([pairs, *filter(None, more)], margin, metric)
    return "\n".join(
        [
            question_of(one, other), "", sentence(evidence), FIXED,
            *_warnings_of(first, second), "",
            markdown(means_of_pair(evidence)), *_describe_variance(evidence), "",
            *_list_examples(pairs, texts, most),
        ]
    )  # fmt: skip


def _warnings_of(first: list[Run], second: list[Run]) -> list[str]:
    names = names_of_pair(first[0], second[0])
    one, other = conditions_of(first[0]), conditions_of(second[0])
    found = describe_devices([*first, *second])
    if not one.allow(other):
        parts = [part for part, x, y in zip(one._fields, one, other, strict=True) if x != y]
        found.append(f"They differ in {' and '.join(parts)}, not in their rows alone.")
    failures = describe_failures(dict(zip(names, (first, second), strict=True)))
    return [*found, failures] if failures else found


def question_of(one: Run, other: Run) -> str:
    """Return the question that a pair of runs answers."""
    question = QUESTIONS.get(other.row) or QUESTIONS_OF_BASELINES.get(other.name)
    if question and design_name(one) == BASE and conditions_of(one).allow(conditions_of(other)):
        return question
    names = names_of_pair(one, other)
    if one.row and other.row:
        names = [
            f"{name} ({ROWS[run.row].flags or 'no flags'})"
            for name, run in zip(names, (one, other), strict=True)
        ]
    return f"{names[0]} or {names[1]}?"


def means_of_pair(evidence: Evidence) -> Cells:
    """Return the means over the shared seeds of each metric, and the difference."""
    count = len(evidence.pairs)
    rows = [[f"mean of {count} seed{'s' if count > 1 else ''}", *evidence.names,
             "difference (95 % interval)"]]  # fmt: skip
    for name, metric in METRICS.items():
        means = [
            metric.format_value(np.mean([values_of(run, metric).mean() for run in runs]))
            for runs in zip(*evidence.pairs, strict=True)
        ]
        difference = metric.format_difference(evidence.differences[name])
        rows.append([metric.heading, *means, difference])
    return rows


def _describe_variance(evidence: Evidence) -> list[str]:
    """Return how much of the variance of the difference comes from seeds and from examples."""
    if not (crossed := evidence.difference.crossed):
        return []
    parts = crossed.components.parts(len(evidence.seeds), evidence.distinct or evidence.examples)
    words = zip(("seeds", "examples", "both together"), parts, strict=True)
    shares = ", ".join(f"{word} {100 * part / (sum(parts) or 1):.0f} %" for word, part in words)
    limit = f"{100 * crossed.seeds_limit:.0f} %"
    return ["", f"Variance of the mean difference: {shares}; seeds at most {limit} (95 % limit)."]


# ------------------------------------------------------------------------------------ the examples

Texts = dict[str, list[str]]  # of the test examples in their order, by the digest of the data


class Example(NamedTuple):
    """A test example that just one of two runs classifies correctly."""

    number: int  # in the order of the test examples, from 0
    label: str
    shown: str  # the second of two classes, or the correct one of more
    first: float  # its probability
    second: float
    in_training: bool
    text: str | None


def differing_examples(pairs: Pairs, texts: Sequence[str] | None) -> list[Example]:
    """Return the test examples that just one of the first two runs classifies correctly."""
    (one, other), found = pairs[0], []
    names = one.classes
    for i in np.flatnonzero(one.is_correct != other.is_correct).tolist():
        label = one.test["labels"][i]
        shown = 1 if len(names) == 2 else label
        p, q = (run.test["probabilities"][i][shown] for run in (one, other))
        is_known, text = one.test["in_training"][i], texts[i] if texts else None
        found.append(Example(i, names[label], names[shown], p, q, is_known, text))
    return found


def _list_examples(pairs: Pairs, texts: Sequence[str] | None, most: int | None) -> list[str]:
    (one, other), found = pairs[0], differing_examples(pairs, texts)
    width, shown = max(map(len, one.classes)), found[:most]
    heading = (
        f"{len(found)} test example{'s' if len(found) != 1 else ''} that just one classifies "
        f"correctly, with seed {(other if one.is_baseline else one).seed}"
    )
    if len(shown) < len(found):
        heading += f"; the first {len(shown)} (--all_examples prints all)"
    lines = [
        f"  {e.number:3} {e.label:{width}} P({e.shown}) {e.first:.3f} and {e.second:.3f}"
        f"{'  in training' if e.in_training else ''}"
        f"{'' if e.text is None else '  ' + ' '.join(e.text.split())}"
        for e in shown
    ]
    return [f"{heading}{':' if lines else '.'}", *lines]


def find_texts(runs: Iterable[Run], test_csv: Path, *, custom: bool = True) -> Texts:
    """Return the available test texts of runs; print on stderr which custom data are not.

    Records do not contain them. `test_csv` is used for runs with the same labels; ValueError is
    raised if it exists, but lacks the columns `Label` and `Text`. With `custom`, custom data are
    read again, and used if their split is still that of the record.
    """
    in_csv = read_messages(test_csv) if test_csv.is_file() else None
    found: Texts = {}
    for run in {run.data: run for run in runs if custom or run.data == DATA_SHA256}.values():
        if in_csv is not None and in_csv["Label"].tolist() == run.test["labels"]:
            found[run.data] = in_csv["Text"].tolist()
        elif run.split and run.split.keys() & {"custom", "flags"}:
            try:
                found[run.data] = _read_again(run.split, run.data)
            except (OSError, ValueError, TypeError) as error:  # TypeError: not values of flags
                print(printable(f"Texts are not available: {error}"), file=sys.stderr)
    return found


def _read_again(split: dict[str, Any], digest: str) -> list[str]:
    values = split["custom"] if "custom" in split else _values_of_words(split["flags"])
    custom = read_custom_values(values)
    if custom.data in (None, Path("-")):
        raise ValueError("the examples came from standard input, which cannot be read again")
    corpus = load_corpus(DataConfig(), custom)
    if corpus.digest != digest:
        raise ValueError(f"{custom.data} contains other examples than at the time of training")
    return corpus.splits["test"]["Text"].tolist()


def _values_of_words(flags: list[str]) -> dict[str, Any]:
    """Return the values in the words of a command line, which the first records have."""
    words, values = iter(flags), {}
    for word in words:
        name = word.removeprefix("--")
        values[name] = True if name == "balance" else next(words, "")
    if "split" in values:
        values["split"] = [int(share) for share in values["split"].split("/")]
    whole = values.keys() & {"split_seed", "train_size"}
    return values | {name: int(values[name]) for name in whole}
