"""The texts of a file, some at a time: the same as at once, and no more are held."""

import io
import json
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from three_classes import three_classes, write_three_classes

from experiments.data import streaming
from experiments.data.streaming import STREAMS, lines_as_they_come, stream_texts
from experiments.data.tables import READERS
from experiments.model.flags import TABLES


@pytest.fixture(scope="module")
def three_files(tmp_path_factory):
    return write_three_classes(tmp_path_factory.mktemp("three"))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file and gives its name, which is what a user would type in its folder."""
    monkeypatch.chdir(tmp_path)

    def write_bytes(name, content):
        (tmp_path / name).write_bytes(content)
        return name

    return write_bytes


def all_texts(path, text_column=None):
    return [text for texts in stream_texts(str(path), text_column) for text in texts]


# ----------------------------------------------------------------------------------------- the same


@pytest.mark.parametrize("chunk", [1, 7, 1024])
@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_format_gives_every_text_in_order(three_files, extension, chunk, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK", chunk)
    monkeypatch.setattr(streaming, "PIECE", 50 * chunk)
    expected = [text for _, text in three_classes()]
    assert all_texts(three_files[extension]) == expected
    assert all_texts(three_files[extension], "question") == expected


def test_the_formats_are_those_of_training():
    assert [*STREAMS] == [*READERS] == [*TABLES]


def test_a_line_is_a_text_and_an_empty_one_too(write):
    content = "\ufeffone\r\n\r\n  two\tthree \nlast".encode()
    assert all_texts(write("a.txt", content)) == ["one", "", "  two\tthree ", "last"]
    assert all_texts(write("a.log", b"")) == []


def test_standard_input_has_a_text_a_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é,1\n{}".encode())))
    assert all_texts("-") == ["é,1", "{}"]


@given(pieces=st.lists(st.binary(min_size=1, max_size=8)))
def test_lines_are_the_same_however_they_come(pieces):
    content, left = b"".join(pieces), [*pieces, b""]
    pipe = SimpleNamespace(read1=lambda _: left.pop(0))
    found = [line for lines in lines_as_they_come(pipe) for line in lines]
    assert found == content.removesuffix(b"\n").split(b"\n")[: None if content else 0]


def test_a_line_is_passed_on_before_the_next_is_asked_for():
    left = [b"one\ntw"]  # a second time is an error
    pipe = SimpleNamespace(read1=lambda _: left.pop())
    assert next(lines_as_they_come(pipe)) == [b"one"]


# ------------------------------------------------------------------------------------ what is held


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, *size):
        found = super().read(*size)
        self.count += len(found)
        return found

    def read1(self, *size):
        found = super().read1(*size)
        self.count += len(found)
        return found


def large(extension, rows=40_000):
    frame = pd.DataFrame({"text": [f"text number {i} of so many" for i in range(rows)]})
    if extension == ".parquet":
        out = io.BytesIO()
        frame.to_parquet(out, row_group_size=1000, compression=None)
        return out.getvalue()
    if extension == ".jsonl":
        return frame.to_json(orient="records", lines=True).encode()
    return frame.to_csv(index=False).encode()


@pytest.mark.parametrize("extension", [".csv", ".tsv", ".jsonl", ".parquet", None])
def test_no_more_of_a_file_is_read_than_is_passed_on(extension):
    file = Counting(large(extension))
    stream = STREAMS.get(extension)
    chunks = stream(file, "x", None) if stream else streaming.stream_lines(file, "x")
    texts = next(chunks)
    assert texts[-1].startswith("text number")
    assert len(texts) <= streaming.CHUNK
    assert file.count < len(file.getvalue()) / 3
    lengths = [len(texts) for texts in chunks]
    assert max(lengths) <= streaming.CHUNK


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x\ny\n\xe9\n",
         r"a.txt is in another encoding, expected UTF-8 \(byte 0xe9 in line 3\): save it as .*"),
        ("a.txt", "x".encode("utf-16"), r"a.txt is in UTF-16, expected UTF-8 .*"),
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"text\nx\n\xe9\n", "a.csv is not in UTF-8: .*0xe9.*"),
        ("a.csv", b"text,label\nx,y,z\n", "a.csv is not a table: .* 2 fields in line 2, saw 3"),
        ("a.csv", b"a,b\nx,y\n",
         "a.csv has the columns 'a', 'b': say which one is meant by --text_column"),
        ("a.jsonl", b'{"text": "x"}\n\n{',
         "a.jsonl, line 3, is not a JSON object: Expecting property name .*"),
        ("a.jsonl", b'{"text": "x"}\n[1]', "a.jsonl: message 2 is no JSON object of columns"),
        ("a.jsonl", b'{"text": "x"}\n{"text": []}',
         "a.jsonl: the text of message 2 is a list, expected a string"),
        ("a.json", b"7", "a.json holds neither a list of objects nor columns of one length"),
        ("a.parquet", b"text", "a.parquet is not a Parquet file: .*"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_sentence(write, name, content, message):
    write(name, content)
    with pytest.raises(ValueError, match=f"^{message}$"):
        all_texts(name)


def test_a_later_message_is_told_by_its_number_in_the_file(write, monkeypatch):
    monkeypatch.setattr(streaming, "PIECE", 20)
    lines = [json.dumps({"text": "x"})] * 7 + ['{"text": {}}']
    with pytest.raises(ValueError, match="message 8 is a dict"):
        all_texts(write("a.jsonl", "\n".join(lines).encode()))
    with pytest.raises(ValueError, match=r"0xe9 in line 9\)"):
        all_texts(write("a.txt", b"text\n" * 8 + b"\xe9"))


@pytest.mark.parametrize("extension", [*STREAMS, ".txt"])
@settings(max_examples=30)
@given(content=st.binary())
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, extension, content):
    path = tmp_path_factory.mktemp("x") / f"a{extension}"
    path.write_bytes(content)
    refusal = str(path)
    try:
        all_texts(path)
    except ValueError as error:
        refusal = str(error)
    assert refusal.startswith(str(path))
    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("header", "texts"),
    [("text,label", "a"), ("label,body", "b"), ("label,words", "b"), ("words,label", "a")],
)
def test_the_text_column_is_guessed_as_in_training(write, header, texts):
    assert all_texts(write("a.csv", f"{header}\na,b\n".encode())) == [texts]


def test_the_named_column_has_to_be_there(write):
    name = write("a.csv", b"text,label\na,b\n")
    with pytest.raises(ValueError, match="has no column 'body' for --text_column"):
        all_texts(name, "body")
    assert all_texts(name, "label") == ["b"]


def test_only_parquet_needs_pyarrow(three_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"questions\.parquet needs pyarrow .*: pip install"):
        all_texts(three_files["parquet"])
    assert len(all_texts(three_files["csv"])) == 300
