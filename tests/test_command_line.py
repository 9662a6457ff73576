"""The script as people run it: a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.rows import ROWS
from experiments.settings import TINY

SCRIPT = Path(__file__).parents[1] / "additional_experiments.py"


def run_script(*flags, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *flags],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_demo_runs_anywhere_and_leaves_nothing_behind(tmp_path):
    run = run_script("--demo", cwd=tmp_path, HTTPS_PROXY="http://127.0.0.1:9")
    assert (run.returncode, run.stderr) == (0, "")
    assert len(re.findall(r"^Ep \d \(Step \d{6}\)", run.stdout, flags=re.MULTILINE)) == 4
    assert "mean nothing about GPT-2" in run.stdout
    assert not list(tmp_path.iterdir())


def test_importing_the_script_does_nothing(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import additional_experiments"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_wrong_flag_ends_before_anything_is_made(tmp_path):
    run = run_script("--average", "embeddings", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert "did you mean --average_embeddings?" in run.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.fault("offline")
def test_without_a_network_the_way_out_is_named(tmp_path):
    run = run_script(cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert (run.returncode, run.stdout) == (1, "")
    assert "SMSSpamCollection" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.usefixtures("real_tokenizer_files")
@pytest.mark.parametrize(
    "row", [pytest.param(n, marks=[] if n in (1, 11) else pytest.mark.slow) for n in ROWS]
)
def test_each_row_runs_on_real_messages_with_the_tiny_model(row, real_data_dir, tmp_path):
    flags = ["--row", str(row), "--model_size", TINY, "--weights", "random", "--max_steps", "2"]
    run = run_script(*flags, "--data_dir", str(real_data_dir), cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "Data: 1,045 training, 149 validation, 300 test messages" in run.stdout
    assert re.search(r"^Test accuracy: \d+\.\d\d%$", run.stdout, flags=re.MULTILINE)
