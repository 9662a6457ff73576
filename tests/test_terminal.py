"""How the scripts behave in a terminal, and as a process of their own."""

import ast
import errno
import io
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from records import make_record

import experiments
from experiments.config.rows import ROWS
from experiments.runs.records import write_record
from experiments.system import terminal
from experiments.system.terminal import UsageError, one_line_errors, printable, setup_terminal

FOLDER = Path(__file__).parents[1]
SCRIPT, COMPARISON = FOLDER / "additional_experiments.py", FOLDER / "compare_experiments.py"
OLDER = """
import runpy, sys
script = sys.argv[1]
sys.path.insert(0, script.rpartition("/")[0])
sys.version_info = (3, 10, 4, "final", 0)
runpy.run_path(script, run_name="__main__")
"""


def error_of(error):
    """What the program ends with when an error is raised."""
    with pytest.raises(SystemExit) as exit_, one_line_errors("script.py"):
        raise error
    return exit_.value.code


def run(*command, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.process
@pytest.mark.parametrize("script", ["additional_experiments", "compare_experiments", "classify"])
def test_without_the_environment_there_is_one_sentence(script, tmp_path):
    code = f"import sys, runpy; sys.path.insert(0, {str(FOLDER)!r}); sys.argv[:] = ['x', '--help']"
    code += f"; runpy.run_path({str(FOLDER / script) + '.py'!r}, run_name='__main__')"
    result = run("-I", "-S", "-c", code, cwd=tmp_path)
    assert result.returncode == 1
    expected = r"error: not installed for .*safetensors.*\. \.venv/bin/activate.*\n"
    assert re.fullmatch(expected, result.stderr)


def test_pip_refuses_an_older_python_before_it_downloads_anything():
    needed = f">={'.'.join(map(str, experiments.NEEDED))}"
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    first = Requirement((FOLDER / "requirements.txt").read_text().splitlines()[0])
    assert project["requires-python"] == str(first.specifier) == needed
    assert first.marker.evaluate({"python_version": "3.10"})
    assert not first.marker.evaluate({"python_version": "3.11"})


# -------------------------------------------------------------------------------------- errors


def test_an_error_is_one_message_with_a_hint_where_one_is_known():
    full = OSError(errno.ENOSPC, "No space left on device", "x")
    assert error_of(full) == (
        "script.py: error: No space left on device: 'x': free some space and run it again"
    )
    assert error_of(ValueError("no such row")) == "script.py: error: no such row"


def test_what_cannot_be_done_ends_with_status_2(capsys):
    assert error_of(UsageError("too little memory")) == 2
    assert capsys.readouterr().err == "script.py: error: too little memory\n"


def test_debug_shows_the_traceback_and_other_errors_are_never_hidden():
    with pytest.raises(ValueError, match="x"), one_line_errors("script.py", debug=True):
        raise ValueError("x")
    with pytest.raises(ZeroDivisionError), one_line_errors("script.py"):
        raise ZeroDivisionError


def test_control_characters_are_printed_as_escapes():
    assert printable("\x1b[31m\a\x9b1m\r\x7f\0") == r"\x1b[31m\x07\x9b1m\x0d\x7f\x00"
    assert printable("é 空\n\t£\xa0") == "é 空\n\t£\xa0"
    assert error_of(ValueError("\x1b]0;title\a")) == r"script.py: error: \x1b]0;title\x07"


def test_a_notebooks_button_ends_with_the_message_and_status(capsys):
    assert error_of(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == terminal.RESUMABLE


def test_streams_of_an_embedding_program_are_not_changed(monkeypatch):
    monkeypatch.setattr(terminal.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    setup_terminal()
    assert isinstance(sys.stdout, io.StringIO)


# ------------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize("name", [SCRIPT.name, COMPARISON.name, "experiments/__init__.py"])
def test_an_older_python_can_read_what_names_the_version_it_needs(name):
    ast.parse((FOLDER / name).read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.process
@pytest.mark.parametrize("script", [SCRIPT, COMPARISON])
def test_an_older_python_ends_with_one_sentence(script, tmp_path):
    result = run("-c", OLDER, script.as_posix(), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"error: Python 3\.11 or newer is needed, and this is 3\.10: .*\n", result.stderr
    )


@pytest.mark.process
def test_the_demo_runs_without_a_network_and_leaves_nothing_behind(tmp_path):
    result = run(SCRIPT, "--demo", cwd=tmp_path, HTTPS_PROXY="http://127.0.0.1:9")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(re.findall(r"^Ep \d \(Step \d{6}\)", result.stdout, flags=re.MULTILINE)) == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.process
@pytest.mark.parametrize("backend", ["module://no_such_package.backend_inline", "unknown"])
def test_figures_are_drawn_to_files_with_any_backend_in_the_environment(backend, tmp_path):
    write_record(tmp_path / "results", make_record(1))
    result = run(COMPARISON, "--plot", "figures", cwd=tmp_path, MPLBACKEND=backend)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5


@pytest.mark.process
def test_importing_the_script_does_nothing(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import additional_experiments"
    result = run("-c", code, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.process
def test_without_a_network_a_run_says_what_to_save_where(tmp_path):
    result = run(SCRIPT, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert result.returncode == 1
    assert "SMSSpamCollection" in result.stderr
    assert "Traceback" not in result.stderr


NOT_GOLDEN = (6, 9, 12)  # whose trajectories test_golden.py does not have; 7 and 8 are as 6


@pytest.mark.usefixtures("real_tokenizer_files")
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=pytest.mark.slow if row in NOT_GOLDEN else pytest.mark.by_hand)
        for row in ROWS
    ],
)
def test_each_row_runs_on_the_real_messages_with_the_tiny_model(row, real_data_dir, tmp_path):
    flags = ["--row", row, "--model_size", "gpt2-tiny (7M)", "--weights", "random"]
    flags += ["--max_steps", 2, "--data_dir", real_data_dir]
    result = run(SCRIPT, *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^Test accuracy: \d+\.\d\d%$", result.stdout, flags=re.MULTILINE)
