"""The report: one HTML page with all results, which needs no other file and no network.

    write_report(Path("report.html"), summaries, flags, texts)

The page is `report.html.jinja`, with its style and its script in it. What a record or a text
contains is escaped, and no script but the page's own is run.
"""

import base64
import hashlib
import shlex
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.comparison.effects import Effects, describe_grid
from experiments.comparison.evidence import Verdict
from experiments.comparison.figures import NARROW, as_svg, draw_all, draw_differences
from experiments.comparison.groups import common_deviations
from experiments.comparison.notes import describe_failures, notes_on_columns, notes_on_verdicts
from experiments.comparison.pairs import Texts, differing_examples, means_of_pair, question_of
from experiments.comparison.summaries import Summary
from experiments.comparison.tables import Cells, metric_rows, summary_rows
from experiments.config.rows import DATA_SHA256, ROWS
from experiments.config.settings import default_values
from experiments.runs.records import Run
from experiments.system.files import write_file
from experiments.system.terminal import printable

FOLDER = Path(__file__).parent


def write_report(
    path: Path,
    summaries: Sequence[Summary],
    flags: Sequence[str],
    texts: Texts,
    effects: Effects = (),
    reference: str | None = None,
) -> None:
    """Write the report as one page of HTML.

    `summaries` have this reference; `flags` are those of the command; `texts` are the test examples
    that the page may contain.
    """
    runs = [run for s in summaries for run in s.runs]
    common = common_deviations(s.first for s in summaries)
    examples = {
        s.name: differing_examples(s.evidence.pairs, texts.get(s.first.data))
        for s in summaries
        if s.evidence
    }
    shown = {  # examples whose text is in the page
        (s.first.data, example.number)
        for s in summaries
        for example in examples.get(s.name, ())
        if example.text is not None
    }
    contents = {
        "summaries": summaries,
        "metric": summaries[0].metric,
        "verdicts": list(Verdict),
        "dates": sorted(run.date[:10] for run in runs),
        "verdict_notes": notes_on_verdicts(summaries, reference),
        "column_notes": notes_on_columns(summaries),
        "examples": examples,
        "shown": len(shown),
        "has_custom": any(run.data != DATA_SHA256 for run in runs),
        "effects": [describe_grid(grid, found, common) for grid, found in effects],
        "figures": _draw_figures(summaries, effects),
        "command": shlex.join(["python", "compare_experiments.py", *flags]),
        "environment": environments_of(runs),
    }
    write_file(path, _render(contents))


def _draw_figures(summaries: Sequence[Summary], effects: Effects) -> dict[str, Markup]:
    """Return the SVG of each figure; that of the differences is drawn for phones, too."""
    figures = draw_all(summaries, effects)
    if "differences" in figures:
        figures["differences_narrow"] = draw_differences(summaries, NARROW)
    return {name: Markup(as_svg(figure, name)) for name, figure in figures.items()}


def _seed_rows(summary: Summary) -> Cells:
    rows = [["seed", "test accuracy, %", "training, s"]]
    for run, accuracy in zip(summary.runs, summary.accuracies, strict=True):
        rows.append([str(run.seed), f"{100 * accuracy:.2f}", f"{run.train_seconds:.1f}"])
    return rows


def _render(contents: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
        finalize=_clean, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    functions = (  # that the template calls
        commands_of, describe_failures, means_of_pair, metric_rows, question_of, summary_rows,
        _seed_rows,
    )  # fmt: skip
    environment.globals |= {function.__name__.strip("_"): function for function in functions}
    style, script = (
        Markup((FOLDER / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("report.html.jinja")
    return page.render(contents, style=style, script=script, script_sha256=digest)


def _clean(value: Any) -> Any:
    return printable(value) if type(value) is str else value  # Markup is the page's own


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
        flags += split.get("flags") or _flags_of(split.get("custom", unnamed), defaults)
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


def environments_of(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Return the different values of each field of the runs' environments."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, value in run.environment.items():
            found.setdefault(name.replace("_", " "), {})[str(value)] = None
    return {name: list(values) for name, values in found.items()}
