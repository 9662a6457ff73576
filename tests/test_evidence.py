import pytest
from records import make_baseline, make_run, make_seeds, make_substitute

from experiments.comparison.evidence import Verdict, compare_all
from experiments.comparison.groups import pair_up
from experiments.comparison.metrics import METRICS
from experiments.comparison.statistics import holm, mcnemar


def compared(first, second, margin=0.02, metric="accuracy"):
    return compare_all([pair_up(first, second)], margin, METRICS[metric])[0]


def compared_errors(first, second, total=300, texts=None, **more):
    """Rows 1 and 4 whose seeds misclassify these examples."""
    test = texts and {"same_text": texts}
    return compared(make_seeds(1, first, total, test=test), make_seeds(4, second, total), **more)


def test_only_shared_seeds_count_and_a_baseline_is_compared_with_each():
    first, second = make_seeds(1, [[1], [2], [3], [4]]), make_seeds(4, [[5], [6], [7]])
    evidence = compared(first, list(reversed(second))[:2])
    assert (evidence.seeds, evidence.difference.mean) == ([1, 2], 0)
    majority = [make_baseline(wrong=range(90), total=300)]
    evidence = compared(first, majority)
    assert (evidence.seeds, evidence.verdict) == ([0, 1, 2, 3], "worse")
    assert compared(majority, first).seeds == [0, 1, 2, 3]


def test_too_few_seeds_or_texts_say_nothing_about_others():
    evidence = compared_errors([range(10)] * 2, [[]] * 2)
    assert (evidence.p_value, evidence.power) == (None, None)
    assert [found.crossed for found in evidence.differences.values()] == [None] * 4
    for seeds in (1, 3):
        evidence = compared_errors([[1], [1], []][:seeds], [[]] * seeds, texts=[0] * 300)
        assert (evidence.p_value is None, evidence.power) == (seeds == 3, None)
    evidence = compared_errors([[0], [1], []], [[]] * 3, 2)
    assert evidence.difference.crossed is not None
    assert evidence.power is None  # nothing is large enough


def test_one_seed_has_the_exact_test_of_its_examples():
    evidence = compared_errors([range(10)], [[20]])
    assert evidence.only_correct == (1, 10)
    assert evidence.p_value == pytest.approx(2 * (1 + 11) / 2**11)
    assert (evidence.verdict, evidence.difference.crossed) == (Verdict.MODELS_DIFFER, None)
    assert evidence.power.seeds is None
    texts = [0] * 6 + list(range(6, 300))  # copies are one example
    evidence = compared_errors([[*range(6), 20, 30]], [[]], texts=texts)
    assert (evidence.only_correct, evidence.p_value) == ((0, 8), mcnemar(0, 3))


def test_equal_seeds_are_no_more_certain_than_one():
    for count in (1, 2, 3, 4, 8):
        one, five = (compared_errors([range(count)] * S, [[]] * S) for S in (1, 5))
        assert five.p_value >= one.p_value


def test_examples_with_one_text_are_one_unit():
    wrong, pairs = [range(40), range(42), range(38)], [i - i % 2 for i in range(300)]
    alone, together = (compared_errors(wrong, [range(8)] * 3, texts=of) for of in (None, pairs))
    assert (alone.distinct, together.distinct, together.examples) == (None, 150, 300)
    assert together.difference.mean == alone.difference.mean
    widths = [e.difference.crossed.interval.high - e.difference.mean for e in (alone, together)]
    assert widths[1] > 1.2 * widths[0]
    either = make_seeds(4, wrong), make_seeds(1, wrong, test={"same_text": pairs})
    assert compared(*either).distinct == 150


def test_identical_probabilities_are_not_tested_and_equal_predictions_are():
    first, others = make_seeds(1, [[1]] * 3), ((18, [[1]] * 3), (4, [[], [2], [3]]))
    found = compare_all([pair_up(first, make_seeds(row, of)) for row, of in others], 0.02)
    assert [e.verdict for e in found] == ["identical", "equivalent"]
    assert (found[0].differences["log_loss"].crossed, found[0].p_value) == (None, 1)
    assert found[1].compared == 1
    second = make_seeds(4, [[]] * 3, test={"probabilities": [[0.8, 0.2], [0.2, 0.8]] * 150})
    evidence = compared(make_seeds(1, [[]] * 3), second)
    assert (evidence.verdict, evidence.p_value) == ("equivalent", 1)
    assert evidence.difference.crossed.is_within(0.01) is False  # 1.0 point on each side


@pytest.mark.parametrize("metric", ["log_loss", "brier", "balanced_accuracy"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_verdict_is_that_of_the_metric(metric, seeds):
    wrong = [range(60)] * seeds, [[]] * seeds
    for first, second, verdict in ((*wrong, "better"), (*wrong[::-1], "worse")):
        evidence = compared_errors(first, second, metric=metric)
        assert evidence.difference == evidence.differences[metric]
        assert evidence.verdict == (verdict if seeds > 1 else Verdict.MODELS_DIFFER)


def test_balanced_accuracy_is_the_mean_of_the_recalls():
    labels, predictions = [0] * 9 + [1] * 3, [0] * 8 + [1] + [1, 0, 0]
    tests = [
        {"labels": labels, "predictions": of,
         "probabilities": [[0.1, 0.9] if k else [0.9, 0.1] for k in of]}
        for of in (predictions, labels)
    ]  # fmt: skip
    evidence = compared([make_run(1, test=tests[0])], [make_run(4, test=tests[1])])
    means = {name: difference.mean for name, difference in evidence.differences.items()}
    assert means["balanced_accuracy"] == pytest.approx(1 - (8 / 9 + 1 / 3) / 2)
    assert means["accuracy"] == pytest.approx(3 / 12)
    assert means["brier"] == pytest.approx((0.01 - 0.81) * 3 / 12)


def test_the_examples_needed_include_those_with_one_text():
    counts = [
        compared_errors([range(8)], [range(4, 8)], texts=[i - i % size for i in range(300)])
        for size in (1, 2)
    ]
    assert counts[1].power.examples == pytest.approx(2 * counts[0].power.examples, rel=0.05)


def test_shared_conditions_are_stored_once():
    tiny = "checkpoint tiny.safetensors"
    first, second = ([make_substitute(row, "a" * 64)] for row in (1, 16))
    for pair in ((first, second), (first, [make_baseline()]), ([make_baseline()], first)):
        assert compared(*pair).conditions == tiny
    assert compared(first, second).names == ("row 1", "row 16")
    other = compared([make_run(1)], second)
    assert (other.names, other.conditions) == (("row 1", f"row 16, {tiny}"), "")


def test_p_values_are_corrected_over_the_designs_that_have_one():
    first = make_seeds(1, [range(10)] * 3)
    others = [range(10, 30), range(11, 31), range(12, 32)], [[]] * 2, [range(10, 12)]
    pairs = [pair_up(first, make_seeds(4, wrong)) for wrong in others]
    one, two, three = found = compare_all(pairs, 0.02)
    assert [evidence.compared for evidence in found] == [2, 1, 2]
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
