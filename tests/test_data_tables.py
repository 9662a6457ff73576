"""Files of examples: read whole or streamed, the cells are those of the file, or one error."""

import csv
import gzip
import io
import json
import re
import sys
import tracemalloc
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from three_classes import LABEL, TEXT, three_classes, write_three_classes

from experiments.config.settings import CustomData
from experiments.data import formats, tables
from experiments.data.tables import open_table, read_table
from experiments.model.answers import Answer, json_lines, tab_separated

EXTENSIONS = ["csv", "tsv", "jsonl", "json", "parquet"]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROWS = st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1)
few = settings(max_examples=30)


@pytest.fixture(scope="module")
def three_files(tmp_path_factory):
    return write_three_classes(tmp_path_factory.mktemp("three"))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file in the current folder and return its name."""
    monkeypatch.chdir(tmp_path)

    def write_(name, content):
        if isinstance(content, pd.DataFrame):
            content.to_parquet(name)
        else:
            Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return write_


def streamed(path, **how):
    with open_table(str(path), CustomData(**how)) as table:
        return [text for rows in table for text in rows.texts]


def read(path, **how):
    return read_table(str(path), CustomData(**how))


def pairs_in(path, **how):
    """Read a file in both ways; return its pairs of label and text."""
    _, rows = read(path, **how)
    assert streamed(path, **how) == rows.texts
    return list(zip(rows.labels, rows.texts, strict=True))


def use_standard_input(content, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return "-"


# ---------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("chunk", [1, 7, 1024])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_format_gives_the_same_examples_in_order(three_files, extension, chunk, monkeypatch):
    monkeypatch.setattr(tables, "_CHUNK", chunk)
    monkeypatch.setattr(formats, "_PIECE", 50 * chunk)
    assert pairs_in(three_files[extension]) == three_classes()
    assert pairs_in(three_files[extension], text_column=(TEXT,)) == three_classes()
    table, rows = read(use_standard_input(three_files[extension].read_bytes(), monkeypatch))
    assert (table.text_columns, table.label_column) == ([TEXT], LABEL)
    assert list(zip(rows.labels, rows.texts, strict=True)) == three_classes()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_a_byte_order_mark_change_nothing(write, end, mark, last):
    lines = ["text,label", '"one, ""two""",a', " three 🎁,b"]
    content = mark + end.join(lines) + (end if last else "")
    assert pairs_in(write("a.csv", content)) == [("a", 'one, "two"'), ("b", " three 🎁")]


UNUSUAL = ["NA", "null", "1.0", "007", "  x", "x ", "#x", "1e5", "True", "∞"]
UNUSUAL_ROWS = [("label", "text"), *zip(UNUSUAL, UNUSUAL, strict=True)]
WESTERN = ["It is \u00a33 each", "caf\u00e9 at noon", "Claim now \u2013 last day", "see you"]


