import argparse
from collections import Counter

import pandas as pd
import pytest
from three_classes import three_classes

from experiments.config.settings import CustomData
from experiments.config.values import shares
from experiments.data.custom import read_custom, split_custom


def table(*pairs):
    return pd.DataFrame(pairs, columns=["Label", "Text"], dtype=str)


def distinct(**counts):
    """Different texts of each label."""
    return table(*((k, f"{k}-{chr(97 + i)}x") for k, n in counts.items() for i in range(n)))


def pairs_of(examples):
    return list(zip(examples["Label"], examples["Text"], strict=True))


def split(*tables, **options):
    names = ("train", "validation", "test")
    return split_custom(dict(zip(names, tables, strict=False)), CustomData(**options))


def notes_of(*tables, **options):
    return split(*tables, **options)[2]


@pytest.fixture(scope="module")
def three():
    return table(*three_classes())


@pytest.mark.parametrize("text", ["70/10/20", "80/10/10", "98/1/1"])
def test_shares_are_three_percentages(text):
    assert "/".join(map(str, shares(text))) == text


@pytest.mark.parametrize(
    "text", ["", "80/20", "80/20/0", "80/10/20", "0.8/0.1/0.1", "80/10/10/", "٨٠/10/10"]
)
def test_other_shares_are_one_sentence(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be three percentages .*, got '"):
        shares(text)


# ---------------------------------------------------------------------------------------- splitting


def test_classes_are_numbered_in_order_of_their_names(three):
    splits, names, _ = split(three)
    assert names == ("order", "other", "return")
    found = Counter((names[k], text) for s in splits.values() for k, text in pairs_of(s))
    assert found == Counter(pairs_of(three))
    assert [*splits] == ["train", "validation", "test"]
    assert [len(s) for s in splits.values()] == [210, 30, 60]
    assert all(s["Label"].dtype == "int64" for s in splits.values())


@pytest.mark.parametrize(
    "names", [("-1", "9", "10"), ("09", "10"), ("10", "9", "b"), ("a\nb", "order", "🎁")]
)
def test_only_whole_numbers_are_in_order_of_their_values(names):
    assert split(distinct(**dict.fromkeys(reversed(names), 3)))[1] == names


def test_given_splits_are_used_as_they_are():
    train, validation, test = distinct(a=9, b=5), distinct(b=1, a=1), table(("a", "x"), ("b", "y"))
    splits, _, _ = split(train, validation, test)
    assert splits["train"]["Label"].tolist() == [0] * 9 + [1] * 5
    assert splits["validation"]["Label"].tolist() == [1, 0]
    assert splits["test"]["Text"].tolist() == ["x", "y"]
    splits, _, _ = split(train, validation, test, balance=True)
    assert [len(s) for s in splits.values()] == [10, 2, 2]


def test_with_a_given_split_the_others_keep_their_ratio():
    tables = {"train": distinct(a=16, b=8), "test": table(("a", "x"))}
    splits, _, _ = split_custom(tables, CustomData())
    assert [len(s) for s in splits.values()] == [21, 3, 1]  # 70 : 10 of 24


def test_a_smaller_training_set_leaves_validation_and_test_unchanged(three):
    (whole, _, _), (small, _, notes) = split(three), split(three, train_size=30)
    for name in ("validation", "test"):
        assert pairs_of(whole[name]) == pairs_of(small[name])
    assert len(small["train"]) == 30
    assert not Counter(pairs_of(small["train"])) - Counter(pairs_of(whole["train"]))
    assert "trained on 30 of 210 examples" in notes


def test_balanced_classes_are_balanced_in_each_split():
    splits, _, notes = split(distinct(a=20, b=10), balance=True)
    counts = [s["Label"].value_counts().tolist() for s in splits.values()]
    assert counts == [[7, 7], [1, 1], [2, 2]]
    assert notes == ["balanced: 20 of 30 examples are used"]


@pytest.mark.parametrize("option", [{}, {"balance": True}, {"train_size": 50}])
def test_what_is_selected_at_random_depends_on_the_split_seed(three, option):
    one, other = (split(three, split_seed=seed, **option)[0]["train"] for seed in (1, 2))
    assert Counter(pairs_of(one)) != Counter(pairs_of(other))


# ------------------------------------------------------------------------------------ errors, notes


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([table(("a", "x"), ("", "y"), (" ", "z"))],
         "2 of 3 examples of the training data have no label, first example 2: .*"),
        ([distinct(a=9, b=9), table(("a", "x"), ("", "y"))],
         "1 of 2 examples of the validation data have no label, first example 2: .*"),
        ([distinct(a=9, b=2, c=1)],
         r"each class needs 3 different texts, .*; fewer have 'b' \(2\), 'c' \(1\): .*"),
        ([pd.concat([distinct(a=9), table(*[("b", "y")] * 5)])],
         r"each class needs 3 different texts, .*; fewer have 'b' \(1\): .*"),
        ([pd.concat([distinct(a=9), table(("b", "a-ax"))])],
         r"each class needs 3 different texts, .*; fewer have 'b' \(0\): .*"),
        ([distinct(a=9)],
         "all training examples have the class 'a', expected two or more classes"),
        ([distinct(a=9, b=9), distinct(a=1), table(("b", "x"), ("d", "y"), ("c", "z"), ("c", "w"))],
         "3 examples of the test data have labels that the training data lacks: 'c', 'd'; it has "
         "'a', 'b'"),
        ([distinct(a=9, b=9), table(("B", "x")), distinct(a=1)],
         "1 examples of the validation data have labels that the training data lacks: 'B'; .*"),
    ],
)  # fmt: skip
def test_unusable_data_is_one_sentence(tables, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        split(*tables)


def test_three_texts_of_a_class_are_enough_to_split_and_two_for_one_given_split():
    assert split(distinct(a=9, b=3))
    assert split(distinct(a=9, b=2), table(("a", "x")))


def test_ordinary_data_have_no_notes():
    assert notes_of(distinct(a=30, b=30)) == []


def notes_with(*more):
    return notes_of(pd.concat([distinct(a=30, b=30), table(*more)], ignore_index=True))


def test_texts_with_several_labels_are_counted_and_three_are_shown():
    several = [(label, text * 70) for text in "yxwvu" for label in "ba"]
    shown = ", ".join(f"'{text * 60}…' (b, a)" for text in "yxw")
    assert notes_with(*several) == [f"5 texts have several labels: {shown} and 2 more"]
    assert notes_with(*several[:6]) == [f"3 texts have several labels: {shown}"]


def test_empty_texts_are_counted():
    expected = "2 of 62 texts are empty or blank; they are used"
    assert notes_with(("a", ""), ("a", " \n")) == [expected]


def test_similar_labels_are_noted():
    (note,) = notes_with(*[("A ", f"one{'!' * i}") for i in range(5, 15)])
    assert note == "classes whose names look alike: 'A ' and 'a'"
    alike = [("1", "1.0"), ("caf\u00e9", "cafe\u0301"), ("a b", "a\u200bB")]
    for pair in alike:
        (note,) = notes_of(distinct(**dict.fromkeys(pair, 30)))
        assert note.endswith(" and ".join(map(ascii, sorted(pair))))


def test_classes_with_few_examples_are_noted():
    few = "has few or no examples of these classes: 'b'"
    assert notes_of(distinct(a=30, b=3)) == [f"the training data {few} (1)"]
    assert notes_of(distinct(a=9, b=3), distinct(a=1), distinct(a=1))[:1] == [
        f"the validation data {few} (0)"
    ]
    assert notes_of(distinct(a=9, b=2), table(("a", "x")), table(("b", "y"), ("a", "z"))) == [
        f"the training data {few} (2)",
        f"the validation data {few} (0)",
    ]


def test_texts_of_two_given_splits_are_counted_if_they_are_equal_or_nearly_so():
    train = table(*[("a", "Call 0800 now"), ("b", "hi"), ("b", "12"), ("a", "  ")] * 3)
    validation = table(("a", "Call 0800 now"), ("a", "call 1 NOW"), ("b", "34"))
    test = table(("b", "hi"), ("b", "HI 2"), ("b", "h i"), ("a", "call1now"))
    near = ", apart from case, digits and blanks"
    assert notes_of(train, validation, test)[1:] == [
        "1 of 3 texts of the validation data are also in the training data",
        f"1 of 3 texts of the validation data are also in the training data{near}",
        "1 of 4 texts of the test data are also in the training data",
        f"3 of 4 texts of the test data are also in the training data{near}",
        f"1 of 4 texts of the test data are also in the validation data{near}",
    ]


# -------------------------------------------------------------------------------- files of examples


@pytest.fixture
def read(tmp_path):
    """Read a file of lines; return the labels of each split, and the notes."""

    def read_(lines, **options):
        path = tmp_path / "a.csv"
        path.write_text("\n".join(lines) + "\n")
        tables, notes, _ = read_custom(CustomData(data=path, **options))
        return {name: t["Label"].tolist() for name, t in tables.items()}, notes

    return read_


def labelled(*labels):
    return ["text,label", *(f"text {i},{label}" for i, label in enumerate(labels))]


def test_what_was_found_in_a_file_is_noted(read):
    _, (first, second) = read(["id,text,label", "1,x,a", "", "2,y,b", "3,x,b"])
    assert first.endswith(
        "a.csv: CSV, UTF-8, separator comma, quoting double; 3 examples in 5 lines, 1 with the "
        "text of an earlier one"
    )
    assert second.endswith("a.csv: texts 'text', labels 'label', not used 'id'")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["good", "nan", "bad", "None", "nan"],
         ["missing values: 'nan' (2), 'None' (1); line 3, 5, 6; --drop_label None nan leaves"]),
        (["a#b", "b", "a"], ["labels that look like lists", "'a#b'; line 2; write one label"]),
        (['"[\'a\', \'b\']"', "['b']", "['b']", "['b']"],
         ["look like lists", "line 2, 3, 4 and 1 more"]),
    ],
)  # fmt: skip
def test_strange_labels_are_noted_with_their_lines(read, labels, words):
    note = read(labelled(*labels))[1][2]
    assert all(each in note for each in words)


