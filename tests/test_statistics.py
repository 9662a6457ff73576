import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats import contingency_tables, multitest, proportion

from experiments.comparison.statistics import (
    MISSING,
    NO_PRIOR,
    Components,
    Error,
    Prior,
    Spread,
    components_of,
    cross,
    holm,
    mcnemar,
    p_value_of_one_seed,
    pairing_limits,
    pool_seeds,
    reach_of,
    spread_of,
    units_of,
    wilson_interval,
)


def made_up(seeds, examples, of_seeds=0.5, of_examples=1.0, rest=0.3, seed=0):
    """Differences (S, N) with effects of such standard deviations."""
    generator = np.random.default_rng(seed)
    return (
        generator.normal(0, of_seeds, (seeds, 1))
        + generator.normal(0, of_examples, examples)
        + generator.normal(0, rest, (seeds, examples))
    )


# ------------------------------------------------------------------------------------------ counts


def test_tests_of_counts_are_those_of_statsmodels():
    for count, total in ((0, 12), (7, 12), (285, 300), (300, 300)):
        expected = proportion.proportion_confint(count, total, method="wilson")
        assert wilson_interval(count, total) == pytest.approx(expected, abs=1e-12)
    for counts in ((0, 0), (0, 5), (7, 1), (3, 9), (40, 71)):
        found = contingency_tables.mcnemar([[100, counts[0]], [counts[1], 7]], exact=True)
        assert mcnemar(*counts) == mcnemar(*counts[::-1]) == pytest.approx(found.pvalue, rel=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, 18])
def test_holms_correction_is_that_of_statsmodels(size):
    for power in (1, 3):  # of 1, some reach 1
        p_values = np.random.default_rng(size).uniform(size=size) ** power
        expected = multitest.multipletests(p_values, method="holm")[1]
        assert holm(p_values) == pytest.approx(expected, rel=1e-12)
    assert holm([]) == []


@pytest.mark.parametrize(("first", "second"), [(9, 6), (6, 9), (8, 8), (12, 3), (12, 12)])
def test_pairing_limits_are_the_extremes_of_all_pairings(first, second):
    possible = [
        mcnemar(first - both, second - both)
        for both in range(13)
        if both <= min(first, second) and first + second - both <= 12
    ]
    assert pairing_limits(first, second, 12) == pytest.approx((min(possible), max(possible)))


# ------------------------------------------------------------------------------------- the layout


@pytest.mark.parametrize("shape", [(2, 7), (3, 10), (5, 4)])
@pytest.mark.parametrize("effects", [(0.5, 1.0), (0.0, 0.0)])
def test_components_are_those_of_statsmodels_analysis_of_variance_if_not_below_0(shape, effects):
    S, N = shape
    units = made_up(S, N, *effects)
    place = itertools.product(range(S), range(N))
    table = pd.DataFrame(place, columns=["seed", "example"]).assign(y=units.ravel())
    found = sm.stats.anova_lm(ols("y ~ C(seed) + C(example)", table).fit())
    of_seeds, of_examples, rest = found["mean_sq"]
    expected = np.clip([(of_seeds - rest) / N, (of_examples - rest) / S, rest], 0, None)
    assert components_of(units) == pytest.approx(tuple(expected))


def test_examples_with_one_text_are_one_unit_which_counts_by_its_size():
    once = made_up(4, 30)
    assert units_of(np.repeat(once, 2, axis=1), np.repeat(range(30), 2)) == pytest.approx(once)
    values, clusters = made_up(3, 12), [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5]
    assert units_of(values, clusters).mean(axis=1) == pytest.approx(values.mean(axis=1))
    robust = {"cov_type": "cluster", "cov_kwds": {"groups": clusters}}
    error = sm.OLS(values[0], np.ones(12)).fit(**robust).bse[0]
    assert components_of(units_of(values[:1], clusters)).examples == pytest.approx(6 * error**2)


def test_the_variance_of_a_mean_is_the_sum_of_its_parts():
    error = Spread(Components(seeds=2e-4, examples=0.02, rest=0.03), NO_PRIOR, 0.5).error(5, 300)
    of_examples = 0.02 / 300 + MISSING * 0.25 / 300**2
    assert error == pytest.approx((2e-4 / 5 + 2e-5, 4, 2e-5, of_examples, 299))


# --------------------------------------------------------------------------------------- intervals


def test_if_only_seeds_or_only_examples_matter_the_interval_is_students():
    of_seeds, of_examples = made_up(5, 1)[:, 0], made_up(1, 40)[0]
    for units, values in (
        (np.repeat(of_seeds[:, None], 40, axis=1), of_seeds),
        (np.repeat(of_examples[None], 5, axis=0), of_examples),
    ):
        found, expected = cross(units), stats.ttest_1samp(values, 0)
        assert found.p_value == pytest.approx(expected.pvalue, rel=1e-3)
        assert found.interval == pytest.approx(tuple(expected.confidence_interval()), rel=1e-3)
    assert p_value_of_one_seed(of_examples[None]) == pytest.approx(found.p_value)


@pytest.mark.parametrize("least", [0.0, 0.5])
def test_an_error_is_the_sum_of_two_t_variables_the_first_with_a_variance_not_below_the_least(
    least,
):
    error, generator = Error(1.0, 3.0, least, 2.0, 1e6), np.random.default_rng(0)
    variances = np.maximum(3 / generator.chisquare(3, 10**6), least)
    drawn = generator.normal(size=10**6) * np.sqrt(variances + 2)
    for share in (0.2, 0.025, 0.001):
        assert error.tail(np.quantile(drawn, 1 - share)) == pytest.approx(share, rel=0.08)


