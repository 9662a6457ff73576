"""Files of examples: read whole or streamed, the cells are those of the file, or one error."""

import csv
import gzip
import io
import json
import sys
import tracemalloc
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from three_classes import LABEL, TEXT, three_classes, write_three_classes

from experiments.config.settings import CustomData
from experiments.data import formats, tables
from experiments.data.tables import open_table, read_table

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
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return write_


def custom(**how):
    return CustomData(**{k: (v,) if k == "text_column" and isinstance(v, str) else v
                         for k, v in how.items()})  # fmt: skip


def streamed(path, **how):
    with open_table(str(path), custom(**how)) as table:
        return [text for rows in table for text in rows.texts]


def read(path, **how):
    return read_table(str(path), custom(**how))


def columns_of(found):
    return (*found.table.text_columns, found.table.label_column)


def pairs_of(path, **how):
    """Read a file in both ways; return its pairs of label and text."""
    examples = read(path, **how).examples
    if path != "-":
        how.pop("label_column", None)
        assert streamed(path, **how) == examples["Text"].tolist()
    return list(zip(examples["Label"], examples["Text"], strict=True))


def use_standard_input(content, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return "-"


# ---------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("chunk", [1, 7, 1024])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_format_gives_the_same_examples_in_order(three_files, extension, chunk, monkeypatch):
    monkeypatch.setattr(tables, "_CHUNK", chunk)
    monkeypatch.setattr(formats, "_PIECE", max(200, 50 * chunk))
    assert pairs_of(three_files[extension]) == three_classes()
    assert pairs_of(three_files[extension], text_column=TEXT) == three_classes()


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_the_format_of_standard_input_is_detected(three_files, extension, monkeypatch):
    path = use_standard_input(three_files[extension].read_bytes(), monkeypatch)
    found = read(path)
    assert columns_of(found) == (TEXT, LABEL)
    assert found.examples.equals(
        pd.DataFrame(three_classes(), columns=["Label", "Text"], dtype=str)
    )


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "json"])
@few
@given(rows=ROWS, ascii_only=st.booleans(), chunk=st.integers(1, 9))
def test_any_text_is_read_unchanged(tmp_path_factory, extension, rows, ascii_only, chunk):
    objects = [{"text": text, "label": label} for label, text in rows]
    lines = (json.dumps(row, ensure_ascii=ascii_only) for row in objects)
    content = io.StringIO()
    if extension in ("csv", "tsv"):
        separator = "\t" if extension == "tsv" else ","
        writer = csv.writer(content, delimiter=separator, quoting=csv.QUOTE_ALL)
        writer.writerows([("label", "text"), *rows])
    else:
        content.write("\n".join(lines) if extension == "jsonl" else json.dumps(objects))
    path = tmp_path_factory.mktemp("x") / f"a.{extension}"
    path.write_bytes(content.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats.Source, "piece", chunk)  # cuts characters, lines and quotes
        assert pairs_of(path, quoting="double") == rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_a_byte_order_mark_change_nothing(write, end, mark, last):
    lines = ["text,label", '"one, ""two""",a', " three 🎁,b"]
    content = mark + end.join(lines) + (end if last else "")
    assert pairs_of(write("a.csv", content)) == [("a", 'one, "two"'), ("b", " three 🎁")]


