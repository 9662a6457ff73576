"""The user's own messages, from a file to a table: runs of the script."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from three_classes import write_three_classes

import classify
import compare_experiments
from additional_experiments import main, run_experiment
from experiments.config.flags import parse_args
from experiments.config.settings import TINY
from experiments.data.custom import load_own
from experiments.data.demo import demo_tokenizer
from experiments.data.sms_spam import prepare_splits
from experiments.runs import loop as runs
from experiments.runs import preparation
from experiments.runs.records import read_records

README = Path(__file__).parents[1] / "README.md"
SMALL = {"n_vocab": 50257, "n_ctx": 128, "n_embd": 64, "n_head": 1, "n_layer": 3}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("small") / "small.safetensors", SMALL)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Files of three classes by their extension."""
    return write_three_classes(tmp_path_factory.mktemp("questions"))


@pytest.fixture
def run(small, tmp_path, capsys, monkeypatch):
    """Runs the script on the small checkpoint; returns its records, and what it printed."""
    monkeypatch.setattr(preparation, "load_gpt2_tokenizer", demo_tokenizer)
    monkeypatch.setattr(runs, "gather_files", lambda *_: None)
    monkeypatch.chdir(tmp_path)

    def run_(*flags):
        main(["--weights", str(small), "--num_epochs", "1", *map(str, flags)])
        return read_records(tmp_path / "results")[0], capsys.readouterr().out

    return run_


@pytest.fixture
def refused(run, capsys):
    """Runs the script on flags that cannot work; returns its one sentence."""

    def refused_(*flags):
        with pytest.raises(SystemExit) as exit_:
            run(*flags)
        errors = capsys.readouterr().err
        assert (exit_.value.code, errors.count("\n")) == (2, 1)
        return errors

    return refused_


def test_a_run_on_three_classes_says_and_records_them(run, questions):
    (record,), printed = run("--data", questions["csv"], "--num_epochs", "5", "--row", "16")
    assert "Classes: 0 order, 1 other, 2 return" in printed
    assert "texts are 'question', labels 'category'" in printed
    assert (record["name"], record["classes"]) == ("row 16", ["order", "other", "return"])
    assert all(len(p) == 3 for p in record["test"]["probabilities"])
    assert set(record["test"]["labels"]) == {0, 1, 2}
    assert "as published" not in printed


def test_a_record_tells_the_split_and_of_what_it_is(run, questions):
    for seed in (1, 2):
        records, _ = run("--data", questions["csv"], "--split_seed", seed, "--baseline", "majority")
    assert sorted(record["split"]["seed"] for record in records) == [1, 2]
    assert len({record["split"]["of"] for record in records}) == 1
    assert len({record["data"] for record in records}) == 2


def test_every_format_makes_the_same_run(run, questions):
    pytest.importorskip("pyarrow")
    for extension, path in questions.items():
        records, printed = run("--data", path)
        assert ("Recorded already" in printed) == (extension != next(iter(questions)))
        assert len(records) == 1


@pytest.mark.parametrize(
    "flags", [["--split_seed", "1"], ["--split", "80/10/10"], ["--balance"], ["--train_size", "60"]]
)
def test_another_split_is_another_run(run, questions, flags):
    run("--data", questions["csv"])
    first, second = run("--data", questions["csv"], *flags)[0]
    assert first["data"] != second["data"]
    assert first["settings"] == second["settings"]


def test_a_baseline_tells_three_classes(run, questions):
    (record,), _ = run("--data", questions["csv"], "--baseline", "bag_of_words")
    right, total = record["correct"]["test"]
    assert right > 0.9 * total


def test_what_cannot_work_ends_with_status_2_before_anything_is_loaded(
    refused, questions, tmp_path
):
    (tmp_path / "one.csv").write_text("text,label\na,x\nb,x\nc,x\nd,x\n")
    (tmp_path / "new.csv").write_text("question,category\na,order\nb,unknown\n")
    assert "class" in refused("--data", tmp_path / "one.csv")
    assert "unknown" in refused(
        "--data", questions["csv"], "--validation_data", tmp_path / "new.csv",
    )  # fmt: skip
    assert "--batch_size 999 exceeds the 210" in refused(
        "--data", questions["csv"], "--batch_size", "999"
    )


def test_texts_beyond_the_context_are_counted(run, questions):
    _, printed = run("--data", questions["csv"], "--context_length", "20")
    assert "cut and padded to 20 tokens, which cuts " in printed


def test_own_data_stands_in_groups_of_its_own(run, questions, capsys):
    run("--data", questions["csv"], "--row", "16", "--num_epochs", "5")
    run("--data", questions["csv"], "--baseline", "majority")
    compare_experiments.main(["--metrics"])
    printed = capsys.readouterr().out
    assert "| return | " in printed
    assert "Of 60 test messages one is 1.67 points" in printed
    assert "row 16" in printed
    assert "98.33" not in printed  # what was published for row 16


def test_a_pair_shows_the_texts_of_own_messages(run, questions, capsys):
    run("--data", questions["csv"], "--row", "2", "--num_epochs", "5")
    (_, record), _ = run("--data", questions["csv"], "--row", "16", "--num_epochs", "5")
    assert record["split"]["flags"] == ["--data", str(questions["csv"])]
    compare_experiments.main(["2", "16"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "P(" in line]
    test = load_own(parse_args(["--data", str(questions["csv"])]).own).splits["test"]
    texts = {" ".join(text.split()) for text in test["Text"]}
    assert lines
    assert all(re.split(r" and \d\.\d{3}  (?:in training  )?", line)[1] in texts for line in lines)


def commands_of(page):
    """The commands of a page's blocks of own messages, each a list of words."""
    text = (README.parent / page).read_text(encoding="utf-8")
    text = text.partition("## Your own messages")[2] or text
    blocks = re.findall(r"```bash\n(.*?)```", text.partition("\n## From the book")[0], re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    "page", ["README.md", pytest.param("docs/own_data.md", marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("run")
def test_the_commands_for_own_messages_go_from_file_to_classified_lines(
    page, questions, small, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(classify, "load_gpt2_tokenizer", demo_tokenizer)
    for extension in ("csv", "jsonl"):
        shutil.copy(questions[extension], tmp_path)
    for script, *words in commands_of(page):
        if script == "additional_experiments.py":
            main(["--weights", str(small), *words])
        elif script == "compare_experiments.py":
            compare_experiments.main(words)
        else:
            classify.main([word for word in words if word not in (">", "answers.tsv")])
    printed = capsys.readouterr().out
    assert "| row 16, " in printed
    assert "label\tP(order)\tP(other)\tP(return)\ttext\n" in printed
    assert "I would like to order two lamps\n" in printed
    assert (tmp_path / "figures" / "calibration.png").is_file()


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_published_splits_as_own_data_have_the_published_trajectory(real_data_dir):
    paths = prepare_splits(real_data_dir)
    names = {"train": "--data", "validation": "--validation_data", "test": "--test_data"}
    own = [word for name, path in paths.items() for word in (names[name], str(path))]
    flags = ["--model_size", TINY, "--weights", "random", "--max_steps", "12"]
    published = run_experiment(parse_args([*flags, "--data_dir", str(real_data_dir)]))
    found = run_experiment(parse_args([*flags, *own]))
    assert found.history.losses == published.history.losses
    assert found.history.accuracies == published.history.accuracies
    assert found.correct == published.correct
