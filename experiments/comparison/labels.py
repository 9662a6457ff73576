"""Words in a figure that keep clear of one another: names, legends, ticks.

add_legend(figure, axes, "lower center", columns=2, heading="")
place_names(axes, [((3.6, 80.0), "row 01"), ((1.8, 72.0), "row 16")])
"""

import math
import textwrap
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

POINTS = 72  # an inch
CLEAR = 2.0  # points around a name that no other one enters
RING = 7.0  # points from one distance of a name to the next
DIRECTIONS = 16
ENTRY, HEADING = 40, 75  # characters across an entry of a legend, and its heading


def wrapped(name: str, width: int) -> str:
    """Returns a group's name with its row above what else tells it apart, no line too wide."""
    parts = name.split(", ", 1)
    return "\n".join(line for part in parts for line in textwrap.wrap(part, width))


def add_legend(figure: Figure, axes: Axes, where: str, columns: int, heading: str) -> None:
    """Adds what the marks of some axes mean, each once, outside of them and under a heading."""
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    words = [textwrap.fill(label, ENTRY) for label in by_label]
    heading = "\n".join(textwrap.fill(line, HEADING) for line in heading.splitlines())
    figure.legend(
        by_label.values(), words, loc=f"outside {where}", ncols=columns, fontsize=8,
        title=heading, title_fontsize=8, frameon=False,
    )  # fmt: skip


def set_log_scale(axes: Axes, values: Sequence[float]) -> None:
    """Gives an axis of costs a logarithmic scale with plain numbers, some six at the most."""
    axes.set_xscale("log")
    decades = math.log10(max(values) / min(values))
    locator = LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)) if decades > 1 else None
    axes.xaxis.set_major_locator(locator or MaxNLocator(5))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def place_names(axes: Axes, points: Sequence[tuple[tuple[float, float], str]]) -> None:
    """Writes the name of each point beside it, where it covers no other name and no point.

    The layout of the figure is settled first, and stays. A name that had to go far has a line to
    its point.

    Args:
        axes: where the points are drawn, with limits that stay.
        points: each in the units of the axes, with its name.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scale = figure.dpi / POINTS  # pixels in a point
    marks = [axes.transData.transform(point) for point, _ in points]
    taken = [Bbox.from_extents(x, y, x, y).padded(4 * scale) for x, y in marks]
    for mark, (point, name) in zip(marks, points, strict=True):
        text = axes.annotate(
            name, point, (0, 0), textcoords="offset points", fontsize=8, ha="center", va="center",
            arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.5, "shrinkB": 3},
        )  # fmt: skip
        size = Text.get_window_extent(text).padded(CLEAR * scale)
        ring, box = next(free_places(mark, size, taken, axes.bbox, RING * scale))
        text.set_position((box.get_points().mean(axis=0) - mark) / scale)
        text.arrow_patch.set_visible(ring > 1)
        taken.append(box)


def free_places(
    mark: Sequence[float], size: Bbox, taken: Sequence[Bbox], inside: Bbox, step: float
) -> Iterator[tuple[int, Bbox]]:
    """Yields the free places of a name around its point, the nearest first, and on which ring.

    Args:
        mark: of the point, in pixels, as all lengths here.
        size: of the name.
        taken: by names and points.
        inside: where the name has to be.
        step: from one ring to the next.
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
