"""A run is claimed while it is made: workers on one folder make each run once."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.runs.locks import FOLDER, claim

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from experiments.runs.locks import claim

with claim(Path(sys.argv[1])) as is_mine:
    print(is_mine, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def record(tmp_path):
    return tmp_path / "results" / "row_01_seed_123_0123456789ab.json"


@pytest.fixture
def holder(record):
    """Another process that has claimed a run."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(record)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_run_is_claimed_by_one_process(record, holder):
    with claim(record) as is_mine:
        assert not is_mine
    with claim(record.with_name("another.json")) as is_mine:
        assert is_mine


def test_a_killed_process_claims_nothing(record, holder):
    holder.kill()
    with claim(record, waits=True) as is_mine:
        assert is_mine


def test_a_claim_can_be_waited_for(record, holder):
    holder.send_signal(signal.SIGTERM)  # ends it in a moment, and with it the claim
    with claim(record, waits=True) as is_mine:
        assert is_mine


def test_an_error_ends_a_claim(record):
    with pytest.raises(OSError, match="full"), claim(record):
        raise OSError("full")
    with claim(record) as is_mine:
        assert is_mine


def test_claims_are_no_records(record):
    with claim(record):
        assert [path.name for path in record.parent.iterdir()] == [FOLDER]


# ------------------------------------------------------------------------------- whole workers


@pytest.fixture
def flags(tmp_path, real_data):
    """Runs that take seconds, on messages that a test makes up."""
    texts = [f"{i % 7},{'win a prize' if i % 2 else 'see you'} {i},{i % 2}" for i in range(40)]
    data = tmp_path / "data.csv"
    data.write_text("n,text,label\n" + "\n".join(texts) + "\n")
    return [
        "--data", str(data), "--weights", "random", "--model_size", "gpt2-tiny (7M)",
        "--num_epochs", "1", "--output_dir", str(tmp_path / "results"),
    ]  # fmt: skip


def worker(real_data, *flags):
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "TIKTOKEN_CACHE_DIR": str(real_data / "tiktoken"),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "additional_experiments.py", *flags],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def recorded(outputs):
    """The records that workers say they have written."""
    lines = itertools.chain.from_iterable(output.splitlines() for output in outputs)
    return sorted(line for line in lines if line.startswith("Recorded: "))


@pytest.mark.slow
def test_workers_make_each_run_once(flags, real_data, tmp_path):
    workers = [worker(real_data, *flags, "--row", "2,4,5,16") for _ in range(3)]
    outputs = [process.communicate(timeout=300) for process in workers]
    assert [process.returncode for process in workers] == [0, 0, 0], outputs
    lines = recorded(output for output, _ in outputs)
    assert len(lines) == len(set(lines)) == 4
    assert len(list((tmp_path / "results").glob("*.json"))) == 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_the_others_make_what_a_killed_worker_had_claimed(flags, real_data, tmp_path):
    rows = ["--row", "2,4,5,10,16", "--num_epochs", "20"]
    workers = [worker(real_data, *flags, *rows) for _ in range(3)]
    for line in workers[0].stdout:
        if line.startswith("Training: "):
            break
    workers[0].kill()
    workers[0].communicate()
    outputs = [process.communicate(timeout=300) for process in workers[1:]]
    assert [process.returncode for process in workers[1:]] == [0, 0], outputs
    lines = recorded(output for output, _ in outputs)
    assert len(lines) == len(set(lines))
    records = [json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")]
    assert sorted(r["settings"]["trainable_layers"] for r in records) == [
        "all", "last_block", "last_block", "last_two_blocks",  # rows 5 and 10 are one run here
    ]  # fmt: skip


@pytest.mark.slow
def test_loops_over_rows_make_each_run_once(flags, real_data, tmp_path):
    rows, outputs = ["2", "4", "5", "16"], []
    loops = [iter(rows) for _ in range(3)]
    running = [worker(real_data, *flags, "--row", next(loop)) for loop in loops]
    while running:
        for place, process in enumerate(running):
            if process is None or process.poll() is None:
                continue
            assert process.returncode == 0
            outputs.append(process.communicate()[0])
            row = next(loops[place], None)
            running[place] = row and worker(real_data, *flags, "--row", row)
        if not any(running):
            break
        time.sleep(0.05)
    lines = recorded(outputs)
    assert len(lines) == len(set(lines)) == 4
