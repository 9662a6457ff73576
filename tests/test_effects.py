import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from records import make_baseline, make_run

from experiments.comparison.effects import describe_all, effects_of, find_grids
from experiments.comparison.evidence import values_of
from experiments.comparison.groups import group_runs
from experiments.comparison.metrics import ACCURACY, METRICS
from experiments.comparison.statistics import cross, holm, pool_seeds, units_of

LRS, RANKS, EPOCHS = [5e-5, 1e-4, 1e-3], [4, 8], [5, 10]
TOTAL = 120
PAIRS = [i - i % 2 for i in range(TOTAL)]  # two examples of each text


def make_cell(seeds=range(3), wrong=lambda seed: (), **flags):
    """The seeds of a design; `wrong` gives the errors by seed."""
    settings = {"num_epochs": 5, "batch_size": 8} | flags
    return [
        make_run(None, seed, wrong(seed), TOTAL, settings=settings, digest=f"{settings}{seed}")
        for seed in seeds
    ]


def make_grid(wrong=lambda *levels_and_seed: (), seeds=range(3), **factors):
    """A design for each combination; `wrong` gives the errors by levels and seed."""
    runs = []
    for levels in product(*factors.values()):
        flags = dict(zip(factors, levels, strict=True))
        runs += make_cell(seeds, lambda seed, levels=levels: wrong(*levels, seed), **flags)
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


