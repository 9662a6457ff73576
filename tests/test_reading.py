import csv
import io
import json
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from three_classes import LABEL, TEXT, three_classes, write_three_classes

from experiments.data.tables import READERS, read_table, sniff

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
CSV = b'text,label\n"x, y",a\nz,b\n'


@pytest.fixture(scope="session")
def three_files(tmp_path_factory):
    return write_three_classes(tmp_path_factory.mktemp("three"))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file and gives its name, which is what a user would type in its folder."""
    monkeypatch.chdir(tmp_path)

    def write_bytes(name, content):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return write_bytes


def pairs_of(table):
    return list(zip(table.messages["Label"], table.messages["Text"], strict=True))


def from_stdin(content, monkeypatch, **columns):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return read_table("-", **columns)


def csv_of(rows, separator=","):
    out = io.StringIO()
    csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
    return out.getvalue()


# ---------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_format_gives_the_same_messages(three_files, extension):
    table = read_table(str(three_files[extension]))
    assert pairs_of(table) == three_classes()
    assert (table.text_column, table.label_column) == (TEXT, LABEL)


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_standard_input_tells_its_format_by_how_it_begins(three_files, extension, monkeypatch):
    content = three_files[extension].read_bytes()
    assert sniff(content) == f".{extension}"
    assert pairs_of(from_stdin(content, monkeypatch)) == three_classes()


def test_columns_and_their_rows_are_strings_of_pandas(write):
    messages = read_table(write("a.csv", CSV)).messages
    assert [*messages] == ["Label", "Text"]
    assert messages.index.tolist() == [0, 1]
    assert all(isinstance(cell, str) for cell in messages.to_numpy().ravel())


@pytest.mark.parametrize("separator", [",", "\t"])
@given(rows=st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1))
def test_what_is_quoted_comes_back_as_it_was(tmp_path_factory, separator, rows):
    path = tmp_path_factory.mktemp("x") / ("a.csv" if separator == "," else "a.tsv")
    path.write_bytes(csv_of([("text", "label"), *rows], separator).encode())
    assert pairs_of(read_table(str(path))) == [(label, text) for text, label in rows]


@given(rows=st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1), ascii_only=st.booleans())
def test_json_lines_come_back_as_they_were(tmp_path_factory, rows, ascii_only):
    path = tmp_path_factory.mktemp("x") / "a.jsonl"
    lines = (json.dumps({"text": t, "label": k}, ensure_ascii=ascii_only) for t, k in rows)
    path.write_bytes("\n".join(lines).encode())
    assert pairs_of(read_table(str(path))) == [(label, text) for text, label in rows]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_a_byte_order_mark_change_nothing(write, end, mark, last):
    lines = ["text,label", '"one, ""two""",a', " three 🎁,b"]
    content = mark + end.join(lines) + (end if last else "")
    assert pairs_of(read_table(write("a.csv", content))) == [
        ("a", 'one, "two"'),
        ("b", " three 🎁"),
    ]


@pytest.mark.parametrize(
    "text", ["NA", "null", "1.0", "007", "  x", "x ", "#x", "1e5", "True", "∞"]
)
@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_a_text_is_the_text_it_is(write, tmp_path, text, extension):
    name = write(f"a.{extension}", b"")
    if extension == "jsonl":
        write(name, json.dumps({"text": text, "label": text}))
    elif extension == "parquet":
        pd.DataFrame({"text": [text], "label": [text]}).to_parquet(tmp_path / name)
    else:
        separator = "," if extension == "csv" else "\t"
        write(name, f"text{separator}label\n{text}{separator}{text}\n")
    assert pairs_of(read_table(name)) == [(text, text)]


def test_numbers_of_json_come_as_they_are_written_beside_a_missing_one(write):
    lines = '{"text": 1.50, "label": 1}\n\n{"text": null, "label": 0}\n{"text": "x"}\n{"label":NaN}'
    assert pairs_of(read_table(write("a.jsonl", lines))) == [
        ("1", "1.50"), ("0", ""), ("", "x"), ("", ""),
    ]  # fmt: skip


