"""The script as people run it: a process of its own."""

import ast
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from records import make_record

from experiments.comparison import flags as comparison_flags
from experiments.config import flags
from experiments.config.parser import build_parser
from experiments.config.rows import ROWS
from experiments.config.settings import TINY
from experiments.runs.records import write_record
from experiments.system import terminal as command_line

FOLDER = Path(__file__).parents[1]
SCRIPT, COMPARISON = FOLDER / "additional_experiments.py", FOLDER / "compare_experiments.py"
OLDER = """
import runpy, sys
script = sys.argv[1]
sys.path.insert(0, script.rpartition("/")[0])
sys.version_info = (3, 10, 4, "final", 0)
runpy.run_path(script, run_name="__main__")
"""


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


@pytest.mark.parametrize("script", [SCRIPT, COMPARISON])
def test_an_older_python_is_told_in_one_sentence(script, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", OLDER, script.as_posix()],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (1, "")
    assert re.fullmatch(
        r"error: Python 3\.11 or newer is needed, and this is 3\.10: .*\n", run.stderr
    )


@pytest.mark.parametrize("name", [SCRIPT.name, COMPARISON.name, "experiments/__init__.py"])
def test_an_older_python_can_read_what_tells_it_so(name):
    ast.parse((FOLDER / name).read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("backend", ["module://no_such_package.backend_inline", "unknown"])
def test_figures_are_drawn_to_files_whatever_backend_the_environment_names(backend, tmp_path):
    write_record(tmp_path / "results", make_record(1))
    run = subprocess.run(
        [sys.executable, "-W", "error", COMPARISON, "--plot", "figures"],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": backend},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5


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


def test_without_a_network_the_way_out_is_named(tmp_path):
    run = run_script(cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert run.returncode == 1
    assert re.fullmatch(r"Memory: .* available\n", run.stdout)
    assert "SMSSpamCollection" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.usefixtures("real_tokenizer_files")
@pytest.mark.parametrize(
    "row", [pytest.param(n, marks=[] if n == 11 else pytest.mark.slow) for n in ROWS]
)
def test_each_row_runs_on_real_messages_with_the_tiny_model(row, real_data_dir, tmp_path):
    flags = ["--row", str(row), "--model_size", TINY, "--weights", "random", "--max_steps", "2"]
    run = run_script(*flags, "--data_dir", str(real_data_dir), cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "Data: 1,045 training, 149 validation, 300 test messages" in run.stdout
    assert re.search(r"^Test accuracy: \d+\.\d\d%$", run.stdout, flags=re.MULTILINE)


# ------------------------------------------------------------------------------- what flags take

PARSERS = [build_parser(), comparison_flags.build_parser()]
PATHS = [
    (parser, action.dest)
    for parser in PARSERS
    for action in parser._actions
    if action.metavar in ("DIR", "FILE")
]


@pytest.mark.parametrize(("parser", "name"), PATHS)
def test_the_home_folder_in_a_path_is_found_behind_an_equals_sign(parser, name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/reader")
    monkeypatch.setenv("USERPROFILE", "/home/reader")
    assert vars(parser.parse_args([f"--{name}=~/x"]))[name] == Path("/home/reader/x")


def test_a_checkpoint_in_the_home_folder_is_found(miniature, monkeypatch):
    monkeypatch.setenv("HOME", str(miniature.parent))
    monkeypatch.setenv("USERPROFILE", str(miniature.parent))
    settings = flags.parse_args([f"--weights=~/{miniature.name}"])
    assert settings.network.checkpoint == miniature


@pytest.mark.parametrize(("parser", "name"), PATHS)
def test_a_home_folder_that_is_not_there_is_told(parser, name, capsys):
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args([f"--{name}=~no_such_reader/x"])
    assert exit_.value.code == 2
    assert "there is no home folder ~no_such_reader" in capsys.readouterr().err


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_any_gpu_that_is_there_can_be_named(name):
    assert flags.parse_args(["--device", name]).machine.device == name


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_beyond_the_last_is_told(capsys):
    with pytest.raises(SystemExit) as exit_:
        flags.parse_args(["--device", "cuda:2"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        "additional_experiments.py: error: --device cuda:2 is not available here: use --device "
        "cpu\n"
    )


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_without_a_gpu_none_can_be_named(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        flags.parse_args(["--device", name])
    assert exit_.value.code == 2
    assert f"--device {name} is not available here: use --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["cuda:", "cuda:-1", "cuda:01", "cuda:²", "cpu:1", "tpu", "CUDA", ""]
)
def test_what_names_no_device_is_refused(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        flags.parse_args(["--device", name])
    assert exit_.value.code == 2
    assert f"must be auto, cpu, cuda, cuda:1 (or another number), or mps, got {name!r}" in (
        capsys.readouterr().err
    )


def test_streams_of_a_program_around_the_script_are_left_alone(monkeypatch):
    monkeypatch.setattr(command_line.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    command_line.take_over()
    assert isinstance(sys.stdout, io.StringIO)
