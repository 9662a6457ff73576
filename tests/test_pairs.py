import json
import re

import pytest
from records import CUDA, make_baseline, make_run, make_seeds, make_substitute
from three_classes import write_three_classes

from experiments.comparison.groups import group_runs
from experiments.comparison.pairs import (
    QUESTIONS,
    QUESTIONS_OF_BASELINES,
    describe_pair,
    find_texts,
)
from experiments.comparison.summaries import summarise
from experiments.config.parsing import parse_args
from experiments.config.rows import ROWS
from experiments.config.settings import BASELINES
from experiments.data.corpus import load_corpus


def pair_of(*runs, margin=0.01, texts=None):
    groups = group_runs(runs)
    return describe_pair(groups, *groups.values(), margin, texts=texts)


PAIR = """
The comparison of row 16 with row 1 is inconclusive: +13.89 points of test accuracy, 95 % \
confidence interval -38.55 to +66.33, p = 0.55, from 3 seeds and 12 test examples. Minimum \
detectable difference at 80 % power, estimated from 3 seeds: 64.3 points worse; the observed one \
is too small for any number of seeds or examples alone.
All results are conditional on this train/test split.

| mean of 3 seeds           | row 1 | row 16 | difference (95 % interval) |
| ------------------------- | ----- | ------ | -------------------------- |
| test accuracy, %          | 75.00 | 88.89  | +13.89 (-38.55 to +66.33)  |
| balanced test accuracy, % | 75.00 | 88.89  | +13.89 (-38.55 to +66.33)  |
| log loss                  | 0.655 | 0.349  | -0.305 (-1.208 to +0.598)  |
| Brier score               | 0.210 | 0.099  | -0.111 (-0.440 to +0.218)  |

Variance of the mean difference: seeds 12 %, examples 75 %, both together 13 %; \
seeds at most 72 % (95 % limit).

5 test examples that just one classifies correctly, with seed 0:
    1 spam P(spam) 0.100 and 0.900  text 1
    2 ham  P(spam) 0.900 and 0.100  text 2
    3 spam P(spam) 0.100 and 0.900  in training  text 3
    5 spam P(spam) 0.100 and 0.900  text 5
    8 ham  P(spam) 0.100 and 0.900  text 8"""


def test_a_pair_has_its_question_its_tests_and_the_examples_that_differ():
    first, second = [[1, 2, 3, 4, 5], [1, 2, 4], [2]], [[4, 8], [8], [8]]
    runs = [*make_seeds(1, first, 12), *make_seeds(16, second, 12)]
    text = pair_of(*runs, texts=[f"text\r\n{i}" for i in range(12)])
    assert text == f"{QUESTIONS[16]}\n{PAIR}"


def test_every_row_but_the_first_and_every_baseline_has_its_question():
    assert list(QUESTIONS) == [row for row in ROWS if row != 1]
    assert len(set(QUESTIONS.values())) == len(QUESTIONS)
    assert list(QUESTIONS_OF_BASELINES) == [f"baseline {name}" for name in BASELINES]


def table_of(text):
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): row[-1].strip() for row in rows}


def test_one_seed_has_no_interval_over_other_seeds():
    text = pair_of(make_run(1, wrong=[1]), make_run(16, wrong=[2, 3]))
    assert table_of(text)["mean of 1 seed"] == "difference (95 % interval)"
    assert table_of(text)["test accuracy, %"] == "-8.33"
    assert "Variance of the mean" not in text
    assert text.endswith("    3 spam P(spam) 0.900 and 0.100  in training")


def test_the_sentence_is_that_of_the_table_with_p_values_corrected_over_all_designs():
    wrong = {1: [[1]] * 3, 4: [[2]] * 3, 5: [[3], [4], []], 16: [range(9), range(8), range(9)]}
    runs = [run for row, of in wrong.items() for run in make_seeds(row, of)]
    groups = group_runs([*runs, *make_seeds(2, [[]] * 3, precision="bfloat16")])
    text = describe_pair(groups, groups["row 1"], groups["row 4"], 0.03)
    (of_table,) = (s.sentence for s in summarise(groups, 0.03) if s.name == "row 4")
    assert text.splitlines()[2] == of_table
    assert "Row 4 is equivalent to row 1 within 3 points" in of_table
    assert "Holm-adjusted over 3 designs" in of_table


def test_at_most_so_many_examples_are_listed():
    runs = [make_run(1, total=40), make_run(16, wrong=range(30), total=40)]
    groups = group_runs(runs)
    text = describe_pair(groups, *groups.values(), 0.02, most=20)
    heading, *examples = text[text.index("30 test examples") :].splitlines()
    assert heading.endswith("with seed 123; the first 20 (--all_examples prints all):")
    assert (len(examples), pair_of(*runs).count("P(spam)")) == (20, 30)


def test_a_baseline_is_paired_with_every_seed_whichever_comes_first():
    networks, majority = make_seeds(1, [[1], [2], []], 12), make_baseline(wrong=[1, 3, 5])
    groups = group_runs([*networks, make_baseline("bag_of_words", wrong=[0]), majority])
    for first, second, question, count, difference in (
        ("row 1", "baseline majority", QUESTIONS_OF_BASELINES["baseline majority"], 3, "-19.44"),
        ("baseline majority", "row 1", "baseline majority or row 1?", 3, "+19.44"),
        ("baseline majority", "baseline bag_of_words",
         "baseline majority or baseline bag_of_words?", 1, "+16.67"),
    ):  # fmt: skip
        text = describe_pair(groups, groups[first], groups[second], 0.02)
        assert text.startswith(question)
        assert f"mean of {count} seed" in text
        assert table_of(text)["test accuracy, %"].split()[0] == difference
        assert (" with seed 0" in text) == (count == 3)


