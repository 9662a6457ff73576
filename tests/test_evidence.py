import numpy as np
import pytest
from records import make_baseline, make_run, make_seeds, make_substitute

from experiments.comparison.evidence import Verdict, compare_all
from experiments.comparison.groups import pair_up
from experiments.comparison.metrics import METRICS
from experiments.comparison.power import Outlook
from experiments.comparison.statistics import cross, holm, mcnemar, units_of


def compared(first, second, margin=0.02, metric="accuracy"):
    return compare_all([pair_up(first, second)], margin, METRICS[metric])[0]


def with_texts(texts, *args, **more):
    return make_seeds(*args, test={"same_text": texts}, **more)


def test_a_verdict_is_over_all_seeds_not_of_the_first():
    first, second = [range(10), *[range(3)] * 4], [[], *[range(15)] * 4]
    evidence = compared(make_seeds(1, first[:1]), make_seeds(4, second[:1]))
    assert (evidence.verdict, evidence.p_value) == (Verdict.MODELS_DIFFER, 2 / 2**10)
    evidence = compared(make_seeds(1, first), make_seeds(4, second))
    assert evidence.difference.mean == pytest.approx(-(4 * 12 - 10) / 1500)
    assert evidence.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ([range(30), range(31), range(29)], "worse"),
        ([[], [], []], "better"),
        ([range(11), range(1, 11), range(10)], "equivalent"),
        ([range(10), range(10), range(11)], "identical"),
        ([range(5), range(15), range(5)], "inconclusive"),
    ],
)
def test_three_seeds_have_one_of_five_verdicts(wrong, verdict):
    base = make_seeds(1, [range(10), range(10), range(11)])
    assert compared(base, make_seeds(4, wrong)).verdict == verdict


def test_a_significant_difference_within_the_margin_is_better_or_worse():
    first, second = make_seeds(1, [range(10)] * 3, 3000), make_seeds(4, [[]] * 3, 3000)
    evidence = compared(first, second)
    assert (evidence.verdict, evidence.difference.crossed.is_within(0.02)) == ("better", True)
    assert evidence.difference.crossed.is_within(0.003) is False


def test_the_interval_is_that_of_the_paired_differences():
    first = make_seeds(1, [[1, 2], [1], [5]], 12)
    second = make_seeds(4, [[3], [3, 1, 7], []], 12)
    differences = np.zeros((3, 12))
    differences[0, [1, 2, 3]] = 1, 1, -1
    differences[1, [3, 7]] = -1
    differences[2, 5] = 1
    evidence = compared(first, second)
    assert evidence.difference.crossed == cross(units_of(differences, range(12)), reach=1.0)
    assert evidence.only_correct == (1, 2)


def test_only_shared_seeds_count():
    first, second = make_seeds(1, [[1], [2], [3], [4]]), make_seeds(4, [[5], [6], [7]])
    evidence = compared(first, list(reversed(second))[:2])
    assert evidence.seeds == [1, 2]
    assert evidence.difference.mean == 0


def test_two_seeds_say_nothing_about_others():
    evidence = compared(make_seeds(1, [range(10)] * 2), make_seeds(4, [[]] * 2))
    assert (evidence.verdict, evidence.p_value, evidence.power) == ("inconclusive", None, None)
    assert [found.crossed for found in evidence.differences.values()] == [None] * 4


def test_three_seeds_and_two_examples_say_something_about_others():
    evidence = compared(make_seeds(1, [[0], [1], []], 2), make_seeds(4, [[]] * 3, 2))
    assert evidence.difference.crossed is not None
    assert evidence.power is None  # nothing is large enough


def test_one_seed_has_the_exact_test_of_its_examples():
    evidence = compared(make_seeds(1, [range(10)]), make_seeds(4, [[20]]))
    assert evidence.only_correct == (1, 10)
    assert evidence.p_value == pytest.approx(2 * (1 + 11) / 2**11)
    assert (evidence.verdict, evidence.difference.crossed) == (Verdict.MODELS_DIFFER, None)
    assert evidence.power.seeds is None
    assert compared(make_seeds(1, [range(40)]), make_seeds(4, [[]])).power.seeds is None


