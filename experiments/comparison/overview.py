"""The table of designs for a terminal: one line for each, at most 100 columns wide.

print(overview(groups, summaries, sort="difference", color=True))
"""

import textwrap
from collections.abc import Sequence

from experiments.comparison.evidence import (
    BETTER,
    EQUIVALENT,
    IDENTICAL,
    MODELS_DIFFER,
    MODELS_INCONCLUSIVE,
    WORSE,
    Evidence,
)
from experiments.comparison.groups import Groups, common_deviations
from experiments.comparison.sentences import (
    FIXED,
    METRIC_NAMES,
    describe_collapsed,
    digits_of,
    in_units,
    mean_and_interval,
    what_seeds_miss,
)
from experiments.comparison.summaries import Summary

WIDTH = 100
MORE = "More: two designs by name, --wide, --effects, --html report.html; docs/comparing.md."
NAME, DIFFERENCE, BAR = 26, 25, 13  # columns
COLORS = {BETTER: "32", WORSE: "31", EQUIVALENT: "36", IDENTICAL: "36", MODELS_DIFFER: "33"}
SHORT = {MODELS_DIFFER: "models differ", MODELS_INCONCLUSIVE: "inconclusive"}  # of one seed


def overview(
    groups: Groups,
    summaries: Sequence[Summary],
    *,
    sort: str = "row",
    color: bool = False,
    unicode: bool = True,
) -> str:
    """Return the table and what a reader needs to know about it.

    Args:
        groups: of the summaries.
        summaries: of `summarise`, all for the same metric.
        sort: `row` or `difference`.
        color: whether verdicts are coloured.
        unicode: whether intervals are drawn with lines instead of ASCII characters.
    """
    if sort == "difference":
        summaries = sorted(summaries, key=_difference_of, reverse=True)
    compared = [s.evidence for s in summaries if s.evidence]
    metric = compared[0].metric if compared else "accuracy"
    reach = _reach_of(compared)
    name = METRIC_NAMES[metric].removeprefix("test ")
    heading = (
        f"{'design':{NAME}}  seeds  {_heading_of(metric):>8}  {'difference (95 % CI)':{DIFFERENCE}}"
    )
    scale = f"{-reach:<+{BAR // 2}.3g}0{reach:>+{BAR // 2}.3g}" if reach else " " * BAR
    lines = [f"{heading}  {scale}  verdict".rstrip()]
    for s in summaries:
        first, *more = textwrap.wrap(s.name, NAME, subsequent_indent="  ")
        cells = _cells_of(s, metric, reach, color, unicode)
        lines += [f"{first:{NAME}}  {s.seeds:5}  {cells}".rstrip(), *more]
    notes = [*verdict_notes(groups, summaries, name), MORE]
    return "\n".join([*lines, "", *(textwrap.fill(note, WIDTH) for note in notes)])


def _heading_of(metric: str) -> str:
    return {"accuracy": "accuracy", "balanced_accuracy": "balanced"}.get(metric, "loss")


def _difference_of(summary: Summary) -> float:
    return summary.evidence.difference.mean if summary.evidence else 0.0


def _reach_of(compared: Sequence[Evidence]) -> float:
    """Return the largest limit of an interval, in the unit shown."""
    limits = [
        abs(limit)
        for e in compared
        for limit in (
            e.difference.mean,
            *(e.difference.crossed.interval if e.difference.crossed else ()),
        )
    ]
    return digits_of(compared[0].metric)[1] * max(limits) if compared else 0.0


def _cells_of(s: Summary, metric: str, reach: float, color: bool, unicode: bool) -> str:
    digits, scale = digits_of(metric)
    value = f"{scale * s.value:8.{digits}f}"
    if not (e := s.evidence):
        return value
    crossed = e.difference.crossed
    limits = crossed.interval if crossed else (e.difference.mean, e.difference.mean)
    bar = _draw([scale * x for x in (*limits, e.difference.mean)], reach, unicode)
    verdict = SHORT.get(s.verdict, s.verdict)
    if color and s.verdict in COLORS:
        verdict = f"\x1b[{COLORS[s.verdict]}m{verdict}\x1b[0m"
    return f"{value}  {mean_and_interval(e):{DIFFERENCE}}  {bar}  {verdict}"


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


def verdict_notes(groups: Groups, summaries: Sequence[Summary], name: str) -> list[str]:
    """Return at most four notes: what the verdicts mean, and what limits them.

    Args:
        groups: of the summaries.
        summaries: of `summarise`.
        name: of the metric.
    """
    compared = [s.evidence for s in summaries if s.evidence]
    notes = []
    if common := common_deviations(groups):
        notes.append(f"All runs: {'; '.join(common)}.")
    if not compared:
        first = next(iter(groups))
        return [*notes, f'Nothing to compare with: run row 1, or use --reference "{first}".']
    several_references = len({e.names[0] for e in compared}) > 1
    reference = "row 1 with the same training recipe, or else row 1"
    reference = reference if several_references else compared[0].names[0]
    margin, several = compared[0].margin, max(e.compared for e in compared)
    notes.append(
        f"Difference of {name} from {reference}. Better, worse: p < 0.05 over seeds and examples, "
        f"Holm-adjusted over {several} design{'s' if several > 1 else ''}; equivalent: within "
        f"{in_units(margin, compared[0].metric)}; inconclusive: neither. {FIXED}"
    )
    seeds = {len(e.seeds) for e in compared}
    if 1 in seeds:
        notes.append("One seed compares two models and supports no claim about the designs.")
    collapsed = {e.names[0]: (e.collapsed[0], len(e.seeds)) for e in compared}
    collapsed |= {
        s.name: (s.evidence.collapsed[1], len(s.evidence.seeds)) for s in summaries if s.evidence
    }
    if failed := [describe_collapsed(of, *found) for of, found in collapsed.items() if found[0]]:
        notes.append(f"{' '.join(failed)} {what_seeds_miss(max(seeds))}")
    shares = {round(s.largest_class, 2) for s in summaries}
    if max(shares) > 0.6:
        notes.append(f"The largest class has {max(shares):.0%} of the test examples.")
    return notes
