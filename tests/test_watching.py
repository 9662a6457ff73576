import sys
from dataclasses import replace

import pytest
from records import begin_record
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.config import checks as conflicts
from experiments.config.flags import parse_args
from experiments.runs.experiment import run_experiment
from experiments.runs.tensorboard import name_of_run, nobody, watching

DEMO = ["--demo", "--max_steps", "3"]


def seen(folder):
    """The values by their names, as TensorBoard reads them: step and value of each."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_sees_the_losses_and_accuracies_of_the_run(tmp_path):
    settings = parse_args([*DEMO, "--tensorboard", str(tmp_path / "logs")])
    history = run_experiment(settings).history
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name == "run_seed_123"
    expected = {}
    for kind, lines in (("loss", history.losses), ("accuracy", history.accuracies)):
        assert lines
        for place, split in ((1, "training"), (2, "validation")):
            expected[f"{kind}/{split}"] = [(x[0], pytest.approx(x[place])) for x in lines]
    assert seen(folder) == expected


def test_values_can_be_seen_while_the_run_goes_on(tmp_path):
    with watching(tmp_path, "row") as watch:
        watch("loss", 50, 1.0, 2.0)
        assert seen(tmp_path / "row")["loss/validation"] == [(50, 2.0)]


def test_of_two_runs_of_one_name_the_later_is_seen(tmp_path):
    for losses in ([4.0, 3.0, 2.0], [1.5, 1.0]):
        with watching(tmp_path, "row") as watch:
            for batch, loss in enumerate(losses):
                watch("loss", batch, loss, 0.0)
    assert seen(tmp_path / "row")["loss/training"] == [(0, 1.5), (1, 1.0)]


def test_without_the_flag_nothing_of_tensorboard_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with watching(None, "row") as watch:
        assert watch is nobody


def test_rows_and_seeds_and_records_have_a_name_each():
    settings = parse_args(["--row", "16", "--seed", "7"])
    assert name_of_run(settings, "a" * 64) == "row_16_seed_7_aaaaaaaaaaaa"
    assert name_of_run(replace(settings, seed=8), None) == "row_16_seed_8"


def test_watching_makes_no_other_run(tmp_path):
    plain, watched = parse_args([]), parse_args(["--tensorboard", str(tmp_path)])
    assert begin_record(plain) == begin_record(watched)


@pytest.mark.parametrize(
    ("flags", "is_there", "words"),
    [
        ([], False, "--tensorboard needs a package that is not there: pip install tensorboard"),
        (["--baseline", "majority"], True, "--baseline has no losses to watch"),
    ],
)
def test_what_cannot_be_watched_ends_before_the_run(flags, is_there, words, monkeypatch, capsys):
    monkeypatch.setattr(conflicts, "find_spec", lambda _: is_there or None)
    with pytest.raises(SystemExit) as ended:
        parse_args([*flags, "--tensorboard", "logs"])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
