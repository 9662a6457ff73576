import re

import pytest
from records import make_seeds, make_substitute

from experiments.comparison.evidence import compare_all
from experiments.comparison.groups import pair_up
from experiments.comparison.metrics import ACCURACY, METRICS
from experiments.comparison.sentences import format_p, sentence

ONE, OTHER = list(range(30, 40)), list(range(20, 30))
INCONCLUSIVE = "The comparison of row 4 with row 1 is inconclusive"
NUMBERS = re.compile(r"-?\+?\d+(,\d{3})*(\.\d+)?")


def evidence_of(first, second, margin=0.01, total=300, same_text=None, metric="accuracy"):
    """Rows 1 and 4 whose seeds misclassify these examples."""
    test = {"same_text": same_text} if same_text else None
    runs = make_seeds(1, first, total, test=test), make_seeds(4, second, total)
    return compare_all([pair_up(*runs)], margin, METRICS[metric])[0]


def said(*args, **more):
    return sentence(evidence_of(*args, **more))


def words_of(text):
    return NUMBERS.sub("#", text)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (([range(10), range(10), range(11)], [range(40), range(41), range(42)]),
         "Row 4 is worse than row 1: {} from # seeds and # test examples."),
        (([range(10)] * 3, [[], [], [1]], 0.015, 1200),
         "Row 4 is better than row 1: {} from # seeds and # test examples. The difference is "
         "within # points, the margin."),
        (([range(10), *[range(3)] * 4], [[], *[range(15)] * 4]),
         INCONCLUSIVE + ": {} from # seeds and # test examples. Minimum detectable difference at "
         "# % power, estimated from # seeds: # points worse; the observed one takes about # seeds "
         "in total."),
        (([[1]] * 3, [[2]] * 3, 0.03),
         "Row 4 is equivalent to row 1 within # points: {} from # seeds and # test examples. The "
         "# % confidence interval, # to #, is within the margin."),
        (([[1]] * 3, [[1]] * 3), "Row 4 and row 1 are identical: all probabilities are the same: "
         "{} from # seeds and # test examples."),
    ],
)  # fmt: skip
def test_three_seeds_have_the_verdict_and_what_it_is_based_on(wrong, words):
    evidence = evidence_of(*wrong)
    interval = "# points of test accuracy, # % confidence interval # to #, p = #,"
    if evidence.p_value < 1e-4:
        interval = interval.replace("p =", "p <")
    words = words.replace("4", "#").replace("row 1", "row #")
    assert words_of(sentence(evidence)) == words.format(interval)
    mean, limits = 100 * evidence.difference.mean, evidence.difference.crossed.interval
    assert f"{mean:+.2f} points of test accuracy" in sentence(evidence)
    assert f"interval {ACCURACY.format_interval(limits)}, p" in sentence(evidence)


def test_copies_of_a_text_are_counted():
    pairs = [i - i % 2 for i in range(300)]
    text = said([range(10)] * 3, [range(7)] * 3, same_text=pairs)
    assert "from 3 seeds and 300 test examples (150 distinct)." in text


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([range(10)], [[]],
         "With seed 0 only, the models of row 4 and row 1 differ. Of 300 test examples, 10 are "
         "classified correctly by row 4 only and 0 by row 1 only; exact McNemar over distinct "
         "texts, p = 0.002. One seed supports no claim about the designs."),
        ([range(3)], [range(2)],
         "With seed 0 only, t" + INCONCLUSIVE[1:] + ". Of 300 test examples, 1 are classified "
         "correctly by row 4 only and 0 by row 1 only; exact McNemar over distinct texts, p = 1. "
         "One seed supports no claim about the designs. Minimum detectable difference"),
        ([range(10)] * 2, [[]] * 2,
         INCONCLUSIVE + ": 2 seeds say nothing about other seeds, 3 are needed. The mean "
         "difference is +3.33 points."),
    ],
)  # fmt: skip
def test_one_or_two_seeds_support_no_claim_about_the_designs(first, second, words):
    assert said(first, second).startswith(words)


def test_examples_of_one_text_say_nothing():
    text = said([[1]] * 3, [[]] * 3, same_text=[0] * 300)
    assert text.endswith(
        "test examples that all have the same text say nothing about others. The mean difference "
        "is +0.33 points."
    )


def test_losses_have_no_points_and_are_better_when_smaller():
    text = said([range(60), range(61), range(60)], [[]] * 3, metric="log_loss")
    assert text.startswith("Row 4 is better than row 1: -0.4")
    assert "of log loss, 95 % confidence interval -" in text
    assert "points" not in text
    power = said([ONE] * 3, [OTHER, ONE, OTHER], metric="brier")
    assert re.search(r"seeds: 0\.\d+ better or 0\.\d+ worse", power)


def test_corrected_p_values_and_substitutes_are_named():
    first, second = make_seeds(1, [range(10)]), make_seeds(4, [[]])
    corrected = compare_all([pair_up(first, second)] * 2, 0.01)[0]
    assert "p = 0.002 (0.0039 Holm-adjusted over 2 designs)." in sentence(corrected)
    pair = [make_substitute(row, "a" * 64, wrong=w, total=300) for row, w in ((1, ONE), (4, []))]
    text = sentence(compare_all([[pair]], 0.01)[0])
    assert "the models of row 4 and row 1 differ (checkpoint tiny.safetensors). Of" in text


def test_numbers_have_their_unit_and_few_digits():
    assert [ACCURACY.format_size(x) for x in (0.02, 0.01, 0.005)] == [
        "2 points", "1 point", "0.5 points"
    ]  # fmt: skip
    assert METRICS["brier"].format_size(0.0234) == "0.0234"
    assert [format_p(p) for p in (0.5, 0.00197, 1e-5)] == ["0.5", "0.002", "< 0.0001"]
