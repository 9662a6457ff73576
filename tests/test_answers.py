"""How predictions are printed: readable by other programs, and harmless on a terminal."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.model.answers import json_lines, predicted_class, tab_separated, table

NAMES = ["ham", "spam"]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def unescaped(text):
    characters = iter(text)
    names = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    return "".join(names[next(characters)] if c == "\\" else c for c in characters)


@given(text=ANY_TEXT)
def test_json_lines_have_the_text_and_every_probability(text):
    line = json_lines(NAMES).line(text, [0.25, 0.75])
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line) == {
        "label": "spam",
        "probabilities": {"ham": 0.25, "spam": 0.75},
        "text": text,
    }


def test_json_lines_have_no_header_and_nine_digits():
    form = json_lines(NAMES)
    assert form.header is None
    assert json.loads(form.line("", [1 / 3, 2 / 3]))["probabilities"]["ham"] == 0.333333333


@given(text=ANY_TEXT)
def test_tab_separated_values_can_be_read_again(text):
    form = tab_separated(["a\tb", "c"])
    line = form.line(text, [0.875, 0.125])
    assert form.header.split("\t") == ["label", r"P(a\tb)", "P(c)", "text"]
    *answer, found = line.split("\t")
    assert answer == [r"a\tb", "0.875000000", "0.125000000"]
    assert unescaped(found) == text
    assert not {"\n", "\r"} & set(line)


def columns(line):
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in line
    )


@given(text=ANY_TEXT, width=st.integers(70, 200))
def test_a_line_of_the_table_fits_into_one_line_of_the_terminal(text, width):
    form = table(["ham", "a name that is longer than a column"], width)
    for line in (form.header, form.line(text, [0.5, 0.5])):
        assert columns(line) <= width
        assert line.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("You won\na prize 🎁, call now for more of it", "You won a prize 🎁, call …"),
        ("x" * 27, "x" * 25 + "…"),
        ("x" * 26, "x" * 26),
        ("x" * 24 + "🎁", "x" * 24 + "🎁"),
        ("x" * 24 + "🎁x", "x" * 24 + "…"),
        ("e\u0301" * 26, "e\u0301" * 26),
        ("short ", "short"),
    ],
)
def test_the_columns_of_a_table_are_aligned_and_long_texts_are_cut(text, shown):
    form = table(NAMES, 50)
    assert form.header == "label  P(ham)  P(spam)  text"
    assert form.line(text, [0.0214, 0.9786]) == f"spam    0.021    0.979  {shown}"


def test_of_many_classes_a_table_shows_the_predicted_one():
    form = table(["a", "b", "c", "d", "e"], 60)
    assert form.header == "label      P  text"
    assert form.line("x", [0.1, 0.1, 0.5, 0.2, 0.1]) == "c      0.500  x"
    assert table(["a", "perhaps"], 60).header == "label     P(a)  P(perhaps)  text"
    assert table(["a", "b", "c", "d"], 60).header == "label   P(a)   P(b)   P(c)   P(d)  text"


def test_control_characters_are_shown_as_escapes():
    assert table(NAMES, 80).line("a\x1b[2Jb\x00", [1, 0]).endswith(r"a\x1b[2Jb\x00")


@pytest.mark.parametrize(("probabilities", "predicted"), [([0.5, 0.5], 0), ([0.2, 0.5, 0.3], 1)])
def test_the_most_probable_class_is_predicted(probabilities, predicted):
    assert predicted_class(probabilities) == predicted
