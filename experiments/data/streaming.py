"""The texts of a user's file or of standard input, some at a time, so that no more are held.

    for texts in stream_texts("mine.csv"):
        ...

Tables are read as in `reading.py`; but a `.json` file, which tells nothing before its end, is held
as a whole. In any other file, and on standard input, a line is a text. A line is passed on as soon
as it is there, so that whoever types gets an answer.
"""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from experiments.data.tables import (
    LABEL_NAMES,
    STANDARD_INPUT,
    TEXT_NAMES,
    as_texts,
    columns_of,
    decode,
    listed,
    named_column,
    parse_json,
    read_json,
    unreadable,
    usual_column,
)

CHUNK = 1024  # texts that are held at once, at the most
PIECE = 1 << 16  # bytes of lines that are read at once, at the most


def stream_texts(path: str, text_column: str | None = None) -> Iterator[list[str]]:
    """Yields the texts of a file in order, some at a time.

    Args:
        path: a .csv, .tsv, .jsonl, .json or .parquet file, one with a text a line, or "-" for
            standard input, likewise.
        text_column: holds the texts of a table; if None, guessed where the names leave no doubt.

    Raises:
        OSError: when the file cannot be read.
        ValueError: when it is no such file, or it is unclear which column is meant.
    """
    if path == STANDARD_INPUT:
        if sys.stdin is None:  # closed by the shell
            raise ValueError("standard input is closed, expected a text a line")
        yield from stream_lines(sys.stdin.buffer, "standard input")
        return
    with Path(path).open("rb") as file:
        if stream := STREAMS.get(Path(path).suffix.lower()):
            yield from stream(file, path, text_column)
        else:
            yield from stream_lines(file, path)


# ------------------------------------------------------------------------------------------ lines


def stream_lines(file: BinaryIO, name: str) -> Iterator[list[str]]:
    """Yields the texts of a file with one a line."""
    for _, lines in numbered_lines(file, name):
        yield lines


def numbered_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yields some lines at a time, without their ends, and the number of the first of them."""
    number = 1
    for lines in lines_as_they_come(file):
        for start in range(0, len(lines), CHUNK):
            some = lines[start : start + CHUNK]
            text = decode(b"\n".join(some), name, number)
            yield number, [line.removesuffix("\r") for line in text.split("\n")]
            number += len(some)


def lines_as_they_come(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yields the lines that are there without waiting for more."""
    unfinished: list[bytes] = []
    while piece := file.read1(PIECE):
        first, *others = piece.split(b"\n")
        unfinished.append(first)
        if others:
            *whole, rest = [b"".join(unfinished), *others]
            yield whole
            unfinished = [rest]
    if last := b"".join(unfinished):
        yield [last]


# ----------------------------------------------------------------------------------------- tables


def stream_separated(
    file: BinaryIO, name: str, text_column: str | None, separator: str
) -> Iterator[list[str]]:
    """Yields the texts of CSV or TSV."""
    column, first = None, 1
    try:
        with (
            io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as content,
            pd.read_csv(  # as in `read_separated`
                content, sep=separator, header=None, dtype=str, na_filter=False, chunksize=CHUNK
            ) as chunks,
        ):
            for rows in chunks:
                header = 0
                if column is None:
                    column = choose_text(rows.iloc[0].tolist(), text_column, name)
                    header = 1
                texts = as_texts(rows[column].tolist()[header:], f"{name}: the text", first)
                yield texts
                first += len(texts)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{name} is empty") from None
    except pd.errors.ParserError as error:
        raise unreadable(name, "a table", error) from error
    except UnicodeDecodeError as error:
        raise unreadable(name, "in UTF-8", error) from error


def stream_json_lines(file: BinaryIO, name: str, text_column: str | None) -> Iterator[list[str]]:
    """Yields the texts of one JSON object a line; the columns are those of the first ones."""
    column, first = None, 1
    for line_number, lines in numbered_lines(file, name):
        rows = [
            parse_json(line, f"{name}, line {number},", "a JSON object")
            for number, line in enumerate(lines, start=line_number)
            if line.strip()
        ]
        names = columns_of(rows, name, first).names
        if rows and column is None:
            column = names[choose_text(names, text_column, name)]
        yield as_texts([row.get(column) for row in rows], f"{name}: the text", first)
        first += len(rows)


def stream_json(file: BinaryIO, name: str, text_column: str | None) -> Iterator[list[str]]:
    """Yields the texts of a JSON file, which is held as a whole."""
    columns = read_json(file.read(), name)
    cells = columns.cells(choose_text(columns.names, text_column, name))
    for start in range(0, len(cells), CHUNK):
        yield as_texts(cells[start : start + CHUNK], f"{name}: the text", start + 1)


def stream_parquet(file: BinaryIO, name: str, text_column: str | None) -> Iterator[list[str]]:
    """Yields the texts of a Parquet file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"{name} needs pyarrow to be read: pip install pyarrow") from error
    first, damaged = 1, (pa.ArrowException, OSError, UnicodeDecodeError)
    try:
        table = pq.ParquetFile(file, pre_buffer=False, buffer_size=PIECE)  # else read as a whole
        names = table.schema_arrow.names
        column = names[choose_text(names, text_column, name)]
        for batch in table.iter_batches(CHUNK, columns=[column]):
            batch.validate(full=True)
            yield as_texts(batch.column(0).to_pylist(), f"{name}: the text", first)
            first += len(batch)
    except damaged as error:
        raise unreadable(name, "a Parquet file", error) from error


STREAMS: dict[str, Callable[[BinaryIO, str, str | None], Iterator[list[str]]]] = {
    ".csv": partial(stream_separated, separator=","),
    ".tsv": partial(stream_separated, separator="\t"),
    ".jsonl": stream_json_lines,
    ".json": stream_json,
    ".parquet": stream_parquet,
}


def choose_text(names: Sequence[str], text_column: str | None, name: str) -> int:
    """Returns at which index the texts are.

    A column is guessed if just one has a usual name, or is the only one but the labels.

    Raises:
        ValueError: when the column is not there, or several or none might be meant.
    """
    text = named_column(names, text_column, "--text_column", name)
    if text is None:
        text = usual_column(names, TEXT_NAMES, but=None)
    if text is None:
        labels = usual_column(names, LABEL_NAMES, but=None)
        others = [i for i in range(len(names)) if i != labels]
        text = others[0] if len(others) == 1 else None
    if text is None:
        raise ValueError(f"{name} has {listed(names)}: say which one is meant by --text_column")
    return text
