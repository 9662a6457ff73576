"""A user's own file of messages: from its bytes to the columns Label and Text.

    table = read_table("mine.csv")
    table.messages["Text"], table.text_column  # the texts, and the name that was guessed for them

Texts and labels come as they stand in the file: "NA", "1.0" and leading blanks stay what they are,
and what is missing is the empty text. CSV and TSV have a header line and quotes as in RFC 4180;
JSON lines have an object a line; JSON has a list of objects, or an object of columns as pandas
writes it. Standard input tells its format by how it begins.
"""

import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

STANDARD_INPUT = "-"
TEXT_NAMES = {
    "text", "texts", "message", "messages", "sms", "content", "body", "review", "sentence",
    "comment", "tweet", "post", "email", "question", "query", "utterance", "document",
}  # fmt: skip
LABEL_NAMES = {
    "label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "tag",
}  # fmt: skip
SHOWN_COLUMNS, SHOWN_LETTERS = 12, 40  # of what a message lists
BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
SURROGATE = re.compile("[\ud800-\udfff]")


class Table(NamedTuple):
    """The messages of a file, and the names of the columns that they were read from."""

    messages: pd.DataFrame  # Label and Text, both str
    text_column: str
    label_column: str


class Columns(NamedTuple):
    """What a file holds: the names of its columns, and the cells of the one at an index."""

    names: list[str]
    cells: Callable[[int], list[Any]]


def read_table(path: str, text_column: str | None = None, label_column: str | None = None) -> Table:
    """Returns the labels and texts of a file, and which of its columns they were.

    Args:
        path: a .csv, .tsv, .jsonl, .json or .parquet file, or "-" for standard input.
        text_column: holds the texts; if None, guessed where the names leave no doubt.
        label_column: holds the labels; likewise.

    Raises:
        OSError: when the file cannot be opened.
        ValueError: when it is no such file, or it is unclear which columns are meant.
    """
    name, extension, content = load(path)
    columns = READERS[extension](content, name)
    text, label = choose_columns(columns.names, text_column, label_column, name)
    texts = as_texts(columns.cells(text), f"{name}: the text")
    labels = as_texts(columns.cells(label), f"{name}: the label")
    if not texts:
        raise ValueError(f"{name} holds no message")
    messages = pd.DataFrame({"Label": labels, "Text": texts}, dtype=str)
    return Table(messages, columns.names[text], columns.names[label])


def load(path: str) -> tuple[str, str, bytes]:
    """Returns what to call a file in messages, the extension of its format, and its bytes."""
    if path == STANDARD_INPUT:
        if sys.stdin is None:  # closed by the shell
            raise ValueError("standard input is closed, expected messages")
        content = sys.stdin.buffer.read()
        return "standard input", sniff(content), content
    extension = Path(path).suffix.lower()
    if extension not in READERS:
        raise ValueError(f"{path} ends in {extension!r}, expected one of {', '.join(READERS)}")
    return path, extension, Path(path).read_bytes()


def sniff(content: bytes) -> str:
    """Returns the extension of the format that some bytes begin like; CSV, when like no other."""
    if content.startswith(b"PAR1"):
        return ".parquet"
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    if re.match(rb'\s*\{\s*["}]', content):
        return ".jsonl"
    if re.match(rb"\s*\[\s*[{\]]", content):
        return ".json"
    return ".tsv" if b"\t" in re.split(rb"[\r\n]", content, maxsplit=1)[0] else ".csv"


# ---------------------------------------------------------------------------------------- formats


def read_separated(content: bytes, name: str, separator: str) -> Columns:
    """Returns the columns of CSV or TSV."""
    text = decode(content, name)
    try:
        # The header is read as a row like any other: pandas would rename columns of the same name,
        # and take the first for an index where all rows have a field more than the header.
        rows = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, dtype=str, na_filter=False
        )
    except pd.errors.EmptyDataError:
        raise ValueError(f"{name} is empty") from None
    except pd.errors.ParserError as error:
        raise unreadable(name, "a table", error) from error
    return Columns(rows.iloc[0].tolist(), lambda i: rows[i].tolist()[1:])


def read_csv(content: bytes, name: str) -> Columns:
    """Returns the columns of comma-separated values."""
    return read_separated(content, name, ",")


def read_tsv(content: bytes, name: str) -> Columns:
    """Returns the columns of tab-separated values."""
    return read_separated(content, name, "\t")