@pytest.mark.parametrize("extension", ["csv", "tsv", "parquet"])
def test_unquoted_texts_are_read_unchanged(write, tmp_path, extension, monkeypatch):
    monkeypatch.setattr(tables, "_CHUNK", 1)  # some chunks look like numbers
    texts = ["NA", "null", "1.0", "007", "  x", "x ", "#x", "1e5", "True", "∞"]
    pairs = [(text, text) for text in texts]
    separator = "\t" if extension == "tsv" else ","
    name = write(f"a.{extension}", "\n".join(map(separator.join, [("label", "text"), *pairs])))
    if extension == "parquet":
        pd.DataFrame(pairs, columns=["label", "text"]).to_parquet(tmp_path / name)
    assert pairs_of(name) == pairs


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"text": 1.50, "label": 1}\n\n{"text": null, "label": 0}\n{"label":NaN}',
         [("1", "1.50"), ("0", ""), ("", "")]),
        ("a.jsonl", '{"text": "x"}\n' * 2000 + '{"text": "y", "label": "a"}',
         [("", "x")] * 2000 + [("a", "y")]),
        ("a.jsonl", '\ufeff{"text": "x", "label": true}', [("true", "x")]),
        ("a.json", '\ufeff[{"text": "x", "label": 1}, {"label": 2}]', [("1", "x"), ("2", "")]),
        ("a.json", '{"text": ["x", "y"], "label": [1, 2]}', [("1", "x"), ("2", "y")]),
        ("a.json", '{"text": {"0": "x", "1": "y"}, "label": {"1": 2, "0": 1}}',
         [("1", "x"), ("2", "y")]),
    ],
)  # fmt: skip
def test_json_is_objects_or_columns_with_numbers_as_written(write, name, content, expected):
    assert pairs_of(write(name, content)) == expected


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (pd.DataFrame({"text": ["x", None], "label": pd.array([1, None], dtype="Int64")}),
         [("1", "x"), ("", "")]),
        (pd.DataFrame({"text": ["x", "y"], "label": [True, False]}),
         [("true", "x"), ("false", "y")]),
        (pd.DataFrame({"text": ["x"], "label": ["a"]}).set_index("text"), [("a", "x")]),
    ],
    ids=["missing cells", "truth values", "an index"],
)  # fmt: skip
def test_cells_of_parquet_are_those_of_the_file(tmp_path, frame, expected):
    frame.to_parquet(tmp_path / "a.parquet")
    assert pairs_of(tmp_path / "a.parquet") == expected


# --------------------------------------------------------------------------------- lines of text


def test_in_any_other_file_and_on_standard_input_a_line_is_a_text(write, monkeypatch):
    content = "\ufeffone\r\n\r\n  two\tthree \nlast"
    assert streamed(write("a.txt", content)) == ["one", "", "  two\tthree ", "last"]
    assert streamed(write("a.log", "")) == []
    assert streamed(use_standard_input("é,1\n{}".encode(), monkeypatch)) == ["é,1", "{}"]


class Pipe:
    """Gives out its pieces, each as it comes."""

    def __init__(self, *pieces):
        self.left = list(pieces)

    def read1(self, _):
        return self.left.pop(0)


@few
@given(text=ANY_TEXT, cuts=st.lists(st.integers(0, 20)))
def test_lines_are_the_same_however_their_bytes_arrive(text, cuts):
    content, pieces = text.encode(), []
    for cut in cuts:
        pieces, content = [*pieces, content[:cut]], content[cut:]
    pieces = [piece for piece in (*pieces, content) if piece]
    found = [line for _, (lines,) in tables._lines(Pipe(*pieces, b""), "x") for line in lines]
    expected = text.removeprefix("\ufeff").split("\n")
    expected = expected[:-1] if expected[-1] == "" else expected
    assert found == [line.removesuffix("\r") for line in expected]


def test_a_line_is_yielded_before_the_next_one_is_read(monkeypatch):
    pipe = Pipe(b"one\ntw")  # reading again is an error
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
    assert next(stream_texts("-")) == ["one"]


# ------------------------------------------------------------------------------------------ memory


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read1(self, size=-1):
        found = super().read1(size)
        self.count += len(found)
        return found

    read = read1


def large(extension):
    frame = pd.DataFrame({"text": [f"text number {i} of so many" for i in range(40_000)]})
    if extension == "jsonl":
        return frame.to_json(orient="records", lines=True).encode()
    if extension == "parquet":
        other = frame["text"].to_numpy()[::-1]
        return frame.assign(other=other).to_parquet(row_group_size=1000, compression=None)
    return frame.to_csv(index=False).encode()


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet", "txt"])
def test_streaming_reads_only_what_it_yields(write, extension, monkeypatch):
    content = large(extension)
    file = Counting(content)
    name = write(f"a.{extension}", "")
    monkeypatch.setattr(tables, "_open", lambda path: (path, file))
    chunks = stream_texts(name)
    texts = next(chunks)
    assert texts[-1].startswith("text number")
    assert file.count < len(content) / 3
    assert max(map(len, [texts, *chunks])) <= 1024
    assert file.count < len(content) * (0.7 if extension == "parquet" else 1.01)


# ---------------------------------------------------------------------------------------- columns


def write_header(write, header):
    cells = ",".join(f"cell {i}" for i in range(header.count(",") + 1))
    return write("a.csv", f"{header}\n{cells}\n")


