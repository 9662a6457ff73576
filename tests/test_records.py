import json
from dataclasses import MISSING, fields, replace
from hashlib import sha256
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
    read_finished,
    read_run,
    read_runs,
    record_path,
    rename_design,
    run_of,
    write_record,
)
from experiments.training.metrics import brier_scores, log_losses, measure

DOCS = Path(__file__).parents[1] / "docs"
NAN, INFINITY, HUGE = float("nan"), float("inf"), 10**400


def test_a_run_is_what_was_written(tmp_path):
    record = make_record()
    path = write_record(tmp_path, record)
    assert path == record_path(tmp_path, record) == tmp_path / "row_01_seed_123_1-123-000000.json"
    of_test = sha256(json.dumps(record["test"], sort_keys=True).encode()).hexdigest()
    written = record | {"test_sha256": of_test}
    assert json.loads(path.read_bytes()) == written
    assert read_run(path) == run_of(written)
    assert read_runs(tmp_path) == ([run_of(written)], [])


def test_a_recorded_design_gets_another_name_and_keeps_its_result(tmp_path):
    path = write_record(tmp_path, make_record())
    before, time = read_run(path), path.stat().st_mtime_ns
    rename_design(path, before.label)
    assert path.stat().st_mtime_ns == time
    rename_design(path, "best")
    assert read_run(path) == replace(before, label="best")


def test_a_run_has_arrays_of_its_test_examples():
    run, test = make_run(wrong=[1, 4]), make_record(wrong=[1, 4])["test"]
    assert {name: getattr(run, name).tolist() for name in TEST} == test
    assert np.flatnonzero(~run.is_correct).tolist() == [1, 4]
    of_test = run.probabilities, run.labels
    assert run.log_losses.tolist() == log_losses(*of_test).tolist()
    assert run.brier_scores.tolist() == brier_scores(*of_test).tolist()
    assert run.metrics == measure(*of_test)
    assert run.metrics is run.metrics


