import numpy as np
import pytest
from records import make_record, make_stand_in, some_records

from experiments.comparison.groups import group_records
from experiments.comparison.pairs import QUESTIONS, compare_pair
from experiments.comparison.statistics import bootstrap_interval, t_interval
from experiments.comparison.tables import percent_interval


def test_a_pair_shows_its_question_its_test_and_the_messages_that_differ():
    groups = group_records(some_records())
    text = compare_pair(groups["row 01"], groups["row 16"], [f"text {i}" for i in range(12)])
    assert text.startswith(QUESTIONS[16])
    assert "Only row 01 right: 2; only row 16 right: 1; exact McNemar p = 1" in text
    assert "mean -4.17" in text  # (9 - 10 + 11 - 11) / 24
    listed = [line for line in text.splitlines() if "P(spam)" in line]
    assert [line.split()[0] for line in listed] == ["1", "7", "8"]
    assert "text 7" in listed[1]


def test_the_two_spreads_of_a_pair_are_kept_apart():
    groups = group_records(some_records())
    text = compare_pair(groups["row 01"], groups["row 04"])
    assert "other seeds, these messages" in text
    assert "other messages, these seeds" in text


def pair_of(*records):
    groups = group_records(records)
    return compare_pair(*groups.values())


def seeds(row, wrong_of_each):
    return [make_record(row, seed=i, wrong=wrong) for i, wrong in enumerate(wrong_of_each)]


def test_the_interval_over_seeds_is_that_of_the_differences():
    first, second = [[1, 2, 3, 4, 5], [1], []], [[1, 2, 3], [], [1]]
    text = pair_of(*seeds(1, first), *seeds(16, second))
    expected = percent_interval(t_interval([2 / 12, 1 / 12, -1 / 12]))
    assert f"other seeds, these messages: 95 % {expected} (t)" in text


def test_the_interval_over_messages_is_of_every_seed():
    text = pair_of(*seeds(1, [[1], [1, 2]]), *seeds(16, [[3], []]))
    differences = np.zeros(12)
    differences[[1, 2, 3]] = 1, 0.5, -0.5
    expected = percent_interval(bootstrap_interval(differences))
    assert f"other messages, these seeds: 95 % {expected} (bootstrap)" in text
    text = pair_of(*seeds(1, [[1], [2]]), *seeds(16, [[2], [1]]))  # over both seeds, no difference
    assert "95 % needs messages that differ (bootstrap)" in text


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([[1]], [[2, 3]], "needs two seeds"),
        ([[1], [1, 2]], [[], [1]], "needs seeds that differ"),
        ([[], [], []], [[1], [2], [3]], "needs seeds that differ"),
    ],
)
def test_no_interval_over_seeds_is_without_width(first, second, words):
    assert f"95 % {words} (t)" in pair_of(*seeds(1, first), *seeds(16, second))


@pytest.mark.fault("other messages")
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
    assert "only row 16 right: 10; exact McNemar p = 0.00195: row 16 is better." in text


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
