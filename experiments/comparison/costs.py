"""Figures of what a design costs, in time or memory, against its test accuracy."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from experiments.comparison.groups import PUBLISHED, Groups, Record, conditions_of
from experiments.comparison.labels import add_legend, place_names, set_log_scale
from experiments.comparison.summaries import Summary

LEAST = 0.01  # no time at all has no logarithm
LEGEND = 2  # columns


def draw_times(groups: Groups, summaries: Sequence[Summary], heading: str) -> Figure:
    """Returns a chart of training time against test accuracy."""
    seconds = {s.name: max(s.train_seconds, LEAST) for s in summaries}
    return draw_costs(groups, summaries, seconds, "training time, s", heading)


def draw_memory(groups: Groups, summaries: Sequence[Summary], heading: str) -> Figure:
    """Returns a chart of the most memory held against test accuracy, where records tell it."""
    return draw_costs(groups, summaries, memory_of(groups), "peak memory, MiB", heading)


def memory_of(groups: Groups) -> dict[str, float]:
    """Returns the most memory that runs held, in MiB, the median over seeds."""
    known = {
        name: [peak for record in group if (peak := record["peak_memory_mib"]) is not None]
        for name, group in groups.items()
    }
    return {name: float(np.median(peaks)) for name, peaks in known.items() if peaks}


def draw_costs(
    groups: Groups, summaries: Sequence[Summary], costs: Mapping[str, float], cost: str,
    heading: str,
) -> Figure:  # fmt: skip
    """Returns a chart of a cost against test accuracy, each point named.

    Published models, baselines, and whatever stands in, have a mark each.

    Args:
        groups: by name.
        summaries: theirs.
        costs: by name, above 0.
        cost: in words.
        heading: of the legend.
    """
    families: dict[str, list[Summary]] = {}
    for s in summaries:
        if s.name in costs:
            families.setdefault(family_of(groups[s.name][0]), []).append(s)
    height = 4.5 + 0.05 * len(costs) + 0.17 * (len(families) + heading.count("\n"))
    figure = Figure(figsize=(7, height), layout="constrained")
    axes, points = figure.subplots(), []
    for (family, members), marker in zip(families.items(), cycle("os^Dv<>*"), strict=False):
        found = [(costs[s.name], 100 * s.mean) for s in members]
        axes.plot(*zip(*found, strict=True), marker, color="black", label=family)
        names = [groups[s.name][0]["name"] for s in members]
        points += zip(found, names, strict=True)
    set_log_scale(axes, list(costs.values()))
    axes.margins(0.12)
    axes.set_xlabel(f"{cost} (median over seeds, logarithmic)")
    axes.set_ylabel("test accuracy, % (mean over seeds)")
    axes.grid(color="0.5", alpha=0.25)
    add_legend(figure, axes, "lower center", LEGEND, heading)
    place_names(axes, points)
    return figure


def family_of(record: Record) -> str:
    """Returns what a run has in common with those that it can be held against."""
    conditions = conditions_of(record)
    if conditions.weights is None:
        return "baselines"
    family = [] if conditions.stand_in else [PUBLISHED]
    return ", ".join([*family, *conditions.deviations])
