"""How predictions are printed: a table, tab-separated values, JSON lines.

print(tab_separated(["ham", "spam"]).line("You won a prize", [0.02, 0.98]))
"""

import json
import unicodedata
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

_DIGITS = 9  # of a probability for other programs, as in records
_MOST_COLUMNS = 4  # of probabilities in a table; with more classes, only the largest is shown
_NARROWEST, _WIDEST = 5, 16  # column of a table, in columns of the terminal
_SHORTEST_TEXT = 20  # columns of the terminal
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


class Form(NamedTuple):
    """How predictions are printed."""

    header: str | None
    line: Callable[[str, Sequence[float]], str]  # of a text and the probability of each class


def predicted_class(probabilities: Sequence[float]) -> int:
    """Return the number of the most probable class, the first of equals."""
    return max(range(len(probabilities)), key=probabilities.__getitem__)


def json_lines(class_names: Sequence[str]) -> Form:
    """Return the form of one JSON object a line, in ASCII for all encodings."""

    def line(text: str, probabilities: Sequence[float]) -> str:
        rounded = [round(p, _DIGITS) for p in probabilities]
        label = class_names[predicted_class(probabilities)]
        by_name = dict(zip(class_names, rounded, strict=True))
        return json.dumps({"label": label, "probabilities": by_name, "text": text})

    return Form(None, line)


def tab_separated(class_names: Sequence[str]) -> Form:
    """Return the form of tab-separated values with a header, escaped, not quoted."""
    names = [name.translate(_ESCAPES) for name in class_names]

    def line(text: str, probabilities: Sequence[float]) -> str:
        label = names[predicted_class(probabilities)]
        numbers = [f"{p:.{_DIGITS}f}" for p in probabilities]
        return "\t".join([label, *numbers, text.translate(_ESCAPES)])

    return Form("\t".join(["label", *(f"P({name})" for name in names), "text"]), line)


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

    def line(text: str, probabilities: Sequence[float]) -> str:
        predicted = predicted_class(probabilities)
        shown = probabilities if has_all else [probabilities[predicted]]
        return row([class_names[predicted], *(f"{p:.3f}" for p in shown)], text)

    return Form(row(headings, "text"), line)


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
