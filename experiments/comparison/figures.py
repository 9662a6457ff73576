"""PNG figures of records: curves, accuracies with intervals, time, calibration."""

import io
import math
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.comparison.groups import PUBLISHED, Groups, Record, conditions_of, stand_ins_of
from experiments.comparison.statistics import wilson_interval
from experiments.comparison.summaries import Summary, accuracy, metrics_of, summarise
from experiments.files import write_whole
from experiments.rows import SIZES, published_count


def plot(groups: Groups, folder: Path) -> list[Path]:
    """Draws curves, accuracies with intervals, and time against accuracy; returns the PNG files.

    All are told apart without colour, and no axis of shares is cut below what is shown. The legend
    is headed by what stands in for the published models.
    """
    figures: dict[str, Callable[..., Figure]] = {
        "test_accuracy": draw_accuracies,
        "time_and_accuracy": draw_times,
        "calibration": draw_calibration,
    }
    if any(group[0]["losses"] for group in groups.values()):
        figures["curves"] = draw_curves
    paths = []
    for name, draw in figures.items():
        figure, picture = draw(groups), io.BytesIO()
        if stand_ins := stand_ins_of(groups):
            figure.legends[0].set_title(caption(stand_ins), {"size": 8})
        figure.savefig(picture, format="png", dpi=150, bbox_inches="tight")
        paths.append(folder / f"{name}.png")
        write_whole(paths[-1], picture.getvalue())
    return paths


def caption(stand_ins: Sequence[str]) -> str:
    """Returns what a figure says of runs that are none of the published models."""
    heading = "Stand-ins, no runs of the published models, whose figures are not theirs:"
    return "\n".join([heading, *stand_ins])


def on_two_lines(name: str) -> str:
    """Returns a group's name with its row above what else tells it apart."""
    return name.replace(", ", "\n", 1)


def draw_curves(groups: Groups) -> Figure:
    """Returns a figure of losses and accuracies, one panel a row, training solid and first seed."""
    shown = {name: group[0] for name, group in groups.items() if group[0]["losses"]}
    columns = min(4, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=False, sharey=True, squeeze=False).flat
    top = max(1.05, *(max(row[1:]) for r in shown.values() for row in r["losses"]))
    for (name, record), panel in zip(shown.items(), panels, strict=False):
        batch, train, validation = zip(*record["losses"], strict=True)
        panel.plot(batch, train, "-", color="black", linewidth=1, label="training loss")
        panel.plot(batch, validation, "--", color="black", linewidth=1, label="validation loss")
        epoch, train, validation = zip(*record["accuracies"], strict=True)
        batches = record["correct"]["train"][1] / record["settings"]["batch_size"]  # in an epoch
        at = [e * batches for e in epoch]
        panel.plot(at, train, "o", color="black", markersize=4, label="training accuracy")
        panel.plot(
            at, validation, "o", color="black", markersize=4, fillstyle="none",
            label="validation accuracy",
        )  # fmt: skip
        panel.set_title(on_two_lines(name), fontsize=9)
        panel.set_ylim(0, top)
        panel.tick_params(labelsize=7)
    for panel in list(panels):
        panel.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
    figure.supxlabel("batch", fontsize=9)
    figure.supylabel("loss; accuracy as a share", fontsize=9)
    return figure


def draw_calibration(groups: Groups) -> Figure:
    """Returns a figure of how often a class is right that is told with so much confidence."""
    columns = min(4, len(groups))
    lines = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    for (name, group), panel in zip(groups.items(), panels, strict=False):
        bins = [b for b in metrics_of(group[0]).bins if b.count]
        panel.plot([0, 1], [0, 1], ":", color="0.6", linewidth=1, label="as confident as right")
        panel.scatter(
            [b.confidence for b in bins], [b.accuracy for b in bins],
            s=[10 + 2 * b.count**0.5 for b in bins], color="black", label="messages of a bin",
        )  # fmt: skip
        panel.set_title(on_two_lines(name), fontsize=9)
        panel.set_xlim(0, 1.05)
        panel.set_ylim(-0.05, 1.05)
        panel.tick_params(labelsize=7)
    for panel in list(panels):
        panel.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8)
    figure.supxlabel("confidence of the class told", fontsize=9)
    figure.supylabel("share that is right", fontsize=9)
    return figure


def draw_accuracies(groups: Groups) -> Figure:
    """Returns a chart of test accuracies with intervals, the published one beside each."""
    summaries = summarise(groups)
    figure = Figure(figsize=(7, 1.2 + 0.42 * len(summaries)), layout="constrained")
    axes = figure.subplots()
    for i, s in enumerate(summaries):
        share = s.right / s.total
        error = [[share - s.interval.low], [s.interval.high - share]]
        axes.errorbar(
            100 * share, i, xerr=100 * np.array(error), fmt="o", color="black", capsize=3,
            label="first seed, 95 % interval",
        )  # fmt: skip
        others = [100 * accuracy(record) for record in groups[s.name][1:]]
        if others:
            axes.plot(
                others, [i] * len(others), "|", color="black", markersize=9, label="other seeds"
            )
        if s.published_percent is not None:
            count = published_count(s.published_percent, SIZES["test"])
            low, high = wilson_interval(count, SIZES["test"])
            x = s.published_percent
            axes.errorbar(
                x, i + 0.28, xerr=[[x - 100 * low], [100 * high - x]], fmt="D", color="0.55",
                markerfacecolor="white", markersize=5, capsize=2,
                label="published, 95 % interval",
            )  # fmt: skip
    axes.set_yticks(range(len(summaries)), [on_two_lines(s.name) for s in summaries], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(right=100.5)
    axes.set_xlabel("test accuracy, %")
    axes.grid(axis="x", color="0.9")
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))  # each once
    figure.legend(by_label.values(), by_label, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def draw_times(groups: Groups) -> Figure:
    """Returns a chart of training time against test accuracy, each point named.

    Published models, baselines, and whatever stands in, have a mark each.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    families: dict[str, list[Summary]] = {}
    for s in summarise(groups):
        families.setdefault(family_of(groups[s.name][0]), []).append(s)
    for (family, summaries), marker in zip(families.items(), cycle("os^Dv<>*"), strict=False):
        points = merge_points(summaries)
        axes.plot(*zip(*points, strict=True), marker, color="black", label=family)
        for point, together in points.items():
            axes.annotate(
                ", ".join(groups[name][0]["name"] for name in together), point, xytext=(5, 4),
                textcoords="offset points", fontsize=8, rotation=25,
            )  # fmt: skip
    axes.margins(x=0.15)
    axes.set_xscale("log")
    axes.set_xlabel("training time, s (median over seeds, logarithmic)")
    axes.set_ylabel("test accuracy, % (mean over seeds)")
    axes.grid(color="0.9")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def family_of(record: Record) -> str:
    """Returns what a run has in common with those that it can be held against."""
    conditions = conditions_of(record)
    if conditions.weights is None:
        return "baselines"
    family = [] if conditions.stand_in else [PUBLISHED]
    return ", ".join([*family, *conditions.deviations])


def merge_points(summaries: Sequence[Summary]) -> dict[tuple[float, float], list[str]]:
    """Returns points of seconds and percent, and the names of the groups at or beside each."""
    names: dict[tuple[float, float], list[str]] = {}
    for s in summaries:
        point = (max(s.train_seconds, 0.01), 100 * s.mean)  # no time at all has no logarithm
        near = (
            q for q in names if abs(math.log(q[0] / point[0])) < 0.03 and abs(q[1] - point[1]) < 1
        )
        names.setdefault(next(near, point), []).append(s.name)
    return names
