"""Groups of runs: the seeds of a design, and which groups can be compared.

    groups = group_runs(runs)
    first, second = find_pair(groups, ["1", "16"])

The difference of two runs is that of their designs only if weights, data and precision are the
same. The published models of all sizes, and the random weights of row 10, count as the same
weights, because their differences are what the rows are about.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from experiments.checkpoints.published import CHECKPOINT_SHA256
from experiments.config.rows import DATA_SHA256, name_of_row
from experiments.runs.records import FINISHED, Run, record_path

PUBLISHED = "published models"
BASE = 1  # the row that the others are compared with

Groups = dict[str, list[Run]]


class Conditions(NamedTuple):
    """What two runs need to have in common to be compared."""

    weights: str | None  # PUBLISHED, or the name of a substitute; None for baselines
    data: str
    precision: str

    def allow(self, other: "Conditions") -> bool:
        """Return whether two runs can be compared; a baseline needs the same data only."""
        is_baseline = self.weights is None or other.weights is None
        return self == other or (is_baseline and self.data == other.data)

    @property
    def substitute(self) -> str | None:
        """The substitute for the published models, if there is one."""
        return self.weights if self.weights != PUBLISHED else None

    @property
    def deviations(self) -> list[str]:
        """What differs from the published runs."""
        found = [self.substitute] if self.substitute else []
        if self.data != DATA_SHA256:
            found.append(f"data {self.data[:8]}")
        if self.precision != "float32":
            found.append(self.precision)
        return found


def conditions_of(run: Run) -> Conditions:
    """Return the conditions of a run."""
    weights = run.weights
    if weights in ("random", *CHECKPOINT_SHA256.values()) and not run.stands_in:
        weights = PUBLISHED
    elif weights == "random":
        weights = run.model
    elif weights is not None:
        weights = f"{run.model} {weights[:8]}"
    return Conditions(weights, run.data, run.precision)


def _group_name(run: Run) -> str:
    return ", ".join([run.name, *conditions_of(run).deviations])


def group_runs(runs: Sequence[Run]) -> Groups:
    """Return the newest finished run of each row or baseline and seed, by group and seed.

    A checkpoint that was renamed has its last name. Inconsistent runs are left out.
    """
    inconsistent = {id(run) for run, _ in inconsistent_runs(runs)}
    finished = [run for run in runs if run.status == FINISHED and run.name != "run"]
    named = [run for run in finished if id(run) not in inconsistent]
    named.sort(key=lambda run: datetime.fromisoformat(run.date).astimezone())
    models = {run.weights: run.model for run in named if _is_checkpoint(run)}
    newest: dict[tuple[str, int], Run] = {}
    for run in named:
        renamed = replace(run, model=models[run.weights]) if _is_checkpoint(run) else run
        newest[_group_name(renamed), run.seed] = renamed
    groups: Groups = {}
    for run in sorted(newest.values(), key=_sort_key):
        groups.setdefault(_group_name(run), []).append(run)
    return groups


def _is_checkpoint(run: Run) -> bool:
    return bool(conditions_of(run).substitute) and run.weights != "random"


def _sort_key(run: Run) -> tuple[Any, ...]:
    conditions = conditions_of(run)
    family = conditions.substitute or "", conditions.deviations
    return run.row is None, *family, run.name, run.seed  # published, substitutes, baselines


def inconsistent_runs(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Return the finished runs that contradict others, and why.

    Of the runs with the same data, those whose test examples most runs share are right.
    """
    finished = [run for run in runs if run.status == FINISHED]
    seeds: dict[str, set[int]] = {}
    by_data: dict[str, list[Run]] = {}
    for run in finished:
        seeds.setdefault(run.digest, set()).add(run.seed)
        by_data.setdefault(run.data, []).append(run)
    found = [
        (run, f"has the digest of the seeds {', '.join(map(str, sorted(seeds[run.digest])))}")
        for run in finished
        if len(seeds[run.digest]) > 1
    ]
    for same in by_data.values():
        for fields in (("classes",), ("labels", "in_training"), ("same_text",)):
            found += _deviating(same, fields)
    return found