PAIR, OTHER = {"learning_rate": LRS[:2]}, {"learning_rate": LRS[2]}
GRIDS = {  # runs, and the factors of their grids
    "levels by size": (
        [*make_grid(learning_rate=LRS[::-1], lora_rank=RANKS, num_epochs=EPOCHS),
         make_baseline(total=TOTAL)],
        [{"num_epochs": EPOCHS, "learning_rate": LRS, "lora_rank": RANKS}],
    ),
    "a design outside a grid is left out of it": (
        [*make_grid(**PAIR, lora_rank=RANKS), *make_cell(**OTHER, lora_rank=8)],
        [PAIR | {"lora_rank": RANKS}, {"learning_rate": LRS}],
    ),
    "one seed does not hide a grid": ([*make_grid(**PAIR), *make_cell([0], **OTHER)], [PAIR]),
    "fewer than three shared seeds": ([*make_cell(), *make_cell(range(1, 4), **OTHER)], []),
    "three shared seeds of four": (
        [*make_cell(range(4)), *make_cell(range(1, 4), **OTHER)],
        [{"learning_rate": [5e-5, 1e-3]}],
    ),
    "flags that change together": ([*make_cell(), *make_cell(**OTHER, num_epochs=10)], []),
    "rows of the table": (
        [make_run(row, seed, total=TOTAL) for row in (1, 16, 19) for seed in (123, 124, 125)],
        [{"trainable_token_pos": ["last", "flexible"]}, {"average_embeddings": [False, True]}],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("runs", "factors"), GRIDS.values(), ids=GRIDS)
def test_a_grid_has_all_combinations_with_three_shared_seeds(runs, factors):
    grids = grids_of(runs)
    assert [grid.factors for grid in grids] == factors
    assert all(len(grid.seeds) == 3 for grid in grids)


def test_each_condition_has_a_grid_of_its_own():
    runs = make_grid(**PAIR)
    other = [replace(run, precision="bfloat16", digest=run.digest + "b") for run in runs]
    text = text_of(grids_of([*runs, *other]))
    first, second = re.findall("^Grid of .*", text, re.MULTILINE)
    assert first == "Grid of 2 designs, 3 seeds: learning_rate (5e-05, 0.0001); otherwise row 1"
    assert second == f"{first}, bfloat16"


# ---------------------------------------------------------------------------------------- effects


@pytest.fixture(scope="module")
def grid():
    runs = make_grid(random_errors, range(4), lora_rank=RANKS, learning_rate=LRS)
    runs[0] = replace(runs[0], test=runs[0].test | {"same_text": PAIRS})
    return grids_of(runs)[0]


@pytest.mark.parametrize("metric", METRICS.values())
def test_effects_and_interactions_are_contrasts_of_the_values_of_examples(grid, metric):
    def of(rank, rate):
        runs = grid.runs[rank, rate]
        return np.array([values_of(runs[seed], metric) for seed in grid.seeds])

    first, *rates = LRS
    main = [sum(of(8, x) - of(4, x) for x in LRS) / 3]
    main += [(of(4, x) + of(8, x) - of(4, first) - of(8, first)) / 2 for x in rates]
    both = [of(8, x) - of(4, x) - of(8, first) + of(4, first) for x in rates]
    expected = []
    for contrasts in (main, both):
        units = [units_of(contrast, PAIRS) for contrast in contrasts]
        prior, reach = pool_seeds(units), 0.0 if metric.is_loss else 1.0
        expected += [cross(of_one, prior, reach) for of_one in units]
    effects = effects_of(grid, 0.02, metric)
    assert [e.name for e in effects] == [
        "lora_rank 8 instead of 4",
        "learning_rate 0.0001 instead of 5e-05",
        "learning_rate 0.001 instead of 5e-05",
        "lora_rank 8 x learning_rate 0.0001",
        "lora_rank 8 x learning_rate 0.001",
    ]
    found = [e.difference.crossed for e in effects]
    for name in ("mean", "interval", "equivalence", "p_value"):
        one, other = ([getattr(crossed, name) for crossed in of] for of in (found, expected))
        assert np.array(one) == pytest.approx(np.array(other))
    corrected = holm([crossed.p_value for crossed in found])
    assert [e.corrected_p_value for e in effects] == corrected


# -------------------------------------------------------------------------------------- sentences


def crosses(rank, rate):
    return (rate == LRS[0]) == (rank == 4)


ERRORS = {  # by rank, rate and seed; the margin; what is said of the rank and of the rate
    "one factor matters and the other one does not": (
        lambda rank, rate, _: [*range(30 * (rate == LRS[0])), 100 + (rank == 8)],
        0.05,
        "lora_rank does not matter: equivalent within 5 points.",
        r"learning_rate matters: [+]25\.00 points \(95 % interval [+]\d+\.\d\d to [+]\d+\.\d\d\) "
        "for learning_rate 0.0001 instead of 5e-05.",
    ),
    "only together": (
        lambda rank, rate, _: range(40) if crosses(rank, rate) else (),
        0.9,
        "lora_rank matters together with learning_rate: -66.67 points .*",
        "learning_rate matters together with lora_rank: -66.67 points .*",
    ),
    "one effect depends on the other": (
        lambda rank, rate, _: range(60) if rate == LRS[1] and rank == 8 else (),
        0.02,
        "lora_rank matters: .* Its effect depends on learning_rate: -50.00 points .*",
        "learning_rate matters: .* Its effect depends on lora_rank: -50.00 points .*",
    ),
    "errors on other examples": (
        lambda rank, rate, _: range(40) if crosses(rank, rate) else range(40, 80),
        0.02,
        "lora_rank: inconclusive.",
        "learning_rate: inconclusive.",
    ),
}


@pytest.mark.parametrize(("wrong", "margin", "of_rank", "of_rate"), ERRORS.values(), ids=ERRORS)
def test_each_factor_matters_or_does_not(wrong, margin, of_rank, of_rate):
    text = text_of(grids_of(make_grid(wrong, lora_rank=RANKS, **PAIR)), margin)
    _, table, lines, fixed = text.split("\n\n")
    assert re.fullmatch(f"{of_rank}\n{of_rate}", lines)
    assert fixed == "All results are conditional on this train/test split."
    worse = r"lora_rank 8 x learning_rate 0.0001 +\| -50.00 .*\| worse together \|"
    assert bool(re.search(worse, table)) == ("-50.00" in lines)
