import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.power import TTestPower

from experiments.comparison.crossed import (
    Alike,
    Components,
    Student,
    bootstrap_means,
    components_of,
    cross,
    distribution_of,
    draw_anew,
    mean_squares,
    messages_to_settle,
    seeds_to_settle,
    smallest_seen,
    take_apart,
    units_of,
    with_two_more,
)


def made_up(seeds, messages, of_seeds=0.5, of_messages=1.0, rest=0.3, seed=0):
    """Differences (S, N) with effects of such standard deviations."""
    generator = np.random.default_rng(seed)
    return (
        generator.normal(0, of_seeds, (seeds, 1))
        + generator.normal(0, of_messages, messages)
        + generator.normal(0, rest, (seeds, messages))
    )


# ------------------------------------------------------------------------------------- the layout


@pytest.mark.parametrize(("seeds", "messages"), [(2, 7), (3, 10), (5, 4)])
def test_mean_squares_are_those_of_statsmodels_analysis_of_variance(seeds, messages):
    units = made_up(seeds, messages)
    place = itertools.product(range(seeds), range(messages))
    table = pd.DataFrame(place, columns=["seed", "message"]).assign(y=units.ravel())
    anova = sm.stats.anova_lm(ols("y ~ C(seed) + C(message)", table).fit())
    assert mean_squares(take_apart(units)) == pytest.approx(list(anova["mean_sq"]))


def test_components_are_those_that_the_differences_were_made_with():
    found = [components_of(made_up(20, 200, seed=seed)) for seed in range(20)]
    means = np.mean(found, axis=0)
    assert means == pytest.approx([0.5**2, 1.0**2, 0.3**2], rel=0.1)


def test_no_component_is_below_0():
    found = [components_of(made_up(3, 20, 0, 0, seed=seed)) for seed in range(20)]
    assert all(part >= 0 for components in found for part in components)
    assert {bool(components.seeds) for components in found} == {True, False}


def test_messages_of_one_text_are_one_unit():
    once = made_up(4, 30)
    twice, clusters = np.repeat(once, 2, axis=1), np.repeat(range(30), 2)
    assert units_of(twice, clusters) == pytest.approx(once)
    alone = units_of(twice, range(60))
    assert distribution_of(alone).interval(0.05) != pytest.approx(cross(once).interval, rel=0.1)


