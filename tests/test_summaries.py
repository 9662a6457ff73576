import math

import numpy as np
import pytest
from records import make_record, make_stand_in, some_records

from experiments.comparison.groups import group_records
from experiments.comparison.statistics import wilson_interval
from experiments.comparison.summaries import summarise
from experiments.config.published import CHECKPOINT_SHA256


def by_name(records):
    return {s.name: s for s in summarise(group_records(records))}


def test_a_summary_is_of_the_first_seed_and_of_all():
    s = by_name(some_records())["row 16"]
    assert (s.right, s.total, s.seeds, s.seed) == (9, 12, 2, 123)
    assert s.mean == pytest.approx((9 + 11) / 24)
    assert s.deviation == pytest.approx(np.std([9 / 12, 11 / 12], ddof=1))
    assert (s.lowest, s.highest) == (9 / 12, 11 / 12)
    assert s.unseen_accuracy == pytest.approx(7 / 10)  # 0 and 3 occur in training
    assert s.train_seconds == 1 + 2 + 16
    assert s.interval == wilson_interval(9, 12)


def test_each_row_is_held_against_row_1():
    found = by_name(some_records())
    row_1, row_16 = found["row 01"], found["row 16"]
    assert (row_1.evidence, row_1.verdict, row_1.sentence) == (None, "", "")
    assert (row_16.evidence.only_first, row_16.evidence.only_second) == (2, 1)
    assert row_16.evidence.seeds == [123, 124]
    assert (row_16.verdict, row_16.evidence.p_value) == ("not known", None)


def test_a_difference_of_one_seed_that_holds_is_put_in_words():
    records = [make_record(1, wrong=range(10), total=40), make_record(4, total=40)]
    assert by_name(records)["row 04"].verdict == "better"
    records = [make_record(1, total=40), make_record(4, wrong=range(10), total=40)]
    assert by_name(records)["row 04"].verdict == "worse"


def test_the_verdict_is_that_of_the_p_value_corrected_over_the_rows_shown():
    base = make_record(1, total=40)
    row_4 = make_record(4, wrong=range(6), total=40)  # p = 1/32
    assert by_name([base, row_4])["row 04"].verdict == "worse"
    row_4 = by_name([base, row_4, make_record(16, total=40)])["row 04"]
    assert row_4.evidence.p_value == 2 / 2**6
    assert row_4.evidence.corrected_p_value == 4 / 2**6
    assert row_4.evidence.compared == 2
    assert row_4.verdict == "not known"


def test_a_row_of_two_seeds_has_no_part_in_the_correction():
    records = [make_record(1, total=40), make_record(1, seed=124, total=40)]
    records += [make_record(4, wrong=range(6), total=40), make_record(16, total=40)]
    records += [make_record(16, seed=124, total=40)]
    found = by_name(records)
    assert found["row 04"].evidence.corrected_p_value == 2 / 2**6
    assert found["row 16"].evidence.corrected_p_value is None


def test_the_margin_is_the_one_asked_for():
    records = [make_record(row, seed=seed, total=300) for row in (1, 18) for seed in range(3)]
    groups = group_records(records)
    assert [summarise(groups, margin)[1].verdict for margin in (0.01, 0.005)] == [
        "equivalent",
        "not known",
    ]


def test_each_weights_have_their_own_row_1():
    a, b = "a" * 64, "b" * 64
    found = by_name([
        make_stand_in(1, a, wrong=[1]),
        make_stand_in(2, b, wrong=[2, 3]),
        make_record(1, wrong=[4]),
        make_record(6, wrong=[5, 6, 7], weights=CHECKPOINT_SHA256["355M"]),
    ])  # fmt: skip
    held = {name: s.evidence for name, s in found.items() if s.evidence}
    tested = {name: (e.only_first, e.only_second) for name, e in held.items()}
    assert tested == {"row 06": (3, 1)}
    row_2 = found["row 02, checkpoint tiny.safetensors bbbbbbbb"]
    assert (row_2.seeds, row_2.verdict, row_2.weights) == (1, "", b)
    assert row_2.stand_in == "checkpoint tiny.safetensors bbbbbbbb"
    assert found["row 06"].stand_in is None


def test_a_baseline_is_held_against_row_1_where_there_is_one_alone():
    majority = make_record(None, wrong=[0, 2], name="baseline majority")
    assert by_name([make_record(1), majority])["baseline majority"].evidence.only_first == 2
    bases = [make_record(1), make_record(1, precision="bfloat16")]
    assert by_name([*bases, majority])["baseline majority"].evidence is None


def test_every_device_of_a_group_is_named_once():
    cuda = {"device": "NVIDIA A100", "device_type": "cuda"}
    records = [make_record(seed=seed, environment=cuda) for seed in (2, 3)]
    assert by_name([make_record(seed=1), *records])["row 01"].device == "cpu; NVIDIA A100"


def test_a_reused_prefix_counts_as_if_it_had_been_computed():
    reused = make_record(1, prefix_reused=True, seconds={"prefix": 30.0, "train": 2.0})
    assert by_name([reused])["row 01"].train_seconds == 32
    others = [make_record(1, seed=seed, seconds={"train": seed}) for seed in (124, 500)]
    assert by_name([reused, *others])["row 01"].train_seconds == 124  # the median


def test_where_training_holds_every_test_message_nothing_is_unseen():
    record = make_record(1)
    record["test"]["in_training"] = [True] * 12
    assert math.isnan(by_name([record])["row 01"].unseen_accuracy)
