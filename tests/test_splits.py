import math

import numpy as np
import pytest
from records import make_record
from scipy import stats

from experiments.comparison.groups import group_records
from experiments.comparison.splits import mean_of_splits, over_splits
from experiments.comparison.summaries import summarise


def split_of(number, **more):
    """What records of a split have in common."""
    split = {"of": "f" * 64, "seed": number}
    return {"data": str(number) * 64, "split": split, "correct": {"train": [90, 100]}} | more


def said(*records):
    groups = group_records(records)
    return over_splits(groups, summarise(groups))


def some_splits(count=3, **more):
    return [
        make_record(row, seed=seed, wrong=wrong, total=40, **split_of(number, **more))
        for number in range(1, count + 1)
        for seed in (1, 2, 3)
        for row, wrong in ((1, range(8)), (4, range(number)))
    ]


def test_the_mean_of_splits_has_an_interval_over_other_splits():
    (text,) = said(*some_splits())
    mean = np.mean([7, 6, 5]) / 40
    half = stats.t.ppf(0.975, 2) / 40 * math.sqrt(1 / 3 + 40 / 100)
    assert text == (
        "Over 3 splits of the same messages (--split_seed 1, 2, 3), row 04 minus row 01: "
        f"{100 * mean:+.2f} points of test accuracy, 95 % interval {100 * (mean - half):+.2f} to "
        f"{100 * (mean + half):+.2f}, over other splits."
    )


def test_overlapping_training_sets_widen_the_interval():
    found = mean_of_splits([0.01, 0.02, 0.04], test=20, training=70)
    expected = stats.ttest_1samp([0.01, 0.02, 0.04], 0).confidence_interval()
    ratio = math.sqrt((1 / 3 + 20 / 70) / (1 / 3))
    low, high = found.interval(0.05)
    assert high - low == pytest.approx(ratio * (expected.high - expected.low))


def test_two_splits_say_nothing():
    assert said(*some_splits(2)) == []


def test_splits_of_other_messages_or_made_in_another_way_do_not_go_together():
    records = some_splits()
    for record in records[-6:]:
        record["split"] = {"of": "e" * 64, "seed": 3}
    assert said(*records) == []


@pytest.mark.parametrize(
    "change", [{"name": "row 05", "row": 5}, {"weights": "a" * 64}, {"precision": "bfloat16"}]
)
def test_splits_of_another_design_go_with_those_of_their_own(change):
    records = some_splits()
    others = [r | change for r in records if r["split"]["seed"] == 3 and r["row"] == 4]
    if "row" not in change:
        others += [r | change for r in records if r["split"]["seed"] == 3 and r["row"] == 1]
    rest = [r for r in records if r["split"]["seed"] < 3 or r["row"] == 1]
    assert said(*rest, *others) == []


def test_records_that_tell_no_split_have_none():
    records = [record | {"split": None} for record in some_splits()]
    assert said(*records) == []
    assert said(*({k: v for k, v in r.items() if k != "split"} for r in records)) == []


def test_splits_of_which_none_differs_have_no_interval():
    records = [record for record in some_splits() if record["row"] == 1]
    (text,) = said(*records, *(r | {"row": 18, "name": "row 18"} for r in records))
    assert "row 18 minus row 01: +0.00 points of test accuracy, over other splits." in text
