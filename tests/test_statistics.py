import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, stats
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
    interval_over_splits,
    mcnemar,
    p_value_of_one_seed,
    pairing_limits,
    pool_seeds,
    reach_of,
    spread_of,
    units_of,
    wilson_interval,
)

CLUSTERS = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5]


def made_up(seeds, examples, of_seeds=0.5, of_examples=1.0, rest=0.3, seed=0):
    """Differences (S, N) with effects of such standard deviations."""
    generator = np.random.default_rng(seed)
    return (
        generator.normal(0, of_seeds, (seeds, 1))
        + generator.normal(0, of_examples, examples)
        + generator.normal(0, rest, (seeds, examples))
    )


# ------------------------------------------------------------------------------------------ counts


@pytest.mark.parametrize(("count", "total"), [(0, 12), (7, 12), (285, 300), (300, 300)])
def test_wilsons_interval_is_that_of_statsmodels(count, total):
    expected = proportion.proportion_confint(count, total, method="wilson")
    assert wilson_interval(count, total) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("counts", [(0, 0), (0, 5), (7, 1), (3, 9), (40, 71)])
def test_mcnemar_is_that_of_statsmodels(counts):
    found = contingency_tables.mcnemar([[100, counts[0]], [counts[1], 7]], exact=True)
    assert mcnemar(*counts) == mcnemar(*counts[::-1]) == pytest.approx(found.pvalue, rel=1e-12)


def test_holm_steps_down_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("size", [1, 2, 7, 18])
def test_holm_is_that_of_statsmodels(size):
    p_values = np.random.default_rng(size).uniform(size=size) ** 3
    expected = multitest.multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("first", "second"), [(9, 6), (6, 9), (8, 8), (12, 3), (12, 12)])
def test_pairing_limits_are_the_extremes_of_all_pairings(first, second):
    possible = [
        mcnemar(first - both, second - both)
        for both in range(13)
        if both <= min(first, second) and first + second - both <= 12
    ]
    assert pairing_limits(first, second, 12) == pytest.approx((min(possible), max(possible)))


# ------------------------------------------------------------------------------------- the layout


@pytest.mark.parametrize(("seeds", "examples"), [(2, 7), (3, 10), (5, 4)])
def test_components_are_those_of_statsmodels_analysis_of_variance(seeds, examples):
    units = made_up(seeds, examples)
    place = itertools.product(range(seeds), range(examples))
    table = pd.DataFrame(place, columns=["seed", "example"]).assign(y=units.ravel())
    of_seeds, of_examples, rest = sm.stats.anova_lm(ols("y ~ C(seed) + C(example)", table).fit())[
        "mean_sq"
    ]
    found = components_of(units)
    assert found.rest == pytest.approx(rest)
    assert found.seeds == pytest.approx(max(0, (of_seeds - rest) / examples))
    assert found.examples == pytest.approx((of_examples - rest) / seeds)


def restricted_likelihood(logs, units):
    """Minus twice the restricted log-likelihood of (S, N) units, from their dense covariance."""
    S, N = units.shape
    seeds, examples, rest = np.exp(logs)
    V = seeds * np.kron(np.eye(S), np.ones((N, N))) + examples * np.kron(np.ones((S, S)), np.eye(N))
    V += rest * np.eye(S * N)
    ones, y = np.ones(S * N), units.ravel()
    inverse, information = np.linalg.solve(V, np.column_stack([ones, y])).T, None
    information = ones @ inverse[0]
    residual = y - (inverse[0] @ y) / information
    return np.linalg.slogdet(V)[1] + math.log(information) + residual @ np.linalg.solve(V, residual)


def test_components_are_those_of_restricted_maximum_likelihood():
    units = made_up(4, 12, of_seeds=0.8)
    fit = optimize.minimize(
        restricted_likelihood, np.zeros(3), units, method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 2000},
    )  # fmt: skip
    assert components_of(units) == pytest.approx(tuple(np.exp(fit.x)), rel=1e-4)


def test_no_component_is_below_0():
    found = [components_of(made_up(3, 20, 0, 0, seed=seed)) for seed in range(20)]
    assert all(part >= 0 for components in found for part in components)
    assert {bool(components.seeds) for components in found} == {True, False}
    assert {bool(components.examples) for components in found} == {True, False}


def test_examples_with_one_text_are_one_unit():
    once = made_up(4, 30)
    twice, clusters = np.repeat(once, 2, axis=1), np.repeat(range(30), 2)
    assert units_of(twice, clusters) == pytest.approx(once)
    alone = units_of(twice, range(60))
    assert cross(alone).interval != pytest.approx(cross(once).interval, rel=0.1)


