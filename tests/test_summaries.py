import math

import numpy as np
import pytest
from records import make_run, make_seeds, some_runs

from experiments.comparison.groups import group_runs
from experiments.comparison.metrics import METRICS
from experiments.comparison.statistics import wilson_interval
from experiments.comparison.summaries import MEANS, summarise
from experiments.system.terminal import UsageError


def by_name(runs, margin=0.01):
    return {s.name: s for s in summarise(group_runs(runs), margin)}


def test_a_summary_is_of_the_first_seed_and_of_all():
    s = by_name(some_runs())["row 16"]
    assert (s.right, s.total, s.seeds) == (9, 12, 2)
    assert s.mean == pytest.approx((9 + 11) / 24)
    assert s.deviation == pytest.approx(np.std([9 / 12, 11 / 12], ddof=1))
    assert (s.lowest, s.highest) == (9 / 12, 11 / 12)
    assert s.accuracy_without_duplicates == pytest.approx(7 / 10)  # 0 and 3 are in training
    assert s.interval == wilson_interval(9, 12)
    assert s.published_percent == 98.33


def test_metrics_are_means_over_seeds():
    runs = [make_run(4, seed=seed, wrong=range(seed)) for seed in (1, 2)]
    s = by_name(runs)["row 4"]
    for name in MEANS:
        expected = np.mean([getattr(run.metrics, name) for run in runs])
        assert s.means[name] == pytest.approx(expected)


def test_what_is_not_defined_is_none_or_nan():
    test = {"labels": [0] * 12, "predictions": [0] * 12, "probabilities": [[0.9, 0.1]] * 12,
            "in_training": [True] * 12}  # fmt: skip
    (s,) = summarise(group_runs([make_run(1, test=test, data="a" * 64)]), 0.01)
    assert (s.means["auroc"], s.published_percent) == (None, None)
    assert math.isnan(s.accuracy_without_duplicates)
    assert math.isnan(s.deviation)


def test_each_row_is_compared_with_row_1():
    found = by_name(some_runs())
    row_1, row_16 = found["row 1"], found["row 16"]
    assert (row_1.evidence, row_1.verdict, row_1.sentence) == (None, "", "")
    assert row_16.evidence.only_correct == (2, 1)
    assert row_16.evidence.seeds == [123, 124]
    assert row_16.verdict == "inconclusive"
    assert row_16.sentence.startswith("The comparison of row 16 with row 1 is inconclusive")


def test_devices_are_named_once_and_times_are_medians():
    cuda = {"device": "NVIDIA A100", "device_type": "cuda"}
    runs = [make_run(seed=seed, seconds={"train": seed}, environment=cuda) for seed in (2, 9)]
    s = by_name([make_run(seed=1, seconds={"prefix": 2.0, "train": 3.0}), *runs])["row 1"]
    assert (s.device, s.train_seconds) == ("cpu; NVIDIA A100", 5)


@pytest.mark.parametrize("metric", METRICS.values())
def test_the_value_is_that_of_the_metric_over_the_seeds_that_are_compared(metric):
    runs = [*make_seeds(1, [[1], [2]]), *make_seeds(4, [range(9), range(1, 6, 2), range(99)])]
    found = {s.name: s for s in summarise(group_runs(runs), 0.01, metric=metric)}
    one, other = found["row 1"], found["row 4"]
    assert other.value - one.value == pytest.approx(other.evidence.difference.mean)
    assert (other.seeds, other.evidence.seeds, other.largest_class) == (3, [0, 1], 0.5)


def test_the_reference_is_the_one_named():
    found = summarise(group_runs(some_runs()), 0.01, "4")
    assert [s.evidence and s.evidence.names[0] for s in found] == ["row 4", None, *["row 4"] * 2]
    with pytest.raises(UsageError, match="no record of row 7; the groups are row 1; row 4; row 16"):
        summarise(group_runs(some_runs()), 0.01, "7")
