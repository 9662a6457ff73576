import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from records import make_old_record, make_record

from experiments.config.published import CHECKPOINT_SHA256
from experiments.config.rows import ROWS, SIZES, published_count
from experiments.runs import sources
from experiments.runs.records import (
    FAILED,
    FIELDS,
    OPTIONAL,
    RESULTS,
    SINCE_2,
    find_problem,
    is_finished,
    read_record,
    read_records,
    record_path,
    write_record,
)
from experiments.runs.sources import FOLDER, git_commit, source_digest, source_files

DOCUMENT = Path(__file__).parents[1] / "docs" / "record.md"


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    record = make_record()
    path = write_record(tmp_path, record)
    assert read_record(path) == record
    assert read_records(tmp_path) == ([record], [])
    assert path == record_path(tmp_path, record)


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
    ("change", "words"),
    [
        ({"version": 3}, "version 3, expected 1 or 2"),
        ({"weights": 1}, "weights is int"),
        ({"split": 1}, "split is int"),
        ({"prefix_reused": None}, "prefix_reused is NoneType"),
        ({"seed": "123"}, "seed is str"),
        ({"row": 20}, "row 20 is none of the table"),
        ({"seconds": {}}, "seconds lack train"),
        ({"seconds": {"train": "long"}}, "seconds hold something else than numbers"),
        ({"seconds": {"train": 1, "prefix": "long"}}, "seconds hold something else than numbers"),
        ({"environment": {}}, "the environment lacks the device"),
        ({"environment": {"device": "cpu"}}, "the environment lacks the device_type"),
        ({"losses": None}, "losses is NoneType"),
        ({"test": {"labels": []}}, "test has labels"),
        (
            {
                "test": {
                    "labels": [1],
                    "predictions": [1],
                    "probabilities": [],
                    "in_training": [True],
                }
            },
            "different lengths",
        ),
        (
            {
                "test": {
                    "labels": ["1"],
                    "predictions": [1],
                    "probabilities": [[0, 1]],
                    "in_training": [True],
                }
            },
            "test has other labels than expected",
        ),
        (
            {"test": {"labels": [], "predictions": [], "probabilities": [], "in_training": []}},
            "test has no message",
        ),
    ],
)
def test_what_is_no_record_is_named_and_left_out(change, words, tmp_path):
    good = write_record(tmp_path, make_record())
    (tmp_path / "bad.json").write_text(json.dumps(make_record() | change))
    (tmp_path / "half.json").write_bytes(good.read_bytes()[:100])
    (tmp_path / "list.json").write_text("[]")
    records, problems = read_records(tmp_path)
    assert records == [make_record()]
    assert len(problems) == 3
    assert "bad.json" in problems[0]
    assert words in problems[0]
    with pytest.raises(ValueError, match="not a record"):
        write_record(tmp_path, make_record() | change)


@pytest.mark.parametrize("make", [make_record, make_old_record])
def test_a_record_may_tell_which_test_messages_have_one_text(make, tmp_path):
    record = make()
    path = tmp_path / "record.json"
    for same_text, is_whole in ((list(range(12)), True), ([0] * 11, False), (["0"] * 12, False)):
        record["test"]["same_text"] = same_text
        path.write_text(json.dumps(record))
        records, problems = read_records(tmp_path)
        assert (len(records), len(problems)) == (is_whole, not is_whole)
        assert not is_whole or records[0]["test"]["same_text"] == same_text


def test_every_field_is_expected_with_its_type():
    whole = make_record()
    for name in whole.keys() - {"version"}:
        without = {other: value for other, value in whole.items() if other != name}
        assert find_problem(without) == f"{name} is missing"
        assert find_problem(whole | {name: object()}) == f"{name} is object"
    without = {"environment": {"device_type": "cpu"}}
    assert find_problem(whole | without) == "the environment lacks the device"


@pytest.mark.parametrize("best", [None, [2, 0.25]])
def test_the_best_epoch_may_be_there_or_not(best, tmp_path):
    paths = [
        write_record(tmp_path, make_record(row, **more))
        for row, more in ((1, {}), (2, {"best": best}))
    ]
    assert [read_record(path).get("best") for path in paths] == [None, best]
    assert find_problem(make_record(best="2")) == "best is str"


@pytest.mark.parametrize("peak", [None, 100, 100.5])
def test_the_peak_of_memory_is_a_number_or_not_known(peak):
    assert find_problem(make_record(peak_memory_mib=peak)) is None


def test_what_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path, make_record(losses=[[0, float("nan"), 1.0]]))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_named_and_left_out(tmp_path):
    (tmp_path / "folder.json").mkdir()
    write_record(tmp_path, make_record())
    records, (problem,) = read_records(tmp_path)
    assert records == [make_record()]
    assert "folder.json" in problem


def test_only_a_finished_run_counts_as_one(tmp_path):
    assert not is_finished(tmp_path / "none.json")
    assert is_finished(write_record(tmp_path, make_record()))
    failed = {name: make_record()[name] for name in (*FIELDS, *SINCE_2)}
    failed |= {"status": FAILED, "error": "loss"}
    path = write_record(tmp_path, failed)
    assert not is_finished(path)
    path.write_text("{")
    assert not is_finished(path)


