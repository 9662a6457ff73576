import re

import pytest
from records import make_record, make_stand_in, some_records

from experiments.comparison.groups import group_records
from experiments.comparison.pairs import OF_BASELINES, QUESTIONS, compare_pair
from experiments.config.rows import ROWS
from experiments.config.settings import BASELINES


def test_a_pair_shows_its_question_its_test_and_the_messages_that_differ():
    groups = group_records(some_records())
    texts = [f"text {i}" for i in range(12)]
    text = compare_pair(groups["row 01"], groups["row 16"], 0.01, texts)
    question, _, said, _, *runs = text.splitlines()
    assert question == QUESTIONS[16]
    assert said.startswith("Whether row 16 is better or worse than row 01 is not known")
    assert [line.partition(" ")[0] for line in runs[:3]] == ["row", "row", "Only"]
    assert runs[3] == ""
    assert "row 16 minus row 01, a mean over 2 seeds:" in text
    assert "\n\nTest messages on which they differ, at the first seed:\n" in text
    assert "Only row 01 right: 2; only row 16 right: 1; exact McNemar p = 1" in text
    assert "points -4.17" in text  # (9 - 10 + 11 - 11) / 24
    listed = [line for line in text.splitlines() if "P(spam)" in line]
    assert [line.split()[0] for line in listed] == ["1", "7", "8"]
    assert "text 7" in listed[1]


def test_every_row_but_the_first_and_every_baseline_has_its_question():
    assert list(QUESTIONS) == [row for row in ROWS if row != 1]
    assert len(set(QUESTIONS.values())) == len(QUESTIONS)
    assert list(OF_BASELINES) == [f"baseline {name}" for name in BASELINES]


def pair_of(*records):
    groups = group_records(records)
    return compare_pair(*groups.values(), 0.01)


def seeds(row, wrong_of_each, **more):
    return [make_record(row, seed=i, wrong=wrong, **more) for i, wrong in enumerate(wrong_of_each)]


def test_the_verdict_of_a_pair_is_over_all_seeds_whatever_the_first_one_says():
    first, second = [range(10), *[range(3)] * 4], [[], *[range(15)] * 4]
    text = pair_of(*seeds(1, first, total=300), *seeds(4, second, total=300))
    assert "exact McNemar p = 0.00195, of this seed alone" in text
    assert "Whether row 04 is better or worse than row 01 is not known: -2.53 points" in text
    assert "row 04 is better than" not in text


def test_a_pair_shows_accuracy_and_losses_and_where_the_spread_comes_from():
    first, second = [[1, 2, 3, 4, 5], [1], []], [[1, 2, 3], [], [1]]
    text = pair_of(*seeds(1, first), *seeds(16, second))
    assert "row 16 minus row 01, a mean over 3 seeds:" in text
    lines = {line[:23].strip(): line[24:] for line in text.splitlines() if line.startswith("  ")}
    assert lines["test accuracy, points"].startswith("+5.56 (")  # 2 of 36
    assert lines["log loss"].startswith("-0.1221 (")  # 2 / 36 ln(0.1 / 0.9)
    assert lines["Brier score"].startswith("-0.0444 (")  # 2 / 36 (0.9² - 0.1²)
    shares = [int(n) for n in re.findall(r"(\d+) %", text.partition("variance of the mean")[2])]
    assert sum(shares) in (99, 100, 101)


def test_a_pair_of_one_seed_has_no_interval_of_other_seeds():
    text = pair_of(make_record(1, wrong=[1]), make_record(16, wrong=[2, 3]))
    assert "row 16 minus row 01, a mean over 1 seed:" in text
    assert "test accuracy, points -8.33\n" in text
    assert "variance of the mean" not in text
    assert "Nothing is known of other seeds." in text


def test_the_margin_is_of_the_pair():
    records = [*seeds(1, [[1]] * 3, total=300), *seeds(16, [[1]] * 3, total=300)]
    groups = group_records(records)
    assert "is equivalent to row 01 within 1 point" in compare_pair(*groups.values(), 0.01)
    assert "is not known" in compare_pair(*groups.values(), 0.009)


def test_a_pair_needs_the_same_messages():
    with pytest.raises(ValueError, match="other messages, 12 and 10 with 6 and 5 of them spam"):
        pair_of(make_record(1), make_record(16, total=10, data="b" * 64))


def test_a_pair_of_one_design_names_what_differs():
    text = pair_of(make_record(1, wrong=[1]), make_record(1, precision="bfloat16"))
    assert text.startswith("row 01 (no flags) or row 01, bfloat16 (no flags)?")
    assert "Only row 01 right: 0; only row 01, bfloat16 right: 1" in text
    assert "They differ in precision, and not by their rows alone." in text
    assert "(gpt2-small (124M), pretrained weights, bfloat16), seed 123" in text


def test_the_question_of_two_rows_is_asked_where_nothing_else_differs():
    text = pair_of(make_record(1), make_record(16, precision="bfloat16"))
    assert text.startswith("row 01 (no flags) or row 16, bfloat16 (--trainable_token_pos")


def test_a_pair_says_which_is_better():
    text = pair_of(make_record(1, wrong=range(10), total=40), make_record(16, total=40))
    assert "only row 16 right: 10; exact McNemar p = 0.00195" in text
    assert "With seed 123 alone, row 16 is better than row 01: of 40 test messages, only" in text


def test_a_pair_of_stand_ins_names_them_once_a_line():
    a = "1a2b3c4d".ljust(64, "0")
    text = pair_of(make_stand_in(1, a), make_stand_in(16, a, wrong=[1]))
    assert text.startswith(QUESTIONS[16])
    assert "row 01 (checkpoint tiny.safetensors 1a2b3c4d), seed 123: 12 of 12" in text
    assert "Only row 01 right: 1; only row 16 right: 0" in text
    assert "differ in" not in text


def test_a_pair_across_devices_says_so():
    cuda = make_record(16, environment={"device": "NVIDIA A100", "device_type": "cuda"})
    assert "They were run on cpu and cuda" in pair_of(make_record(1), cuda)
    assert "They were run on" not in pair_of(make_record(1), make_record(16))
