import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats import contingency_tables, multitest, proportion
from statsmodels.stats.power import TTestPower

from experiments.comparison.statistics import (
    Bootstrap,
    Components,
    Constant,
    Student,
    add_two_examples,
    bootstrap_means,
    components_of,
    cross,
    decompose,
    detectable_difference,
    distribution_of,
    examples_needed,
    holm,
    mcnemar,
    mean_of_splits,
    pairing_limits,
    resample,
    seeds_needed,
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


def test_no_component_is_below_0():
    found = [components_of(made_up(3, 20, 0, 0, seed=seed)) for seed in range(20)]
    assert all(part >= 0 for components in found for part in components)
    assert {bool(components.seeds) for components in found} == {True, False}
    assert {bool(components.examples) for components in found} == {True, False}


def test_effects_add_up_to_the_layout_and_have_the_mean_0():
    mean, seeds, examples, rest = decompose(units := made_up(4, 30))
    assert mean + seeds[:, None] + examples + rest == pytest.approx(units)
    for means in (seeds.mean(), examples.mean(), rest.mean(axis=0), rest.mean(axis=1)):
        assert means == pytest.approx(0)


def test_examples_with_one_text_are_one_unit():
    once = made_up(4, 30)
    twice, clusters = np.repeat(once, 2, axis=1), np.repeat(range(30), 2)
    assert units_of(twice, clusters) == pytest.approx(once)
    alone = units_of(twice, range(60))
    assert distribution_of(alone).interval(0.05) != pytest.approx(cross(once).interval, rel=0.1)


def test_clusters_of_unequal_size_have_the_robust_error_of_statsmodels():
    values = made_up(1, 12)
    units = units_of(values, CLUSTERS)
    fit = sm.OLS(values[0], np.ones(12)).fit(cov_type="cluster", cov_kwds={"groups": CLUSTERS})
    assert components_of(units).error(1, 6) == pytest.approx(fit.bse[0])


def test_units_have_the_mean_of_the_examples_for_every_seed():
    values = made_up(3, 12)
    assert units_of(values, CLUSTERS).mean(axis=1) == pytest.approx(values.mean(axis=1))


@pytest.mark.parametrize(
    ("components", "degrees"),
    [
        (Components(1.0, 0.0, 0.0), 4),
        (Components(0.0, 1.0, 0.5), 29),
        (Components(0.0, 0.0, 1.0), 4 * 29),
    ],
)
def test_degrees_of_freedom_are_those_of_the_only_component(components, degrees):
    assert components.degrees(5, 30) == pytest.approx(degrees)


def test_degrees_of_freedom_of_several_components_are_satterthwaites():
    components = components_of(made_up(5, 30))
    rest = components.rest
    seeds, examples = rest + 30 * components.seeds, rest + 5 * components.examples  # mean squares
    expected = (seeds + examples - rest) ** 2 / (
        seeds**2 / 4 + examples**2 / 29 + rest**2 / (4 * 29)
    )
    assert components.degrees(5, 30) == pytest.approx(expected)


def test_the_variance_of_a_mean_is_the_sum_of_its_parts():
    components = Components(seeds=2e-4, examples=0.02, rest=0.03)
    assert components.parts(5, 300) == (2e-4 / 5, 0.02 / 300, 0.03 / 1500)
    assert components.error(5, 300) == pytest.approx(math.sqrt(sum(components.parts(5, 300))))


# --------------------------------------------------------------------------------------- intervals


def test_if_only_seeds_matter_the_interval_is_students_over_seeds():
    units = np.repeat(made_up(5, 1), 40, axis=1)
    found, expected = cross(units), stats.ttest_1samp(units[:, 0], 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_if_only_examples_matter_student_is_that_over_examples():
    units = np.repeat(made_up(1, 40), 5, axis=0)
    components = components_of(units)
    student = Student(units.mean(), components.error(5, 40), components.degrees(5, 40))
    expected = stats.ttest_1samp(units[0], 0)
    assert student.p_value == pytest.approx(expected.pvalue)
    assert student.interval(0.05) == pytest.approx(tuple(expected.confidence_interval()))


@pytest.mark.parametrize("axis", [0, 1])
def test_the_bootstrap_of_seeds_or_of_examples_alone_is_scipys(axis):
    values = made_up(1, 50)[0]
    units = np.repeat(np.expand_dims(values, axis), 4, axis=axis)
    means = bootstrap_means(units, components_of(units))
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(0)
    )
    assert means.std() == pytest.approx(expected.standard_error * math.sqrt(50 / 49), rel=0.05)
    low, high = expected.confidence_interval
    assert Bootstrap(means).interval(0.05) == pytest.approx((low, high), abs=0.02)


def test_the_bootstrap_has_the_standard_error_of_the_components():
    units = made_up(4, 60)
    components = components_of(units)
    means = bootstrap_means(units, components)
    assert means.mean() == pytest.approx(units.mean(), abs=0.02)
    assert means.std() == pytest.approx(components.error(4, 60), rel=0.06)
    assert np.array_equal(means, bootstrap_means(units, components))


def test_effects_that_are_not_scaled_are_resampled_as_the_layout():
    units = made_up(4, 30) ** 3
    _, *effects = decompose(units)
    means = bootstrap_means(units, Components(*(float(np.square(e).mean()) for e in effects)))
    generator = np.random.default_rng(0)
    seeds, examples = resample(4, generator), resample(30, generator)
    assert means == pytest.approx(((seeds @ units) * examples).sum(axis=1) / (4 * 30))


@pytest.mark.parametrize(
    ("means", "p_value"),
    [
        ([1, 2, 3, -1], 4 / 5),
        ([1] * 9, 2 / 10),
        ([0], 1),
        ([0, *[1] * 8], 0.4),
        ([0, *[-1] * 8], 0.4),
    ],
)
def test_the_p_value_of_the_bootstrap_counts_means_on_the_other_side_of_0(means, p_value):
    assert Bootstrap(np.array(means)).p_value == pytest.approx(p_value)


@pytest.mark.parametrize("seed", range(8))
def test_the_wider_interval_is_taken(seed):
    units = made_up(3 + seed, 12, seed=seed) ** 3
    components = components_of(units)
    error, degrees = components.error(*units.shape), components.degrees(*units.shape)
    student = Student(units.mean(), error, degrees).interval(0.05)
    drawn = np.quantile(bootstrap_means(units, components), [0.025, 0.975])
    found = cross(units).interval
    expected = max(student.high - student.low, drawn[1] - drawn[0])
    assert found.high - found.low == pytest.approx(expected)


def test_a_p_value_is_below_5_percent_if_the_interval_lacks_0():
    for seed in range(40):
        found = cross(made_up(4, 20, 0.1, 1.0, 1.0, seed=seed) + 0.5)
        assert (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


def test_examples_of_which_none_differs_allow_for_others_that_do():
    found = cross(np.zeros((3, 300)))
    assert (found.mean, found.p_value) == (0, 1)
    share = 1 - 0.025 ** (1 / 300)
    assert found.interval == pytest.approx((-share, share))
    high = stats.binomtest(0, 300).proportion_ci(0.95).high  # Clopper and Pearson's
    assert found.interval.high == pytest.approx(high)
    assert [Constant(mean, 3).p_value for mean in (-0.5, 0.1, 2)] == [0.25, 1, 0]
    (low, high), p_value = Constant(0.5, 4).interval(0.05), Constant(0.5, 4).p_value
    assert (low > 0) == (p_value < 0.05)
    assert high - low == pytest.approx(2 * (1 - 0.025**0.25))


def test_the_interval_of_equivalence_holds_90_percent_with_two_more_examples():
    units = made_up(4, 50)
    assert cross(units).equivalence == distribution_of(add_two_examples(units)).interval(0.1)


def test_two_more_examples_change_no_mean_and_are_as_far_as_the_farthest():
    units = made_up(3, 20)
    more = add_two_examples(units)
    assert more.mean(axis=1) == pytest.approx(units.mean(axis=1))
    far = np.abs(more.mean(axis=0) - more.mean())
    assert far[-2:] == pytest.approx([far[:-2].max()] * 2)
    assert (decompose(more)[3] ** 2).sum() == pytest.approx((decompose(units)[3] ** 2).sum())


@pytest.mark.parametrize("shape", [(2, 30), (1, 30), (3, 1)])
def test_too_few_seeds_or_examples_say_nothing_about_others(shape):
    with pytest.raises(
        ValueError, match=f"^{shape[0]} seeds and {shape[1]} .* expected 3 and 2 or"
    ):
        cross(np.ones(shape))
    cross(made_up(3, 2))


def test_overlapping_training_sets_widen_the_interval_over_splits():
    found = mean_of_splits([0.01, 0.02, 0.04], test=20, training=70)
    expected = stats.ttest_1samp([0.01, 0.02, 0.04], 0).confidence_interval()
    ratio = math.sqrt((1 / 3 + 20 / 70) / (1 / 3))
    low, high = found.interval(0.05)
    assert (low + high) / 2 == pytest.approx(0.07 / 3)
    assert high - low == pytest.approx(ratio * (expected.high - expected.low))


# ------------------------------------------------------------------------------------------- power


@pytest.mark.parametrize("seeds", [4, 8, 30])
def test_the_minimum_detectable_difference_has_the_power_of_statsmodels(seeds):
    smallest = detectable_difference(Components(seeds=1.0, examples=0.0, rest=0.0), seeds, 300)
    power = TTestPower().power(smallest, seeds, 0.05, alternative="two-sided")
    assert power == pytest.approx(0.8, abs=0.03)


def test_the_seeds_and_examples_needed_are_the_smallest_numbers_that_suffice():
    components = Components(seeds=2e-4, examples=0.02, rest=0.03)
    n = seeds_needed(components, -0.03, 300)
    of_seeds = [detectable_difference(components, seeds, 300) for seeds in (n - 1, n)]
    n = examples_needed(components, 0.03, 5)
    of_examples = [detectable_difference(components, 5, examples) for examples in (n - 1, n)]
    for too_few, enough in (of_seeds, of_examples):
        assert enough <= 0.03 < too_few


def test_at_least_as_many_are_needed_as_say_something_about_others():
    components = Components(seeds=1e-9, examples=1e-9, rest=1e-9)
    assert seeds_needed(components, 1.0, 300) == 3
    assert examples_needed(components, 1.0, 5) == 2


def test_if_no_number_of_seeds_or_of_examples_suffices_it_is_none():
    components = Components(seeds=2e-4, examples=0.02, rest=0.03)
    assert seeds_needed(components, 0.01, 300) is None  # the examples' part stays
    assert examples_needed(components, 0.01, 5) is None  # the seeds' part stays
    assert seeds_needed(components, 0.0, 300) is None
    smallest = detectable_difference(components, 5, 10**7)
    assert examples_needed(components, smallest, 5) is not None
