import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def load():
    spec = importlib.util.spec_from_file_location("coverage", ROOT / "benchmarks" / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


simulation = load()
NOISE = 1.1  # Monte-Carlo standard error of the page
VALUES = (simulation.is_correct, simulation.log_loss, simulation.brier_score)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["seeds matter", "two copies of a text"])
def test_the_true_difference_is_the_mean_of_many_simulations(name, value):
    world, generator = simulation.WORLDS[name], np.random.default_rng(1)
    draws = [simulation.simulate(world, [0.03], 20, 400, generator, value) for _ in range(60)]
    means = np.array([draw.units[0].mean() for draw in draws])
    truth = simulation.true_difference(world, 0.03, value)
    assert (truth > 0) == (value is simulation.is_correct)
    assert means.mean() == pytest.approx(truth, abs=4 * means.std() / 60**0.5)


def cells_of(name):
    """The cells of a table of the page, by what was simulated."""
    text = simulation.PAGE.read_text(encoding="utf-8")
    start, end = (words.format(name) for words in (simulation.START, simulation.END))
    lines = text[text.index(start) : text.index(end)].splitlines()[3:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_rates_of_the_page_are_as_claimed():
    rows = cells_of("accuracy")
    assert {row[0] for row in rows} == set(simulation.WORLDS)
    for *where, false_6, false_17, covered, equivalent, _, _ in rows:
        assert max(float(false_6), float(false_17)) <= 6.5 + NOISE, where
        assert not covered or float(covered) >= 93 - NOISE, where
        assert not equivalent or float(equivalent) <= 6.5, where


def test_the_minimum_detectable_difference_is_found_in_about_80_percent_of_a_world():
    for name in simulation.WORLDS:
        for column in (-2, -1):
            found = [
                float(row[column]) for row in cells_of("accuracy") if row[0] == name and row[column]
            ]
            most = 88 if name == "few errors" else 85
            assert not found or 75 <= np.mean(found) <= most, name


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_few_of_many_equal_designs_are_called_different(seeds):
    world = simulation.WORLDS["seeds matter most"]
    assert simulation.family_wise_error(world, 17, seeds, 150, 250) <= 0.065
    covered, equivalent = simulation.at_margin(world, seeds, 150, 250)
    assert covered >= 0.91
    assert equivalent <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize("name", ["only noise", "seeds matter most", "two copies of a text"])
def test_four_of_five_minimum_detectable_differences_are_found(name):
    world = simulation.WORLDS[name]
    found = [simulation.found_at_detectable(world, -1, seeds, 150, 120) for seeds in (5, 10)]
    assert 0.7 <= np.mean(found) <= 0.9