def test_numbers_and_truth_of_parquet_stay_whole_beside_a_missing_one(write, tmp_path):
    frame = pd.DataFrame({"text": ["x", None], "label": pd.array([1, None], dtype="Int64")})
    frame.to_parquet(tmp_path / "a.parquet")
    assert pairs_of(read_table(str(tmp_path / "a.parquet"))) == [("1", "x"), ("", "")]
    frame.assign(label=[True, False]).to_parquet(tmp_path / "a.parquet")
    assert pairs_of(read_table(str(tmp_path / "a.parquet"))) == [("true", "x"), ("false", "")]


def test_a_column_of_parquet_that_was_pandas_index_is_a_column(write, tmp_path):
    frame = pd.DataFrame({"text": ["x"], "label": ["a"]}).set_index("text")
    frame.to_parquet(tmp_path / "a.parquet")
    assert pairs_of(read_table(str(tmp_path / "a.parquet"))) == [("a", "x")]


@pytest.mark.parametrize("orient", ["columns", "records", "list"])
def test_json_may_be_a_list_of_objects_or_an_object_of_columns(write, orient):
    frame = pd.DataFrame({"text": ["x", "y"], "label": [1, 2]})
    content = (
        json.dumps(frame.to_dict("list")) if orient == "list" else frame.to_json(orient=orient)
    )
    assert pairs_of(read_table(write("a.json", content))) == [("1", "x"), ("2", "y")]


@pytest.mark.parametrize("extension", ["jsonl", "json"])
def test_json_may_begin_with_a_byte_order_mark(write, extension):
    content = '\ufeff{"text": ["x"], "label": ["a"]}'
    content = content if extension == "json" else content.translate({ord(c): None for c in "[]"})
    assert pairs_of(read_table(write(f"a.{extension}", content))) == [("a", "x")]


# ---------------------------------------------------------------------------------------- columns


def chosen(write, header, **columns):
    cells = ",".join(f"cell {i}" for i in range(header.count(",") + 1))
    table = read_table(write("a.csv", f"{header}\n{cells}\n"), **columns)
    return table.text_column, table.label_column


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("id,Text,Label", "Text", "Label"),
        ("Category,Message", "Message", "Category"),
        (" SMS ,date,CLASS", " SMS ", "CLASS"),
        ("review,stars", "review", "stars"),  # of two columns, one tells the other
        ("words,sentiment", "words", "sentiment"),
    ],
)
def test_columns_are_guessed_where_their_names_leave_no_doubt(write, header, text, label):
    assert chosen(write, header) == (text, label)


@pytest.mark.parametrize(
    ("header", "flag"),
    [
        ("text,message,label", "--text_column"),
        ("text,label,class", "--label_column"),
        ("v1,v2", "--text_column"),
        ("text,message", "--text_column"),
        ("id,text,kind", "--label_column"),
        ("text,text,label", "--text_column"),
    ],
)
def test_a_doubtful_column_is_asked_for_with_the_columns_there_are(write, header, flag):
    listed = ", ".join(repr(name) for name in header.split(","))
    expected = f"a.csv has the columns {listed}: say which one is meant by {flag}"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        chosen(write, header)


def test_a_flag_names_a_column_whatever_the_others_are_called(write):
    header = "text,message,label"
    assert chosen(write, header, text_column="message") == ("message", "label")
    assert chosen(write, "text,sms,id", label_column="sms") == ("text", "sms")
    assert chosen(write, "class,label,id", text_column="class") == ("class", "label")
    assert chosen(write, "a,b,c", text_column="c", label_column="a") == ("c", "a")


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("text,label", {"text_column": "Text"}, "has no column 'Text' for --text_column; it has"),
        ("a,a", {"label_column": "a"}, "has 2 columns 'a' for --label_column; it has"),
        (
            "a,b",
            {"text_column": "a", "label_column": "a"},
            "--text_column and --label_column both name 'a'; it has",
        ),
    ],
)
def test_a_flag_that_names_no_one_column_is_told(write, header, columns, message):
    with pytest.raises(ValueError, match=f"^a.csv:? {message} the columns '"):
        chosen(write, header, **columns)


def test_a_message_lists_no_more_columns_than_can_be_read(write):
    header = ",".join("c" * 900 + str(i) for i in range(50))
    with pytest.raises(ValueError, match="and 38 more: say which") as error:
        chosen(write, header)
    assert len(str(error.value)) < 800


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("extension", READERS)
@given(
    content=st.binary() | ANY_TEXT.map(str.encode) | st.sampled_from([b'{"a":' * 9999, b"[" * 9999])
)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, extension, content):
    check_bytes(tmp_path_factory.mktemp("x") / f"a{extension}", content)


