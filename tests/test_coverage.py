import importlib.util
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "benchmarks" / "coverage.py"
spec = importlib.util.spec_from_file_location("coverage", PAGE)
simulation = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulation)
NOISE = 1.1  # Monte-Carlo standard error of the page


@pytest.mark.parametrize("value", ["is_correct", "log_loss", "brier_score"])
def test_the_true_difference_is_the_mean_of_many_simulations(value):
    world, of = simulation.WORLDS["two copies of a text"], getattr(simulation, value)
    generator = np.random.default_rng(1)
    draws = [simulation.simulate(world, [0.03], 20, 400, generator, of) for _ in range(60)]
    means = np.array([draw.units[0].mean() for draw in draws])
    truth = simulation.true_difference(world, 0.03, of)
    assert means.mean() == pytest.approx(truth, abs=4 * means.std() / 60**0.5)
    assert (truth > 0) == (value == "is_correct")


def test_the_rates_of_the_page_are_as_claimed():
    page = simulation.PAGE.read_text(encoding="utf-8")
    start, end = (words.format("accuracy") for words in (simulation.START, simulation.END))
    lines = page[page.index(start) : page.index(end)].splitlines()[3:]
    found = {name: ([], []) for name in simulation.WORLDS}
    assert {line.split("|")[1].strip() for line in lines} == set(found)
    for line in lines:
        name, *where, false_6, false_17, covered, equivalent, worse, better = (
            cell.strip() for cell in line.strip("|").split("|")
        )
        assert max(float(false_6), float(false_17)) <= 6.5 + NOISE, where
        assert not covered or float(covered) >= 93 - NOISE, where
        assert not equivalent or float(equivalent) <= 6.5, where
        found[name][0].extend([float(worse)] if worse else [])
        found[name][1].extend([float(better)] if better else [])
    for name, both in found.items():  # minimum detectable differences, of which 80 % are found
        most = 88 if name == "few errors" else 85
        assert all(75 <= np.mean(rates) <= most for rates in both if rates), name


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
