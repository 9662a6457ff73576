"""The table of designs for a terminal: one line for each, at most 100 columns wide.

print(overview(groups, summaries, sort="difference", color=True))
"""

import textwrap
import unicodedata
from collections.abc import Sequence

from experiments.comparison.evidence import LOSSES, Evidence, collapsed_seeds
from experiments.comparison.groups import BASE, Groups, common_deviations
from experiments.comparison.sentences import (
    FIXED,
    METRIC_NAMES,
    describe_collapsed,
    digits_of,
    format_difference,
    in_units,
    what_seeds_miss,
)
from experiments.comparison.summaries import Summary
from experiments.system.terminal import printable

WIDTH = 100
MOST_FAILURES = 3  # designs with failed seeds that are named
MORE = "More: two designs by name, --wide, --effects, --html report.html; docs/comparing.md."
NAME, DIFFERENCE, BAR = 26, 25, 13  # columns
COLORS = {
    "better": "32", "worse": "31", "equivalent": "36", "identical": "36",
    "these two models differ": "33",
}  # fmt: skip


def overview(
    groups: Groups,
    summaries: Sequence[Summary],
    *,
    sort: str = "row",
    reference: str | None = None,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """Return the table and what a reader needs to know about it.

    It is sorted by `row` or `difference`, the best one first. Without `unicode`, intervals are
    drawn with ASCII characters.
    """
    if sort == "difference":
        summaries = sorted(summaries, key=_order_of)
    compared = [s.evidence for s in summaries if s.evidence]
    metric = compared[0].metric if compared else "accuracy"
    reach = _reach_of(compared)
    name = METRIC_NAMES[metric].removeprefix("test ")
    value = {"accuracy": "accuracy", "balanced_accuracy": "balanced"}.get(metric, "loss")
    heading = f"{'design':{NAME}}  seeds  {value:>8}  {'difference (95 % CI)':{DIFFERENCE}}"
    half, limit = BAR // 2, f"{reach:.3g}" if reach >= 1 else f"{reach:.2f}"
    scale = f"-{limit:{half - 1}}0{'+' + limit:>{half}}"
    if not reach or len(scale) > BAR:
        scale = " " * BAR
    lines = [f"{heading}  {scale}  verdict".rstrip()]
    for s in summaries:
        first, *more = _wrap(s.name, NAME)
        cells = _cells_of(s, metric, reach, color, unicode)
        padding = " " * (NAME - _columns(first))
        lines += [f"{first}{padding}  {s.seeds:5}  {cells}".rstrip(), *more]
    notes = [*verdict_notes(groups, summaries, name, reference), MORE]
    wrapped = ("\n".join(_wrap(note, WIDTH, indent="")) for note in notes)
    return "\n".join([*lines, "", *wrapped])


def _order_of(summary: Summary) -> float:
    if not (e := summary.evidence):
        return 0.0  # as the reference
    return e.difference.mean if e.metric in LOSSES else -e.difference.mean


def _columns(text: str) -> int:
    """Return how many columns a text takes in a terminal: most East Asian characters take two."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "FW" for letter in text)


def _wrap(text: str, width: int, indent: str = "  ") -> list[str]:
    """Return the lines of a text, at most so many columns wide; numbers stay whole."""
    text = printable(" ".join(text.split()))
    half = width // 2 if _columns(text) > len(text) else width
    return textwrap.wrap(text, half, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _reach_of(compared: Sequence[Evidence]) -> float:
    """Return the largest limit of an interval, in the unit shown."""
    limits = [abs(limit) for e in compared for limit in _limits_of(e)]
    return digits_of(compared[0].metric)[1] * max(limits) if compared else 0.0


def _limits_of(e: Evidence) -> tuple[float, float, float]:
    mean, crossed = e.difference
    return (*(crossed.interval if crossed else (mean, mean)), mean)


def _cells_of(s: Summary, metric: str, reach: float, color: bool, unicode: bool) -> str:
    digits, scale = digits_of(metric)
    value = f"{scale * s.value:8.{digits}f}"
    if not (e := s.evidence):
        return value
    for fewer in range(digits, -1, -1):  # of large numbers
        text = format_difference(*e.difference, fewer, scale)
        if len(text) <= DIFFERENCE:
            break
    bar = _draw([scale * x for x in _limits_of(e)], reach, unicode)
    verdict = s.verdict.removeprefix("these two ").removesuffix(" for these two models")
    if color and s.verdict in COLORS:
        verdict = f"\x1b[{COLORS[s.verdict]}m{verdict}\x1b[0m"
    return f"{value}  {text:{DIFFERENCE}}  {bar}  {verdict}"


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


def verdict_notes(
    groups: Groups, summaries: Sequence[Summary], name: str, reference: str | None = None
) -> list[str]:
    """Return at most four notes: what the verdicts on a metric mean, and what limits them."""
    compared = [s.evidence for s in summaries if s.evidence]
    notes = []
    if common := common_deviations(groups):
        notes.append(f"All runs: {'; '.join(common)}.")
    notes.append(
        _describe_differences(compared, name) if compared else _why_none(groups, reference)
    )
    if failed := _describe_failures(groups):
        notes.append(failed)
    largest = max(s.largest_class for s in summaries)
    if largest > 0.6:
        notes.append(f"The largest class has {largest:.0%} of the test examples.")
    return notes


def _describe_differences(compared: Sequence[Evidence], name: str) -> str:
    """Return what is compared with what, and what the verdicts mean."""
    several_references = len({e.names[0] for e in compared}) > 1
    reference = "row 1 with the same training recipe, or else row 1"
    reference = reference if several_references else compared[0].names[0]
    margin, several = compared[0].margin, max(e.compared for e in compared)
    text = (
        f"Difference of {name} from {reference}. Better, worse: p < 0.05 over seeds and examples, "
        f"Holm-adjusted over {several} design{'s' if several > 1 else ''}; equivalent: within "
        f"{in_units(margin, compared[0].metric)}; inconclusive: neither. {FIXED}"
    )
    if any(len(e.seeds) == 1 for e in compared):
        text += " One seed compares two models and supports no claim about the designs."
    return text


def _why_none(groups: Groups, reference: str | None) -> str:
    """Return why nothing is compared, and what to do."""
    first, *others = groups
    if not others:
        return f"Nothing to compare: {first} is the only design. Run others with the same seeds."
    if reference or any(name == BASE for name in groups):
        reference = reference or BASE
        return (
            f"Nothing to compare: no other design has a seed, the weights, the test examples and "
            f"the precision of {reference}."
        )
    return f'Nothing to compare with: run row 1, or use --reference "{first}".'


def _describe_failures(groups: Groups) -> str:
    """Return which seeds predict one class only; empty if none does."""
    failed = {name: (collapsed_seeds(group), len(group)) for name, group in groups.items()}
    failed = {name: found for name, found in failed.items() if found[0]}
    if not failed:
        return ""
    words = [describe_collapsed(name, *found) for name, found in failed.items()]
    if len(words) > MOST_FAILURES:
        words[MOST_FAILURES:] = [f"So do seeds of {len(words) - MOST_FAILURES} other designs."]
    return " ".join([*words, what_seeds_miss(max(total for _, total in failed.values()))])
