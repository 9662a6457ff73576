"""Tables of summaries and metrics: for a terminal, as Markdown, CSV and JSON."""

import csv
import io
import json
import math
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.comparison import statistics
from experiments.comparison.evidence import Difference, Evidence
from experiments.comparison.metrics import METRICS
from experiments.comparison.names import conditions_of
from experiments.comparison.notes import notes_on_verdicts
from experiments.comparison.sentences import format_p
from experiments.comparison.summaries import MEANS, Summary
from experiments.config.rows import SIZES, published_count
from experiments.system.files import write_file
from experiments.system.terminal import printable

Cells = list[list[str]]  # the first row is the heading

# ----------------------------------------------------------------------------------- for a terminal

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
            cells += f"  {_compared(s.evidence, reach, color, unicode)}"
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


def _compared(e: Evidence, reach: float, color: bool, unicode: bool) -> str:
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


# ---------------------------------------------------------------------------------------- for files


def markdown(rows: Cells) -> str:
    """Return rows of cells as a Markdown table that is aligned as text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def percent_interval(interval: statistics.Interval) -> str:
    """Return an interval of proportions in percent."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


# ------------------------------------------------------------------------------------ the summaries


def summary_rows(summaries: Sequence[Summary]) -> Cells:
    """Return the table of summaries without its empty columns."""
    rows = [_cells_of(s) for s in summaries]
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    return [filled, *([row[name] for name in filled] for row in rows)]


def _cells_of(s: Summary) -> dict[str, str]:
    published, without, e = "", s.accuracy_without_duplicates, s.evidence
    if (percent := s.published_percent) is not None:
        count, total = published_count(percent, SIZES["test"]), SIZES["test"]
        interval = percent_interval(statistics.wilson_interval(count, total))
        published = f"{percent:.2f} ({interval})"
    several, power = s.seeds > 1, e and e.verdict.is_inconclusive and e.power
    return {
        "run": s.name,
        "published, %": published,
        "first seed, %": f"{s.right / s.total:.2%}".rstrip("%"),
        "correct": f"{s.right} of {s.total}",
        "95 % interval": percent_interval(s.interval),
        "without duplicates of training examples, %": (
            "" if math.isnan(without) else f"{100 * without:.2f}"
        ),
        "seeds": str(s.seeds),
        "mean ± sd, %": f"{100 * s.mean:.2f} ± {100 * s.deviation:.2f}" if several else "",
        "range, %": f"{100 * s.lowest:.2f} to {100 * s.highest:.2f}" if several else "",
        "only the reference correct": str(e.only_correct[0]) if e else "",
        "only this correct": str(e.only_correct[1]) if e else "",
        "difference": e.metric.format_difference(e.difference) if e else "",
        "p": format_p(e.p_value) if e else "",
        "p (Holm)": format_p(e.corrected_p_value) if e else "",
        "verdict": s.verdict,
        "minimum detectable difference": e.metric.format_size(power.detectable) if power else "",
        "seeds or examples needed": power.needed if power else "",
        "training, s": f"{s.train_seconds:.1f}",
        "device": s.device,
    }


def write_summaries(
    summaries: Sequence[Summary], csv_file: Path | None, json_file: Path | None
) -> None:
    """Write the summaries for other programs; unknown values are empty, or null."""
    rows = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in _values_of(s).items()}
        for s in summaries
    ]
    if csv_file:
        table = io.StringIO()
        writer = csv.DictWriter(table, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(csv_file, table.getvalue())
    if json_file:
        write_file(json_file, json.dumps(rows, indent=1) + "\n")


_OF_RUN = ("row", "model", "weights", "data", "precision")
_OF_SUMMARY = (
    "right", "total", "accuracy_without_duplicates", "seeds", "value", "largest_class", "mean",
    "deviation", "lowest", "highest",
)  # fmt: skip


def _values_of(s: Summary) -> dict[str, Any]:
    """Return the values of a summary; proportions and differences are fractions."""
    e, crossed = s.evidence, s.evidence and s.evidence.difference.crossed
    power, parts = e and e.power, crossed and crossed.components
    values = {
        "name": s.name,
        **{name: getattr(s.first, name) for name in _OF_RUN},
        "substitute": conditions_of(s.first).substitute,
        "published_percent": s.published_percent,
        "seed": s.first.seed,
        **{name: getattr(s, name) for name in _OF_SUMMARY},
        **s.means,
        **{name: getattr(s, name) for name in ("train_seconds", "device", "verdict", "sentence")},
        "low": s.interval.low,
        "high": s.interval.high,
        "shared_seeds": e and len(e.seeds),
        "distinct_examples": e and e.distinct,
        "only_base": e and e.only_correct[0],
        "only_this": e and e.only_correct[1],
        "metric": e and e.metric.name,  # of the difference, as all up to the numbers needed
        **_values_of_difference("difference", e and e.difference),
        "equivalence_low": crossed and crossed.equivalence.low,
        "equivalence_high": crossed and crossed.equivalence.high,
        **{k: e and getattr(e, k) for k in ("margin", "p_value", "corrected_p_value")},
        **{f"variance_{k}": parts and getattr(parts, k) for k in statistics.Components._fields},
        "minimum_detectable_difference": power and power.detectable,
        "seeds_needed": power and power.seeds,
        "examples_needed": power and power.examples,
    }
    for name, metric in METRICS.items():
        values |= _values_of_difference(f"{metric.column}_difference", e and e.differences[name])
    return values


def _values_of_difference(name: str, difference: Difference | None) -> dict[str, float | None]:
    interval = difference and difference.crossed and difference.crossed.interval
    return {
        name: difference and difference.mean,
        f"{name}_low": interval and interval.low,
        f"{name}_high": interval and interval.high,
    }


# -------------------------------------------------------------------------------------- the metrics


def metric_rows(summaries: Sequence[Summary]) -> Cells:
    """Return the metrics of each group, means over seeds, and the differences of its losses."""
    losses = [metric for metric in METRICS.values() if metric.is_loss]
    rows = [["run", "accuracy, %", "macro F1", "AUROC", "log loss", "Brier", "calibration error",
             *(f"{metric.title} difference" for metric in losses)]]  # fmt: skip
    for s in summaries:
        differences = [
            metric.format_difference(s.evidence.differences[metric.name]) if s.evidence else ""
            for metric in losses
        ]
        means = (_format(s.means[name]) for name in MEANS)
        rows.append([s.name, f"{100 * s.mean:.2f}", *means, *differences])
    return rows


def class_rows(summaries: Sequence[Summary]) -> Cells:
    """Return what the first seed of each group predicts for the examples of each class."""
    rows = [["run", "class", "precision", "recall", "predicted as"]]
    for s in summaries:
        found, classes = s.first.metrics, s.first.classes
        of_classes = zip(classes, found.precisions, found.recalls, found.confusion, strict=True)
        for name, precision, recall, counts in of_classes:
            predicted = [f"{n} {other}" for n, other in zip(counts, classes, strict=True) if n]
            rows.append([s.name, name, _format(precision), _format(recall), ", ".join(predicted)])
    return rows


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"  # None: not defined
