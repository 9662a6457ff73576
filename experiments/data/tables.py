"""Files of examples: from their bytes to columns of texts and labels.

    table = read_table("questions.csv")  # the whole file
    chunks = stream_texts("questions.csv")  # some texts at a time, in constant memory

Texts and labels are exactly those of the file: "NA", "1.0" and leading blanks stay, numbers are as
written, and a missing cell is the empty text. CSV and TSV have a header and quotes as in RFC 4180;
JSON lines have one object per line; JSON has a list of objects, or an object of columns as written
by pandas, and is held in memory as a whole.
"""

import codecs
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pandas as pd

STANDARD_INPUT = "-"
TEXT_NAMES = {
    "text", "texts", "message", "messages", "sms", "content", "body", "review", "sentence",
    "comment", "tweet", "post", "email", "question", "query", "utterance", "document",
}  # fmt: skip
LABEL_NAMES = {
    "label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "tag",
}  # fmt: skip
_CHUNK = 1024  # texts that are streamed together, at most
_PIECE = 1 << 16  # bytes that are read at once, at most
_SHOWN_COLUMNS, _SHOWN_LETTERS = 12, 40  # in an error
_JSON_STARTS = {".jsonl": rb'\s*\{\s*["}]', ".json": rb"\s*\[\s*[{\]]"}
_STARTS = {".parquet": b"PAR1", **_JSON_STARTS, ".tsv": rb"[^\r\n]*\t"}  # else it is CSV
_SURROGATE = re.compile("[\ud800-\udfff]")

_Choose = Callable[[list[str]], list[str]]  # from the names of all columns to the chosen ones
_Chunk = tuple[list[str], list[list[Any]]]  # the names of the chosen columns, the cells of each


class Table(NamedTuple):
    """The examples of a file, Label and Text, and the columns that they were read from."""

    examples: pd.DataFrame
    text_column: str
    label_column: str


def read_table(path: str, text_column: str | None = None, label_column: str | None = None) -> Table:
    """Return the labels and texts of a file, and the columns that they are in.

    The file is .csv, .tsv, .jsonl, .json or .parquet, or "-" for standard input, whose format is
    detected. A column without a given name is detected where only one fits.

    Raises:
        OSError, ValueError: the file cannot be read, or it is unclear which columns are meant.
    """
    extension = Path(path).suffix.lower()
    if path != STANDARD_INPUT and extension not in FORMATS:
        raise ValueError(f"{path} ends in {extension!r}, expected one of {', '.join(FORMATS)}")
    name, opened = _open(path)
    choose = partial(_choose, name, text_column, label_column, True)
    texts, labels = [], []
    with opened as source:
        file = source
        if path == STANDARD_INPUT:
            file = io.BytesIO(source.read())
            extension = _detect_format(file.getvalue())
        for chosen, cells in FORMATS[extension](file, name, choose, sys.maxsize):
            text_column, label_column = chosen
            texts += _as_texts(cells[0], f"{name}: the text", len(texts) + 1)
            labels += _as_texts(cells[1], f"{name}: the label", len(labels) + 1)
    if not texts:
        raise ValueError(f"{name} has no examples")
    examples = pd.DataFrame({"Label": labels, "Text": texts}, dtype=str)
    return Table(examples, text_column, label_column)


def stream_texts(path: str, text_column: str | None = None) -> Iterator[list[str]]:
    """Yield the texts of a file in order, some at a time.

    The file is as for `read_table`; any other, and standard input, has one text per line, each
    yielded as soon as it is there. Raises the same errors.
    """
    name, opened = _open(path)
    choose = partial(_choose, name, text_column, None, False)
    read, number = FORMATS.get(Path(path).suffix.lower(), _lines), 1
    with opened as file:
        for _, (cells,) in read(file, name, choose, _CHUNK):
            texts = _as_texts(cells, f"{name}: the text", number)
            number += len(texts)
            yield from (texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK))


def _open(path: str) -> tuple[str, AbstractContextManager[BinaryIO]]:
    if path != STANDARD_INPUT:
        return path, Path(path).open("rb")
    if sys.stdin is None:
        raise ValueError("standard input is closed, expected texts")
    return "standard input", nullcontext(sys.stdin.buffer)


