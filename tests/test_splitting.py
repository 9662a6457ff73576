import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from three_classes import pairs_of, table, three_classes

from experiments.data.splitting import (
    _assign,
    balance_classes,
    group_by_text,
    split_by_text,
    subsample,
)

SHARES = (70, 10, 20)
THREE = table(*three_classes())
SPLITS = dict(zip(("train", "validation", "test"), SHARES, strict=True))
FEW_TEXTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 30).map("text {}".format)),
    min_size=1, max_size=80,
)  # fmt: skip
few = settings(max_examples=30)


# ---------------------------------------------------------------------------------------- splitting


@few
@given(pairs=FEW_TEXTS, seed=st.integers(0, 99))
def test_equal_texts_are_in_the_same_split_and_nothing_is_lost(pairs, seed):
    splits = split_by_text(table(*pairs), SPLITS, seed)
    for first, second in itertools.combinations(splits.values(), 2):
        assert not set(first["Text"]) & set(second["Text"])
    assert Counter(p for s in splits.values() for p in pairs_of(s)) == Counter(pairs)
    assert all(s.index.tolist() == list(range(len(s))) for s in splits.values())
    for _, texts in group_by_text(table(*pairs)).groupby("Label")["Text"]:
        assert len(texts) < 3 or all({*texts} & {*s["Text"]} for s in splits.values())


@few
@given(
    counts=st.lists(st.integers(3, 60), min_size=1, max_size=4),
    shares=st.sampled_from([(70, 10, 20), (80, 10, 10), (34, 33, 33), (98, 1, 1)]),
)
def test_each_label_has_its_share_of_each_split_and_at_least_one_example(counts, shares):
    examples = table(*((f"k{i}", f"{i} {j}") for i, n in enumerate(counts) for j in range(n)))
    splits = split_by_text(examples, dict(zip(SPLITS, shares, strict=True)), 1)
    for i, n in enumerate(counts):
        found = [int((s["Label"] == f"k{i}").sum()) for s in splits.values()]
        exact = [n * share / 100 for share in shares]
        assert min(found) >= 1
        assert all(abs(f - e) < 1 or f == 1 or e > n - 3 for f, e in zip(found, exact, strict=True))


def test_a_group_goes_to_the_split_that_lacks_most():
    # Of 10, 7 / 1 / 2 are wanted: the four go to training, the next to training (3 lacking), ...
    assert _assign([4, 2, 1, 1, 1, 1], SHARES) == [0, 0, 2, 0, 1, 2]
    assert _assign([8, 1, 1], SHARES) == [0, 2, 1]
    assert _assign([4, 4, 2], SHARES) == [0, 2, 1]
    assert _assign([1, 1], SHARES) == [0, 1]  # fewer groups than splits


def test_a_text_has_its_most_frequent_label_and_frequent_texts_come_first():
    pairs = [*["cx", "ax", "bx", "bx"], *["by", "ay"], *["cz", "cz", "az"], *["bw", "aw"]]
    groups = group_by_text(table(*map(tuple, pairs)))
    assert pairs_of(groups) == [("b", "x"), ("c", "z"), ("a", "y"), ("a", "w")]
    assert groups["total"].tolist() == [4, 3, 2, 2]
    ties = group_by_text(table(*((k, f"{i}") for i in range(40) for k in "ba" * (1 + i % 2))))
    assert pairs_of(ties) == [("a", f"{i}") for i in [*range(1, 40, 2), *range(0, 40, 2)]]


# --------------------------------------------------------------------------- balancing, subsampling


def assert_is_part(sample):
    rest = iter(pairs_of(THREE))
    assert all(pair in rest for pair in pairs_of(sample))  # a subsequence
    assert sample.index.tolist() == list(range(len(sample)))


def test_balancing_selects_as_many_random_examples_of_each_class_in_their_order():
    balanced = balance_classes(THREE, 123)
    counts = Counter(THREE["Label"])
    assert Counter(balanced["Label"]) == dict.fromkeys(counts, min(counts.values()))
    assert_is_part(balanced)
    assert pairs_of(balance_classes(THREE, 1)) != pairs_of(balanced)


def test_smaller_samples_are_stratified_parts_of_larger_ones_in_their_order():
    shares = THREE["Label"].value_counts(normalize=True)
    previous = Counter()
    for size in (3, 4, 10, 50, 299, 300):
        sample = subsample(THREE, size, 123)
        counts = sample["Label"].value_counts().reindex(shares.index, fill_value=0)
        assert len(sample) == size
        assert counts.min() >= 1
        assert ((counts - size * shares).abs() <= 1).all() or size == 3
        assert_is_part(sample)
        now = Counter(pairs_of(sample))
        assert not previous - now
        previous = now
    assert pairs_of(subsample(THREE, 50, 1)) != pairs_of(subsample(THREE, 50, 123))


def test_a_sample_of_any_size_is_the_one_that_records_were_made_with():
    examples = table(*((k, f"{k}{i}") for k in "abc" for i in range(8)))
    samples = [set(subsample(examples, size, 123)["Text"]) for size in range(3, 14)]
    added = [(larger - smaller).pop() for smaller, larger in itertools.pairwise(samples)]
    assert sorted(samples[0]) == ["a5", "b7", "c4"]
    assert added == ["c5", "b0", "a7", "c2", "b3", "a4", "a3", "c7", "b4", "c0"]


@pytest.mark.parametrize("size", [2, 301])
def test_a_sample_has_no_fewer_examples_than_classes_and_no_more_than_there_are(size):
    with pytest.raises(ValueError, match=f"^--train_size {size} must be between .*, 3, .*, 300$"):
        subsample(THREE, size, 123)
