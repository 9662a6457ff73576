"""A run that is interrupted resumes with the bits of an uninterrupted one."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from runs import small, use_demo_data  # noqa: F401 (a fixture)
from safetensors.torch import load_file

from additional_experiments import main
from experiments.data.sms_spam import demo_splits
from experiments.runs import fingerprint
from experiments.system import devices
from experiments.training import optimization, resume

SCRIPT = Path(__file__).parents[1] / "additional_experiments.py"
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2")
DESIGNS = {
    "row 1": (),
    "row 5": ("--trainable_layers", "all", "--schedule", "linear", "--warmup_steps", "3"),
    "row 11": ("--row", "11", "--keep_best", "--max_grad_norm", "0.5"),
    "row 15": ("--no_padding", "--batch_size", "1", "--accumulation_steps", "8"),
}


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing of it is handled."""


def write_data(path):
    """Writes 80 short examples, whose training split has 7 batches of 8."""
    texts = pd.read_csv(demo_splits()["train"]).head(80)
    texts.assign(Text=texts["Text"].str[:20]).to_csv(path, index=False)


def result_in(folder):
    """The only record of a folder, without what the clock says."""
    (path,) = folder.glob("*.json")
    record = json.loads(path.read_text())
    return {name: record[name] for name in ("losses", "accuracies", "best", "correct", "test")}


@pytest.fixture
def run(small, tmp_path, capsys, monkeypatch):  # noqa: F811
    """Run the script; return the result and trained tensors, what was printed, and the steps.

    `kill` and `signal_at` are numbers of steps after which the run is ended.
    """
    use_demo_data(monkeypatch)
    monkeypatch.setattr(devices, "start_peak", lambda _: "run")  # collects garbage
    data = tmp_path / "data.csv"
    write_data(data)

    def run_(*flags, kill=None, signal_at=None, folder="results"):
        steps, make_step = [], optimization.make_step

        def count(*arguments):
            make_step(*arguments)
            steps.append(1)
            if len(steps) == kill:
                raise Killed
            if len(steps) == signal_at:
                os.kill(os.getpid(), signal.SIGINT)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # not that of an earlier test
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(optimization, "make_step", count)
            model = tmp_path / f"{folder}.safetensors"
            flags = ["--data", data, "--save_model", model, "--weights", small, *flags]
            main([*map(str, flags), "--output_dir", str(tmp_path / folder)])
        tensors = {name: tensor.numpy().tobytes() for name, tensor in load_file(model).items()}
        return result_in(tmp_path / folder) | tensors, capsys.readouterr().out, len(steps)

    return run_


def states(tmp_path):
    return list(tmp_path.glob("results/.locks/*.state"))


@pytest.mark.parametrize("name", [*DESIGNS])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(name, run, tmp_path):
    flags = ["--num_epochs", 2, "--save_every", 1, *DESIGNS[name]]
    expected, _, total = run(*flags, folder="whole")
    done = total // 2 if name in ("row 1", "row 11") else total // 2 + 2
    if done == total // 2:  # after the first epoch
        with pytest.raises(Killed):
            run(*flags, kill=done + 2)
    else:  # in the second
        with pytest.raises(SystemExit):
            run(*flags, signal_at=done)
    (state,) = states(tmp_path)
    found, printed, left = run(*flags)
    assert re.search("Resumed in epoch 2 after .* batches", printed)
    assert (found, left) == (expected, total - done)
    assert not state.exists()


def test_a_signal_saves_the_next_step_unless_saving_would_take_long(
    run, tmp_path, capsys, monkeypatch
):
    flags = ["--num_epochs", 1]
    with monkeypatch.context() as patch:
        patch.setattr(resume, "_SPEED", 1)
        with pytest.raises(SystemExit):
            run(*flags, signal_at=4)
    assert states(tmp_path) == []
    expected, _, total = run(*flags, folder="whole")
    with pytest.raises(SystemExit) as exit_:
        run(*flags, signal_at=4)
    printed = capsys.readouterr()
    assert exit_.value.code == 130
    assert re.search(r"State saved at batch 4 of 7: \d+ MiB in \d+\.\d s", printed.out)
    assert 'up to its last line "State saved"' in printed.err
    assert len(states(tmp_path)) == 1
    found, _, left = run(*flags)
    assert (found, left) == (expected, total - 4)


