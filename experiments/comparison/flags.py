"""From a command line to what a comparison is asked for."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns what is asked for."""
    parser = argparse.ArgumentParser(
        prog="compare_experiments.py",
        description="Answers from records: without rows, the table of all; with two, a pair.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="two rows by number, or baselines by name, of the "
        'same weights, data and precision; or any two as the table names them, such as "row 01" '
        '"row 01, bfloat16"')  # fmt: skip
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="folder of records")
    add("--published", action="store_true", help="what the published figures alone can carry")
    add("--plot", type=Path, metavar="DIR", help="draw PNG figures there")
    add("--csv", type=Path, metavar="FILE", help="write the table for other programs")
    add("--json", type=Path, metavar="FILE", help="the same as JSON")
    add("--test_csv", type=Path, default=Path("sms_spam_collection/test.csv"), metavar="FILE",
        help="the test messages, whose texts a pair shows if the file is there")  # fmt: skip
    arguments = parser.parse_args(argv)
    rows = [str(int(word)) if word.isdecimal() else word for word in arguments.rows]
    if len(rows) not in (0, 2) or len(set(rows)) == 1:
        parser.error("name two different rows, such as 1 16, or none for the table")
    others = arguments.plot or arguments.csv or arguments.json
    if others and (arguments.rows or arguments.published):
        parser.error("--plot, --csv and --json are of the table: name no rows, no --published")
    return arguments
