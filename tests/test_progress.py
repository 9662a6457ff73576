"""Bars in a terminal or notebook, and one line elsewhere."""

import builtins
import re
from types import SimpleNamespace

import pytest

from experiments.system import terminal as module
from experiments.system.terminal import counted, progress


@pytest.fixture
def interactive(monkeypatch):
    monkeypatch.setattr(module, "_is_interactive", lambda: True)


@pytest.mark.parametrize(
    ("total", "unit", "line"),
    [(4_000, "B", "Reading: 4.00kB\n"), (1_494, "examples", "Reading: 1,494 examples\n"),
     (None, "B", "Reading\n")],
)  # fmt: skip
def test_without_a_terminal_one_line_comes_before_the_work(total, unit, line, capsys):
    with progress("Reading", total, unit) as bar:
        assert capsys.readouterr().out == line
        list(counted(range(4), bar))
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("interactive")
def test_a_bar_shows_the_work_its_amount_and_the_remaining_time(capsys):
    with progress("Reading", 1_200, "examples") as bar:
        bar.mininterval = 0
        list(counted(range(600), bar))
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"\rReading:  50%\|.* 600/1200 \[\d\d:\d\d<\d\d:\d\d, .*\n$", err)


@pytest.mark.usefixtures("interactive")
def test_earlier_work_counts(capsys):
    with progress("Downloading", 4_000, "B", done=1_000):
        pass
    assert " 25%|" in capsys.readouterr().err


@pytest.mark.usefixtures("interactive")
def test_a_bar_is_closed_before_the_message_of_an_error(capsys):
    with pytest.raises(ZeroDivisionError), progress("Training", 10, "batches"):
        raise ZeroDivisionError
    assert re.search(r"\rTraining: +0%\|[^\n]*\n$", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("is_notebook", "is_terminal"), [(False, False), (False, True), (True, False)]
)
def test_a_bar_is_drawn_in_a_terminal_and_in_a_notebook(is_notebook, is_terminal, monkeypatch):
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: is_terminal))
    if is_notebook:
        monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    assert module._is_interactive() == (is_notebook or is_terminal)
