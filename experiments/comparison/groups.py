"""From records to groups of seeds: what may be compared, and what each group is called.

    groups = group_records(records)
    first, second = find_pair(groups, ["1", "16"])

Two runs tell a difference of designs only where weights, data and precision are the same. The
published models of all sizes, and the random weights of row 10, count as the same weights, since
their differences are what the rows ask.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from experiments.config.published import CHECKPOINT_SHA256, DATA_SHA256
from experiments.config.rows import name_of_row
from experiments.runs.records import FINISHED, record_path

PUBLISHED = "published models"
BASE = 1  # the row that the others are held against

Record = dict[str, Any]
Groups = dict[str, list[Record]]


class Conditions(NamedTuple):
    """What runs must have in common for their difference to be that of their designs."""

    weights: str | None  # PUBLISHED, or what stands in for it; None of a baseline
    data: str
    precision: str

    def allow(self, other: "Conditions") -> bool:
        """Says whether two runs can be held against each other; a baseline has data only."""
        is_baseline = self.weights is None or other.weights is None
        return self == other or (is_baseline and self.data == other.data)

    @property
    def stand_in(self) -> str | None:
        """What stands in for the published models, if anything does."""
        return self.weights if self.weights != PUBLISHED else None

    @property
    def deviations(self) -> list[str]:
        """In what, in words, they are not the published ones."""
        found = [self.stand_in] if self.stand_in else []
        if self.data != DATA_SHA256:
            found.append(f"data {self.data[:8]}")
        if self.precision != "float32":
            found.append(self.precision)
        return found


def conditions_of(record: Record) -> Conditions:
    """Returns what other runs must have in common with this one."""
    weights, model = record["weights"], record["model"]
    if weights in ("random", *CHECKPOINT_SHA256.values()) and not record["stands_in"]:
        weights = PUBLISHED
    elif weights == "random":
        weights = model
    elif weights is not None and weights != model:  # version 1 knows no digest
        weights = f"{model} {weights[:8]}"
    return Conditions(weights, record["data"], record["precision"])


def name_of(record: Record) -> str:
    """Returns what a record's group is called: its row, and in what it is no published run."""
    return ", ".join([record["name"], *conditions_of(record).deviations])


def group_records(records: Sequence[Record]) -> Groups:
    """Returns finished records of rows and baselines by name, in order of their seeds.

    Of several with one name and seed, made by other versions or on other machines, the newest.

    Raises:
        ValueError: when records of the same data have other test messages.
    """
    named = [r for r in records if r["status"] == FINISHED and r["name"] != "run"]
    newest: dict[tuple[str, int], Record] = {}
    for record in with_one_name(sorted(named, key=lambda record: record["date"])):
        newest[name_of(record), record["seed"]] = record
    kept = sorted(newest.values(), key=sorting_key)
    check_test_messages(kept)
    groups: Groups = {}
    for record in kept:
        groups.setdefault(name_of(record), []).append(record)
    return groups


def with_one_name(records: Sequence[Record]) -> list[Record]:
    """Returns the records with the last name of each checkpoint that has several."""
    models = {r["weights"]: r["model"] for r in records if is_checkpoint(r)}
    return [r | {"model": models[r["weights"]]} if is_checkpoint(r) else r for r in records]


def is_checkpoint(record: Record) -> bool:
    """Says whether a local checkpoint stands in for the published model."""
    return bool(conditions_of(record).stand_in) and record["weights"] != "random"


def sorting_key(record: Record) -> tuple[Any, ...]:
    """Returns the place of a record: published models, what stands in for them, baselines."""
    conditions = conditions_of(record)
    family = conditions.stand_in or "", conditions.deviations
    return record["row"] is None, *family, record["name"], record["seed"]


def check_test_messages(records: Sequence[Record]) -> None:
    """Raises ValueError when records of the same data have other test messages."""
    first: dict[str, Record] = {}
    for record in records:
        one = first.setdefault(record["data"], record)
        labels = [r["test"]["labels"] for r in (one, record)]
        if labels[0] != labels[1]:
            sizes = [f"{len(ys)} test messages, {sum(ys)} of them spam" for ys in labels]
            files = [record_path(Path(), r) for r in (one, record)]
            raise ValueError(
                f"{files[0]} and {files[1]} name the same data, but hold other test messages or "
                f"in another order ({sizes[0]}; {sizes[1]}): take the wrong one out of the folder"
            )


def stand_ins_of(groups: Groups) -> list[str]:
    """Returns what stands in for the published models, each once."""
    found = [conditions_of(group[0]).stand_in for group in groups.values()]
    return [name for name in dict.fromkeys(found) if name]


def left_out(records: Sequence[Record], groups: Groups) -> list[str]:
    """Returns in words which whole records are in no group."""
    finished = [r for r in records if r["status"] == FINISHED]
    named = [r for r in finished if r["name"] != "run"]
    counts = {
        "of a failed run": len(records) - len(finished),
        "of a run whose flags are no row's": len(finished) - len(named),
        "with a newer one of the same run and seed": len(named) - sum(map(len, groups.values())),
    }
    return [f"{n} record{'s' if n > 1 else ''} {words}" for words, n in counts.items() if n]


# -------------------------------------------------------------------------- two groups side by side


def pair_up(first: Sequence[Record], second: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Returns the records of two groups that share a seed; a baseline goes with every seed."""
    if second[0]["row"] is None:
        return [(record, second[0]) for record in first]
    if first[0]["row"] is None:
        return [(first[0], record) for record in second]
    by_seed = {record["seed"]: record for record in second}
    return [(record, by_seed[record["seed"]]) for record in first if record["seed"] in by_seed]


def names_of_pair(one: Record, other: Record) -> tuple[str, str]:
    """Returns what two groups are called: by their rows where only these tell them apart."""
    if conditions_of(one).allow(conditions_of(other)):
        return one["name"], other["name"]
    return name_of(one), name_of(other)


def bases_of(groups: Groups, record: Record) -> list[list[Record]]:
    """Returns the groups of row 1 that a record can be held against: several for a baseline only.

    A record of row 1 is held against none.
    """
    conditions = conditions_of(record)
    return [
        group
        for group in groups.values()
        if group[0]["row"] == BASE != record["row"] and conditions_of(group[0]).allow(conditions)
    ]


def find_pair(groups: Groups, words: Sequence[str]) -> tuple[list[Record], list[Record]]:
    """Returns the two groups that words of the command line stand for.

    A row's number, or a baseline's name, stands for the group that can be held against the other
    one. A group's own name stands for that group; two of these go together whatever they are.

    Raises:
        ValueError: when there are no such groups, or several, or such as differ in more than rows.
    """
    found = [find_names(groups, word) for word in words]
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
    problem = "differ in weights, data or precision; to compare two all the same,"
    if pairs:
        problem = "can be several:"
    one, other = pairs[0] if pairs else (found[0][0], found[1][-1])
    names = "; ".join(dict.fromkeys([*found[0], *found[1]]))
    raise ValueError(
        f"{words[0]} and {words[1]} {problem} name both in full, such as compare_experiments.py "
        f'"{one}" "{other}"; there are {names}'
    )


def find_names(groups: Groups, word: str) -> list[str]:
    """Returns the names of the groups that a word of the command line can stand for.

    Raises:
        ValueError: when there are none.
    """
    if word in groups:
        return [word]
    run = name_of_row(int(word)) if word.isdecimal() else f"baseline {word}"
    run = word if word.startswith("row ") else run
    names = [name for name, group in groups.items() if group[0]["name"] == run]
    if not names:
        raise ValueError(f"no record of {run}; there are {', '.join(groups)}")
    return names
