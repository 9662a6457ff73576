"""Effects of factors: what each choice of a complete grid of designs changes, on average.

    for grid in find_grids(groups):
        for effect in effects_of(grid, margin=0.02):
            effect.name, effect.difference.crossed.interval, effect.verdict

A grid has a design for each combination of the levels of its factors, all under the same conditions
and with the same seeds. The effect of a level is the mean over the other factors of the difference
from the first level; the interaction of two factors is how much the effect of one depends on the
other. Both are contrasts of what each seed's classifier does on each example, so that the analysis
over seeds and examples applies to them as to the difference of two designs.

Source: Montgomery 2017, "Design and Analysis of Experiments", chapters 5 and 6.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from experiments.comparison.evidence import (
    Difference,
    Verdict,
    are_identical,
    layout_of,
    texts_of,
    values_of,
    verdict_of,
)
from experiments.comparison.groups import Groups
from experiments.comparison.metrics import ACCURACY, Metric
from experiments.comparison.names import Conditions, conditions_of, flags_of_design
from experiments.comparison.sentences import FIXED, format_p
from experiments.comparison.statistics import MIN_SEEDS, Crossed, cross, holm, pool_seeds
from experiments.comparison.tables import Cells, markdown
from experiments.config.naming import format_flag, format_value, nearest_row
from experiments.runs.records import Run

MOST_FACTORS = 5
Design = tuple[dict[str, Any], list[Run]]  # flags and group
Chosen = tuple[tuple[int, int], ...]  # places of one factor, or of two, each with that of a level
INTERACTIONS = {"better": "better together", "worse": "worse together", "equivalent": "none"}


@dataclass(frozen=True)
class Grid:
    """Designs in all combinations of some levels."""

    factors: dict[str, list[Any]]  # levels by flag; the first is that of most runs' default
    fixed: dict[str, Any]  # the other flags of all designs
    conditions: Conditions
    runs: dict[tuple[Any, ...], dict[int, Run]]  # by levels in the order of the factors, and seed
    seeds: list[int]  # that all designs share

    members = cached_property(
        lambda self: {id(run) for by_seed in self.runs.values() for run in by_seed.values()}
    )

    def array(self) -> np.ndarray:
        """Return the runs by level of each factor and by seed; of these, those that all share."""
        runs = [[by_seed[seed] for seed in self.seeds] for by_seed in self.runs.values()]
        return np.array(runs, dtype=object).reshape(*map(len, self.factors.values()), -1)


class Effect(NamedTuple):
    """A contrast between the designs of a grid."""

    name: str  # "learning_rate 0.001 instead of 5e-05", or that of an interaction
    factors: tuple[str, ...]  # one, or the two of an interaction
    metric: Metric
    margin: float
    difference: Difference
    corrected_p_value: float  # by Holm's method, over the effects of the grid
    is_identical: bool  # whether all probabilities are the same

    @property
    def verdict(self) -> Verdict:
        """What the effect says; of an interaction, more or less."""
        if self.is_identical:
            return Verdict.IDENTICAL
        return verdict_of(self.difference, self.corrected_p_value, self.margin, self.metric)


Effects = Sequence[tuple[Grid, Sequence[Effect]]]  # of each grid


def find_grids(groups: Groups) -> list[Grid]:
    """Return the complete grids, the largest first; none is part of another.

    Designs of fewer than three seeds are in none.
    """
    by_conditions: dict[Conditions, list[Design]] = defaultdict(list)
    for group in groups.values():
        if not group[0].is_baseline and len(group) >= MIN_SEEDS:
            by_conditions[conditions_of(group[0])].append((flags_of_design(group[0]), group))
    found: list[Grid] = []
    for conditions, designs in by_conditions.items():
        varied = [k for k in designs[0][0] if len({repr(flags[k]) for flags, _ in designs}) > 1]
        for size in range(min(MOST_FACTORS, len(varied)), 0, -1):
            for names in combinations(varied, size):
                others = [name for name in varied if name not in names]
                found += _grids_of(designs, names, others, conditions)
    largest: list[Grid] = []
    for grid in sorted(found, key=lambda grid: -len(grid.runs)):
        if not any(grid.members <= other.members for other in largest):
            largest.append(grid)
    return largest


def _grids_of(
    designs: Sequence[Design], names: Sequence[str], others: Sequence[str], of: Conditions
) -> Iterator[Grid]:
    """Yield the complete grids of some factors: one for each value of the other flags."""
    by_rest: dict[str, list[Design]] = defaultdict(list)
    for flags, group in designs:
        by_rest[repr([flags[name] for name in others])].append((flags, group))
    for same in by_rest.values():
        cells = {tuple(flags[name] for name in names): group for flags, group in same}
        levels = [list(dict.fromkeys(found)) for found in zip(*cells, strict=True)]
        levels = [sorted(found) if are_numbers(found) else found for found in levels]
        if len(same) < max(2 ** len(names), math.prod(map(len, levels)) / 2):
            continue
        levels = _complete(levels, cells)
        runs = {cell: {run.seed: run for run in cells[cell]} for cell in product(*levels)}
        if min(map(len, levels)) < 2:
            continue
        seeds = sorted(set.intersection(*map(set, runs.values())))
        if len(seeds) >= MIN_SEEDS:
            fixed = {k: v for k, v in same[0][0].items() if k not in names}
            yield Grid(dict(zip(names, levels, strict=True)), fixed, of, runs, seeds)


def _complete(levels: list[list[Any]], cells: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    """Return the levels without those that lack the most combinations, until none is missing."""
    while missing := [cell for cell in product(*levels) if cell not in cells]:
        lacking = Counter((i, level) for cell in missing for i, level in enumerate(cell))
        i, level = max(lacking, key=lambda of: lacking[of] * len(levels[of[0]]))  # as a share
        levels = [[x for x in found if (j, x) != (i, level)] for j, found in enumerate(levels)]
    return levels


def are_numbers(levels: Sequence[Any]) -> bool:
    """Return whether the levels of a factor are numbers."""
    return all(type(level) in (int, float) for level in levels)


def effects_of(grid: Grid, margin: float, metric: Metric = ACCURACY) -> list[Effect]:
    """Return the effect of each level against the first, and the interaction of each two factors.

    The margin is of the metric.
    """
    runs = grid.array()
    labels, texts = runs.flat[0].labels, texts_of(runs.flat)
    values = np.array([values_of(run, metric) for run in runs.flat]).reshape(*runs.shape, -1)
    others = [[(i, k) for k in range(1, size)] for i, size in enumerate(runs.shape[:-1])]  # levels
    effects: list[tuple[Chosen, Crossed]] = []
    for count in (1, 2):  # effects and interactions, whose contrasts have other variances
        found = [chosen for some in combinations(others, count) for chosen in product(*some)]
        layouts = [layout_of(_contrast(values, of), metric, labels, texts) for of in found]
        prior = pool_seeds([layout.units for layout in layouts])
        crossed = [cross(layout.units, prior, layout.reach) for layout in layouts]
        effects += zip(found, crossed, strict=True)
    corrected = holm([crossed.p_value for _, crossed in effects])
    factors, named = list(grid.factors), []
    for (chosen, crossed), p_value in zip(effects, corrected, strict=True):
        names = tuple(factors[place] for place, _ in chosen)
        levels = [grid.factors[factors[place]][level] for place, level in chosen]
        words = [f"{k} {format_value(v)}" for k, v in zip(names, levels, strict=True)]
        name, is_identical = " x ".join(words), False
        if len(chosen) == 1:
            ((place, level),) = chosen
            name += f" instead of {format_value(grid.factors[names[0]][0])}"
            pairs = zip(runs.take(0, place).flat, runs.take(level, place).flat, strict=True)
            is_identical = are_identical(pairs)
        difference = Difference(crossed.mean, crossed)
        named.append(Effect(name, names, metric, margin, difference, p_value, is_identical))
    return named


def _contrast(values: np.ndarray, chosen: Chosen) -> np.ndarray:
    """Return (S, N): by how much levels differ from the first, a mean over the other factors.

    The values are (..., S, N), with an axis for each factor.
    """
    for place, level in reversed(chosen):
        values = values.take(level, place) - values.take(0, place)
    return values.mean(axis=tuple(range(values.ndim - 2)))


# ----------------------------------------------------------------------------------- as text


def describe_all(found: Effects, common: Sequence[str]) -> str:
    """Return the effects in all grids as text, without the `common` deviations."""
    if not found:
        return (
            f"No complete grid of designs with {MIN_SEEDS} shared seeds: run one, such as "
            "additional_experiments.py --vary learning_rate 5e-5 1e-4 --num_seeds 5"
        )
    parts = []
    for grid, effects in found:
        heading, rows, sentences = describe_grid(grid, effects, common)
        parts += [heading, markdown(rows), "\n".join(sentences)]
    return "\n\n".join([*parts, FIXED])


def describe_grid(
    grid: Grid, effects: Sequence[Effect], common: Sequence[str]
) -> tuple[str, Cells, list[str]]:
    """Return a heading, the table of effects, and for each factor whether it matters."""
    levels = [f"{k} ({', '.join(map(format_value, v))})" for k, v in grid.factors.items()]
    row, changes = nearest_row(grid.fixed | {k: v[0] for k, v in grid.factors.items()})
    fixed = [format_flag(k, v) for k, v in changes.items() if k not in grid.factors]
    fixed += [name for name in grid.conditions.deviations if name not in common]
    heading = (
        f"Grid of {len(grid.runs)} designs, {len(grid.seeds)} seeds: {' x '.join(levels)}; "
        f"otherwise {', '.join([f'row {row}', *fixed])}"
    )
    metric = effects[0].metric
    unit = "" if metric.is_loss else ", points"
    rows = [["effect", f"{metric.title}{unit} (95 % interval)", "p (Holm)", "verdict"]]
    for e in effects:
        verdict = INTERACTIONS.get(e.verdict, e.verdict) if len(e.factors) > 1 else e.verdict
        difference = metric.format_difference(e.difference)
        rows.append([e.name, difference, format_p(e.corrected_p_value), verdict])
    return heading, rows, [_sentence(factor, effects) for factor in grid.factors]


def is_factorial(grid: Grid) -> bool:
    """Return whether a grid has several factors, or a numeric one."""
    return len(grid.factors) > 1 or any(map(are_numbers, grid.factors.values()))


def _sentence(factor: str, effects: Sequence[Effect]) -> str:
    """Return whether a factor matters, with its largest effect and its largest interaction."""
    own = [e for e in effects if e.factors == (factor,)]
    real = [e for e in effects if e.verdict.is_directed and factor in e.factors]
    real.sort(key=lambda e: (len(e.factors), -abs(e.difference.mean)))
    if real and real[0] in own:
        text = f"{factor} matters: {_describe(real[0])}."
        more = [f"Its effect depends on {_others(e, factor)}." for e in real if e not in own]
        return " ".join([text, *more[:1]])
    if real:
        return f"{factor} matters together with {_others(real[0], factor)}."
    if all(e.verdict == Verdict.IDENTICAL for e in own):
        return f"{factor} does not matter: all probabilities are the same."
    if all(e.verdict in (Verdict.EQUIVALENT, Verdict.IDENTICAL) for e in own):
        margin = own[0].metric.format_size(own[0].margin)
        return f"{factor} does not matter: equivalent within {margin}."
    return f"{factor}: inconclusive."


def _others(e: Effect, factor: str) -> str:
    (other,) = (name for name in e.factors if name != factor)
    return f"{other}: {_describe(e)}"


def _describe(e: Effect) -> str:
    mean = e.metric.format_mean(e.difference.mean)
    interval = e.metric.format_interval(e.difference.crossed.interval)
    return f"{mean} (95 % interval {interval}) for {e.name}"
