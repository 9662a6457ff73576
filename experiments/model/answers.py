"""How predictions are printed: a table, tab-separated values, JSON lines.

print(tab_separated(["ham", "spam"]).line("You won a prize", [0.02, 0.98]))

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


class Form(NamedTuple):
    """How predictions are printed."""

    header: str | None
    # Of a text, the probability of each class, the predicted one and cells of other columns.
    line: Callable[..., str]


def predicted_class(probabilities: Sequence[float], threshold: float | None = None) -> int:
    """Return the number of the most probable class, the first of equals.

    With a threshold, the second of two classes is predicted from that probability on.
    """
    if threshold is not None:
        return int(probabilities[1] >= threshold)
    return max(range(len(probabilities)), key=probabilities.__getitem__)


class Scores:
    """Counts of labels and predictions; labels that are no class count as classified wrongly."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = class_names
        self.confusion = [[0] * len(class_names) for _ in class_names]  # rows are labels
        self.unknown: Counter[str] = Counter()
        self.unlabelled = 0  # examples, which do not count

    def add(self, labels: Sequence[str], predicted: Sequence[int]) -> None:
        """Count some examples; none if they have no labels."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        for label, number in zip(labels, predicted, strict=False):
            if not label.strip():
                self.unlabelled += 1
            elif label in numbers:
                self.confusion[numbers[label]][number] += 1
            else:
                self.unknown[label] += 1

    @property
    def correct(self) -> int:
        """Number of examples that were classified correctly."""
        return sum(row[number] for number, row in enumerate(self.confusion))

    @property
    def total(self) -> int:
        """Number of examples."""
        return sum(map(sum, self.confusion)) + self.unknown.total()

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that occur among labels or predictions."""
        sizes = [sum(row) + sum(column) for row, column in
                 zip(self.confusion, zip(*self.confusion, strict=True), strict=True)]  # fmt: skip
        found = [2 * self.confusion[i][i] / size for i, size in enumerate(sizes) if size]
        return sum(found) / max(1, len(found))

    def describe(self, interval: Sequence[float], as_json: bool) -> str:
        """Return accuracy, its interval, macro F1 and the confusion matrix."""
        accuracy, low, high = self.correct / max(1, self.total), *interval
        if as_json:
            return json.dumps({
                "accuracy": accuracy, "interval": [low, high], "macro_f1": self.macro_f1,
                "classes": list(self.class_names), "confusion": self.confusion,
                "unknown_labels": dict(self.unknown),
            })  # fmt: skip
        width = max(6, *map(sum, map(_widths, map(_printable, self.class_names)))) + 1
        cells = [["", *self.class_names], *([n, *row] for n, row in
                 zip(self.class_names, self.confusion, strict=True))]  # fmt: skip
        lines = ["".join(_fit(str(cell), width, right=True) for cell in row) for row in cells]
        unknown = ", ".join(f"{name!r} ({count:,})" for name, count in self.unknown.most_common(3))
        return "\n".join([
            f"Accuracy: {accuracy:.2%} ({low:.2%} to {high:.2%}), {self.correct:,} of "
            f"{self.total:,}; macro F1: {self.macro_f1:.4f}",
            *([f"Labels that are no class: {unknown}"] if unknown else []),
            *([f"Without a label, not counted: {self.unlabelled:,}"] if self.unlabelled else []),
            "Labels (rows) and predictions (columns):", *lines,
        ])  # fmt: skip


def json_lines(class_names: Sequence[str], others: Sequence[str] = ()) -> Form:
    """Return the form of one JSON object a line, in ASCII for all encodings."""
    others = _distinct(others, ["label", "probabilities", "text"])

    def line(
        text: str, probabilities: Sequence[float], predicted: int, cells: Sequence[str] = ()
    ) -> str:
        by_name = {n: round(p, _DIGITS) for n, p in zip(class_names, probabilities, strict=True)}
        answer = {"label": class_names[predicted], "probabilities": by_name, "text": text}
        return json.dumps(answer | dict(zip(others, cells, strict=True)))

    return Form(None, line)


def tab_separated(class_names: Sequence[str], others: Sequence[str] = ()) -> Form:
    """Return the form of tab-separated values with a header."""
    header = ["label", *(f"P({name})" for name in class_names)]
    header += [*_distinct(others, [*header, "text"]), "text"]

    def line(
        text: str, probabilities: Sequence[float], predicted: int, cells: Sequence[str] = ()
    ) -> str:
        numbers = [f"{p:.{_DIGITS}f}" for p in probabilities]
        return "\t".join(map(_quote, [class_names[predicted], *numbers, *cells, text]))

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

    def line(
        text: str, probabilities: Sequence[float], predicted: int, _: Sequence[str] = ()
    ) -> str:
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