@pytest.mark.parametrize("labels", [["c++", "c#", "a/b testing"], ["a, b", "c"], ["a-b", "a", "b"]])
def test_ordinary_labels_have_no_notes(read, labels):
    assert len(read(labelled(*(f'"{label}"' for label in labels)))[1]) == 2


def test_labels_and_small_classes_can_be_left_out(read):
    lines = labelled("a", "a", "a", "b", "b", "b", "c", "nan", "d")
    splits, notes = read(lines, drop_label=("nan",), min_class_size=2)
    assert splits == {"train": list("aaabbb")}
    assert notes[-1] == "left out: 3 examples of 'c' (1), 'd' (1), 'nan' (1)"
    with pytest.raises(ValueError, match=r"^--drop_label 'x': no example has that label$"):
        read(lines, drop_label=("x",))
    with pytest.raises(ValueError, match="no training examples are left"):
        read(lines, min_class_size=9)


def test_a_column_can_say_the_split(read):
    cells = ["train", "Valid", "test", "train", "TEST"]
    lines = ["text,label,split", *(f"text {i},k{i},{cell}" for i, cell in enumerate(cells))]
    splits, notes = read(lines)
    assert [*splits] == ["train"]
    assert notes[2] == (
        "the column 'split' looks like a split (test, train, valid): --split_column split uses it"
    )
    splits, notes = read(lines, split_column="split")
    assert splits == {"train": ["k0", "k3"], "validation": ["k1"], "test": ["k2", "k4"]}
    assert len(notes) == 2
    with pytest.raises(ValueError, match="--split_column split has 'other' in line 7, expected"):
        read([*lines, "text,k,other"], split_column="split")
    with pytest.raises(ValueError, match="has no column 'fold' for --split_column"):
        read(lines, split_column="fold")
