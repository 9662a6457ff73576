"""Bars where they can move, and one line where they cannot."""

from types import SimpleNamespace

import pytest
from tqdm import tqdm
from tqdm.notebook import tqdm_notebook

from experiments import progress as module
from experiments.progress import progress


def work(pieces=4):
    with progress("Reading", total=4_000, unit="B") as bar:
        for _ in range(pieces):
            bar.update(1_000)


def test_without_a_terminal_one_line_is_printed_once_it_is_done(capsys):
    work()
    out, err = capsys.readouterr()
    assert (out, err) == ("Reading: 4.00kB in 0.0 seconds\n", "")


def test_what_is_counted_in_words_is_not_shortened(capsys):
    with progress("Reading", total=1_494, unit="messages"):
        pass
    assert capsys.readouterr().out == "Reading: 1,494 messages in 0.0 seconds\n"


def test_what_has_no_known_size_has_a_line_too(capsys):
    with progress("Reading", total=None, unit="B"):
        pass
    assert capsys.readouterr().out == "Reading: 0.0 seconds\n"


def test_on_a_terminal_a_bar_moves(capsys, monkeypatch):
    monkeypatch.setattr(module, "can_move", lambda: True)
    work()
    out, err = capsys.readouterr()
    assert out == ""
    assert "Reading: 100%" in err
    assert err.endswith("\n")


@pytest.mark.parametrize(
    ("kind", "is_terminal", "moves"),
    [(tqdm, False, False), (tqdm, True, True), (tqdm_notebook, False, True)],
    ids=["a pipe", "a terminal", "a notebook"],
)
def test_a_bar_moves_on_a_terminal_and_in_a_notebook(kind, is_terminal, moves, monkeypatch):
    monkeypatch.setattr(module, "tqdm", kind)
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: is_terminal))
    assert module.can_move() == moves


def fail():
    with progress("Reading", total=4, unit="B") as bar:
        bar.update(1)
        raise ValueError("no")


@pytest.mark.parametrize("moves", [True, False])
def test_the_bar_is_closed_before_an_error_is_told(moves, capsys, monkeypatch):
    monkeypatch.setattr(module, "can_move", lambda: moves)
    with pytest.raises(ValueError, match="no"):
        fail()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n") if moves else err == ""
