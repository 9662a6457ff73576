"""How predictions are printed: a table, tab-separated values, JSON lines.

print(tab_separated(["ham", "spam"]).line(Answer("You won a prize", [0.02, 0.98], 1)))

Tab-separated values are quoted as in RFC 4180, so that pandas, `--file` and `--data` read each text
as it was; JSON lines have one line for each text, whatever it contains.
"""

import json
import re
import unicodedata
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

_DIGITS = 9  # of a probability for other programs, as in records
_MOST_COLUMNS = 4  # of probabilities in a table; with more classes, only the largest is shown
_NARROWEST, _WIDEST = 5, 16  # column of a table, in columns of the terminal
_SHORTEST_TEXT = 20  # columns of the terminal
_QUOTED = re.compile('[\t"\n\r\v\f\x1c-\x1e\x85\u2028\u2029]')  # tab, quote, ends of lines


class Answer(NamedTuple):
    """A text and its prediction."""

    text: str
    probabilities: Sequence[float]  # of each class
    predicted: int  # number of the class
    others: Sequence[str] = ()  # cells of other columns of its file


class Form(NamedTuple):
    """How predictions are printed."""

    header: str | None
    line: Callable[[Answer], str]


def predicted_class(probabilities: Sequence[float], threshold: float | None = None) -> int:
    """Return the number of the most probable class, the first of equals.

    With a threshold, the second of two classes is predicted from that probability on.
    """
    if threshold is not None:
        return int(probabilities[1] >= threshold)
    return max(range(len(probabilities)), key=probabilities.__getitem__)


def json_lines(class_names: Sequence[str], others: Sequence[str] = ()) -> Form:
    """Return the form of one JSON object a line, in ASCII for all encodings."""
    others = _distinct(others, ["label", "probabilities", "text"])

    def line(answer: Answer) -> str:
        numbers = (round(p, _DIGITS) for p in answer.probabilities)
        by_name = dict(zip(class_names, numbers, strict=True))
        facts = {"label": class_names[answer.predicted], "probabilities": by_name}
        cells = dict(zip(others, answer.others, strict=True))
        return json.dumps(facts | {"text": answer.text} | cells)

    return Form(None, line)


def tab_separated(class_names: Sequence[str], others: Sequence[str] = ()) -> Form:
    """Return the form of tab-separated values with a header."""
    header = ["label", *(f"P({name})" for name in class_names)]
    header += [*_distinct(others, [*header, "text"]), "text"]

    def line(answer: Answer) -> str:
        numbers = [f"{p:.{_DIGITS}f}" for p in answer.probabilities]
        cells = [class_names[answer.predicted], *numbers, *answer.others, answer.text]
        return "\t".join(map(_quote, cells))

    return Form("\t".join(map(_quote, header)), line)


def _distinct(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    return [f"{name} (file)" if name in taken else name for name in names]


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell


def table(class_names: Sequence[str], width: int) -> Form:
    """Return the form of a table as wide as the terminal, with shortened texts."""
    has_all = len(class_names) <= _MOST_COLUMNS
    headings = ["label", *([f"P({name})" for name in class_names] if has_all else ["P"])]
    columns = [["label", *class_names], *([heading] for heading in headings[1:])]
    widest = [max(sum(_widths(_printable(cell))) for cell in column) for column in columns]
    widths = [min(max(columns, _NARROWEST), _WIDEST) for columns in widest]
    text_width = max(width - sum(widths) - 2 * len(widths), _SHORTEST_TEXT)

    def row(cells: Sequence[str], text: str) -> str:
        label, *numbers = map(_fit, cells, widths, [False, *[True] * len(cells[1:])])
        return "  ".join([label, *numbers, _fit(text, text_width).rstrip()])

    def line(answer: Answer) -> str:
        shown = answer.probabilities if has_all else [answer.probabilities[answer.predicted]]
        cells = [class_names[answer.predicted], *(f"{p:.3f}" for p in shown)]
        return row(cells, answer.text)

    return Form(row(headings, "text"), line)


def describe_scores(
    counts: Counter[tuple[str, str]], class_names: Sequence[str],
    interval: Callable[[int, int], Sequence[float]], as_json: bool,
) -> str:  # fmt: skip
    """Return accuracy, its interval, macro F1 and the confusion matrix.

    Args:
        counts: of pairs of a label and a predicted class. A blank label does not count; one that
            is no class counts as classified wrongly.
        interval: of the accuracy, from the numbers of correct and of all examples.
    """
    unlabelled = sum(count for (label, _), count in counts.items() if not label.strip())
    unknown: Counter[str] = Counter()
    for (label, _), count in counts.items():
        if label.strip() and label not in class_names:
            unknown[label] += count
    confusion = [[counts[label, name] for name in class_names] for label in class_names]
    correct, total = sum(counts[name, name] for name in class_names), counts.total() - unlabelled
    accuracy, low, high = correct / max(1, total), *(interval(correct, total) if total else (0, 1))
    # The mean F1 of the classes that occur among labels or predictions.
    sizes = [sum(row) + sum(other[i] for other in confusion) for i, row in enumerate(confusion)]
    found = [2 * confusion[i][i] / size for i, size in enumerate(sizes) if size]
    macro_f1 = sum(found) / max(1, len(found))
    if as_json:
        return json.dumps({
            "accuracy": accuracy, "interval": [low, high], "macro_f1": macro_f1,
            "classes": list(class_names), "confusion": confusion, "unknown_labels": unknown,
        })  # fmt: skip
    width = max(6, *map(sum, map(_widths, map(_printable, class_names)))) + 1
    rows = [["", *class_names], *([name, *confusion[i]] for i, name in enumerate(class_names))]
    most = ", ".join(f"{label!r} ({count:,})" for label, count in unknown.most_common(3))
    return "\n".join([
        f"Accuracy: {accuracy:.2%} ({low:.2%} to {high:.2%}), {correct:,} of {total:,}; "
        f"macro F1: {macro_f1:.4f}",
        *([f"Labels that are no class: {most}"] if unknown else []),
        *([f"Without a label, not counted: {unlabelled:,}"] if unlabelled else []),
        "Labels (rows) and predictions (columns):",
        *("".join(_fit(str(cell), width, right=True) for cell in row) for row in rows),
    ])  # fmt: skip


def _fit(text: str, width: int, right: bool = False) -> str:
    """Return a text on one line, cut or padded to a number of columns."""
    text = _printable(text)
    ends = [*accumulate(_widths(text), initial=0)]  # columns before each character, and of all
    if ends[-1] > width:
        text = f"{text[: bisect(ends, width - 1) - 1]}…"
    blanks = " " * (width - sum(_widths(text)))
    return blanks + text if right else text + blanks


def _printable(text: str) -> str:
    characters = (" " if c.isspace() else c for c in text)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in characters)


def _widths(text: str) -> list[int]:
    """Return how many columns of the terminal each character takes."""
    wide = [unicodedata.east_asian_width(c) in "WF" for c in text]
    return [0 if unicodedata.combining(c) else 1 + w for c, w in zip(text, wide, strict=True)]
