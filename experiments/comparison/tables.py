"""Tables: of the summaries, and of what the published figures alone can carry."""

import math
from collections.abc import Sequence
from itertools import count

from experiments.comparison.crossed import FEWEST_SEEDS
from experiments.comparison.evidence import (
    NOT_KNOWN,
    Difference,
    Evidence,
)
from experiments.comparison.groups import BASE, Groups, Record, bases_of, pair_up, stand_ins_of
from experiments.comparison.sentences import ways_to_settle
from experiments.comparison.statistics import (
    LEVEL,
    Interval,
    holm,
    mcnemar,
    pairing_limits,
    wilson_interval,
)
from experiments.comparison.summaries import Summary, metrics_of
from experiments.config.rows import ROWS, SIZES, published_count

HAVE_PREFIX = ("last_layer", "last_block", "last_two_blocks")  # blocks before what is trained


def markdown(rows: list[list[str]]) -> str:
    """Returns rows of cells, the first a heading, as a Markdown table that reads well as text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def percent_interval(interval: Interval) -> str:
    """Returns an interval of shares in percent."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


# -------------------------------------------------------------------------------- the summaries


def summary_table(summaries: Sequence[Summary]) -> str:
    """Returns the summaries as Markdown."""
    return markdown(summary_rows(summaries))


def summary_rows(summaries: Sequence[Summary]) -> list[list[str]]:
    """Returns the summaries as cells below a heading, without the columns that none fills."""
    rows = [
        [
            "run", "published, %", "first seed, %", "right", "95 % interval", "unseen, %", "seeds",
            "mean ± sd, %", "range, %", "only row 1 right", "only this right", "difference, points",
            "p", "p (Holm)", "against row 1", "could be seen, points", "to settle", "training, s",
            "device",
        ]
    ]  # fmt: skip
    for s in summaries:
        published = ""
        if s.published_percent is not None:
            right = published_count(s.published_percent, SIZES["test"])
            interval = percent_interval(wilson_interval(right, SIZES["test"]))
            published = f"{s.published_percent:.2f} ({interval})"
        several = s.seeds > 1
        rows.append(
            [
                s.name,
                published,
                f"{s.right / s.total:.2%}".rstrip("%"),
                f"{s.right} of {s.total}",
                percent_interval(s.interval),
                "" if math.isnan(s.unseen_accuracy) else f"{100 * s.unseen_accuracy:.2f}",
                str(s.seeds),
                f"{100 * s.mean:.2f} ± {100 * s.deviation:.2f}" if several else "",
                f"{100 * s.lowest:.2f} to {100 * s.highest:.2f}" if several else "",
                *cells_of(s.evidence),
                f"{s.train_seconds:.1f}",
                s.device,
            ]
        )
    filled = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return [[row[i] for i in filled] for row in rows]


def cells_of(evidence: Evidence | None) -> list[str]:
    """Returns the cells on a group against row 1, empty ones where it is held against nothing."""
    if evidence is None:
        return [""] * 8
    p_values = (evidence.p_value, evidence.corrected_p_value)
    return [
        str(evidence.only_first),
        str(evidence.only_second),
        with_interval(evidence.accuracy, 100),
        *("" if p is None else f"{p:.3g}" for p in p_values),
        evidence.verdict,
        *outlook_cells(evidence),
    ]


def outlook_cells(evidence: Evidence) -> list[str]:
    """Returns what could be seen, and what settles what was, of what is not known."""
    if evidence.verdict != NOT_KNOWN or evidence.outlook is None:
        return ["", ""]
    ways = " or ".join(ways_to_settle(evidence.outlook))
    return [f"{100 * evidence.outlook.smallest:.1f}", ways]


def with_interval(difference: Difference, scale: float) -> str:
    """Returns a mean difference times a scale, with its 95 % interval where there is one."""
    digits = 2 if scale > 1 else 4
    mean = f"{scale * difference.mean:+.{digits}f}"
    if difference.crossed is None:
        return mean
    low, high = (f"{scale * limit:+.{digits}f}" for limit in difference.crossed.interval)
    return f"{mean} ({low} to {high})"


