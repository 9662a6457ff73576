"""Examples of a run: from files to splits with numbered classes, and what is noted or refused."""

import argparse
from collections import Counter

import pytest
from three_classes import LABEL, TEXT, pairs_of, table, three_classes, write_three_classes

from experiments.config.arguments import shares
from experiments.config.settings import CustomData, DataConfig
from experiments.data.corpus import digest_of, load_corpus, read_custom, same_texts, split_custom

THREE = table(*three_classes())


def distinct(**counts):
    """Different texts of each label."""
    return table(*((k, f"{k}-{chr(97 + i)}x") for k, n in counts.items() for i in range(n)))


def split(*tables, **options):
    names = ("train", "validation", "test")
    return split_custom(dict(zip(names, tables, strict=False)), CustomData(**options))


@pytest.mark.parametrize("text", ["", "80/20", "80/20/0", "80/10/20", "80/10/10/", "٨٠/10/10"])
def test_shares_are_three_percentages(text):
    assert [shares("70/10/20"), shares("98/1/1")] == [(70, 10, 20), (98, 1, 1)]
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be three percentages .*, got '"):
        shares(text)


# ---------------------------------------------------------------------------------------- splitting


def test_classes_are_numbered_by_name_and_a_smaller_training_set_is_a_part():
    splits, names, _ = split(THREE)
    assert names == ("order", "other", "return")
    found = Counter((names[k], text) for s in splits.values() for k, text in pairs_of(s))
    assert found == Counter(pairs_of(THREE))
    sizes = {name: len(examples) for name, examples in splits.items()}
    assert sizes == {"train": 210, "validation": 30, "test": 60}
    assert all(s["Label"].dtype == "int64" for s in splits.values())
    small, _, notes = split(THREE, train_size=30)
    for name in ("validation", "test"):
        assert pairs_of(splits[name]) == pairs_of(small[name])
    assert len(small["train"]) == 30
    assert not Counter(pairs_of(small["train"])) - Counter(pairs_of(splits["train"]))
    assert "trained on 30 of 210 examples" in notes


@pytest.mark.parametrize(
    "names", [("-1", "9", "10"), ("09", "10"), ("10", "9", "b"), ("a\nb", "order", "🎁")]
)
def test_only_whole_numbers_are_in_order_of_their_values(names):
    assert split(distinct(**dict.fromkeys(reversed(names), 3)))[1] == names


def test_given_splits_are_used_as_they_are_unless_balanced():
    train, validation, test = distinct(a=9, b=5), distinct(b=1, a=1), table(("a", "x"), ("b", "y"))
    splits, _, _ = split(train, validation, test)
    assert splits["train"]["Label"].tolist() == [0] * 9 + [1] * 5
    assert splits["validation"]["Label"].tolist() == [1, 0]
    assert splits["test"]["Text"].tolist() == ["x", "y"]
    assert all(s.index.tolist() == list(range(len(s))) for s in splits.values())
    splits, _, _ = split(train, validation, test, balance=True)
    assert [len(s) for s in splits.values()] == [10, 2, 2]
    splits, _, notes = split(distinct(a=20, b=10), balance=True)
    counts = [s["Label"].value_counts().tolist() for s in splits.values()]
    assert (counts, notes) == (
        [[7, 7], [1, 1], [2, 2]], ["balanced: 20 of 30 examples are used"],
    )  # fmt: skip
    splits, _, _ = split_custom({"train": distinct(a=16, b=8), "test": test}, CustomData())
    assert [len(s) for s in splits.values()] == [21, 3, 2]  # 70 : 10 of 24


