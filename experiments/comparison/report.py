"""The report: one HTML page with all results, which needs no other file and no network.

    write_report(Path("report.html"), groups, summaries, notes, texts, flags)

The page is `report.html.jinja`, with its style and its script in it. What a record or a text
contains is escaped, and no script but the page's own is run.
"""

import base64
import hashlib
import shlex
from collections.abc import Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.comparison.figures import as_svg, draw_all
from experiments.comparison.groups import Groups
from experiments.comparison.pairs import differing_examples, question_of
from experiments.comparison.summaries import Summary, pairs_of
from experiments.comparison.tables import metrics_of_summaries, summary_rows
from experiments.comparison.texts import Texts
from experiments.config.rows import DATA_SHA256, ROWS
from experiments.config.settings import default_values
from experiments.runs.records import Run
from experiments.system.files import write_file

FOLDER = Path(__file__).parent
FIGURES = {  # by name: heading and caption
    "test_accuracy": (
        "Test accuracy",
        "Proportion of test examples classified correctly, with Wilson's 95 % interval of the "
        "first seed, the other seeds, and the published accuracy of the row.",
    ),
    "curves": (
        "Learning curves",
        "Losses and accuracies on a few batches during the training of the first seed.",
    ),
    "calibration": (
        "Calibration",
        "Accuracy by the confidence of the predicted class, for the first seed: on the dotted "
        "line, confidence equals accuracy. Larger marks stand for more examples.",
    ),
    "time_and_accuracy": ("Time", "Training time and test accuracy."),
    "memory_and_accuracy": ("Memory", "Peak memory and test accuracy."),
}


def write_report(
    path: Path,
    groups: Groups,
    summaries: Sequence[Summary],
    notes: Sequence[str],
    texts: Texts,
    flags: Sequence[str],
    reference: str | None = None,
) -> None:
    """Write the report as one page of HTML; `flags` are those of the command that asks for it."""
    sentences = {s.sentence for s in summaries}
    figures = draw_all(groups, summaries)
    contents = {
        "runs": sum(map(len, groups.values())),
        "dates": sorted(run.date[:10] for group in groups.values() for run in group),
        "answers": [_answer(groups, s, texts, reference) for s in summaries if s.evidence],
        "summary": summary_rows(summaries),
        "notes": [note for note in notes if note not in sentences],
        "figures": {
            name: (*words, Markup(as_svg(figures[name], name)))
            for name, words in FIGURES.items()
            if name in figures
        },
        "metrics": metrics_of_summaries(summaries),
        "confusions": [
            (name, group[0].classes, group[0].metrics.confusion) for name, group in groups.items()
        ],
        "command": shlex.join(["python", "compare_experiments.py", *flags]),
        "commands": [line for group in groups.values() for line in commands_of(group)],
        "environment": environments_of(groups),
    }
    write_file(path, _render(contents))


def _render(contents: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    files = (FOLDER / "report.css", FOLDER / "report.js")
    style, script = (Markup(file.read_text(encoding="utf-8")) for file in files)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("report.html.jinja")
    return page.render(contents, style=style, script=script, script_sha256=digest)


def _answer(
    groups: Groups, summary: Summary, texts: Texts, reference: str | None
) -> dict[str, Any]:
    one, other = pairs_of(groups, summary.name, reference)[0]
    return summary._asdict() | {
        "question": question_of(one, other),
        "names": summary.evidence.names,
        "seed": summary.evidence.seeds[0],
        "examples": differing_examples(one, other, texts.get(one.data)),
    }


def commands_of(group: Sequence[Run]) -> list[str]:
    """Return commands that repeat a group's runs: one for consecutive seeds."""
    run, defaults = group[0], default_values()
    if run.is_baseline:
        flags = ["--baseline", run.name.removeprefix("baseline ")]
    else:
        row = ["--row", str(run.row)] if run.row else []
        changes = ROWS[run.row].changes if run.row else {}
        flags = [*row, *_flags_of(run.settings, defaults | changes)]
        flags += [] if run.environment.get("shortcuts", True) else ["--no_shortcuts"]
    if run.data != DATA_SHA256:
        split = run.split or {}  # earlier records do not name the file
        unnamed = {"data": "FILE", "split_seed": split.get("seed", defaults["split_seed"])}
        values = split.get("custom", unnamed)
        flags += split.get("flags") or _flags_of(values, defaults)
    seeds, commands = enumerate(sorted(run.seed for run in group)), []
    for _, consecutive in groupby(seeds, lambda pair: pair[1] - pair[0]):
        of_these = [seed for _, seed in consecutive]
        values = {"seed": of_these[0], "num_seeds": len(of_these)}
        words = [*flags, *_flags_of(values, defaults)]
        commands.append(shlex.join(["python", "additional_experiments.py", *words]))
    return commands


def _flags_of(values: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    flags = []
    for name, value in values.items():
        if name in defaults and value != defaults[name]:
            text = "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            flags += [f"--{name}"] if value is True else [f"--{name}", text]
    return flags


def environments_of(groups: Groups) -> dict[str, list[str]]:
    """Return the different values of each field of the runs' environments."""
    found: dict[str, dict[str, None]] = {}
    for run in chain.from_iterable(groups.values()):
        for name, value in run.environment.items():
            found.setdefault(name.replace("_", " "), {})[str(value)] = None
    return {name: list(values) for name, values in found.items()}
