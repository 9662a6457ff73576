"""How answers are printed: told again by other programs, and harmless on a terminal."""

import csv
import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.model.answers import json_lines, tab_separated, table, told_class

NAMES = ["ham", "spam"]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def unescaped(text):
    signs = iter(text)
    names = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    return "".join(names[next(signs)] if sign == "\\" else sign for sign in signs)


@given(text=ANY_TEXT)
def test_json_lines_hold_the_text_and_every_probability(text):
    line = json_lines(NAMES).line(text, [0.25, 0.75])
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line) == {
        "label": "spam",
        "probabilities": {"ham": 0.25, "spam": 0.75},
        "text": text,
    }


@given(text=ANY_TEXT)
def test_tab_separated_answers_are_told_again(text):
    form = tab_separated(["a\tb", "c"])
    lines = [form.header, form.line(text, [0.875, 0.125])]
    reader = csv.reader(io.StringIO("\n".join(lines), newline="\n"), "excel-tab", quoting=3)
    header, answer = (line.split("\t") for line in lines)
    assert header == ["label", r"P(a\tb)", "P(c)", "text"]
    assert answer[:3] == [r"a\tb", "0.875000000", "0.125000000"]
    assert unescaped(answer[3]) == text
    assert next(reader) == header


def columns(line):
    return sum(
        0 if unicodedata.combining(s) else 1 + (unicodedata.east_asian_width(s) in "WF")
        for s in line
    )


@given(text=ANY_TEXT, width=st.integers(70, 200))
def test_a_line_of_the_table_is_one_line_of_the_terminal(text, width):
    form = table(["ham", "a name that is longer than a column"], width)
    for line in (form.header, form.line(text, [0.5, 0.5])):
        assert columns(line) <= width
        assert line.isprintable()


def test_the_table_lines_up():
    form = table(NAMES, 50)
    assert form.header == "label  P(ham)  P(spam)  text"
    assert form.line("You won\na prize 🎁, call now for more of it", [0.0214, 0.9786]) == (
        "spam    0.021    0.979  You won a prize 🎁, call …"
    )


def test_of_many_classes_the_table_shows_the_told_one():
    form = table(["a", "b", "c", "d", "e"], 60)
    assert form.header == "label      P  text"
    assert form.line("x", [0.1, 0.1, 0.5, 0.2, 0.1]) == "c      0.500  x"


def test_what_would_steer_a_terminal_is_shown():
    assert table(NAMES, 80).line("a\x1b[2Jb\x00", [1, 0]).endswith(r"a\x1b[2Jb\x00")


@pytest.mark.parametrize(("probabilities", "told"), [([0.5, 0.5], 0), ([0.2, 0.5, 0.3], 1)])
def test_the_most_probable_class_is_told(probabilities, told):
    assert told_class(probabilities) == told