@pytest.mark.parametrize(
    ("name", "content", "how", "expected"),
    [
        ("a.csv", "\n".join(map(",".join, UNUSUAL_ROWS)), {}, UNUSUAL_ROWS[1:]),
        ("a.tsv", "\n".join(map("\t".join, UNUSUAL_ROWS)), {}, UNUSUAL_ROWS[1:]),
        ("a.parquet", pd.DataFrame(UNUSUAL_ROWS[1:], columns=["label", "text"]), {},
         UNUSUAL_ROWS[1:]),
        ("a.parquet", pd.DataFrame({"text": ["x", None], "label": pd.array([1, None], "Int64")}),
         {}, [("1", "x"), ("", "")]),
        ("a.parquet", pd.DataFrame({"text": ["x", "y"], "label": [True, False]}), {},
         [("true", "x"), ("false", "y")]),
        ("a.parquet", pd.DataFrame({"text": ["x"], "label": ["a"]}).set_index("text"), {},
         [("a", "x")]),
        ("a.jsonl", '{"text": 1.50, "label": 1}\n\n{"text": null, "label": 0}\n'
         '{"text": "x", "label":NaN}', {}, [("1", "1.50"), ("0", ""), ("", "x")]),
        ("a.jsonl", '\ufeff{"text": "x", "label": true}', {}, [("true", "x")]),
        ("a.jsonl", '[{"text": "x", "label": "a"}]', {}, [("a", "x")]),
        ("a.json", '\ufeff[{"text": "x", "label": 1}, {"text": null, "label": 2}]', {},
         [("1", "x"), ("2", "")]),
        ("a.json", '{"text": "x", "label": 1}\n{"text": "y", "label": 2}\n', {},
         [("1", "x"), ("2", "y")]),
        ("a.json", '{"text": ["x", "y"], "label": [1, 2]}', {}, [("1", "x"), ("2", "y")]),
        ("a.json", '{"text": {"0": "x", "1": "y"}, "label": {"1": 2, "0": 1}}', {},
         [("1", "x"), ("2", "y")]),
        ("a.json", '{"version": "1.0", "data": [{"text": "x", "label": "a"}]}', {}, [("a", "x")]),
        ("a.csv", 'text\tlabel\n"b\ty\nc\tx\n"\ty\n', {"quoting": "none", "separator": "\t"},
         [("y", '"b'), ("x", "c"), ("y", '"')]),
        ("a.csv", 'text\tlabel\nz\ty\n"b\ty\nc\tx\n"\ty\n',
         {"quoting": "double", "separator": "\t"}, [("y", "z"), ("y", "b\ty\nc\tx\n")]),
        ("a.csv", "ham,Go on\nspam,WIN\n",
         {"no_header": True, "text_column": ("2",), "label_column": "1"},
         [("ham", "Go on"), ("spam", "WIN")]),
        ("a.csv", 'text,label\n"He said \\"hi\\" and C:\\\\x",a\nC:\\n,b\n', {},
         [("a", 'He said "hi" and C:\\x'), ("b", "C:\\n")]),
        ("a.csv", "class,title,story\n1,Oil,Up.\n2,Race,Won.\n",
         {"text_column": ("title", "story")}, [("1", "Oil\nUp."), ("2", "Race\nWon.")]),
        ("a.csv", "text,label,date\nx,a,1\ny,b\n", {}, [("a", "x"), ("b", "y")]),
        ("a.csv", ",text,label\n0,x,a\n1,y,b\n", {}, [("a", "x"), ("b", "y")]),
        ("a.csv", "\r\n".join(["v1,v2,,", *(f'ham,"{t}",,' for t in WESTERN)]).encode("cp1252"),
         {"text_column": ("v2",), "label_column": "v1"}, [("ham", text) for text in WESTERN]),
    ],
)  # fmt: skip
def test_cells_are_those_of_the_file_as_they_are_meant(write, name, content, how, expected):
    assert pairs_in(write(name, content), **how) == expected


def test_names_of_classes_are_those_in_the_metadata_of_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"dtype": "string"}}
    table = pa.table({"text": ["x", "y", "z"], "label": pa.array([1, 0, -1])})
    info = {"huggingface": json.dumps({"info": {"features": names}})}
    parquet.write_table(table.replace_schema_metadata(info), tmp_path / "a.parquet")
    assert pairs_in(tmp_path / "a.parquet") == [("pos", "x"), ("neg", "y"), ("", "z")]


def rows_in(encoding="utf-8", text="Grüße “5 €”", separator=","):
    rows = [("label", "text"), ("ham", text), ("spam", "two")]
    return "\r\n".join(map(separator.join, rows)).encode(encoding)


@pytest.mark.parametrize(
    ("name", "content", "how", "described"),
    [
        ("a.csv", rows_in("utf-8-sig"), {}, "UTF-8, separator comma"),
        ("a.csv", rows_in("utf-16", separator="\t"), {}, "UTF-16, separator tab"),
        ("a.csv", rows_in("utf-16-le"), {}, "UTF-16-LE, separator comma"),
        ("a.csv", rows_in("utf-32"), {}, "UTF-32, separator comma"),
        ("a.csv", rows_in("cp1252"), {}, "CP1252, separator comma"),
        ("a.csv", rows_in(separator=";"), {}, "separator semicolon"),
        ("a.tsv", rows_in(separator="|"), {}, "separator vertical bar"),
        ("a.txt", rows_in(separator="\t"), {}, "separator tab"),
        ("a.csv", b"sep=;\r\n" + rows_in(separator=";"), {}, "separator semicolon"),
        ("a.csv", rows_in(separator="~"), {"separator": "~"}, "separator '~'"),
        ("a.csv", rows_in("koi8-r", "Где заказ"), {"encoding": "koi8-r"}, "KOI8-R"),
        ("a.csv.gz", gzip.compress(rows_in(), mtime=0), {}, "CSV in gzip, UTF-8"),
        ("a.csv", gzip.compress(rows_in(), mtime=0), {}, "CSV in gzip, UTF-8"),
    ],
)
def test_encoding_and_separator_are_detected_or_given(write, name, content, how, described):
    text = "Где заказ" if "encoding" in how else "Grüße “5 €”"
    table, rows = read(write(name, content), **how)
    assert (rows.texts, rows.labels) == ([text, "two"], ["ham", "spam"])
    assert described in str(table.source)
    note = "Windows-1252, such as 'ham,Grüße “5 €”' in line 2; .*--encoding"
    found = re.findall(note, "".join(table.source.notes))
    assert len(found) == len(table.source.notes) == ("CP1252" in described)


