import re
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from records import make_baseline, make_run, make_seeds
from statsmodels.formula.api import ols

from experiments.comparison.effects import INTERACTIONS, describe_all, effects_of, find_grids
from experiments.comparison.evidence import Verdict, values_of
from experiments.comparison.groups import group_runs
from experiments.comparison.metrics import ACCURACY, METRICS
from experiments.comparison.statistics import cross, holm, pool_seeds, units_of

LRS, RANKS, EPOCHS = [5e-5, 1e-4, 1e-3], [4, 8], [5, 10]
TOTAL = 120


def make_cell(seeds=range(3), wrong=(), total=TOTAL, **flags):
    """The seeds of a design; `wrong` is of every seed, or a function of it."""
    settings = {"num_epochs": 5, "batch_size": 8} | flags
    return [
        make_run(
            None,
            seed=seed,
            wrong=wrong(seed) if callable(wrong) else wrong,
            total=total,
            settings=settings,
            digest=f"{settings}{seed}",
        )
        for seed in seeds
    ]


def make_grid(wrong=None, seeds=range(3), **factors):
    """A design for each combination; `wrong` gives the errors by levels and seed."""
    runs = []
    for levels in product(*factors.values()):
        of_cell = (lambda seed, levels=levels: wrong(*levels, seed)) if wrong else ()
        runs += make_cell(seeds, of_cell, **dict(zip(factors, levels, strict=True)))
    return runs


def grids_of(runs):
    return find_grids(group_runs(runs))


def text_of(grids, margin=0.02, metric=ACCURACY):
    return describe_all([(grid, effects_of(grid, margin, metric)) for grid in grids], [])


def random_errors(*levels_and_seed):
    """Some errors that depend on everything."""
    generator = np.random.default_rng([int(1e5 * x) for x in levels_and_seed])
    count = generator.integers(4, 40)
    return set(generator.choice(TOTAL, count, replace=False).tolist())


# ------------------------------------------------------------------------------------------ grids


def test_a_complete_grid_is_found_once_with_its_levels_by_size():
    runs = make_grid(learning_rate=LRS[::-1], lora_rank=RANKS, num_epochs=EPOCHS)
    (grid,) = grids_of([*runs, make_baseline(total=TOTAL)])
    assert grid.factors == {"num_epochs": EPOCHS, "learning_rate": LRS, "lora_rank": RANKS}
    assert (len(grid.runs), grid.seeds) == (12, [0, 1, 2])
    assert grid.fixed["batch_size"] == 8
    assert not grid.fixed.keys() & grid.factors.keys()


def test_designs_that_make_a_grid_incomplete_are_left_out_of_it():
    runs = make_grid(learning_rate=LRS[:2], lora_rank=RANKS)
    first, *others = grids_of([*runs, *make_cell(learning_rate=1e-3, lora_rank=8)])
    assert first.factors == {"learning_rate": LRS[:2], "lora_rank": RANKS}
    assert [grid.factors for grid in others] == [{"learning_rate": LRS}]
    assert others[0].fixed["lora_rank"] == 8


def test_a_design_of_one_seed_does_not_hide_a_grid():
    runs = make_grid(learning_rate=LRS[:2])
    (grid,) = grids_of([*runs, *make_cell([0], learning_rate=1e-3)])
    assert grid.factors == {"learning_rate": LRS[:2]}


def test_fewer_than_three_shared_seeds_are_no_grid():
    one, other = make_cell(range(3)), make_cell(range(1, 4), learning_rate=1e-3)
    assert grids_of([*one, *other]) == []
    (grid,) = grids_of([*one, *other, *make_cell([3])])
    assert grid.seeds == [1, 2, 3]


def test_flags_that_change_together_are_no_grid():
    runs = [*make_cell(), *make_cell(learning_rate=1e-3, num_epochs=10)]
    assert grids_of(runs) == []


def test_each_condition_has_a_grid_of_its_own():
    runs = make_grid(learning_rate=LRS[:2])
    other = [replace(run, precision="bfloat16", digest=run.digest + "b") for run in runs]
    grids = grids_of([*runs, *other])
    assert [grid.conditions.precision for grid in grids] == ["float32", "bfloat16"]
    text = text_of(grids)
    assert text.count("Grid of 2 designs, 3 seeds: learning_rate (5e-05, 0.0001)") == 2
    assert text.count("otherwise row 1, bfloat16") == 1


def test_rows_of_the_table_are_a_grid_of_their_flags():
    seeds = [123, 124, 125]
    rows = [make_run(row, seed=seed, total=TOTAL) for row in (1, 16, 19) for seed in seeds]
    found = [grid.factors for grid in grids_of(rows)]
    assert found == [
        {"trainable_token_pos": ["last", "flexible"]},
        {"average_embeddings": [False, True]},
    ]


# ---------------------------------------------------------------------------------------- effects


@pytest.fixture(scope="module")
def grid():
    runs = make_grid(random_errors, range(4), lora_rank=RANKS, learning_rate=LRS)
    return grids_of(runs)[0]


