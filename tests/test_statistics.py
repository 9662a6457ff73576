import itertools
import math

import numpy as np
import pytest
from statsmodels.stats import contingency_tables, multitest, proportion

from experiments.comparison.statistics import holm, mcnemar, pairing_limits, wilson_interval


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (15, 148, 0.0624, 0.1605),  # Newcombe 1998, Stat. Med. 17, table I: methods 3, 81/263 etc.
        (81, 263, 0.2553, 0.3662),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_one_of_newcombes_table(count, total, low, high):
    interval = wilson_interval(count, total)
    assert interval == pytest.approx((low, high), abs=5e-5)


def exact(only_first, only_second):
    """The two-sided exact p-value by counting all outcomes at least as far from the middle."""
    n = only_first + only_second
    far = abs(only_first - n / 2)
    return sum(math.comb(n, k) for k in range(n + 1) if abs(k - n / 2) >= far) / 2**n


def test_mcnemar_is_exact():
    for only_first, only_second in itertools.product(range(9), repeat=2):
        expected = exact(only_first, only_second)
        assert mcnemar(only_first, only_second) == pytest.approx(expected)
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 7) == pytest.approx(0.0703125)


def test_holm_steps_down_and_never_turns_around():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("counts", [(0, 0), (0, 5), (3, 9), (40, 71)])
def test_mcnemar_agrees_with_statsmodels(counts):
    found = contingency_tables.mcnemar([[100, counts[0]], [counts[1], 7]], exact=True)
    assert mcnemar(*counts) == pytest.approx(found.pvalue, rel=1e-12)


@pytest.mark.parametrize(("count", "total"), [(0, 12), (7, 12), (285, 300), (300, 300)])
def test_wilsons_interval_agrees_with_statsmodels(count, total):
    expected = proportion.proportion_confint(count, total, method="wilson")
    assert wilson_interval(count, total) == pytest.approx(expected, abs=1e-12)


def test_holm_agrees_with_statsmodels():
    for size in (1, 2, 7, 18):
        p_values = np.random.default_rng(size).uniform(size=size) ** 3
        expected = multitest.multipletests(p_values, method="holm")[1]
        assert holm(p_values) == pytest.approx(expected, rel=1e-12)


def test_pairing_limits_are_the_extremes_of_all_pairings():
    for first, second in ((9, 6), (6, 9), (8, 8), (12, 3), (12, 12)):
        possible = [
            mcnemar(first - both, second - both)
            for both in range(13)
            if both <= min(first, second) and first + second - both <= 12
        ]
        assert pairing_limits(first, second, 12) == pytest.approx((min(possible), max(possible)))
