"""The commands, machines and versions that made records, as the records tell them."""

import shlex
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from experiments.comparison.groups import Groups, Record
from experiments.config.flags import flag_of, identities_of_rows
from experiments.config.published import DATA_SHA256

SEED = 123  # of a run and of a split, where a command names none


def commands_of(group: Sequence[Record]) -> list[str]:
    """Returns commands that make a group's records anew: one for seeds that follow each other.

    Where the messages were the user's own, and an older record does not tell their file, FILE
    stands for it.
    """
    first = group[0]
    if first["row"] is None:
        flags = ["--baseline", first["name"].removeprefix("baseline ")]
    else:
        flags = ["--row", str(first["row"]), *flags_beside_row(first["row"], first["settings"])]
        flags += [] if first["environment"].get("shortcuts", True) else ["--no_shortcuts"]
    if first["data"] != DATA_SHA256:
        split = first.get("split") or {}
        unnamed = ["--data", "FILE", *flag_of("split_seed", split.get("seed", SEED), SEED)]
        flags += split.get("flags", unnamed)
    words = ["python", "additional_experiments.py", *flags]
    return [shlex.join([*words, *flags_of_seeds(seeds)]) for seeds in in_turn(group)]


def flags_beside_row(row: int, settings: dict[str, Any]) -> list[str]:
    """Returns the flags in which settings are not those of their row."""
    plain = identities_of_rows()[row]
    flags = (flag_of(name, value, plain[name]) for name, value in settings.items() if name in plain)
    return [word for words in flags for word in words]


def in_turn(group: Sequence[Record]) -> list[list[int]]:
    """Returns the seeds of a group, those that follow each other together."""
    seeds = enumerate(sorted(record["seed"] for record in group))
    return [[seed for _, seed in run] for _, run in groupby(seeds, lambda pair: pair[1] - pair[0])]


def flags_of_seeds(seeds: Sequence[int]) -> list[str]:
    """Returns the flags that run these seeds."""
    return [*flag_of("seed", seeds[0], SEED), *flag_of("num_seeds", len(seeds), 1)]


def environments_of(groups: Groups) -> dict[str, list[str]]:
    """Returns by what records were made: of each word for it, all that they tell, each once."""
    found: dict[str, list[str]] = {}
    for group in groups.values():
        for record in group:
            for name, value in record["environment"].items():
                values = found.setdefault(name.replace("_", " "), [])
                if str(value) not in values:
                    values.append(str(value))
    return found
