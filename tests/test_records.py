import json
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
from records import make_record, make_run

import compare_experiments
from experiments.runs.records import (
    FAILED,
    OPTIONAL,
    TEST,
    Run,
    checksum_of,
    is_finished,
    read_run,
    read_runs,
    record_path,
    run_of,
    write_record,
)
from experiments.training.metrics import brier_scores, log_losses, measure

DOCS = Path(__file__).parents[1] / "docs"
NAN, INFINITY = float("nan"), float("inf")


def test_a_run_is_what_was_written(tmp_path):
    record = make_record()
    path = write_record(tmp_path, record)
    assert path == record_path(tmp_path, record) == tmp_path / "row_01_seed_123_1-123-000000.json"
    written = record | {"test_sha256": checksum_of(record["test"])}
    assert json.loads(path.read_bytes()) == written
    assert read_run(path) == run_of(written)
    assert read_runs(tmp_path) == ([run_of(written)], [])


def test_a_run_has_arrays_of_its_test_examples():
    run = make_run(wrong=[1, 4], test={"in_training": [i > 9 for i in range(12)]})
    record = make_record(wrong=[1, 4])
    assert run.labels.tolist() == record["test"]["labels"]
    assert run.predictions.tolist() == record["test"]["predictions"]
    assert run.probabilities.tolist() == record["test"]["probabilities"]
    assert run.in_training.sum() == 2
    assert np.flatnonzero(~run.is_correct).tolist() == [1, 4]
    assert run.log_losses.tolist() == log_losses(run.probabilities, run.labels).tolist()
    assert run.brier_scores.tolist() == brier_scores(run.probabilities, run.labels).tolist()
    assert run.metrics == measure(run.probabilities, run.labels)
    assert run.metrics is run.metrics


