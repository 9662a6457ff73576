"""The script that classifies texts, on the model of the demo.

Its predictions are compared with those of the run that saved the classifier.
"""

import io
import json
import re
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
from classify import main
from experiments.config import parsing
from experiments.data.corpus import load_corpus
from experiments.data.sms_spam import demo_tokenizer
from experiments.model import saved
from experiments.system.terminal import INTERRUPTED

SCRIPT = Path(classify.__file__)
NO_POSIX = sys.platform == "win32"
MATMUL = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def shell_as_it_is(monkeypatch):
    """Leaves the signals and streams of this process alone."""
    monkeypatch.setattr(classify, "setup_terminal", lambda _: None)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The classifier of a run of the demo, the texts of its test, and their probabilities."""
    path = tmp_path_factory.mktemp("demo") / "demo.safetensors"
    settings = parsing.parse_args(["--demo", "--max_steps", "30", "--save_model", str(path)])
    probabilities = run_experiment(settings).probabilities
    splits = load_corpus(settings.data, settings.custom).splits
    return SimpleNamespace(path=path, texts=[*splits["test"]["Text"]], probabilities=probabilities)


@pytest.fixture
def ask(demo, capsys):
    """Runs the script in this process on the classifier of the demo; returns its output."""

    def run(*arguments):
        main([str(demo.path), *map(str, arguments)])
        return capsys.readouterr()

    return run


def rows_of(printed):
    return [line.split("\t") for line in printed.splitlines()]


# ------------------------------------------------------------------------------------- predictions


def test_the_predictions_are_those_of_the_run_and_are_compared_with_labels(demo, ask, tmp_path):
    expected = ["ham" if ham > spam else "spam" for ham, spam in demo.probabilities]
    wrong = [{"ham": "spam", "spam": "ham"}[label] for label in expected[:3]]
    frame = pd.DataFrame({"Text": demo.texts, "class": [*wrong, *expected[3:-1], "other"]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    file, total = ["--file", tmp_path / "a.csv", "--label_column", "class"], len(expected)
    out, errors = ask(*file, "--json")
    answers, scores = [json.loads(line) for line in out.splitlines()], json.loads(errors)
    assert [answer["text"] for answer in answers] == demo.texts
    found = torch.tensor([list(answer["probabilities"].values()) for answer in answers])
    torch.testing.assert_close(found, demo.probabilities, rtol=0, atol=1e-6)
    assert [answer["label"] for answer in answers] == expected
    assert scores["interval"][0] < scores["accuracy"] < scores["interval"][1]
    assert sum(map(sum, scores["confusion"])) == total - 1
    errors = ask(*file).err
    assert f"Accuracy: {(total - 4) / total:.2%} (" in errors
    assert f"{total - 4} of {total}; macro F1: 0." in errors
    assert "Labels that are no class: 'other' (1)" in errors


@pytest.mark.process
@pytest.mark.skipif(NO_POSIX, reason="has no signals for other processes")
def test_a_line_of_standard_input_is_answered_at_once_and_a_signal_ends_the_script(demo):
    process = subprocess.Popen(
        [sys.executable, SCRIPT, demo.path, "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    process.stdin.write("You have been chosen\tto receive\n")
    process.stdin.flush()
    assert process.stdout.readline() == "label\tP(ham)\tP(spam)\ttext\n"
    assert process.stdout.readline().endswith('\t"You have been chosen\tto receive"\n')
    process.send_signal(signal.SIGTERM)  # SIGINT is ignored in a shell's background jobs
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (143, INTERRUPTED)


def test_texts_of_the_command_line_are_classified_in_order(demo, ask):
    before, MATMUL.fp32_precision = MATMUL.fp32_precision, "ieee"
    flags = ("--batch_size", 1, "--threshold", 0.7)
    header, *rows = rows_of(ask(*demo.texts[:9], *flags).out)
    after, MATMUL.fp32_precision = MATMUL.fp32_precision, before
    assert after == "ieee"  # is restored
    assert header == ["label", "P(ham)", "P(spam)", "text"]
    assert [row[3] for row in rows] == demo.texts[:9]
    assert [float(row[1]) for row in rows] == pytest.approx(demo.probabilities[:9, 0], abs=1e-6)
    assert [row[0] for row in rows] == [("ham", "spam")[float(row[2]) >= 0.7] for row in rows]


def test_a_terminal_gets_a_table(ask, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    header, line = ask("one\ntwo " * 20).out.splitlines()
    assert header == "label  P(ham)  P(spam)  text"
    assert line.endswith("one two one two one two one two one…")


def test_texts_that_are_cut_or_blank_and_downloads_are_noted_on_stderr(ask, monkeypatch):
    load = saved.load_classifier
    monkeypatch.setattr(saved, "load_classifier", lambda *a: print("Downloaded") or load(*a))
    assert ask("short", "x" * 1000, "y" * 999, "", " \t").err.splitlines() == [
        "Downloaded",
        "Texts cut to 80 tokens, the length in training: 2",
        "Texts that are empty or blank: 2",
    ]


def test_standard_input_and_pipes_are_read_like_files(ask, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"id,text\n1,one\n")))
    captured = ask("--file", "-")
    assert rows_of(captured.out)[1][3] == "one"
    assert re.match("standard input: .*texts 'text'", captured.err)
    (tmp_path / "lines.txt").write_text("one\n-\n")
    with (tmp_path / "lines.txt").open() as file:
        for name in (file.name, *([] if NO_POSIX else [f"/dev/fd/{file.fileno()}"])):
            assert [row[3] for row in rows_of(ask("--file", name).out)[1:]] == ["one", "-"]
    (tmp_path / "western.csv").write_bytes(b"id,text\n1,caf\xe9\n")
    captured = ask("--file", tmp_path / "western.csv")
    assert "western.csv: not in UTF-8, read as Windows-1252" in captured.err
    assert rows_of(ask("--", "-50%").out)[1][3] == "-50%"  # not a flag


# --------------------------------------------------------------------------------- files of texts


def test_other_columns_are_printed_next_to_the_answers(ask, tmp_path):
    rows = ["id,customer,text,label", "17,ann,You won,spam", "18,bob,See you,ham"]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    file = ["--file", tmp_path / "a.csv"]
    out = ask(*file, "--keep_columns", "id,customer").out
    assert [row[3:] for row in rows_of(out)] == [
        ["id", "customer", "text"], ["17", "ann", "You won"], ["18", "bob", "See you"]
    ]  # fmt: skip
    assert rows_of(ask(*file, "--keep_columns", "all").out)[0][3:] == [
        "id", "customer", "label (file)", "text"
    ]  # fmt: skip
    for keep in ("id,label", "all"):
        flags = ("--keep_columns", keep, "--label_column", "label", "--json")
        answer = json.loads(ask(*file, *flags).out.splitlines()[0])
        assert (answer["id"], answer["label (file)"], answer["text"]) == ("17", "spam", "You won")


def test_the_text_columns_of_training_are_remembered(tmp_path, capsys, monkeypatch):
    rows = [f"{word},{word} {i},{i % 2}" for i, word in enumerate(["sun", "rain"] * 20)]
    (tmp_path / "a.csv").write_text("\n".join(["title,story,tag", *rows]))
    path = tmp_path / "a.safetensors"
    flags = ["--data", tmp_path / "a.csv", "--text_column", "title", "story", "--save_model", path]
    flags += ["--model_size", "gpt2-tiny (7M)", "--weights", "random", "--max_steps", "1"]
    monkeypatch.setattr("experiments.data.datasets.load_gpt2_tokenizer", demo_tokenizer)
    monkeypatch.setattr("gpt_download.load_gpt2_tokenizer", demo_tokenizer)
    run_experiment(parsing.parse_args([*map(str, flags)]))
    capsys.readouterr()
    main([str(path), "--file", str(tmp_path / "a.csv"), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[0])["text"] == "sun\nsun 0"


def test_a_reader_that_has_seen_enough_is_no_error(ask, monkeypatch, tmp_path):
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

        def fileno(self):
            return file.fileno()

    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Closed())
        assert ask("one", "two").err == ""


# ------------------------------------------------------------------------------------------ errors


def refusal_of(capsys, *arguments):
    """The status and the one sentence with which the script ends."""
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
        ([__file__], "expected a TEXT, --file FILE, or - for standard input"),
        ([__file__, "a", "--file", __file__], "not both"),
        ([__file__, "--file", "nowhere.txt"], "--file must be a file, got 'nowhere.txt'"),
        ([__file__, "--file", str(SCRIPT.parent)], "--file must be a file"),
        ([__file__, "a", "--text_column", "b"], "--text_column requires --file FILE"),
        ([__file__, "a", "--label_column", "b"], "--label_column requires --file FILE"),
        ([__file__, "a", "--no_header"], "--no_header requires --file FILE"),
        ([__file__, __file__], f"of a file: to classify its texts, use --file {__file__}"),
        ([__file__, "a", "--weights", "nowhere"], "--weights must be the path of a checkpoint"),
        ([__file__, "a", "--batch_size", "0"], "must be a whole number from 1"),
        ([__file__, "a", "--batchsize", "2"], "did you mean --batch_size?"),
        ([__file__, "-50%"], "put -- before a TEXT that begins with -"),
        ([__file__, "a\udcff"], "TEXT must be in the locale's encoding"),
        ([__file__, "a", "--device", "cuda"], "--device cuda is not available here"),
    ],
)
def test_a_wrong_flag_ends_with_status_2(arguments, words, capsys):
    status, message = refusal_of(capsys, *arguments)
    assert status == 2
    assert words in message


def test_errors_of_files_have_their_status_and_a_hint(demo, capsys, tmp_path, miniature):
    (tmp_path / "a.jsonl").write_text("{")
    (tmp_path / "a.csv").write_text("id,text\n17,You won\n")
    no_column = "no column 'name' for --keep_columns; it has the columns 'id', 'text'"
    for arguments, expected, words in (
        ([__file__, "a"], 1, f"{__file__} is not a saved classifier"),
        ([miniature, "a"], 1, "have no finetuned_classifier"),
        ([demo.path, "a", "--weights", miniature], 1, "leave out --weights"),
        ([demo.path, "--file", tmp_path / "a.jsonl"], 1, "a.jsonl, line 1, is not a JSON object"),
        ([demo.path, "--file", tmp_path / "a.csv", "--keep_columns", "id,name"], 2, no_column),
    ):
        status, message = refusal_of(capsys, *arguments)
        assert (status, words in message) == (expected, True), message


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(ValueError, match="not a saved classifier"):
        main([__file__, "a", "--debug"])
