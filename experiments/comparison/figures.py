"""Figures of runs, as PNG or SVG: differences, effects, costs, calibration and learning curves.

    plot(summaries, Path("figures"))  # PNG files
    draw_all(summaries)["curves"]     # a figure; `as_svg` makes it part of a page

All are readable without colour, and no axis of proportions is cut below the values shown.
"""

import io
import re
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.comparison.drawing import (
    add_legend,
    label_panels,
    make_panels,
    make_rows,
    place_names,
    set_log_scale,
    wrap,
)
from experiments.comparison.effects import Effect, Effects, Grid, are_numbers
from experiments.comparison.evidence import Evidence, values_of
from experiments.comparison.metrics import Metric
from experiments.comparison.names import PUBLISHED, conditions_of, design_name, substitutes_of
from experiments.comparison.statistics import wilson_interval
from experiments.comparison.summaries import Summary
from experiments.config.naming import format_value
from experiments.config.rows import SIZES, published_count
from experiments.runs.records import Run
from experiments.system.files import write_whole

WIDTH, NARROW = 7.5, 4.0  # inches of a figure with names on its left, on a page and on a phone
LEAST = 0.01  # seconds and MiB on a logarithmic axis
COLORS = ("#3478c6", "#c8452f", "#2a8a4a", "#8a5fc0", "#a07512", "#c04a8c", "#808080")
MARKS = {  # of a verdict: colour that is readable on white and on black, as all, and mark
    "better": ("#2a8a4a", "^"), "worse": ("#c8452f", "v"), "equivalent": ("#3478c6", "s"),
    "identical": ("#3478c6", "D"), "these two models differ": ("#a07512", "P"),
}  # fmt: skip

_as_words = mpl.rc_context({"text.parse_math": False})  # a $ in a name is no formula


@_as_words
def plot(summaries: Sequence[Summary], folder: Path, effects: Effects = ()) -> list[Path]:
    """Draw all figures; return the PNG files."""
    paths = []
    for name, figure in draw_all(summaries, effects).items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=150)
        paths.append(folder / f"{name}.png")
        write_whole(paths[-1], picture.getvalue())
    return paths


