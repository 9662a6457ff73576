"""The table of designs for a terminal: one line for each, at most 100 columns wide.

print(overview(summaries, sort="difference", color=True))
"""

import textwrap
import unicodedata
from collections.abc import Sequence

from experiments.comparison.evidence import Evidence
from experiments.comparison.notes import notes_on_verdicts
from experiments.comparison.summaries import Summary
from experiments.system.terminal import printable

WIDTH = 100
MORE = "More: two designs by name, --wide, --effects, --html report.html; docs/comparing.md."
NAME, DIFFERENCE, BAR = 26, 25, 13  # columns
COLORS = {
    "better": "32", "worse": "31", "equivalent": "36", "identical": "36",
    "these two models differ": "33",
}  # fmt: skip


def overview(
    summaries: Sequence[Summary],
    reference: str | None = None,
    sort: str = "row",
    *,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """Return the table and what a reader needs to know about it.

    It is sorted by `row` or `difference`, the best one first. Without `unicode`, intervals are
    drawn with ASCII characters.
    """
    metric = summaries[0].metric
    if sort == "difference":
        sign = 1 if metric.is_loss else -1
        summaries = sorted(  # a reference has the difference 0
            summaries, key=lambda s: sign * s.evidence.difference.mean if s.evidence else 0.0
        )
    limits = [abs(x) for s in summaries if s.evidence for x in _limits_of(s.evidence)]
    reach = max(limits, default=0.0)
    value = "loss" if metric.is_loss else metric.name.removesuffix("_accuracy")
    lines = [
        f"{'design':{NAME}}  seeds  {value:>8}  {'difference (95 % CI)':{DIFFERENCE}}  "
        f"{_scale_of(metric.scale * reach)}  verdict"
    ]
    for s in summaries:
        first, *more = _wrap(s.name, NAME)
        padding = " " * (NAME - _columns(first))
        cells = f"{first}{padding}  {s.seeds:5}  {metric.format_value(s.value):>8}"
        if s.evidence:
            cells += f"  {_cells_of(s.evidence, reach, color, unicode)}"
        lines += [cells, *more]
    notes = [*notes_on_verdicts(summaries, reference), MORE]
    wrapped = ("\n".join(_wrap(note, WIDTH, indent="")) for note in notes)
    return "\n".join([*lines, "", *wrapped])


def _columns(text: str) -> int:
    """Return how many columns a text takes in a terminal: most East Asian characters take two."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "FW" for letter in text)


def _wrap(text: str, width: int, indent: str = "  ") -> list[str]:
    """Return the lines of a text, at most so many columns wide; numbers stay whole."""
    text = printable(" ".join(text.split()))
    half = width // 2 if _columns(text) > len(text) else width
    return textwrap.wrap(text, half, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _scale_of(reach: float) -> str:
    """Return the heading of the intervals: their limits and 0, if there is space for them."""
    limit = f"{reach:.3g}" if reach >= 1 else f"{reach:.2f}"
    scale = f"-{limit:{BAR // 2 - 1}}0{'+' + limit:>{BAR // 2}}"
    return scale if reach and len(scale) <= BAR else " " * BAR


def _limits_of(e: Evidence) -> tuple[float, float, float]:
    """Return an interval and its mean; without one, the mean three times."""
    mean, crossed = e.difference
    return (*(crossed.interval if crossed else (mean, mean)), mean)


def _cells_of(e: Evidence, reach: float, color: bool, unicode: bool) -> str:
    for fewer in range(3):  # digits, of large numbers
        text = e.metric.format_difference(e.difference, fewer)
        if len(text) <= DIFFERENCE:
            break
    verdict = e.verdict.removeprefix("these two ").removesuffix(" for these two models")
    if color and e.verdict in COLORS:
        verdict = f"\x1b[{COLORS[e.verdict]}m{verdict}\x1b[0m"
    return f"{text:{DIFFERENCE}}  {_draw(_limits_of(e), reach, unicode)}  {verdict}"


def _draw(values: Sequence[float], reach: float, unicode: bool) -> str:
    """Return an interval and its mean (low, high, mean) on a line from -reach to reach."""
    low, high, mean = (
        round((x / reach + 1) / 2 * (BAR - 1)) if reach else BAR // 2 for x in values
    )
    line, zero, mark = ("─", "│", "●") if unicode else ("-", "|", "o")
    cells = [line if low <= i <= high else " " for i in range(BAR)]
    cells[BAR // 2] = "┼" if unicode and low <= BAR // 2 <= high else zero
    cells[mean] = mark
    return "".join(cells)
