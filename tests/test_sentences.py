import pytest
from records import make_record, make_stand_in

from experiments.comparison.evidence import correct, weigh
from experiments.comparison.groups import pair_up
from experiments.comparison.sentences import FIXED, sentence


def said(first, second, margin=0.01, total=300, same_text=None):
    """The sentence on rows 1 and 4 whose seeds get these messages wrong."""
    groups = [
        [make_record(row, seed=seed, wrong=w, total=total) for seed, w in enumerate(wrong)]
        for row, wrong in ((1, first), (4, second))
    ]
    if same_text:
        groups[0][0]["test"]["same_text"] = same_text
    return sentence(weigh(pair_up(*groups), margin))


def test_a_real_difference_is_told_with_its_interval_and_what_it_is_of():
    text = said([range(10), range(10), range(11)], [range(40), range(41), range(42)])
    assert text.startswith(
        "Row 04 is worse than row 01: -10.22 points of test accuracy over other "
    )
    assert "over other seeds and other messages, 95 % interval -13." in text
    assert "from 3 seeds and 300 test messages." in text
    assert "four times out of five" not in text
    assert "margin" not in text


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_every_sentence_says_that_the_split_is_fixed(seeds):
    assert said([range(10)] * seeds, [range(7)] * seeds).endswith(FIXED)
    assert said([[]] * seeds, [[]] * seeds).endswith(FIXED)


def test_what_is_not_known_is_told_with_what_could_be_seen_and_what_would_settle_it():
    text = said([range(10), *[range(3)] * 4], [[], *[range(15)] * 4])
    assert text.startswith(
        "Whether row 04 is better or worse than row 01 is not known: -2.53 points"
    )
    assert (
        "Such runs show a difference of 5.4 points four times out of five; to show the one seen "
        "takes about 33 seeds in all." in text
    )
    text = said([range(5)] * 3, [range(3)] * 3)
    assert "to show the one seen takes about" in text
    assert "messages in all." in text


def test_what_no_number_settles_is_said():
    one, other = list(range(30, 40)), list(range(20, 30))  # of each seed; the rest is of one
    text = said([one, [*one, *range(100, 115)], one], [[*other, *range(100, 114)], other, other])
    assert text.startswith("Whether row 04 is better or worse than row 01 is not known: +0.11")
    assert "too small for any number of seeds or of messages alone." in text
    text = said([one] * 3, [other] * 3)
    assert "four times out of five. The split" in text  # no difference, so none to show


def test_equivalence_is_told_with_its_margin_and_interval():
    text = said([[1]] * 3, [[1]] * 3)
    assert text.startswith("Row 04 is equivalent to row 01 within 1 point: +0.00 points")
    assert "Its 90 % interval, -0.99 to +0.99, is within the margin." in text
    assert "within 2.5 points:" in said([[1]] * 3, [[1]] * 3, 0.025)


def test_a_small_real_difference_is_told_to_be_below_the_margin():
    text = said([range(10)] * 3, [[]] * 3, total=3000)
    assert text.startswith("Row 04 is better than row 01: +0.33 points")
    assert "The difference is below 1 point, the margin." in text


def test_a_single_seed_speaks_for_itself_alone():
    text = said([range(10)], [[]])
    assert text.startswith("With seed 0 alone, row 04 is better than row 01: of 300 test messages,")
    assert "only row 04 tells 10 right and only row 01 0, exact McNemar p = 0.00195." in text
    assert "Nothing is known of other seeds." in text
    assert "Such runs show a difference of" in said([range(3)], [range(2)])
    for better, other in (([range(10)], [[]]), ([[]], [range(10)])):
        assert "Such runs show" not in said(better, other)


def test_two_seeds_say_that_a_third_is_wanted():
    text = said([range(10)] * 2, [[]] * 2)
    assert "is not known: 2 seeds say nothing of other seeds, 3 do." in text
    assert "The mean difference is +3.33 points." in text


def test_messages_of_one_text_are_told():
    halves = [i - i % 2 for i in range(300)]
    text = said([range(10)] * 3, [range(7)] * 3, same_text=halves)
    assert "300 test messages (150 distinct)" in text
    assert "distinct" not in said([range(10)] * 3, [range(7)] * 3, same_text=list(range(300)))
    assert "messages of one text say nothing" in said([[1]] * 3, [[]] * 3, same_text=[0] * 300)


def test_the_correction_over_rows_is_told():
    pairs = [(make_record(1, wrong=range(10), total=300), make_record(4, total=300))]
    evidence = weigh(pairs, 0.01)
    assert "p = 0.00195." in sentence(evidence)
    assert "p = 0.00195 (0.00391 by Holm over 2 rows)." in sentence(correct([evidence] * 2)[0])


def test_what_stands_in_for_the_published_model_is_told():
    pair = (
        make_stand_in(1, "a" * 64, wrong=range(10), total=300),
        make_stand_in(4, "a" * 64, total=300),
    )
    text = sentence(weigh([pair], 0.01))
    assert "row 04 is better than row 01 (checkpoint tiny.safetensors aaaaaaaa):" in text
