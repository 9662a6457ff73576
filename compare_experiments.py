"""From records to answers: which differences between the rows are real?

    python compare_experiments.py                    # the table of all rows found
    python compare_experiments.py 1 16               # two rows side by side
    python compare_experiments.py --published        # what the published figures alone can carry
    python compare_experiments.py --plot figures     # PNG figures

Each row's test accuracy gets Wilson's 95 % interval. Against row 1 stands the exact McNemar test on
the messages that just one of the two gets right, corrected by Holm's method over the rows shown.
Seeds are summed up by mean, standard deviation and range; the spread that other test messages would
bring is another thing, and is kept apart from it.

Sources: Wilson 1927, J. Am. Stat. Assoc. 22; McNemar 1947, Psychometrika 12; Holm 1979, Scand. J.
Stat. 6. Intervals and binomial tests are SciPy's.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from command_line import take_over

    take_over()

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from command_line import one_line_errors
from experiment_records import FINISHED, ROWS, SIZES, published_count, read_records
from gpt_download import write_whole
from spam_data import read_messages

LEVEL = 0.05  # of a test; intervals hold 95 %
BASE = 1  # the row that the others are held against
DRAWS = 10_000  # of the bootstrap

QUESTIONS = {  # what row 1 beside another one asks; other pairs are named by their flags
    2: "Does the first token, which has seen nothing of the message, carry what the last does?",
    3: "Is a new head on frozen features enough?",
    4: "Do two trained blocks do better than one?",
    5: "Does training everything do better than training the last block?",
    6: "Does a medium model do better than a small one?",
    7: "Does a large model do better than a small one?",
    8: "Does an XL model do better than a small one?",
    9: "Does an XL model trained whole do better than a small one's last block?",
    10: "What is pretraining worth?",
    11: "Does LoRA on all layers do better than training the last block?",
    12: "Does LoRA on an XL model do better than a small one's last block?",
    13: "What does padding to the whole context cost?",
    14: "Is no padding, in batches of one, better?",
    15: "Is no padding, with the gradients of eight messages a step, better?",
    16: "Is the last real token better than the last one, padding or not?",
    17: "Does a classifier do better without the causal mask?",
    18: "Does ignoring the padding token's label change anything? (It cannot: labels are 0 and 1.)",
    19: "Is the mean over all positions better than the last one?",
}

# ------------------------------------------------------------------------------------- statistics


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float


def wilson_interval(count: int, total: int) -> Interval:
    """Returns Wilson's 95 % interval of a share."""
    found = stats.binomtest(count, total).proportion_ci(1 - LEVEL, method="wilson")
    return Interval(found.low, found.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the exact two-sided p-value of as many messages that just one of two gets right."""
    discordant = only_first + only_second
    return stats.binomtest(only_first, discordant).pvalue if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values corrected by Holm's step-down method, in the same order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def t_interval(values: Sequence[float]) -> Interval:
    """Returns the 95 % interval of a mean by Student's t; without limits for less than two."""
    if len(values) < 2:
        return Interval(-math.inf, math.inf)
    half = stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * np.std(values, ddof=1)
    half /= math.sqrt(len(values))
    return Interval(float(np.mean(values) - half), float(np.mean(values) + half))


def bootstrap_interval(differences: np.ndarray, seed: int = 0) -> Interval:
    """Returns the 95 % interval of a mean over messages, by drawing as many anew (percentiles).

    Args:
        differences: (N,), one a message.
        seed: of the draws.
    """
    draws = np.random.default_rng(seed).integers(len(differences), size=(DRAWS, len(differences)))
    means = differences[draws].mean(axis=1)  # (DRAWS,)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return Interval(float(low), float(high))


def verdict(p_value: float, difference: float) -> str:
    """Returns a test's outcome in words."""
    if p_value >= LEVEL or difference == 0:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


# ------------------------------------------------------------------------ the published figures


def pairing_limits(first: int, second: int, total: int) -> Interval:
    """Returns the smallest and largest p-value that two counts allow, whoever erred where.

    The published table holds counts, but not which messages were wrong. The errors overlap at most
    where all of the better one's are the worse one's too, and at least where they can avoid it.
    """
    more, fewer = max(first, second), min(first, second)
    difference, most = more - fewer, min(total - more, fewer)
    return Interval(mcnemar(difference, 0), mcnemar(difference + most, most))


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


# ------------------------------------------------------------------------------------- the table


def markdown(rows: list[list[str]]) -> str:
    """Returns rows of cells, the first a heading, as a Markdown table that reads well as text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def percent_interval(interval: Interval) -> str:
    """Returns an interval of shares in percent."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def is_right(record: dict[str, Any]) -> np.ndarray:
    """Returns (N,) booleans: which test messages a run tells right."""
    return np.array(record["test"]["labels"]) == np.array(record["test"]["predictions"])


def accuracy(record: dict[str, Any], unseen_only: bool = False) -> float:
    """Returns the share of test messages told right, or of those that training does not hold."""
    right = is_right(record)
    if unseen_only:
        right = right[~np.array(record["test"]["in_training"])]
    return float(right.mean())


def group_records(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Returns finished records of rows and baselines by name, in order of their seeds.

    Of several with one name and seed, made by other versions or on other machines, the newest.
    Stand-ins count only where no published model was run, so that the two are never mixed.
    """
    finished = [r for r in records if r["status"] == FINISHED and r["name"] != "run"]
    is_real = any(r["row"] is not None and not r["stands_in"] for r in finished)
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for record in sorted(finished, key=lambda record: record["date"]):
        if not (is_real and record["stands_in"]):
            newest[record["name"], record["seed"]] = record
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, seed in sorted(newest, key=lambda key: (key[0].startswith("baseline"), *key)):
        groups.setdefault(name, []).append(newest[name, seed])
    return groups


def pair_up(
    first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns the records of two groups that share a seed; a baseline goes with every seed."""
    if second[0]["row"] is None:
        return [(record, second[0]) for record in first]
    if first[0]["row"] is None:
        return [(first[0], record) for record in second]
    by_seed = {record["seed"]: record for record in second}
    return [(record, by_seed[record["seed"]]) for record in first if record["seed"] in by_seed]


class Summary(NamedTuple):
    """What a group of records, one for each seed, comes to."""

    name: str
    row: int | None
    model: str
    published_percent: float | None
    seed: int  # the first, of which the next four are
    right: int
    total: int
    interval: Interval
    unseen_accuracy: float
    seeds: int
    mean: float
    deviation: float  # standard, over seeds
    lowest: float
    highest: float
    train_seconds: float  # median
    device: str
    only_base: int | None  # messages that only row 1 gets right, and the next only this one
    only_this: int | None
    p_value: float | None
    corrected_p_value: float | None
    verdict: str


def summarise(groups: dict[str, list[dict[str, Any]]]) -> list[Summary]:
    """Returns a summary of each group; p-values are corrected over the groups shown."""
    base = groups.get(f"row {BASE:02d}")
    tests: dict[str, tuple[int, int, float]] = {}
    for name, group in groups.items():
        pairs = pair_up(base, group) if base and group is not base else []
        if pairs:
            one, other = (is_right(record) for record in pairs[0])
            counts = int((one & ~other).sum()), int((other & ~one).sum())
            tests[name] = (*counts, mcnemar(*counts))
    corrected = dict(zip(tests, holm([p for *_, p in tests.values()]), strict=True))

    summaries = []
    for name, group in groups.items():
        first, shares = group[0], [accuracy(record) for record in group]
        right, total = int(is_right(first).sum()), len(first["test"]["labels"])
        only_base, only_this, p = tests.get(name, (None, None, None))
        words = ""
        if p is not None:
            words = verdict(corrected[name], only_this - only_base)
        seconds = [r["seconds"].get("prefix", 0) + r["seconds"]["train"] for r in group]
        summaries.append(
            Summary(
                name=name,
                row=first["row"],
                model=first["model"],
                published_percent=ROWS[first["row"]].test_accuracy if first["row"] else None,
                seed=first["seed"],
                right=right,
                total=total,
                interval=wilson_interval(right, total),
                unseen_accuracy=accuracy(first, unseen_only=True),
                seeds=len(group),
                mean=float(np.mean(shares)),
                deviation=float(np.std(shares, ddof=1)) if len(group) > 1 else math.nan,
                lowest=min(shares),
                highest=max(shares),
                train_seconds=float(np.median(seconds)),
                device=first["environment"]["device"],
                only_base=only_base,
                only_this=only_this,
                p_value=p,
                corrected_p_value=corrected.get(name),
                verdict=words,
            )
        )
    return summaries


def summary_table(summaries: Sequence[Summary]) -> str:
    """Returns the summaries as Markdown, without the columns that none of them fills."""
    rows = [
        [
            "run", "published, %", "first seed, %", "right", "95 % interval", "unseen, %", "seeds",
            "mean ± sd, %", "range, %", "only row 1 right", "only this right", "p", "p (Holm)",
            "against row 1", "training, s", "device",
        ]
    ]  # fmt: skip
    for s in summaries:
        published = ""
        if s.published_percent is not None:
            count = published_count(s.published_percent, SIZES["test"])
            interval = percent_interval(wilson_interval(count, SIZES["test"]))
            published = f"{s.published_percent:.2f} ({interval})"
        several = s.seeds > 1
        rows.append(
            [
                s.name,
                published,
                f"{s.right / s.total:.2%}".rstrip("%"),
                f"{s.right} of {s.total}",
                percent_interval(s.interval),
                f"{100 * s.unseen_accuracy:.2f}",
                str(s.seeds),
                f"{100 * s.mean:.2f} ± {100 * s.deviation:.2f}" if several else "",
                f"{100 * s.lowest:.2f} to {100 * s.highest:.2f}" if several else "",
                "" if s.only_base is None else str(s.only_base),
                "" if s.only_this is None else str(s.only_this),
                "" if s.p_value is None else f"{s.p_value:.3g}",
                "" if s.corrected_p_value is None else f"{s.corrected_p_value:.3g}",
                s.verdict,
                f"{s.train_seconds:.1f}",
                s.device,
            ]
        )
    filled = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return markdown([[row[i] for i in filled] for row in rows])


def notes(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Returns what a reader of the table has to know of these records."""
    records = [record for group in groups.values() for record in group]
    found = []
    models = sorted({record["model"] for record in records if record["stands_in"]})
    if models:
        found.append(
            "These are no runs of the published models. In their place: "
            f"{'; '.join(models)}. The published figures are not theirs."
        )
    if any(record["row"] == 8 for record in records):
        found.append("Row 8's published validation accuracy, 99.81 %, is no count of 149 messages.")
    seen = {sum(record["test"]["in_training"]) for record in records}
    found.append(
        f"Unseen: without the {' or '.join(map(str, sorted(seen)))} test messages that are exact "
        "copies of training messages. Training: with what is computed before it, without the final "
        "accuracies."
    )
    if f"row {BASE:02d}" in groups:
        found.append(
            f"p: exact McNemar, at the first seed that a run shares with row {BASE}; Holm: "
            "corrected over the rows shown."
        )
    else:
        found.append(f"Row {BASE} is not among the records, so nothing is held against it.")
    return found


# ------------------------------------------------------------------------------------- two rows


def compare_pair(
    first: list[dict[str, Any]], second: list[dict[str, Any]], texts: Sequence[str] | None = None
) -> str:
    """Returns two groups side by side: the question, the tests, and where they differ.

    Args:
        first: its records, one for each seed.
        second: the other's.
        texts: of the test messages, if they are at hand.

    Raises:
        ValueError: when the two share no seed.
    """
    pairs = pair_up(first, second)
    names = [group[0]["name"] for group in (first, second)]
    if not pairs:
        raise ValueError(
            f"{names[0]} and {names[1]} share no seed: run one of them with the other's"
        )
    one, other = pairs[0]
    a, b = is_right(one), is_right(other)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = mcnemar(only_a, only_b)
    differences = [accuracy(y) - accuracy(x) for x, y in pairs]
    over_messages = np.mean([is_right(y).astype(float) - is_right(x) for x, y in pairs], axis=0)
    lines = [
        question_of(one, other),
        "",
        *(
            f"{record['name']} ({record['model']}), seed {record['seed']}: "
            f"{int(r.sum())} of {len(r)}, {r.mean():.2%} "
            f"({percent_interval(wilson_interval(int(r.sum()), len(r)))})"
            for record, r in ((one, a), (other, b))
        ),
        f"Only {names[0]} right: {only_a}; only {names[1]} right: {only_b}; exact McNemar "
        f"p = {p:.3g}: {names[1]} is {verdict(p, only_b - only_a)}.",
        "",
        f"Over {len(pairs)} seeds, {names[1]} minus {names[0]}, in points of test accuracy:",
        f"  mean {100 * np.mean(differences):+.2f}",
        "  other seeds, these messages: 95 % "
        + (percent_interval(t_interval(differences)) if len(pairs) > 1 else "needs two seeds")
        + " (t)",
        "  other messages, these seeds: 95 % "
        f"{percent_interval(bootstrap_interval(over_messages))} (bootstrap)",
        "",
        "Test messages on which they differ, at the first seed:",
    ]
    for i in np.flatnonzero(a != b):
        shown = f"  {texts[i]}" if texts is not None and len(texts) == len(a) else ""
        lines.append(
            f"  {i:3} {'spam' if one['test']['labels'][i] else 'ham ':4} "
            f"P(spam) {one['test']['p_spam'][i]:.3f} and {other['test']['p_spam'][i]:.3f}"
            f"{'  in training' if one['test']['in_training'][i] else ''}{shown}"
        )
    return "\n".join(lines)


def question_of(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Returns the question that a pair of records answers."""
    if one["row"] == BASE and other["row"] in QUESTIONS:
        return QUESTIONS[other["row"]]

    def name(record: dict[str, Any]) -> str:
        flags = ROWS[record["row"]].flags or "no flags" if record["row"] else record["model"]
        return f"{record['name']} ({flags})"

    return f"{name(one)} or {name(other)}?"


# ---------------------------------------------------------------------------------------- figures


def plot(groups: dict[str, list[dict[str, Any]]], folder: Path) -> list[Path]:
    """Draws curves, accuracies with intervals, and time against accuracy; returns the PNG files.

    All are told apart without colour, and no axis of shares is cut below what is shown.
    """
    figures: dict[str, Callable[..., Any]] = {
        "test_accuracy": draw_accuracies,
        "time_and_accuracy": draw_times,
    }
    if any(group[0]["losses"] for group in groups.values()):
        figures["curves"] = draw_curves
    paths = []
    for name, draw in figures.items():
        picture = io.BytesIO()
        draw(groups).savefig(picture, format="png", dpi=150, bbox_inches="tight")
        paths.append(folder / f"{name}.png")
        write_whole(paths[-1], picture.getvalue())
    return paths


def draw_curves(groups: dict[str, list[dict[str, Any]]]) -> Any:
    """Returns a figure of losses and accuracies, one panel a row, training solid and first seed."""
    from matplotlib.figure import Figure

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
        panel.set_title(name, fontsize=9)
        panel.set_ylim(0, top)
        panel.tick_params(labelsize=7)
    for panel in list(panels):
        panel.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
    figure.supxlabel("batch", fontsize=9)
    figure.supylabel("loss; accuracy as a share", fontsize=9)
    return figure


def draw_accuracies(groups: dict[str, list[dict[str, Any]]]) -> Any:
    """Returns a chart of test accuracies with intervals, the published one beside each."""
    from matplotlib.figure import Figure

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
    axes.set_yticks(range(len(summaries)), [s.name for s in summaries], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(right=100.5)
    axes.set_xlabel("test accuracy, %")
    axes.grid(axis="x", color="0.9")
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))  # each once
    figure.legend(by_label.values(), by_label, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def draw_times(groups: dict[str, list[dict[str, Any]]]) -> Any:
    """Returns a chart of training time against test accuracy, each point named."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    names: dict[tuple[float, float], list[str]] = {}
    for s in summarise(groups):
        point = (max(s.train_seconds, 0.01), 100 * s.mean)  # no time at all has no logarithm
        near = (
            q for q in names if abs(math.log(q[0] / point[0])) < 0.03 and abs(q[1] - point[1]) < 1
        )
        names.setdefault(next(near, point), []).append(s.name)
    for point, together in names.items():
        axes.plot(*point, "o", color="black")
        axes.annotate(
            ", ".join(together),
            point,
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            rotation=25,
        )
    axes.margins(x=0.15)
    axes.set_xscale("log")
    axes.set_xlabel("training time, s (median over seeds, logarithmic)")
    axes.set_ylabel("test accuracy, % (mean over seeds)")
    axes.grid(color="0.9")
    return figure


# ----------------------------------------------------------------------------------------- main


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns what is asked for."""
    parser = argparse.ArgumentParser(
        prog="compare_experiments.py",
        description="Answers from records: without rows, the table of all; with two, a pair.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="two rows by number, or baselines by name")
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="folder of records")
    add("--published", action="store_true", help="what the published figures alone can carry")
    add("--plot", type=Path, metavar="DIR", help="draw PNG figures there")
    add("--csv", type=Path, metavar="FILE", help="write the table for other programs")
    add("--json", type=Path, metavar="FILE", help="the same as JSON")
    add("--test_csv", type=Path, default=Path("sms_spam_collection/test.csv"), metavar="FILE",
        help="the test messages, whose texts a pair shows if the file is there")  # fmt: skip
    arguments = parser.parse_args(argv)
    if len(arguments.rows) not in (0, 2) or len(set(arguments.rows)) == 1:
        parser.error("name two different rows, such as 1 16, or none for the table")
    others = arguments.plot or arguments.csv or arguments.json
    if others and (arguments.rows or arguments.published):
        parser.error("--plot, --csv and --json are of the table: name no rows, no --published")
    return arguments


def read_texts(path: Path) -> list[str] | None:
    """Returns the texts of a CSV of messages, None where there is no file."""
    return read_messages(path)["Text"].tolist() if path.is_file() else None


def find_groups(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the groups of a folder's records, and says on stderr what is left out.

    Raises:
        ValueError: when there is none.
    """
    records, problems = read_records(folder)
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    if groups := group_records(records):
        return groups
    raise ValueError(
        f"no finished record of a row in {folder}: run additional_experiments.py first, or name "
        "the folder by --results"
    )


def find_group(groups: dict[str, list[dict[str, Any]]], word: str) -> list[dict[str, Any]]:
    """Returns the records that a word of the command line stands for: a row, or a baseline.

    Raises:
        ValueError: when there are none.
    """
    name = f"row {int(word):02d}" if word.isdecimal() else f"baseline {word}"
    if name in groups:
        return groups[name]
    raise ValueError(f"no record of {name}; there are {', '.join(groups)}")


def write_summaries(
    summaries: Sequence[Summary], csv_file: Path | None, json_file: Path | None
) -> None:
    """Writes the table for other programs; what is not known is empty, or null."""
    rows = [
        {
            k: None if isinstance(v, float) and math.isnan(v) else v
            for k, v in (s._asdict() | {"low": s.interval.low, "high": s.interval.high}).items()
            if k != "interval"
        }
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


def write_file(path: Path, text: str) -> None:
    """Writes a file whole or not at all, but a device or a link, such as /dev/stdout, as it is."""
    is_file = path.is_file() and not path.is_symlink()
    if is_file or not path.exists():
        write_whole(path, text.encode())
    else:
        path.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what is asked for; ends with status 1 where the records do not hold it."""
    arguments = parse_args(argv)
    with one_line_errors("compare_experiments.py"):
        if arguments.published:
            print(published_table())
            return
        groups = find_groups(arguments.results)
        if arguments.rows:
            pair = [find_group(groups, word) for word in arguments.rows]
            print(compare_pair(*pair, read_texts(arguments.test_csv)))
            return
        summaries = summarise(groups)
        print("\n".join([summary_table(summaries), "", *notes(groups)]))
        write_summaries(summaries, arguments.csv, arguments.json)
        for path in plot(groups, arguments.plot) if arguments.plot else []:
            print(f"Drawn: {path}")


if __name__ == "__main__":
    main()
