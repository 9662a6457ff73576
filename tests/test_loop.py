"""The loop over runs: order, skipped, locked and failed runs, and what it prints."""

import errno
import fcntl
import itertools
import json
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from experiments.config.parsing import parse_runs
from experiments.runs import loop
from experiments.runs.loop import LOCKS, Outcome, _lock, order_runs, run_all
from experiments.system.distributed import world
from experiments.system.terminal import one_line_errors

ROOT = Path(__file__).parents[1]


@pytest.fixture
def made(monkeypatch):
    """Runs without computing them; row 4 fails, and row 5 is locked by another process at first."""
    asked = []

    def run_and_record(settings, cache, run_experiment, wait):
        asked.append((settings.row, settings.seed, wait))
        if settings.row == 4:
            raise OSError("no weights")
        return Outcome.LOCKED if settings.row == 5 and not wait else Outcome.DONE

    monkeypatch.setattr(loop, "_run_and_record", run_and_record)
    return asked


def run_rows(*flags):
    run_all(parse_runs(["--row", *flags]), run_experiment=None)


# ------------------------------------------------------------------------------------------ order


@pytest.mark.parametrize(
    ("flags", "prefixes", "order"),
    [
        ("--row all", 12, [1, 3, 18, 19, 2, 4, 5, 11, 10, 13, 14, 15, 16, 17, 6, 7, 8, 9, 12]),
        ("--row 1,3,16 --num_seeds 2", 2, [1, 3, 2, 4, 5, 6]),
        # Without the mask the first token needs all, and shares with the last.
        ("--row 1,2,16 --disable_causal_mask --num_seeds 2", 1, [1, 3, 5, 2, 4, 6]),
    ],
)
def test_runs_that_share_cached_activations_follow_each_other_seed_by_seed(flags, prefixes, order):
    runs = parse_runs(flags.split())
    assert len(set(map(loop.shared_prefix, runs))) == prefixes
    assert [runs.index(settings) + 1 for settings in order_runs(runs)] == order


# --------------------------------------------------------------------------------- several runs


