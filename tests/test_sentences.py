import pytest
from records import make_seeds, make_substitute

from experiments.comparison.evidence import compare_all
from experiments.comparison.groups import pair_up
from experiments.comparison.metrics import ACCURACY, METRICS
from experiments.comparison.sentences import format_p, sentence

ONE, OTHER = range(30, 40), range(20, 30)
INCONCLUSIVE = "The comparison of row 4 with row 1 is inconclusive"
NO_CLAIM = "One seed supports no claim about the designs."


def said(first, second, margin=0.01, total=300, same_text=None, metric="accuracy"):
    """The sentence about rows 1 and 4 whose seeds misclassify these examples."""
    test = {"same_text": same_text} if same_text else None
    runs = make_seeds(1, first, total, test=test), make_seeds(4, second, total)
    return sentence(compare_all([pair_up(*runs)], margin, METRICS[metric])[0])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (([range(10), range(10), range(11)], [range(40), range(41), range(42)]),
         "Row 4 is worse than row 1: -10.22 points of test accuracy, 95 % confidence interval "
         "-13.88 to -6.56, p = 0.00039, from 3 seeds and 300 test examples."),
        (([range(10)] * 3, [[], [], [1]], 0.015, 1200),
         "Row 4 is better than row 1: +0.81 points of test accuracy, 95 % confidence interval "
         "+0.21 to +1.40, p = 0.0089, from 3 seeds and 1,200 test examples. The difference is "
         "within 1.5 points, the margin."),
        (([range(10), *[range(3)] * 4], [[], *[range(15)] * 4]),
         f"{INCONCLUSIVE}: -2.53 points of test accuracy, 95 % confidence interval -6.87 to +1.80, "
         "p = 0.2, from 5 seeds and 300 test examples. Minimum detectable difference at 80 % "
         "power, estimated from 5 seeds: 13.6 points worse; the observed one takes about 41 seeds "
         "in total."),
        (([[1]] * 3, [[2]] * 3, 0.03),
         "Row 4 is equivalent to row 1 within 3 points: +0.00 points of test accuracy, 95 % "
         "confidence interval -1.52 to +1.52, p = 1, from 3 seeds and 300 test examples. The 90 % "
         "confidence interval, -1.27 to +1.27, is within the margin."),
        (([[1]] * 3, [[1]] * 3),
         "Row 4 and row 1 are identical: all probabilities are the same: +0.00 points of test "
         "accuracy, 95 % confidence interval -1.20 to +1.20, p = 1, from 3 seeds and 300 test "
         "examples."),
        (([range(10)], [[]]),
         "With seed 0 only, the models of row 4 and row 1 differ. Of 300 test examples, 10 are "
         "classified correctly by row 4 only and 0 by row 1 only; exact McNemar over distinct "
         f"texts, p = 0.002. {NO_CLAIM}"),
        (([range(3)], [range(2)]),
         f"With seed 0 only, t{INCONCLUSIVE[1:]}. Of 300 test examples, 1 are classified correctly "
         "by row 4 only and 0 by row 1 only; exact McNemar over distinct texts, p = 1. "
         f"{NO_CLAIM} Minimum detectable difference at 80 % power, estimated from 1 seed: 2.8 "
         "points worse; the observed one takes about 3,307 examples in total."),
        (([range(10)] * 2, [[]] * 2),
         f"{INCONCLUSIVE}: 2 seeds say nothing about other seeds, 3 are needed. The mean "
         "difference is +3.33 points."),
        (([[1]] * 3, [[]] * 3, 0.01, 300, [0] * 300),
         f"{INCONCLUSIVE}: test examples that all have the same text say nothing about others. The "
         "mean difference is +0.33 points."),
        (([range(60), range(61), range(60)], [[]] * 3, 0.01, 300, None, "log_loss"),
         "Row 4 is better than row 1: -0.442 of log loss, 95 % confidence interval -0.543 to "
         "-0.341, p < 0.0001, from 3 seeds and 300 test examples."),
        (([ONE] * 3, [OTHER, ONE, OTHER], 0.01, 300, [i - i % 2 for i in range(300)], "brier"),
         f"{INCONCLUSIVE}: +0.000 of Brier score, 95 % confidence interval -0.031 to +0.031, p = "
         "1, from 3 seeds and 300 test examples (150 distinct). Minimum detectable difference at "
         "80 % power, estimated from 3 seeds: 0.0401 better or 0.0401 worse."),
    ],
)  # fmt: skip
def test_a_sentence_has_the_verdict_and_what_it_is_based_on(wrong, words):
    assert said(*wrong) == words


def test_corrected_p_values_and_substitutes_are_named():
    first, second = make_seeds(1, [range(10)]), make_seeds(4, [[]])
    corrected = compare_all([pair_up(first, second)] * 2, 0.01)[0]
    assert "p = 0.002 (0.0039 Holm-adjusted over 2 designs)." in sentence(corrected)
    pair = [make_substitute(row, "a" * 64, wrong=w, total=300) for row, w in ((1, ONE), (4, []))]
    text = sentence(compare_all([[pair]], 0.01)[0])
    assert "the models of row 4 and row 1 differ (checkpoint tiny.safetensors). Of" in text


def test_numbers_have_their_unit_and_few_digits():
    sizes = [ACCURACY.format_size(x) for x in (0.02, 0.01, 0.005)]
    assert sizes == ["2 points", "1 point", "0.5 points"]
    assert METRICS["brier"].format_size(0.0234) == "0.0234"
    assert [format_p(p) for p in (0.5, 0.00197, 1e-5)] == ["0.5", "0.002", "< 0.0001"]