@pytest.mark.parametrize("extension", READERS)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_one_sentence(
    tmp_path_factory, three_files, extension, data
):
    content = bytearray(three_files[extension[1:]].read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    check_bytes(tmp_path_factory.mktemp("x") / f"a{extension}", content[: data.draw(places) + 1])


def check_bytes(path, content):
    path.write_bytes(content)
    refusal, messages = "", pd.DataFrame()
    try:
        messages = read_table(str(path)).messages
    except ValueError as error:
        refusal = str(error)
    assert len(messages) or (refusal.startswith(str(path)) and "\n" not in refusal)
    assert all(isinstance(cell, str) for cell in messages.to_numpy().ravel())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"text,label\n", "a.csv holds no message"),
        ("a.csv", "text,label\nx\ncafé,y".encode("latin-1"),
         r"a.csv is in another encoding, expected UTF-8 \(byte 0xe9 in line 3\): save it as UTF-8, "
         "or convert it by iconv"),
        ("a.csv", "text,label\nx,y".encode("utf-16"),
         r"a.csv is in UTF-16, expected UTF-8 \(byte 0xff in line 1\): save it as .*"),
        ("a.csv", b"text,label\nx,y,z\n", "a.csv is not a table: .* 2 fields in line 2, saw 3"),
        ("a.csv", b'text,label\n"x,y\n', "a.csv is not a table: .*EOF inside string.*"),
        ("a.txt", b"", "a.txt ends in '.txt', expected one of .csv, .tsv, .jsonl, .json, .parquet"),
        ("a.jsonl", b'{"text": "x"}\n{"text": }',
         "a.jsonl, line 2, is not a JSON object: Expecting value at character 10"),
        ("a.jsonl", b"[1]", "a.jsonl: message 1 is no JSON object of columns"),
        ("a.jsonl", b'{"text": ["x"], "label": 1}',
         "a.jsonl: the text of message 1 is a list, expected a string"),
        ("a.jsonl", rb'{"text": "\ud83d", "label": 1}',
         "a.jsonl: the text of message 1 holds half of a surrogate pair"),
        ("a.jsonl", b"{}", "a.jsonl has no columns: say which one is meant by --text_column"),
        ("a.json", b'{"text": "x"}\n{"text": "y"}',
         r"a.json is not JSON \(one object a line is .jsonl\): Extra data at character 15"),
        ("a.json", b'{"text": ["x"], "label": [1, 2]}',
         "a.json holds neither a list of objects nor columns of one length"),
        ("a.json", b"7", "a.json holds neither a list of objects nor columns of one length"),
        ("a.parquet", CSV, "a.parquet is not a Parquet file: .*"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_sentence(write, name, content, message):
    write(name, content)
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_table(name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"quite a text", b"quite \xff text"),  # no UTF-8
        (b"label", b"\xffabel"),
        (b"PAR1\x15", b"PAR1\xff"),  # the header of the first page
    ],
)
def test_a_damaged_parquet_file_is_named(write, before, after):
    out = io.BytesIO()
    frame = pd.DataFrame({"text": ["quite a text"], "label": ["a"]})
    frame.to_parquet(out, compression=None)
    assert before in out.getvalue()
    name = write("a.parquet", out.getvalue().replace(before, after))
    with pytest.raises(ValueError, match=r"^a\.parquet is not a Parquet file: "):
        read_table(name)


def test_a_file_that_is_not_there_is_named(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mine\.csv"):
        read_table("mine.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.csv"):
        read_table("folder.csv")


def test_only_parquet_needs_pyarrow(write, three_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ValueError, match=r"questions\.parquet needs pyarrow .*: pip install pyarrow$"
    ):
        read_table(str(three_files["parquet"]))
    assert len(read_table(str(three_files["jsonl"])).messages) == 300


def test_standard_input_is_told_by_name(monkeypatch):
    with pytest.raises(ValueError, match=r"^standard input is empty$"):
        from_stdin(b"", monkeypatch)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match=r"^standard input is closed"):
        read_table("-")
