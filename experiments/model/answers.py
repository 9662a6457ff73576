"""How classified texts are printed: as a table for people, tab-separated, or as JSON lines.

form = tab_separated(["ham", "spam"])
print(form.header)
print(form.line("You won a prize", [0.02, 0.98]))
"""

import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

DIGITS = 9  # after the point, of a probability for other programs, as in records
MOST_COLUMNS = 4  # of probabilities in a table; of more classes, it has the told one's only
NARROWEST, WIDEST = 5, 16  # of a column
LEAST_TEXT = 20  # columns of a terminal that the text is given


class Form(NamedTuple):
    """How answers are printed."""

    header: str | None
    line: Callable[[str, Sequence[float]], str]  # of a text and the probability of each class


def told_class(probabilities: Sequence[float]) -> int:
    """Returns the number of the most probable class, the first of equals."""
    return max(range(len(probabilities)), key=probabilities.__getitem__)


# ----------------------------------------------------------------------------- for other programs


def json_lines(class_names: Sequence[str]) -> Form:
    """Returns the form of a JSON object a line, in ASCII, which every encoding of output has."""

    def line(text: str, probabilities: Sequence[float]) -> str:
        rounded = [round(p, DIGITS) for p in probabilities]
        answer = {
            "label": class_names[told_class(probabilities)],
            "probabilities": dict(zip(class_names, rounded, strict=True)),
            "text": text,
        }
        return json.dumps(answer)

    return Form(None, line)


def tab_separated(class_names: Sequence[str]) -> Form:
    """Returns the form of tab-separated values with a header.

    Nothing is quoted; tabs and line breaks within a text are escaped as `\\t`, `\\n` and `\\r`, and
    so a backslash as two.
    """
    names = [escaped(name) for name in class_names]

    def line(text: str, probabilities: Sequence[float]) -> str:
        numbers = (f"{p:.{DIGITS}f}" for p in probabilities)
        return "\t".join([names[told_class(probabilities)], *numbers, escaped(text)])

    return Form("\t".join(["label", *(f"P({name})" for name in names), "text"]), line)


def escaped(text: str) -> str:
    """Returns a text without tabs and line breaks, from which it can be told again."""
    text = text.replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


# ------------------------------------------------------------------------------------- for people


def table(class_names: Sequence[str], width: int) -> Form:
    """Returns the form of a table that is as wide as the terminal, with shortened texts."""
    all_shown = len(class_names) <= MOST_COLUMNS
    headings = [f"P({name})" for name in class_names] if all_shown else ["P"]
    label_width = width_of_column(["label", *class_names])
    widths = [width_of_column([heading]) for heading in headings]
    used = label_width + sum(widths) + 2 * (1 + len(widths))

    def row(label: str, cells: Sequence[str], text: str) -> str:
        cells = [fitted(cell, width, right=True) for cell, width in zip(cells, widths, strict=True)]
        shortened = fitted(text, max(width - used, LEAST_TEXT)).rstrip()
        return "  ".join([fitted(label, label_width), *cells, shortened])

    def line(text: str, probabilities: Sequence[float]) -> str:
        told = told_class(probabilities)
        shown = probabilities if all_shown else [probabilities[told]]
        return row(class_names[told], [f"{p:.3f}" for p in shown], text)

    return Form(row("label", headings, "text"), line)


def width_of_column(cells: Sequence[str]) -> int:
    """Returns the columns of a terminal that a table's column takes."""
    widest = max(sum(map(columns_of_sign, printable(cell))) for cell in cells)
    return min(max(widest, NARROWEST), WIDEST)


def fitted(text: str, width: int, right: bool = False) -> str:
    """Returns a text cut or filled to so many columns of a terminal, on one line."""
    text = printable(text)
    taken = sum(map(columns_of_sign, text))
    if taken > width:
        kept, taken = "", 1  # the ellipsis
        for sign in text:
            if taken + columns_of_sign(sign) > width:
                break
            kept += sign
            taken += columns_of_sign(sign)
        text = f"{kept}…"
    blanks = " " * (width - taken)
    return blanks + text if right else text + blanks


def printable(text: str) -> str:
    """Returns a text with blanks for line breaks, and without what would steer a terminal."""
    signs = (" " if sign.isspace() else sign for sign in text)
    return "".join(s if s.isprintable() else ascii(s)[1:-1] for s in signs)


def columns_of_sign(sign: str) -> int:
    """Returns how many columns of a terminal a character takes."""
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1