def test_clusters_of_unequal_size_have_the_robust_error_of_statsmodels():
    values = made_up(1, 12)
    units = units_of(values, CLUSTERS)
    fit = sm.OLS(values[0], np.ones(12)).fit(cov_type="cluster", cov_kwds={"groups": CLUSTERS})
    assert math.sqrt(components_of(units).examples / 6) == pytest.approx(fit.bse[0])


def test_units_have_the_mean_of_the_examples_for_every_seed():
    values = made_up(3, 12)
    assert units_of(values, CLUSTERS).mean(axis=1) == pytest.approx(values.mean(axis=1))


def test_the_variance_of_a_mean_is_the_sum_of_its_parts():
    components = Components(seeds=2e-4, examples=0.02, rest=0.03)
    assert components.parts(5, 300) == (2e-4 / 5, 0.02 / 300, 0.03 / 1500)
    error = Spread(components, NO_PRIOR, 0.5).error(5, 300)
    assert error.seeds == pytest.approx(2e-4 / 5 + 0.03 / 1500)
    assert (error.degrees, error.least) == (4, 0.03 / 1500)
    assert error.examples == pytest.approx(0.02 / 300 + MISSING * 0.25 / 300**2)


# --------------------------------------------------------------------------------------- intervals


def test_if_only_seeds_matter_the_interval_is_students_over_seeds():
    units = np.repeat(made_up(5, 1), 40, axis=1)
    found, expected = cross(units), stats.ttest_1samp(units[:, 0], 0)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-3)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()), rel=1e-3)


@pytest.mark.parametrize("seeds", [1, 5])
def test_if_only_examples_matter_the_interval_is_students_over_examples(seeds):
    units = np.repeat(made_up(1, 40), seeds, axis=0)
    expected = stats.ttest_1samp(units[0], 0)
    if seeds == 1:
        assert p_value_of_one_seed(units) == pytest.approx(expected.pvalue)
        return
    found = cross(units)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_the_error_is_the_sum_of_two_t_variables():
    error, generator = Error(1.0, 3.0, 0.0, 2.0, 1e6), np.random.default_rng(0)
    drawn = generator.standard_t(3, 10**6) + math.sqrt(2) * generator.normal(size=10**6)
    for share in (0.2, 0.025, 0.001):
        assert error.tail(np.quantile(drawn, 1 - share)) == pytest.approx(share, rel=0.08)


def test_the_seeds_variance_is_at_least_that_of_the_rest():
    error, generator = Error(1.0, 2.0, 0.5, 0.0, 1e6), np.random.default_rng(0)
    variances = np.maximum(2 / generator.chisquare(2, 10**6), 0.5)
    drawn = np.sqrt(variances) * generator.normal(size=10**6)
    assert error.tail(1.0) == pytest.approx((drawn > 1).mean(), rel=0.01)


@pytest.mark.parametrize("degrees", [2, 4.5, 30])
def test_p_values_have_no_floor_and_quantiles_invert_them(degrees):
    error = Error(1.0, degrees, 0.0, 0.0, 99)
    size = float(stats.t.isf(1e-9, degrees))
    assert error.tail(size) == pytest.approx(1e-9, rel=0.02)
    assert error.tail(error.quantile(0.01)) == pytest.approx(0.01)
    assert error.tail(0) == pytest.approx(0.5)


def test_a_larger_difference_has_a_smaller_p_value():
    units = made_up(5, 80, 0.1, 1.0, 1.0)
    p_values = [cross(units - units.mean() + shift).p_value for shift in (0, 0.2, 0.5, 2.0, 5.0)]
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[0] == pytest.approx(1)