@pytest.mark.parametrize("degrees", [2, 4.5, 30])
def test_p_values_have_no_floor_and_quantiles_invert_them(degrees):
    error = Error(1.0, degrees, 0.0, 0.0, 99)
    assert error.tail(float(stats.t.isf(1e-9, degrees))) == pytest.approx(1e-9, rel=0.02)
    assert error.tail(error.quantile(0.01)) == pytest.approx(0.01)
    assert error.tail(0) == pytest.approx(0.5)
    certain = Error(0.0, degrees, 0.0, 0.0, 29.0)
    assert [certain.tail(size) for size in (0.0, 1e-9)] == [0.5, 0.0]
    assert certain.interval(0.2, 0.05) == (0.2, 0.2)


@pytest.mark.parametrize("examples", [100, 293])
def test_if_no_example_differs_the_interval_is_about_the_exact_one(examples):
    found = cross(np.zeros((3, examples)), reach=1.0)
    assert (found.mean, found.p_value, found.seeds_limit) == (0, 1, 0)
    exact = stats.binomtest(0, examples).proportion_ci(0.9).high
    assert found.equivalence.high == -found.equivalence.low == pytest.approx(exact, rel=0.03)


def test_a_missing_example_is_as_those_that_differ():
    units = np.zeros((4, 100))
    assert spread_of(units, reach=0.9).reach == 0.9
    units[:2, 0], units[:2, 1] = 1, -1
    assert [spread_of(units, reach=reach).reach for reach in (1.0, 0.0)] == [pytest.approx(0.5), 0]
    found = cross(units, reach=1.0)
    assert np.ptp(found.equivalence) > np.ptp(cross(units).equivalence)


def test_the_reach_is_that_of_a_text_of_ordinary_size():
    assert reach_of(np.ones(300), range(300)) == 1
    assert reach_of(np.ones(4), [0, 0, 0, 1]) == pytest.approx(math.sqrt((1.5**2 + 0.5**2) / 2))


def test_too_few_seeds_or_examples_say_nothing_about_others():
    for shape in ((2, 30), (3, 1)):
        words = f"^{shape[0]} seeds and {shape[1]} examples, expected 3 and 2 or more"
        with pytest.raises(ValueError, match=words):
            cross(np.ones(shape))
    cross(made_up(3, 2))


def test_the_share_of_the_seeds_has_an_upper_limit():
    assert cross(made_up(5, 200, 0.0, 1.0, 1.0)).seeds_limit < 0.5
    assert cross(np.zeros((3, 30))).seeds_limit == 0
    limits = [cross(made_up(5, 100, 1.0, 1, 0.5, seed=i)).seeds_limit for i in range(200)]
    share = 1 / 5 / (1 / 5 + 1 / 100 + 0.25 / 500)
    assert np.mean(np.array(limits) >= share) == pytest.approx(0.95, abs=0.04)


# ----------------------------------------------------------------------------------------- priors


def test_equal_variances_are_pooled_and_unequal_ones_are_not():
    alike = [made_up(5, 20, 1.0, 0.0, 0.0, seed=seed) for seed in range(17)]
    variance = np.mean([units.mean(axis=1).var(ddof=1) for units in alike])
    assert pool_seeds(alike) == pytest.approx((variance, (4 * 17 / 20 - 1) * 4, 17))
    assert pool_seeds([units * 8.0**k for k, units in enumerate(alike)]).degrees < 1


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_designs_that_agree_on_the_seeds_are_worth_fewer_degrees(share):
    common, *own = (np.repeat(made_up(400, 1, 1, 0, 0, seed), 2, axis=1) for seed in range(7))
    found = pool_seeds([share**0.5 * common + (1 - share) ** 0.5 * units for units in own])
    squared = max(share, 0.5) ** 2
    assert found.degrees / 399 == pytest.approx(6 / (1 + 5 * squared) - 1, abs=0.15)


def test_variances_of_unequal_numbers_of_seeds_differ_by_the_logarithms_of_gamma_variables():
    sizes = (3, 10, 4, 8, 6, 9)
    designs = [made_up(S, 9, of_seeds=1.6**k, seed=k) for k, S in enumerate(sizes)]
    variances = np.array([units.mean(axis=1).var(ddof=1) for units in designs])
    degrees = np.array(sizes) - 1
    logs = [stats.loggamma(d / 2, loc=-math.log(d / 2)) for d in degrees]  # of s² / σ²
    found = np.log(variances) - [log.mean() for log in logs]
    prior = pool_seeds(designs)
    of_prior = found.var(ddof=1) - np.mean([log.var() for log in logs])
    assert stats.loggamma(prior.degrees / 2).var() == pytest.approx(of_prior)
    assert prior.variance == pytest.approx((variances * degrees).sum() / degrees.sum())


def test_a_prior_moderates_the_seeds_variance_and_adds_its_degrees():
    units, prior = made_up(5, 30), Prior(0.7, 6.0, 4)
    assert prior.with_one(1.5) == (pytest.approx(0.9), 6.0, 4)  # the mean of all four
    own, spread = units.mean(axis=1).var(ddof=1), spread_of(units, prior)
    rest = spread.components.rest
    assert spread.components.seeds == pytest.approx((6 * 0.7 + 4 * own) / 10 - rest / 30)
    assert spread.error(5, 30).degrees == 10
    assert cross(units, prior).components == spread.components


def test_there_is_no_prior_of_one_design_or_of_none_that_differs():
    units = made_up(5, 30)
    for designs in ([], [units], [units, made_up(2, 30)], [np.zeros((3, 30))] * 4):
        assert pool_seeds(designs) == NO_PRIOR
    assert pool_seeds([units, np.zeros((5, 30))]).variance > 0
