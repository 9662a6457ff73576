"""Runs and their records: once for each setting, on again after an interruption, over seeds."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from checkpoints import write_checkpoint
from records import begin_record

from additional_experiments import main
from experiments.comparison.groups import group_records
from experiments.comparison.summaries import summarise
from experiments.comparison.tables import summary_table
from experiments.config.flags import design_of, parse_args
from experiments.config.settings import TINY
from experiments.data.demo import demo_splits, demo_tokenizer
from experiments.runs import experiment, preparation
from experiments.runs import fingerprint as identity
from experiments.runs import loop as runs
from experiments.runs.records import FAILED, FINISHED, read_records
from experiments.shortcuts import prefix as hidden_states
from experiments.training import finetuning

SCRIPT = Path(__file__).parents[1] / "additional_experiments.py"
QUICK = ("--max_steps", "1", "--overwrite")
SMALL = {"n_vocab": 50257, "n_ctx": 128, "n_embd": 64, "n_head": 1, "n_layer": 3}


@pytest.fixture
def made_up_data(monkeypatch):
    """Lets a run find made-up messages where the real ones would be."""
    monkeypatch.setattr(preparation, "prepare_splits", lambda _: demo_splits())
    monkeypatch.setattr(preparation, "load_gpt2_tokenizer", demo_tokenizer)
    monkeypatch.setattr(runs, "gather_files", lambda *_: None)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("small") / "small.safetensors", SMALL)


@pytest.fixture
def run(made_up_data, small, tmp_path, capsys):
    """Runs the script on the small checkpoint; returns its records, and what it printed."""

    def run_(*flags):
        folder = tmp_path / "results"
        main(["--weights", str(small), "--output_dir", str(folder), "--num_epochs", "1", *flags])
        return read_records(folder)[0], capsys.readouterr().out

    return run_


def test_a_run_leaves_a_record_of_what_it_found(run):
    (record,), printed = run()
    assert (record["status"], record["seed"], record["row"]) == (FINISHED, 123, None)
    assert record["model"] == "checkpoint small.safetensors"
    assert record["settings"]["num_epochs"] == 1
    assert Path(printed.split("Recorded: ")[1].strip()).is_file()
    right = sum(
        label == prediction
        for label, prediction in zip(
            record["test"]["labels"], record["test"]["predictions"], strict=True
        )
    )
    assert record["correct"]["test"] == [right, 73]
    assert f"Test accuracy: {right / 73:.2%}" in printed
    assert record["test"]["predictions"] == [int(p > q) for q, p in record["test"]["probabilities"]]
    assert set(record["seconds"]) == {"load", "prefix", "train", "final_accuracies"}
    assert record["environment"]["torch"]
    assert [batch for batch, *_ in record["losses"]] == [0]


@pytest.mark.parametrize(("peak", "recorded"), [(123.456, 123.5), (math.nan, None)])
def test_seconds_and_the_peak_of_memory_are_rounded_and_what_is_not_known_is_none(
    peak, recorded, run, monkeypatch
):
    monkeypatch.setattr(runs, "peak_memory_mib", lambda _: peak)
    (record,), _ = run(*QUICK)
    assert record["peak_memory_mib"] == recorded
    seconds = list(record["seconds"].values())
    assert seconds == [round(s, 3) for s in seconds] != [round(s) for s in seconds]
    assert record["parameters"] > record["trainable_parameters"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["date"])


def test_a_record_tells_which_epoch_was_kept_with_its_loss_if_one_was(run):
    (record,), printed = run("--keep_best", "--num_epochs", "2", "--overwrite")
    epoch, loss = record["best"]
    assert f"Kept epoch {epoch}, " in printed
    assert f"smallest loss: {loss:.3f}\n" in printed
    run(*QUICK)
    records, _ = run("--baseline", "majority")
    assert [record["best"] is None for record in records].count(True) == len(records) - 1 == 2


def test_a_run_says_once_that_heads_are_assumed(run):
    _, printed = run()
    said = "Checkpoint: no config.json lies beside it, heads are assumed 64 wide\n"
    assert printed.count(said) == 1


def test_a_run_on_a_folder_has_the_heads_of_its_config(run, small, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(small)
    (folder / "config.json").write_text('{"n_head": 4}')
    (record,), printed = run("--weights", str(folder))
    assert "Model: checkpoint mine; 3 blocks of width 64, 4 heads\n" in printed
    assert "Checkpoint: " not in printed
    assert record["model"] == "checkpoint mine"


def test_what_is_recorded_is_not_run_again_unless_asked(run, monkeypatch):
    (first,), _ = run()
    (again,), printed = run()
    assert again == first
    assert "Recorded already" in printed
    assert "Ep 1" not in printed
    (anew,), printed = run("--overwrite")
    assert "Ep 1" in printed
    assert anew["test"] == first["test"]


@pytest.mark.parametrize(
    "flags", [["--seed", "5"], ["--trainable_layers", "all"], ["--no_shortcuts"]]
)
def test_other_settings_are_another_run(run, flags):
    run()
    assert len(run(*flags)[0]) == 2


def test_edited_code_and_other_weights_run_anew(run, monkeypatch, small):
    run()
    with monkeypatch.context() as patch:
        patch.setattr(identity, "source_digest", lambda: "edited")
        assert len(run()[0]) == 2
    content = small.read_bytes()
    try:
        small.write_bytes(content[:-4] + bytes(4))
        assert len(run()[0]) == 3
    finally:
        small.write_bytes(content)


@pytest.mark.usefixtures("made_up_data")
def test_random_and_pretrained_weights_are_different_runs():
    digests = {
        begin_record(parse_args(["--row", row]))["digest"] for row in ("1", "5", "6", "10", "16")
    }
    assert len(digests) == 5


def test_a_run_that_fails_does_not_take_the_record_of_one_that_ended(run, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise ValueError("no")

    before, _ = run()
    monkeypatch.setattr(finetuning, "train_classifier_simple", fail)
    with pytest.raises(SystemExit):
        run("--overwrite")
    assert read_records(tmp_path / "results")[0] == before


def test_a_folder_that_cannot_be_written_to_is_told_before_the_run(run, monkeypatch, tmp_path):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(runs, "run_experiment", lambda *_: 1 / 0)

    def refuse(*_, **__):
        raise PermissionError("no writing here")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(SystemExit) as exit_:
        run()
    assert "no writing here" in str(exit_.value.code)


def test_where_it_lies_and_how_it_is_run_do_not_make_it_another(run, tmp_path):
    run()
    _, printed = run("--cache_dir", str(tmp_path / "cache"), "--debug", "--device", "cpu")
    assert "Recorded already" in printed


def test_a_failed_run_is_marked_and_run_again(run, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise ValueError("the loss became nan")

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "train_classifier_simple", fail)
        with pytest.raises(SystemExit) as exit_:
            run()
    assert "the loss became nan" in str(exit_.value.code)
    (record,), _ = read_records(tmp_path / "results")
    assert (record["status"], record["error"]) == (FAILED, "the loss became nan")
    (record,), printed = run()
    assert record["status"] == FINISHED
    assert "Ep 1" in printed


@pytest.mark.parametrize(
    ("flags", "learning_rate"),
    [
        (["--trainable_layers", "lora", "--lora_alpha", "3e38"], 5e-5),
        (["--max_steps", "1", "--learning_rate", "1e38"], 1e38),
    ],
    ids=["at first", "after the last step"],
)
def test_a_loss_that_is_no_number_stops_the_run_and_is_no_result(
    flags, learning_rate, run, tmp_path
):
    with pytest.raises(SystemExit) as exit_:
        run(*flags)
    (record,), _ = read_records(tmp_path / "results")
    assert record["status"] == FAILED
    assert str(exit_.value.code).endswith(record["error"])
    told = f"the loss became nan at batch 0, with a learning rate of {learning_rate}: try a smaller"
    assert record["error"].replace("inf", "nan").startswith(told)


def test_an_interrupted_run_leaves_no_record(run, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "train_classifier_simple", interrupt)
    with pytest.raises(SystemExit) as exit_:
        run()
    assert exit_.value.code == 130
    assert not list((tmp_path / "results").glob("*.json"))


# ------------------------------------------------------------------------------------------ seeds


def count_prefixes(monkeypatch):
    runs, run_prefix = [], hidden_states.run_prefix
    monkeypatch.setattr(hidden_states, "run_prefix", lambda *a: runs.append(1) or run_prefix(*a))
    return runs


def test_seeds_in_one_process_are_runs_of_their_own_with_one_prefix(run, monkeypatch):
    alone = [run("--seed", str(seed))[0][-1] for seed in (7, 8)]
    prefixes = count_prefixes(monkeypatch)
    together, _ = run("--seed", "7", "--num_seeds", "2", "--overwrite")
    assert len(prefixes) == 1
    assert [record["losses"] for record in together] == [record["losses"] for record in alone]
    assert together[0]["losses"] != together[1]["losses"]
    assert together[0]["test"]["labels"] == together[1]["test"]["labels"]


def test_random_weights_share_no_prefix(run, monkeypatch):
    prefixes = count_prefixes(monkeypatch)
    records, _ = run("--model_size", TINY, "--weights", "random", "--num_seeds", "2")
    assert (len(prefixes), len(records)) == (2, 2)


def count_seconds(monkeypatch, seconds):
    """Lets the prefix take so much longer."""
    run_prefix = hidden_states.run_prefix
    monkeypatch.setattr(
        hidden_states, "run_prefix", lambda *a: time.sleep(seconds) or run_prefix(*a)
    )


def reuse_by_seeds(run, _):
    records, printed = run("--num_seeds", "2")
    return records, printed.rpartition("Trainable")[2]


def reuse_by_cache(run, tmp_path):
    cache = ["--cache_dir", str(tmp_path / "cache")]
    run(*cache)
    records, printed = run(*cache, "--ignore_index", "5")
    return sorted(records, key=lambda record: record["settings"]["ignore_index"]), printed


@pytest.mark.parametrize("reuse", [reuse_by_seeds, reuse_by_cache])
def test_who_reuses_a_prefix_counts_what_it_cost_and_says_so(reuse, run, monkeypatch, tmp_path):
    count_seconds(monkeypatch, 1.2)
    records, printed = reuse(run, tmp_path)
    assert [record["prefix_reused"] for record in records] == [False, True]
    first, second = (record["seconds"]["prefix"] for record in records)
    assert first > 1.2
    assert first == pytest.approx(second, abs=0.2)
    assert "of an earlier run that took " in printed
    minutes = (second + records[1]["seconds"]["train"]) / 60
    told = float(re.search(r"Training completed in (.*) minutes", printed)[1])
    assert told == pytest.approx(minutes, abs=0.0051)


def test_each_seed_has_its_own_peak_of_memory_or_it_is_said(run, monkeypatch):
    since = iter(["run", "process"])
    peaks = iter([500.0, 300.0])
    monkeypatch.setattr(runs, "start_peak", lambda _: next(since))
    monkeypatch.setattr(runs, "peak_memory_mib", lambda _: next(peaks))
    records, _ = run("--num_seeds", "2", "--max_steps", "1")
    told = [(r["peak_memory_mib"], r["environment"]["peak_since"]) for r in records]
    assert told == [(500, "run"), (300, "process")]


# ---------------------------------------------------------------------------- precision, kernels


def losses_by_precision(run, *flags):
    run(*QUICK, *flags)
    records, _ = run(*QUICK, *flags, "--precision", "bfloat16")
    return {record["precision"]: record["losses"] for record in records}


@pytest.mark.parametrize(
    "flags",
    [
        ["--trainable_layers", "all"],  # has no prefix
        [],  # has nothing but the prefix that is run for all tokens
        ["--no_shortcuts"],
    ],
)
def test_products_have_the_precision_that_is_asked_for(run, flags):
    found = losses_by_precision(run, *flags)
    assert found["float32"] != found["bfloat16"]
    for exact, rounded in zip(*found.values(), strict=True):
        assert rounded == pytest.approx(exact, abs=0.02)


def test_the_precisions_share_no_kept_prefix(run, tmp_path):
    alone = losses_by_precision(run)
    prefixes = tmp_path / "cache"
    assert losses_by_precision(run, "--cache_dir", str(prefixes)) == alone
    assert len(list(prefixes.glob("*.hidden"))) == 2


def test_devices_and_kernels_share_no_kept_prefix(run, monkeypatch, tmp_path):
    prefixes = count_prefixes(monkeypatch)
    cache = ["--cache_dir", str(tmp_path / "cache")]
    run(*QUICK, *cache)
    monkeypatch.setattr(experiment, "choose_kernels", lambda *_, **__: "others")
    run(*QUICK, *cache)
    monkeypatch.setattr(experiment, "device_name", lambda _: "another")
    run(*QUICK, *cache)
    assert len(prefixes) == 3


def test_the_plain_path_has_the_plain_kernels_and_a_record_says_whose(run, monkeypatch):
    used = []

    def choose(_, plain):
        used.append(plain)
        return f"plain: {plain}"

    monkeypatch.setattr(experiment, "choose_kernels", choose)
    records = run(*QUICK)[0] + run(*QUICK, "--no_shortcuts", "--seed", "5")[0][-1:]
    assert used == [False, True]
    told = [record["environment"]["kernels"] for record in records]
    assert told == ["plain: False", "plain: True"]


# --------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")], ids=["network", "baseline"])
def test_in_training_says_whether_a_training_message_has_the_text(flags, run):
    texts = {name: pd.read_csv(csv)["Text"].tolist() for name, csv in demo_splits().items()}
    by_split = {name: [text in texts[name] for text in texts["test"]] for name in texts}
    assert by_split["train"] not in ([True] * 73, [False] * 73, by_split["validation"])
    (record,), _ = run(*QUICK, *flags)
    assert record["test"]["in_training"] == by_split["train"]


@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")], ids=["network", "baseline"])
def test_same_text_is_the_first_test_message_that_has_it(flags, run):
    texts = pd.read_csv(demo_splits()["test"])["Text"].tolist()
    (record,), _ = run(*QUICK, *flags)
    assert record["test"]["same_text"] == [texts.index(text) for text in texts]
    assert len(set(texts)) < len(texts)


# ------------------------------------------------------------------------------------------- rows


def test_a_stand_in_asks_the_question_of_its_row(small):
    weights = ["--weights", str(small)]
    assert design_of(parse_args([*weights, "--trainable_layers", "all"])) == 5
    assert design_of(parse_args([*weights, "--row", "6"])) == 6
    assert design_of(parse_args(["--row", "10", "--model_size", TINY])) == 10
    assert design_of(parse_args([*weights, "--lora_rank", "9"])) is None
    assert design_of(parse_args(["--demo"])) is None


def test_a_row_on_another_checkpoint_is_recorded_as_its_stand_in(run):
    (record,), _ = run("--num_epochs", "5", "--row", "16")
    assert (record["name"], record["row"], record["stands_in"]) == ("row 16", 16, True)


def test_a_baseline_is_recorded_like_a_row(run):
    (record,), _ = run("--baseline", "majority")
    assert (record["name"], record["row"]) == ("baseline majority", None)
    assert record["correct"]["test"][1] == 73


def test_a_baseline_is_recorded_as_made_on_the_cpu_whatever_the_machine_has(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (record,), _ = run("--baseline", "majority")
    assert record["environment"]["device"].startswith("cpu, ")
    assert record["environment"]["device_type"] == "cpu"
    assert record["peak_memory_mib"] > 50


def test_the_published_accuracies_stand_beside_a_published_file_of_any_name(run, monkeypatch):
    def as_published(network, _):
        return replace(network, weights="pretrained")

    monkeypatch.setattr(identity, "as_published", as_published)
    (record,), printed = run("--row", "16", "--num_epochs", "5")
    assert (record["name"], record["stands_in"]) == ("row 16", False)
    assert "Row 16 as published, and here:" in printed
    _, printed = run("--row", "16", "--num_epochs", "5", "--precision", "bfloat16")
    assert "as published" not in printed


# ------------------------------------------------------------------------- processes of their own


@pytest.mark.slow
@pytest.mark.usefixtures("real_tokenizer_files")
def test_two_processes_share_one_prefix_and_find_what_one_alone_does(
    miniature, real_data_dir, tmp_path
):
    def start(folder, *more):
        flags = ["--weights", str(miniature), "--data_dir", str(real_data_dir), "--num_epochs", "1"]
        flags += ["--output_dir", str(folder), *more]
        return subprocess.Popen([sys.executable, str(SCRIPT), *flags], cwd=tmp_path)

    cache = ["--cache_dir", str(tmp_path / "cache")]
    together = [start(tmp_path / name, *cache) for name in ("one", "two")]
    alone = start(tmp_path / "alone")
    assert [process.wait(300) for process in (*together, alone)] == [0, 0, 0]
    assert len(list((tmp_path / "cache").glob("*.hidden"))) == 1
    assert not list((tmp_path / "cache").glob("*.part"))
    found = [read_records(tmp_path / name)[0][0] for name in ("one", "two", "alone")]
    assert found[0]["losses"] == found[1]["losses"] == found[2]["losses"]
    assert found[0]["test"] == found[1]["test"] == found[2]["test"]


LOOPS = [  # rows, seeds, and after how many seconds the loop is killed, time after time
    pytest.param((1, 2, 3, 16), 2, (4, 9, 15), marks=pytest.mark.slow),
    pytest.param(
        (1, 2, 3, 4, 5, 10, 11, 13, 14, 15, 16, 17, 18, 19),
        3,
        (40, 60, 80),
        marks=pytest.mark.by_hand,
    ),
]


@pytest.mark.parametrize(("rows", "seeds", "moments"), LOOPS)
@pytest.mark.usefixtures("real_tokenizer_files")
def test_a_loop_that_is_killed_and_started_again_loses_and_repeats_nothing(
    rows, seeds, moments, miniature, real_data_dir, tmp_path
):
    def loop(folder, kill_after=3600):
        """Runs the rows, or until a process is killed; returns how many runs were made."""
        made, end = 0, time.monotonic() + kill_after
        for row in rows:
            model = ["--model_size", TINY] if row == 10 else ["--weights", str(miniature)]
            flags = ["--row", str(row), *model, "--num_seeds", str(seeds)]
            flags += ["--data_dir", str(real_data_dir), "--output_dir", str(folder)]
            flags += ["--cache_dir", f"{folder}_cache"]
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), *flags], cwd=tmp_path, stdout=subprocess.PIPE,
                text=True,
            )  # fmt: skip
            try:
                out, _ = process.communicate(timeout=max(end - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                out, _ = process.communicate()
            made += len(re.findall("^Recorded: ", out, flags=re.MULTILINE))
            if process.returncode == -signal.SIGKILL:
                return made
            assert process.returncode == 0
        return made

    def found(folder):
        """Returns what the runs found, and the table of it without what the clock says."""
        records, problems = read_records(folder)
        assert not problems
        results = {
            (r["name"], r["seed"]): json.dumps([r[k] for k in ("losses", "correct", "test")])
            for r in records
        }
        summaries = [s._replace(train_seconds=0) for s in summarise(group_records(records))]
        return results, summary_table(summaries)

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert loop(undisturbed) == seeds * len(rows)
    for moment in moments:
        loop(killed, kill_after=moment)
    before, _ = read_records(killed)
    assert 0 < len(before) < seeds * len(rows)
    assert loop(killed) == seeds * len(rows) - len(before)
    after, _ = read_records(killed)
    assert all(record in after for record in before)
    assert found(killed) == found(undisturbed)
    assert loop(killed) == 0
