"""Bars where they can move, and one line where they cannot."""

import builtins
import re
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

import additional_experiments
from experiments.config.flags import parse_args
from experiments.shortcuts import prefix as hidden_states
from experiments.system import progress as module
from experiments.system.progress import counted, progress
from experiments.training.loop import train_classifier_simple


@pytest.fixture
def can_move(monkeypatch):
    monkeypatch.setattr(module, "can_move", lambda: True)


def demo():
    return parse_args(["--demo", "--max_steps", "1", "--context_length", "8"])


@pytest.mark.parametrize(
    ("total", "unit", "line"),
    [(4_000, "B", "Reading: 4.00kB\n"), (1_494, "messages", "Reading: 1,494 messages\n"),
     (None, "B", "Reading\n")],
)  # fmt: skip
def test_without_a_terminal_one_line_says_what_is_done_before_it_is(total, unit, line, capsys):
    with progress("Reading", total, unit) as bar:
        assert capsys.readouterr().out == line
        list(counted(range(4), bar))
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("can_move")
def test_a_bar_shows_what_how_many_and_the_time_that_remains(capsys):
    with progress("Reading", 1_200, "messages") as bar:
        bar.mininterval = 0
        list(counted(range(600), bar))
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"\rReading:  50%\|.* 600/1200 \[\d\d:\d\d<\d\d:\d\d, .*\n$", err)


@pytest.mark.usefixtures("can_move")
def test_what_was_done_before_counts(capsys):
    with progress("Downloading", 4_000, "B", done=1_000):
        pass
    assert " 25%|" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("is_notebook", "is_terminal", "moves"),
    [(False, False, False), (False, True, True), (True, False, True)],
    ids=["a pipe", "a terminal", "a notebook"],
)
def test_a_bar_moves_on_a_terminal_and_in_a_notebook(is_notebook, is_terminal, moves, monkeypatch):
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: is_terminal))
    if is_notebook:
        monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    assert module.can_move() == moves


def test_a_run_without_a_terminal_says_what_takes_long_before_it_does(capsys):
    additional_experiments.run_experiment(demo())
    out, errors = capsys.readouterr()
    said = re.findall(r"^(Hidden states|Training|Final accuracies): [\d,]+ \w+$", out, re.MULTILINE)
    assert said == ["Hidden states", "Training", "Final accuracies"]
    assert errors == ""


def break_hidden_states(monkeypatch):
    monkeypatch.setattr(hidden_states, "run_block", lambda *_: 1 / 0)


def break_training(monkeypatch):
    monkeypatch.setattr("experiments.training.loop.check_finite", lambda *_: 1 / 0)


def break_final_accuracies(monkeypatch):
    monkeypatch.setattr("experiments.training.finetuning.count_correct", lambda *_: 1 / 0)


@pytest.mark.usefixtures("can_move")
@pytest.mark.parametrize(
    ("breaks", "title"),
    [
        (break_hidden_states, "Hidden states"),
        (break_training, "Training"),
        (break_final_accuracies, "Final accuracies"),
    ],
)
def test_a_bar_is_closed_before_an_error_is_told(breaks, title, monkeypatch, capsys):
    breaks(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        additional_experiments.run_experiment(demo())
    assert re.search(rf"\r{title}: +0%\|[^\n]*\n$", capsys.readouterr().err)


@pytest.mark.usefixtures("can_move")
def test_the_training_bar_is_closed_when_the_loss_is_no_number(capsys):
    model = torch.nn.Linear(1, 2)
    model.forward = lambda inputs, lengths: torch.nn.functional.linear(inputs, model.weight) / 0
    loader = DataLoader([(torch.ones(1), torch.tensor(1), torch.tensor(0))])
    with pytest.raises(ValueError, match="the loss became"):
        train_classifier_simple(
            model, loader, loader, torch.optim.SGD(model.parameters()), torch.device("cpu"), 1
        )
    assert re.search(r"\rTraining: +0%\|[^\n]*\n$", capsys.readouterr().err)
