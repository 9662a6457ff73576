"""Summaries of groups: counts, intervals, means over seeds, and the comparison with a reference."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.comparison.evidence import Evidence, compare_all, values_of
from experiments.comparison.groups import Groups, find_references, pair_up
from experiments.comparison.metrics import ACCURACY, Metric
from experiments.comparison.sentences import sentence
from experiments.comparison.statistics import wilson_interval
from experiments.config.rows import DATA_SHA256, ROWS
from experiments.runs.records import Run

MEANS = ("macro_f1", "auroc", "log_loss", "brier_score", "calibration_error")


@dataclass(frozen=True, eq=False)
class Summary:
    """The runs of a group, one per seed, and their comparison with the reference."""

    name: str
    runs: list[Run]
    metric: Metric  # that is compared
    references: list[list[Run]]  # the groups that it can be compared with
    evidence: Evidence | None  # None if these are not one, or it has no seed of it

    seeds = property(lambda self: len(self.runs))
    verdict = property(lambda self: self.evidence.verdict if self.evidence else "")
    sentence = property(lambda self: sentence(self.evidence) if self.evidence else "")
    train_seconds = property(lambda self: float(np.median([r.train_seconds for r in self.runs])))

    # Of the first seed.
    first = property(lambda self: self.runs[0])
    right = property(lambda self: int(self.first.is_correct.sum()))
    total = property(lambda self: len(self.first.labels))
    interval = property(lambda self: wilson_interval(self.right, self.total))
    largest_class = property(lambda self: float(np.bincount(self.first.labels).max() / self.total))

    # Accuracies of all seeds.
    accuracies = cached_property(lambda self: [float(r.is_correct.mean()) for r in self.runs])
    mean = property(lambda self: float(np.mean(self.accuracies)))
    lowest = property(lambda self: min(self.accuracies))
    highest = property(lambda self: max(self.accuracies))

    @property
    def deviation(self) -> float:
        """The standard deviation of the accuracies; NaN for one seed."""
        return float(np.std(self.accuracies, ddof=1)) if self.seeds > 1 else math.nan

    @property
    def accuracy_without_duplicates(self) -> float:
        """The first seed's accuracy without the examples whose text is in the training set."""
        distinct = self.first.is_correct[~self.first.in_training]
        return float(distinct.mean()) if len(distinct) else math.nan

    @property
    def published_percent(self) -> float | None:
        """The published accuracy of its row."""
        row, is_published = self.first.row, self.first.data == DATA_SHA256
        return ROWS[row].test_accuracy if row and is_published else None

    @property
    def device(self) -> str:
        """The device; several, if seeds were run on several."""
        return "; ".join(dict.fromkeys(run.environment["device"] for run in self.runs))

    @property
    def value(self) -> float:
        """The mean of the metric over the seeds that are compared."""
        shared = self.evidence.seeds if self.evidence else ()
        compared = [run for run in self.runs if run.seed in shared] or self.runs
        return float(np.mean([values_of(run, self.metric).mean() for run in compared]))

    @cached_property
    def means(self) -> dict[str, float | None]:
        """The means of `MEANS` over the seeds; None if one is not defined."""
        values = {name: [getattr(run.metrics, name) for run in self.runs] for name in MEANS}
        return {k: None if None in of else float(np.mean(of)) for k, of in values.items()}


def summarise(
    groups: Groups, margin: float, reference: str | None = None, metric: Metric = ACCURACY
) -> list[Summary]:
    """Return a summary of each group; p-values are corrected over all of them."""
    references = find_references(groups, reference)
    pairs = {
        name: paired
        for name, found in references.items()
        if len(found) == 1 and (paired := pair_up(found[0], groups[name]))
    }
    evidence = dict(zip(pairs, compare_all(list(pairs.values()), margin, metric), strict=True))
    return [
        Summary(name, group, metric, references[name], evidence.get(name))
        for name, group in groups.items()
    ]
