"""Examples of a file: all of them, or some at a time in constant memory.

    table, rows = read_table("questions.csv", CustomData())
    with open_table("questions.csv", CustomData()) as table:
        for rows in table:
            rows.texts, rows.numbers

Texts and labels are exactly those of the file: "NA", "1.0" and leading blanks stay, numbers are as
written, and a missing cell is the empty text. `formats.py` says what a file is. A JSON file has a
list of objects, alone or within an object, or an object of columns as written by pandas, and is
held in memory as a whole.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, NamedTuple

from experiments.config.settings import CustomData
from experiments.data import formats
from experiments.data.formats import LABEL_NAMES, TEXT_NAMES, Source, open_source
from experiments.data.separated import list_some, read_rows
from experiments.system.terminal import UsageError

_SPLIT_NAMES = {"split", "set", "subset", "partition", "fold"}
_CHUNK = 1024  # examples that are read together, at most
_SHOWN_COLUMNS, _SHOWN_LETTERS = 12, 40  # in an error
_SURROGATE = re.compile("[\ud800-\udfff]")

_Row = tuple[int, Mapping[str, Any]]  # number of its line or example, its cells by column
_Opened = tuple[list[str], Iterable[_Row]]  # all columns; all rows


class Rows(NamedTuple):
    """Some examples: their texts, labels if wanted, and other columns."""

    numbers: list[int]  # of their lines, or of examples in a format without lines
    texts: list[str]
    labels: list[str]
    others: list[list[str]]  # columns


class Table:
    """An opened file whose columns are chosen; yields `Rows`."""

    def __init__(
        self, source: Source, how: CustomData, has_labels: bool, remembered: Sequence[str] = ()
    ) -> None:
        self.source = source
        self.unit = "example" if source.format in (formats.JSON, formats.PARQUET) else "line"
        self.class_names: dict[str, list[str]] = {}  # of columns of numbers
        read = {
            formats.LINES: _read_lines, formats.CSV: _read_csv, formats.JSON: _read_json,
            formats.JSON_LINES: _read_json_lines, formats.PARQUET: self._read_parquet,
        }  # fmt: skip
        self.names, self._rows = read[source.format](source, how)
        is_like_before = {*remembered} <= {*self.names}
        texts = list(how.text_column or (remembered if is_like_before else ()))
        if source.format == formats.CSV and not how.no_header:
            _check_header(source, self.names, is_named=bool(texts))
        self.text_columns, self.label_column = _choose(
            source.name, texts, how.label_column, has_labels, self.names
        )
        self.others: list[str] = []

    def __str__(self) -> str:
        return f"{self.source}; {self.columns}"

    @property
    def columns(self) -> str:
        """The names of the columns of texts and labels, for a message."""
        texts = " and ".join(map(repr, self.text_columns))
        labels = "" if self.label_column is None else f", labels {self.label_column!r}"
        return f"texts {texts}{labels}"

    @property
    def used(self) -> list[str]:
        """The columns of texts, and that of labels if there is one."""
        return [*self.text_columns, *([] if self.label_column is None else [self.label_column])]

    def keep(self, names: Iterable[str], flag: str) -> None:
        """Choose other columns that `Rows` have; an error names the flag."""
        self.others = [name for name in names if name not in self.text_columns]
        for name in self.others:
            _check_column(self.source.name, name, flag, self.names)

    def __iter__(self) -> Iterator[Rows]:
        rows, is_live = [], self.source.name == "standard input"
        for row in self._rows:
            rows.append(row)
            if len(rows) == _CHUNK or (is_live and self.source.is_drained):
                yield self._texts_of(rows)
                rows = []
        if rows:
            yield self._texts_of(rows)

    def _texts_of(self, rows: list[_Row]) -> Rows:
        columns = [[self._text_of(*row, name) for row in rows] for name in self.used + self.others]
        num_texts, num_used = len(self.text_columns), len(self.used)
        texts = list(map("\n".join, zip(*columns[:num_texts], strict=True)))
        labels = columns[num_texts] if num_used > num_texts else []
        return Rows([number for number, _ in rows], texts, labels, columns[num_used:])

    def _text_of(self, number: int, row: Mapping[str, Any], name: str) -> str:
        """Return a cell as a text; a missing one is the empty text, and true is "true"."""
        where, cell = f"{self.source.name}, {self.unit} {number}: ", row.get(name)
        is_csv = self.source.format == formats.CSV
        if name not in row and name in (self.used if is_csv else self.text_columns):
            if not is_csv:
                raise ValueError(f"{where}no {name!r}")
            raise ValueError(
                f"{where}{len(row)} field{'s' * (len(row) > 1)}, the header has {len(self.names)}: "
                "complete the line, or put a text of several lines in quotes"
            )
        if isinstance(cell, list | dict | tuple | bytes):
            raise ValueError(f"{where}{name!r} {_describe_nested(cell)}")
        text = "" if cell is None or cell != cell else str(cell)  # NaN differs from itself
        if (classes := self.class_names.get(name)) and isinstance(cell, int):
            text = classes[cell] if 0 <= cell < len(classes) else ""  # -1: no label
        if _SURROGATE.search(text):
            raise ValueError(f"{where}{name!r} has half of a surrogate pair")
        return text.lower() if isinstance(cell, bool) else text

    def _read_parquet(self, source: Source, _: CustomData) -> _Opened:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            install = "requires pyarrow: pip install pyarrow"
            raise ValueError(f"reading {source.name} {install}") from error
        problems = (pa.ArrowException, OSError, UnicodeDecodeError)

        try:
            # Not by pandas, which separates a column that was an index from the others.
            file = pq.ParquetFile(source.file, pre_buffer=False, buffer_size=1 << 16)
            schema = file.schema_arrow
        except problems as error:
            raise _unreadable(source.name, "a Parquet file", error) from error
        # The library `datasets` writes the names of classes there.
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stored.get("info", {}).get("features", {})
        self.class_names = {name: f["names"] for name, f in features.items() if "names" in f}

        def rows() -> Iterator[_Row]:
            columns, number = self.used + self.others, 1
            try:
                # Its threads could abort the process when they end together with PyTorch's.
                for batch in file.iter_batches(_CHUNK, columns=columns, use_threads=False):
                    batch.validate(full=True)
                    yield from enumerate(batch.to_pylist(), start=number)
                    number += len(batch)
            except problems as error:
                raise _unreadable(source.name, "a Parquet file", error) from error

        return schema.names, rows()


@contextmanager
def open_table(
    path: str, how: CustomData, keep: Sequence[str] = (), remembered: Sequence[str] = ()
) -> Iterator[Table]:
    """Yield a file's texts, its labels if `how` names their column, and columns to keep, or all.

    `remembered` are the text columns of the training data, which are used if the file has them.
    """
    has_labels = how.label_column is not None
    with open_source(path, how, may_be_lines=not (has_labels or keep)) as source:
        table = Table(source, how, has_labels, remembered)
        table.keep(table.names if list(keep) == ["all"] else keep, "--keep_columns")
        yield table


def read_table(path: str, how: CustomData) -> tuple[Table, Rows]:
    """Return the columns of a file, and all examples with those that name or may name a split.

    OSError or ValueError: the file cannot be read, or it is unclear which columns are meant.
    """
    with open_source(path, how) as source:
        table = Table(source, how, has_labels=True)
        if how.split_column in table.used:
            raise ValueError(f"--split_column {how.split_column} is a column of texts or labels")
        unused = (name for name in table.names if name not in table.used)
        splits = [name for name in unused if name.strip().casefold() in _SPLIT_NAMES]
        table.keep(splits if how.split_column is None else [how.split_column], "--split_column")
        chunks = list(table)
    if not chunks:
        raise ValueError(f"{source.name} has no examples")
    *parts, others = zip(*chunks, strict=True)
    columns = [list(chain(*column)) for column in zip(*others, strict=True)]
    return table, Rows(*(list(chain(*part)) for part in parts), columns)


# ---------------------------------------------------------------------- from a format to its rows


def _read_lines(source: Source, _: CustomData) -> _Opened:
    lines = (line.removesuffix("\n").removesuffix("\r") for line in source.lines())
    return [""], enumerate(({"": line} for line in lines), start=1)


def _read_csv(source: Source, how: CustomData) -> _Opened:
    lines, notes = source.lines(newline=""), source.notes
    names, rows = read_rows(lines, source.dialect, source.name, notes, how.no_header)
    return names, ((line, dict(zip(names, cells, strict=False))) for line, cells in rows)


def _read_json_lines(source: Source, _: CustomData) -> _Opened:
    lines = ((source.line, line) for line in source.lines() if line.strip())
    objects = ((i, _parse_json(x, f"{source.name}, line {i},", "a JSON object")) for i, x in lines)
    return _objects(objects, source, 1 if source.name == "standard input" else _CHUNK)


def _read_json(source: Source, _: CustomData) -> _Opened:
    found = _parse_json("".join(source.lines()), source.name, "JSON")
    if isinstance(found, dict):
        lists = [
            k for k, v in found.items() if isinstance(v, list) and isinstance((v or [0])[0], dict)
        ]
        if len(lists) == 1:
            source.notes.append(f"the examples are those of {lists[0]!r}")
            found = found[lists[0]]
    if not isinstance(found, list):
        columns = list(found.values()) if isinstance(found, dict) else [found]
        columns = [dict(enumerate(c)) if isinstance(c, list) else c for c in columns]
        if not all(isinstance(c, dict) and c.keys() == columns[0].keys() for c in columns):
            expected = "a list of objects nor columns of one length"
            raise ValueError(f"{source.name} has neither {expected}")
        keys = columns[0] if columns else ()
        found = [{c: cells[key] for c, cells in zip(found, columns, strict=True)} for key in keys]
    return _objects(enumerate(found, start=1), source, sys.maxsize)


def _objects(rows: Iterable[tuple[int, Any]], source: Source, size: int) -> _Opened:
    """Return the columns of the first objects, and all objects."""

    def checked() -> Iterator[_Row]:
        unit = "example" if source.format == formats.JSON else "line"
        for number, row in rows:
            if not isinstance(row, dict):
                raise ValueError(f"{source.name}, {unit} {number}: not a JSON object of columns")
            if isinstance(row.get("data"), dict) and {"annotations", "predictions"} & row.keys():
                raise ValueError(
                    f"{source.name} is an export of Label Studio: export it as CSV or JSON-MIN"
                )
            yield number, row

    objects = checked()
    first = list(islice(objects, size))
    names = list(dict.fromkeys(name for _, row in first for name in row))
    return names, chain(first, objects)


def _parse_json(text: str, name: str, expected: str) -> Any:
    # The reader of pandas would make numbers of labels, and 1.0 of 1 in a column that lacks a cell.
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except (json.JSONDecodeError, RecursionError) as error:
        is_nested = isinstance(error, RecursionError)
        reason = "too deeply nested" if is_nested else f"{error.msg} at character {error.pos + 1}"
        raise _unreadable(name, expected, reason) from error


def _unreadable(name: str, expected: str, reason: Exception | str) -> ValueError:
    return ValueError(f"{name} is not {expected}: {' '.join(str(reason).split())}")


# ---------------------------------------------------------------------------------------- columns


def _check_header(source: Source, names: list[str], is_named: bool) -> None:
    """Raise ValueError if the first line is probably an example; only a note if it is named."""
    usual = {name.strip().casefold() for name in names} & (TEXT_NAMES | LABEL_NAMES)
    most_blanks = 3 if len(names) > 1 else 2
    for place, name in enumerate(map(str.strip, names)):
        is_number = re.fullmatch(r"-?\d+(\.\d+)?", name)
        is_number = is_number and name not in (str(place), str(place + 1))
        is_sentence = name.count(" ") >= most_blanks
        is_sentence |= name.endswith((".", "!", "?")) and " " in name
        is_value = name and [name] in (r[place : place + 1] for r in source.dialect.sample[1:])
        if not usual and (is_number or is_sentence or is_value):
            message = f"the first line looks like an example ({name[:_SHOWN_LETTERS]!r})"
            if is_named:
                source.notes.append(f"{message} and is the header")
                return
            raise ValueError(
                f"{source.name}: {message}, not like names of columns: add --no_header, which "
                "names columns 1, 2, …, or insert a header"
            )


def _check_column(file: str, name: str, flag: str, names: list[str]) -> None:
    if (count := names.count(name)) != 1:
        found = f"{count} columns" if count else "no column"
        problem = f"{file} has {found} {name!r} for {flag}; it has {_show(names)}"
        raise UsageError(problem) if flag == "--keep_columns" else ValueError(problem)


def _show(names: list[str]) -> str:
    shown = list_some((repr(name[:_SHOWN_LETTERS]) for name in names), _SHOWN_COLUMNS)
    return f"the columns {shown}" if names else "no columns"


def _choose(
    file: str, texts: list[str], label: str | None, has_labels: bool, names: list[str]
) -> tuple[list[str], str | None]:
    """Return the text columns and, if there are labels, the label column.

    Each is the one named, else the only one with a usual name, else the only one left.
    """
    for name in texts:
        _check_column(file, name, "--text_column", names)
    if label is not None:
        _check_column(file, label, "--label_column", names)
    if has_labels and label in texts:
        both = f"--text_column and --label_column both name {label!r}"
        raise ValueError(f"{file}: {both}; it has {_show(names)}")
    if not texts and (usual := _usual(names, TEXT_NAMES, [label])) is not None:
        texts = [usual]
    label = _usual(names, LABEL_NAMES, texts) if label is None else label
    others = [name for name in names if name not in (*texts, label)]
    if len(others) == 1 and (not texts) != (label is None and has_labels):
        texts, label = (others, label) if not texts else (texts, others[0])
    if not texts or (label is None and has_labels):
        missing = "label" if texts else "text"
        hint = f"specify one with --{missing}_column" if others else f"none has {missing}s"
        raise ValueError(f"{file} has {_show(names)}{f': {hint}' if names else ''}")
    return texts, label if has_labels else None


def _usual(names: list[str], usual: set[str], but: Sequence[str | None]) -> str | None:
    found = [name for name in names if name.strip().casefold() in usual and name not in but]
    return found[0] if len(found) == 1 else None


def _describe_nested(cell: Any) -> str:
    if isinstance(cell, list) and cell and isinstance(cell[0], dict) and "content" in cell[0]:
        return "is a chat: write the text to classify into a column of its own"
    return f"is a {type(cell).__name__}, expected a string"