@pytest.mark.parametrize(
    ("header", "columns", "text", "label"),
    [
        ("id,Text,Label", {}, "Text", "Label"),
        ("Category,Message", {}, "Message", "Category"),
        (" SMS ,date,CLASS", {}, " SMS ", "CLASS"),
        ("review,stars", {}, "review", "stars"),  # of two columns, one determines the other
        ("words,sentiment", {}, "words", "sentiment"),
        ("text,message,label", {"text_column": "message"}, "message", "label"),
        ("class,label,id", {"text_column": "class"}, "class", "label"),
        ("a,b,c", {"text_column": "c", "label_column": "a"}, "c", "a"),
    ],
)
def test_columns_are_named_or_detected(write, header, columns, text, label):
    name = write_header(write, header)
    assert read_table(name, **columns)[1:] == (text, label)
    cell = f"cell {header.split(',').index(text)}"
    assert streamed(name, columns.get("text_column")) == [cell]


def test_a_named_label_column_is_not_the_text_column(write):
    assert read_table(write_header(write, "text,sms,id"), None, "sms")[1:] == ("text", "sms")


def test_labels_are_needed_to_train_and_not_to_classify(write):
    assert streamed(write_header(write, "id,text,kind")) == ["cell 1"]
    assert streamed(write_header(write, "words")) == ["cell 0"]
    with pytest.raises(ValueError, match="has the columns 'words': specify one with --text_column"):
        read_table("a.csv")


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("text,message,label", {}, "a.csv has {}: specify one with --text_column"),
        ("text,label,class", {}, "a.csv has {}: specify one with --label_column"),
        ("v1,v2", {}, "a.csv has {}: specify one with --text_column"),
        ("text,message", {}, "a.csv has {}: specify one with --text_column"),
        ("id,text,kind", {}, "a.csv has {}: specify one with --label_column"),
        ("text,text,label", {}, "a.csv has {}: specify one with --text_column"),
        ("text,label", {"text_column": "Text"},
         "a.csv has no column 'Text' for --text_column; it has {}"),
        ("a,a", {"label_column": "a"}, "a.csv has 2 columns 'a' for --label_column; it has {}"),
        ("a,b", {"text_column": "a", "label_column": "a"},
         "a.csv: --text_column and --label_column both name 'a'; it has {}"),
    ],
)  # fmt: skip
def test_an_unclear_column_is_an_error_that_lists_the_columns(write, header, columns, message):
    name = write_header(write, header)
    expected = message.format("the columns " + ", ".join(map(repr, header.split(","))))
    with pytest.raises(ValueError, match=f"^{expected}$"):
        read_table(name, **columns)
    if "--label" not in expected:
        with pytest.raises(ValueError, match=f"^{expected}$"):
            streamed(name, **columns)


def test_an_error_lists_a_readable_number_of_columns(write):
    header = ",".join("c" * 900 + str(i) for i in range(50))
    with pytest.raises(ValueError, match="and 38 more: specify one") as error:
        read_table(write_header(write, header))
    assert len(str(error.value)) < 800


# ----------------------------------------------------------------------------------------- errors


def check_bytes(path, content):
    """Read any bytes in both ways: each gives strings, or one line that names the file."""
    path.write_bytes(content)
    for read in (lambda p: read_table(p).examples.to_numpy().ravel().tolist(), streamed):
        try:
            assert all(isinstance(cell, str) for cell in read(str(path)))
        except ValueError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("extension", [*EXTENSIONS, "txt"])
@few
@given(content=st.binary() | ANY_TEXT.map(str.encode))
@example(b'{"a":' * 9999)
@example(b"[" * 9999)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, extension, content):
    check_bytes(tmp_path_factory.mktemp("x") / f"a.{extension}", content)