def _deviating(runs: Sequence[Run], fields: tuple[str, ...]) -> list[tuple[Run, str]]:
    """Return the runs that differ in these fields from most; all of them if none is in most."""
    values = {id(run): [run.test.get(f, getattr(run, f, None)) for f in fields] for run in runs}
    known = [run for run in runs if None not in values[id(run)]]
    keys = {id(run): repr(values[id(run)]) for run in known}
    counts = Counter(keys.values()).most_common(2)
    if len(counts) < 2:
        return []
    right = counts[0][0] if counts[0][1] > counts[1][1] else None
    names = " or ".join(fields)
    why = f"has other {names} of test examples than {counts[0][1]} records with the same data"
    return [(run, why) for run in known if keys[id(run)] != right]


def have_same_test_examples(one: Run, other: Run) -> bool:
    """Return whether two runs have the same labels in the same order, and as many classes."""
    same_labels = one.test["labels"] == other.test["labels"]
    return same_labels and len(one.classes) == len(other.classes)


def substitutes_of(groups: Groups) -> list[str]:
    """Return the substitutes for the published models, without duplicates."""
    found = dict.fromkeys(conditions_of(group[0]).substitute for group in groups.values())
    return [name for name in found if name]


def describe_excluded(runs: Sequence[Run], groups: Groups) -> list[str]:
    """Return which valid records are in no group, and why."""
    reasons: dict[int, tuple[Run, list[str]]] = {}
    for run, why in inconsistent_runs(runs):
        reasons.setdefault(id(run), (run, []))[1].append(why)
    finished = [run for run in runs if run.status == FINISHED and id(run) not in reasons]
    failed = sum(run.status != FINISHED for run in runs)
    unnamed = sum(run.name == "run" for run in finished)
    grouped = sum(map(len, groups.values()))
    counts = {
        "of a failed run": failed,
        "of a run whose flags match no row": unnamed,
        "with a newer one of the same run and seed": len(finished) - unnamed - grouped,
    }
    return [
        *(f"{record_path(Path(), vars(r))} {'; '.join(why)}" for r, why in reasons.values()),
        *(f"{n} record{'s' if n > 1 else ''} {why}" for why, n in counts.items() if n),
    ]


# ---------------------------------------------------------------------------------- pairs of groups


def pair_up(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Return the pairs of runs with the same seed; a baseline is paired with every seed."""
    if second[0].row is None:
        return [(run, second[0]) for run in first]
    if first[0].row is None:
        return [(first[0], run) for run in second]
    by_seed = {run.seed: run for run in second}
    return [(run, by_seed[run.seed]) for run in first if run.seed in by_seed]


def names_of_pair(one: Run, other: Run) -> tuple[str, str]:
    """Return the names of two groups: their rows alone, if nothing else distinguishes them."""
    if conditions_of(one).allow(conditions_of(other)):
        return one.name, other.name
    return _group_name(one), _group_name(other)


def bases_of(groups: Groups, run: Run) -> list[list[Run]]:
    """Return the groups of row 1 to compare a run with: several at most for a baseline."""
    conditions = conditions_of(run)
    rows_1 = [group for group in groups.values() if group[0].row == BASE != run.row]
    return [group for group in rows_1 if conditions_of(group[0]).allow(conditions)]


def find_pair(groups: Groups, words: Sequence[str]) -> tuple[list[Run], list[Run]]:
    """Return the two groups that words of the command line mean; raise ValueError if unclear.

    The number of a row, or the name of a baseline, means the group that can be compared with the
    other one. The name of a group means that group; two of these are compared in any case.
    """
    found = [_find_names(groups, word) for word in words]
    if found[0] == found[1] and len(found[0]) == 1:
        raise ValueError(f"{words[0]} and {words[1]} are both {found[0][0]}: name two")
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
    problem = "differ in weights, data or precision; to compare two nevertheless,"
    if pairs:
        (one, other), problem = pairs[0], "can mean several groups:"
    names = "; ".join(dict.fromkeys([*found[0], *found[1]]))
    raise ValueError(
        f"{words[0]} and {words[1]} {problem} name both in full, such as compare_experiments.py "
        f'"{one}" "{other}"; the groups are {names}'
    )


def _find_names(groups: Groups, word: str) -> list[str]:
    if word in groups:
        return [word]
    run = name_of_row(int(word)) if word.isdecimal() else f"baseline {word}"
    run = word if word.startswith("row ") else run
    names = [name for name, group in groups.items() if group[0].name == run]
    if not names:
        raise ValueError(f"no record of {run}; the groups are {', '.join(groups)}")
    return names