# --------------------------------------------------------------------------------- lines of text


def test_in_any_other_file_and_on_standard_input_a_line_is_a_text(write, monkeypatch):
    content = "\ufeffone\r\n\r\n  two\tth\rree \nlast"
    assert streamed(write("a.txt", content)) == ["one", "", "  two\tth\rree ", "last"]
    assert streamed(write("a.log", "")) == []
    assert streamed(use_standard_input("é,1\n{}".encode(), monkeypatch)) == ["é,1", "{}"]
    columns = b'{"text": ["one", "two"], "id": [1, 2]}\n'
    assert streamed(use_standard_input(columns, monkeypatch)) == ["one", "two"]


class Pipe(io.RawIOBase):
    """Gives out its piece; reading again is an error."""

    def __init__(self, piece):
        self.left = [piece]

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self.left.pop()
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("piece", [b"one\ntw", b'{"text": "one"}\n{"te', b"id,text\n1,one\n2,tw"])
def test_a_line_is_yielded_before_the_next_one_is_read(piece, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(Pipe(piece))))
    with open_table("-", CustomData()) as table:
        assert next(iter(table)).texts == ["one"]


def peak_of(write, extension, count):
    """The bytes of memory at the peak of streaming a file of so many texts."""
    line = '{"text": "text number %d of so many"}' if extension == "jsonl" else "text number %d"
    lines = [line % i for i in range(count)]
    name = write(f"a.{extension}", "\n".join(["text"] * (extension == "csv") + lines))
    tracemalloc.start()
    with open_table(name, CustomData()) as table:
        sizes = [len(rows.texts) for rows in table]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (sum(sizes), max(sizes)) == (count, 1024)
    return peak


@pytest.mark.parametrize("extension", ["csv", "jsonl", "txt"])
def test_the_memory_of_streaming_does_not_grow_with_the_file(write, extension):
    assert peak_of(write, extension, 20_000) < 1.4 * peak_of(write, extension, 5_000)


# ---------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("header", "columns", "text", "label"),
    [
        ("id,Text,Label", {}, "Text", "Label"),
        ("Category,Message", {}, "Message", "Category"),
        (" SMS ,date,CLASS", {}, " SMS ", "CLASS"),
        ("review,stars", {}, "review", "stars"),  # of two columns, one determines the other
        ("words,sentiment", {}, "words", "sentiment"),
        ("text,message,label", {"text_column": ("message",)}, "message", "label"),
        ("class,label,id", {"text_column": ("class",)}, "class", "label"),
        ("a,b,c", {"text_column": ("c",), "label_column": "a"}, "c", "a"),
        ("text,sms,id", {"label_column": "sms"}, "text", "sms"),
    ],
)
def test_columns_are_named_or_detected(write, header, columns, text, label):
    cells = {name: f"cell {name}" for name in header.split(",")}
    name = write("a.csv", f"{header}\n{','.join(cells.values())}\n")
    assert pairs_in(name, **columns) == [(cells[label], cells[text])]


