import re

import pytest
from records import make_baseline, make_run, make_seeds, make_substitute, some_runs

from experiments.comparison.groups import group_runs
from experiments.comparison.pairs import QUESTIONS, QUESTIONS_OF_BASELINES, describe_pair
from experiments.comparison.sentences import FIXED
from experiments.config.rows import ROWS
from experiments.config.settings import BASELINES


def pair_of(*runs, margin=0.01, texts=None):
    groups = group_runs(runs)
    return describe_pair(*groups.values(), margin, texts)


def test_a_pair_has_its_question_its_tests_and_the_examples_that_differ():
    texts = [f"text\r\n{i}" for i in range(12)]
    runs = [run for run in some_runs() if run.row in (1, 16)]
    lines = pair_of(*runs, texts=texts).splitlines()
    assert lines[0] == QUESTIONS[16]
    assert lines[2].startswith("The comparison of row 16 with row 1 is inconclusive: 2 seeds say")
    assert lines[3:] == [
        FIXED,
        "",
        "row 1 (gpt2-small (124M), pretrained weights), seed 123: 10 of 12, 83.33% (55.2 to 95.3)",
        "row 16 (gpt2-small (124M), pretrained weights), seed 123: 9 of 12, 75.00% (46.8 to 91.1)",
        "Only row 1 correct: 2; only row 16 correct: 1; exact McNemar p = 1, of this seed only",
        "",
        "row 16 minus row 1, mean over 2 seeds:",
        "  test accuracy, points -4.17",
        "  log loss              +0.0916",
        "  Brier score           +0.0333",
        "",
        "Test examples on which they differ, at the first seed:",
        "    1 spam P(spam) 0.100 and 0.900  text 1",
        "    7 spam P(spam) 0.900 and 0.100  text 7",
        "    8 ham  P(spam) 0.100 and 0.900  text 8",
    ]


def test_every_row_but_the_first_and_every_baseline_has_its_question():
    assert list(QUESTIONS) == [row for row in ROWS if row != 1]
    assert len(set(QUESTIONS.values())) == len(QUESTIONS)
    assert list(QUESTIONS_OF_BASELINES) == [f"baseline {name}" for name in BASELINES]


def test_three_seeds_have_intervals_and_the_components_of_their_variance():
    first, second = [[1, 2, 3, 4, 5], [1], []], [[1, 2, 3], [], [1]]
    text = pair_of(*make_seeds(1, first, 12), *make_seeds(16, second, 12))
    lines = {line[:23].strip(): line[24:] for line in text.splitlines() if line.startswith("  ")}
    assert lines["test accuracy, points"].startswith("+5.56 (")  # 2 of 36
    assert lines["log loss"].startswith("-0.1221 (")  # 2 / 36 ln(0.1 / 0.9)
    assert lines["Brier score"].startswith("-0.0444 (")  # 2 / 36 (0.9² - 0.1²)
    variance = text.partition("variance of the mean difference in accuracy: ")[2].partition("\n")[0]
    names, shares = zip(*re.findall(r"(\w[\w ]*) (\d+) %", variance), strict=True)
    assert names == ("seeds", "examples", "both together")
    assert sum(map(int, shares)) in (99, 100, 101)


def test_one_seed_has_no_interval_over_other_seeds():
    text = pair_of(make_run(1, wrong=[1]), make_run(16, wrong=[2, 3]))
    assert "row 16 minus row 1, mean over 1 seed:" in text
    assert "test accuracy, points -8.33\n" in text
    assert "variance of the mean" not in text
    assert re.search(r"    3 spam P\(spam\) 0.900 and 0.100  in training$", text)


def test_the_margin_is_that_of_the_pair():
    runs = make_seeds(1, [[1]] * 3) + make_seeds(16, [[1]] * 3)
    assert "is equivalent to row 1 within 1 point" in pair_of(*runs)
    assert "is inconclusive" in pair_of(*runs, margin=0.009)


def test_a_pair_needs_a_shared_seed_and_the_same_examples():
    with pytest.raises(ValueError, match="row 1 and row 4 share no seed"):
        pair_of(make_run(1), make_run(4, seed=9))
    with pytest.raises(ValueError, match=r"tested on different examples \(12 and 10\)"):
        pair_of(make_run(1), make_run(16, total=10, data="b" * 64))


def test_a_pair_under_different_conditions_says_how_they_differ():
    text = pair_of(make_run(1, wrong=[1]), make_run(1, precision="bfloat16"))
    assert text.startswith("row 1 (no flags) or row 1, bfloat16 (no flags)?")
    assert "Only row 1 correct: 0; only row 1, bfloat16 correct: 1" in text
    assert "They differ in precision, not in their rows alone." in text
    assert "(gpt2-small (124M), pretrained weights, bfloat16), seed 123" in text
    text = pair_of(make_run(1), make_run(16, precision="bfloat16"))
    assert text.startswith("row 1 (no flags) or row 16, bfloat16 (--trainable_token_pos")


def test_a_pair_of_substitutes_names_them_once_a_line():
    a = "1a2b3c4d".ljust(64, "0")
    text = pair_of(make_substitute(1, a), make_substitute(16, a, wrong=[1]))
    assert text.startswith(QUESTIONS[16])
    assert "row 1 (checkpoint tiny.safetensors 1a2b3c4d), seed 123: 12 of 12" in text
    assert "Only row 1 correct: 1; only row 16 correct: 0" in text
    assert "differ in" not in text


def test_a_pair_with_several_classes_has_the_probability_of_the_correct_one():
    predictions = [[0, 1, 2], [1, 1, 2]]
    tests = [
        {"labels": [0, 1, 2], "predictions": p, "in_training": [False] * 3,
         "probabilities": [[0.8 if k == i else 0.1 for k in range(3)] for i in p]}
        for p in predictions
    ]  # fmt: skip
    runs = [
        make_run(row, test=t, classes=["a", "bb", "c"])
        for row, t in zip((1, 4), tests, strict=True)
    ]
    assert pair_of(*runs).splitlines()[-1] == "    0 a  P(a) 0.800 and 0.100"


def test_a_pair_on_several_devices_says_so():
    cuda = make_run(16, environment={"device": "NVIDIA A100", "device_type": "cuda"})
    words = "They were run on cpu and cuda, which round differently."
    assert words in pair_of(make_run(1), cuda)
    assert words not in pair_of(make_run(1), make_run(16))
    assert words not in pair_of(cuda, make_baseline())
