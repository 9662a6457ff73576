import json

import pytest
from records import make_run
from three_classes import write_three_classes

from experiments.comparison.texts import find_texts
from experiments.config.parsing import parse_args
from experiments.data.corpus import load_corpus

FLAGS = ["--split", "60/20/20", "--split_seed", "5", "--balance", "--train_size", "60"]


@pytest.fixture
def file(tmp_path):
    return write_three_classes(tmp_path)["csv"]


def run_on(file, *flags):
    """A run on custom data that these flags name, and the texts of its test examples."""
    settings = parse_args(["--data", str(file), *flags])
    corpus = load_corpus(settings.data, settings.custom)
    seed, custom = settings.custom.split_seed, json.loads(json.dumps(settings.custom_values))
    split = {"of": corpus.whole, "seed": seed, "custom": custom}
    texts = corpus.splits["test"]["Text"].tolist()
    return make_run(1, data=corpus.digest, split=split, total=len(texts)), texts


@pytest.mark.parametrize("flags", [[], FLAGS, ["--text_column", "question", "--split", "80/10/10"]])
def test_custom_texts_are_read_again_with_the_split_of_the_record(file, flags, tmp_path):
    run, texts = run_on(file, *flags)
    assert find_texts([run], tmp_path / "none.csv") == {run.data: texts}


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        ({"custom": {"data": "-"}}, "standard input, which cannot be read again"),
        ({"custom": {}}, "cannot be read again"),
        ({"custom": {"data": "nowhere.csv"}}, "nowhere.csv"),
        ({"custom": {"data": "{file}"}}, "contains other examples than at the time of training"),
        ({"custom": {"data": "{file}", "other": 1}}, "other"),
        ({"custom": {"data": "{file}", "split": 5}}, "not iterable"),
    ],
)
def test_texts_that_are_not_available_are_reported(split, problem, file, tmp_path, capsys):
    split = json.loads(json.dumps(split).replace("{file}", str(file)))
    run = make_run(1, data="a" * 64, split={"of": "b" * 64, "seed": 5} | split)
    assert find_texts([run], tmp_path / "none.csv") == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Texts are not available: ")
    assert problem in line


def test_records_that_name_no_custom_data_have_no_texts(tmp_path, capsys):
    earlier = make_run(1, data="a" * 64, split={"of": "b" * 64, "seed": 5})
    assert find_texts([earlier, make_run(1)], tmp_path / "none.csv") == {}
    assert capsys.readouterr().err == ""


def test_a_csv_file_is_used_for_runs_with_its_labels(tmp_path):
    run, file = make_run(1), tmp_path / "test.csv"
    rows = [f"{label},text {i}" for i, label in enumerate(run.test["labels"])]
    file.write_text("\n".join(["Label,Text", *rows]))
    assert find_texts([run], file)[run.data][7] == "text 7"
    file.write_text("\n".join(["Label,Text", *reversed(rows)]))
    assert find_texts([run], file) == {}
