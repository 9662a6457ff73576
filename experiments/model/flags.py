"""From a command line to what is to be classified, and by which classifier."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.config.checks import device_is_available
from experiments.config.parser import device, whole_number
from experiments.system.hints import hint
from experiments.system.terminal import Parser, path

TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")  # files with columns


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns what is asked for; ends the program with status 2 on flags that are wrong.

    `texts` are those of the command line, and `file` is None; or the other way round.
    """
    parser = build_parser()
    arguments, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        flags = [name for action in parser._actions for name in action.option_strings]
        way_out = f"{hint(unknown, flags, {})}; a TEXT that begins with - goes after --"
        parser.error(f"unknown: {' '.join(unknown)}; {way_out}")
    if arguments.texts == ["-"]:
        arguments.texts, arguments.file = [], arguments.file or "-"
    try:
        problem = find_conflict(arguments)
    except OSError as error:  # a name too long, a folder that may not be looked into
        problem = str(error)
    if problem:
        parser.error(problem)
    return arguments


def build_parser() -> Parser:
    """Returns the parser, the one place where a default is written."""
    parser = Parser(
        prog="classify.py",
        description="Tells the class of each text by a classifier that --save_model kept.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    # fmt: off
    add("model", type=path, metavar="MODEL", help="the .safetensors file of the classifier")
    add("texts", nargs="*", metavar="TEXT", help="what to classify; - stands for --file -")
    add("--file", metavar="FILE", help=f"a file with a text a line, or, if it ends in "
        f"{', '.join(TABLES)}, with a column of texts; - is standard input, with a text a line")
    add("--text_column", metavar="NAME", help="holds the texts of such a file; guessed where its "
        "name leaves no doubt")
    add("--weights", type=path, metavar="PATH", help="the checkpoint that was finetuned, where it "
        "is not found by itself")
    add("--batch_size", type=whole_number(1), default=32, metavar="N",
        help="texts in one pass at the most (default: 32)")
    add("--device", type=device, default="auto", metavar="NAME",
        help="auto, the default, is cuda where there is one, else cpu")
    add("--json", action="store_true", help="print a JSON object a line")
    add("--debug", action="store_true", help="show the traceback of an error")
    # fmt: on
    return parser


def find_conflict(arguments: argparse.Namespace) -> str | None:
    """Returns what is wrong with the flags together and the way out, or None."""
    file, name = arguments.file, arguments.device
    is_table = file is not None and Path(file).suffix.lower() in TABLES
    conflicts = (
        (not arguments.model.is_file(), f"MODEL must be a file, got '{arguments.model}'"),
        (
            arguments.weights and not arguments.weights.exists(),
            f"--weights must be the path of a checkpoint, got '{arguments.weights}'",
        ),
        (not arguments.texts and not file, "name a TEXT, or --file FILE, or - for standard input"),
        (arguments.texts and file, f"name TEXT or --file {file}, not both"),
        (
            file not in (None, "-") and (Path(file).is_dir() or not Path(file).exists()),
            f"--file must be a file, got {file!r}",
        ),
        (
            arguments.text_column is not None and not is_table,
            f"--text_column is of a file that ends in one of {', '.join(TABLES)}",
        ),
        (
            any("\ud800" <= sign <= "\udfff" for text in arguments.texts for sign in text),
            "TEXT must be in the locale's encoding: put it into a file, and name it by --file",
        ),
        (
            not device_is_available(name),
            f"--device {name} is not available here: use --device cpu",
        ),
    )
    return next((message for is_so, message in conflicts if is_so), None)