def test_a_baseline_is_compared_with_every_seed():
    first, majority = make_seeds(1, [[1], [2], [3]]), make_baseline(wrong=range(90), total=300)
    evidence = compared(first, [majority])
    assert (evidence.seeds, evidence.verdict) == ([0, 1, 2], "worse")
    assert compared([majority], first).seeds == [0, 1, 2]


def test_examples_with_one_text_are_one_unit():
    wrong, pairs = [range(40), range(42), range(38)], [i - i % 2 for i in range(300)]
    second = make_seeds(4, [range(8)] * 3)
    alone = compared(make_seeds(1, wrong), second)
    together = compared(with_texts(pairs, 1, wrong), second)
    assert (alone.distinct, together.distinct, together.examples) == (None, 150, 300)
    assert together.difference.mean == alone.difference.mean
    widths = [e.difference.crossed.interval.high - e.difference.mean for e in (alone, together)]
    assert widths[1] > 1.2 * widths[0]
    assert compared(second, with_texts(pairs, 1, wrong)).distinct == 150  # either record has it


def test_losses_have_the_means_of_the_metrics():
    first, second = (
        make_seeds(row, wrong, 12)
        for row, wrong in ((1, [[1, 2], [1], [5]]), (4, [[3], [3, 1, 7], []]))
    )
    evidence = compared(first, second)
    for name, field in (("log_loss", "log_loss"), ("brier", "brier_score")):
        means = [np.mean([getattr(run.metrics, field) for run in runs]) for runs in (first, second)]
        difference = evidence.differences[name]
        assert difference.mean == pytest.approx(means[1] - means[0])
        assert difference.crossed.interval.low < difference.mean < difference.crossed.interval.high


def test_identical_probabilities_are_identical_and_not_tested():
    first = make_seeds(1, [[1]] * 3)
    found = compare_all([pair_up(first, make_seeds(row, w)) for row, w in
                         ((18, [[1]] * 3), (4, [[], [2], [3]]))], 0.02)  # fmt: skip
    assert [e.verdict for e in found] == ["identical", "equivalent"]
    assert (found[0].differences["log_loss"].crossed, found[0].p_value) == (None, 1)
    assert found[1].compared == 1


def test_equal_predictions_with_other_probabilities_are_equivalent():
    second = make_seeds(4, [[]] * 3, test={"probabilities": [[0.8, 0.2], [0.2, 0.8]] * 150})
    evidence = compared(make_seeds(1, [[]] * 3), second)
    assert (evidence.verdict, evidence.p_value) == ("equivalent", 1)
    assert evidence.difference.crossed.is_within(0.01) is False  # 1.0 point on each side


def test_copies_of_a_text_are_one_example_for_one_seed():
    texts = [0] * 6 + list(range(6, 300))
    evidence = compared(with_texts(texts, 1, [[*range(6), 20, 30]]), make_seeds(4, [[]]))
    assert (evidence.only_correct, evidence.p_value) == ((0, 8), mcnemar(0, 3))
    assert evidence.verdict == Verdict.MODELS_INCONCLUSIVE


def test_equal_seeds_are_no_more_certain_than_one():
    for count in (1, 2, 3, 4, 8):
        wrong = [range(count)]
        one, five = (compared(make_seeds(1, wrong * S), make_seeds(4, [[]] * S)) for S in (1, 5))
        assert five.p_value >= one.p_value


