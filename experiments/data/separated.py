"""CSV files: their separator and quoting, and their rows with the numbers of lines.

    dialect = detect_dialect(lines, name, is_whole=True)
    names, rows = read_rows(lines, dialect, name, notes)

Quoting is `double` ("" in quotes is a quote, as in RFC 4180), `backslash` (\\" is one, as Spark and
R write) or `none`. What other readers pass without a word is an error: a quote that is not closed
or is followed by text, a field too many, a text that contains other rows.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
_NOT_CLOSED = "a quote is not closed"
_MANY, _LONGEST = 10_000, 40  # values of a column that are remembered, and their characters
csv.field_size_limit(2**31 - 1)  # characters of a text

_Row = tuple[int, list[str]]  # number of its first line, its cells


def list_some(items: Iterable[str], most: int = 3) -> str:
    """Return the first items for a message, and how many more there are."""
    items = list(items)
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


@dataclass
class Dialect:
    """How the rows of a file are written."""

    separator: str = ","
    quoting: str = "double"
    is_given: bool = False  # whether a flag names the quoting
    has_separator_line: bool = False  # sep=; as Excel reads and writes
    sample: list[list[str]] = field(default_factory=list)  # first rows, with the header

    def __str__(self) -> str:
        name = SEPARATORS.get(self.separator, repr(self.separator))
        return f"separator {name}, quoting {self.quoting}"


def _parse_rows(lines: Iterable[str], dialect: Dialect, name: str) -> Iterator[_Row]:
    """Yield the rows of a file; a blank line has no cells."""
    lines, start = iter(lines), 1
    if dialect.has_separator_line:
        next(lines, None)
        start = 2
    if dialect.quoting == "backslash":
        lines = _double_quotes(lines, dialect.separator)
    how = csv.QUOTE_NONE if dialect.quoting == "none" else csv.QUOTE_MINIMAL
    reader, first = csv.reader(lines, delimiter=dialect.separator, quoting=how, strict=True), start
    try:
        for cells in reader:
            yield first, cells
            first = start + reader.line_num
    except csv.Error as error:
        last = start - 1 + reader.line_num
        where = f"line {first}" if last <= first else f"lines {first} to {last}"
        is_open = "end of data" in str(error)
        raise ValueError(
            f"{name}, {where}: {_NOT_CLOSED if is_open else 'a closing quote is followed by text'}"
            ": add --quoting none if quotes are parts of texts, or --quoting backslash if "
            '\\" is a quote; otherwise double the quotes within texts'
        ) from error


def _double_quotes(lines: Iterable[str], separator: str) -> Iterator[str]:
    r"""Yield lines with "" instead of \" in quoted fields, and one backslash instead of two."""
    opening = re.compile(f'(?:^|(?<={re.escape(separator)}))"')
    quoted = re.compile(r'((?:[^"\\]|\\.?)*+)("?)', re.DOTALL)
    doubled, is_quoted = {'\\"': '""', "\\\\": "\\"}, False
    for line in lines:
        parts, place = [], 0
        while place < len(line):
            if is_quoted:
                found = quoted.match(line, place)
                parts += [re.sub(r'\\["\\]', lambda pair: doubled[pair[0]], found[1]), found[2]]
                place, is_quoted = found.end(), not found[2]
                if found[2] and line[place : place + 1] == '"':
                    raise csv.Error('"" where quotes follow a backslash')
            else:
                found = opening.search(line, place)
                end = found.end() if found else len(line)
                parts.append(line[place:end])
                place, is_quoted = end, found is not None
        yield "".join(parts)