def test_the_training_time_includes_what_the_cached_activations_cost():
    assert make_run(seconds={"prefix": 30.0, "train": 2.0, "load": 9.0}).train_seconds == 32
    assert make_run(seconds={"train": 2.0}).train_seconds == 2


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_record(tmp_path, make_record())
    before = path.read_bytes()

    def fail(_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_record(tmp_path, make_record(wrong=[1]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 1}, "version 1, expected 2"),
        ({"version": 2.0}, "version is float"),
        ({"status": "done"}, "status is 'done'"),
        ({"weights": None}, "weights is NoneType"),
        ({"prefix_reused": 1}, "prefix_reused is int"),
        ({"seed": True}, "seed is bool"),
        ({"row": 20}, "row 20 is not in the table"),
        ({"row": 4}, "row 4 has the name 'row 01'"),
        ({"row": None}, "row None has the name 'row 01'"),
        ({"name": "baseline majority"}, "row 1 has the name 'baseline majority'"),
        ({"classes": ["ham"]}, "no classes"),
        ({"classes": ["ham", 1]}, "no classes"),
        ({"environment": {}}, "the environment lacks the device"),
        ({"environment": {"device": "cpu"}}, "the environment lacks the device_type"),
        ({"environment": {"device": 1, "device_type": "cpu"}}, "the environment lacks the device"),
        ({"split": {"of": "a"}}, "invalid split"),
        ({"split": {"of": "a", "seed": 1.5}}, "invalid split"),
        ({"split": {"seed": 1}}, "invalid split"),
        ({"split": {"of": "a", "seed": 1, "flags": [1]}}, "invalid split"),
        ({"split": {"of": "a", "seed": 1, "flags": "--data"}}, "invalid split"),
        ({"split": {"of": "a", "seed": 1, "custom": []}}, "invalid split"),
        ({"split": {"of": "a", "seed": 1, "custom": {"data": 5}}}, "invalid split"),
        ({"split": {"of": "a", "seed": 1, "custom": {"train_size": [2]}}}, "invalid split"),
        ({"split": {"of": "a", "seed": 1, "sizes": {"train": "9"}}}, "invalid split"),
        ({"split": {"of": "a", "seed": 1, "test": [1]}}, "invalid split"),
        ({"seconds": {}}, "invalid seconds"),
        ({"seconds": {"train": 1, "prefix": "long"}}, "invalid seconds"),
        ({"seconds": {"train": -1}}, "invalid seconds"),
        ({"seconds": {"train": 10**400}}, "invalid seconds"),
        ({"peak_memory_mib": -1}, "invalid peak_memory_mib"),
        ({"losses": [1]}, "invalid losses: 1"),
        ({"losses": [[1, 2]]}, "invalid losses: [1, 2]"),
        ({"losses": [[1, -2, 3]]}, "invalid losses: [1, -2, 3]"),
        ({"losses": [[1, 2, True]]}, "invalid losses: [1, 2, True]"),
        ({"accuracies": [[1, 1.5, 0.5]]}, "invalid accuracies: [1, 1.5, 0.5]"),
        ({"accuracies": [[1, 0.5]]}, "invalid accuracies: [1, 0.5]"),
        ({"correct": {"train": [1, 1]}}, "invalid counts of correct validation examples"),
        ({"correct": {"train": [1, 1], "validation": [1, 1]}}, "invalid counts of correct test ex"),
        ({"correct": {"train": [2, 1]}}, "invalid counts of correct train examples"),
        ({"correct": {"train": [0, 0]}}, "invalid counts of correct train examples"),
        ({"correct": {"train": [0, 1, 2]}}, "invalid counts of correct train examples"),
        ({"settings": {}}, "settings lack the batch_size"),
        ({"settings": {"batch_size": 0}}, "settings lack the batch_size"),
        ({"settings": {"batch_size": "8"}}, "setting batch_size is"),
        ({"correct": {"train": [9.5, 10]}}, "invalid counts of correct train examples"),
        ({"seed": 10**400}, "invalid seed"),
        ({"date": "yesterday"}, "date is 'yesterday'"),
        ({"classes": ["ham", "ham"]}, "two classes have the same name"),
        ({"best": [1]}, "invalid best: [1]"),
        ({"parameters": 10**400}, "invalid parameters"),
        ({"trainable_parameters": -1}, "invalid trainable_parameters"),
        ({"seconds": {"train": NAN}}, "invalid seconds"),
        ({"losses": [[0, NAN, 1.0]]}, "invalid losses: [0, nan, 1.0]"),
        ({"losses": [[0, INFINITY, 1.0]]}, "invalid losses: [0, inf, 1.0]"),
    ],
)
def test_an_invalid_record_is_left_out_by_name(change, problem, tmp_path):
    good = write_record(tmp_path, make_record())
    (tmp_path / "bad.json").write_text(json.dumps(make_record() | change))
    runs, problems = read_runs(tmp_path)
    assert runs == [read_run(good)]
    assert problems[0].startswith(f"{tmp_path / 'bad.json'} is not a record: {problem}")
    assert len(problems) == 1
    with pytest.raises(ValueError, match="not a record|" + problem[:5]):
        write_record(tmp_path, make_record() | change)


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ({"labels": []}, "no test examples"),
        ({"labels": 1}, "no test examples"),
        ({"labels": [0] * 11 + ["1"]}, "invalid labels"),
        ({"labels": [0] * 11 + [2]}, "invalid labels"),
        ({"labels": [0] * 11 + [-1]}, "invalid labels"),
        ({"labels": [0] * 11 + [True]}, "invalid labels"),
        ({"labels": [0] * 11 + [1.0]}, "invalid labels"),
        ({"predictions": [0] * 11}, "invalid predictions"),
        ({"predictions": [0] * 11 + [2]}, "invalid predictions"),
        ({"predictions": [1, 0] * 6}, "predictions contradict the probabilities"),
        ({"predictions": [0] * 12}, "predictions contradict the probabilities"),
        ({"probabilities": [[0.5, 0.5]] * 11 + [[1.5, -0.5]]}, "invalid probabilities"),
        ({"probabilities": [[0.5, 0.5]] * 11 + [[0.5, NAN]]}, "invalid probabilities"),
        ({"probabilities": [[0.5, 0.5]] * 11 + [[0.4, 0.5]]}, "invalid probabilities"),
        ({"probabilities": [[0.5, 0.5]] * 11 + [[0.5, 0.501]]}, "invalid probabilities"),
        ({"probabilities": [[0.5, 0.5]] * 11 + [[1.00005, 0]]}, "invalid probabilities"),
        ({"probabilities": [[0.5, 0.25, 0.25]] * 12}, "invalid probabilities"),
        ({"probabilities": [0.5] * 12}, "invalid probabilities"),
        ({"in_training": [0] * 12}, "invalid in_training"),
        ({"in_training": []}, "invalid in_training"),
        ({"same_text": [0] * 11}, "invalid same_text"),
        ({"same_text": [0.5] * 12}, "invalid same_text"),
        ({"same_text": [12] * 12}, "invalid same_text"),
        ({"p_spam": [0.5] * 12}, "test has labels, predictions, probabilities"),
    ],
)
def test_invalid_test_examples_are_named(lists, problem):
    with pytest.raises(ValueError, match=f"^{problem}"):
        make_run(test=lists)


