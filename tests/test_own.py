import argparse
import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from three_classes import three_classes

from experiments.config.sizes import SHARES, parse_shares
from experiments.data.custom import prepare_own, sort_names
from experiments.data.splitting import (
    apportion,
    balance_classes,
    class_weights,
    deal,
    split_by_text,
    thin_classes,
)

SPLITS = dict(zip(("train", "validation", "test"), SHARES, strict=True))
FEW_TEXTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 30).map("text {}".format)),
    min_size=1, max_size=80,
)  # fmt: skip


def table(*pairs):
    return pd.DataFrame(pairs, columns=["Label", "Text"], dtype=str)


def distinct(**counts):
    """So many different texts of each label."""
    return table(*((k, f"{k}-{chr(97 + i)}x") for k, n in counts.items() for i in range(n)))


def pairs_of(messages):
    return list(zip(messages["Label"], messages["Text"], strict=True))


def prepare(*tables, shares=SHARES, split_seed=123, **options):
    return prepare_own(
        dict(zip(("train", "validation", "test"), tables, strict=False)),
        shares,
        split_seed,
        **options,
    )


@pytest.fixture
def three():
    return table(*three_classes())


# ---------------------------------------------------------------------------------------- splitting


@settings(max_examples=30)
@given(pairs=FEW_TEXTS, seed=st.integers(0, 99))
def test_equal_texts_never_fall_on_two_sides_and_nothing_is_lost(pairs, seed):
    splits = split_by_text(table(*pairs), SPLITS, seed)
    for first, second in itertools.combinations(splits.values(), 2):
        assert not set(first["Text"]) & set(second["Text"])
    assert Counter(p for s in splits.values() for p in pairs_of(s)) == Counter(pairs)


@settings(max_examples=30)
@given(
    counts=st.lists(st.integers(3, 60), min_size=1, max_size=4),
    shares=st.sampled_from([(70, 10, 20), (80, 10, 10), (34, 33, 33), (98, 1, 1)]),
)
def test_different_texts_are_split_to_the_message_and_no_split_lacks_a_class(counts, shares):
    messages = distinct(**{f"k{i}": n for i, n in enumerate(counts)})
    splits = split_by_text(messages, dict(zip(SPLITS, shares, strict=True)), 1)
    for i, n in enumerate(counts):
        found = [int((s["Label"] == f"k{i}").sum()) for s in splits.values()]
        exact = [n * share / 100 for share in shares]
        assert min(found) >= 1
        assert all(abs(f - e) < 1 or f == 1 or e > n - 3 for f, e in zip(found, exact, strict=True))


@given(st.lists(st.integers(1, 9), min_size=3, max_size=30))
def test_no_split_stays_without_a_group_however_large_they_are(sizes):
    assert set(deal(sorted(sizes, reverse=True), SHARES)) == {0, 1, 2}


def test_groups_are_dealt_to_where_most_is_lacking():
    # Of 10, 7 / 1 / 2 are wanted: the four go to training, the next to training (3 lacking), ...
    assert deal([4, 2, 1, 1, 1, 1], SHARES) == [0, 0, 2, 0, 1, 2]
    assert deal([8, 1, 1], SHARES) == [0, 2, 1]
    assert deal([4, 4, 2], SHARES) == [0, 2, 1]


def test_the_parts_of_a_total_follow_the_largest_remainders():
    assert apportion(10, (70, 10, 20)) == [7, 1, 2]
    assert apportion(4, (70, 10, 20)) == [3, 0, 1]  # 2.8, 0.4, 0.8
    assert apportion(3, (70, 10)) == [3, 0]  # 2.625, 0.375
    assert apportion(1, (34, 33, 33)) == [1, 0, 0]


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another(three):
    one, again, other = (split_by_text(three, SPLITS, seed)["test"] for seed in (1, 1, 2))
    assert pairs_of(one) == pairs_of(again)
    assert set(pairs_of(one)) != set(pairs_of(other))


def test_what_was_split_and_how_is_the_same_for_every_seed(three):
    one, other = prepare(three, split_seed=5), prepare(three, split_seed=6)
    assert (one.whole == other.whole, one.digest == other.digest) == (True, False)
    assert one.whole != prepare(three, split_seed=5, shares=(80, 10, 10)).whole
    assert one.whole != prepare(three, split_seed=5, balance=True).whole
    assert one.whole != prepare(three.iloc[1:], split_seed=5).whole