def detect_dialect(
    lines: Sequence[str], name: str, is_whole: bool, usual: str,
    separator: str | None = None, quoting: str | None = None,
) -> Dialect:  # fmt: skip
    """Return the dialect of a file: the usual one, unless only another one fits its first lines.

    `usual` is the separator of files of that name; `separator` and `quoting` are those of flags.
    """
    found = re.fullmatch(r"sep=(.)\s*", lines[0]) if lines else None
    usual = separator or (found[1] if found else usual)
    trials: list[tuple[bool, Dialect]] = []  # whether all lines fit
    for each in [usual] if separator or found else dict.fromkeys([usual, *SEPARATORS]):
        for quotes in [quoting] if quoting else ["double", "backslash"]:
            trial, fits = Dialect(each, quotes, bool(quoting), bool(found)), True
            try:
                trial.sample += (cells for _, cells in _parse_rows(lines, trial, name) if cells)
            except ValueError as error:
                fits = not is_whole and _NOT_CLOSED in str(error)
            fits &= len({len(cells) for cells in trial.sample}) == 1
            trials.append((fits, trial))
    tables = [(fits, trial) for fits, trial in trials if trial.sample and len(trial.sample[0]) > 1]
    best = next((trial for fits, trial in tables if fits), None)
    if best is None and tables and tables[0][1].separator != usual:
        raise ValueError(
            f"{name} may have a {SEPARATORS[tables[0][1].separator]} between fields, but its lines "
            "have different numbers of them: name the separator with --separator, and put texts "
            "that contain it in quotes"
        )
    return best or (tables or trials)[0][1]


def read_rows(
    lines: Iterable[str], dialect: Dialect, name: str, notes: list[str], no_header: bool
) -> tuple[list[str], Iterator[_Row]]:
    """Return the names of the columns, and the checked rows; add what they lack to the notes."""
    rows = ((line, cells) for line, cells in _parse_rows(lines, dialect, name) if cells)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{name} is empty")
    names = first[1]
    if no_header:
        names, rows = [str(i) for i, _ in enumerate(names, 1)], chain([first], rows)
    return names, _check_rows(rows, names, dialect, name, notes)


def _check_rows(
    rows: Iterable[_Row], names: list[str], dialect: Dialect, name: str, notes: list[str]
) -> Iterator[_Row]:
    width, short, is_first = len(names), [], True
    named = max((i for i, column in enumerate(names, start=1) if column.strip()), default=width)
    seen: list[set[str]] = [set() for _ in names]  # values of each column
    suspects: list[tuple[int, int, str]] = []
    for line, cells in rows:
        if len(cells) == 1 < width and not cells[0].strip():
            continue
        if any(cell.strip() for cell in cells[named:]):
            of_r = "if these are R's row names, write none by row.names=FALSE; otherwise "
            raise ValueError(
                f"{name}, line {line}: {len(cells)} fields, the header has {named}: "
                f"{of_r * is_first}put a "
                f"text that contains {dialect.separator!r} in quotes, or name the separator with "
                "--separator"
            )
        is_first = False
        if len(cells) < width:
            short.append(line)
        for place, cell in enumerate(cells[:width]):
            if "\n" in cell or "\r" in cell:
                suspects += _rows_within(line, place, cell, width, dialect.separator)
            elif len(cell) <= _LONGEST and len(seen[place]) < _MANY:
                seen[place].add(cell)
        yield line, cells
        if len(suspects) > _MANY:
            _check_suspects(suspects, seen, dialect, name)
            suspects = []
    _check_suspects(suspects, seen, dialect, name)
    if short:
        notes.append(
            f"lines with fewer fields than the header: {len(short):,} (line "
            f"{list_some(map(str, short))}): put texts of several lines in quotes"
        )


def _rows_within(
    line: int, place: int, text: str, width: int, separator: str
) -> Iterator[tuple[int, int, str]]:
    """Yield line, column and value of the fields of a text's lines that could be rows."""
    for number, part in enumerate(re.split("\r\n|\r|\n", text)[:-1]):
        cells, start = part.split(separator), place if number == 0 else 0
        if len(cells) == width - start:
            yield from ((line, i, c) for i, c in enumerate(cells, start) if c and i != place)


def _check_suspects(
    suspects: list[tuple[int, int, str]], seen: list[set[str]], dialect: Dialect, name: str
) -> None:
    for line, column, cell in () if dialect.is_given else suspects:
        if cell in seen[column]:
            raise ValueError(
                f"{name}, line {line}: a quote opens a text of several lines that contain other "
                f"examples ({cell!r}): add --quoting none if quotes are parts of texts, or "
                "--quoting double if the text is right"
            )