def test_a_pair_needs_a_shared_seed_and_the_same_examples():
    with pytest.raises(ValueError, match="row 1 and row 4 share no seed"):
        pair_of(make_run(1), make_run(4, seed=9))
    with pytest.raises(ValueError, match=r"tested on different examples \(12 and 10\)"):
        pair_of(make_run(1), make_run(16, total=10, data="b" * 64))


def test_a_pair_says_how_its_runs_differ():
    devices = "The runs were computed on cpu and cuda, whose rounding and speed differ."
    other = make_run(1, precision="bfloat16", environment=CUDA)
    text = pair_of(make_run(1, wrong=range(1, 12, 2)), other)
    assert text.startswith("row 1 (no flags) or row 1, bfloat16 (no flags)?")
    assert "6 are classified correctly by row 1, bfloat16 only and 0 by row 1 only" in text
    assert "They differ in precision, not in their rows alone." in text
    assert devices in text
    assert "row 1: 1 of 1 seed predicted one class only (123). 1 good seed misses" in text
    text = pair_of(*(make_substitute(row, "a" * 64, wrong=[1] * (row - 1)) for row in (1, 16)))
    assert text.startswith(QUESTIONS[16])
    assert text.count("checkpoint tiny.safetensors") == 1
    assert "0 are classified correctly by row 16 only and 1 by row 1 only" in text
    text += pair_of(make_run(16, environment=CUDA), make_baseline())
    assert not re.search("differ in|computed on", text)


def test_a_pair_with_several_classes_has_the_probability_of_the_correct_one():
    tests = [
        {"labels": [0, 1, 2], "predictions": of, "in_training": [False] * 3,
         "probabilities": [[0.8 if k == i else 0.1 for k in range(3)] for i in of]}
        for of in ([0, 1, 2], [1, 1, 2])
    ]  # fmt: skip
    runs = [
        make_run(1 + 3 * i, test=test, classes=["a", "bb", "c"]) for i, test in enumerate(tests)
    ]
    assert pair_of(*runs).splitlines()[-1] == "    0 a  P(a) 0.800 and 0.100"


# ------------------------------------------------------------------------------------------- texts

FLAGS = ["--split", "60/20/20", "--split_seed", "5", "--balance", "--train_size", "60"]


@pytest.fixture
def file(tmp_path):
    return write_three_classes(tmp_path)["csv"]


@pytest.mark.parametrize("flags", [[], FLAGS, ["--text_column", "question", "--split", "80/10/10"]])
def test_custom_texts_are_read_again_with_the_split_of_the_record(file, flags, tmp_path):
    words = ["--data", str(file), *flags]
    settings = parse_args(words)
    corpus = load_corpus(settings.data, settings.custom)
    texts = corpus.splits["test"]["Text"].tolist()
    custom = json.loads(json.dumps(settings.custom_values))
    for more in ({"custom": custom}, {"flags": words}):  # which the first records have
        split = {"of": corpus.whole, "seed": settings.custom.split_seed} | more
        run = make_run(1, data=corpus.digest, split=split, total=len(texts))
        assert find_texts([run], tmp_path / "none.csv") == {run.data: texts}
        assert find_texts([run], tmp_path / "none.csv", custom=False) == {}


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        ({"custom": {"data": "-"}}, "standard input, which cannot be read again"),
        ({"custom": {}}, "cannot be read again"),
        ({"custom": {"data": "nowhere.csv"}}, "nowhere.csv"),
        ({"custom": {"data": "{file}"}}, "contains other examples than at the time of training"),
        ({"custom": {"data": "{file}", "other": 1}}, "other"),
        ({"custom": {"data": "{file}", "split": 5}}, "not iterable"),
        ({"flags": ["--data", "{file}", "--split_seed", "x"]}, "'x'"),
        ({"flags": ["--data", "{file}", "--split"]}, "invalid literal"),
        ({"flags": ["--data", "-"]}, "standard input"),
    ],
)
def test_texts_that_are_not_available_are_reported(split, problem, file, tmp_path, capsys):
    split = json.loads(json.dumps(split).replace("{file}", str(file)))
    run = make_run(1, data="a" * 64, split={"of": "b" * 64, "seed": 5} | split)
    assert find_texts([run], tmp_path / "none.csv") == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Texts are not available: ")
    assert problem in line


def test_a_csv_file_is_used_for_runs_with_its_labels_and_no_file_is_needed(tmp_path, capsys):
    earlier = make_run(1, data="a" * 64, split={"of": "b" * 64, "seed": 5})
    assert find_texts([earlier, make_run(1)], tmp_path / "none.csv") == {}
    assert capsys.readouterr().err == ""
    run, file = make_run(1), tmp_path / "test.csv"
    rows = [f"{label},text {i}" for i, label in enumerate(run.test["labels"])]
    file.write_text("\n".join(["Label,Text", *rows]))
    assert find_texts([run], file)[run.data][7] == "text 7"
    file.write_text("\n".join(["Label,Text", *reversed(rows)]))
    assert find_texts([run], file) == {}
