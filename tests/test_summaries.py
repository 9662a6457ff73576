import pytest
from records import CUDA, make_run, make_seeds, some_runs

from experiments.comparison.groups import group_runs
from experiments.comparison.metrics import METRICS
from experiments.comparison.summaries import summarise


def test_devices_are_named_once_and_times_are_medians():
    runs = [make_run(seed=seed, seconds={"train": seed}, environment=CUDA) for seed in (2, 9)]
    runs.append(make_run(seed=1, seconds={"prefix": 2.0, "train": 3.0}))
    (s,) = summarise(group_runs(runs), 0.01)
    assert (s.device, s.train_seconds) == ("cpu; NVIDIA A100", 5)


@pytest.mark.parametrize("metric", METRICS.values())
def test_the_value_is_that_of_the_metric_over_the_seeds_that_are_compared(metric):
    runs = [*make_seeds(1, [[1], [2]]), *make_seeds(4, [range(9), range(1, 6, 2), range(99)])]
    one, other = summarise(group_runs(runs), 0.01, metric=metric)
    assert other.value - one.value == pytest.approx(other.evidence.difference.mean)
    assert (other.seeds, other.evidence.seeds, other.largest_class) == (3, [0, 1], 0.5)


def test_the_reference_is_row_1_or_the_one_named():
    for name, number in ((None, 0), ("4", 1)):
        found = summarise(group_runs(some_runs()), 0.01, name)
        assert (found[number].evidence, found[number].verdict, found[number].sentence) == (
            None,
            "",
            "",
        )
        others = {s.evidence.names[0] for s in found if s.evidence}
        assert others == {found[number].name}
