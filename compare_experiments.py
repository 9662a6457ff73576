"""From records to answers: which differences between the rows are real?

    python compare_experiments.py                    # the table of all rows found
    python compare_experiments.py 1 16               # two rows side by side
    python compare_experiments.py "row 01" "row 01, bfloat16"   # any two, by name
    python compare_experiments.py --published        # what the published figures alone can carry
    python compare_experiments.py --plot figures     # PNG figures
    python compare_experiments.py --html report.html # a page with all of it

Each row's test accuracy gets Wilson's 95 % interval. Against row 1 stands the difference over all
shared seeds, with an interval over other seeds and other messages and a verdict: better, worse,
equivalent (within `--margin`) or not known; of one seed, the exact McNemar test. p-values are
corrected by Holm's method over the rows shown. `docs/statistics.md` has the method.
Only runs of the same weights, data and precision are held against each other, unless two are named.
"""

if __name__ == "__main__":  # a wrong flag ends here: the imports below take seconds
    import os

    from experiments.comparison import flags
    from experiments.system import terminal as command_line

    command_line.take_over(command_line.JUST_STOPPED)
    flags.parse_args()
    if not command_line.in_notebook():  # whose own figures need it
        os.environ.pop("MPLBACKEND", None)  # files do not, and an unknown one is an error

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.comparison.export import write_summaries
from experiments.comparison.flags import parse_args
from experiments.comparison.groups import Groups, find_pair, group_records, left_out
from experiments.comparison.pairs import compare_pair
from experiments.comparison.splits import over_splits
from experiments.comparison.summaries import summarise
from experiments.comparison.tables import (
    losses_table,
    metrics_table,
    notes,
    published_table,
    summary_table,
)
from experiments.comparison.texts import find_texts
from experiments.runs.records import read_records
from experiments.system.terminal import JUST_STOPPED, one_line_errors


def find_groups(folder: Path) -> Groups:
    """Returns the groups of a folder's records, and says on stderr what is left out.

    Raises:
        ValueError: when there is none, or their test messages do not fit together.
    """
    records, problems = read_records(folder)
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    groups = group_records(records)
    for words in left_out(records, groups):
        print(f"Left out: {words}", file=sys.stderr)
    if groups:
        return groups
    raise ValueError(
        f"no finished record of a row in {folder}: run additional_experiments.py first, or name "
        "the folder by --results"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what is asked for; ends with status 1 where the records do not hold it."""
    arguments = parse_args(argv)
    with one_line_errors("compare_experiments.py", words=JUST_STOPPED):
        if arguments.published:
            print(published_table())
            return
        groups = find_groups(arguments.results)
        if arguments.rows:
            pair = find_pair(groups, arguments.rows)
            record = pair[0][0]
            texts = find_texts([record], arguments.test_csv).get(record["data"])
            print(compare_pair(*pair, arguments.margin / 100, texts))
            return
        summaries = summarise(groups, arguments.margin / 100)
        to_know = [*notes(groups, summaries), *over_splits(groups, summaries)]
        print("\n".join([summary_table(summaries), "", *to_know]))
        if arguments.metrics:
            print("\n\n".join(["", metrics_table(groups), losses_table(summaries)]).rstrip())
        write_summaries(summaries, arguments.csv, arguments.json)
        if arguments.plot:
            from experiments.comparison.figures import plot  # matplotlib takes a second

            for path in plot(groups, summaries, arguments.plot):
                print(f"Drawn: {path}")
        if arguments.html:
            from experiments.comparison.report import write_report  # which draws too

            texts = find_texts([group[0] for group in groups.values()], arguments.test_csv)
            words = sys.argv[1:] if argv is None else argv
            write_report(arguments.html, groups, summaries, to_know, texts, words)
            print(f"Written: {arguments.html}")


if __name__ == "__main__":
    main()
