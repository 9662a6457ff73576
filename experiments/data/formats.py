"""What a file of examples is: its format, encoding, separator and quoting, from its content.

    with open_source("questions.csv", CustomData()) as source:
        source.format, source.encoding, source.dialect

A flag decides before the content, and the content before the name. What another reading would
contradict is an error that names the line and the flag that helps.
"""

import codecs
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import charset_normalizer

from experiments.config.settings import CustomData
from experiments.data.separated import Dialect, detect_dialect

CSV, JSON_LINES, JSON, PARQUET, LINES = "CSV", "JSON lines", "JSON", "Parquet", "lines of text"
SUFFIXES = {
    ".csv": CSV, ".tsv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".jl": JSON_LINES,
    ".json": JSON, ".parquet": PARQUET,
}  # fmt: skip
LABEL_NAMES = {
    "label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "tag",
}  # fmt: skip
_COLUMN = r"[\w.-]*|p\(.*\)|.* \(file\)"  # a name; the others are those of predictions
TEXT_NAMES = {
    "text", "texts", "message", "messages", "sms", "content", "body", "review", "sentence",
    "comment", "tweet", "post", "email", "question", "query", "utterance", "document",
}  # fmt: skip
_SAMPLE = _PIECE = 1 << 16  # bytes of the start from which a file is recognised; read at once
_MOST_LONG_RUNS = 0.2  # of bytes that are not ASCII, in a Western text
_ENCODINGS = [  # among which one is recognised: those of common systems
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1255", "cp1256", "koi8_r", "shift_jis", "euc_jp",
    "gb18030", "big5", "euc_kr",
]  # fmt: skip
_COHERENT = 0.1  # of charset-normalizer: likeness to a language, from 0 to 1
_REFUSED = {  # first bytes: what the file is, and what to do
    rb"version https://git-lfs": "a Git LFS pointer: run `git lfs pull` in its folder",
    rb"PK\x03\x04[\s\S]*(xl/|Content_Types)": "a workbook: export its sheet as CSV UTF-8",
    rb"\xd0\xcf\x11\xe0": "a workbook: export its sheet as CSV UTF-8",
    rb"PK\x03\x04": "a zip file: unpack it",
    rb"(\xfd7zXZ|BZh\d|\x28\xb5\x2f\xfd)": "a compressed file: unpack it",
    rb"\s*<(!doctype|html|head|\?xml|script)": "a web page: download the file itself",
    rb"\x80[\x02-\x05]": "a pickle, which can run code: write it as CSV or Parquet, by pandas",
    rb"(ARROW1|FEA1)": "an Arrow file: write it as Parquet, by pandas",
    rb"\s*\|.*\|\s*\n\s*\|[\s:|-]+\|": "a Markdown table: write it as CSV",
    rb"SQLite format 3": "a database: export its table as CSV",
    rb"%PDF": "a PDF file: copy its table to a CSV file",
}  # fmt: skip
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


@dataclass
class Source:
    """An opened file of examples, and what it is."""

    name: str
    file: BinaryIO
    suffix: str = ""
    format: str = CSV
    encoding: str = "utf-8"
    is_gzip: bool = False
    dialect: Dialect = field(default_factory=Dialect)  # of a CSV file
    notes: list[str] = field(default_factory=list)
    line: int = 0  # lines that were read
    is_drained: bool = False  # whether the last line is the last one that has arrived

    def __str__(self) -> str:
        words = [f"{self.format} in gzip" if self.is_gzip else self.format]
        if self.format != PARQUET:
            words.append(self.encoding.upper().replace("-SIG", ""))
        return ", ".join(words + ([str(self.dialect)] if self.format == CSV else []))

    @property
    def usual_separator(self) -> str:
        """The separator of CSV files of that name."""
        return "\t" if self.suffix == ".tsv" else ","

    @property
    def is_guessed(self) -> bool:
        """Whether more than the name says what the file is."""
        is_other = self.format != SUFFIXES.get(self.suffix, LINES)
        is_other |= self.format != PARQUET and not self.encoding.startswith("utf-8")
        usual = str(Dialect(self.usual_separator))
        return is_other or (self.format == CSV and str(self.dialect) != usual)

    def lines(self, newline: str = "\n") -> Iterator[str]:
        """Yield lines with their ends as soon as they are there; "" also ends them at CR."""
        decoder = codecs.getincrementaldecoder(self.encoding)()
        # It keeps CR and LF of a line's end together.
        decoder = io.IncrementalNewlineDecoder(decoder, translate=False)
        unfinished, piece = [], None
        while piece != b"":
            piece = self.file.read1(_PIECE)
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                line = self.line + 1 + error.object.count(b"\n", 0, error.start)
                raise ValueError(
                    f"{self.name}, line {line}, is not in {self.encoding.upper()} (byte "
                    f"0x{error.object[error.start]:02x}): name the encoding with --encoding, or "
                    "save the file as UTF-8"
                ) from error
            found = io.StringIO(text, newline=newline).readlines()
            if unfinished and (found or not piece):
                found[:1] = ["".join([*unfinished, *found[:1]])]
                unfinished = []
            if piece and found and not found[-1].endswith(("\n", newline or "\r")):
                unfinished.append(found.pop())
            for left in range(len(found), 0, -1):
                self.line += 1
                self.is_drained = left == 1
                yield found[-left]


# -------------------------------------------------------------------------------------- detection


