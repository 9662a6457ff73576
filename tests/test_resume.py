"""A run that is interrupted resumes with the bits of an uninterrupted one."""

import hashlib
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

ROOT = Path(__file__).parents[1]
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
    """Run the script; return the record without what the clock says, and what was printed."""
    use_demo_data(monkeypatch)
    monkeypatch.setattr(devices, "start_peak", lambda _: "run")  # collects garbage
    data = tmp_path / "data.csv"
    write_data(data)

    def run_(*flags, kill=None, signals=(), folder="results"):
        steps, make_step = [], optimization.make_step

        def count(*arguments):
            make_step(*arguments)
            steps.append(1)
            if len(steps) == kill:
                raise Killed
            if len(steps) in signals:
                os.kill(os.getpid(), signal.SIGINT)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # not that of an earlier test
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(optimization, "make_step", count)
            flags = [*map(str, flags)]
            flags += ["--save_model", str(tmp_path / f"{folder}.safetensors")]
            flags += ["--weights", str(small), "--output_dir", str(tmp_path / folder)]
            main(["--data", str(data), *flags])
        kept = result_in(tmp_path / folder)
        model = load_file(tmp_path / f"{folder}.safetensors")
        kept |= {k: hashlib.sha256(t.numpy().data).hexdigest() for k, t in model.items()}
        return kept, capsys.readouterr().out, len(steps)

    return run_


def states(tmp_path):
    return list(tmp_path.glob("results/.locks/*.state"))


@pytest.mark.parametrize("name", [*DESIGNS])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(name, run, tmp_path):
    flags = ["--num_epochs", 2, "--save_every", 1, *DESIGNS[name]]
    expected, _, total = run(*flags, folder="whole")
    if name in ("row 1", "row 11"):  # after the first epoch
        done = total // 2
        with pytest.raises(Killed):
            run(*flags, kill=done + 2)
    else:  # in the second
        done = total // 2 + 2
        with pytest.raises(SystemExit):
            run(*flags, signals=[done])
    (state,) = states(tmp_path)
    found, printed, left = run(*flags)
    assert re.search("Resumed in epoch 2 after .* batches", printed)
    assert found == expected
    assert left == total - done
    assert not state.exists()


def test_a_signal_saves_the_next_step_even_where_epochs_are_quick(run, tmp_path, capsys):
    flags = ["--num_epochs", 1]
    expected, _, total = run(*flags, folder="whole")
    with pytest.raises(SystemExit) as exit_:
        run(*flags, signals=[4])
    printed = capsys.readouterr()
    assert exit_.value.code == 130
    assert re.search(r"State saved at batch 4 of 7: \d+ MiB in \d+\.\d s", printed.out)
    assert 'up to its last line "State saved"' in printed.err
    assert len(states(tmp_path)) == 1
    found, printed, left = run(*flags)
    assert (found, left) == (expected, total - 4)


def test_a_signal_is_handled_at_once_if_saving_would_take_long(run, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_SPEED", 1)
    with pytest.raises(SystemExit):
        run("--num_epochs", 1, signals=[4])
    assert states(tmp_path) == []


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


def test_no_resume_starts_anew(run, unfinished):
    flags, state = unfinished
    _, printed, steps = run(*flags, "--no_resume")
    assert ("Resumed" in printed, steps, state.exists()) == (False, 8, False)


def damage(path, _):
    path.write_bytes(path.read_bytes()[:1000])


def edit_code(_, monkeypatch):
    monkeypatch.setattr(fingerprint, "source_digest", lambda: "edited")


def change_processes(path, _):
    state = torch.load(path, weights_only=True)
    state["key"]["processes"] = 2
    torch.save(state, path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damage, "damaged (RuntimeError)"),
        (edit_code, "of other settings, data, precision or code"),
        (change_processes, "of other processes"),
    ],
)
def test_a_state_that_does_not_fit_is_ignored_with_a_line(
    change, reason, run, unfinished, monkeypatch
):
    flags, path = unfinished
    change(path, monkeypatch)
    _, printed, steps = run(*flags)
    assert f"Not resumed, {reason}: {path}" in printed
    assert steps == 8


@pytest.mark.slow
def test_any_two_interruptions_leave_the_bits_of_an_uninterrupted_run(run):
    flags = ["--num_epochs", 3, "--keep_best", "--schedule", "cosine"]
    expected, _, total = run(*flags, folder="whole")
    for seed in range(5):
        first = random.Random(seed).randrange(1, total - 1)
        second = random.Random(seed).randrange(1, total - first)
        for done in (first, second):
            with pytest.raises(SystemExit):
                run(*flags, "--overwrite", signals=[done])
        found, _, left = run(*flags, "--overwrite")
        assert (found, left) == (expected, total - first - second)


def test_training_seconds_are_those_of_all_parts(run, unfinished, tmp_path, monkeypatch):
    flags, path = unfinished
    state = torch.load(path, weights_only=True)
    state["seconds"] = 1000.0
    torch.save(state, path)
    run(*flags)
    (record,) = (tmp_path / "results").glob("*.json")
    assert 1000 < json.loads(record.read_text())["seconds"]["train"] < 1100


# ------------------------------------------------------------------------- processes of their own


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "flags", "number"),
    [
        ((), (), signal.SIGKILL),
        (TORCHRUN, (), signal.SIGTERM),
        (TORCHRUN, ("--parallel", "shard", "--trainable_layers", "all"), signal.SIGTERM),
    ],
    ids=["one", "replicas", "shards"],
)
@pytest.mark.usefixtures("real_tokenizer_files")
def test_killed_processes_resume_with_the_bits_of_an_uninterrupted_run(
    launch,
    flags,
    number,
    small,  # noqa: F811
    tmp_path,
):
    write_data(tmp_path / "data.csv")
    command = [sys.executable, *launch, ROOT / "additional_experiments.py", "--data", "data.csv"]
    command += ["--weights", small, "--save_every", "1", "--num_epochs", "3", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(folder):
        return subprocess.Popen(
            [*map(str, command), "--output_dir", folder], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE,
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