SPECIFY = "a.csv has the columns {}: specify one with "


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("text,message,label", {}, SPECIFY + "--text_column"),
        ("text,label,class", {}, SPECIFY + "--label_column"),
        ("v1,v2", {}, SPECIFY + "--text_column"),
        ("text,message", {}, SPECIFY + "--text_column"),
        ("id,text,kind", {}, SPECIFY + "--label_column"),
        ("text,text,label", {}, SPECIFY + "--text_column"),
        ("text,label", {"text_column": ("Text",)},
         "a.csv has no column 'Text' for --text_column; it has the columns {}"),
        ("a,a", {"label_column": "a"},
         "a.csv has 2 columns 'a' for --label_column; it has the columns {}"),
        ("a,b", {"text_column": ("a",), "label_column": "a"},
         "a.csv: --text_column and --label_column both name 'a'; it has the columns {}"),
    ],
)  # fmt: skip
def test_an_unclear_column_is_an_error_that_lists_the_columns(write, header, columns, message):
    name = write("a.csv", f"{header}\n")
    expected = message.format(", ".join(map(repr, header.split(","))))
    for read_all in (read, streamed)[: 1 if "--label" in expected else 2]:
        with pytest.raises(ValueError, match=f"^{expected}$"):
            read_all(name, **columns)


def test_an_error_lists_a_readable_number_of_columns(write):
    with pytest.raises(ValueError, match="and 38 more: specify one") as error:
        read(write("a.csv", ",".join("c" * 900 + str(i) for i in range(50))))
    assert len(str(error.value)) < 800


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("extension", [*EXTENSIONS, "txt"])
@settings(max_examples=50)
@given(data=st.data())
def test_any_bytes_are_strings_or_refused_in_one_sentence(
    tmp_path_factory, three_files, extension, data
):
    content = data.draw(st.binary() | ANY_TEXT.map(str.encode) | st.none())
    if content is None:
        content = bytearray(three_files.get(extension, three_files["csv"]).read_bytes())
        places = st.integers(0, len(content) - 1)
        for place in data.draw(st.lists(places, max_size=3)):
            content[place] = data.draw(st.integers(0, 255))
        content = content[: data.draw(places) + 1]
    path = tmp_path_factory.mktemp("x") / f"a.{extension}"
    path.write_bytes(content)
    for read_all in (lambda p: chain(*read(p)[1][1:3]), streamed):
        try:
            assert all(isinstance(cell, str) for cell in read_all(path))
        except ValueError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


ROW = b'{"text": "x", "label": 1}\n'
NO_COLUMNS = " has no columns$"
NEITHER = " has neither a list of objects nor columns of one length$"
UNKNOWN = r" is not in UTF-8 .* in line 2\): name its enc.*--encoding"


