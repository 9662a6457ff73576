"""Compare recorded runs: which differences between the rows are statistically significant?

    python compare_experiments.py                    # the table of all rows recorded
    python compare_experiments.py 1 16               # two rows in detail
    python compare_experiments.py "row 01" "row 01, bfloat16"   # any two, by name
    python compare_experiments.py --published        # what the published figures alone say
    python compare_experiments.py --plot figures     # PNG figures
    python compare_experiments.py --html report.html # one page with all results

Each row is compared with row 1 on all shared seeds: the difference, its confidence interval over
seeds and examples, and a verdict. Only runs with the same weights, data and precision are compared,
unless two are named. `docs/comparing.md` has the method.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs.records import read_runs
from experiments.system.arguments import Parser, path, positive_number
from experiments.system.terminal import INTERRUPTED, in_notebook, one_line_errors, setup_terminal

if TYPE_CHECKING:
    from experiments.comparison.groups import Groups

OF_TABLE = ("metrics", "plot", "html", "csv", "json")  # flags of the table of all rows
ELSEWHERE = "additional_experiments.py has that flag"
OTHER_NAMES = {  # of flags in other programs: the flag that is meant, or why there is none
    **dict.fromkeys(("output_dir", "data_dir"), "--results"),
    "figures": "--plot",
    "output": "--csv",
    **dict.fromkeys(("row", "pair"), "name two rows without a flag, such as 1 16"),
    "baseline": "name a baseline without a flag, such as 1 majority",
    **dict.fromkeys(("demo", "device", "num_seeds", "overwrite", "seed", "weights"), ELSEWHERE),
}


def build_parser() -> Parser:
    """Return the parser, the one place where a default is written."""
    parser = Parser(
        prog="compare_experiments.py",
        description="Compare recorded runs: without rows, print the table of all; with two, "
        "compare them in detail.",
    )
    add = parser.add_argument
    # fmt: off
    add("rows", nargs="*", metavar="ROW", help="two rows by number, or baselines by name, with the "
        'same weights, data and precision; or any two by their names in the table, such as '
        '"row 01" "row 01, bfloat16"')
    add("--results", type=path, default=Path("results"), metavar="DIR",
        help="folder of the records (default: results)")
    add("--published", action="store_true", help="print what the published figures alone say")
    add("--margin", type=positive_number, default=2.0, metavar="POINTS", help="points of test "
        "accuracy within which two rows are equivalent (default: 2)")
    add("--metrics", action="store_true",
        help="print a second table: F1, AUROC, log loss, each class")
    add("--plot", type=path, metavar="DIR", help="draw PNG figures there")
    add("--html", type=path, metavar="FILE", help="write a report: one page with all results, "
        "figures, and the examples that are classified differently than by row 1")
    add("--csv", type=path, metavar="FILE", help="write the table as CSV")
    add("--json", type=path, metavar="FILE", help="write the table as JSON")
    add("--test_csv", type=path, default=Path("sms_spam_collection/test.csv"), metavar="FILE",
        help="the published test examples, whose texts are shown if the file exists; custom data "
        "are read again from their files (default: sms_spam_collection/test.csv)")
    # fmt: on
    return parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the values of the flags; end the program with status 2 if they are invalid."""
    parser = build_parser()
    arguments = parser.parse_known(argv, OTHER_NAMES)
    rows = [str(int(word)) if word.isdecimal() else word for word in arguments.rows]
    if len(rows) not in (0, 2) or len(set(rows)) == 1:
        parser.error("name two different rows, such as 1 16, or none for the table")
    given = [f"--{name}" for name in OF_TABLE if getattr(arguments, name)]
    if given and (arguments.rows or arguments.published):
        other = "--published" if arguments.published else "two rows"
        parser.error(f"leave out {other}: {' and '.join(given)} needs the table of all rows")
    return arguments


def load_groups(folder: Path) -> "Groups":
    """Return the groups of the records, or raise ValueError; print on stderr what is left out."""
    from experiments.comparison.groups import describe_excluded, group_runs

    runs, problems = read_runs(folder)
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    groups = group_runs(runs)
    for words in describe_excluded(runs, groups):
        print(f"Left out: {words}", file=sys.stderr)
    if not groups:
        problem = f"no finished record of a row in {folder}: run additional_experiments.py first"
        raise ValueError(f"{problem}, or name the folder with --results")
    return groups


def print_pair(arguments: argparse.Namespace) -> None:
    """Print the comparison of two groups in detail."""
    from experiments.comparison import pairs, texts
    from experiments.comparison.groups import find_pair

    first, second = find_pair(load_groups(arguments.results), arguments.rows)
    found = texts.find_texts(first[:1], arguments.test_csv).get(first[0].data)
    print(pairs.describe_pair(first, second, arguments.margin / 100, found))


def print_table(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    """Print the table of all groups with its notes, and write the files that are asked for."""
    from experiments.comparison import notes, summaries, tables

    groups = load_groups(arguments.results)
    found = summaries.summarise(groups, arguments.margin / 100)
    lines = notes.notes_on(groups, found)
    print("\n".join([tables.markdown(tables.summary_rows(found)), "", *lines]))
    if arguments.metrics:
        of_all = "", tables.metrics_table(groups), tables.losses_table(found)
        print("\n\n".join(of_all).rstrip())
    tables.write_summaries(found, arguments.csv, arguments.json)
    if arguments.plot:
        from experiments.comparison.figures import plot

        for file in plot(groups, found, arguments.plot):
            print(f"Drawn: {file}")
    if arguments.html:
        from experiments.comparison import report, texts

        runs = [group[0] for group in groups.values()]
        of_tests = texts.find_texts(runs, arguments.test_csv)
        report.write_report(arguments.html, groups, found, lines, of_tests, words)
        print(f"Written: {arguments.html}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison that a command line asks for; end with status 1 if it is impossible."""
    setup_terminal(INTERRUPTED)
    arguments = parse_args(argv)
    if not in_notebook():  # whose own figures need it
        os.environ.pop("MPLBACKEND", None)  # an unknown one is an error, and none is needed
    # Imported after the flags are checked, and before a signal raises: it takes seconds.
    import_module("experiments.comparison.notes")
    if arguments.rows or arguments.html:
        import_module("experiments.comparison.texts")
    with one_line_errors("compare_experiments.py", message=INTERRUPTED):
        if arguments.published:
            from experiments.comparison.tables import published_table

            print(published_table())
        elif arguments.rows:
            print_pair(arguments)
        else:
            print_table(arguments, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    main()