def test_without_the_flag_only_long_epochs_are_saved(run, tmp_path, monkeypatch, capsys):
    flags = ["--num_epochs", 2, "--max_steps", 9]
    with pytest.raises(Killed):
        run(*flags, kill=8)
    assert states(tmp_path) == []
    monkeypatch.setattr(resume, "LONG_EPOCH", 0)
    with pytest.raises(Killed):
        run(*flags, "--save_every", 0, kill=8)
    assert states(tmp_path) == []
    capsys.readouterr()
    with pytest.raises(Killed):
        run(*flags, kill=8)
    assert "State saved after epoch 1, batch 7 of 9: " in capsys.readouterr().out
    assert run(*flags)[2] == 2


@pytest.fixture
def unfinished(run, tmp_path):
    flags = ["--num_epochs", 2, "--max_steps", 8, "--save_every", 1]
    with pytest.raises(Killed):
        run(*flags, kill=8)
    return flags, *states(tmp_path)


def change(path, **values):
    torch.save(torch.load(path, weights_only=True) | values, path)


@pytest.mark.parametrize(
    "reason",
    ["damaged (RuntimeError)", "of other settings, data, precision or code", "of other processes"],
)
def test_a_state_that_does_not_fit_is_ignored_with_a_line(reason, run, unfinished, monkeypatch):
    flags, path = unfinished
    if "damaged" in reason:
        path.write_bytes(path.read_bytes()[:1000])
    elif "code" in reason:
        monkeypatch.setattr(fingerprint, "source_digest", lambda: "edited")
    else:
        change(path, key=torch.load(path, weights_only=True)["key"] | {"processes": 2})
    _, printed, steps = run(*flags)
    assert f"Not resumed, {reason}: {path}" in printed
    assert steps == 8


def test_no_resume_starts_anew(run, unfinished):
    flags, state = unfinished
    _, printed, steps = run(*flags, "--no_resume")
    assert ("Resumed" in printed, steps, state.exists()) == (False, 8, False)


@pytest.mark.slow
def test_any_two_interruptions_leave_the_bits_of_an_uninterrupted_run(run):
    flags = ["--num_epochs", 3, "--keep_best", "--schedule", "cosine"]
    expected, _, total = run(*flags, folder="whole")
    for seed in range(5):
        first = random.Random(seed).randrange(1, total - 1)
        second = random.Random(seed).randrange(1, total - first)
        for done in (first, second):
            with pytest.raises(SystemExit):
                run(*flags, "--overwrite", signal_at=done)
        found, _, left = run(*flags, "--overwrite")
        assert (found, left) == (expected, total - first - second)


def test_training_seconds_are_those_of_all_parts(run, unfinished, tmp_path):
    flags, path = unfinished
    change(path, seconds=1000.0)
    run(*flags)
    (record,) = (tmp_path / "results").glob("*.json")
    assert 1000 < json.loads(record.read_text())["seconds"]["train"] < 1100


# ------------------------------------------------------------------------- processes of their own


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.usefixtures("real_tokenizer_files")
@pytest.mark.parametrize(
    ("launch", "number"),
    [
        ([SCRIPT], signal.SIGKILL),
        ([*TORCHRUN, SCRIPT], signal.SIGTERM),
        ([*TORCHRUN, SCRIPT, "--parallel", "shard", "--trainable_layers", "all"], signal.SIGTERM),
    ],
    ids=["one", "replicas", "shards"],
)
def test_killed_processes_resume_with_the_bits_of_an_uninterrupted_run(
    launch, number, small, tmp_path  # noqa: F811
):  # fmt: skip
    write_data(tmp_path / "data.csv")
    command = [sys.executable, *launch, "--data", "data.csv", "--weights", small]
    command += ["--save_every", "1", "--num_epochs", "3", "--output_dir"]

    def start(folder):
        return subprocess.Popen(
            [*map(str, command), folder], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(SCRIPT.parent)},
        )  # fmt: skip

    with start("killed") as process:
        assert any(line.startswith("State saved after epoch 1") for line in process.stdout)
        time.sleep(0.05)
        process.send_signal(number)
    for folder in ("killed", "whole"):
        with start(folder) as process:
            printed = process.stdout.read()
        assert ("Resumed in epoch" in printed) == (folder == "killed")
    assert result_in(tmp_path / "killed") == result_in(tmp_path / "whole")