def _detect_format(content: bytes) -> str:
    content = content.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
    return next((name for name, start in _STARTS.items() if re.match(start, content)), ".csv")


class _Text:
    """The text of a UTF-8 file as its bytes come, without a byte order mark; a file itself."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.start, self.line = b"", 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.read, "")

    def read(self, _: int = -1) -> str:
        text, piece = "", None
        while piece != b"" and not text:
            piece = self.file.read1(_PIECE)
            self.start = self.start or piece[:2]
            try:
                text = self.decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                is_utf_16 = self.start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
                line = self.line + error.object.count(b"\n", 0, error.start)
                raise ValueError(
                    f"{self.name} is in {'UTF-16' if is_utf_16 else 'another encoding'}, expected "
                    f"UTF-8 (byte 0x{error.object[error.start]:02x} in line {line}): save it as "
                    "UTF-8, or convert it by iconv"
                ) from error
            self.line += piece.count(b"\n")
        return text


def _lines(file: BinaryIO, name: str, *_: Any) -> Iterator[_Chunk]:
    """Yield the lines that are there without waiting for more, as one column without a name."""
    unfinished: list[str] = []
    for piece in _Text(file, name):
        first, *others = piece.split("\n")  # other line ends may be within a JSON string
        unfinished.append(first)
        if others:
            lines = ["".join(unfinished), *others]
            unfinished = [lines.pop()]
            yield [], [[line.removesuffix("\r") for line in lines]]
    if last := "".join(unfinished):
        yield [], [[last.removesuffix("\r")]]


# ------------------------------------------------------------------------ from a format to chunks
# Each reader passes the names of all columns to `choose`, and yields the cells of the chosen ones.


def _separated(
    file: BinaryIO, name: str, choose: _Choose, size: int, separator: str
) -> Iterator[_Chunk]:
    # The header is read as a row: pandas would rename columns of the same name, and take the first
    # for an index where all rows have a field more than the header.
    header, how = [], {"header": None, "dtype": str, "na_filter": False}
    try:
        with pd.read_csv(_Text(file, name), sep=separator, chunksize=size, **how) as frames:
            for frame in frames:
                rows = frame if header else frame[1:]
                header = header or frame.iloc[0].tolist()
                chosen = choose(header)
                yield chosen, [rows[header.index(column)].tolist() for column in chosen]
    except pd.errors.EmptyDataError:
        raise ValueError(f"{name} is empty") from None
    except pd.errors.ParserError as error:
        raise _unreadable(name, "a table", error) from error


def _json_lines(file: BinaryIO, name: str, choose: _Choose, size: int) -> Iterator[_Chunk]:
    lines = enumerate((line for _, (lines,) in _lines(file, name) for line in lines), start=1)
    filled = ((number, line) for number, line in lines if line.strip())
    objects = (_parse_json(x, f"{name}, line {i},", "a JSON object") for i, x in filled)
    return _objects(objects, name, choose, size)


def _json(file: BinaryIO, name: str, choose: _Choose, _: int) -> Iterator[_Chunk]:
    found = _parse_json("".join(_Text(file, name)), name, "JSON (one object a line is .jsonl)")
    if not isinstance(found, list):
        columns = list(found.values()) if isinstance(found, dict) else [found]
        columns = [dict(enumerate(c)) if isinstance(c, list) else c for c in columns]
        if not all(isinstance(c, dict) and c.keys() == columns[0].keys() for c in columns):
            raise ValueError(f"{name} has neither a list of objects nor columns of one length")
        keys = columns[0] if columns else ()
        found = [{c: cells[key] for c, cells in zip(found, columns, strict=True)} for key in keys]
    return _objects(found, name, choose, sys.maxsize)


def _objects(objects: Iterable[Any], name: str, choose: _Choose, size: int) -> Iterator[_Chunk]:
    """Yield chunks of objects; the columns are those of the first chunk, an object may lack one."""
    remaining, first, chosen = iter(objects), 1, None
    while rows := list(islice(remaining, size)):
        for number, row in enumerate(rows, start=first):
            if not isinstance(row, dict):
                raise ValueError(f"{name}: example {number} is not a JSON object of columns")
        chosen = chosen or choose(list(dict.fromkeys(column for row in rows for column in row)))
        yield chosen, [[row.get(column) for row in rows] for column in chosen]
        first += len(rows)


def _parse_json(text: str, name: str, expected: str) -> Any:
    # The reader of pandas would make numbers of labels, and 1.0 of 1 in a column that lacks a cell.
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except (json.JSONDecodeError, RecursionError) as error:
        is_nested = isinstance(error, RecursionError)
        reason = "too deeply nested" if is_nested else f"{error.msg} at character {error.pos + 1}"
        raise _unreadable(name, expected, reason) from error


def _parquet(file: BinaryIO, name: str, choose: _Choose, size: int) -> Iterator[_Chunk]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"reading {name} requires pyarrow: pip install pyarrow") from error
    try:
        # Not by pandas, which separates a column that was an index from the others.
        table = pq.ParquetFile(file, pre_buffer=False, buffer_size=_PIECE)
        chosen = choose(table.schema_arrow.names)
        for batch in table.iter_batches(size, columns=chosen):
            batch.validate(full=True)
            yield chosen, [batch.column(column).to_pylist() for column in chosen]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, "a Parquet file", error) from error


FORMATS: dict[str, Callable[[BinaryIO, str, _Choose, int], Iterator[_Chunk]]] = {
    ".csv": partial(_separated, separator=","),
    ".tsv": partial(_separated, separator="\t"),
    ".jsonl": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
}


def _unreadable(name: str, expected: str, reason: Exception | str) -> ValueError:
    return ValueError(f"{name} is not {expected}: {' '.join(str(reason).split())}")


def _choose(
    name: str, text: str | None, label: str | None, has_labels: bool, names: list[str]
) -> list[str]:
    """Return the text column and, if there are labels, the label column.

    Each is the one named, else the only one with a usual name, else the only one left.
    """
    shown = ", ".join(repr(column[:_SHOWN_LETTERS]) for column in names[:_SHOWN_COLUMNS])
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    columns = f"the columns {shown}{more}" if names else "no columns"
    for flag, column in (("--text_column", text), ("--label_column", label)):
        if column is not None and (count := names.count(column)) != 1:
            found = f"{count} columns" if count else "no column"
            raise ValueError(f"{name} has {found} {column!r} for {flag}; it has {columns}")
    if has_labels and text is not None and text == label:
        both = f"--text_column and --label_column both name {text!r}"
        raise ValueError(f"{name}: {both}; it has {columns}")
    text = _usual(names, TEXT_NAMES, label) if text is None else text
    label = _usual(names, LABEL_NAMES, text) if label is None else label
    others = [column for column in names if column not in (text, label)]
    if len(others) == 1 and (text is None) != (label is None and has_labels):
        text, label = (others[0], label) if text is None else (text, others[0])
    if text is None or (label is None and has_labels):
        flag = "--text_column" if text is None else "--label_column"
        raise ValueError(f"{name} has {columns}: specify one with {flag}")
    return [text, label] if has_labels else [text]


def _usual(names: list[str], usual: set[str], but: str | None) -> str | None:
    found = [column for column in names if column.strip().casefold() in usual and column != but]
    return found[0] if len(found) == 1 else None


def _as_texts(cells: list[Any], what: str, first: int) -> list[str]:
    """Return cells as texts; a missing one is the empty text, and true is "true"."""
    texts = []
    for number, cell in enumerate(cells, start=first):
        if isinstance(cell, list | dict | tuple | bytes):
            found = type(cell).__name__
            raise ValueError(f"{what} of example {number} is a {found}, expected a string")
        text = "" if cell is None or cell != cell else str(cell)  # NaN differs from itself
        text = text.lower() if isinstance(cell, bool) else text
        if _SURROGATE.search(text):
            raise ValueError(f"{what} of example {number} has half of a surrogate pair")
        texts.append(text)
    return texts
