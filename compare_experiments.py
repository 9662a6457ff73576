"""Compare recorded runs: which differences between the rows are statistically significant?

    python compare_experiments.py                        # the table of all designs
    python compare_experiments.py 1 16                   # two rows in detail
    python compare_experiments.py 1 "row 16, learning"   # two designs, by how their names begin
    python compare_experiments.py --effects              # which factors of a grid matter
    python compare_experiments.py --html report.html     # one page with all results
    python compare_experiments.py --published            # what the published figures alone say

Each design is compared with row 1, or the one that --reference names, on all shared seeds: the
difference, its confidence interval over seeds and examples, and a verdict. Only runs with the same
weights, test examples and precision are compared, unless two are named. `docs/comparing.md` has the
method.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.comparison.metrics import METRICS
from experiments.config.arguments import Parser, path, positive_number
from experiments.runs.records import read_runs
from experiments.system.terminal import (
    INTERRUPTED,
    in_notebook,
    one_line_errors,
    printable,
    reader_may_stop,
    setup_terminal,
)

if TYPE_CHECKING:
    from experiments.comparison.groups import Groups

OF_TABLE = ("metrics", "plot", "html", "csv", "json", "effects", "wide")  # flags of all designs
SORTS = ("row", "difference")
MARGIN = 0.02  # 300 examples that do not differ show no less than 1 point
MOST_EXAMPLES = 20
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
        description="Compare recorded runs: without names, print the table of all designs; with "
        "two, compare them in detail.",
        usage="%(prog)s [DESIGN DESIGN] [--flag VALUE ...]",
    )
    add = parser.add_argument
    # fmt: off
    add("designs", nargs="*", metavar="DESIGN", help="two designs: rows by number, or names in the "
        'table, such as "row 16, learning_rate 0.001"; the beginning of a name is enough')
    add("--results", type=path, default=Path("results"), metavar="DIR",
        help="folder of the records (default: results)")
    add("--reference", metavar="NAME", help="design that the others are compared with "
        "(default: row 1 with the same training recipe, else row 1)")
    add("--metric", choices=tuple(METRICS), default="accuracy",
        help="what differences and verdicts are about (default: accuracy)")
    add("--margin", type=positive_number, metavar="X", help="difference within which two designs "
        "are equivalent (default: 2 points, or 0.02 of a loss)")
    add("--effects", action="store_true", help="print the effect of each factor and each "
        "interaction in complete grids of designs")
    add("--sort", choices=SORTS, default="row", help="order of the table (default: row)")
    add("--wide", action="store_true", help="print all columns, and all notes")
    add("--metrics", action="store_true",
        help="print two more tables: means of F1, AUROC and losses; classes")
    add("--all_examples", action="store_true",
        help=f"of two designs, print all examples that differ, not the first {MOST_EXAMPLES}")
    add("--plot", type=path, metavar="DIR", help="draw PNG figures there")
    add("--html", type=path, metavar="FILE", help="write a report: one page with all results")
    add("--texts", action="store_true", help="include texts of custom data in the report")
    add("--csv", type=path, metavar="FILE", help="write all columns as CSV")
    add("--json", type=path, metavar="FILE", help="write all columns as JSON")
    add("--test_csv", type=path, default=Path("sms_spam_collection/test.csv"), metavar="FILE",
        help="the published test examples, whose texts are shown if the file exists (default: "
        "sms_spam_collection/test.csv)")
    add("--published", nargs="?", const=True, default=False, type=path, metavar="FILE",
        help="print what the published figures alone say, or those of a CSV file with the columns "
        "name, n, and correct or accuracy")
    # fmt: on
    return parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the values of the flags; end the program with status 2 if they are invalid."""
    parser = build_parser()
    arguments = parser.parse_known(argv, OTHER_NAMES)
    designs = [str(int(word)) if word.isdecimal() else word for word in arguments.designs]
    if len(designs) not in (0, 2) or len(set(designs)) == 1:
        parser.error("name two different designs, such as 1 16, or none for the table of all")
    given = [f"--{name}" for name in OF_TABLE if getattr(arguments, name)]
    if given and (designs or arguments.published):
        other = "--published" if arguments.published else "the two designs"
        flags = f"{' and '.join(given)} need{'s' * (len(given) == 1)}"
        parser.error(f"leave out {other}: {flags} the table of all designs")
    if arguments.texts and not arguments.html:
        parser.error("--texts requires --html FILE")
    arguments.metric = METRICS[arguments.metric]
    if arguments.margin is None:
        arguments.margin = MARGIN
    else:
        arguments.margin /= arguments.metric.scale  # points of an accuracy
    return arguments