def test_a_split_does_not_keep_the_order_of_the_file():
    train = split_by_text(distinct(a=20, b=20), SPLITS, 123)["train"]
    assert train["Label"].tolist() != sorted(train["Label"])


def test_balancing_keeps_as_many_of_each_class_in_their_order(three):
    balanced = balance_classes(three, 123)
    counts = Counter(three["Label"])
    assert Counter(balanced["Label"]) == dict.fromkeys(counts, min(counts.values()))
    rest = iter(pairs_of(three))
    assert all(pair in rest for pair in pairs_of(balanced))  # a subsequence
    assert pairs_of(balance_classes(three, 1)) != pairs_of(balanced)


def test_smaller_training_sets_are_stratified_subsets_of_larger_ones(three):
    shares = three["Label"].value_counts(normalize=True)
    previous = Counter()
    for size in (3, 4, 10, 50, 299, 300):
        chosen = thin_classes(three, size, 123)
        counts = chosen["Label"].value_counts().reindex(shares.index, fill_value=0)
        assert len(chosen) == size
        assert counts.min() >= 1
        assert ((counts - size * shares).abs() <= 1).all() or size == 3
        now = Counter(pairs_of(chosen))
        assert not previous - now
        previous = now
    assert pairs_of(chosen) == pairs_of(three)


@pytest.mark.parametrize("size", [2, 301])
def test_a_training_set_cannot_be_smaller_than_its_classes_or_larger_than_it_is(three, size):
    with pytest.raises(ValueError, match=f"^--train_size {size} has to be between .*, 3, .*, 300$"):
        thin_classes(three, size, 123)


def test_class_weights_are_the_inverse_frequencies_and_one_on_average():
    labels = [0] * 6 + [1] * 3 + [2]
    weights = class_weights(labels, 3)
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert weights[labels].mean() == pytest.approx(1)
    with pytest.raises(ValueError, match="class 1 has no message"):
        class_weights([0, 2], 3)


@pytest.mark.parametrize("text", ["70/10/20", "80/10/10", "98/1/1"])
def test_shares_are_three_percentages(text):
    assert "/".join(map(str, parse_shares(text))) == text


