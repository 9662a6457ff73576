"""The power of other runs, and the model of correctness behind it."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, norm
from statsmodels.stats.power import TTestPower

from experiments.comparison.power import _NORMALS, Outlook, Probit, fit_probit
from experiments.comparison.statistics import (
    NO_PRIOR,
    Components,
    Prior,
    Spread,
    components_of,
    spread_of,
)

MODEL = Probit(seed=0.03, example=0.7, both=0.6)


def made_up(model, first, second, seeds, examples, generator=None):
    """Differences (S, N) of two designs that follow a model."""
    generator = generator or np.random.default_rng(3)
    both = generator.normal(size=examples) * model.both**0.5
    correct = []
    for accuracy in (first, second):
        of_example = generator.normal(size=examples) * (model.example - model.both) ** 0.5
        of_seed = generator.normal(size=(seeds, 1)) * model.seed**0.5
        noise = generator.normal(size=(seeds, examples))
        total = both + of_example + of_seed + noise * (1 - model.example - model.seed) ** 0.5
        correct.append(total < norm.ppf(accuracy))
    return correct[1].astype(float) - correct[0]


@pytest.mark.parametrize(("first", "second"), [(0.9, 0.9), (0.95, 0.8), (0.6, 0.75)])
def test_the_components_are_those_of_designs_that_follow_the_model(first, second):
    seeds, examples, rest = MODEL.components(first, second)
    found = components_of(made_up(MODEL, first, second, 400, 4000))
    assert found.seeds == pytest.approx(seeds, rel=0.15)
    assert found.examples == pytest.approx(examples, rel=0.1)
    assert found.rest == pytest.approx(rest, rel=0.06)  # of which the seeds are a part, too


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_moments_are_those_of_binomial_variables_given_the_effects(seeds):
    both, *effects = _NORMALS * np.sqrt([[0.6], [0.1], [0.1]])
    given = [
        norm.cdf((norm.ppf(a) - both - e) / 0.3**0.5)
        for a, e in zip((0.9, 0.7), effects, strict=True)
    ]
    counts = range(seeds + 1)
    first, second = (binom.pmf(np.array(counts)[:, None], seeds, chances) for chances in given)
    expected = [
        sum(((j - i) / seeds + 0.2) ** power * (first[i] * second[j]).mean()
            for i, j in product(counts, counts))
        for power in (2, 3, 4)
    ]  # fmt: skip
    assert MODEL.moments(0.9, 0.7, seeds) == pytest.approx(expected, rel=1e-9)


def test_a_model_is_fitted_to_its_own_components_or_is_the_nearest_one():
    for accuracies in ((0.9, 0.9), (0.98, 0.95), (0.6, 0.8)):
        found = fit_probit(MODEL.components(*accuracies), *accuracies)
        assert found == pytest.approx(MODEL, abs=1e-3)
    assert fit_probit(Components(0.0, 0.0, 0.2), 0.9, 0.9) == pytest.approx((0, 0, 0), abs=1e-6)
    seed, example, both = fit_probit(Components(0.0, 0.0, 0.0), 0.9, 0.9)
    assert (seed, both) == (pytest.approx(0, abs=1e-6), example)
    assert example > 0.99


def outlook(components, seeds=5, examples=300, level=0.05, accuracies=None):
    spread = Spread(Components(*components), NO_PRIOR, 0.0)
    return Outlook(spread, level, seeds, examples, 1.0, accuracies)


@pytest.mark.parametrize(("sign", "reach"), [(-1, 1.0), (1, 1.0), (-1, 0.0)])
def test_the_minimum_detectable_difference_is_found_in_4_of_5_tables(sign, reach):
    a, spread = 0.85, Spread(MODEL.components(0.85, 0.85), NO_PRIOR, reach)
    found = Outlook(spread, 0.05 / 6, 6, 200, accuracies=(a, a))
    other, generator, significant = a + sign * found.detectable(sign), np.random.default_rng(5), 0
    for _ in range(500):
        units = made_up(MODEL, a, other, 6, 200, generator)
        error = spread_of(units, reach=reach).error(*units.shape)
        significant += 2 * error.tail(abs(units.mean())) < found.level
    assert significant / 500 == pytest.approx(0.8, abs=0.06)


def test_for_values_whose_spread_does_not_change_it_has_the_power_of_statsmodels():
    for seeds in (4, 8, 30):
        smallest = outlook((1.0, 0.0, 0.0), seeds).detectable(1)
        power = TTestPower().power(smallest, seeds, 0.05, alternative="two-sided")
        assert power == pytest.approx(0.8, abs=0.06)


def test_a_corrected_level_detects_less_and_other_designs_more():
    alone = outlook((2e-3, 0.02, 0.03), seeds=3)
    assert alone._replace(level=0.05 / 17).detectable(1) > 1.2 * alone.detectable(1)
    together = alone._replace(spread=alone.spread._replace(prior=Prior(2.1e-3, 5.0, 6)))
    assert 0.4 < together.detectable(1) / alone.detectable(1) < 0.8


def test_a_worse_design_has_the_larger_spread_and_a_better_one_is_bounded():
    found = outlook((1e-4, 0.01, 0.02), accuracies=(0.9, 0.9))
    assert found.detectable(-1) > found.detectable(1) > 0
    few = outlook((1e-4, 0.01, 0.02), examples=40, accuracies=(0.99, 0.6))
    assert few.detectable(1) is None
    assert few._replace(accuracies=(0.6, 0.99)).detectable(1) > 0.1
    constant = outlook((1e-4, 0.01, 0.02))
    assert constant.detectable(-1) == constant.detectable(1)


def test_the_seeds_and_examples_needed_are_the_smallest_numbers_that_suffice():
    found = outlook((2e-4, 0.02, 0.03))
    S, N = found.seeds_needed(-0.03), found.examples_needed(0.03)
    assert found._found_at(-0.03, S, 300) <= 0.03 < found._found_at(-0.03, S - 1, 300)
    assert found._found_at(0.03, 5, N) <= 0.03 < found._found_at(0.03, 5, N - 1)
    assert found.seeds_needed(0.01) is None  # the examples' part stays
    assert found.examples_needed(0.01) is None  # the seeds' part stays
    assert found.seeds_needed(0.0) is None
    certain = outlook((1e-9, 1e-9, 1e-9))  # never fewer than there are
    assert (certain.seeds_needed(1.0), certain.examples_needed(1.0)) == (5, 300)
