import numpy as np
import pytest
from records import make_record, make_stand_in

from experiments.comparison.crossed import cross, seeds_to_settle, smallest_seen, units_of
from experiments.comparison.evidence import correct, weigh
from experiments.comparison.groups import pair_up
from experiments.comparison.statistics import holm
from experiments.training.metrics import measure


def group(row, wrong_of_each, total=300, **more):
    return [
        make_record(row, seed=seed, wrong=wrong, total=total, **more)
        for seed, wrong in enumerate(wrong_of_each)
    ]


def held(first, second, margin=0.01):
    return weigh(pair_up(first, second), margin)


def test_a_verdict_that_most_seeds_contradict_is_none():
    first, second = [range(10), *[range(3)] * 4], [[], *[range(15)] * 4]
    assert held(group(1, first[:1]), group(4, second[:1])).verdict == "better"
    evidence = held(group(1, first), group(4, second))
    assert evidence.mcnemar == 2 / 2**10
    assert evidence.accuracy.mean == pytest.approx(-(4 * 12 - 10) / 1500)
    assert evidence.verdict == "not known"


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ([range(30), range(31), range(29)], "worse"),
        ([[0], [1], [0]], "better"),
        ([range(11), range(1, 11), range(10)], "equivalent"),
        ([range(8), range(12), range(7)], "not known"),
    ],
)
def test_three_seeds_have_one_of_four_verdicts(wrong, verdict):
    assert held(group(1, [range(10), range(10), range(11)]), group(4, wrong)).verdict == verdict


def test_a_difference_that_is_real_but_within_the_margin_is_better_first():
    first, second = group(1, [range(10)] * 3, 3000), group(4, [[]] * 3, 3000)
    evidence = held(first, second)
    assert (evidence.verdict, evidence.is_within_margin) == ("better", True)
    assert held(first, second, 0.003).is_within_margin is False


def test_the_interval_is_that_of_the_paired_differences():
    first, second = group(1, [[1, 2], [1], [5]], 12), group(4, [[3], [3, 1, 7], []], 12)
    differences = np.zeros((3, 12))
    differences[0, [1, 2, 3]] = 1, 1, -1
    differences[1, [3, 7]] = -1
    differences[2, 5] = 1
    assert held(first, second).accuracy.crossed == cross(units_of(differences, range(12)))


def test_only_seeds_that_both_have_count():
    first, second = group(1, [[1], [2], [3], [4]]), group(4, [[5], [6], [7]])
    evidence = held(first, list(reversed(second))[:2])
    assert evidence.seeds == [1, 2]
    assert evidence.accuracy.mean == 0


def test_two_seeds_say_nothing_of_others():
    evidence = held(group(1, [range(10)] * 2), group(4, [[]] * 2))
    assert (evidence.verdict, evidence.p_value, evidence.outlook) == ("not known", None, None)
    assert (evidence.accuracy.crossed, evidence.log_loss.crossed) == (None, None)


def test_three_seeds_and_two_messages_say_something_of_others():
    evidence = held(group(1, [[0], [1], []], 2), group(4, [[]] * 3, 2))
    assert evidence.accuracy.crossed is not None
    assert evidence.outlook is not None


def test_one_seed_has_the_exact_test_of_its_messages():
    evidence = held(group(1, [range(10)]), group(4, [[20]]))
    assert (evidence.only_first, evidence.only_second) == (1, 10)
    assert evidence.p_value == evidence.mcnemar == pytest.approx(2 * (1 + 11) / 2**11)
    assert (evidence.verdict, evidence.accuracy.crossed) == ("better", None)
    assert evidence.outlook.seeds is None
    clear = held(group(1, [range(40)]), group(4, [[]]))
    assert clear.outlook.seeds is None  # one seed tells nothing of what others bring


def test_a_baseline_stands_against_every_seed():
    first, majority = group(1, [[1], [2], [3]]), make_record(None, wrong=range(90), total=300)
    evidence = held(first, [majority])
    assert (evidence.seeds, evidence.verdict) == ([0, 1, 2], "worse")
    assert held([majority], first).seeds == [0, 1, 2]