def test_the_training_time_includes_what_the_cached_activations_cost():
    assert make_run(seconds={"prefix": 30.0, "train": 2.0, "load": 9.0}).train_seconds == 32
    assert make_run(seconds={"train": 2.0}).train_seconds == 2


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path, make_record(extra=NAN))
    assert not list(tmp_path.iterdir())
    path = write_record(tmp_path, make_record())
    before = path.read_bytes()

    def fail(_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_record(tmp_path, make_record(wrong=[1]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


SPLIT, HALF = {"of": "a", "seed": 1}, [[0.5, 0.5]]
INVALID = {  # field, or list of the test part, and what is wrong with some values of it
    ("version", "version 1, expected 2"): [1],
    ("version", "version is float"): [2.0],
    ("status", "status is 'done'"): ["done"],
    ("weights", "weights is NoneType"): [None],
    ("prefix_reused", "prefix_reused is int"): [1],
    ("seed", "seed is bool"): [True],
    ("seed", "invalid seed"): [HUGE],
    ("row", "row 20 is not in the table"): [20],
    ("row", "row 4 has the name 'row 01'"): [4],
    ("row", "row None has the name 'row 01'"): [None],
    ("name", "row 1 has the name 'baseline majority'"): ["baseline majority"],
    ("date", "date is 'yesterday'"): ["yesterday"],
    ("classes", "no classes"): [["ham"], ["ham", 1]],
    ("classes", "two classes have the same name"): [["ham", "ham"]],
    ("environment", "the environment lacks the device"): [{}, {"device": 1, "device_type": "cpu"}],
    ("environment", "the environment lacks the device_type"): [{"device": "cpu"}],
    ("split", "invalid split"): [
        {"of": "a"}, {"seed": 1}, {"of": "a", "seed": 1.5},
        *(SPLIT | wrong for wrong in (
            {"custom": []}, {"flags": [1]}, {"flags": "--data"}, {"custom": {"data": 5}},
            {"custom": {"train_size": [2]}}, {"sizes": {"train": "9"}}, {"test": [1]},
        )),
    ],
    ("settings", "settings lack the batch_size"): [{}, {"batch_size": 0}],
    ("settings", "setting batch_size is"): [{"batch_size": "8"}],
    ("settings", "setting learning_rate is"): [
        {"batch_size": 8, "learning_rate": value} for value in (NAN, "5e-5", [1], {})
    ],
    ("settings", "setting trainable_layers is"): [{"trainable_layers": "bogus"}],
    ("settings", "setting keep_best is"): [{"keep_best": 1}],
    ("settings", "setting unknown is"): [{"unknown": [1]}],
    ("seconds", "invalid seconds"): [
        {}, {"train": 1, "prefix": "long"}, {"train": -1}, {"train": HUGE}, {"train": NAN}
    ],
    ("peak_memory_mib", "invalid peak_memory_mib"): [-1],
    ("parameters", "invalid parameters"): [HUGE],
    ("trainable_parameters", "invalid trainable_parameters"): [-1],
    ("best", "invalid best: [1]"): [[1]],
    ("losses", "invalid losses: "): [
        [1], [[1, 2]], [[1, -2, 3]], [[1, 2, True]], [[0, NAN, 1.0]], [[0, INFINITY, 1.0]]
    ],
    ("accuracies", "invalid accuracies: "): [[[1, 1.5, 0.5]], [[1, 0.5]]],
    ("correct", "invalid counts of correct validation examples"): [{"train": [1, 1]}],
    ("correct", "invalid counts of correct test examples"): [
        {"train": [1, 1], "validation": [1, 1]}
    ],
    ("correct", "invalid counts of correct train examples"): [
        {"train": counts} for counts in ([2, 1], [0, 0], [0, 1, 2], [9.5, 10])
    ],
    ("labels", "no test examples"): [[], 1],
    ("labels", "invalid labels"): [[0] * 11 + [value] for value in ("1", 2, -1, True, 1.0)],
    ("predictions", "invalid predictions"): [[0] * 11, [0] * 11 + [2]],
    ("predictions", "predictions contradict the probabilities"): [[1, 0] * 6, [0] * 12],
    ("probabilities", "predictions contradict the probabilities"): [[[0.50001, 0.49999]] * 12],
    ("probabilities", "invalid probabilities"): [
        [[0.5, 0.25, 0.25]] * 12, [0.5] * 12,
        *(HALF * 11 + [row] for row in ([1.5, -0.5], [0.5, NAN], [0.4, 0.5], [0.5, 0.501])),
        HALF * 11 + [[1.00005, 0]],
    ],
    ("in_training", "invalid in_training"): [[0] * 12, []],
    ("same_text", "invalid same_text"): [[0] * 11, [0.5] * 12, [12] * 12],
    ("p_spam", "test has labels, predictions, probabilities"): [[0.5] * 12],
}  # fmt: skip


@pytest.mark.parametrize(("field", "problem"), INVALID)
def test_an_invalid_record_is_left_out_by_name(field, problem, tmp_path):
    good = write_record(tmp_path, make_record())
    for value in INVALID[field, problem]:
        is_of_test = field in (*TEST, "same_text", "p_spam")
        bad = make_record(test={field: value}) if is_of_test else make_record() | {field: value}
        (tmp_path / "bad.json").write_text(json.dumps(bad))
        runs, (found,) = read_runs(tmp_path)
        assert runs == [read_run(good)]
        assert found.startswith(f"{tmp_path / 'bad.json'} is not a record: {problem}")
        with pytest.raises(ValueError, match="not a record|" + problem[:5]):
            write_record(tmp_path, bad)


@pytest.mark.parametrize(
    "change",
    [{"best": [2, 0.25]}, {"peak_memory_mib": None}, {"peak_memory_mib": 1}, {"accuracies": []},
     {"losses": [], "settings": {}}, {"settings": {"batch_size": 1}},
     {"split": {"of": "a", "seed": 0}}, {"split": {"of": "a", "seed": 0, "custom": {"data": "x"}}}],
)  # fmt: skip
def test_what_differs_between_versions_and_machines_is_valid(change, tmp_path):
    assert vars(read_run(write_record(tmp_path, make_record(**change)))).items() >= change.items()


def test_a_prediction_may_have_as_much_probability_as_another_class_and_sums_are_rounded():
    make_run(test={"probabilities": HALF * 12, "same_text": [0] * 11 + [11]})
    make_run(test={"probabilities": [[0.1, 0.89995], [0.9, 0.10005]] * 6}, wrong=range(12))
    make_run(total=1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"correct": {"train": [9, 10], "validation": [4, 5], "test": [11, 12]}},
         r"\[11, 12\] correct test examples, expected \[10, 12\]"),
        ({"accuracy": 0.9}, "accuracy 0.9, expected 0.833333"),
        ({"log_loss": NAN}, "log_loss nan, expected 0.4"),
        ({"log_loss": 0.5}, "log_loss 0.5, expected 0.4"),
        ({"brier_score": 0.2}, "brier_score 0.2, expected 0.1"),
        ({"confusion": [[5, 1], [0, 6]]}, "the confusion matrix"),
        ({"test_sha256": "0" * 64}, "the test part was changed"),
    ],
)  # fmt: skip
def test_a_record_whose_parts_contradict_each_other_is_invalid(change, problem):
    record = make_record(wrong=[1, 4])
    metrics = run_of(record).metrics._asdict() | {"bins": None}
    record |= {"metrics": metrics, "test_sha256": checksum_of(record["test"])}
    run_of(record)
    is_metric = change.keys() <= metrics.keys()
    with pytest.raises(ValueError, match=f"^{problem}"):
        run_of(record | ({"metrics": metrics | change} if is_metric else change))