@pytest.mark.parametrize("extension", EXTENSIONS)
@few
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_one_sentence(
    tmp_path_factory, three_files, extension, data
):
    content = bytearray(three_files[extension].read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    check_bytes(tmp_path_factory.mktemp("x") / f"a.{extension}", content[: data.draw(places) + 1])


def not_utf_8(byte, line, found="another encoding"):
    return rf" is in {found}, expected UTF-8 \(byte 0x{byte} in line {line}\): save it .* by iconv"


ROW = b'{"text": "x", "label": 1}\n'


@pytest.mark.parametrize(
    ("extension", "content", "message"),
    [
        ("csv", b"", " is empty"),
        ("csv", "text,label\nx\ncafé,y".encode("latin-1"), not_utf_8("e9", 3)),
        ("csv", b"text,label\n" + b"x,y\n" * 30_000 + b"\xe9,y", not_utf_8("e9", 30_002)),
        ("csv", "text,label\nx,é".encode()[:-1], not_utf_8("c3", 2)),
        ("csv", "text,label\nx,y".encode("utf-16"), not_utf_8("ff", 1, "UTF-16")),
        ("csv", b"text,label\nx,y,z\n", " is not a table: .* 2 fields in line 2, saw 3"),
        ("csv", b"text,label\n" + b"x,y\n" * 1023 + b"x,y,z\n",  # where a chunk begins
         " is not a table: .* 2 fields in line 1025, saw 3"),
        ("csv", b'text,label\n"x,y\n', " is not a table: .*EOF inside string.*"),
        ("jsonl", ROW + b'\n{"text": }',
         ", line 3, is not a JSON object: Expecting value at character 10"),
        ("jsonl", b"[1]", ": example 1 is not a JSON object of columns"),
        ("jsonl", ROW * 1024 + b"7", ": example 1025 is not a JSON object of columns"),
        ("jsonl", ROW * 1024 + b'{"text": {}}',
         ": the text of example 1025 is a dict, expected a string"),
        ("jsonl", rb'{"text": "\ud83d", "label": 1}',
         ": the text of example 1 has half of a surrogate pair"),
        ("jsonl", b"{}", " has no columns: specify one with --text_column"),
        ("json", ROW * 2,
         r" is not JSON \(one object a line is .jsonl\): Extra data at character 27"),
        ("json", b'{"text": ["x"], "label": [1, 2]}',
         " has neither a list of objects nor columns of one length"),
        ("json", b"7", " has neither a list of objects nor columns of one length"),
        ("parquet", b"text,label", " is not a Parquet file: .*"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("read", [read_table, streamed])
def test_what_is_wrong_with_a_file_is_one_sentence(write, read, extension, content, message):
    name = write(f"a.{extension}", content)
    with pytest.raises(ValueError, match=f"^{name}{message}$"):
        read(name)


@pytest.mark.parametrize(
    ("extension", "content", "message"),
    [
        ("csv", "text,label\n", " has no examples"),
        ("jsonl", "", " has no examples"),
        ("json", "{}", " has no examples"),
        ("txt", "", " ends in '.txt', expected one of .csv, .tsv, .jsonl, .json, .parquet"),
    ],
)
def test_files_without_texts_are_no_training_data(write, extension, content, message):
    name = write(f"a.{extension}", content)
    with pytest.raises(ValueError, match=f"^{name}{message}$"):
        read_table(name)
    assert streamed(name) == []


def test_a_label_that_is_no_text_and_a_line_that_is_not_utf_8_are_errors(write):
    with pytest.raises(ValueError, match=r"^a\.jsonl: the label of example 2 is a list, expected"):
        read_table(write("a.jsonl", ROW + b'{"text": "x", "label": [1]}'))
    with pytest.raises(ValueError, match=rf"^a\.txt{not_utf_8('e9', 9)}$"):
        streamed(write("a.txt", b"text\n" * 8 + b"\xe9"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"quite a text", b"quite \xff text"),  # not in UTF-8
        (b"label", b"\xffabel"),
        (b"PAR1\x15", b"PAR1\xff"),  # the header of the first page
    ],
)
def test_a_damaged_parquet_file_is_an_error_that_names_it(write, before, after):
    frame = pd.DataFrame({"text": ["quite a text"], "label": ["a"]})
    content = frame.to_parquet(compression=None)
    assert before in content
    name = write("a.parquet", content.replace(before, after))
    with pytest.raises(ValueError, match=r"^a\.parquet is not a Parquet file: "):
        read_table(name)


@pytest.mark.parametrize("read", [read_table, streamed])
def test_a_file_that_cannot_be_opened_is_named(write, tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"mine\.csv"):
        read("mine.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.csv"):
        read("folder.csv")


@pytest.mark.parametrize("read", [read_table, streamed])
def test_only_parquet_needs_pyarrow(three_files, monkeypatch, read):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"^reading .*questions\.parquet requires pyarrow: pip in"):
        read(str(three_files["parquet"]))
    assert read(str(three_files["jsonl"]))


@pytest.mark.parametrize("read", [read_table, streamed])
def test_errors_call_standard_input_by_its_name(monkeypatch, read):
    with pytest.raises(ValueError, match=r"^standard input is in another encoding"):
        read(use_standard_input(b"\xff", monkeypatch))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match=r"^standard input is closed"):
        read("-")
