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
from dataclasses import fields, replace
from functools import cache
from typing import Any

from experiments.command_line import Parser
from experiments.conflicts import find_conflict
from experiments.hints import OTHER_NAMES
from experiments.parser import build_parser
from experiments.rows import ROWS
from experiments.settings import (
    TINY,
    Machine,
    Network,
    Output,
    Own,
    Reading,
    Settings,
    Training,
)

DEMO_FLAGS = ["--model_size", TINY, "--weights", "random"]
PARTS = {
    "network": Network, "reading": Reading, "own": Own, "training": Training, "machine": Machine,
    "output": Output,
}  # fmt: skip


def parse_args(argv: Sequence[str] | None = None) -> Settings:
    """Returns the settings of a run; ends the program with status 2 on flags that are wrong.

    Args:
        argv: the flags; those of the command line if None.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser()
    settings = read_flags(parser, argv)
    model_size_given = parser.parse_args(argv, argparse.Namespace(model_size=None)).model_size
    try:
        problem = find_conflict(settings, model_size_given is not None)
    except OSError as error:  # a name too long, a folder that may not be looked into
        problem = str(error)
    except ValueError as error:  # of the checkpoint; its notes are lines that convert it
        parser.error(f"--weights: {error}", *getattr(error, "__notes__", ()))
    if problem:
        parser.error(problem)
    return settings


def read_flags(parser: Parser, argv: list[str]) -> Settings:
    """Returns what flags say one by one, with those that `--row` and `--demo` stand for."""
    given = parser.parse_known(argv, OTHER_NAMES)
    implied = shlex.split(ROWS[given.row].flags) if "row" in given else []
    implied += DEMO_FLAGS if given.demo else []
    values = vars(parser.parse_args(implied + argv))
    parts = {
        name: kind(**{f.name: values[f.name] for f in fields(kind)}) for name, kind in PARTS.items()
    }
    alone = {name: values[name] for name in ("seed", "num_seeds", "baseline")}
    return Settings(**parts, **alone)


# ----------------------------------------------------------------------------------------- rows


@cache
def identities_of_rows() -> dict[int, dict[str, Any]]:
    """Returns what makes each row what it is."""
    parser = build_parser()
    return {number: read_flags(parser, ["--row", str(number)]).identity for number in ROWS}


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
