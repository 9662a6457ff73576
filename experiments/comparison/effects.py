"""Effects of factors: what each choice of a complete grid of designs changes, on average.

    for grid in find_grids(groups):
        for effect in effects_of(grid, margin=0.02):
            effect.name, effect.difference.interval

A grid has a design for each combination of the levels of its factors, all under the same conditions
and with the same seeds. The effect of a level is the mean over the other factors of the difference
from the first level; the interaction of two factors is how much the effect of one depends on the
other. Both are contrasts of what each seed's classifier does on each example, so that the analysis
over seeds and examples applies to them as to the difference of two designs.

Source: Montgomery 2017, "Design and Analysis of Experiments", chapters 5 and 6.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from experiments.comparison.groups import Groups
from experiments.comparison.names import Conditions, conditions_of, flags_of_design
from experiments.comparison.statistics import MIN_SEEDS
from experiments.config.naming import format_flag, format_value
from experiments.runs.records import Run

MOST_FACTORS = 5


@dataclass(frozen=True)
class Grid:
    """Designs in all combinations of some levels."""

    factors: dict[str, list[Any]]  # levels by flag; the first is that of most runs' default
    fixed: dict[str, Any]  # the other flags of all designs
    conditions: Conditions
    runs: dict[tuple[Any, ...], dict[int, Run]]  # by levels in the order of the factors, and seed
    seeds: list[int]  # that all designs share


class Effect(NamedTuple):
    """A contrast between designs of a grid."""

    name: str  # "learning_rate 0.001 instead of 5e-05", or that of an interaction
    factors: tuple[str, ...]  # one, or two of an interaction
    levels: tuple[Any, ...]
    contrast: np.ndarray  # (S, N), of seeds and examples


def find_grids(groups: Groups) -> list[Grid]:
    """Return the complete grids, the largest first; none is part of another."""
    by_conditions: dict[Conditions, list[list[Run]]] = {}
    for group in groups.values():
        if not group[0].is_baseline:
            by_conditions.setdefault(conditions_of(group[0]), []).append(group)
    found: list[Grid] = []
    for conditions, members in by_conditions.items():
        designs = [(flags_of_design(group[0]), group) for group in members]
        varied = [k for k in designs[0][0] if len({repr(flags[k]) for flags, _ in designs}) > 1]
        for size in range(min(MOST_FACTORS, len(varied)), 0, -1):
            for names in combinations(varied, size):
                found += _grids_of(designs, names, conditions)
    largest: list[Grid] = []
    for grid in sorted(found, key=lambda grid: -len(grid.runs)):
        if not any(_is_part(grid, other) for other in largest):
            largest.append(grid)
    return largest


def _grids_of(
    designs: Sequence[tuple[dict[str, Any], list[Run]]], names: Sequence[str], of: Conditions
) -> Iterator[Grid]:
    """Yield the complete grids of some factors: one for each value of the other flags."""
    by_rest: dict[str, list[tuple[dict[str, Any], list[Run]]]] = {}
    for flags, group in designs:
        rest = {k: v for k, v in flags.items() if k not in names}
        by_rest.setdefault(repr(rest), []).append((flags, group))
    for members in by_rest.values():
        levels = {name: _levels(flags[name] for flags, _ in members) for name in names}
        runs = {
            tuple(flags[name] for name in names): {run.seed: run for run in group}
            for flags, group in members
        }
        is_complete = all(cell in runs for cell in product(*levels.values()))
        if not is_complete or min(map(len, levels.values())) < 2:
            continue
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in runs.values())))
        if len(seeds) >= MIN_SEEDS:
            fixed = {k: v for k, v in members[0][0].items() if k not in names}
            yield Grid(levels, fixed, of, runs, seeds)


def _levels(values: Iterator[Any]) -> list[Any]:
    """Return the different values: numbers by size, others as the designs are sorted."""
    levels = list(dict.fromkeys(values))
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels)
    return sorted(levels) if are_numbers else levels


def _is_part(grid: Grid, other: Grid) -> bool:
    cells = {id(run) for by_seed in grid.runs.values() for run in by_seed.values()}
    return cells <= {id(run) for by_seed in other.runs.values() for run in by_seed.values()}


def effects_of(grid: Grid, values: str = "is_correct") -> list[Effect]:
    """Return the effect of each level against the first, and the interaction of each two factors.

    `values` is the property of a run that has a number for each example.
    """
    cells = {
        levels: np.stack([getattr(by_seed[seed], values) for seed in grid.seeds]).astype(float)
        for levels, by_seed in grid.runs.items()
    }
    found, names = [], list(grid.factors)
    for place, (name, levels) in enumerate(grid.factors.items()):
        for level in levels[1:]:
            contrast = _mean(cells, {place: level}) - _mean(cells, {place: levels[0]})
            text = f"{name} {format_value(level)} instead of {format_value(levels[0])}"
            found.append(Effect(text, (name,), (level,), contrast))
    for (i, one), (j, other) in combinations(enumerate(names), 2):
        first, second = grid.factors[one], grid.factors[other]
        for a, b in product(first[1:], second[1:]):
            contrast = (
                _mean(cells, {i: a, j: b}) - _mean(cells, {i: a, j: second[0]})
                - _mean(cells, {i: first[0], j: b}) + _mean(cells, {i: first[0], j: second[0]})
            )  # fmt: skip
            text = f"{format_flag(one, a)} x {format_flag(other, b)}"
            found.append(Effect(text, (one, other), (a, b), contrast))
    return found


def _mean(cells: Mapping[tuple[Any, ...], np.ndarray], levels: Mapping[int, Any]) -> np.ndarray:
    """Return (S, N): the mean over the designs with these levels, by the place of their factor."""
    return np.mean(
        [cell for key, cell in cells.items() if all(key[i] == v for i, v in levels.items())], axis=0
    )