@_as_words
def draw_all(summaries: Sequence[Summary], effects: Effects = ()) -> dict[str, Figure]:
    """Return the figures by name; their legends name substitutes for the published models."""
    heading = ""
    if substitutes := substitutes_of(s.first for s in summaries):
        title = "Substitutes for the published models, whose figures are not theirs:"
        heading = "\n".join([title, *substitutes])
    seconds = {s.name: max(s.train_seconds, LEAST) for s in summaries}
    peaks = {
        s.name: [max(r.peak_memory_mib, LEAST) for r in s.runs if r.peak_memory_mib is not None]
        for s in summaries
    }
    memory = {name: float(np.median(of_seeds)) for name, of_seeds in peaks.items() if of_seeds}
    figures = {}
    if any(s.evidence for s in summaries):
        figures["differences"] = draw_differences(summaries)
    for number, (grid, of_grid) in enumerate(effects, start=1):
        names = [e.name for e in of_grid]
        figures[f"effects_{number}"] = _draw_forest(names, of_grid, "effect", WIDTH)
        if curves := _draw_levels(grid, of_grid[0].metric):
            figures[f"levels_{number}"] = curves
    figures["test_accuracy"] = _draw_accuracies(summaries, heading)
    figures["time_and_accuracy"] = _draw_costs(summaries, seconds, "training time, s", heading)
    if memory:
        figures["memory_and_accuracy"] = _draw_costs(summaries, memory, "peak memory, MiB", heading)
    figures["calibration"] = _draw_calibration(summaries, heading)
    if any(s.first.losses for s in summaries):
        figures["curves"] = _draw_curves(summaries, heading)
    return figures


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure as an element of a page, in the page's own colour of text.

    Words are drawn as shapes, so that they need no font. The name, a prefix of all identifiers,
    must be unique in the page.
    """
    picture = io.StringIO()
    settings = {"svg.hashsalt": name, "svg.fonttype": "path", "text.parse_math": False}
    with mpl.rc_context(settings):
        unknown = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(picture, format="svg", transparent=True, metadata=unknown)
    text = picture.getvalue()
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])
    text = re.sub(r'( id="| xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace("#000000", "currentColor").replace("#ffffff", "none")
    return text.replace("<svg ", '<svg fill="currentColor" ')


@_as_words
def draw_differences(summaries: Sequence[Summary], width: float = WIDTH) -> Figure:
    """Return the differences of designs from their reference, with intervals and the margin."""
    compared = {s.name: s.evidence for s in summaries if s.evidence}
    references = {e.names[0] for e in compared.values()}
    name = references.pop() if len(references) == 1 else "row 1 with the same training recipe"
    return _draw_forest(list(compared), list(compared.values()), f"difference from {name}", width)


def _draw_forest(
    names: Sequence[str], found: Sequence[Evidence | Effect], what: str, width: float
) -> Figure:
    """Return a forest plot of differences."""
    figure, axes = make_rows(names, width, 1.4)
    metric, margin = found[0].metric, found[0].margin
    scale, inside = metric.scale, f"margin of {metric.format_size(margin)}"
    axes.axvspan(-scale * margin, scale * margin, color="0.5", alpha=0.15, label=inside)
    axes.axvline(0, color="0.5", linewidth=1)
    for i, one in enumerate(found):
        color, mark = MARKS.get(one.verdict, ("0.5", "o"))
        mean, crossed = one.difference
        low, high = crossed.interval if crossed else (mean, mean)
        error = [[scale * (mean - low)], [scale * (high - mean)]]
        axes.errorbar(
            scale * mean, i, xerr=error, fmt=mark, color=color, capsize=3, markersize=6,
            label=one.verdict,
        )  # fmt: skip
    unit = "" if metric.is_loss else " in points"
    axes.set(ylim=(len(names) - 0.4, -0.6))
    words = f"{metric.title}: {what}{unit}, 95 % interval"
    figure.supxlabel(wrap(words, int(12 * width)), fontsize=9)
    axes.locator_params("x", nbins=5 if width < WIDTH else 9)
    add_legend(figure, axes, "upper center", 5 if width == WIDTH else 2, "")
    return figure


def _draw_levels(grid: Grid, metric: Metric) -> Figure | None:
    """Return the metric by the values of a numeric factor, a line for each level of the others."""
    numeric = [name for name, levels in grid.factors.items() if are_numbers(levels)]
    if not numeric:
        return None
    name = max(numeric, key=lambda k: len(grid.factors[k]))
    place = list(grid.factors).index(name)
    lines: dict[str, list[tuple[float, list[float]]]] = {}
    for levels, by_seed in grid.runs.items():
        others = [
            f"{factor} {format_value(level)}"
            for factor, level in zip(grid.factors, levels, strict=True)
            if factor != name
        ]
        of_seeds = [metric.scale * values_of(by_seed[s], metric).mean() for s in grid.seeds]
        lines.setdefault(", ".join(others), []).append((levels[place], of_seeds))
    figure = Figure(figsize=(7, 4.2 + 0.17 * len(lines)), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=COLORS)
    styles = zip(lines.items(), cycle("os^Dv<>*"), cycle(("-", "--", ":", "-.")), strict=False)
    for (label, points), mark, dash in styles:
        x, y = zip(*sorted(points), strict=True)
        (line,) = axes.plot(x, [np.mean(v) for v in y], mark + dash, label=label or "mean of seeds")
        for at, of_seeds in zip(x, y, strict=True):
            axes.plot([at] * len(of_seeds), of_seeds, "_", color=line.get_color(), alpha=0.5)
    values = grid.factors[name]
    if min(values) > 0 and max(values) / min(values) > 4:
        axes.set_xscale("log")
    axes.set_xticks(values, [format_value(v) for v in values], rotation=90 * (len(values) > 6))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=name, ylabel=f"{metric.heading} (mean and seeds)")
    axes.grid(color="0.5", alpha=0.25)
    add_legend(figure, axes, "lower center", 2, "")
    return figure


def _draw_accuracies(summaries: Sequence[Summary], heading: str) -> Figure:
    more = 1.3 + 0.17 * heading.count("\n") + 0.04 * len(summaries)
    figure, axes = make_rows([s.name for s in summaries], WIDTH, more)
    for i, s in enumerate(summaries):
        share = s.right / s.total
        error = [[share - s.interval.low], [s.interval.high - share]]
        axes.errorbar(
            100 * share, i, xerr=100 * np.array(error), fmt="o", color="black", capsize=3,
            label="first seed, 95 % interval",
        )  # fmt: skip
        others = [100 * accuracy for accuracy in s.accuracies[1:]]
        if others:
            style = {"color": "black", "markersize": 9, "label": "other seeds"}
            axes.plot(others, [i] * len(others), "|", **style)
        if (x := s.published_percent) is not None:
            low, high = wilson_interval(published_count(x, SIZES["test"]), SIZES["test"])
            axes.errorbar(
                x, i + 0.28, xerr=[[x - 100 * low], [100 * high - x]], fmt="D", color="0.5",
                markerfacecolor="white", markersize=5, capsize=2,
                label="published, 95 % interval",
            )  # fmt: skip
    axes.set(ylim=(len(summaries) - 0.3, -0.7))  # the first at the top
    axes.set_xlabel("test accuracy, %", fontsize=9)
    axes.set_xlim(right=100.5)
    add_legend(figure, axes, "lower center", 3, heading)
    return figure


def _draw_costs(
    summaries: Sequence[Summary], costs: dict[str, float], cost: str, heading: str
) -> Figure:
    """Return a chart of a cost (above 0) and test accuracy, each family with its own mark."""
    families: dict[str, list[Summary]] = {}
    for s in (s for s in summaries if s.name in costs):
        families.setdefault(_family_of(s.first), []).append(s)
    height = 4.5 + 0.05 * len(costs) + 0.17 * (len(families) + heading.count("\n"))
    figure = Figure(figsize=(7, height), layout="constrained")
    axes, points = figure.subplots(), []
    for (family, members), marker in zip(families.items(), cycle("os^Dv<>*"), strict=False):
        found = [(costs[s.name], 100 * s.mean) for s in members]
        axes.plot(*zip(*found, strict=True), marker, color="black", label=family)
        names = [design_name(s.first) for s in members]
        points += zip(found, names, strict=True)
    set_log_scale(axes, list(costs.values()))
    axes.margins(0.12)
    across = f"{cost} (median over seeds, logarithmic)"
    axes.set(xlabel=across, ylabel="test accuracy, % (mean over seeds)")
    axes.grid(color="0.5", alpha=0.25)
    add_legend(figure, axes, "lower center", 2, heading)
    place_names(axes, points)
    return figure


def _family_of(run: Run) -> str:
    conditions = conditions_of(run)
    family = [*([] if conditions.substitute else [PUBLISHED]), *conditions.deviations]
    return "baselines" if conditions.weights is None else ", ".join(family)


def _draw_curves(summaries: Sequence[Summary], heading: str) -> Figure:
    shown = {s.name: s.first for s in summaries if s.first.losses}
    figure, panels = make_panels(list(shown), (3.2, 2.4))
    top = max(1.05, *(max(row[1:]) for run in shown.values() for row in run.losses))
    for run, panel in zip(shown.values(), panels, strict=True):
        batch, train, validation = zip(*run.losses, strict=True)
        panel.plot(batch, train, "-", color="black", linewidth=1, label="training loss")
        panel.plot(batch, validation, "--", color="black", linewidth=1, label="validation loss")
        batches = run.correct["train"][1] / run.settings["batch_size"]  # per epoch
        at = [row[0] * batches for row in run.accuracies]
        for column, split, style in ((1, "training", "full"), (2, "validation", "none")):
            panel.plot(
                at, [row[column] for row in run.accuracies], "o", color="black", markersize=4,
                fillstyle=style, label=f"{split} accuracy",
            )  # fmt: skip
        panel.set_ylim(0, top)
    return label_panels(figure, "batch", "loss; accuracy as a proportion", heading)


def _draw_calibration(summaries: Sequence[Summary], heading: str) -> Figure:
    figure, panels = make_panels([s.name for s in summaries], (2.6, 2.6))
    for s, panel in zip(summaries, panels, strict=True):
        bins = [b for b in s.first.metrics.bins if b.count]
        panel.plot([0, 1], [0, 1], ":", color="0.5", linewidth=1, label="perfect calibration")
        panel.scatter(
            [b.confidence for b in bins], [b.accuracy for b in bins],
            s=[10 + 2 * b.count**0.5 for b in bins], color="black", label="examples of a bin",
        )  # fmt: skip
        panel.set(xlim=(0, 1.05), ylim=(-0.05, 1.05))
    return label_panels(figure, "confidence of the predicted class", "accuracy", heading)
