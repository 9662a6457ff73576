"""What a run logs for TensorBoard; what it prints is tested with whole runs."""

import sys
from dataclasses import replace

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from additional_experiments import run_experiment
from experiments.config.parsing import parse_args
from experiments.runs.results import log_to_tensorboard
from experiments.training.optimization import no_op


def logged(folder):
    """The values by their names, as TensorBoard reads them: step and value of each."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def settings_for(folder, *flags):
    return parse_args(["--row", "16", "--seed", "7", "--tensorboard", str(folder), *flags])


def test_losses_and_accuracies_are_logged_under_the_name_of_the_run(tmp_path):
    flags = ["--demo", "--max_steps", "3", "--tensorboard", str(tmp_path / "logs")]
    history = run_experiment(parse_args(flags)).history
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name == "run_seed_123"
    expected = {}
    for kind, lines in (("loss", history.losses), ("accuracy", history.accuracies)):
        assert lines
        for place, split in ((1, "training"), (2, "validation")):
            expected[f"{kind}/{split}"] = [(x[0], x[place]) for x in lines]
    found = logged(folder)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        for (step, value), (expected_step, exact) in zip(found[name], values, strict=True):
            assert step == expected_step
            assert abs(value - exact) < 1e-6 * max(1, abs(exact))


def test_values_can_be_read_during_the_run(tmp_path):
    with log_to_tensorboard(settings_for(tmp_path), "a" * 64) as watch:
        watch("loss", 50, 1.0, 2.0)
        assert logged(tmp_path / "row_16_seed_7_aaaaaaaaaaaa")["loss/validation"] == [(50, 2.0)]


def test_of_two_runs_of_one_name_the_later_is_shown(tmp_path):
    for losses in ([4.0, 3.0, 2.0], [1.5, 1.0]):
        with log_to_tensorboard(settings_for(tmp_path), None) as watch:
            for batch, loss in enumerate(losses):
                watch("loss", batch, loss, 0.0)
    assert logged(tmp_path / "row_16_seed_7")["loss/training"] == [(0, 1.5), (1, 1.0)]


def test_without_the_flag_tensorboard_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    settings = settings_for("logs")
    settings = replace(settings, output=replace(settings.output, tensorboard=None))
    with log_to_tensorboard(settings, None) as watch:
        assert watch is no_op