def test_each_field_and_list_is_required_with_its_type():
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
    for missing in TEST:
        test = {name: values for name, values in whole["test"].items() if name != missing}
        with pytest.raises(ValueError, match=r"^test has \w+, \w+, \w+, expected labels, predict"):
            run_of(whole | {"test": test})


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
    assert not read_finished(tmp_path / "none.json")
    path = write_record(tmp_path, make_record())
    assert read_finished(path) == read_run(path)
    required = [f.name for f in fields(Run) if f.default is f.default_factory is MISSING]
    failed = {name: make_record()[name] for name in required} | {"status": FAILED, "error": "x"}
    assert write_record(tmp_path, failed) == path
    assert not read_finished(path)
    assert read_run(path).status == FAILED
    path.write_text("{")
    assert not read_finished(path)


def test_the_documentation_has_valid_records_and_names_every_field():
    runs, problems = read_runs(DOCS / "records")
    assert (len(runs), problems) == (5, [])
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    names = [f.name for f in fields(Run)] + [*TEST, "same_text", "error"]
    assert not [name for name in names if f"`{name}`" not in text]


def test_no_text_of_a_record_and_no_file_name_can_control_the_terminal(tmp_path, capsys):
    bad = "\x1b]52;c;cHduZWQ=\x07\u202e"
    settings = {"num_epochs": 5, "batch_size": 8, bad: bad}
    found = make_record(classes=[f"ham{bad}", "spam"], model=bad, label=bad, settings=settings)
    (tmp_path / f"1{bad}.json").write_text(json.dumps(found))
    (tmp_path / f"2{bad}.json").write_text("{}")
    (tmp_path / "3.json").write_text(json.dumps(found | {"seed": 5, "digest": "5"}))
    compare_experiments.main(["--results", str(tmp_path), "--metrics", "--wide"])
    shown = "".join(capsys.readouterr())
    assert "\\x1b]52;c;cHduZWQ=\\x07\\x202e" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