def read_json_lines(content: bytes, name: str) -> Columns:
    """Returns the columns of one JSON object a line; blank lines are passed over."""
    lines = decode(content, name).split("\n")  # other line ends may stand within a JSON string
    rows = [
        parse_json(line, f"{name}, line {number},", "a JSON object")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    return columns_of(rows, name)


def read_json(content: bytes, name: str) -> Columns:
    """Returns the columns of a JSON list of objects, or of a JSON object of columns."""
    found = parse_json(decode(content, name), name, "JSON (one object a line is .jsonl)")
    if isinstance(found, list):
        return columns_of(found, name)
    columns = list(found.values()) if isinstance(found, dict) else [found]
    columns = [dict(enumerate(c)) if isinstance(c, list) else c for c in columns]
    if not all(isinstance(c, dict) and c.keys() == columns[0].keys() for c in columns):
        raise ValueError(f"{name} holds neither a list of objects nor columns of one length")
    return Columns(list(found), lambda i: [columns[i][row] for row in columns[0]])


def columns_of(rows: Sequence[Any], name: str, first: int = 1) -> Columns:
    """Returns the columns of JSON objects, of which one is the first; what one lacks is missing."""
    for number, row in enumerate(rows, start=first):
        if not isinstance(row, dict):
            raise ValueError(f"{name}: message {number} is no JSON object of columns")
    names = list(dict.fromkeys(column for row in rows for column in row))
    return Columns(names, lambda i: [row.get(names[i]) for row in rows])


def parse_json(text: str, name: str, expected: str) -> Any:
    """Returns what a JSON text says, its numbers as they are written; NaN is missing.

    pandas' own reader would make numbers of labels, and 1.0 of a 1 beside a missing one.
    """
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        raise unreadable(name, expected, f"{error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise unreadable(name, expected, "too deeply nested") from error


def read_parquet(content: bytes, name: str) -> Columns:
    """Returns the columns of a Parquet file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"{name} needs pyarrow to be read: pip install pyarrow") from error
    try:
        # Not by pandas, which sets a column that was an index apart from the others.
        table = pq.ParquetFile(io.BytesIO(content)).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(name, "a Parquet file", error) from error
    return Columns(table.column_names, lambda i: table.column(i).to_pylist())


READERS: dict[str, Callable[[bytes, str], Columns]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
}


def decode(content: bytes, name: str, first: int = 1) -> str:
    """Returns the text that some bytes, from a line on, are in UTF-8; no byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = BYTE_ORDER_MARKS.get(content[:2], "another encoding")
        byte, line = content[error.start], content.count(b"\n", 0, error.start) + first
        raise ValueError(
            f"{name} is in {found}, expected UTF-8 (byte 0x{byte:02x} in line {line}): save it as "
            "UTF-8, or convert it by iconv"
        ) from error


def unreadable(name: str, expected: str, reason: Exception | str) -> ValueError:
    """Returns what to raise of a file that is not what it should be, in one line."""
    return ValueError(f"{name} is not {expected}: {' '.join(str(reason).split())}")


# ------------------------------------------------------------------------------ columns and cells


def choose_columns(
    names: Sequence[str], text_column: str | None, label_column: str | None, name: str
) -> tuple[int, int]:
    """Returns at which index the texts are, and at which the labels.

    A column is guessed if just one has a usual name; of two columns, one tells the other.

    Raises:
        ValueError: when a column is not there, or several or none might be meant.
    """
    text = named_column(names, text_column, "--text_column", name)
    label = named_column(names, label_column, "--label_column", name)
    if text is None:
        text = usual_column(names, TEXT_NAMES, but=label)
    if label is None:
        label = usual_column(names, LABEL_NAMES, but=text)
    if len(names) == 2 and (text is None) != (label is None):
        text, label = (1 - label, label) if text is None else (text, 1 - text)
    for index, flag in ((text, "--text_column"), (label, "--label_column")):
        if index is None:
            raise ValueError(f"{name} has {listed(names)}: say which one is meant by {flag}")
    if text == label:
        raise ValueError(
            f"{name}: --text_column and --label_column both name {names[text]!r}; it has "
            f"{listed(names)}"
        )
    return text, label


def named_column(names: Sequence[str], wanted: str | None, flag: str, name: str) -> int | None:
    """Returns the index of the column that a flag names, if it names any."""
    if wanted is None:
        return None
    if (count := names.count(wanted)) != 1:
        found = "no column" if count == 0 else f"{count} columns"
        raise ValueError(f"{name} has {found} {wanted!r} for {flag}; it has {listed(names)}")
    return names.index(wanted)


def usual_column(names: Sequence[str], usual: set[str], but: int | None) -> int | None:
    """Returns the index of the only column with a usual name, or None if none or several have."""
    found = [i for i, n in enumerate(names) if i != but and n.strip().casefold() in usual]
    return found[0] if len(found) == 1 else None


def listed(names: Sequence[str]) -> str:
    """Returns the names of columns for a message."""
    shown = ", ".join(repr(name[:SHOWN_LETTERS]) for name in names[:SHOWN_COLUMNS])
    more = f" and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else ""
    return f"the columns {shown}{more}" if names else "no columns"


def as_texts(cells: Sequence[Any], what: str, first: int = 1) -> list[str]:
    """Returns cells as texts; a missing one is the empty text, and true is "true".

    Args:
        cells: of a column.
        what: they are, for messages.
        first: number of the first one's message.

    Raises:
        ValueError: when one holds a list or bytes, or a half of a surrogate pair.
    """
    texts = []
    for number, cell in enumerate(cells, start=first):
        if isinstance(cell, list | dict | tuple | bytes):
            found = type(cell).__name__
            raise ValueError(f"{what} of message {number} is a {found}, expected a string")
        is_missing = cell is None or cell != cell  # NaN
        text = "" if is_missing else str(cell)
        text = text.lower() if isinstance(cell, bool) else text
        if SURROGATE.search(text):
            raise ValueError(f"{what} of message {number} holds half of a surrogate pair")
        texts.append(text)
    return texts