def test_a_p_value_is_below_5_percent_if_the_interval_lacks_0():
    for seed in range(40):
        found = cross(made_up(4, 20, 0.1, 1.0, 1.0, seed=seed) + 0.5)
        assert (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


@pytest.mark.parametrize("examples", [100, 293])
def test_if_no_example_differs_the_interval_is_about_the_exact_one(examples):
    found = cross(np.zeros((3, examples)), reach=1.0)
    assert (found.mean, found.p_value) == (0, 1)
    exact = stats.binomtest(0, examples).proportion_ci(0.9).high
    assert found.equivalence.high == -found.equivalence.low == pytest.approx(exact, rel=0.03)


def test_more_disagreement_never_narrows_the_interval():
    for column in (1.0, [1, 0, 0, 0, 0]):
        widths, units = [], np.zeros((5, 293))
        for number in range(12):
            widths.append(np.ptp(cross(units, reach=1.0).equivalence))
            units[:, number] = np.multiply(column, (-1) ** number)
        assert widths == sorted(widths)


def test_equal_seeds_at_4_to_0_are_not_more_certain_than_one():
    units = np.zeros((5, 300))
    units[:, :4] = 1
    assert cross(units, reach=1.0).p_value >= mcnemar(4, 0) == 0.125


def test_a_missing_example_is_as_those_that_differ():
    units = np.zeros((4, 100))
    assert spread_of(units, reach=0.9).reach == 0.9
    units[:2, 0], units[:2, 1] = 1, -1
    assert spread_of(units, reach=1.0).reach == pytest.approx(0.5)
    assert spread_of(units).reach == 0
    found = cross(units, reach=1.0)
    assert np.ptp(found.equivalence) > np.ptp(cross(units).equivalence)


def test_the_reach_is_that_of_a_text_of_ordinary_size():
    assert reach_of(np.ones(300), range(300)) == 1
    assert reach_of(np.ones(6), [0, 0, 1, 1, 2, 2]) == 1
    assert reach_of(np.ones(4), [0, 0, 0, 1]) == pytest.approx(math.sqrt((1.5**2 + 0.5**2) / 2))


@pytest.mark.parametrize("shape", [(2, 30), (1, 30), (3, 1)])
def test_too_few_seeds_or_examples_say_nothing_about_others(shape):
    with pytest.raises(
        ValueError, match=f"^{shape[0]} seeds and {shape[1]} .* expected 3 and 2 or"
    ):
        cross(np.ones(shape))
    cross(made_up(3, 2))


def test_the_share_of_the_seeds_has_an_upper_limit():
    assert cross(made_up(5, 200, 0.0, 1.0, 1.0)).seeds_limit < 0.5
    assert cross(np.zeros((3, 30))).seeds_limit == 0
    limits = [cross(made_up(5, 100, 1.0, 1, 0.5, seed=i)).seeds_limit for i in range(200)]
    share = 1 / 5 / (1 / 5 + 1 / 100 + 0.25 / 500)
    assert np.mean(np.array(limits) >= share) == pytest.approx(0.95, abs=0.04)


def test_without_any_variance_each_difference_is_certain():
    certain = Error(0.0, 4.0, 0.0, 0.0, 29.0)
    assert [certain.tail(size) for size in (0.0, 1e-9)] == [0.5, 0.0]
    assert certain.interval(0.2, 0.05) == (0.2, 0.2)


# ----------------------------------------------------------------------------------------- priors


def test_equal_variances_are_pooled_and_unequal_ones_are_not():
    alike = [made_up(5, 20, 1.0, 0.0, 0.0, seed=seed) for seed in range(17)]
    variances = [units.mean(axis=1).var(ddof=1) for units in alike]
    prior = pool_seeds(alike)
    assert prior.variance == pytest.approx(np.mean(variances))
    assert prior.degrees == pytest.approx((4 * 17 / 20 - 1) * 4)
    unequal = pool_seeds([units * 8.0**k for k, units in enumerate(alike)])
    assert unequal.degrees < 1


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
def test_designs_that_agree_on_the_seeds_are_worth_fewer_degrees(share):
    common, own = made_up(400, 1, 1.0, 0.0, 0.0), range(1, 7)
    designs = [
        share**0.5 * common + (1 - share) ** 0.5 * made_up(400, 1, 1.0, 0.0, 0.0, seed=seed)
        for seed in own
    ]
    squared = np.clip(share, 0.5, 1.0) ** 2
    found = pool_seeds([np.repeat(units, 2, axis=1) for units in designs])
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


def test_a_prior_with_another_variance_of_one_design_has_the_mean_of_all():
    assert Prior(0.7, 6.0, 4).with_one(1.5) == Prior(pytest.approx(0.9), 6.0, 4)


def test_a_prior_moderates_the_seeds_variance_and_adds_its_degrees():
    units = made_up(5, 30)
    own, prior = units.mean(axis=1).var(ddof=1), Prior(0.7, 6.0, 4)
    spread = spread_of(units, prior)
    rest = spread.components.rest
    assert spread.components.seeds == pytest.approx((6 * 0.7 + 4 * own) / 10 - rest / 30)
    assert spread.error(5, 30).degrees == 10
    assert cross(units, prior).components == spread.components


def test_there_is_no_prior_of_one_design_or_of_none_that_differs():
    units = made_up(5, 30)
    for designs in ([], [units], [units, made_up(2, 30)], [np.zeros((3, 30))] * 4):
        assert pool_seeds(designs) == NO_PRIOR
    assert pool_seeds([units, np.zeros((5, 30))]).variance > 0


def test_overlapping_training_sets_widen_the_interval_over_splits():
    low, high = interval_over_splits([0.01, 0.02, 0.04], test=20, training=70)
    expected = stats.ttest_1samp([0.01, 0.02, 0.04], 0).confidence_interval()
    ratio = math.sqrt((1 / 3 + 20 / 70) / (1 / 3))
    assert (low + high) / 2 == pytest.approx(0.07 / 3)
    assert high - low == pytest.approx(ratio * (expected.high - expected.low))
