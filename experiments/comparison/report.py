"""The report: one HTML page with all results, which needs no other file and no network.

    write_report(Path("report.html"), groups, summaries, notes, flags)

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

from experiments.comparison import effects as grids
from experiments.comparison.evidence import Pairs, Verdict
from experiments.comparison.figures import NARROW, Effects, as_svg, draw_all, draw_differences
from experiments.comparison.groups import Groups, common_deviations
from experiments.comparison.overview import verdict_notes
from experiments.comparison.pairs import differing_examples, metric_rows, question_of
from experiments.comparison.sentences import (
    FIXED,
    METRIC_NAMES,
    describe_collapsed,
    digits_of,
    format_difference,
)
from experiments.comparison.summaries import Summary, pairs_by_name
from experiments.comparison.tables import metrics_of_summaries, summary_rows
from experiments.comparison.texts import Texts
from experiments.config.rows import DATA_SHA256, ROWS
from experiments.config.settings import default_values
from experiments.runs.records import Run
from experiments.system.files import write_file
from experiments.system.terminal import printable

FOLDER = Path(__file__).parent


def write_report(
    path: Path,
    groups: Groups,
    summaries: Sequence[Summary],
    notes: Sequence[str],
    flags: Sequence[str],
    *,
    texts: Texts,
    effects: Effects = (),
    reference: str | None = None,
    metric: str = "accuracy",
) -> None:
    """Write the report as one page of HTML.

    `summaries` have this reference and metric; `flags` are those of the command; `texts` are the
    test examples that the page may contain.
    """
    pairs = pairs_by_name(groups, reference)
    designs = [_describe_design(groups[s.name], s, texts, pairs.get(s.name)) for s in summaries]
    left_out = {FIXED, *(s.sentence for s in summaries)}
    common = common_deviations(groups)
    shown = {  # examples whose text is in the page
        (design["summary"].data, example.number)
        for design in designs
        for example in design["examples"]
        if example.text is not None
    }
    contents = {
        "groups": groups,
        "dates": sorted(run.date[:10] for group in groups.values() for run in group),
        "findings": _find_verdicts(summaries),
        "metric": metric,
        "verdict_notes": verdict_notes(groups, summaries, METRIC_NAMES[metric], reference),
        "designs": designs,
        "shown": len(shown),
        "has_custom": any(group[0].data != DATA_SHA256 for group in groups.values()),
        "effects": [
            (grids.heading_of(grid, common), grids.effect_rows(e), grids.factor_sentences(grid, e))
            for grid, e in effects
        ],
        "summary": summary_rows(summaries),
        "notes": [note for note in notes if note not in left_out],
        "figures": _draw_figures(groups, summaries, effects),
        "metrics": metrics_of_summaries(summaries),
        "command": shlex.join(["python", "compare_experiments.py", *flags]),
        "environment": environments_of(groups),
    }
    write_file(path, _render(contents))


def _find_verdicts(summaries: Sequence[Summary]) -> dict[str, dict[str, dict[int, str]]]:
    """Return the names of designs by number, for each reference and verdict."""
    found: dict[str, dict[str, dict[int, str]]] = {}
    for number, s in enumerate(summaries, start=1):
        if s.evidence:
            verdicts = found.setdefault(s.evidence.names[0], {verdict: {} for verdict in Verdict})
            verdicts[s.verdict][number] = s.name
    return found


def _draw_figures(
    groups: Groups, summaries: Sequence[Summary], effects: Effects
) -> dict[str, Markup]:
    """Return the SVG of each figure; that of the differences is drawn for phones, too."""
    figures = draw_all(groups, summaries, effects)
    if "differences" in figures:
        compared = [s for s in summaries if s.evidence]
        figures["differences_narrow"] = draw_differences(compared, NARROW)
    return {name: Markup(as_svg(figure, name)) for name, figure in figures.items()}


def _describe_design(
    group: Sequence[Run], summary: Summary, texts: Texts, pairs: Pairs | None
) -> dict[str, Any]:
    """Return what the page has on a design in addition to its summary."""
    found = {"summary": summary, "commands": commands_of(group), "examples": []}
    found["seeds"] = [["seed", "test accuracy, %", "training, s"]]
    for run in group:
        percent, seconds = f"{100 * run.is_correct.mean():.2f}", f"{run.train_seconds:.1f}"
        found["seeds"].append([str(run.seed), percent, seconds])
    if pairs:
        one, other = pairs[0]
        found["question"] = question_of(one, other)
        found["metrics"] = metric_rows(pairs, summary.evidence)
        found["examples"] = differing_examples(one, other, texts.get(one.data))
    return found


def _render(contents: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
        finalize=_clean, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    functions = (describe_collapsed, digits_of, format_difference)
    environment.globals |= {of.__name__: of for of in functions} | {"METRIC_NAMES": METRIC_NAMES}
    files = (FOLDER / "report.css", FOLDER / "report.js")
    style, script = (Markup(file.read_text(encoding="utf-8")) for file in files)
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
