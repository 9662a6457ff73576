"""How the scripts behave in a terminal, and as a process of their own; progress of work."""

import ast
import builtins
import errno
import io
import os
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from records import make_record

import experiments
from experiments.runs.records import write_record
from experiments.system import terminal
from experiments.system.terminal import (
    UsageError,
    counted,
    one_line_errors,
    printable,
    progress,
    setup_terminal,
)

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


def test_an_error_is_one_message_with_a_hint_where_one_is_known(capsys):
    full = OSError(errno.ENOSPC, "No space left on device", "x")
    assert error_of(full) == (
        "script.py: error: No space left on device: 'x': free some space and run it again"
    )
    assert error_of(ValueError("\x1b]0;title\a")) == r"script.py: error: \x1b]0;title\x07"
    assert error_of(UsageError("too little memory")) == 2
    assert capsys.readouterr().err == "script.py: error: too little memory\n"
    assert error_of(KeyboardInterrupt()) == 130  # a notebook's button
    assert capsys.readouterr().err == terminal.RESUMABLE


def test_debug_shows_the_traceback_and_other_errors_are_never_hidden():
    with pytest.raises(ValueError, match="x"), one_line_errors("script.py", debug=True):
        raise ValueError("x")
    with pytest.raises(ZeroDivisionError), one_line_errors("script.py"):
        raise ZeroDivisionError


def test_control_characters_are_printed_as_escapes():
    assert printable("\x1b[31m\a\x9f1m\r\x7f\0") == r"\x1b[31m\x07\x9f1m\x0d\x7f\x00"
    assert printable("é 空\n\t£\xa0") == "é 空\n\t£\xa0"


def test_streams_of_an_embedding_program_are_not_changed(monkeypatch):
    monkeypatch.setattr(terminal.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    setup_terminal()
    assert isinstance(sys.stdout, io.StringIO)


# ------------------------------------------------------------------------------------- scripts


@pytest.mark.process
@pytest.mark.parametrize("script", [SCRIPT, COMPARISON])
def test_an_older_python_can_read_the_script_and_ends_with_one_sentence(script, tmp_path):
    for path in (script, FOLDER / "experiments" / "__init__.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    result = run("-c", OLDER, script.as_posix(), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"error: Python 3\.11 or newer is needed, and this is 3\.10: .*\n", result.stderr
    )


@pytest.mark.process
@pytest.mark.parametrize("backend", ["module://no_such_package.backend_inline", "unknown"])
def test_figures_are_drawn_to_files_with_any_backend_in_the_environment(backend, tmp_path):
    write_record(tmp_path / "results", make_record(1))
    result = run(COMPARISON, "--plot", "figures", cwd=tmp_path, MPLBACKEND=backend)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5


@pytest.mark.slow
@pytest.mark.usefixtures("real_tokenizer_files")
@pytest.mark.parametrize("row", [6, 9, 12])  # without golden trajectories; 7 and 8 are as 6
def test_a_row_runs_on_the_real_messages_with_the_tiny_model(row, real_data_dir, tmp_path):
    flags = ["--row", row, "--model_size", "gpt2-tiny (7M)", "--weights", "random"]
    flags += ["--max_steps", 2, "--data_dir", real_data_dir]
    result = run(SCRIPT, *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^Test accuracy: \d+\.\d\d%$", result.stdout, flags=re.MULTILINE)


# ------------------------------------------------------------------------------------ progress


@pytest.fixture
def interactive(monkeypatch):
    monkeypatch.setattr(terminal, "_is_interactive", lambda: True)


@pytest.mark.parametrize(
    ("total", "unit", "line"),
    [(4_000, "B", "Reading: 4.00kB\n"), (1_494, "examples", "Reading: 1,494 examples\n"),
     (1, "examples", "Reading: 1 example\n"), (None, "B", "Reading\n")],
)  # fmt: skip
def test_without_a_terminal_one_line_comes_before_the_work(total, unit, line, capsys):
    with progress("Reading", total, unit) as bar:
        assert capsys.readouterr().out == line
        list(counted(range(4), bar))
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("interactive")
def test_a_bar_shows_the_work_its_amount_and_the_remaining_time_and_is_closed_by_errors(capsys):
    with suppress(ZeroDivisionError), progress("Reading", 1_200, "examples", done=200) as bar:
        bar.mininterval = 0
        list(counted(range(400), bar))
        raise ZeroDivisionError
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"\rReading:  17%\|.* 200/1200 ", err)
    assert re.search(r"\rReading:  50%\|.* 600/1200 \[\d\d:\d\d<\d\d:\d\d, [^\n]*\n$", err)


@pytest.mark.parametrize(
    ("is_notebook", "is_terminal"), [(False, False), (False, True), (True, False)]
)
def test_a_bar_is_drawn_in_a_terminal_and_in_a_notebook(is_notebook, is_terminal, monkeypatch):
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: is_terminal))
    if is_notebook:
        monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    assert terminal._is_interactive() == (is_notebook or is_terminal)