@pytest.mark.parametrize(
    "text", ["", "80/20", "80/20/0", "80/10/20", "0.8/0.1/0.1", "80/10/10/", "٨٠/10/10"]
)
def test_other_shares_are_one_sentence(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be three percentages .*, got '"):
        parse_shares(text)


# ------------------------------------------------------------------------------- the whole


def test_classes_are_numbered_in_order_of_their_names(three):
    own = prepare(three)
    assert own.class_names == ("order", "other", "return")
    named = Counter(
        (own.class_names[k], text) for s in own.splits.values() for k, text in pairs_of(s)
    )
    assert named == Counter(pairs_of(three))
    assert [*own.splits] == ["train", "validation", "test"]
    assert [len(s) for s in own.splits.values()] == [210, 30, 60]


def test_whole_numbers_are_in_order_of_their_values():
    assert sort_names(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert sort_names(["10", "09"]) == ("09", "10")
    assert sort_names(["10", "9", "b"]) == ("10", "9", "b")


def test_given_splits_stay_as_they_are_and_in_their_order():
    train, validation, test = distinct(a=9, b=5), distinct(b=1, a=1), table(("a", "x"), ("b", "y"))
    own = prepare(train, validation, test)
    assert own.splits["train"]["Label"].tolist() == [0] * 9 + [1] * 5
    assert own.splits["validation"]["Label"].tolist() == [1, 0]
    assert own.splits["test"]["Text"].tolist() == ["x", "y"]


def test_with_a_given_test_set_the_others_keep_their_ratio():
    own = prepare_own({"train": distinct(a=16, b=8), "test": table(("a", "x"))}, SHARES, 123)
    assert [len(s) for s in own.splits.values()] == [21, 3, 1]  # 70 : 10 of 24


def test_what_is_chosen_leaves_validation_and_test_alone(three):
    whole, thin = prepare(three), prepare(three, train_size=30)
    for name in ("validation", "test"):
        assert pairs_of(whole.splits[name]) == pairs_of(thin.splits[name])
    assert len(thin.splits["train"]) == 30
    assert not Counter(pairs_of(thin.splits["train"])) - Counter(pairs_of(whole.splits["train"]))


def test_balanced_classes_are_balanced_in_each_split():
    own = prepare(distinct(a=20, b=10), balance=True)
    assert [s["Label"].value_counts().tolist() for s in own.splits.values()] == [
        [7, 7],
        [1, 1],
        [2, 2],
    ]
    assert own.notes == ["balanced: 20 of 30 messages are kept"]


def test_the_digest_tells_splits_apart(three):
    digests = {
        prepare(*given, **options).digest
        for given, options in [
            ((three,), {}),
            ((three,), {"split_seed": 1}),
            ((three,), {"balance": True}),
            ((three,), {"train_size": 200}),
            ((three,), {"shares": (80, 10, 10)}),
            ((three.replace("other", "others"),), {}),
            ((three, three, three), {}),
            ((three, three[:-1], three), {}),
        ]
    }
    assert len(digests) == 8
    assert prepare(three).digest in digests


# ------------------------------------------------------------------------------------ errors, notes


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([table(("a", "x"), ("", "y"), (" ", "z"))],
         "2 of 3 messages of the training data have no label, first message 2: .*"),
        ([distinct(a=9, b=2, c=1)],
         r"a class needs 3 different texts, .*; fewer have 'b' \(2\), 'c' \(1\): .*"),
        ([pd.concat([distinct(a=9), table(*[("b", "y")] * 5)])],
         r"a class needs 3 different texts, .*; fewer have 'b' \(1\): .*"),
        ([distinct(a=9)],
         "all messages to train on are of the class 'a', expected two or more"),
        ([distinct(a=9, b=9), distinct(a=1), table(("b", "x"), ("d", "y"), ("c", "z"), ("c", "w"))],
         "the test data has labels that the training data lacks: 'c', 'd', in 3 messages; training "
         "has 'a', 'b'"),
        ([distinct(a=9, b=9), table(("B", "x")), distinct(a=1)],
         "the validation data has labels that the training data lacks: 'B', in 1 messages; .*"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_sentence(tables, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        prepare(*tables)


def test_nothing_is_noted_where_there_is_nothing_to_say():
    assert prepare(distinct(a=30, b=30)).notes == []


def notes_of(*more):
    return prepare(pd.concat([distinct(a=30, b=30), table(*more)], ignore_index=True)).notes


def test_equal_texts_with_different_labels_are_counted_and_the_first_three_shown():
    torn = [(label, text * 70) for text in "uvwxy" for label in "ba"]
    shown = ", ".join(f"'{text * 60}…' (b, a)" for text in "uvw")
    assert notes_of(*torn) == [f"5 texts stand there with different labels: {shown} and 2 more"]


def test_empty_texts_are_counted():
    assert notes_of(("a", ""), ("a", " \n")) == ["2 of 62 texts are empty or blank, and kept so"]


def test_labels_that_may_be_meant_as_one_are_told():
    (note,) = notes_of(*[("A ", f"one{'!' * i}") for i in range(5, 15)])
    assert note == "classes that differ in case or blanks only: 'A ' and 'a'"


def test_classes_with_hardly_a_message_are_told():
    assert prepare(distinct(a=30, b=3)).notes == [
        "the training data has few or no messages of these classes: 'b' (1)"
    ]
    train = distinct(a=9, b=2)
    assert prepare(train, table(("a", "x")), table(("b", "y"), ("a", "z"))).notes == [
        "the training data has few or no messages of these classes: 'b' (2)",
        "the validation data has few or no messages of these classes: 'b' (0)",
    ]


def test_texts_that_stand_in_two_given_splits_are_counted_equal_or_nearly_so():
    train = table(*[("a", "Call 0800 now"), ("b", "hi"), ("b", "12"), ("a", "  ")] * 3)
    validation = table(("a", "Call 0800 now"), ("a", "call 1 NOW"), ("b", "34"))
    test = table(("b", "hi"), ("b", "HI 2"), ("b", "h i"), ("a", "call1now"))
    assert prepare(train, validation, test).notes[1:] == [
        "1 of 3 texts of the validation data stand in the training data as well",
        "1 of 3 texts of the validation data stand in the training data but for case, digits and "
        "blanks",
        "1 of 4 texts of the test data stand in the training data as well",
        "3 of 4 texts of the test data stand in the training data but for case, digits and blanks",
        "1 of 4 texts of the test data stand in the validation data but for case, digits and "
        "blanks",
    ]


def test_labels_and_texts_of_any_kind_pass(three):
    own = prepare(pd.concat([three, distinct(**{"🎁": 3, "a\nb": 3})]))
    assert own.class_names == ("a\nb", "order", "other", "return", "🎁")
    assert all(s["Label"].dtype == np.int64 for s in own.splits.values())
