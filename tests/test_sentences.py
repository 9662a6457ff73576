import pytest
from records import make_run, make_seeds, make_substitute

from experiments.comparison.evidence import compare, compare_all
from experiments.comparison.groups import pair_up
from experiments.comparison.sentences import sentence

POINTS = "points of test accuracy, 95 % confidence interval"
OVER = "over seeds and examples, p ="
INCONCLUSIVE = "The comparison of row 4 with row 1 is inconclusive:"
POWER = "with a power of 80 %"
ONE, OTHER = list(range(30, 40)), list(range(20, 30))


def said(first, second, margin=0.01, total=300, same_text=None):
    """The sentence on rows 1 and 4 whose seeds misclassify these examples."""
    test = {"same_text": same_text} if same_text else None
    runs = make_seeds(1, first, total, test=test), make_seeds(4, second, total)
    return sentence(compare(pair_up(*runs), margin))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            ([range(10), range(10), range(11)], [range(40), range(41), range(42)]),
            f"Row 04 is worse than row 1: -10.22 {POINTS} -13.63 to -6.82 {OVER} 9.48e-09, from "
            "3 seeds and 300 test examples.",
        ),
        (
            ([range(10)] * 3, [[]] * 3, 0.015, 1200),
            f"Row 04 is better than row 1: +0.83 {POINTS} +0.32 to +1.35 {OVER} 0.00154, from "
            "3 seeds and 1,200 test examples. The difference is below 1.5 points, the margin.",
        ),
        (
            ([range(10), *[range(3)] * 4], [[], *[range(15)] * 4]),
            f"{INCONCLUSIVE} -2.53 {POINTS} -6.51 to +1.44 {OVER} 0.169, from 5 seeds and 300 test "
            f"examples. Such runs detect a difference of 5.4 points {POWER}; the observed one "
            "takes about 33 seeds in total.",
        ),
        (
            ([range(10)] * 3, [range(7)] * 3, 0.01, 300, [i - i % 2 for i in range(300)]),
            f"{INCONCLUSIVE} +1.00 {POINTS} -0.47 to +2.47 {OVER} 0.181, from 3 seeds and 300 test "
            f"examples (150 distinct). Such runs detect a difference of 2.1 points {POWER}; the "
            "observed one takes about 1,306 examples in total.",
        ),
        (
            ([ONE, [*ONE, *range(100, 115)], ONE], [[*OTHER, *range(100, 114)], OTHER, OTHER]),
            f"{INCONCLUSIVE} +0.11 {POINTS} -9.73 to +9.95 {OVER} 0.974, from 3 seeds and 300 test "
            f"examples. Such runs detect a difference of 13 points {POWER}; the observed one is "
            "too small for any number of seeds or examples alone.",
        ),
        (
            ([ONE] * 3, [OTHER] * 3, 0.01, 300, list(range(300))),
            f"{INCONCLUSIVE} +0.00 {POINTS} -2.94 to +2.94 {OVER} 1, from 3 seeds and 300 test "
            f"examples. Such runs detect a difference of 4.2 points {POWER}.",
        ),
        (
            ([[1]] * 3, [[1]] * 3, 0.005),
            f"{INCONCLUSIVE} +0.00 {POINTS} -1.22 to +1.22 {OVER} 1, from 3 seeds and 300 test "
            "examples.",
        ),
        (
            ([[1]] * 3, [[1]] * 3),
            f"Row 04 is equivalent to row 1 within 1 point: +0.00 {POINTS} -1.22 to +1.22 {OVER} "
            "1, from 3 seeds and 300 test examples. The 90 % confidence interval, -0.99 to +0.99, "
            "is within the margin.",
        ),
        (
            ([range(10)], [[]]),
            "With seed 0 only, row 4 is better than row 1: of 300 test examples, 10 are "
            "classified correctly by row 4 only and 0 by row 1 only, exact McNemar p = 0.00195. "
            "This says nothing about other seeds.",
        ),
        (
            ([range(3)], [range(2)]),
            f"With seed 0 only, t{INCONCLUSIVE[1:]} of 300 test examples, 1 are classified "
            "correctly by row 4 only and 0 by row 1 only, exact McNemar p = 1. This says nothing "
            f"about other seeds. Such runs detect a difference of 0.94 points {POWER}; the "
            "observed one takes about 2,357 examples in total.",
        ),
        (
            ([range(10)] * 2, [[]] * 2),
            f"{INCONCLUSIVE} 2 seeds say nothing about other seeds, 3 are needed. The mean "
            "difference is +3.33 points.",
        ),
        (
            ([[1]] * 3, [[]] * 3, 0.01, 300, [0] * 300),
            f"{INCONCLUSIVE} test examples that all have the same text say nothing about others. "
            "The mean difference is +0.33 points.",
        ),
    ],
)
def test_a_sentence_has_the_verdict_and_what_it_is_based_on(wrong, expected):
    assert said(*wrong) == expected


def test_one_seed_that_is_worse_needs_no_power():
    assert "detect" not in said([[]], [range(10)])


def test_corrected_p_values_and_substitutes_are_named():
    pair = make_run(1, wrong=range(10), total=300), make_run(4, total=300)
    corrected = compare_all([[pair]] * 2, 0.01)[0]
    assert "p = 0.00195 (0.00391 by Holm over 2 rows)." in sentence(corrected)
    pair = [make_substitute(row, "a" * 64, wrong=w, total=300) for row, w in ((1, ONE), (4, []))]
    text = sentence(compare([pair], 0.01))
    assert "row 4 is better than row 1 (checkpoint tiny.safetensors aaaaaaaa): of 300" in text
