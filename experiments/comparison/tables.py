"""Tables of summaries and metrics as Markdown, CSV and JSON, and that of the published figures."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.comparison import statistics
from experiments.comparison.evidence import Difference, Evidence
from experiments.comparison.groups import Groups
from experiments.comparison.sentences import (
    digits_of,
    format_difference,
    format_p,
    in_units,
    numbers_needed,
)
from experiments.comparison.summaries import MEANS, Summary
from experiments.config.rows import SIZES, published_count
from experiments.system.files import write_file

Cells = list[list[str]]  # the first row is the heading


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
    rows = [
        [
            "run", "published, %", "first seed, %", "correct", "95 % interval",
            "without duplicates of training examples, %", "seeds", "mean ± sd, %", "range, %",
            "only the reference correct", "only this correct", "difference", "p", "p (Holm)",
            "verdict", "minimum detectable difference",
            "seeds or examples needed", "training, s", "device",
        ]
    ]  # fmt: skip
    for s in summaries:
        published = ""
        if (percent := s.published_percent) is not None:
            count, total = published_count(percent, SIZES["test"]), SIZES["test"]
            interval = percent_interval(statistics.wilson_interval(count, total))
            published = f"{percent:.2f} ({interval})"
        without, several = s.accuracy_without_duplicates, s.seeds > 1
        rows.append(
            [
                s.name,
                published,
                f"{s.right / s.total:.2%}".rstrip("%"),
                f"{s.right} of {s.total}",
                percent_interval(s.interval),
                "" if math.isnan(without) else f"{100 * without:.2f}",
                str(s.seeds),
                f"{100 * s.mean:.2f} ± {100 * s.deviation:.2f}" if several else "",
                f"{100 * s.lowest:.2f} to {100 * s.highest:.2f}" if several else "",
                *_cells_of(s.evidence),
                f"{s.train_seconds:.1f}",
                s.device,
            ]
        )
    filled = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return [[row[i] for i in filled] for row in rows]


def _cells_of(evidence: Evidence | None) -> list[str]:
    if evidence is None:
        return [""] * 8
    power = evidence.power if evidence.verdict.is_inconclusive else None
    _, scale = digits_of(evidence.metric)
    p_values = (evidence.p_value, evidence.corrected_p_value)
    return [
        str(evidence.only_first),
        str(evidence.only_second),
        format_difference(*evidence.difference, 4 if scale == 1 else 2, scale),
        *("" if p is None else format_p(p) for p in p_values),
        evidence.verdict,
        in_units(power.detectable, evidence.metric) if power else "",
        " or ".join(numbers_needed(power)) if power else "",
    ]


def write_summaries(
    summaries: Sequence[Summary], csv_file: Path | None, json_file: Path | None
) -> None:
    """Write the summaries for other programs; unknown values are empty, or null."""
    rows = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in _columns(s).items()}
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


def _columns(s: Summary) -> dict[str, Any]:
    """Return the columns of a summary; proportions and differences are fractions."""
    columns = {k: v for k, v in s._asdict().items() if k not in ("interval", "evidence")}
    e, crossed = s.evidence, s.evidence and s.evidence.difference.crossed
    power, parts = e and e.power, crossed and crossed.components
    return columns | {
        "low": s.interval.low,
        "high": s.interval.high,
        "shared_seeds": e and len(e.seeds),
        "distinct_examples": e and e.distinct,
        "only_base": e and e.only_first,
        "only_this": e and e.only_second,
        "metric": e and e.metric,  # of the difference, as all up to the numbers needed
        **_columns_of("difference", e and e.difference),
        "equivalence_low": crossed and crossed.equivalence.low,
        "equivalence_high": crossed and crossed.equivalence.high,
        **{k: e and getattr(e, k) for k in ("margin", "p_value", "corrected_p_value")},
        **{f"variance_{k}": parts and getattr(parts, k) for k in statistics.Components._fields},
        "minimum_detectable_difference": power and power.detectable,
        "seeds_needed": power and power.seeds,
        "examples_needed": power and power.examples,
        **_columns_of("accuracy_difference", e and e.accuracy),
        **_columns_of("balanced_accuracy_difference", e and e.balanced_accuracy),
        **_columns_of("log_loss_difference", e and e.log_loss),
        **_columns_of("brier_score_difference", e and e.brier_score),
    }


def _columns_of(name: str, difference: Difference | None) -> dict[str, float | None]:
    interval = difference and difference.crossed and difference.crossed.interval
    return {
        name: difference and difference.mean,
        f"{name}_low": interval and interval.low,
        f"{name}_high": interval and interval.high,
    }


# -------------------------------------------------------------------------------------- the metrics

METRICS = ["run", "accuracy, %", "macro F1", "AUROC", "log loss", "Brier", "calibration error"]
LOSSES = ["log loss difference", "Brier score difference"]


def metrics_table(groups: Groups) -> str:
    """Return the metrics of each group's first seed, also by class, as Markdown."""
    rows = [[*METRICS, "class", "precision", "recall", "predicted as"]]
    for name, (first, *_) in groups.items():
        m = first.metrics
        of_run = _metric_cells(name, m.accuracy, m)
        of_classes = zip(first.classes, m.precisions, m.recalls, m.confusion, strict=True)
        for of_class, precision, recall, counts in of_classes:
            named = zip(counts, first.classes, strict=True)
            predicted = ", ".join(f"{n} {other}" for n, other in named if n)
            rows.append([*of_run, of_class, _metric(precision), _metric(recall), predicted])
            of_run = [""] * len(of_run)  # once
    return markdown(rows)


def metrics_of_summaries(summaries: Sequence[Summary]) -> Cells:
    """Return the metrics of each group, means over seeds."""
    rows = [_metric_cells(s.name, s.mean, s) + _loss_cells(s.evidence) for s in summaries]
    return [METRICS + LOSSES, *rows]


def losses_table(summaries: Sequence[Summary]) -> str:
    """Return the losses of each group difference's, as Markdown; empty if none is."""
    compared = [s for s in summaries if s.evidence]
    rows = [[s.name, str(len(s.evidence.seeds)), *_loss_cells(s.evidence)] for s in compared]
    return markdown([["run", "seeds", *LOSSES], *rows]) if rows else ""


def _metric_cells(name: str, accuracy: float, metrics: Any) -> list[str]:
    """Return the cells of `METRICS`; the metrics are those of a run or of a summary."""
    return [name, f"{100 * accuracy:.2f}", *(_metric(getattr(metrics, f)) for f in MEANS)]


def _loss_cells(evidence: Evidence | None) -> list[str]:
    losses = (evidence.log_loss, evidence.brier_score) if evidence else ()
    return [format_difference(*loss, digits=4, scale=1) for loss in losses] or ["", ""]


def _metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"  # None: not defined