def test_messages_of_one_text_are_drawn_together():
    first, second = group(1, [range(0, 40), range(0, 42), range(0, 38)]), group(4, [range(8)] * 3)
    alone = held(first, second)
    for record in first:
        record["test"]["same_text"] = [i - i % 2 for i in range(300)]
    together = held(first, second)
    assert (alone.distinct, together.distinct, together.messages) == (None, 150, 300)
    assert together.accuracy.mean == alone.accuracy.mean
    widths = [e.accuracy.crossed.interval.high - e.accuracy.mean for e in (alone, together)]
    assert widths[1] > 1.2 * widths[0]
    assert held(second, first).distinct == 150  # whichever record tells


def test_losses_have_the_means_that_the_metrics_have():
    first, second = group(1, [[1, 2], [1], [5]], 12), group(4, [[3], [3, 1, 7], []], 12)
    second[1]["test"]["probabilities"][4] = [0.3, 0.7]
    evidence = held(first, second)

    def mean(records, name):
        tests = [record["test"] for record in records]
        found = [measure(np.array(t["probabilities"]), np.array(t["labels"])) for t in tests]
        return np.mean([getattr(metrics, name) for metrics in found])

    for name in ("log_loss", "brier_score"):
        difference = getattr(evidence, name)
        assert difference.mean == pytest.approx(mean(second, name) - mean(first, name))
        assert difference.crossed.interval.low < difference.mean < difference.crossed.interval.high


def test_losses_of_which_none_differs_have_no_interval():
    evidence = held(group(1, [[1]] * 3), group(18, [[1]] * 3))
    assert (evidence.log_loss.mean, evidence.log_loss.crossed) == (0, None)
    assert evidence.verdict == "equivalent"
    assert evidence.outlook is None


def test_the_outlook_is_that_of_as_many_seeds_and_messages():
    evidence = held(group(1, [range(10), *[range(3)] * 4]), group(4, [[], *[range(15)] * 4]))
    components = evidence.accuracy.crossed.components
    assert evidence.outlook.smallest == smallest_seen(components, 5, 300)
    assert evidence.outlook.seeds == seeds_to_settle(components, evidence.accuracy.mean, 300)


def test_messages_to_settle_are_counted_with_those_of_one_text():
    first, second = group(1, [range(8)]), group(4, [range(4, 8)])
    counts = []
    for size in (1, 2):
        for record in first:
            record["test"]["same_text"] = [i - i % size for i in range(300)]
        counts.append(held(first, second).outlook.messages)
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.05)


def test_messages_of_one_text_alone_say_nothing_of_others():
    first, second = group(1, [[1], [1], []]), group(4, [[], [], []])
    first[0]["test"]["same_text"] = [0] * 300
    evidence = held(first, second)
    assert (evidence.verdict, evidence.p_value, evidence.outlook) == ("not known", None, None)
    one = held(first[:1], second[:1])
    assert (one.verdict, one.outlook) == ("not known", None)


def test_what_both_stand_for_is_told_once():
    a = "1a2b3c4d".ljust(64, "0")
    stand_ins = [make_stand_in(row, a, name="tiny.safetensors") for row in (1, 16)]
    evidence = held(stand_ins[:1], stand_ins[1:])
    assert evidence.names == ("row 01", "row 16")
    assert evidence.conditions == "checkpoint tiny.safetensors 1a2b3c4d"
    majority = make_record(None, name="baseline majority")
    assert held(stand_ins[:1], [majority]).conditions == evidence.conditions
    other = held([make_record(1)], stand_ins[1:])
    assert other.names == ("row 01", "row 16, checkpoint tiny.safetensors 1a2b3c4d")
    assert other.conditions == ""


def test_p_values_are_corrected_over_those_that_have_one():
    first = group(1, [range(10)] * 3)
    found = correct([
        held(first, group(4, [range(10, 30), range(11, 31), range(12, 32)])),
        held(first, group(16, [[]] * 2)),
        held(first, group(2, [range(10, 12)])),
    ])  # fmt: skip
    assert [evidence.compared for evidence in found] == [2, 1, 2]
    one, two, three = found
    assert two.corrected_p_value is None
    corrected = [one.corrected_p_value, three.corrected_p_value]
    assert corrected == holm([one.p_value, three.p_value]) != [one.p_value, three.p_value]
