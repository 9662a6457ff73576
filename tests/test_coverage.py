import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "statistics.md"


def load():
    spec = importlib.util.spec_from_file_location("coverage", ROOT / "benchmarks" / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


simulation = load()


@pytest.mark.parametrize("world", simulation.WORLDS.values(), ids=list(simulation.WORLDS))
def test_the_simulated_designs_differ_by_what_they_should(world):
    generator = np.random.default_rng(1)
    units = [simulation.simulate(world, 0.02, 20, 400, generator) for _ in range(60)]
    means = np.array([found.mean() for found in units])
    assert units[0].shape == (20, 400 // world.copies)
    assert means.mean() == pytest.approx(0.02, abs=4 * means.std() / 60**0.5)


@pytest.mark.parametrize("value", [simulation.log_loss, simulation.brier_score])
def test_the_true_difference_of_losses_is_what_many_seeds_and_messages_come_to(value):
    world, generator = simulation.WORLDS["seeds matter"], np.random.default_rng(1)
    units = [simulation.simulate(world, 0.03, 20, 400, generator, value) for _ in range(60)]
    means = np.array([found.mean() for found in units])
    truth = simulation.true_difference(world, 0.03, value)
    assert truth < 0
    assert means.mean() == pytest.approx(truth, abs=4 * means.std() / 60**0.5)
    assert simulation.true_difference(world, 0.03, simulation.is_right) == pytest.approx(0.03)


def cells_of(start, end):
    """The cells of a table of the page, by what was simulated and how many seeds."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text[text.index(start) : text.index(end)].splitlines()[3:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(name, int(seeds)): [float(rate) for rate in rates] for name, seeds, *rates in cells}


def rows():
    """The page's rates of accuracy."""
    found = cells_of(simulation.START, simulation.END)
    return {key: simulation.Rates(*rates) for key, rates in found.items()}


def test_losses_are_as_right_as_the_page_says():
    found = cells_of(simulation.START_LOSSES, simulation.END_LOSSES)
    assert found.keys() == rows().keys()
    for name, rates in found.items():
        assert all(92 <= rate <= (99 if "noise" in name[0] else 98) for rate in rates[::2]), name
        assert all(rate <= 5 + 2.4 for rate in rates[1::2]), name  # three standard errors of 800


def test_the_page_has_what_was_simulated_and_no_more():
    assert list(rows()) == [(name, seeds) for name in simulation.WORLDS for seeds in (3, 5, 10)]


@pytest.mark.parametrize("key", rows(), ids=str)
def test_what_was_simulated_is_as_right_as_the_page_says(key):
    rates = rows()[key]
    assert 92 <= rates.found <= (99 if "noise" in key[0] else 98)
    assert rates.false <= 5 + 1
    assert rates.equivalent <= 5
    assert rates.power > 70


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_hold_the_truth_and_verdicts_err_as_seldom_as_they_should(seeds):
    rates = simulation.measure(simulation.WORLDS["seeds matter"], seeds, 300, 200)
    assert 0.9 <= rates.found <= 0.99
    assert rates.false <= 0.09
    assert rates.equivalent <= 0.05


def test_the_table_is_written_where_the_page_has_it(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{simulation.START}stale\n{simulation.END}\nafter\n")
    monkeypatch.setattr(simulation, "PAGE", page)
    monkeypatch.setattr(simulation, "WORLDS", dict(list(simulation.WORLDS.items())[:1]))
    monkeypatch.setattr("sys.argv", ["coverage.py", "--runs", "2", "--messages", "40"])
    simulation.main()
    text = page.read_text()
    assert re.match(rf"before\n{re.escape(simulation.START)}\| simulated", text)
    assert text.count("| seeds matter little |") == 3
    assert "stale" not in text
    assert text.endswith(f"{simulation.END}\nafter\n")
