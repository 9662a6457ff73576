"""Groups of runs: the seeds of a design, which groups are compared, and with which one.

    groups = group_runs(runs)
    reference, *_ = find_references(groups)["row 16"]
    first, second = find_pair(groups, ["1", "16"])

Runs that contradict others, or that are not the newest of their design and seed, are left out.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain, product
from pathlib import Path
from typing import Any

from experiments.comparison.names import (
    Conditions,
    conditions_of,
    design_name,
    design_without_label,
    flags_of_design,
    test_set_of,
    with_unique_names,
)
from experiments.config.naming import DEFAULTS, RECIPE, name_design, nearest_row
from experiments.runs.records import FINISHED, Run, record_path
from experiments.system.terminal import UsageError

BASE = name_design(DEFAULTS)  # row 1, the default reference

Groups = dict[str, list[Run]]  # the seeds of a design, by its name


def group_runs(runs: Sequence[Run]) -> Groups:
    """Return the newest finished run of each design and seed, by group and seed.

    A group is named by its design, and by those of its conditions that not all groups share.
    Inconsistent runs are left out.
    """
    wrong = {id(run) for run, _ in inconsistent_runs(runs)}
    finished = [run for run in runs if run.status == FINISHED and id(run) not in wrong]
    finished.sort(key=lambda run: datetime.fromisoformat(run.date).astimezone())
    newest: dict[tuple[str, Conditions], dict[int, Run]] = {}
    for run in with_unique_names(finished):
        newest.setdefault((design_name(run), conditions_of(run)), {})[run.seed] = run
    by_design = sorted(newest.items(), key=lambda item: _sort_key(next(iter(item[1].values()))))
    common = common_deviations(next(iter(by_seed.values())) for _, by_seed in by_design)
    groups: Groups = {}
    for (design, conditions), by_seed in by_design:
        name, runs = _join(design, conditions, common), [by_seed[seed] for seed in sorted(by_seed)]
        if name in groups:  # a label that equals another design's name with its conditions
            name += f" ({design_without_label(runs[0])})"
        groups[name] = runs
    return groups


def _join(design: str, conditions: Conditions, common: Sequence[str] = ()) -> str:
    return ", ".join([design, *(name for name in conditions.deviations if name not in common)])


def common_deviations(runs: Iterable[Run]) -> list[str]:
    """Return how all runs deviate from the published ones, which names of groups do not say.

    A baseline has neither weights nor a precision.
    """
    of_networks = [conditions_of(run).deviations for run in runs if not run.is_baseline]
    counts = Counter(chain.from_iterable(of_networks))
    return [name for name, count in counts.items() if count == len(of_networks)]


def _sort_key(run: Run) -> tuple[Any, ...]:
    """Return the place of a group: published models, substitutes, baselines; then by design."""
    family = conditions_of(run).substitute or "", conditions_of(run).deviations
    if run.is_baseline:
        return True, *family, run.name
    row, changes = nearest_row(flags_of_design(run))
    values = [
        (k, not isinstance(v, int | float), v if isinstance(v, int | float) else str(v))
        for k, v in changes.items()
    ]
    return False, *family, row, len(changes), str([k for k, *_ in values]), values


def inconsistent_runs(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Return the finished runs that contradict others, and why.

    Of the runs with the same data, those whose test examples most runs share are right.
    """
    seeds, by_data, by_test_set = defaultdict(set), defaultdict(list), defaultdict(list)
    for run in (run for run in runs if run.status == FINISHED):
        seeds[run.digest].add(run.seed)
        by_data[run.data].append(run)
        by_test_set[test_set_of(run)].append(run)
    found = [
        (run, f"has the digest of the seeds {', '.join(map(str, sorted(seeds[run.digest])))}")
        for run in chain.from_iterable(by_data.values())
        if len(seeds[run.digest]) > 1
    ]
    for same in by_test_set.values():
        for field in ("classes", "labels", "same_text"):
            found += _deviating(same, field)
    wrong = {id(run) for run, _ in found}
    for same in by_data.values():
        found += _deviating([run for run in same if id(run) not in wrong], "in_training")
    return found


def _deviating(runs: Sequence[Run], field: str) -> list[tuple[Run, str]]:
    """Return the runs that differ in a field from most; all of them if no value is in most."""
    values = [
        (run, repr(run.classes if field == "classes" else run.test.get(field))) for run in runs
    ]
    known = [(run, value) for run, value in values if value != "None"]
    counts = Counter(value for _, value in known).most_common(2)
    if len(counts) < 2:
        return []
    right = counts[0][0] if counts[0][1] > counts[1][1] else None
    why = f"has other {field} of test examples than {counts[0][1]} records with the same data"
    return [(run, why) for run, value in known if value != right]


