"""What a run logs for TensorBoard, and when it prints published accuracies."""

import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from additional_experiments import run_experiment
from experiments.config.parsing import parse_args
from experiments.config.rows import DATA_SHA256
from experiments.runs.results import describe_result, log_to_tensorboard
from experiments.training.optimization import no_op


@pytest.mark.parametrize(
    ("flags", "digest", "is_shown"),
    [
        ("--row 10", DATA_SHA256, True),
        ("--row 10 --model_size 7M", DATA_SHA256, False),
        ("--row 10 --precision bfloat16", DATA_SHA256, False),
        ("--row 10 --num_epochs 4", DATA_SHA256, False),
        ("--row 10", "other", False),
    ],
)
def test_published_accuracies_are_printed_next_to_those_of_the_published_run(
    flags, digest, is_shown
):
    corpus = SimpleNamespace(digest=digest)
    correct = {"training": (9, 10), "validation": (4, 5), "test": (3, 4)}
    result = SimpleNamespace(correct=correct, corpus=corpus, peak_memory_mib=1.0)
    printed = describe_result(result, parse_args(flags.split()))
    assert ("\nRow 10, published and here:\n" in printed) == is_shown


def logged(folder):
    """The values by their names, as TensorBoard reads them: step and value of each."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_losses_and_accuracies_are_logged_under_the_name_of_the_run(tmp_path):
    flags = ["--demo", "--max_steps", "3", "--tensorboard", str(tmp_path)]
    history = run_experiment(parse_args(flags)).history
    found = logged(tmp_path / "run_seed_123")
    assert len(found) == 4
    for kind, lines in (("loss", history.losses), ("accuracy", history.accuracies)):
        for place, split in ((1, "training"), (2, "validation")):
            expected = [(line[0], pytest.approx(line[place], rel=1e-6)) for line in lines]
            assert found[f"{kind}/{split}"] == expected != []


def test_values_can_be_read_during_the_run_and_those_of_an_earlier_one_are_not_shown(tmp_path):
    settings = parse_args(["--row", "16", "--seed", "7", "--tensorboard", str(tmp_path)])
    for losses in ([4.0, 3.0, 2.0], [1.5, 1.0]):
        with log_to_tensorboard(settings, "a" * 64) as watch:
            for batch, loss in enumerate(losses):
                watch("loss", batch, loss, 0.0)
            found = logged(tmp_path / "row_16_seed_7_aaaaaaaaaaaa")
            assert found["loss/training"] == list(enumerate(losses))


def test_without_the_flag_tensorboard_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with log_to_tensorboard(parse_args([]), None) as watch:
        assert watch is no_op