# ------------------------------------------------------------------------------------ errors, notes


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([table(("a", "x"), ("", "y"), (" ", "z"))],
         r"examples of the training data without a label: 2 of 3 \(line 3, 4\): .*"),
        ([distinct(a=9, b=9), table(("a", "x"), ("", "y"))],
         r"examples of the validation data without a label: 1 of 2 \(line 3\): .*"),
        ([distinct(a=9, b=2, c=1)],
         r"each class needs 3 different texts, .*; fewer have 'b' \(2\), 'c' \(1\): .*"),
        ([table(*pairs_of(distinct(a=9)), *[("b", "y")] * 5)],
         r"each class needs 3 different texts, .*; fewer have 'b' \(1\): .*"),
        ([table(*pairs_of(distinct(a=9)), ("b", "a-ax"))],
         r"each class needs 3 different texts, .*; fewer have 'b' \(0\): .*"),
        ([distinct(a=9)],
         "all training examples have the class 'a', expected two or more classes"),
        ([distinct(a=9, b=9), distinct(a=1), table(("b", "x"), ("d", "y"), ("c", "z"), ("c", "w"))],
         r"the test data has labels that the training data lacks: 'c' \(2\), 'd' \(1\); it has "
         "'a', 'b'"),
        ([distinct(a=9, b=9), table(("B", "x")), distinct(a=1)],
         r"the validation data has labels that the training data lacks: 'B' \(1\); .*"),
    ],
)  # fmt: skip
def test_unusable_data_is_one_sentence(tables, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        split(*tables)


FEW = "has few or no examples of these classes: 'b'"
NEAR = ", apart from case, digits and blanks"
ORDINARY = pairs_of(distinct(a=30, b=30))
SEVERAL = [(label, text * 70) for text in "yxwvu" for label in "ba"]
SHOWN = ", ".join(f"'{text * 60}…' (b, a)" for text in "yxw")


def same_in(second, first, count, *near):
    """The note on texts of two splits."""
    is_in = f"texts of the {second} data that are also in the {first} data"
    return f"{is_in}{NEAR if near else ''}: {count}"


@pytest.mark.parametrize(
    ("tables", "notes"),
    [
        ([table(*ORDINARY)], []),
        ([table(*ORDINARY, *SEVERAL)], [f"texts with several labels: 5: {SHOWN} and 2 more"]),
        ([table(*ORDINARY, *SEVERAL[:6])], [f"texts with several labels: 3: {SHOWN}"]),
        ([table(*ORDINARY, ("a", ""), ("a", " \n"))],
         ["empty or blank texts of the training data, which are used: 2 of 62 (line 62, 63)"]),
        ([table(*ORDINARY, *(("A ", f"one{'!' * i}") for i in range(5, 15)))],
         ["classes whose names look alike: 'A ' and 'a'"]),
        *(([distinct(**dict.fromkeys(pair, 30))],
           [f"classes whose names look alike: {' and '.join(map(ascii, sorted(pair)))}"])
          for pair in [("1", "1.0"), ("caf\u00e9", "cafe\u0301"), ("a b", "a\u200bB")]),
        ([distinct(a=30, b=3)], [f"the training data {FEW} (1)"]),
        ([distinct(a=9, b=2), table(("a", "x"))],
         [f"the training data {FEW} (1)", f"the validation data {FEW} (0)"]),
        ([distinct(a=9, b=3), distinct(a=1), distinct(a=1)],
         [f"the validation data {FEW} (0)", f"the test data {FEW} (0)",
          *(same_in(second, first, "1 of 1") for second, first in
            [("validation", "training"), ("test", "training"), ("test", "validation")])]),
        ([distinct(a=9, b=2), table(("a", "x")), table(("b", "y"), ("a", "z"))],
         [f"the training data {FEW} (2)", f"the validation data {FEW} (0)"]),
        ([table(*[("a", "Call 0800 now"), ("b", "hi"), ("b", "12"), ("a", "  ")] * 3),
          table(("a", "Call 0800 now"), ("a", "call 1 NOW"), ("b", "34")),
          table(("b", "hi"), ("b", "HI 2"), ("b", "h i"), ("a", "call1now"))],
         ["empty or blank texts of the training data, which are used: 3 of 12 (line 5, 9, 13)",
          same_in("validation", "training", "1 of 3"),
          same_in("validation", "training", "1 of 3", NEAR),
          same_in("test", "training", "1 of 4"), same_in("test", "training", "3 of 4", NEAR),
          same_in("test", "validation", "1 of 4", NEAR)]),
    ],
)  # fmt: skip
def test_what_a_user_should_know_before_training_is_noted(tables, notes):
    assert split(*tables)[2] == notes


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


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["good", "nan", "bad", "None", "nan"],
         ["missing values: 'nan' (2), 'None' (1); line 3, 5, 6; --drop_label None nan leaves"]),
        (["a#b", "b", "a"], ["labels that look like lists", "'a#b'; line 2; write one label"]),
        (['"[\'a\', \'b\']"', "['b']", "['b']", "['b']"],
         ["look like lists", "line 2, 3, 4 and 1 more"]),
        *((labels, None)  # ordinary ones
          for labels in [["c++", "c#", "a/b testing"], ['"a, b"', "c"], ["a-b", "a", "b"]]),
    ],
)  # fmt: skip
def test_strange_labels_are_noted_with_their_lines(read, labels, words):
    _, notes = read(labelled(*labels))
    assert len(notes) == (2 if words is None else 3)
    assert all(each in notes[2] for each in words or ())