def notes(groups: Groups, summaries: Sequence[Summary]) -> list[str]:
    """Returns what follows for each row, and what a reader of the table has to know."""
    records = [record for group in groups.values() for record in group]
    found = [s.sentence for s in summaries if s.sentence]
    if stand_ins := stand_ins_of(groups):
        found.append(
            f"Stand-ins, no runs of the published models: {'; '.join(stand_ins)}. The published "
            "figures are not theirs."
        )
    if any(record["row"] == 8 for record in records):
        found.append("Row 8's published validation accuracy, 99.81 %, is no count of 149 messages.")
    seen = {sum(record["test"]["in_training"]) for record in records}
    found.append(
        f"Unseen: without the {' or '.join(map(str, sorted(seen)))} test messages that are exact "
        "copies of training messages. Training: with what is computed before it, without the final "
        "accuracies."
    )
    return [
        *found,
        *notes_on_sizes(records),
        *notes_on_tests(groups),
        *notes_on_texts(summaries),
        *notes_on_machines(groups),
    ]


def notes_on_sizes(records: Sequence[Record]) -> list[str]:
    """Returns what test sets of such sizes can show at all."""
    fewest = next(n for n in count(1) if mcnemar(n, 0) < LEVEL)
    sizes = sorted({len(record["test"]["labels"]) for record in records})
    return [
        f"Of {size:,} test messages one is {100 / size:.2f} points; two single runs can be told "
        f"apart if just one of them is right on {fewest} or more, {100 * fewest / size:.1f} points."
        for size in sizes
    ]


def notes_on_tests(groups: Groups) -> list[str]:
    """Returns against what the groups are held, and which against nothing, and why."""
    if all(group[0]["row"] != BASE for group in groups.values()):
        return [f"Row {BASE} is not among the records, so nothing is held against it."]
    without: dict[str, list[str]] = {}
    for name, group in groups.items():
        bases = bases_of(groups, group[0])
        if group[0]["row"] == BASE or (len(bases) == 1 and pair_up(bases[0], group)):
            continue
        why = {0: f"no row {BASE} like them", 1: f"no seed that row {BASE} has"}
        without.setdefault(why.get(len(bases), f"more than one row {BASE}"), []).append(name)
    return [
        f"Against row {BASE} of the same weights, data and precision: over all seeds that both "
        f"have, from {FEWEST_SEEDS} on with interval and p over other seeds and other messages; "
        "of one seed p is exact McNemar's. Only one right: at the first of these seeds. Holm: "
        "corrected over the rows shown. Could be seen, and to settle: with 80 % power.",
        *(
            f"Held against nothing, for {why}: {'; '.join(names)}."
            for why, names in without.items()
        ),
    ]


def notes_on_texts(summaries: Sequence[Summary]) -> list[str]:
    """Returns what becomes of messages with the very same text, where no record tells them."""
    silent = [s.name for s in summaries if s.evidence and s.evidence.distinct is None]
    if not silent:
        return []
    return [
        "These records do not tell which test messages have the very same text, and each counts "
        f"as one of its own: {'; '.join(silent)}."
    ]


def notes_on_machines(groups: Groups) -> list[str]:
    """Returns what devices and versions of the records make of the figures."""
    runs = [record for group in groups.values() for record in group if record["row"]]
    found = []
    devices = sorted({record["environment"]["device_type"] for record in runs})
    if len(devices) > 1:
        found.append(
            f"Runs on {' and '.join(devices)} stand together: they round in other ways, and their "
            "times are not to be compared."
        )
    unpaid = sorted({record["name"] for record in runs if may_have_reused(record)})
    if unpaid:
        found.append(
            f"Times of records of version 1 depend on who paid for the hidden states, and here "
            f"another run may have: {', '.join(unpaid)}."
        )
    return found


def may_have_reused(record: Record) -> bool:
    """Says whether a record of version 1 has hidden states, but no time in which they were made."""
    has_prefix = record["settings"].get("trainable_layers") in HAVE_PREFIX
    seconds = record["seconds"]
    is_short = seconds.get("prefix", 0) < 0.1 * seconds["train"]
    return record["prefix_reused"] is None and has_prefix and is_short


# ----------------------------------------------------------------------------------- the metrics


