"""What published figures alone can say, when nobody knows which examples each run misclassifies.

    published_text()                    # the table of the 19 rows, and its conclusions
    table_text(Path("figures.csv"))     # any table with the columns name, correct or accuracy, n

Two counts of correct examples allow many p-values: the errors of two runs can overlap as much as
they can, or as little. If all of these are below 5 %, a difference is supported; if none is, it is
not; else that depends on the overlap.

Source: the table and the conclusions of the additional experiments to Raschka 2024, "Build a Large
Language Model (From Scratch)", chapter 6.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy import stats

from experiments.comparison.statistics import LEVEL, holm, pairing_limits, wilson_interval
from experiments.comparison.tables import Cells, markdown, percent_interval
from experiments.config.rows import ROWS, SIZES, published_count

SUPPORTED, UNSUPPORTED, DEPENDS = "supported", "not supported", "depends on the overlap"
ALIKE = 2.0  # points of accuracy within which a conclusion of equality has to hold
TOTAL = SIZES["test"]


class Conclusion(NamedTuple):
    """A published conclusion, in the words of this project, and the rows that it compares."""

    text: str
    pairs: tuple[tuple[int, int], ...]  # worse row, better row; any order if they are alike
    alike: bool = False


CONCLUSIONS = (
    Conclusion("The last token is better than the first", ((2, 1),)),
    Conclusion("Training the last block is better than training the head only", ((3, 1),)),
    Conclusion("Training two blocks is better than one", ((1, 4),)),
    Conclusion("Training all layers is slightly better than the last block", ((1, 5),)),
    Conclusion("The medium model is worse, larger ones are better", ((6, 1), (1, 7), (1, 8))),
    Conclusion("Random weights are slightly worse than pretrained ones", ((10, 1), (10, 5))),
    Conclusion("LoRA is as good as training all layers", ((11, 5), (12, 9)), alike=True),
    Conclusion("Padding to the full context is worse", ((13, 1),)),
    Conclusion("No padding is better", ((1, 14), (1, 15))),
    Conclusion("Without the causal mask, accuracy is slightly better", ((1, 17),)),
    Conclusion("Ignoring the padding token in the loss changes nothing", ((1, 18),), alike=True),
    Conclusion("Averaging over all tokens is slightly better", ((1, 19),)),
)


def published_text() -> str:
    """Return the published test accuracies with what they say, and each conclusion, as Markdown."""
    names = [["row", "flags"], *([str(n), row.flags or "(none)"] for n, row in ROWS.items())]
    notes = [
        f"Row {number}'s {split} accuracy, {percent} %, is not a count of {SIZES[split]} examples."
        for number, row in ROWS.items()
        for split, percent in zip(SIZES, row[1:4], strict=True)
        if published_count(percent, SIZES[split]) is None
    ]
    conclusions = [
        [c.text, "; ".join(f"{a} and {b}" for a, b in c.pairs), "; ".join(found)]
        for c, found in zip(CONCLUSIONS, judge_all(), strict=True)
    ]
    return "\n".join(
        [
            _table_of_counts(names, [_count_of(number) for number in ROWS], TOTAL, "row 1"),
            "", *notes, "",
            markdown([["published conclusion", "rows", "from their figures"], *conclusions]), "",
            f"Supported: p < {LEVEL} (Holm, over the pairs of this table) whichever messages each "
            f"row misclassifies; not supported: for no such choice. Equality: within {ALIKE:g} "
            "points (two one-sided tests). One seed each: they say nothing about other seeds.",
        ]
    )  # fmt: skip


def judge_all() -> list[list[str]]:
    """Return for each conclusion what the figures of each of its pairs support."""
    pairs = [pair for c in CONCLUSIONS if not c.alike for pair in c.pairs]
    found = _judge_differences([tuple(map(_count_of, pair)) for pair in pairs], TOTAL)
    judged = dict(zip(pairs, found, strict=True))
    return [
        [_judge_equality(*map(_count_of, p)) if c.alike else judged[p] for p in c.pairs]
        for c in CONCLUSIONS
    ]


def _judge_differences(counts: Sequence[tuple[int, int]], total: int) -> list[str]:
    """Return for each pair of counts what the p-values of all overlaps say."""
    lowest, highest = map(holm, zip(*(pairing_limits(*of, total) for of in counts), strict=True))
    return [
        SUPPORTED if high < LEVEL else UNSUPPORTED if low >= LEVEL else DEPENDS
        for low, high in zip(lowest, highest, strict=True)
    ]


def _judge_equality(first: int, second: int) -> str:
    """Return whether two counts are alike for each overlap, for some, or for none.

    The 90 % interval is that of Bonett & Price 2012, J. Educ. Behav. Stat. 37.
    """
    fewest = abs(first - second)
    most = fewest + 2 * min(TOTAL - first, TOTAL - second, first, second)
    inside = []
    for discordant in (fewest, most):
        p, q = ((discordant + sign * fewest) / 2 + 1 for sign in (1, -1))
        p, q = p / (TOTAL + 2), q / (TOTAL + 2)
        error = ((p + q - (p - q) ** 2) / (TOTAL + 2)) ** 0.5
        half = float(stats.norm.ppf(1 - LEVEL)) * error
        inside.append(100 * (p - q + half) < ALIKE)
    return SUPPORTED if inside[1] else DEPENDS if inside[0] else UNSUPPORTED


def _count_of(row: int) -> int:
    return published_count(ROWS[row].test_accuracy, TOTAL)


def _table_of_counts(names: Cells, counts: Sequence[int], total: int, first: str) -> str:
    """Return names (with a heading) and their counts of the same examples as Markdown.

    Each but the first is compared with the first.
    """
    base, *others = counts
    judged = _judge_differences([(base, count) for count in others], total) if others else []
    words = {UNSUPPORTED: "inconclusive", DEPENDS: DEPENDS}
    verdicts = [
        words.get(word, f"{'better' if count > base else 'worse'}, for every overlap")
        for count, word in zip(others, judged, strict=True)
    ]
    cells = [["accuracy, %", f"correct of {total:,}", "95 % interval", f"compared with {first}"]]
    for count, verdict in zip(counts, ["", *verdicts], strict=True):
        interval = percent_interval(wilson_interval(count, total))
        cells.append([f"{100 * count / total:.2f}", str(count), interval, verdict])
    return markdown([name + own for name, own in zip(names, cells, strict=True)])


# ------------------------------------------------------------------------------------ any table


def table_text(path: Path) -> str:
    """Return which differences from the first line of a table can be significant, as Markdown.

    The file is CSV with the columns name, n, and correct (a count) or accuracy (a proportion, or
    percent); ValueError is raised if it is not.
    """
    try:
        table = _read_table(path)
        totals = [_whole(n) for n in table["n"]]
        if "correct" in table:
            counts = [_whole(count) for count in table["correct"]]
        else:
            shares = [float(text.rstrip("% ")) for text in table["accuracy"]]
            is_percent = max(shares) > 1 or table["accuracy"].str.contains("%").any()
            scale = 100 if is_percent else 1
            counts = [round(a / scale * n) for a, n in zip(shares, totals, strict=True)]
    except (ValueError, OverflowError) as error:  # OverflowError: infinite
        raise ValueError(f"{path}: {error}".strip()) from error
    if any(not 0 <= count <= n or n < 1 for count, n in zip(counts, totals, strict=True)):
        raise ValueError(f"{path}: a count of correct examples is not between 0 and n")
    if len(set(totals)) > 1:
        raise ValueError(f"{path}: n differs, so that the lines are not of the same test examples")
    names = [["name"], *([str(name)] for name in table["name"])]
    return _table_of_counts(names, counts, totals[0], table["name"][0])


def _read_table(path: Path) -> pd.DataFrame:
    """Return the cells as they are written, with names of columns in lower case."""
    content = io.BytesIO(path.read_bytes())
    table = pd.read_csv(content, dtype=str, keep_default_na=False, skipinitialspace=True)
    table.columns = table.columns.str.strip().str.lower()
    if not {"name", "n"} <= set(table) or not {"correct", "accuracy"} & set(table) or table.empty:
        raise ValueError("needs the columns name, n, and correct or accuracy")
    return table


def _whole(text: str) -> int:
    number = float(text.replace(",", ""))
    if number != int(number):
        raise ValueError(f"{text} is not a whole number")
    return int(number)