def test_a_failed_run_is_reported_and_does_not_end_the_others(made, capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors("script"):
        run_rows("1,4,16")
    assert exit_.value.code == "script: error: 1 of 3 runs failed: row 4, seed 123"
    assert [row for row, *_ in made] == [1, 4, 16]
    assert "Failed: row 4, seed 123: no weights" in capsys.readouterr().err


def test_a_failure_ends_a_single_run_and_processes_that_share_a_run(made, monkeypatch):
    with pytest.raises(OSError, match="no weights"):
        run_rows("4")
    made.clear()
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(type(world), "check_equal", lambda *_: None)
    with pytest.raises(OSError, match="no weights"):
        run_rows("1,4,16")
    assert [row for row, *_ in made] == [1, 4]


def test_a_locked_run_is_looked_at_again_in_the_end(made):
    run_rows("5,16")
    assert made == [(5, 123, False), (16, 123, False), (5, 123, True)]


def test_activations_are_freed_before_another_model_is_loaded(monkeypatch):
    seen = []

    def run_and_record(settings, cache, *_):
        seen.append(len(cache.activations))
        cache.activations["key"] = True
        return Outcome.DONE

    monkeypatch.setattr(loop, "_run_and_record", run_and_record)
    run_rows("1,3,6,16")
    assert seen == [0, 1, 0, 0]


def test_each_run_is_announced_with_the_time_left_by_the_cost_of_designs(made, capsys, monkeypatch):
    clock = itertools.count(0, 100)
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    run_rows("1,3,16")
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [
        "Run 1 of 3: row 1, seed 123",
        "Run 2 of 3: row 3, seed 123 (about 73 s left)",
        "Run 3 of 3: row 16, seed 123 (about 27 s left)",
    ]
    run_rows("2,9")
    minutes = re.search(r"row 9, seed 123 \(about (\d+) minutes left", capsys.readouterr().out)[1]
    assert int(minutes) > 1000
    monkeypatch.setattr(loop, "_run_and_record", lambda *_: Outcome.RECORDED)
    run_rows("1,3")
    assert capsys.readouterr().out.endswith("Run 2 of 2: row 3, seed 123\n")


def test_a_row_that_becomes_another_is_said_and_counted_once(made, capsys, miniature):
    run_rows("1-3,5,10", "--weights", str(miniature), "--lora_rank", "4")
    printed = capsys.readouterr().out
    assert "Note: with these flags, row 10 becomes row 5\n" in printed
    assert "Note: no effect without LoRA (--trainable_layers lora): --lora_rank\n" in printed
    assert printed.count("Note: ") == 2
    assert printed.count(" of 4: ") == 4


def test_a_dry_run_of_a_grid_counts_runs_and_prints_each_design_once(monkeypatch, capsys):
    monkeypatch.setattr(loop, "_run_and_record", lambda *_: Outcome.DONE)
    run_rows("1", "--dry_run", "--vary", "keep_best", "false", "true", "--num_seeds", "3")
    first, *runs = capsys.readouterr().out.split("\n\n")
    assert first == "6 runs: 2 designs, each printed once"
    assert [line.partition(" (")[0].strip() for line in runs] == [
        "Run 1 of 2: row 1, seed 123", "Run 2 of 2: row 1, keep_best, seed 123"
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------ locks

HOLDER = """
import sys, time
from pathlib import Path
from experiments.runs.loop import _lock

with _lock(Path(sys.argv[1]), wait=False) as is_locked:
    print(is_locked, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def record(tmp_path):
    return tmp_path / "results" / "row_01_seed_123_0123456789ab.json"


def test_a_run_is_locked_by_one_process_until_it_ends_or_fails(record, capsys):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(record)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "True\n"
        with _lock(record, wait=False) as is_locked:
            assert not is_locked
        skipped = capsys.readouterr().out
        assert skipped.startswith(f"Skipped: process {holder.pid} on {platform.node()} since 20")
        assert skipped.endswith(f" is running it: {record}\n")
        with _lock(record.with_name("another.json"), wait=False) as is_locked:
            assert is_locked
        holder.kill()
        with suppress(OSError), _lock(record, wait=True) as is_locked:
            assert is_locked
            raise OSError("full")
    with _lock(record, wait=False) as is_locked:
        assert is_locked
    assert [path.name for path in record.parent.iterdir()] == [LOCKS]
    assert not list(record.parent.rglob("*.holder"))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_run_is_made_with_a_note(number, record, monkeypatch, capsys):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with _lock(record, wait=False) as is_locked:
        assert is_locked
    assert capsys.readouterr().err == (
        f"Note: {record.parent / LOCKS} allows no locks ({os.strerror(number)}): run one process "
        "at a time\n"
    )


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.usefixtures("real_tokenizer_files")
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_the_run_of_a_killed_process_is_made_by_another(tmp_path):
    texts = [f"{i % 7},{'win a prize' if i % 2 else 'see you'} {i},{i % 2}" for i in range(40)]
    (tmp_path / "data.csv").write_text("\n".join(["n,text,label", *texts]))
    flags = "--data data.csv --weights random --row 2,4,5,10,16 --num_epochs 20 --model_size"
    command = [sys.executable, ROOT / "additional_experiments.py", *flags.split(), "gpt2-tiny (7M)"]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)
        for _ in range(2)
    ]
    assert any(line.startswith("Training: ") for line in workers[0].stdout)
    workers[0].kill()
    workers[0].communicate()
    output, errors = workers[1].communicate(timeout=300)
    assert workers[1].returncode == 0, errors
    lines = [line for line in output.splitlines() if line.startswith("Recorded: ")]
    assert len(lines) == len(set(lines))
    records = [json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")]
    assert sorted(r["settings"]["trainable_layers"] for r in records) == [
        "all", "last_block", "last_block", "last_two_blocks",  # rows 5 and 10 are one run here
    ]  # fmt: skip