def test_clusters_of_other_sizes_have_the_robust_error_of_statsmodels():
    clusters = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5]
    values = made_up(1, 12)
    units = units_of(values, clusters)
    fit = sm.OLS(values[0], np.ones(12)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    assert units.mean() == pytest.approx(values.mean())
    assert components_of(units).error(1, 6) == pytest.approx(fit.bse[0])


def test_the_mean_of_units_is_that_of_messages_at_every_seed():
    values = made_up(3, 12)
    units = units_of(values, [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5])
    assert units.mean(axis=1) == pytest.approx(values.mean(axis=1))


# --------------------------------------------------------------------------------------- intervals


def test_where_only_seeds_matter_the_interval_is_students_over_seeds():
    units = np.repeat(made_up(5, 1), 40, axis=1)
    found, expected = cross(units), stats.ttest_1samp(units[:, 0], 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_where_only_messages_matter_student_is_that_over_messages():
    units = np.repeat(made_up(1, 40), 5, axis=0)
    components = components_of(units)
    student = Student(units.mean(), components.error(5, 40), components.degrees(5, 40))
    expected = stats.ttest_1samp(units[0], 0)
    assert student.p_value == pytest.approx(expected.pvalue)
    assert student.interval(0.05) == pytest.approx(tuple(expected.confidence_interval()))


@pytest.mark.parametrize("seed", range(4))
def test_where_only_messages_matter_the_p_value_is_near_that_of_flipped_signs(seed):
    values = made_up(1, 60, 0.1, seed=seed)[0]
    found = cross(np.repeat(values[None], 3, axis=0)).p_value
    flipped = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=5000,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert found == pytest.approx(flipped.pvalue, abs=0.03)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_bootstrap_of_seeds_or_of_messages_alone_is_scipys(axis):
    values = made_up(1, 50)[0]
    units = np.repeat(np.expand_dims(values, axis), 4, axis=axis)
    means = bootstrap_means(units, components_of(units))
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(0)
    )
    assert means.std() == pytest.approx(expected.standard_error * math.sqrt(50 / 49), rel=0.05)
    assert np.quantile(means, [0.025, 0.975]) == pytest.approx(
        [expected.confidence_interval.low, expected.confidence_interval.high], abs=0.02
    )


def test_the_bootstrap_spreads_as_far_as_the_components_say():
    units = made_up(4, 60)
    components = components_of(units)
    means = bootstrap_means(units, components)
    assert means.mean() == pytest.approx(units.mean(), abs=0.02)
    assert means.std() == pytest.approx(components.error(4, 60), rel=0.06)
    assert np.array_equal(means, bootstrap_means(units, components))


def test_effects_that_are_not_scaled_are_drawn_as_the_layout_would_be():
    units = made_up(4, 30) ** 3
    _, *effects = take_apart(units)
    means = bootstrap_means(units, Components(*(float(np.square(e).mean()) for e in effects)))
    generator = np.random.default_rng(0)
    seeds, messages = draw_anew(4, generator), draw_anew(30, generator)
    assert means == pytest.approx(((seeds @ units) * messages).sum(axis=1) / (4 * 30))


def test_the_wider_interval_is_taken():
    for seed in range(8):
        units = made_up(3 + seed, 12, seed=seed) ** 3
        components = components_of(units)
        error, degrees = components.error(*units.shape), components.degrees(*units.shape)
        student = Student(units.mean(), error, degrees).interval(0.05)
        drawn = np.quantile(bootstrap_means(units, components), [0.025, 0.975])
        widths = [student.high - student.low, drawn[1] - drawn[0]]
        found = cross(units).interval
        assert found.high - found.low == pytest.approx(max(widths))


def test_a_p_value_is_below_5_percent_where_the_interval_lacks_0():
    for seed in range(40):
        found = cross(made_up(4, 20, 0.1, 1.0, 1.0, seed=seed) + 0.5)
        assert (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


def test_messages_of_which_none_differs_leave_room_for_those_that_would():
    found = cross(np.zeros((3, 300)))
    assert (found.mean, found.p_value) == (0, 1)
    share = 1 - 0.025 ** (1 / 300)
    assert found.interval == pytest.approx((-share, share))
    high = stats.binomtest(0, 300).proportion_ci(0.95).high  # Clopper and Pearson's
    assert found.interval.high == pytest.approx(high)
    (low, high), p_value = Alike(0.5, 4).interval(0.05), Alike(0.5, 4).p_value
    assert (low > 0) == (p_value < 0.05)
    assert high - low == pytest.approx(2 * (1 - 0.025**0.25))


def test_two_more_messages_move_no_mean_and_reach_as_far_as_the_farthest():
    units = made_up(3, 20)
    more = with_two_more(units)
    assert more.mean(axis=1) == pytest.approx(units.mean(axis=1))
    far = np.abs(more.mean(axis=0) - more.mean())
    assert far[-2:] == pytest.approx([far[:-2].max()] * 2)
    before, after = take_apart(units), take_apart(more)
    assert after.seeds == pytest.approx(before.seeds)
    assert (after.rest**2).sum() == pytest.approx((before.rest**2).sum())


def test_the_interval_of_equivalence_holds_90_percent_with_two_more_messages():
    units = made_up(4, 50)
    assert cross(units).equivalence == distribution_of(with_two_more(units)).interval(0.1)


@pytest.mark.parametrize("shape", [(2, 30), (1, 30), (3, 1)])
def test_too_few_say_nothing_of_others(shape):
    with pytest.raises(ValueError, match="expected 3 and 2 or more"):
        cross(np.ones(shape))


# ---------------------------------------------------------------------------- what could be seen


@pytest.mark.parametrize("seeds", [4, 8, 30])
def test_the_smallest_difference_seen_has_the_power_of_statsmodels(seeds):
    smallest = smallest_seen(Components(seeds=1.0, messages=0.0, rest=0.0), seeds, 300)
    power = TTestPower().power(smallest, seeds, 0.05, alternative="two-sided")
    assert power == pytest.approx(0.8, abs=0.03)


def test_seeds_and_messages_to_settle_are_the_first_numbers_that_are_enough():
    components = Components(seeds=2e-4, messages=0.02, rest=0.03)
    seeds, messages = (
        seeds_to_settle(components, -0.03, 300),
        messages_to_settle(components, 0.03, 5),
    )
    assert smallest_seen(components, seeds, 300) <= 0.03 < smallest_seen(components, seeds - 1, 300)
    assert (
        smallest_seen(components, 5, messages) <= 0.03 < smallest_seen(components, 5, messages - 1)
    )


def test_no_fewer_seeds_and_messages_settle_anything_than_say_something_of_others():
    components = Components(seeds=1e-9, messages=1e-9, rest=1e-9)
    assert seeds_to_settle(components, 1.0, 300) == 3
    assert messages_to_settle(components, 1.0, 5) == 2
    cross(made_up(3, 2))  # raises nothing


def test_what_no_number_of_seeds_or_of_messages_settles_is_none():
    components = Components(seeds=2e-4, messages=0.02, rest=0.03)
    assert seeds_to_settle(components, 0.01, 300) is None  # the messages' part stays
    assert messages_to_settle(components, 0.01, 5) is None  # the seeds' part stays
    assert seeds_to_settle(components, 0.0, 300) is None


@pytest.mark.parametrize(
    ("components", "degrees"),
    [
        (Components(1.0, 0.0, 0.0), 4),
        (Components(0.0, 1.0, 0.5), 29),
        (Components(0.0, 0.0, 1.0), 4 * 29),
    ],
)
def test_degrees_of_freedom_are_those_of_the_one_part_that_matters(components, degrees):
    assert components.degrees(5, 30) == pytest.approx(degrees)


def test_degrees_of_freedom_of_several_parts_are_satterthwaites():
    units = made_up(5, 30)
    seeds, messages, rest = mean_squares(take_apart(units))
    expected = (seeds + messages - rest) ** 2 / (
        seeds**2 / 4 + messages**2 / 29 + rest**2 / (4 * 29)
    )
    assert components_of(units).degrees(5, 30) == pytest.approx(expected)


def test_shares_of_the_variance_add_up_to_1():
    components = Components(seeds=2e-4, messages=0.02, rest=0.03)
    shares = components.shares(5, 300)
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == pytest.approx(2e-4 / 5 / components.error(5, 300) ** 2)
    assert Components(0.0, 0.0, 0.0).shares(5, 300) == [0, 0, 0]