def metrics_table(groups: Groups) -> str:
    """Returns what the probabilities of each group's first seed are worth, as Markdown."""
    rows = [
        [
            "run", "accuracy, %", "macro F1", "AUROC", "log loss", "Brier", "calibration error",
            "class", "precision", "recall", "told as",
        ]
    ]  # fmt: skip
    for name, (first, *_) in groups.items():
        m = metrics_of(first)
        of_run = [name, f"{100 * m.accuracy:.2f}"]
        values = (m.macro_f1, m.auroc, m.log_loss, m.brier_score, m.calibration_error)
        of_run += [shown(value) for value in values]
        for number, of_class in enumerate(first["classes"]):
            told = ", ".join(
                f"{n} {other}"
                for other, n in zip(first["classes"], m.confusion[number], strict=True)
                if n
            )
            shares = [shown(m.precisions[number]), shown(m.recalls[number])]
            rows.append([*(of_run if number == 0 else [""] * len(of_run)), of_class, *shares, told])
    return markdown(rows)


def metrics_of_summaries(summaries: Sequence[Summary]) -> list[list[str]]:
    """Returns means over seeds of what the probabilities are worth, as cells below a heading."""
    rows = [
        [
            "run", "accuracy, %", "macro F1", "AUROC", "log loss", "Brier", "calibration error",
            "log loss against row 1", "Brier score against row 1",
        ]
    ]  # fmt: skip
    for s in summaries:
        values = (s.macro_f1, s.auroc, s.log_loss, s.brier_score, s.calibration_error)
        rows.append(
            [
                s.name, f"{100 * s.mean:.2f}", *(shown(value) for value in values),
                *loss_cells(s.evidence),
            ]
        )  # fmt: skip
    return rows


def loss_cells(evidence: Evidence | None) -> list[str]:
    """Returns how a group's losses differ from row 1's; empty where it is held against nothing."""
    if evidence is None:
        return ["", ""]
    return [with_interval(loss, 1) for loss in (evidence.log_loss, evidence.brier_score)]


def shown(value: float | None) -> str:
    """Returns a metric to four digits, a dash where it is not defined."""
    return "-" if value is None else f"{value:.4f}"


def losses_table(summaries: Sequence[Summary]) -> str:
    """Returns how the losses of each group differ from row 1's, as Markdown; empty if none does."""
    rows = [["run", "seeds", "log loss against row 1", "Brier score against row 1"]]
    rows += [
        [s.name, str(len(s.evidence.seeds)), *loss_cells(s.evidence)]
        for s in summaries
        if s.evidence
    ]
    return markdown(rows) if len(rows) > 1 else ""


# ------------------------------------------------------------------------ the published figures


def published_verdicts() -> dict[int, str]:
    """Returns what the published test accuracies alone say of each row against row 1."""
    total = SIZES["test"]
    right = {number: published_count(row.test_accuracy, total) for number, row in ROWS.items()}
    others = [number for number in ROWS if number != BASE]
    limits = {n: pairing_limits(right[BASE], right[n], total) for n in others}
    at_worst = dict(zip(others, holm([limits[n].high for n in others]), strict=True))
    verdicts = {}
    for number in others:
        word = "better" if right[number] > right[BASE] else "worse"
        if at_worst[number] < LEVEL:
            verdicts[number] = f"{word}, whatever the pairing"
        elif limits[number].low >= LEVEL:
            verdicts[number] = "not distinguishable, whatever the pairing"
        else:
            verdicts[number] = "depends on the pairing, which was not published"
    return verdicts


def published_table() -> str:
    """Returns the published test accuracies with intervals and verdicts, as Markdown."""
    rows = [["row", "flags", "test, %", "right of 300", "95 % interval", "against row 1"]]
    verdicts = published_verdicts()
    for number, row in ROWS.items():
        count = published_count(row.test_accuracy, SIZES["test"])
        rows.append(
            [
                str(number),
                row.flags or "(none)",
                f"{row.test_accuracy:.2f}",
                str(count),
                percent_interval(wilson_interval(count, SIZES["test"])),
                verdicts.get(number, ""),
            ]
        )
    notes = [
        f"Row {number}'s {split} accuracy, {percent} %, is no count of {SIZES[split]} messages."
        for number, row in ROWS.items()
        for split, percent in zip(SIZES, row[1:4], strict=True)
        if published_count(percent, SIZES[split]) is None
    ]
    return "\n".join([markdown(rows), "", *notes])