def describe_excluded(runs: Sequence[Run], groups: Groups) -> list[str]:
    """Return how many valid records are in no group, and why."""
    reasons: dict[int, tuple[Run, list[str]]] = {}
    for run, why in inconsistent_runs(runs):
        reasons.setdefault(id(run), (run, []))[1].append(why)
    finished = sum(run.status == FINISHED for run in runs)
    counts = {
        "of a failed run": len(runs) - finished,
        "with a newer one of the same design and seed": (
            finished - len(reasons) - sum(map(len, groups.values()))
        ),
    }
    return [
        *(f"{record_path(Path(), vars(r))} {'; '.join(why)}" for r, why in reasons.values()),
        *(f"{n} record{'s' if n > 1 else ''} {why}" for why, n in counts.items() if n),
    ]


# ------------------------------------------------------------------------------ pairs of groups


def pair_up(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Return the pairs of runs with the same seed; a baseline is paired with every seed."""
    if second[0].is_baseline:
        return [(run, second[0]) for run in first]
    if first[0].is_baseline:
        return [(first[0], run) for run in second]
    by_seed = {run.seed: run for run in second}
    return [(run, by_seed[run.seed]) for run in first if run.seed in by_seed]


def names_of_pair(one: Run, other: Run) -> tuple[str, str]:
    """Return the names of two groups: their designs alone, if nothing else distinguishes them."""
    first, second = conditions_of(one), conditions_of(other)
    if first.allow(second):
        return design_name(one), design_name(other)
    return _join(design_name(one), first), _join(design_name(other), second)


def find_references(groups: Groups, name: str | None = None) -> dict[str, list[list[Run]]]:
    """Return for each group those to compare it with: one, none, or several (of a baseline).

    Without the name of a reference, it is row 1 with a run's own training recipe, or else row 1.
    All have the run's weights, test examples and precision.
    """
    by_design: dict[str, list[list[Run]]] = defaultdict(list)
    for group in groups.values():
        if not group[0].is_baseline:
            by_design[design_without_label(group[0])].append(group)
    named = [groups[found] for found in find_names(groups, name)] if name else []
    if len(designs := dict.fromkeys(design_name(group[0]) for group in named)) > 1:
        raise UsageError(f"--reference {name} can mean several designs: {'; '.join(designs)}")
    references = {}
    for own, (run, *_) in groups.items():
        candidates = [named] if name else [by_design[_same_recipe(run)], by_design[BASE]]
        allowed = (
            [group for group in found if design_name(group[0]) != design_name(run)
             and conditions_of(group[0]).allow(conditions_of(run))]
            for found in candidates
        )  # fmt: skip
        references[own] = next(filter(None, allowed), [])
    return references


def _same_recipe(run: Run) -> str:
    """Return the name of row 1 with the flags of training that a run has in addition to its row."""
    if run.is_baseline:
        return BASE
    _, changes = nearest_row(flags_of_design(run))
    return name_design(DEFAULTS | {k: v for k, v in changes.items() if k in RECIPE})


def find_pair(groups: Groups, words: Sequence[str]) -> tuple[list[Run], list[Run]]:
    """Return the two groups that words of the command line mean; raise UsageError if unclear.

    The name of a design means the group that can be compared with the other one. The name of a
    group means that group; two of these are compared in any case.
    """
    found = [find_names(groups, word) for word in words]
    if found[0] == found[1] and len(found[0]) == 1:
        raise UsageError(f"{words[0]} and {words[1]} are both {found[0][0]}: name two")
    by_name = all(word in groups for word in words)
    pairs = [
        (one, other)
        for one, other in product(*found)
        if one != other
        and (by_name or conditions_of(groups[one][0]).allow(conditions_of(groups[other][0])))
    ]
    if len(pairs) == 1:
        return groups[pairs[0][0]], groups[pairs[0][1]]
    one, other = found[0][0], found[1][-1]
    problem = "differ in weights, test examples or precision; to compare two nevertheless,"
    if pairs:
        (one, other), problem = pairs[0], "can mean several groups:"
    names = "; ".join(dict.fromkeys([*found[0], *found[1]]))
    raise UsageError(
        f"{words[0]} and {words[1]} {problem} name both in full, such as compare_experiments.py "
        f'"{one}" "{other}"; the groups are {names}'
    )


def find_names(groups: Groups, word: str) -> list[str]:
    """Return the names of groups that a word means: a name, a design, its row, or how it begins."""
    if word in groups:
        return [word]
    row = re.fullmatch(r"(?:row )?0*([1-9]\d*)(.*)", word)
    design = f"row {row[1]}{row[2]}" if row else word
    start = f"{design}," if row and not row[2] else design  # not row 10 for row 1
    starts = (start, f"baseline {word}", *([] if row and not row[2] else [word]))
    firsts = {name: group[0] for name, group in groups.items()}
    for matches in (
        [name for name, run in firsts.items() if design_name(run) in (design, f"baseline {word}")],
        [name for name, run in firsts.items() if run.label and design_without_label(run) == design],
        [name for name in groups if name.startswith(starts)],
    ):
        if matches:
            return matches
    raise UsageError(f"no record of {design}; the groups are {'; '.join(groups)}")
