"""The script that asks a saved classifier: the demo's model, in this process and in one of its own.

Its answers are held against those of the run that kept the classifier.
"""

import gc
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import classify
from additional_experiments import run_experiment
from classify import main, print_answers
from experiments.config.flags import parse_args
from experiments.config.rows import ROWS
from experiments.data.demo import demo_tokenizer
from experiments.model import flags
from experiments.model.answers import tab_separated
from experiments.model.bases import load_saved
from experiments.model.prediction import Classifier
from experiments.runs.preparation import load_corpus
from experiments.system.terminal import JUST_STOPPED

pytestmark = pytest.mark.usefixtures("one_thread")

SCRIPT = Path(__file__).parents[1] / "classify.py"
CPU = torch.device("cpu")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="has no /dev/fd")


def run_demo(path, *more):
    """Runs the demo and keeps its classifier; its test texts and what the run told of them."""
    settings = parse_args(["--demo", "--save_model", str(path), *more])
    corpus = load_corpus(settings.reading, settings.own)
    result = run_experiment(settings, corpus=corpus)
    return corpus.splits["test"]["Text"].tolist(), result.probabilities


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("demo") / "demo.safetensors"
    texts, probabilities = run_demo(path, "--max_steps", "30")
    return SimpleNamespace(path=path, texts=texts, probabilities=probabilities)


@pytest.fixture
def asked(demo, capsys):
    """Runs the script in this process on the demo's classifier; what it printed to each stream."""

    def ask(*arguments):
        main([str(demo.path), *map(str, arguments)])
        return capsys.readouterr()

    return ask


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def rows_of(printed):
    return [line.split("\t") for line in printed.splitlines()]


# ----------------------------------------------------------------------------------- what it tells


def test_the_answers_are_those_of_the_run(demo, tmp_path):
    path = tmp_path / "messages.csv"
    pd.DataFrame({"Text": demo.texts, "Label": "?"}).to_csv(path, index=False)
    out, errors = start(demo.path, "--file", path, "--json").communicate(timeout=120)
    answers = [json.loads(line) for line in out.splitlines()]
    assert not errors
    assert [answer["text"] for answer in answers] == demo.texts
    found = torch.tensor([list(answer["probabilities"].values()) for answer in answers])
    torch.testing.assert_close(found, demo.probabilities, rtol=0, atol=1e-6)
    expected = ["ham" if ham > spam else "spam" for ham, spam in demo.probabilities]
    assert [answer["label"] for answer in answers] == expected
    assert {*expected} == {"ham", "spam"}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("whole", [[], ["--save_whole"]], ids=["trained", "whole"])
def test_the_answers_of_every_row_are_those_of_its_run(row, whole, tmp_path):
    path = tmp_path / "row.safetensors"
    flags_of_row = ["--row", str(row), "--max_steps", "3", *whole]
    texts, probabilities = run_demo(path, *flags_of_row)
    classifier = Classifier(*load_saved(path), demo_tokenizer(), CPU, batch_size=32)
    found = classifier.classify(texts)
    torch.testing.assert_close(found, probabilities, rtol=0, atol=1e-6)


def test_a_line_that_is_typed_is_answered_at_once(demo):
    process = start(demo.path, "-")
    process.stdin.write("You have been chosen\tto receive\n")
    process.stdin.flush()
    assert process.stdout.readline() == "label\tP(ham)\tP(spam)\ttext\n"
    assert process.stdout.readline().endswith("\tYou have been chosen\\tto receive\n")
    out, errors = process.communicate("See you at work\n", timeout=120)
    assert (rows_of(out)[0][3], errors, process.returncode) == ("See you at work", "", 0)


def test_texts_of_the_command_line_are_told_in_order(demo, asked):
    header, *rows = rows_of(asked(*demo.texts[:3]).out)
    assert header == ["label", "P(ham)", "P(spam)", "text"]
    assert [row[3] for row in rows] == demo.texts[:3]
    assert [float(row[1]) for row in rows] == pytest.approx(demo.probabilities[:3, 0], abs=1e-6)


