"""The published trajectories, batch by batch, on real data and the miniature checkpoint.

tests/golden_trajectories.md says where they come from, and why their limits are what they are.
"""

import json
from pathlib import Path

import pytest

from additional_experiments import run_experiment
from experiments.config.arguments import TINY
from experiments.config.parsing import parse_args
from experiments.config.rows import ROWS

GOLDEN = json.loads((Path(__file__).parent / "golden_trajectories.json").read_text())
REFERENCE = ("1", "11")  # one epoch of the reference; all other runs are made by hand
ROW_11_STEADY = 350  # batches; after them row 11 amplifies rounding, by a LoRA scaled by 16


def assert_same_trajectory(row, result, tolerance, epochs=None):
    """Compare a run with the first epochs of the published one, or with all of it."""
    golden, history = GOLDEN[row], result.history
    batch_size = 1 if "--batch_size" in golden["flags"] else 8
    batches = (epochs or 5) * result.correct["train"][1] // batch_size
    evaluations = [line for line in golden["evaluations"] if line[0] < batches]
    assert [batch for batch, *_ in history.losses] == [batch for batch, *_ in evaluations]
    for (batch, *losses), (_, *expected) in zip(history.losses, evaluations, strict=True):
        loose = row == "11" and batch > ROW_11_STEADY
        assert losses == pytest.approx(expected, rel=0, abs=1e-2 if loose else tolerance), batch
    for (epoch, *accuracies), (_, *expected) in zip(
        history.accuracies, golden["epochs"][:epochs], strict=True
    ):
        slack = 1 / 40 if row == "11" and epoch > 3 else 0
        assert accuracies[0] == pytest.approx(expected[0], rel=0, abs=slack + 1e-9)
        assert accuracies[1] == expected[1]
    if not epochs:
        golden, slack = golden["final"], 2 / 1040 if row == "11" else 0
        train, *others = (correct / total for correct, total in result.correct.values())
        assert train == pytest.approx(golden["train"], rel=0, abs=slack + 1e-9)
        assert others == [golden["val"], golden["test"]]


SLOW, BY_HAND = pytest.mark.slow, pytest.mark.by_hand
PLAIN = "--no_shortcuts"


@pytest.mark.parametrize(
    ("row", "flags", "epochs"),
    [pytest.param(row, [PLAIN], 1, marks=SLOW) for row in REFERENCE]
    + [pytest.param(row, [], 1, marks=SLOW) for row in GOLDEN if row != "1"]
    + [pytest.param("1", [], None, marks=SLOW)]
    + [pytest.param(row, [PLAIN], None, marks=BY_HAND) for row in GOLDEN]
    + [pytest.param(row, [], None, marks=BY_HAND) for row in GOLDEN if row != "1"],
)
@pytest.mark.usefixtures("real_tokenizer_files")
def test_a_run_follows_the_published_trajectory(row, flags, epochs, miniature, real_data_dir):
    is_random = "--weights random" in ROWS[int(row)].flags
    weights = ["--model_size", TINY] if is_random else ["--weights", str(miniature)]
    flags = [*GOLDEN[row]["flags"], *weights, "--data_dir", str(real_data_dir), *flags]
    flags += ["--num_epochs", str(epochs)] if epochs else []
    tolerance = 1e-5 if PLAIN in flags else 1e-4
    assert_same_trajectory(row, run_experiment(parse_args(flags)), tolerance, epochs)
