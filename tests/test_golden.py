"""The published trajectories, batch by batch, on real data and the miniature checkpoint.

tests/golden_trajectories.md says where they come from, and why their limits are what they are.
"""

import json
from pathlib import Path

import pytest

from additional_experiments import run_experiment
from experiments.config.parsing import parse_args
from experiments.config.rows import ROWS
from experiments.config.values import TINY

GOLDEN = json.loads((Path(__file__).parent / "golden_trajectories.json").read_text())
QUICK = ("1", "16")  # with shortcuts
SLOW_REFERENCE = ("1", "5", "11", "14")  # the other rows of the reference are run by hand
ROW_11_STEADY = 350  # batches; after them row 11 amplifies rounding, by a LoRA scaled by 16


def golden_rows(mark):
    return [pytest.param(row, marks=mark(row), id=f"row{row}") for row in GOLDEN]


def flags_of(row, miniature, data_dir):
    weights = ["--weights", str(miniature)]
    if "--weights random" in ROWS[int(row)].flags:
        weights = ["--model_size", TINY]
    return [*GOLDEN[row]["flags"], *weights, "--data_dir", str(data_dir)]


def run(row, miniature, data_dir, *more):
    return run_experiment(parse_args([*flags_of(row, miniature, data_dir), *more]))


def assert_same_trajectory(row, result, tolerance):
    golden = GOLDEN[row]
    history, correct = result.history, result.correct
    shares = {name: k / n for name, (k, n) in correct.items()}
    shares["val"] = shares.pop("validation")
    assert [batch for batch, *_ in history.losses] == [batch for batch, *_ in golden["evaluations"]]
    for (batch, *losses), (_, *expected) in zip(history.losses, golden["evaluations"], strict=True):
        loose = row == "11" and batch > ROW_11_STEADY
        assert losses == pytest.approx(expected, rel=0, abs=1e-2 if loose else tolerance), batch
    if row != "11":
        assert [list(line) for line in history.accuracies] == golden["epochs"]
        assert shares == golden["final"]
        return
    for (epoch, *accuracies), (_, *expected) in zip(
        history.accuracies, golden["epochs"], strict=True
    ):
        slack = 0 if epoch <= 3 else 1 / 40
        assert accuracies[0] == pytest.approx(expected[0], rel=0, abs=slack + 1e-9)
        assert accuracies[1] == expected[1]
    assert shares["train"] == pytest.approx(golden["final"]["train"], rel=0, abs=2 / 1040 + 1e-9)
    assert (shares["val"], shares["test"]) == (golden["final"]["val"], golden["final"]["test"])


@pytest.mark.parametrize(
    "row",
    golden_rows(lambda row: pytest.mark.slow if row in SLOW_REFERENCE else pytest.mark.by_hand),
)
@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_reference_follows_the_published_trajectory(row, miniature, real_data_dir):
    result = run(row, miniature, real_data_dir, "--no_shortcuts")
    assert_same_trajectory(row, result, tolerance=1e-5)


@pytest.mark.parametrize("row", golden_rows(lambda row: () if row in QUICK else pytest.mark.slow))
@pytest.mark.usefixtures("real_tokenizer_files")
def test_shortcuts_follow_the_published_trajectory(row, miniature, real_data_dir):
    assert_same_trajectory(row, run(row, miniature, real_data_dir), tolerance=1e-4)