def test_labels_and_small_classes_can_be_left_out(read):
    lines = labelled("a", "a", "a", "b", "b", "b", "c", "nan", "d")
    splits, notes = read(lines, drop_label=("nan",), min_class_size=2)
    assert splits == {"train": list("aaabbb")}
    assert notes[-1] == "3 examples left out: 'c' (1), 'd' (1), 'nan' (1)"
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


# ----------------------------------------------------------------------------------------- corpora


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_three_classes(tmp_path_factory.mktemp("three"))


def load(files, **options):
    return load_corpus(DataConfig(), CustomData(**({"data": files["csv"]} | options)))


def test_each_file_is_read_and_its_columns_are_noted(files):
    paths = {"validation_data": files["jsonl"], "test_data": files["json"]}
    corpus = load(files, **paths, text_column=(TEXT,), label_column=LABEL)
    assert corpus.class_names == ("order", "other", "return")
    for split_ in corpus.splits.values():
        assert [(corpus.class_names[k], text) for k, text in pairs_of(split_)] == three_classes()
    assert corpus.text_columns == (TEXT,)
    columns = f"texts {TEXT!r}, labels {LABEL!r}"
    assert corpus.notes[1::2][:3] == [
        f"{files['csv']}: {columns}, not used 'id'", f"{files['jsonl']}: {columns}",
        f"{files['json']}: {columns}",
    ]  # fmt: skip
    assert corpus.notes[0] == (
        f"{files['csv']}: CSV, UTF-8, separator comma, quoting double; 300 examples in 432 lines, "
        "25 with the text of an earlier one"
    )
    assert any("also in the training data" in note for note in corpus.notes[6:])
    swapped = load(
        files, text_column=(LABEL,), label_column="id", **dict.fromkeys(paths, files["csv"])
    )
    assert (swapped.num_classes, len({*swapped.splits["train"]["Text"]})) == (300, 3)


BOTH = {"train_size": 50, "split_seed": 7, "split": (80, 10, 10)}
OPTIONS = {  # the first digits of the digest that records contain, for each kind of split
    "c01101ead8e9b529": {}, "ed66c3a4a10f6219": BOTH, "bdc39d68969d7fc5": BOTH | {"balance": True},
}  # fmt: skip


def test_digests_identify_the_splits_and_what_was_split_how(files, tmp_path):
    other = tmp_path / "other.csv"
    other.write_bytes(files["csv"].read_bytes().replace(b",other\r", b",others\r"))
    one, *others = (
        load(files, **options)
        for options in [
            {}, {"split": (80, 10, 10)}, {"balance": True}, {"train_size": 50}, {"data": other},
            {"validation_data": files["csv"]}, {"test_data": files["csv"]},
        ]
    )  # fmt: skip
    assert len({corpus.digest for corpus in (one, *others)}) == 7
    assert len({corpus.whole for corpus in (one, *others)}) == 7
    assert one.whole == "8d9ca6308cbf2abe0cd8905ee248fd215b3190aa296ccb858ac9f427760d3ba4"
    seed = load(files, split_seed=5)
    assert (seed.whole == one.whole, seed.digest == one.digest) == (True, False)
    assert load(files, data=files["jsonl"]).digest == one.digest
    for digest, options in OPTIONS.items():
        assert load(files, **options).digest.startswith(digest)


def test_the_demo_has_a_digest_of_its_own_and_two_classes():
    corpus = load_corpus(DataConfig(demo=True), CustomData())
    assert corpus.class_names == ("ham", "spam")
    assert [len(split) for split in corpus.splits.values()] == [251, 36, 73]
    assert corpus.digest == digest_of(corpus.splits, corpus.class_names)
    assert corpus.digest[:16] == "fc9cf4bfcdf6dc9e"


def test_equal_texts_have_the_index_of_the_first():
    assert same_texts(["a", "b", "a", "c", "b", "A"]) == [0, 1, 0, 3, 1, 5]