@contextmanager
def open_source(path: str, how: CustomData, may_be_lines: bool = False) -> Iterator[Source]:
    """Yield a file of examples whose format is known; OSError or ValueError if it is none.

    With `may_be_lines`, what is no table has one text per line; otherwise it is an error. Standard
    input is then read as it comes.
    """
    is_file = path != "-"
    if not is_file and sys.stdin is None:
        raise ValueError("standard input is closed, expected texts")
    if is_file and not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}")
    name = path if is_file else "standard input"
    with Path(path).open("rb", _SAMPLE) if is_file else nullcontext(sys.stdin.buffer) as opened:
        try:
            file = opened if is_file or may_be_lines else io.BytesIO(opened.read())
            file = file if hasattr(file, "peek") else io.BufferedReader(file, _SAMPLE)
            source = Source(name, file, Path(path.removesuffix(".gz")).suffix.lower())
            if file.peek(2)[:2] == b"\x1f\x8b":
                source.is_gzip = True
                source.file = io.BufferedReader(gzip.GzipFile(fileobj=file), _SAMPLE)
            _detect(source, how, may_be_lines)
            yield source
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{name} is a damaged gzip file: {error}") from error


def _detect(source: Source, how: CustomData, may_be_lines: bool) -> None:
    start = source.file.peek(_SAMPLE)[:_SAMPLE]
    for pattern, what in _REFUSED.items():
        if re.match(pattern, start, re.IGNORECASE):
            raise ValueError(f"{source.name} is {what}")
    if start.startswith(b"PAR1") or source.suffix == ".parquet":
        source.format = PARQUET
        return
    source.encoding = how.encoding or _detect_encoding(source, start)
    text = codecs.getincrementaldecoder(source.encoding)("replace").decode(start)
    lines = io.StringIO(text, newline="").readlines()
    is_whole = len(start) < _SAMPLE and source.file.seekable()
    lines = lines if is_whole or len(lines) < 2 else lines[:-1]
    filled = [line.strip() for line in lines if line.strip()]
    by_name = SUFFIXES.get(source.suffix)
    is_object = re.match(r'\s*\{\s*"', text)
    if re.match(r"\s*\[\s*\{", text) or (by_name == JSON and not is_object):
        source.format = JSON
    elif by_name == JSON_LINES:
        source.format = JSON_LINES
    elif is_object:
        is_alone = len(filled) == 1 and (by_name == JSON or _has_only_columns(filled[0]))
        source.format = JSON if is_alone or not filled[0].endswith("}") else JSON_LINES
    else:
        source.dialect = detect_dialect(
            lines, source.name, is_whole, source.usual_separator, how.separator, how.quoting
        )
        names = [name.strip().casefold() for name in (source.dialect.sample or [[""]])[0]]
        words = {*re.split(r"\W+", names[0])} if len(names) == 1 else set()
        if words & TEXT_NAMES and words & LABEL_NAMES:
            raise ValueError(
                f"{source.name}: the first line, {filled[0]!r}, looks like a header of several "
                "columns: name what separates them with --separator"
            )
        has_flag = how.text_column or how.separator or how.quoting or how.no_header
        if may_be_lines and by_name != CSV and not has_flag:
            is_header = all(re.fullmatch(_COLUMN, name) for name in names)
            is_header &= bool(TEXT_NAMES & {*names})
            source.format = CSV if is_header and len(names) > 1 else LINES
            if is_header and len(names) == 1:
                source.notes.append(
                    f"the first line, {filled[0]!r}, is read as a text: if it is a header, add "
                    f"--text_column {filled[0]}"
                )


def _has_only_columns(line: str) -> bool:
    with suppress(ValueError, RecursionError):  # not JSON
        return {type(value) for value in json.loads(line).values()} <= {list, dict}
    return False


def _detect_encoding(source: Source, start: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return encoding
    if len(start) > 3 and 0 in start[:4] and max(start[:4:2]) * max(start[1:4:2]) == 0:
        return "utf-16-le" if start[0] else "utf-16-be"
    decoder, line, is_file = codecs.getincrementaldecoder("utf-8")(), 1, source.file.seekable()
    try:
        for piece in iter(partial(source.file.read1, _PIECE), b"") if is_file else [start]:
            decoder.decode(piece)
            line += piece.count(b"\n")
        decoder.decode(b"", final=is_file)
        return "utf-8"
    except UnicodeDecodeError as error:
        content, place = error.object, error.start
        following = content[place:] + (source.file.read(1 << 20) if is_file else b"")
    finally:
        if is_file:
            source.file.seek(0)
    line += content.count(b"\n", 0, place)
    first = content.rfind(b"\n", 0, place) + 1
    sample = content[first:][:_SAMPLE]
    guess = charset_normalizer.from_bytes(sample, cp_isolation=_ENCODINGS).best()
    # In a Western language, few letters that are not ASCII follow each other, and none has a byte
    # that Windows-1252 leaves undefined.
    runs = re.findall(rb"[\x80-\xff]+", following)
    is_western = sum(len(run) > 2 for run in runs) <= _MOST_LONG_RUNS * len(runs)
    is_western &= not re.search(rb"[\x81\x8d\x8f\x90\x9d]", following)
    is_other = guess and guess.coherence > _COHERENT
    if not is_western or (is_other and str(guess) != sample.decode("cp1252", "replace")):
        raise ValueError(
            f"{source.name} is not in UTF-8 (byte 0x{content[place]:02x} in line {line}): name its "
            f"encoding{f', such as --encoding {guess.encoding}' if guess else ' with --encoding'}, "
            "or save it as UTF-8"
        )
    text = content[first:].splitlines()[0].decode("cp1252").strip()
    source.notes.append(
        f"not in UTF-8, read as Windows-1252, such as {text[:60]!r} in line {line}; if that is "
        "wrong, name the encoding with --encoding"
    )
    return "cp1252"
