"""The figures of records, as PNG or SVG: intervals, time and memory, calibration, curves.

plot(groups, summaries, Path("figures"))  # PNG files
draw_all(groups, summaries)["curves"]     # a figure, which `as_svg` makes part of a page
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from experiments.comparison.costs import draw_memory, draw_times, memory_of
from experiments.comparison.groups import Groups, stand_ins_of
from experiments.comparison.labels import add_legend, wrapped
from experiments.comparison.panels import draw_calibration, draw_curves
from experiments.comparison.statistics import wilson_interval
from experiments.comparison.summaries import Summary, accuracy
from experiments.config.rows import SIZES, published_count
from experiments.system.files import write_whole

LABEL = 50  # characters of a group's name in one line


def plot(groups: Groups, summaries: Sequence[Summary], folder: Path) -> list[Path]:
    """Draws all figures; returns the PNG files."""
    paths = []
    for name, figure in draw_all(groups, summaries).items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=150)
        paths.append(folder / f"{name}.png")
        write_whole(paths[-1], picture.getvalue())
    return paths


def draw_all(groups: Groups, summaries: Sequence[Summary]) -> dict[str, Figure]:
    """Returns the figures of what the records hold, by name.

    All are told apart without colour, and no axis of shares is cut below what is shown. The legend
    is headed by what stands in for the published models.
    """
    heading = caption(stand_ins_of(groups))
    figures = {
        "test_accuracy": draw_accuracies(groups, summaries, heading),
        "time_and_accuracy": draw_times(groups, summaries, heading),
    }
    if memory_of(groups):
        figures["memory_and_accuracy"] = draw_memory(groups, summaries, heading)
    figures["calibration"] = draw_calibration(groups, heading)
    if any(group[0]["losses"] for group in groups.values()):
        figures["curves"] = draw_curves(groups, heading)
    return figures


def as_svg(figure: Figure, name: str) -> str:
    """Returns a figure as an element of a page, in the page's own colour of text.

    The same figure is always the same text. Words are drawn as shapes, so that they keep the room
    that they were given, whichever fonts a reader has.

    Args:
        figure: what is drawn.
        name: tells its identifiers apart from those of other figures in the page.
    """
    picture = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        unknown = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(picture, format="svg", transparent=True, metadata=unknown)
    text = picture.getvalue()
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])
    text = re.sub(r'( id="| xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    return re.sub("#000000|#ffffff", recolour, text).replace("<svg ", '<svg fill="currentColor" ')


def recolour(match: re.Match[str]) -> str:
    """Returns what black and white become where a page may be dark."""
    return "currentColor" if match[0] == "#000000" else "none"


def caption(stand_ins: Sequence[str]) -> str:
    """Returns what a figure says of runs that are none of the published models; empty of none."""
    heading = "Stand-ins, no runs of the published models, whose figures are not theirs:"
    return "\n".join([heading, *stand_ins]) if stand_ins else ""


def draw_accuracies(groups: Groups, summaries: Sequence[Summary], heading: str) -> Figure:
    """Returns a chart of test accuracies with intervals, the published one beside each."""
    labels = [wrapped(s.name, LABEL) for s in summaries]
    step = 0.3 + 0.14 * max(label.count("\n") for label in labels)  # inches
    height = 1.3 + step * len(summaries) + 0.17 * heading.count("\n")
    figure = Figure(figsize=(7.5, height), layout="constrained")
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
                x, i + 0.28, xerr=[[x - 100 * low], [100 * high - x]], fmt="D", color="0.5",
                markerfacecolor="white", markersize=5, capsize=2,
                label="published, 95 % interval",
            )  # fmt: skip
    axes.set_yticks(range(len(summaries)), labels, fontsize=8)
    axes.set_ylim(len(summaries) - 0.3, -0.7)  # the first above
    axes.set_xlim(right=100.5)
    axes.set_xlabel("test accuracy, %")
    axes.grid(axis="x", color="0.5", alpha=0.25)
    add_legend(figure, axes, "lower center", 3, heading)
    return figure