@pytest.mark.parametrize("read", [read, streamed])
@pytest.mark.parametrize(
    ("extension", "content", "message"),
    [
        ("csv", "", " is empty$"),
        ("csv", b"text,label\n" + b"x,y\n" * 30_000 + "Где мой заказ,y".encode("cp1251"),
         r" is not in UTF-8 \(byte 0xc3 in line 30002\): name its encoding, such as --encoding "
         "cp.*, or save it as UTF-8$"),
        ("csv", b"text,label\n" + "Где мой заказ,a".encode("cp1251"), UNKNOWN),
        ("csv", "text,label\nこんにちは,a\n".encode("shift_jis"), UNKNOWN),
        ("csv", "text,label\n你好世界,a\n".encode("gb18030"), UNKNOWN),
        ("csv", "text,label\n안녕하세요,a\n".encode("euc_kr"), UNKNOWN),
        ("csv", "text,label\nx,y,z\n", ", line 2: 3 fields, the header has 2: .*"),
        ("csv", b"text,label\n" + b"x,y\n" * 1023 + b"x,y,z\n",  # where a chunk begins
         ", line 1025: 3 fields, the header has 2: put a text that contains ',' in quotes.*"),
        ("csv", "label,text,,\nham,hello,,\nham,I am late, sorry,\n", ", line 3: 4 fields"),
        ("csv", "text,label\nhello,ham\nwin now, text YES, or call,spam\n", ", line 3: 4 fields"),
        ("csv", 'text,label\n"x,y\n', ", line.* 2.*: a quote is not closed: .*--quoting none.*"),
        ("csv", "label,text\n1,x\n2\n", ", line 3: 1 field, the header has 2: complete .*"),
        ("csv", 'label,text\ny,"b\ny,c\ny,"d"\n', ", lines 2 to 4: a closing quote"),
        ("csv", '"text" "label"\n"1" "a" "x"\n', " closing quote is followed by text"),
        ("csv", 'text,label\n"1",a,x\n', " R's row names"),
        ("csv", "a;b;c\n1;2;3\n4,5;6\n", " may have a semicolon.*--separator"),
        ("csv", "text~label\n", " a header of several columns: .*--separator"),
        ("csv", "3,Wall St. waits,Stocks wait for it.\n4,Phone,New.\n", ": .*--no_header"),
        ("csv", "version https://git-lfs.github.com/spec/v1\noid 6\n", " is a Git LFS pointer"),
        ("csv", b"PK\3\4\x14\0[Content_Types].xml", " is a workbook: export"),
        ("csv", b"PK\3\4\x14\0a.csv", " is a zip file"),
        ("csv", "\n<!DOCTYPE html>\n<html>", " is a web page"),
        ("csv", b"\x80\4\x95", " is a pickle"),
        ("csv", b"\x1f\x8b\x08\0\0", " is a damaged gzip file"),
        ("md", "| text | label |\n|---|:-:|\n| x | a |\n", " is a Markdown table"),
        ("tsv", 'text\tlabel\na\tx\n"b\ty\nc\tx\n"d\ty\n', ", lines 3 to 5: a closing quote"),
        ("tsv", 'text\tlabel\nz\ty\n"b\ty\nc\tx\n"\ty\n', ", line 3: a quote opens a text of sev"),
        ("tsv", "ham\tGo on\nspam\tWIN\nham\tOk\n", " like an example .'ham'.*--no_header"),
        ("jsonl", ROW + b'\n{"text": }',
         ", line 3, is not a JSON object: Expecting value at character 10$"),
        ("jsonl", "[1]", ", line 1: not a JSON object of columns$"),
        ("jsonl", ROW * 1024 + b"7", ", line 1025: not a JSON object of columns$"),
        ("jsonl", ROW * 1024 + b'{"text": {}}',
         ", line 1025: 'text' is a dict, expected a string$"),
        ("jsonl", ROW + b'{"other": "y", "label": 1}', ", line 2: no 'text'$"),
        ("jsonl", r'{"text": "\ud83d", "label": 1}',
         ", line 1: 'text' has half of a surrogate pair$"),
        ("jsonl", '{"messages": [{"role": "user", "content": "x"}], "label": "a"}', " is a chat"),
        ("jsonl", "{}", NO_COLUMNS), ("jsonl", "", NO_COLUMNS), ("json", "{}", NO_COLUMNS),
        ("json", '{"text": ["x"], "label": [1, 2]}', NEITHER), ("json", "7", NEITHER),
        ("json", '[{"text": "x", "label": 1}, {"label": 2}]', ", example 2: no 'text'$"),
        ("json", '[{"id": 1, "data": {"text": "x"}, "annotations": []}]', " Label Studio"),
        ("json", "[" * 9999, " is not JSON: too deeply nested$"),
        ("jsonl", '{"a":' * 9999, " is not a JSON object: too deeply nested$"),
        ("parquet", "text,label", " is not a Parquet file: .*"),
    ],
)  # fmt: skip
def test_what_would_be_read_wrongly_is_one_sentence(write, read, extension, content, message):
    name = write(f"a.{extension}", content)
    with pytest.raises(ValueError, match=rf"^{name}([,: ][^\n]*)?{message}[^\n]*\Z"):
        read(name)


@pytest.mark.parametrize(
    ("content", "texts", "message"),
    [
        ("text,label\n", [], "a.csv has no examples"),
        ("id,text,kind\n1,x,a\n", ["x"], "specify one with --label_column"),
        ("text\nx\n", ["x"], "has the columns 'text': none has labels"),
        ("words\nx\n", ["x"], "has the columns 'words': specify one with --text_column"),
        ('{"text": "x", "label": [1]}', ["x"], "line 1: 'label' is a list, expected a string"),
    ],
)
def test_only_training_needs_examples_and_labels(write, content, texts, message):
    assert streamed(write("a.csv", content)) == texts
    with pytest.raises(ValueError, match=message):
        read("a.csv")


def test_a_damaged_parquet_file_is_an_error_that_names_it(write):
    frame = pd.DataFrame({"text": ["quite a text"], "label": ["a"]})
    content = frame.to_parquet(compression=None)
    for part in (b"quite a", b"label", b"PAR1\x15"):  # a text, a name, the first page's header
        assert part in content
        name = write("a.parquet", content.replace(part, part[:-1] + b"\xff"))
        with pytest.raises(ValueError, match=r"^a\.parquet is not a Parquet file: "):
            read(name)