def test_a_terminal_gets_a_table(asked, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    header, line = asked("one\ntwo " * 20).out.splitlines()
    assert header == "label  P(ham)  P(spam)  text"
    assert line.endswith("one two one two one two one two one…")


def test_texts_that_are_cut_are_counted_on_stderr(asked):
    assert asked("short", "x" * 1000, "y" * 999).err == (
        "Texts cut to 80 tokens, the trained length: 2\n"
    )


def test_the_batch_size_changes_no_answer(demo, asked):
    answers = rows_of(asked(*demo.texts[:5], "--batch_size", 1).out)[1:]
    assert [float(row[1]) for row in answers] == pytest.approx(demo.probabilities[:5, 0], abs=1e-6)


@POSIX
def test_a_file_can_be_a_pipe(asked, tmp_path):
    (tmp_path / "lines").write_text("one\ntwo\n")
    with (tmp_path / "lines").open() as file:
        out = asked("--file", f"/dev/fd/{file.fileno()}").out
    assert [row[3] for row in rows_of(out)[1:]] == ["one", "two"]


def test_downloads_tell_of_themselves_on_stderr(demo, monkeypatch, capsys):
    real = classify.load_saved
    monkeypatch.setattr(classify, "load_saved", lambda *a: print("Fetched") or real(*a))
    main([str(demo.path), "--json", "a"])
    captured = capsys.readouterr()
    assert captured.err == "Fetched\n"
    assert json.loads(captured.out)["text"] == "a"


def test_whose_products_are_used_is_as_before(asked):
    matmul = torch.backends.mkldnn.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
    asked("a")
    after, matmul.fp32_precision = matmul.fp32_precision, before
    assert after == "ieee"


# ------------------------------------------------------------------------------------ what it holds


class Counted(str):
    """A text that is counted as long as it is there."""

    there = most = 0

    def __init__(self, _):
        Counted.there += 1
        Counted.most = max(Counted.most, Counted.there)

    def __del__(self):
        Counted.there -= 1


def test_a_million_texts_need_no_more_memory_than_a_thousand(capsys):
    def chunks():
        for i in range(50):
            assert len(capsys.readouterr().out.splitlines()) == (1 if i == 0 else 20)
            yield [Counted(f"text {j}") for j in range(20)]

    classifier = SimpleNamespace(classify=lambda texts: torch.rand(len(texts), 2), num_cut=0)
    print_answers(classifier, chunks(), tab_separated(["ham", "spam"]))
    gc.collect()
    assert Counted.most <= 40
    assert Counted.there == 0


# ------------------------------------------------------------------------------------------ errors


def refusal_of(capsys, *arguments):
    """The status and the one sentence by which the script ends."""
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    code = exit_.value.code
    message = capsys.readouterr().err if code == 2 else str(code)
    assert message.startswith("classify.py: error: ")
    assert message.rstrip("\n").count("\n") == 0
    return (2 if code == 2 else 1), message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "MODEL"),
        (["nowhere.safetensors", "a"], "MODEL must be a file, got 'nowhere.safetensors'"),
        (["x" * 300, "a"], "File name too long"),
        ([__file__], "name a TEXT, or --file FILE, or - for standard input"),
        ([__file__, "a", "--file", __file__], "not both"),
        ([__file__, "--file", "nowhere.txt"], "--file must be a file, got 'nowhere.txt'"),
        ([__file__, "--file", str(SCRIPT.parent)], "--file must be a file"),
        ([__file__, "a", "--text_column", "b"], "--text_column is of a file that ends in one of"),
        ([__file__, "a", "--weights", "nowhere"], "--weights must be the path of a checkpoint"),
        ([__file__, "a", "--batch_size", "0"], "must be a whole number from 1"),
        ([__file__, "a", "--batchsize", "2"], "did you mean --batch_size?"),
        ([__file__, "-50%"], "a TEXT that begins with - goes after --"),
        ([__file__, "a\udcff"], "TEXT must be in the locale's encoding"),
        ([__file__, "a", "--device", "cuda"], "--device cuda is not available here"),
    ],
)
def test_a_wrong_flag_ends_with_status_2(arguments, words, capsys):
    status, message = refusal_of(capsys, *arguments)
    assert status == 2
    assert words in message


def test_a_text_may_begin_with_a_dash_or_be_one(asked, tmp_path):
    assert rows_of(asked("--", "-50%").out)[1][3] == "-50%"
    (tmp_path / "dash.txt").write_text("-")
    assert rows_of(asked("--file", tmp_path / "dash.txt").out)[1][3] == "-"


def test_what_is_no_saved_classifier_ends_with_status_1(capsys, miniature):
    status, message = refusal_of(capsys, __file__, "a")
    assert (status, f"{__file__} is no saved classifier" in message) == (1, True)
    status, message = refusal_of(capsys, miniature, "a")
    assert (status, "have no finetuned_classifier" in message) == (1, True)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for another process")
def test_a_stop_is_answered_without_a_word_of_records(demo):
    process = start(demo.path, "-")
    process.stdin.write("one\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)  # SIGINT is ignored in a shell's background jobs
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (143, JUST_STOPPED)


def test_a_file_that_cannot_be_read_ends_with_status_1(demo, capsys, tmp_path):
    (tmp_path / "a.jsonl").write_text("{")
    status, message = refusal_of(capsys, demo.path, "--file", tmp_path / "a.jsonl")
    assert (status, "a.jsonl, line 1, is not a JSON object" in message) == (1, True)


def test_standard_input_is_named_in_two_ways(monkeypatch, demo, capsys):
    assert flags.parse_args([str(demo.path), "-"]).file == "-"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\n")))
    main([str(demo.path), "--file", "-"])
    assert rows_of(capsys.readouterr().out)[1][3] == "one"


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(ValueError, match="no saved classifier"):
        main([__file__, "a", "--debug"])