def write_old_record(folder, **more):
    (path := folder / "old.json").write_text(json.dumps(make_old_record(**more)))
    return path


@pytest.mark.parametrize(
    ("old", "weights"),
    [
        ({}, CHECKPOINT_SHA256["124M"]),
        ({"row": 6, "model": "gpt2-medium (355M), pretrained weights"}, CHECKPOINT_SHA256["355M"]),
        ({"row": 10, "model": "gpt2-small (124M), random weights"}, "random"),
        ({"model": (name := "checkpoint a, random weights"), "stands_in": True}, name),
        (
            {"model": "checkpoint tiny.safetensors", "stands_in": True},
            "checkpoint tiny.safetensors",
        ),
        ({"model": "someone's own, pretrained weights"}, "someone's own, pretrained weights"),
        ({"model": (name := "checkpoint a (124M), pretrained weights"), "stands_in": True}, name),
        ({"row": None, "name": "baseline majority", "model": "majority"}, None),
    ],
)
def test_a_record_of_version_1_has_the_weights_that_its_model_tells(old, weights, tmp_path):
    assert read_record(write_old_record(tmp_path, **old))["weights"] == weights


@pytest.mark.parametrize(
    ("device", "name", "device_type"),
    [
        ("cpu, Intel(R) Xeon(R) Processor", "row 01", "cpu"),
        ("mps, arm", "row 01", "mps"),
        ("NVIDIA A100, 40 GB", "row 01", "cuda"),
        ("NVIDIA A100, 40 GB", "baseline majority", "cpu"),
    ],
)
def test_a_record_of_version_1_has_the_device_that_its_name_tells(
    device, name, device_type, tmp_path
):
    path = write_old_record(tmp_path, name=name, environment={"device": device})
    assert read_record(path)["environment"] == {"device": device, "device_type": device_type}


def test_a_record_of_version_1_is_read_as_one_of_version_2(tmp_path):
    old = write_old_record(tmp_path, settings={"precision": "bfloat16"})
    record = read_record(old)
    assert is_finished(old)
    probabilities = record["test"].pop("probabilities")
    expected = make_record()
    assert np.allclose(probabilities, expected["test"].pop("probabilities"))
    assert record == expected | {
        "settings": {"precision": "bfloat16"},
        "precision": "bfloat16",
        "prefix_reused": None,
    }
    with pytest.raises(ValueError, match="version 1, expected 2"):
        write_record(tmp_path, make_old_record())


def test_a_record_of_version_1_names_its_device_too(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(make_old_record() | {"environment": {}}))
    with pytest.raises(ValueError, match=r"the environment lacks the device$"):
        read_record(tmp_path / "old.json")


def test_the_records_that_are_kept_here_are_all_read():
    records, problems = read_records(DOCUMENT.parent / "records")
    assert (len(records), problems) == (5, [])


def test_the_document_names_every_field():
    text = DOCUMENT.read_text(encoding="utf-8")
    more = {"stands_in", "error", "labels", "predictions", "probabilities", "in_training",
            "same_text"}  # fmt: skip
    assert not {
        name for name in {*FIELDS, *SINCE_2, *RESULTS, *OPTIONAL, *more} if f"`{name}`" not in text
    }


def test_published_percentages_are_counts_but_for_row_8s_validation():
    odd = [
        (number, split)
        for number, row in ROWS.items()
        for split, percent in zip(SIZES, row[1:4], strict=True)
        if published_count(percent, SIZES[split]) is None
    ]
    assert odd == [(8, "validation")]
    assert published_count(95.00, 300) == 285


def test_the_digest_of_the_sources_covers_every_module_that_a_run_imports():
    code = "import sys, additional_experiments; print(*(getattr(m, '__file__', None) for m in "
    code += "sys.modules.values()), sep='\\n')"
    run = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True,
                         check=True)  # fmt: skip
    imported = {Path(line) for line in run.stdout.splitlines() if line.startswith(str(FOLDER))}
    ours = {path for path in imported if not path.is_relative_to(FOLDER / ".venv")}
    assert ours <= set(source_files())
    assert len(source_digest().split()) == len(source_files())
    assert not [path for path in source_files() if "comparison" in path.parts]


def test_the_commit_is_that_of_the_repository(monkeypatch, tmp_path):
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if head.returncode == 0:
        assert git_commit().removesuffix("-dirty") == head.stdout.strip()
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None


def git(folder, *words):
    command = ["git", "-c", "user.name=n", "-c", "user.email=e", *words]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_the_commit_is_no_tag_and_says_whether_files_were_edited(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    (tmp_path / "file").write_text("one")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "-am", "words", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "other").write_text("which git does not know")
    assert git_commit() == head
    (tmp_path / "file").write_text("two")
    assert git_commit() == f"{head}-dirty"


@pytest.mark.parametrize("hangs", [False, True])
def test_without_git_or_where_it_hangs_there_is_no_commit(hangs, monkeypatch):
    def fail(*_, timeout, **__):
        raise subprocess.TimeoutExpired("git", timeout) if hangs else FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", fail)
    assert git_commit() is None
