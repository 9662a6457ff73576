"""The parts of figures: rows and panels by name, legends, and names that cover no other one."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TITLE, POINT = 28, 34  # characters per line of a name above a panel and next to a point
LINES = 4  # of a name, whose middle is left out if it is longer
PANELS = 10.6  # inches for the panels of a line
POINTS = 72  # per inch
CLEAR = 2.0  # points around a name
RING = 7.0  # points between two distances of a name
DIRECTIONS = 16
ENTRY, HEADING = 40, 75  # characters per line of a legend's entries and its heading


def make_rows(names: Sequence[str], width: float, more: float) -> tuple[Figure, Axes]:
    """Return a figure with a line for each name, and some inches more."""
    labels = [wrap(name, int(6 * width)) for name in names]
    step = 0.28 + 0.15 * max((label.count("\n") for label in labels), default=0)  # inches
    figure = Figure(figsize=(width, more + step * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), labels, fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(axis="x", color="0.5", alpha=0.25)
    return figure, axes


def make_panels(names: Sequence[str], size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel of this size (in inches, without its title) per name."""
    titles = [wrap(name, TITLE) for name in names]
    columns = min(int(PANELS / size[0]), len(names))
    lines = math.ceil(len(names) / columns)
    height = size[1] + 0.13 * max(title.count("\n") for title in titles)
    width = max(size[0] * columns, 5.2)  # for the legend
    figure = Figure(figsize=(width, height * lines + 0.7), layout="constrained")
    panels = list(figure.subplots(lines, columns, sharey=True, squeeze=False).flat)
    for title, panel in zip_longest(titles, panels, fillvalue=""):
        panel.set_visible(bool(title))  # the last line can have fewer
        panel.set_title(title, fontsize=8)
        panel.tick_params(labelsize=8)
        panel.locator_params("x", nbins=5)
    return figure, panels[: len(titles)]


def label_panels(figure: Figure, across: str, up: str, heading: str) -> Figure:
    """Return a figure of panels with a legend and labels of its axes."""
    columns = 4 if figure.get_figwidth() > 8 else 2
    add_legend(figure, figure.axes[0], "upper center", columns, heading)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)
    return figure


def wrap(name: str, width: int) -> str:
    """Return a name in at most LINES lines, whose middle is left out if it is longer."""
    most = LINES * width * 3 // 4  # lines are not full
    if len(name) > most:
        name = f"{name[: most // 2]} … {name[-most // 2 :]}"
    return textwrap.fill(name, width)


def add_legend(figure: Figure, axes: Axes, where: str, columns: int, heading: str) -> None:
    """Add a legend with one entry for each label."""
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    words = [wrap(label, ENTRY) for label in by_label]
    heading = "\n".join(textwrap.fill(line, HEADING) for line in heading.splitlines())
    figure.legend(
        by_label.values(), words, loc=f"outside {where}", ncols=columns, fontsize=8,
        title=heading, title_fontsize=8, frameon=False,
    )  # fmt: skip


def set_log_scale(axes: Axes, values: Sequence[float]) -> None:
    """Give an axis of costs a logarithmic scale with about six plain numbers at most."""
    axes.set_xscale("log")
    decades = math.log10(max(values) / min(values))
    locator = ticker.LogLocator(subs=(1, 2, 5) if decades < 3 else (1,))
    axes.xaxis.set_major_locator(locator if decades > 1 else ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def place_names(axes: Axes, points: Sequence[tuple[tuple[float, float], str]]) -> None:
    """Write the name of each point next to it, where it covers no other name and no point.

    The limits of the axes are final. A name that is far from its point has a line to it; one that
    has no place is left out.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # computes the layout, which is then fixed
    figure.set_layout_engine("none")
    scale = figure.dpi / POINTS  # pixels in a point
    marks = [axes.transData.transform(point) for point, _ in points]
    taken = [Bbox.from_extents(x, y, x, y).padded(4 * scale) for x, y in marks]
    for mark, (point, name) in zip(marks, points, strict=True):
        text = axes.annotate(
            wrap(name, POINT), point, (0, 0), textcoords="offset points", fontsize=8,
            ha="center", va="center",
            arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.5, "shrinkB": 3},
        )  # fmt: skip
        size = Text.get_window_extent(text).padded(CLEAR * scale)
        ring, box = next(_free_places(mark, size, taken, axes.bbox, RING * scale), (0, None))
        if not box:
            text.remove()
            continue
        text.set_position((box.get_points().mean(axis=0) - mark) / scale)
        text.arrow_patch.set_visible(ring > 1)
        taken.append(box)


def _free_places(
    mark: Sequence[float], size: Bbox, taken: Sequence[Bbox], inside: Bbox, step: float
) -> Iterator[tuple[int, Bbox]]:
    """Yield the free places of a name around its mark, the nearest first, with their rings.

    All lengths are in pixels; `step` is between two rings.
    """
    for ring in range(1, math.ceil(math.hypot(*inside.size) / step)):
        for i in range(DIRECTIONS):
            angle = 2 * math.pi * i / DIRECTIONS
            x = mark[0] + math.cos(angle) * (size.width / 2 + ring * step)
            y = mark[1] + math.sin(angle) * (size.height / 2 + ring * step)
            box = Bbox.from_bounds(x - size.width / 2, y - size.height / 2, *size.size)
            is_inside = inside.x0 < box.x0 < box.x1 < inside.x1
            is_inside &= inside.y0 < box.y0 < box.y1 < inside.y1
            if is_inside and not box.count_overlaps(taken):
                yield ring, box
