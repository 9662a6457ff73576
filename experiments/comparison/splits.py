"""Several splits of one file of messages: what another split would bring.

Each split has its own row 1 and its own evidence. The differences of three splits or more have an
interval over other splits of the same messages.

The training sets of J splits overlap, so that they agree more than independent data would: the
variance of their mean is not 1 / J of their own, but (1 / J + test / training messages) of it.

Source: Nadeau & Bengio 2003, "Inference for the Generalization Error", Machine Learning 52.
"""

import math
from collections.abc import Sequence

import numpy as np

from experiments.comparison.crossed import Student
from experiments.comparison.groups import Groups, Record, conditions_of
from experiments.comparison.sentences import in_points
from experiments.comparison.statistics import LEVEL
from experiments.comparison.summaries import Summary

FEWEST_SPLITS = 3  # of which anything is said about others


def over_splits(groups: Groups, summaries: Sequence[Summary]) -> list[str]:
    """Returns a sentence on each row that has evidence from three splits of the same messages."""
    found: dict[tuple[str, ...], dict[int, Summary]] = {}
    for summary in summaries:
        record = groups[summary.name][0]
        if summary.evidence and record.get("split"):
            found.setdefault(family_of(record), {})[record["split"]["seed"]] = summary
    return [
        describe(of_seeds, groups) for of_seeds in found.values() if len(of_seeds) >= FEWEST_SPLITS
    ]


def family_of(record: Record) -> tuple[str, ...]:
    """Returns what runs have in common that differ in the split and the seed alone."""
    weights, _, precision = conditions_of(record)
    return record["name"], str(weights), precision, record["split"]["of"]


def describe(of_seeds: dict[int, Summary], groups: Groups) -> str:
    """Returns the mean difference of splits in a sentence, with its interval.

    Args:
        of_seeds: the summary of each split, by the seed of the split.
        groups: by the summaries' names.
    """
    one = next(iter(of_seeds.values()))
    record, (first, second) = groups[one.name][0], one.evidence.names
    differences = [summary.evidence.accuracy.mean for summary in of_seeds.values()]
    test, training = len(record["test"]["labels"]), record["correct"]["train"][1]
    student = mean_of_splits(differences, test, training)
    seeds = ", ".join(map(str, sorted(of_seeds)))
    interval = f", 95 % interval {in_points(student.interval(LEVEL))}" if student.error else ""
    return (
        f"Over {len(of_seeds)} splits of the same messages (--split_seed {seeds}), {second} minus "
        f"{first}: {100 * student.mean:+.2f} points of test accuracy{interval}, over other splits."
    )


def mean_of_splits(differences: Sequence[float], test: int, training: int) -> Student:
    """Returns how the mean of splits' differences is distributed over other splits.

    Args:
        differences: one a split.
        test: messages of a split.
        training: messages of a split.
    """
    variance = float(np.var(differences, ddof=1)) * (1 / len(differences) + test / training)
    return Student(float(np.mean(differences)), math.sqrt(variance), len(differences) - 1)