def load_groups(folder: Path) -> "Groups":
    """Return the groups of the records, or raise ValueError; print on stderr what is left out."""
    from experiments.comparison.groups import describe_excluded, group_runs
    from experiments.comparison.notes import notes_on_origin

    runs, problems = read_runs(folder)
    groups = group_runs(runs)
    for words in (*problems, *describe_excluded(runs, groups)):
        print(printable(f"Left out: {words}"), file=sys.stderr)
    for note in notes_on_origin([run for group in groups.values() for run in group]):
        print(f"Note: {note}", file=sys.stderr)
    if not groups:
        problem = f"no finished record in {folder}: run additional_experiments.py first"
        raise ValueError(f"{problem}, or name the folder with --results")
    return groups


def print_pair(arguments: argparse.Namespace) -> None:
    """Print the comparison of two designs in detail."""
    from experiments.comparison.groups import find_pair
    from experiments.comparison.pairs import describe_pair, find_texts

    groups = load_groups(arguments.results)
    first, second = find_pair(groups, arguments.designs)
    texts = find_texts(first[:1], arguments.test_csv).get(first[0].data)
    most = None if arguments.all_examples else MOST_EXAMPLES
    margin, metric = arguments.margin, arguments.metric
    print(printable(describe_pair(groups, first, second, margin, metric, texts, most)))


def print_table(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    """Print the table of all designs with its notes, and write the files that are asked for."""
    from experiments.comparison import effects, notes, tables
    from experiments.comparison.groups import common_deviations
    from experiments.comparison.summaries import summarise

    groups, reference = load_groups(arguments.results), arguments.reference
    margin, metric = arguments.margin, arguments.metric
    found, grids = summarise(groups, margin, reference, metric), []
    if arguments.effects or arguments.plot or arguments.html:
        grids = [(g, effects.effects_of(g, margin, metric)) for g in effects.find_grids(groups)]
    if arguments.effects:
        print(effects.describe_all(grids, common_deviations(s.first for s in found)))
    elif arguments.wide:
        lines = [s.sentence for s in found if s.sentence]
        lines += notes.notes_on_verdicts(found, reference) + notes.notes_on_columns(found)
        print("\n".join([tables.markdown(tables.summary_rows(found)), "", *lines]))
    else:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        unicode = "utf" in (sys.stdout.encoding or "").lower()
        print(tables.overview(found, reference, arguments.sort, color=color, unicode=unicode))
    if arguments.metrics:
        print(f"\nMeans over seeds:\n\n{tables.markdown(tables.metric_rows(found))}")
        print(f"\nClasses, with the first seed:\n\n{tables.markdown(tables.class_rows(found))}")
    if arguments.csv or arguments.json:
        tables.write_summaries(found, arguments.csv, arguments.json)
    factorial = [(grid, of_grid) for grid, of_grid in grids if effects.is_factorial(grid)]
    if arguments.plot:
        from experiments.comparison.figures import plot

        for file in plot(found, arguments.plot, factorial):
            print(printable(f"Drawn: {file}"))
    if arguments.html:
        from experiments.comparison.pairs import find_texts
        from experiments.comparison.report import write_report

        firsts = [s.first for s in found]
        texts = find_texts(firsts, arguments.test_csv, custom=arguments.texts)
        write_report(arguments.html, found, words, texts, factorial, reference)
        print(printable(f"Written: {arguments.html}"))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison that a command line asks for.

    If it is impossible, the status is 1; if a flag or the name of a design is wrong, it is 2.
    """
    setup_terminal(INTERRUPTED)
    arguments = parse_args(argv)
    if not in_notebook():  # whose own figures need it
        os.environ.pop("MPLBACKEND", None)  # an unknown one is an error, and none is needed
    # Imported after the flags are checked, and before a signal raises: it takes seconds.
    import_module("experiments.comparison.notes")
    if arguments.designs or arguments.html:
        import_module("experiments.comparison.pairs")
    errors = one_line_errors("compare_experiments.py", message=INTERRUPTED)
    with errors, reader_may_stop():
        if arguments.published:
            from experiments.comparison.published import published_text, table_text

            file = arguments.published
            print(published_text() if file is True else printable(table_text(file)))
        elif arguments.designs:
            print_pair(arguments)
        else:
            print_table(arguments, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    main()
