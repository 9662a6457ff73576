"""How predictions are printed: readable by other programs, and harmless on a terminal."""

import io
import json
import unicodedata
from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.model.answers import (
    Answer,
    describe_scores,
    json_lines,
    predicted_class,
    tab_separated,
    table,
)

NAMES = ["ham", "spam"]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(text=ANY_TEXT)
def test_json_lines_have_the_text_and_each_probability_with_nine_digits(text):
    form = json_lines(NAMES)
    line = form.line(Answer(text, [1 / 3, 2 / 3], 1))
    assert form.header is None
    assert "\n" not in line
    assert line.isascii()
    probabilities = {"ham": 0.333333333, "spam": 0.666666667}
    assert json.loads(line) == {"label": "spam", "probabilities": probabilities, "text": text}


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_tab_separated_values_are_read_again_as_they_were(text):
    form = tab_separated(["a\tb", "c"], ["id", "label"])
    content = f"{form.header}\n{form.line(Answer(text, [0.875, 0.125], 0, ['7', text]))}\n"
    as_text = {"dtype": str, "keep_default_na": False}
    (row,) = pd.read_csv(io.StringIO(content, newline=""), sep="\t", **as_text).to_dict("records")
    assert row == {
        "label": "a\tb", "P(a\tb)": "0.875000000", "P(c)": "0.125000000", "id": "7",
        "label (file)": text, "text": text,
    }  # fmt: skip


def test_scores_are_those_of_the_counts():
    pairs = [("ham", "ham"), ("ham", "spam"), ("spam", "spam"), ("?", "ham"), (" ", "ham")]
    counts, interval = Counter(pairs), lambda correct, total: (correct / 20, total / 10)
    assert describe_scores(counts, NAMES, interval, as_json=False).splitlines() == [
        "Accuracy: 50.00% (10.00% to 40.00%), 2 of 4; macro F1: 0.6667",
        "Labels that are no class: '?' (1)",
        "Without a label, not counted: 1",
        "Labels (rows) and predictions (columns):",
        "           ham   spam",
        "    ham      1      1",
        "   spam      0      1",
    ]
    assert json.loads(describe_scores(counts, NAMES, interval, as_json=True)) == {
        "accuracy": 0.5, "interval": [0.1, 0.4], "macro_f1": pytest.approx(2 / 3),
        "classes": NAMES, "confusion": [[1, 1], [0, 1]], "unknown_labels": {"?": 1},
    }  # fmt: skip
    assert "0.00% (0.00% to 100.00%), 0 of 0" in describe_scores(Counter(), NAMES, interval, False)


def columns(line):
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in line
    )


@given(text=ANY_TEXT, width=st.integers(70, 200))
def test_a_line_of_the_table_fits_into_one_line_of_the_terminal(text, width):
    form = table(["ham", "a name that is longer than a column"], width)
    for line in (form.header, form.line(Answer(text, [0.5, 0.5], 0))):
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
        ("a\x1b[2Jb\x00", r"a\x1b[2Jb\x00"),
    ],
)
def test_the_columns_of_a_table_are_aligned_and_long_texts_are_cut(text, shown):
    form = table(NAMES, 50)
    assert form.header == "label  P(ham)  P(spam)  text"
    assert form.line(Answer(text, [0.0214, 0.9786], 1)) == f"spam    0.021    0.979  {shown}"


def test_of_many_classes_a_table_shows_the_predicted_one():
    form = table(["a", "b", "c", "d", "e"], 60)
    assert form.header == "label      P  text"
    assert form.line(Answer("x", [0.1, 0.1, 0.5, 0.2, 0.1], 2)) == "c      0.500  x"
    assert table(["a", "perhaps"], 60).header == "label     P(a)  P(perhaps)  text"
    assert table(["a", "b", "c", "d"], 60).header == "label   P(a)   P(b)   P(c)   P(d)  text"


def test_the_most_probable_class_is_predicted_or_the_second_from_a_threshold_on():
    assert [predicted_class(p) for p in ([0.5, 0.5], [0.2, 0.5, 0.3])] == [0, 1]
    assert [predicted_class([1 - p, p], threshold=0.7) for p in (0.6, 0.7)] == [0, 1]