@pytest.mark.parametrize("read", [read, streamed])
def test_what_cannot_be_opened_is_named(three_files, tmp_path, monkeypatch, read):
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert read(three_files["jsonl"])
    for path, error, message in (
        ("mine.csv", FileNotFoundError, r"mine\.csv"),
        (tmp_path / "folder.csv", IsADirectoryError, r"folder\.csv"),
        (three_files["parquet"], ValueError, r"^reading .*\.parquet requires pyarrow: pip in"),
        (use_standard_input(b"\xc3\xc4\xc5\xc6 \xc3\xc4", monkeypatch), ValueError,
         r"^standard input is not in UTF-8"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            read(path)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match=r"^standard input is closed"):
        read("-")


def test_short_lines_are_noted_with_their_numbers(write):
    table, _ = read(write("a.csv", "text,label,date\nx,a,1\ny,b\nz,a\n"))
    assert "lines with fewer fields than the header: 2 (line 3, 4)" in table.source.notes[0]


# ------------------------------------------------------------------------------------- round trips

CLASSES = ["a", "b", "c d"]
ANSWERS = {"answers.tsv": tab_separated(CLASSES), "answers.jsonl": json_lines(CLASSES)}
WRITERS = {  # how a program writes
    "csv": {"delimiter": ","},
    "excel-semicolon": {"delimiter": ";"},
    "tab": {"delimiter": "\t"},
    "all quoted": {"delimiter": ",", "quoting": csv.QUOTE_ALL, "lineterminator": "\n"},
}
WORDS = st.text("ab \"',;\t\n\r\\|éü0", max_size=12)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])


def spark_field(text):
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"' if set(text) & set(',"\n\r') or not text else text


def written(program, rows, ascii_only=True):
    """A file as a program writes it."""
    out, table = io.StringIO(newline=""), [("label", "text"), *rows]
    objects = [{"label": label, "text": text} for label, text in rows]
    if program == "spark":
        out.write("\n".join(",".join(map(spark_field, row)) for row in table) + "\n")
    elif program == "json":
        json.dump(objects, out, ensure_ascii=ascii_only)
    elif program == "jsonl":
        out.write("\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in objects))
    elif form := ANSWERS.get(program):
        lines = [form.line(Answer(t, [0.5, 0.5, 0], CLASSES.index(label))) for label, t in rows]
        out.write("\n".join(filter(None, [form.header, *lines])) + "\n")
    else:
        csv.writer(out, **WRITERS[program]).writerows(table)
    return out.getvalue()


@pytest.mark.parametrize("program", ["all quoted", "jsonl", "json"])
@few
@given(rows=ROWS, ascii_only=st.booleans(), chunk=st.integers(1, 9))
def test_any_text_is_read_unchanged(tmp_path_factory, program, rows, ascii_only, chunk):
    path = tmp_path_factory.mktemp("x") / f"a.{program.replace('all quoted', 'csv')}"
    path.write_bytes(written(program, rows, ascii_only).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "_PIECE", chunk)  # cuts characters, lines and quotes
        assert pairs_in(path, quoting="double") == rows


@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(st.sampled_from(CLASSES), WORDS), min_size=1, max_size=5),
    program=st.sampled_from([*WRITERS, *ANSWERS, "spark", "jsonl"]),
    encoding=ENCODINGS,
    is_given=st.booleans(),
)
@example([("a", "b"), ("b", '"\n')], "spark", "utf-8", False)
@example([("a", '"'), ("b", ",")], "spark", "utf-8", False)
def test_what_a_program_writes_is_read_exactly_or_refused(
    tmp_path_factory, rows, program, encoding, is_given
):
    how = {"quoting": "backslash" if program == "spark" else "double"} if is_given else {}
    content = written(program, rows)
    is_ambiguous = program == "spark" and any("\\" in text for _, text in rows)
    if not is_given and is_ambiguous:
        return  # "a\\\\" is a text of two backslashes in one dialect and of one in the other
    path = tmp_path_factory.mktemp("x") / f"a.{'jsonl' if 'jsonl' in program else 'csv'}"
    path.write_bytes(content.encode(encoding))
    try:
        found = pairs_in(path, **how)
    except ValueError as error:
        assert "--" in str(error) or "put texts" in str(error)  # noqa: PT017
        return
    assert found == rows
