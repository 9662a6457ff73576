"""From a command line to what a comparison is asked for."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.config.parser import positive_number
from experiments.system.hints import by_name
from experiments.system.terminal import Parser, path

MARGIN = 1.0  # points of test accuracy, within which two rows are equivalent

OTHER_NAMES = by_name(
    {
        "--results": "data dir folder input output_dir records results_dir runs",
        "--plot": "figure figures plots png",
        "--html": "page report web",
        "--csv": "out output table",
        "--test_csv": "messages test texts",
        "--margin": "equivalence equivalent tolerance",
        "--published": "book paper",
        "name two rows without a flag, such as 1 16": "compare pair row rows",
        "name a baseline without a flag, such as 1 majority": "baseline baselines",
        "additional_experiments.py has that flag": "demo device num_seeds overwrite seed weights",
    }
)


def build_parser() -> Parser:
    """Returns the parser, the one place where a default is written."""
    parser = Parser(
        prog="compare_experiments.py",
        description="Answers from records: without rows, the table of all; with two, a pair.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="two rows by number, or baselines by name, of the "
        'same weights, data and precision; or any two as the table names them, such as "row 01" '
        '"row 01, bfloat16"')  # fmt: skip
    add("--results", type=path, default=Path("results"), metavar="DIR", help="folder of records")
    add("--published", action="store_true", help="what the published figures alone can carry")
    add("--margin", type=positive_number, default=MARGIN, metavar="POINTS", help="points of test "
        "accuracy within which two rows are equivalent")  # fmt: skip
    add("--metrics", action="store_true", help="a second table: F1, AUROC, log loss, each class")
    add("--plot", type=path, metavar="DIR", help="draw PNG figures there")
    add("--html", type=path, metavar="FILE", help="write a report to look at: one page, with all "
        "figures, and the messages that each row tells otherwise than row 1")  # fmt: skip
    add("--csv", type=path, metavar="FILE", help="write the table for other programs")
    add("--json", type=path, metavar="FILE", help="the same as JSON")
    add("--test_csv", type=path, default=Path("sms_spam_collection/test.csv"), metavar="FILE",
        help="the published test messages, whose texts are shown if the file is there; one's "
        "own are read again from where they were")  # fmt: skip
    return parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns what is asked for; ends the program with status 2 on flags that are wrong."""
    parser = build_parser()
    arguments = parser.parse_known(argv, OTHER_NAMES)
    rows = [str(int(word)) if word.isdecimal() else word for word in arguments.rows]
    if len(rows) not in (0, 2) or len(set(rows)) == 1:
        parser.error("name two different rows, such as 1 16, or none for the table")
    of_table = ("metrics", "plot", "html", "csv", "json")
    others = any(getattr(arguments, name) for name in of_table)
    if others and (arguments.rows or arguments.published):
        *first, last = (f"--{name}" for name in of_table)
        parser.error(
            f"{', '.join(first)} and {last} are of the table: name no rows, no --published"
        )
    return arguments
