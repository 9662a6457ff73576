import importlib.util
import re
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
VALUES = (simulation.is_correct, simulation.log_loss, simulation.brier_score)


@pytest.mark.parametrize("world", simulation.WORLDS.values(), ids=list(simulation.WORLDS))
def test_simulated_designs_differ_as_they_should(world):
    generator = np.random.default_rng(1)
    units = [simulation.simulate(world, 0.02, 20, 400, generator) for _ in range(40)]
    means = np.array([found.mean() for found in units])
    assert units[0].shape == (20, 400 // world.copies)
    assert means.mean() == pytest.approx(0.02, abs=4 * means.std() / 40**0.5)


@pytest.mark.parametrize("value", VALUES)
def test_the_true_difference_is_the_mean_of_many_simulations(value):
    world, generator = simulation.WORLDS["seeds matter"], np.random.default_rng(1)
    units = [simulation.simulate(world, 0.03, 20, 400, generator, value) for _ in range(40)]
    means = np.array([found.mean() for found in units])
    truth = simulation.true_difference(world, 0.03, value)
    assert (truth > 0) == (value is simulation.is_correct)
    assert means.mean() == pytest.approx(truth, abs=4 * means.std() / 40**0.5)


def cells_of(start, end):
    """The cells of a table of the page, by what was simulated and how many seeds."""
    text = simulation.PAGE.read_text(encoding="utf-8")
    lines = text[text.index(start) : text.index(end)].splitlines()[3:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(name, int(seeds)): [float(rate) for rate in rates] for name, seeds, *rates in cells}


def test_the_intervals_and_verdicts_of_the_page_are_as_reliable_as_claimed():
    rows = cells_of(simulation.START, simulation.END)
    losses = cells_of(simulation.START_LOSSES, simulation.END_LOSSES)
    names = [(name, seeds) for name in simulation.WORLDS for seeds in (3, 5, 10)]
    assert list(rows) == list(losses) == names
    for key in names:
        rates, most = simulation.Rates(*rows[key]), 99 if "noise" in key[0] else 98
        assert 92 <= rates.found <= most, key
        assert rates.false <= 5 + 1, key
        assert rates.equivalent <= 5, key
        assert rates.power > 70, key
        assert all(92 <= rate <= most for rate in losses[key][::2]), key
        assert all(rate <= 5 + 2.4 for rate in losses[key][1::2]), key  # 3 standard errors of 800


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_contain_the_truth_and_verdicts_are_right(seeds):
    rates = simulation.measure(simulation.WORLDS["seeds matter"], seeds, 300, 200)
    assert 0.9 <= rates.found <= 0.99
    assert rates.false <= 0.09
    assert rates.equivalent <= 0.05


def test_the_table_is_written_into_its_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{simulation.START}stale\n{simulation.END}\nafter\n")
    monkeypatch.setattr(simulation, "PAGE", page)
    monkeypatch.setattr(simulation, "WORLDS", dict(list(simulation.WORLDS.items())[:1]))
    monkeypatch.setattr("sys.argv", ["coverage.py", "--runs", "2", "--examples", "40"])
    simulation.main()
    text = page.read_text()
    assert re.match(rf"before\n{re.escape(simulation.START)}\| simulated", text)
    assert text.count("| seeds matter little |") == 3
    assert "stale" not in text
    assert text.endswith(f"{simulation.END}\nafter\n")
