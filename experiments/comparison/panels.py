"""Figures of one panel a group: curves of losses and accuracies, and calibration."""

import math
from collections.abc import Sequence
from itertools import zip_longest

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.comparison.groups import Groups, Record
from experiments.comparison.labels import add_legend, wrapped
from experiments.comparison.summaries import metrics_of

COLUMNS = 4
TITLE = 28  # characters across a panel


def draw_curves(groups: Groups, heading: str) -> Figure:
    """Returns a figure of losses and accuracies, training solid, of each group's first seed."""
    shown = {name: group[0] for name, group in groups.items() if group[0]["losses"]}
    figure, panels = make_panels(list(shown), (3.2, 2.4))
    top = max(1.05, *(max(row[1:]) for r in shown.values() for row in r["losses"]))
    for record, panel in zip(shown.values(), panels, strict=True):
        draw_curve(record, panel)
        panel.set_ylim(0, top)
    return finish(figure, "batch", "loss; accuracy as a share", heading)


def draw_curve(record: Record, panel: Axes) -> None:
    """Draws the losses and accuracies of a run."""
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


def draw_calibration(groups: Groups, heading: str) -> Figure:
    """Returns a figure of how often a class is right that is told with so much confidence."""
    figure, panels = make_panels(list(groups), (2.6, 2.6))
    for group, panel in zip(groups.values(), panels, strict=True):
        bins = [b for b in metrics_of(group[0]).bins if b.count]
        panel.plot([0, 1], [0, 1], ":", color="0.5", linewidth=1, label="as confident as right")
        panel.scatter(
            [b.confidence for b in bins], [b.accuracy for b in bins],
            s=[10 + 2 * b.count**0.5 for b in bins], color="black", label="messages of a bin",
        )  # fmt: skip
        panel.set_xlim(0, 1.05)
        panel.set_ylim(-0.05, 1.05)
    return finish(figure, "confidence of the class told", "share that is right", heading)


def make_panels(names: Sequence[str], size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Returns a figure with a panel for each name, as its title.

    Args:
        names: of groups.
        size: of a panel in inches, without the title.
    """
    titles = [wrapped(name, TITLE) for name in names]
    columns = min(COLUMNS, len(names))
    lines = math.ceil(len(names) / columns)
    height = size[1] + 0.13 * max(title.count("\n") for title in titles)
    width = max(size[0] * columns, 5.2)  # for the legend
    figure = Figure(figsize=(width, height * lines + 0.7), layout="constrained")
    panels = list(figure.subplots(lines, columns, sharey=True, squeeze=False).flat)
    for title, panel in zip_longest(titles, panels):
        if title is None:
            panel.set_visible(False)
            continue
        panel.set_title(title, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.locator_params("x", nbins=5)
    return figure, panels[: len(titles)]


def finish(figure: Figure, across: str, up: str, heading: str) -> Figure:
    """Returns a figure with its legend and the labels of its axes."""
    columns = 4 if figure.get_figwidth() > 8 else 2
    add_legend(figure, figure.axes[0], "upper center", columns, heading)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)
    return figure
