"""From a command line to settings, and from settings to the row of the table that they make.

    settings = parse_args(["--row", "16", "--seed", "7"])
    row_of(settings)  # 16

What is wrong with a command line ends the program with status 2 and one sentence, before anything
is downloaded; neither that nor `--help` waits for PyTorch.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any

from experiments.config.checks import find_conflict
from experiments.config.parser import build_parser
from experiments.config.rows import ROWS
from experiments.config.settings import (
    TINY,
    Machine,
    Network,
    Output,
    Own,
    Reading,
    Settings,
    Training,
)
from experiments.system.hints import OTHER_NAMES
from experiments.system.terminal import Parser

DEMO_FLAGS = ["--model_size", TINY, "--weights", "random"]
PARTS = {
    "network": Network, "reading": Reading, "own": Own, "training": Training, "machine": Machine,
    "output": Output,
}  # fmt: skip


def parse_args(argv: Sequence[str] | None = None) -> Settings:
    """Returns the settings of one row; ends the program with status 2 on flags that are wrong.

    Args:
        argv: the flags; those of the command line if None.
    """
    (settings,) = parse_rows(argv).values()
    return settings


def parse_rows(argv: Sequence[str] | None = None) -> dict[int | None, Settings]:
    """Returns the settings of each row that is named, or of none.

    Ends the program with status 2 on flags that are wrong for any.

    Args:
        argv: the flags; those of the command line if None.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser()
    given = parser.parse_known(argv, OTHER_NAMES)
    rows = getattr(given, "row", [None])  # which is there only where it is given
    found = {row: read_flags(parser, argv, row) for row in rows}
    for row, settings in found.items():
        check(parser, argv, settings, f"row {row}: " if len(rows) > 1 else "")
    return found


def read_flags(parser: Parser, argv: list[str], row: int | None) -> Settings:
    """Returns what flags say one by one, with those that a row and `--demo` stand for."""
    implied = shlex.split(ROWS[row].flags) if row else []
    implied += DEMO_FLAGS if "--demo" in argv else []
    values = vars(parser.parse_args(implied + argv))
    if row and values["save_model"] and "{row}" in (name := values["save_model"].name):
        values["save_model"] = values["save_model"].with_name(name.replace("{row}", str(row)))
    parts = {
        name: kind(**{f.name: values[f.name] for f in fields(kind)}) for name, kind in PARTS.items()
    }
    alone = {name: values[name] for name in ("seed", "num_seeds", "baseline")}
    return Settings(**parts, **alone)


def check(parser: Parser, argv: list[str], settings: Settings, row: str) -> None:
    """Ends the program with status 2 where settings do not fit together.

    Args:
        parser: what tells the problem.
        argv: the flags.
        settings: what they say.
        row: of which row, in words, where there are several.
    """
    given = parser.parse_args(argv, argparse.Namespace(model_size=None, save_model=None))
    try:
        problem = find_conflict(settings, given.model_size is not None)
    except OSError as error:  # a name too long, a folder that may not be looked into
        problem = str(error)
    except ValueError as error:  # of the checkpoint; its notes are lines that convert it
        parser.error(f"--weights: {error}", *getattr(error, "__notes__", ()))
    if row and given.save_model and "{row}" not in given.save_model.name:
        parser.error("--save_model needs {row} in the file's name where --row names several")
    if problem:
        parser.error(f"{row}{problem}")


# ------------------------------------------------------------------------------ flags as a record


def flags_of_own(own: Own) -> list[str]:
    """Returns the words of a command line that name the user's messages, and how they are split."""
    plain = asdict(read_flags(build_parser(), [], None).own)
    flags = (flag_of(name, value, plain[name]) for name, value in asdict(own).items())
    return [word for words in flags for word in words]


def own_of_flags(flags: Sequence[str]) -> Own:
    """Returns the user's messages that such words name."""
    return read_flags(build_parser(), list(flags), None).own


def flag_of(name: str, value: Any, default: Any) -> list[str]:
    """Returns the words that give a flag a value; none of the default."""
    if value == default:
        return []
    words = "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return [f"--{name}"] if value is True else [f"--{name}", words]


# ----------------------------------------------------------------------------------------- rows


@cache
def identities_of_rows() -> dict[int, dict[str, Any]]:
    """Returns what makes each row what it is."""
    parser = build_parser()
    return {number: read_flags(parser, [], number).identity for number in ROWS}


def row_of(settings: Settings) -> int | None:
    """Returns the number of the row that has these settings, whatever the seed and the device."""
    rows = identities_of_rows().items()
    return next((number for number, row in rows if row == settings.identity), None)


def design_of(settings: Settings) -> int | None:
    """Returns the row whose question a run asks, of its own model or of one that stands in.

    A local checkpoint stands in for the published one of the size, and the tiny model, which has
    random weights, for the small one of row 10. The precision is no part of the question.
    """
    network = settings.network
    if network.checkpoint:
        network = replace(network, weights="pretrained")
    if network.model_size == TINY:
        network = replace(network, model_size="gpt2-small (124M)")
    asked = in_float32(replace(settings, network=network))
    return None if settings.reading.demo else row_of(asked)


def in_float32(settings: Settings) -> Settings:
    """Returns the settings in the precision of the rows."""
    return replace(settings, machine=replace(settings.machine, precision="float32"))


def stands_in(settings: Settings) -> bool:
    """Says whether a run asks a row's question of another model than the published one."""
    return design_of(settings) != row_of(in_float32(settings))