def test_a_prediction_may_have_as_much_probability_as_another_class_and_sums_are_rounded():
    make_run(test={"probabilities": [[0.5, 0.5]] * 12, "same_text": [0] * 11 + [11]})
    make_run(test={"probabilities": [[0.1, 0.89995], [0.9, 0.10005]] * 6}, wrong=range(12))
    with pytest.raises(ValueError, match="contradict"):
        make_run(test={"probabilities": [[0.50001, 0.49999]] * 12})
    make_run(total=1)


def edited(change):
    """A record with its checksum and metrics, of which `change` replaces fields."""
    record = make_record(wrong=[1, 4])
    measured = measure(*(np.array(record["test"][name]) for name in ("probabilities", "labels")))
    metrics = measured._asdict() | {"bins": None} | change.pop("metrics", {})
    record = record | {"metrics": metrics, "test_sha256": checksum_of(record["test"])}
    return record | change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"correct": {"train": [9, 10], "validation": [4, 5], "test": [11, 12]}},
         r"\[11, 12\] correct test examples, expected \[10, 12\]"),
        ({"metrics": {"accuracy": 0.9}}, "accuracy 0.9, expected 0.833333"),
        ({"metrics": {"log_loss": NAN}}, "log_loss nan, expected 0.4"),
        ({"metrics": {"log_loss": 0.5}}, "log_loss 0.5, expected 0.4"),
        ({"metrics": {"brier_score": 0.2}}, "brier_score 0.2, expected 0.1"),
        ({"metrics": {"confusion": [[5, 1], [0, 6]]}}, "the confusion matrix"),
        ({"test_sha256": "0" * 64}, "the test part was changed"),
    ],
)  # fmt: skip
def test_a_record_whose_parts_contradict_each_other_is_invalid(change, problem):
    run_of(edited({}))
    with pytest.raises(ValueError, match=f"^{problem}"):
        run_of(edited(dict(change)))


def test_an_edited_probability_is_noticed():
    record = edited({})
    record["test"]["probabilities"][3] = [0.2, 0.8]
    with pytest.raises(ValueError, match="the test part was changed"):
        run_of(record)


@pytest.mark.parametrize("missing", TEST)
def test_each_list_of_test_examples_is_required(missing):
    record = make_record()
    del record["test"][missing]
    with pytest.raises(ValueError, match=r"^test has \w+, \w+, \w+, expected labels, predictions"):
        run_of(record)


def test_each_field_is_required_with_its_type():
    whole = make_record()
    for field in fields(Run):
        with pytest.raises(ValueError, match=f"{field.name} is object|version <object"):
            run_of(whole | {field.name: object()})
        without = {other: value for other, value in whole.items() if other != field.name}
        if field.name in OPTIONAL:
            assert getattr(run_of(without), field.name) is None
        elif field.name not in ("version", "status"):  # without status, results are not expected
            with pytest.raises(ValueError, match=f"^{field.name} is missing$"):
                run_of(without)