@pytest.mark.parametrize("metric", ["log_loss", "brier", "balanced_accuracy"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_verdict_is_that_of_the_metric(metric, seeds):
    first, second = make_seeds(1, [range(60)] * seeds), make_seeds(4, [[]] * seeds)
    evidence = compared(first, second, metric=metric)
    assert evidence.difference == evidence.differences[metric]
    assert evidence.verdict == ("better" if seeds > 1 else Verdict.MODELS_DIFFER)
    assert compared(second, first, metric=metric).verdict in ("worse", Verdict.MODELS_DIFFER)


def test_balanced_accuracy_is_the_mean_of_the_recalls():
    labels = [0] * 9 + [1] * 3
    predictions = [0] * 8 + [1] + [1, 0, 0]
    test = {"labels": labels, "predictions": predictions,
            "probabilities": [[0.1, 0.9] if k else [0.9, 0.1] for k in predictions]}  # fmt: skip
    truth = [[0.1, 0.9] if k else [0.9, 0.1] for k in labels]
    perfect = test | {"predictions": labels, "probabilities": truth}
    evidence = compare_all([[(make_run(1, test=test), make_run(4, test=perfect))]], 0.02)[0]
    assert evidence.differences["balanced_accuracy"].mean == pytest.approx(1 - (8 / 9 + 1 / 3) / 2)
    assert evidence.differences["accuracy"].mean == pytest.approx(3 / 12)
    assert evidence.differences["brier"].mean == pytest.approx((0.01 - 0.81) * 3 / 12)


def test_the_power_is_that_of_as_many_seeds_and_examples():
    first = make_seeds(1, [range(10), *[range(3)] * 4])
    evidence = compared(first, make_seeds(4, [[], *[range(15)] * 4]))
    means = (1 - 22 / 1500, 1 - 60 / 1500)
    outlook = Outlook(evidence.difference.crossed.spread, 0.05, 5, 300, 1.0, means)
    power = evidence.power
    assert power.worse == pytest.approx(outlook.detectable(-1))
    assert power.better is outlook.detectable(1) is None
    assert power.detectable == max(p for p in (power.worse, power.better) if p is not None)
    assert power.seeds == outlook.seeds_needed(evidence.difference.mean) >= 5


def test_the_examples_needed_include_those_with_one_text():
    second, counts = make_seeds(4, [range(4, 8)]), []
    for size in (1, 2):
        first = with_texts([i - i % size for i in range(300)], 1, [range(8)])
        counts.append(compared(first, second).power.examples)
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.05)


@pytest.mark.parametrize("seeds", [1, 3])
def test_examples_that_all_have_one_text_say_nothing_about_others(seeds):
    first = with_texts([0] * 300, 1, [[1], [1], []][:seeds])
    evidence = compared(first, make_seeds(4, [[]] * seeds))
    assert evidence.verdict == ("inconclusive" if seeds == 3 else Verdict.MODELS_INCONCLUSIVE)
    assert evidence.power is None
    assert (evidence.p_value is None) == (seeds == 3)


def test_shared_conditions_are_stored_once():
    a = "1a2b3c4d".ljust(64, "0")
    first, second = ([make_substitute(row, a)] for row in (1, 16))
    evidence = compared(first, second)
    assert evidence.names == ("row 1", "row 16")
    assert evidence.conditions == "checkpoint tiny.safetensors"
    for pair in ((first, [make_baseline()]), ([make_baseline()], first)):
        assert compared(*pair).conditions == evidence.conditions
    other = compared([make_run(1)], second)
    assert other.names == ("row 1", "row 16, checkpoint tiny.safetensors")
    assert other.conditions == ""


def test_p_values_are_corrected_over_the_designs_that_have_one():
    first = make_seeds(1, [range(10)] * 3)
    found = compare_all([pair_up(first, second) for second in (
        make_seeds(4, [range(10, 30), range(11, 31), range(12, 32)]),
        make_seeds(16, [[]] * 2),
        make_seeds(2, [range(10, 12)]),
    )], 0.02)  # fmt: skip
    assert [evidence.compared for evidence in found] == [2, 1, 2]
    one, two, three = found
    assert two.corrected_p_value is None
    corrected = [one.corrected_p_value, three.corrected_p_value]
    assert corrected == holm([one.p_value, three.p_value]) != [one.p_value, three.p_value]


def test_designs_with_the_same_data_share_the_seeds_variance():
    first, wrong = make_seeds(1, [[0], [1], [2]]), [range(8), range(12), range(7)]
    orders = {4: wrong, 16: wrong[1:] + wrong[:1]}
    pairs = [pair_up(first, make_seeds(row, wrong)) for row, wrong in orders.items()]
    alone, together = compare_all(pairs[:1], 0.02)[0], compare_all(pairs, 0.02)[0]
    degrees = [e.difference.crossed.spread.prior.degrees for e in (alone, together)]
    assert degrees == [0, pytest.approx((8 / 5 - 1) * 2)]
    assert together.p_value != alone.p_value