@pytest.mark.parametrize("metric", METRICS.values())
def test_effects_and_interactions_are_those_of_least_squares(grid, metric):
    table = pd.DataFrame(
        {"y": values_of(by_seed[seed], metric).mean(), "rank": str(rank), "rate": str(rate)}
        for (rank, rate), by_seed in grid.runs.items()
        for seed in grid.seeds
    )
    rank, rate = "C(rank, Treatment('4'))", "C(rate, Treatment('5e-05'))"
    fitted = ols(f"y ~ {rank} + {rate}", table).fit().params
    expected = [fitted[f"{rank}[T.8]"], *(fitted[f"{rate}[T.{x}]"] for x in ("0.0001", "0.001"))]
    both = ols(f"y ~ {rank} * {rate}", table).fit().params
    expected += [both[f"{rank}[T.8]:{rate}[T.{x}]"] for x in ("0.0001", "0.001")]
    effects = effects_of(grid, 0.02, metric)
    assert [e.difference.mean for e in effects] == pytest.approx(expected)
    assert [e.name for e in effects] == [
        "lora_rank 8 instead of 4",
        "learning_rate 0.0001 instead of 5e-05",
        "learning_rate 0.001 instead of 5e-05",
        "lora_rank 8 x learning_rate 0.0001",
        "lora_rank 8 x learning_rate 0.001",
    ]


def test_intervals_and_p_values_are_those_of_the_contrasts(grid):
    def of(rank, rate):
        runs = grid.runs[rank, rate]
        return np.array([runs[seed].is_correct for seed in grid.seeds]).astype(float)

    first, *rates = LRS
    main = [sum(of(8, x) - of(4, x) for x in LRS) / 3]
    main += [(of(4, x) + of(8, x) - of(4, first) - of(8, first)) / 2 for x in rates]
    both = [of(8, x) - of(4, x) - of(8, first) + of(4, first) for x in rates]
    found = []
    for contrasts in (main, both):
        units = [units_of(contrast, range(TOTAL)) for contrast in contrasts]
        found += [cross(of_one, pool_seeds(units), 1.0) for of_one in units]
    effects = effects_of(grid, 0.02)
    for e, expected in zip(effects, found, strict=True):
        assert e.difference.crossed.interval == pytest.approx(expected.interval)
        assert e.difference.crossed.equivalence == pytest.approx(expected.equivalence)
        assert e.difference.crossed.p_value == pytest.approx(expected.p_value)
    corrected = holm([e.difference.crossed.p_value for e in effects])
    assert [e.corrected_p_value for e in effects] == corrected


def test_copies_of_a_text_are_one_example():
    runs = make_grid(random_errors, learning_rate=LRS[:2])
    texts = [i - i % 2 for i in range(TOTAL)]
    copied = [replace(runs[0], test=runs[0].test | {"same_text": texts}), *runs[1:]]
    one, other = (effects_of(grids_of(of)[0], 0.02)[0].difference.crossed for of in (runs, copied))
    assert one.mean == pytest.approx(other.mean)
    assert one.interval != pytest.approx(other.interval)


# -------------------------------------------------------------------------------------- sentences


def sentences_of(wrong, metric=ACCURACY, margin=0.02, **factors):
    factors = factors or {"lora_rank": RANKS, "learning_rate": LRS[:2]}
    text = text_of(grids_of(make_grid(wrong, **factors)), margin, metric)
    return text.split("\n\n")[2].splitlines(), text


def test_a_factor_matters_or_does_not():
    def wrong(rank, rate, seed):
        return [*range(30 * (rate == LRS[0])), 100 + (rank == 8)]

    lines, text = sentences_of(wrong)
    effect = r"\+25\.00 points \(95 % interval \+\d+\.\d\d to \+\d+\.\d\d\)"
    assert re.fullmatch(
        f"learning_rate matters: {effect} for learning_rate 0.0001 instead of 5e-05.", lines[1]
    )
    assert lines[0] == "lora_rank: inconclusive."  # 120 examples are too few for 2 points
    lines, _ = sentences_of(wrong, margin=0.05)
    assert lines[0] == "lora_rank does not matter: equivalent within 5 points."
    assert text.endswith("All results are conditional on this train/test split.")


def test_a_factor_whose_effect_depends_on_another_is_not_said_not_to_matter():
    def cancels(rank, rate, seed):
        return range(40) if (rate == LRS[0]) == (rank == 4) else range(40, 80)

    def one_only(rank, rate, seed):
        return range(60) if rate == LRS[1] and rank == 8 else ()

    crossing, _ = sentences_of(
        lambda rank, rate, seed: range(40) if (rate == LRS[0]) == (rank == 4) else (), margin=0.9
    )
    assert crossing[1].startswith("learning_rate matters together with lora_rank: -66.67 points")
    assert crossing[0].startswith("lora_rank matters together with learning_rate: -66.67 points")
    lines, text = sentences_of(one_only)
    assert "Its effect depends on lora_rank: -50.00 points" in lines[1]
    assert re.search(r"lora_rank 8 x learning_rate 0.0001 +\| -50.00 .*\| worse together \|", text)
    assert set(INTERACTIONS) == {"better", "worse", "equivalent"}
    lines, _ = sentences_of(cancels)
    assert not any("does not matter" in line for line in lines)


def test_losses_have_no_points_and_are_worse_when_larger():
    lines, text = sentences_of(
        lambda rate, seed: range(30 if rate == LRS[0] else 0),
        METRICS["log_loss"],
        learning_rate=LRS[:2],
    )
    assert re.match(r"learning_rate matters: -0\.\d{3} \(95 % interval -", lines[0])
    assert re.search(r"\| learning_rate 0.0001 instead of 5e-05 \| -.* \| better", text)


def test_without_a_grid_a_command_is_suggested():
    assert "--vary learning_rate 5e-5 1e-4 --num_seeds 5" in text_of([])


def test_a_factor_that_changes_no_probability_is_identical_and_does_not_matter():
    runs = [*make_seeds(1, [[1], [2], [3]]), *make_seeds(18, [[1], [2], [3]])]
    (grid,) = find_grids(group_runs(runs))
    (effect,) = effects_of(grid, margin=0.02)
    assert effect.verdict == Verdict.IDENTICAL
    text = text_of([grid])
    assert "ignore_index does not matter: all probabilities are the same." in text