@pytest.mark.parametrize(
    "change",
    [{"best": [2, 0.25]}, {"peak_memory_mib": None}, {"peak_memory_mib": 1}, {"accuracies": []},
     {"losses": [], "settings": {}}, {"settings": {"batch_size": 1}},
     {"split": {"of": "a", "seed": 0}}, {"split": {"of": "a", "seed": 0, "custom": {"data": "x"}}}],
)  # fmt: skip
def test_what_differs_between_versions_and_machines_is_valid(change, tmp_path):
    assert vars(read_run(write_record(tmp_path, make_record(**change)))).items() >= change.items()


def test_numbers_that_json_lacks_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path, make_record(extra=NAN))
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_records_are_left_out_by_name(tmp_path):
    good = write_record(tmp_path, make_record())
    (tmp_path / "a_folder.json").mkdir()
    (tmp_path / "b_half.json").write_bytes(good.read_bytes()[:100])
    (tmp_path / "c_list.json").write_text("[]")
    (tmp_path / "d_nested.json").write_text("[" * 200_000)
    runs, problems = read_runs(tmp_path)
    assert runs == [read_run(good)]
    names = ["a_folder", "b_half", "c_list", "d_nested"]
    assert all(f"{n}.json" in problem for n, problem in zip(names, problems, strict=True))
    assert "list instead of an object" in problems[2]


def test_only_a_finished_run_counts_as_finished(tmp_path):
    assert not is_finished(tmp_path / "none.json")
    path = write_record(tmp_path, make_record())
    assert is_finished(path)
    required = [f.name for f in fields(Run) if f.default is f.default_factory is MISSING]
    failed = {name: make_record()[name] for name in required} | {"status": FAILED, "error": "x"}
    assert write_record(tmp_path, failed) == path
    assert not is_finished(path)
    assert read_run(path).status == FAILED
    path.write_text("{")
    assert not is_finished(path)


def test_the_records_of_the_documentation_are_valid():
    runs, problems = read_runs(DOCS / "records")
    assert (len(runs), problems) == (5, [])


def test_the_documentation_names_every_field():
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    names = [f.name for f in fields(Run)] + [*TEST, "same_text", "error"]
    assert not [name for name in names if f"`{name}`" not in text]


@pytest.mark.process
def test_records_are_read_before_numpy_is_imported():
    code = "import sys; from experiments.runs import records; print('numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_no_text_of_a_record_and_no_file_name_can_control_the_terminal(tmp_path, capsys):
    bad = "\x1b]52;c;cHduZWQ=\x07\u202e"
    settings = {"num_epochs": 5, "batch_size": 8, bad: bad}
    found = make_record(
        classes=[f"ham{bad}", "spam"], model=bad, label=bad, settings=settings,
    )  # fmt: skip
    (tmp_path / f"1{bad}.json").write_text(json.dumps(found))
    (tmp_path / f"2{bad}.json").write_text("{}")
    (tmp_path / "3.json").write_text(json.dumps(found | {"seed": 5, "digest": "5"}))
    compare_experiments.main(["--results", str(tmp_path), "--metrics", "--wide"])
    shown = "".join(capsys.readouterr())
    assert "\\x1b]52;c;cHduZWQ=\\x07\\x202e" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": NAN},
        {"learning_rate": "5e-5"},
        {"trainable_layers": "bogus"},
        {"keep_best": 1},
        {"learning_rate": [1]},
        {"learning_rate": {}},
        {"unknown": [1]},
    ],
)
def test_settings_that_no_flag_can_have_are_invalid(change):
    record = make_record()
    with pytest.raises(ValueError, match=f"^setting {next(iter(change))} is "):
        run_of(record | {"settings": record["settings"] | change})
