"""Custom data, from a file to records and comparisons: runs of the script."""

import json
import re

import pytest
from runs import small  # noqa: F401 (a fixture)
from three_classes import write_three_classes

from additional_experiments import main, run_experiment
from experiments.config.arguments import TINY
from experiments.config.parsing import parse_args
from experiments.data import datasets
from experiments.data.sms_spam import demo_tokenizer, prepare_splits
from experiments.runs import results


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Files of three classes by their extension."""
    return write_three_classes(tmp_path_factory.mktemp("questions"))


@pytest.fixture
def run(small, tmp_path, capsys, monkeypatch):  # noqa: F811
    """Run the script on the small checkpoint; return its records, and what it printed."""
    monkeypatch.setattr(datasets, "load_gpt2_tokenizer", lambda *_, **__: demo_tokenizer())
    monkeypatch.chdir(tmp_path)

    def run_(*flags):
        main(["--weights", str(small), "--max_steps", "1", *map(str, flags)])
        paths = sorted((tmp_path / "results").glob("*.json"))
        return [json.loads(path.read_text()) for path in paths], capsys.readouterr().out

    return run_


def test_a_run_on_three_classes_prints_and_records_them(run, questions):
    (record,), printed = run("--data", questions["csv"], "--context_length", "20")
    assert "Classes: 0 = order (151), 1 = other (49), 2 = return (100)" in printed
    assert re.search(r"padded to 20 tokens, \d+ truncated; 99 % of the texts have up to ", printed)
    assert "texts 'question', labels 'category'" in printed
    assert record["classes"] == ["order", "other", "return"]
    assert all(len(p) == 3 for p in record["test"]["probabilities"])
    assert set(record["test"]["labels"]) == {0, 1, 2}
    assert "published and here" not in printed
    plan = printed.partition("Cached activations: ")[0]
    assert re.findall(r"^([A-Z]\w+): ", plan, flags=re.MULTILINE) == [
        "Data", "Classes", "Run", "Model", "Trained", "Examples", "Device",
    ]  # fmt: skip


def test_data_that_cannot_be_used_end_with_status_2(run, questions, tmp_path, capsys):
    (tmp_path / "one.csv").write_text("text,label\na,x\nb,x\nc,x\nd,x\n")
    (tmp_path / "new.csv").write_text("question,category\na,order\nb,unknown\n")
    three = ("--data", questions["csv"])
    for flags, message in (
        (["--data", tmp_path / "one.csv"], "class"),
        ([*three, "--validation_data", tmp_path / "new.csv"], "unknown"),
        ([*three, "--batch_size", "999"], "--batch_size 999 exceeds the 210"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(*flags)
        error, *found = capsys.readouterr().err.splitlines()
        assert message in error
        assert all(line.startswith("Data: ") for line in found)  # what was read


def test_the_padding_of_one_long_text_and_the_share_of_the_largest_class_are_noted(run, tmp_path):
    rows = [f"short text {i},{'ab'[i % 20 == 0]}" for i in range(99)] + [f"{'x' * 120},a"]
    (tmp_path / "mail.csv").write_text("\n".join(["text,label", *rows]))
    _, printed = run("--data", "mail.csv", "--baseline", "majority")
    assert "Test accuracy: 95.00% (the largest class has 95.00%)" in printed
    assert "All predictions are 'a'" in printed
    _, printed = run("--data", "mail.csv", "--dry_run")
    assert re.search(
        r"; 99 % of the texts have up to \d+ tokens, the longest 120; padding makes 8.\d "
        r"times as many tokens as the texts have; --context_length \d+ would be faster", printed,
    )  # fmt: skip


def test_a_gpu_that_is_not_used_is_named(run, questions, monkeypatch):
    monkeypatch.setattr(results, "device_is_available", lambda name: name == "mps")
    assert "--device mps uses the GPU" in run("--data", questions["csv"], "--dry_run")[1]
    monkeypatch.setattr(results, "lacks_bfloat16", lambda _: True)
    flags = ["--dry_run", "--precision", "bfloat16"]
    assert "no units for bfloat16" in run("--data", questions["csv"], *flags)[1]


def test_several_text_columns_and_a_file_without_a_header(run, tmp_path):
    rows = [f"{k},{w},{w} {i}" for i in range(20) for k, w in ((3, "Wall St"), (4, "Phone"))]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    flags = ["--no_header", "--text_column", "2", "3", "--label_column", "1"]
    flags += ["--train_size", "4"]  # smaller than a batch, of which a baseline has none
    (record,), printed = run("--data", "a.csv", *flags, "--baseline", "majority")
    assert record["split"]["custom"] == {
        "data": "a.csv", "text_column": ["2", "3"], "label_column": "1", "no_header": True,
        "train_size": 4,
    }  # fmt: skip
    assert "texts '2' and '3', labels '1'" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_published_splits_as_custom_data_have_the_published_trajectory(real_data_dir):
    paths = prepare_splits(real_data_dir)
    names = {"train": "--data", "validation": "--validation_data", "test": "--test_data"}
    custom = [word for name, path in paths.items() for word in (names[name], str(path))]
    flags = ["--model_size", TINY, "--weights", "random", "--max_steps", "3"]
    published = run_experiment(parse_args([*flags, "--data_dir", str(real_data_dir)]))
    found = run_experiment(parse_args([*flags, *custom]))
    assert found.history.losses == published.history.losses
    assert found.history.accuracies == published.history.accuracies
    assert found.correct == published.correct
