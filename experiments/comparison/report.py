"""The report: one HTML page with all that records say, which needs nothing else and no network.

    write_report(Path("report.html"), groups, summaries, notes, texts, flags)

The page is `report.html.jinja`, with its style and its script in it. What a record or a message
holds is escaped; no other script than the page's own is run, whatever it holds.
"""

import base64
import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.comparison.commands import commands_of, environments_of
from experiments.comparison.figures import as_svg, draw_all
from experiments.comparison.groups import Groups, bases_of, pair_up
from experiments.comparison.pairs import Message, differing, question_of
from experiments.comparison.summaries import Summary, metrics_of
from experiments.comparison.tables import metrics_of_summaries, summary_rows
from experiments.comparison.texts import Texts
from experiments.system.files import write_file

FOLDER = Path(__file__).parent
FIGURES = {  # by name: the heading of each, and what it shows
    "test_accuracy": (
        "Test accuracy",
        "The share of test messages told right, with Wilson's 95 % interval of the first seed, the "
        "other seeds, and what was published for the row.",
    ),
    "curves": (
        "Curves",
        "Losses and accuracies of a few batches, seen while the first seed was trained.",
    ),
    "calibration": (
        "Calibration",
        "How often a class is right that is told with so much confidence: on the dotted line, as "
        "often as it claims. First seed; larger marks hold more messages.",
    ),
    "time_and_accuracy": ("Time", "Training time against test accuracy."),
    "memory_and_accuracy": ("Memory", "The most memory held against test accuracy."),
}


class Answer(NamedTuple):
    """What is known of a group against row 1, and the messages on which they differ."""

    name: str
    question: str
    verdict: str
    sentence: str
    names: tuple[str, str]
    seed: int
    messages: list[Message]


class Confusion(NamedTuple):
    """How often a group's first seed told each class for each label."""

    name: str
    classes: list[str]
    counts: list[list[int]]  # a row for each label


def write_report(
    path: Path,
    groups: Groups,
    summaries: Sequence[Summary],
    notes: Sequence[str],
    texts: Texts,
    flags: Sequence[str],
) -> None:
    """Writes the report as one page of HTML, whole or not at all.

    Args:
        path: of the page.
        groups: by name.
        summaries: theirs.
        notes: what a reader of the table has to know.
        texts: of the test messages, as far as they are at hand.
        flags: of the command line that asks for the page.
    """
    answers = answers_of(groups, summaries, texts)
    said = {answer.sentence for answer in answers}
    contents = {
        "runs": sum(map(len, groups.values())),
        "dates": sorted(record["date"][:10] for group in groups.values() for record in group),
        "answers": answers,
        "summary": summary_rows(summaries),
        "notes": [note for note in notes if note not in said],
        "figures": figures_of(groups, summaries),
        "metrics": metrics_of_summaries(summaries),
        "confusions": confusions_of(groups),
        "command": shlex.join(["python", "compare_experiments.py", *flags]),
        "commands": [line for group in groups.values() for line in commands_of(group)],
        "environment": environments_of(groups),
    }
    write_file(path, render(contents))


def render(contents: dict[str, Any]) -> str:
    """Returns the page of such contents, each escaped, with its own style and script."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style, script = (
        Markup((FOLDER / f"report.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("report.html.jinja")
    return page.render(contents, style=style, script=script, script_sha256=digest)


def answers_of(groups: Groups, summaries: Sequence[Summary], texts: Texts) -> list[Answer]:
    """Returns the answer of each group that is held against row 1."""
    found = []
    for s in summaries:
        if s.evidence is None:
            continue
        group = groups[s.name]
        (base,) = bases_of(groups, group[0])
        one, other = pair_up(base, group)[0]
        found.append(
            Answer(
                name=s.name,
                question=question_of(one, other),
                verdict=s.verdict,
                sentence=s.sentence,
                names=s.evidence.names,
                seed=s.evidence.seeds[0],
                messages=differing(one, other, texts.get(one["data"])),
            )
        )
    return found


def figures_of(groups: Groups, summaries: Sequence[Summary]) -> dict[str, tuple[str, str, Markup]]:
    """Returns the heading of each figure, what it shows, and the figure."""
    drawn = draw_all(groups, summaries)
    return {
        name: (*words, Markup(as_svg(drawn[name], name)))
        for name, words in FIGURES.items()
        if name in drawn
    }


def confusions_of(groups: Groups) -> list[Confusion]:
    """Returns what each group's first seed told for each label."""
    return [
        Confusion(name, group[0]["classes"], metrics_of(group[0]).confusion)
        for name, group in groups.items()
    ]
