"""Whole runs on a small checkpoint: what they record, reuse, print and refuse."""

import contextlib
import io
import json
import math
import re
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from runs import small, use_demo_data  # noqa: F401 (a fixture)
from safetensors import safe_open

from additional_experiments import main, run_experiment
from experiments.config.arguments import TINY
from experiments.config.parsing import parse_args
from experiments.config.rows import LONGEST_EXAMPLE, NUM_DEMO_SPAM, NUM_SPAM, split_sizes
from experiments.data import datasets
from experiments.data.sms_spam import demo_splits
from experiments.model import classifier
from experiments.model import saved as saved_module
from experiments.model.saved import load_classifier
from experiments.runs import records as records_module
from experiments.runs.loop import RunCache
from experiments.runs.records import FAILED, FINISHED
from experiments.shortcuts import prefix
from experiments.system import devices, files
from experiments.training import loop as training_loop

QUICK = ("--max_steps", "1", "--overwrite")


def read(folder):
    """The records of a folder, as dictionaries."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@pytest.fixture
def run(small, tmp_path, capsys, monkeypatch):  # noqa: F811
    """Run the script on the small checkpoint; return its records, and what it printed."""
    use_demo_data(monkeypatch)

    def run_(*flags):
        folder = tmp_path / "results"
        given = map(str, flags)
        main(["--weights", str(small), "--output_dir", str(folder), "--num_epochs", "1", *given])
        return read(folder), capsys.readouterr().out

    return run_


@pytest.fixture
def failure_of(run, capsys):
    """Run the script, which fails; return its message."""

    def failure_of_(*flags):
        with pytest.raises(SystemExit) as exit_:
            run(*flags)
        error = capsys.readouterr().err
        return error if exit_.value.code == 2 else f"{exit_.value.code}\n{error}"

    return failure_of_


@pytest.fixture
def no_model(monkeypatch):
    """A run that builds a model fails."""
    monkeypatch.setattr(classifier, "build_classifier", lambda *_, **__: 1 / 0)


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):  # noqa: F811
    """The record of one run over two epochs, and what it printed; for tests that only look."""
    folder, printed = tmp_path_factory.mktemp("finished"), io.StringIO()
    flags = ["--weights", str(small), "--output_dir", str(folder), "--num_epochs", "2"]
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
        use_demo_data(monkeypatch)
        main([*flags, "--keep_best"])
    (record,) = read(folder)
    return record, printed.getvalue()


# ------------------------------------------------------------------------------------ the record


def test_a_run_records_its_results(finished):
    record, printed = finished
    assert (record["status"], record["seed"], record["row"]) == (FINISHED, 123, None)
    assert record["model"] == "checkpoint small.safetensors"
    assert record["settings"]["num_epochs"] == 2
    assert Path(re.search("Recorded: (.*)", printed)[1]).is_file()
    test = record["test"]
    right = sum(x == y for x, y in zip(test["labels"], test["predictions"], strict=True))
    assert record["correct"]["test"] == [right, 73]
    assert f"Test accuracy: {right / 73:.2%}" in printed
    assert test["predictions"] == [int(p > q) for q, p in test["probabilities"]]
    assert set(record["seconds"]) == {"load", "prefix", "train", "final_accuracies"}
    assert record["environment"]["torch"] == torch.__version__
    assert record["environment"]["threads"] == torch.get_num_threads()
    assert [batch for batch, *_ in record["losses"]] == [0, 50]
    assert [epoch for epoch, *_ in record["accuracies"]] == [1, 2]
    assert record["parameters"] > record["trainable_parameters"] > 0
    seconds = list(record["seconds"].values())
    assert seconds == [round(s, 3) for s in seconds] != [round(s) for s in seconds]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["date"])
    assert record["metrics"]["accuracy"] == pytest.approx(right / 73)


def test_a_run_prints_what_it_does(finished):
    record, printed = finished
    first, *header = printed.partition("Cached activations: ")[0].splitlines()
    assert first == "Run: row 1, num_epochs 2, keep_best, seed 123"
    assert len([line for line in header if re.match("[A-Z][a-z]+: ", line)]) == 4
    assert not re.search(r"\b1 \w+s\b|\bnan\b| 0\.0[,)]", "\n".join(header))
    epoch, loss = record["best"]
    for line in (
        r"Model: checkpoint small\.safetensors; 3 blocks of width 64, 1 head; no config\.json .*",
        r"Trained: last block, final norm and head; [\d,]+ of [\d,]+ parameters; "
        r"62 steps of 1 x 8 examples, 2 epochs",
        r"Examples: 251 training, 36 validation, 73 test, padded to \d+ tokens",
        r"Device: cpu, \d+ threads?; torch .*; memory: .* GiB needed .* GiB available",
        r"Ep 1 \(Step 000000\): Train loss \d\.\d{3}, Val loss \d\.\d{3}",
        r"Training accuracy: \d+\.\d\d% \| Validation accuracy: \d+\.\d\d%",
        rf"Best epoch: {epoch}, with a validation loss of {loss:.3f}",
        r"Training accuracy: \d+\.\d\d%",
        r"Test accuracy: \d+\.\d\d%",
        r"Peak memory: \d+(,\d+)* MiB",
    ):
        assert re.search(f"^{line}$", printed, flags=re.MULTILINE), line


def test_of_several_runs_there_is_a_summary_and_the_next_step(run, tmp_path):
    limit = ("--max_steps", "2", "--num_epochs", "5", "--accumulation_steps", "2")
    records, printed = run(*limit, "--num_seeds", "2")
    assert "; 2 steps of 2 x 8 examples, 1 epoch\n" in printed
    assert "Training: 4 batches" in printed
    assert "with 0." not in re.findall("Training completed .*", printed)[0]
    assert re.search(r"\d minutes, with \d+\.\d s in which an earlier run cached", printed)
    shares = [k / n for k, n in (record["correct"]["test"] for record in records)]
    name = "row 1, accumulation_steps 2, max_steps 2"
    assert printed.partition("\nSummary:\n")[2] == (
        f"  {name}, seed 123: test accuracy {shares[0]:.2%}\n"
        f"  {name}, seed 124: test accuracy {shares[1]:.2%}\n"
        f"Next: python compare_experiments.py --results {tmp_path / 'results'}; --save_model saves "
        "a classifier\n"
    )


def test_a_baseline_is_recorded_like_a_row_with_duplicates_and_equal_texts(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (record,), printed = run("--baseline", "majority")
    assert "Peak memory" not in printed
    assert "--save_model" not in printed
    assert (record["name"], record["row"], record["best"]) == ("baseline majority", None, None)
    assert record["correct"]["test"][1] == 73
    assert record["environment"]["device"].startswith("cpu, ")
    assert (record["parameters"], record["environment"]["kernels"]) == (0, "")
    texts = {name: pd.read_csv(csv)["Text"].tolist() for name, csv in demo_splits().items()}
    test = texts["test"]
    in_training = [text in texts["train"] for text in test]
    assert record["test"]["in_training"] == in_training != [text in test for text in test]
    assert record["test"]["same_text"] == [test.index(text) for text in test] != [*range(73)]


# ---------------------------------------------------------------------------------- again or anew


def test_a_failed_run_is_recorded_and_made_again_and_replaces_no_finished_one(
    run, failure_of, monkeypatch, tmp_path
):
    def fail(*_, **__):
        raise ValueError("the loss became nan")

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "train", fail)
        assert "the loss became nan" in failure_of(*QUICK)
    (record,) = read(tmp_path / "results")
    assert (record["status"], record["error"]) == (FAILED, "the loss became nan")
    finished, printed = run(*QUICK[:2])
    assert finished[0]["status"] == FINISHED
    assert "Ep 1" in printed
    monkeypatch.setattr(training_loop, "train", fail)
    failure_of(*QUICK)
    assert read(tmp_path / "results") == finished


@pytest.mark.parametrize(
    ("module", "name", "error"),
    [(tempfile, "TemporaryFile", PermissionError("no writing here")),
     (datasets, "tokenize", ConnectionError("no network"))],
    ids=["a folder without permission", "a failed download"],
)  # fmt: skip
@pytest.mark.usefixtures("no_model")
def test_an_error_of_the_machine_before_the_run_records_nothing(
    module, name, error, failure_of, monkeypatch, tmp_path
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module, name, fail)
    assert str(error) in failure_of()
    assert read(tmp_path / "results") == []


@pytest.mark.parametrize(
    ("flags", "learning_rate"),
    [("--trainable_layers lora --lora_alpha 3e38", 5e-5),  # at the first evaluation
     ("--max_steps 1 --learning_rate 1e38", 1e38)],  # after the last step
)  # fmt: skip
def test_a_loss_that_is_not_finite_ends_the_run_as_failed(
    flags, learning_rate, failure_of, tmp_path
):
    message = failure_of(*flags.split())
    (record,) = read(tmp_path / "results")
    assert record["status"] == FAILED
    assert f"error: {record['error']}\n" in message
    start = f"the loss became nan at batch 0, with a learning rate of {learning_rate}: try a small"
    assert record["error"].replace("inf", "nan").startswith(start)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")])
def test_a_dry_run_computes_and_records_nothing(flags, run):
    records, printed = run("--dry_run", *flags)
    assert records == []
    assert "Baseline: majority" in printed if flags else "; memory: " in printed


# ------------------------------------------------------------------------------ saved classifiers


def record_of(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["finetuned_classifier"])["record"]


def test_the_saved_classifier_is_that_of_the_run_or_it_is_refused(run, failure_of, tmp_path):
    path = tmp_path / "m.safetensors"
    a, b = (["--max_steps", "1", "--save_model", str(path), "--seed", seed] for seed in "12")
    (record,), _ = run(*a)
    assert record_of(path) == record["digest"]
    assert "Recorded already" in run(*a)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "build_classifier", lambda *_: 1 / 0)
        assert "is the classifier of another run" in failure_of(*b)
        content = path.read_bytes()
        path.write_bytes(b"junk")
        assert "is a file that no run has saved" in failure_of(*a)
        path.write_bytes(content)
    assert record_of(path) == record["digest"]
    other = run(*b, "--overwrite")[0][-1]
    assert record_of(path) == other["digest"] != record["digest"]
    path.unlink()
    _, printed = run(*a)
    assert "Ep 1" in printed
    assert record_of(path) == record["digest"]
    size = path.stat().st_size
    run(*a, "--save_whole")
    assert path.stat().st_size > 2 * size


@pytest.mark.usefixtures("no_model")
def test_where_a_classifier_cannot_be_saved_is_found_before_the_run(
    failure_of, tmp_path, monkeypatch
):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    for name, problem in (
        ("folder.safetensors", "Is a directory"),
        ("file/m.safetensors", "Not a directory|File exists"),
        ("x" * 228 + ".safetensors", "File name too long"),
    ):
        message = failure_of("--save_model", tmp_path / name)
        assert re.search(problem, message), message
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "No space left" in failure_of("--save_model", tmp_path / "m.safetensors")
    assert read(tmp_path / "results") == []


def test_a_file_that_cannot_be_written_in_the_end_loses_nothing(failure_of, tmp_path, monkeypatch):
    rescue, write_whole = tmp_path / "rescue", files.write_whole
    rescue.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(rescue))
    is_refused = {".safetensors"}

    def write(path, content):
        if path.suffix in is_refused and not path.is_relative_to(rescue):
            raise OSError(28, "No space left on device", str(path))
        write_whole(path, content)

    for module in (files, saved_module, records_module):
        monkeypatch.setattr(module, "write_whole", write)
    model = tmp_path / "m.safetensors"
    flags = ["--max_steps", "1", "--save_model", model, "--overwrite"]
    messages = failure_of(*flags)
    (record,) = read(tmp_path / "results")
    assert (record["status"], model.exists()) == (FINISHED, False)
    is_refused.add(".json")
    messages += failure_of(*flags)
    found = [Path(line) for line in re.findall("Saved instead: (.*)", messages)]
    assert [path.suffix for path in found] == [".safetensors", ".json", ".safetensors"]
    assert record_of(found[2]) == json.loads(found[1].read_text())["digest"]
    assert load_classifier(found[2])


# ----------------------------------------------------------------------------------------- sharing


@pytest.fixture
def prefixes(monkeypatch):
    """A list that grows when a frozen prefix is computed."""
    made, run_prefix = [], prefix.run_prefix
    monkeypatch.setattr(prefix, "run_prefix", lambda *a: made.append(1) or run_prefix(*a))
    return made


@pytest.mark.slow
def test_seeds_in_one_process_are_runs_of_their_own_with_one_prefix(run, prefixes):
    alone = [run("--seed", str(seed))[0][-1] for seed in (7, 8)]
    prefixes.clear()
    together, _ = run("--seed", "7", "--num_seeds", "2", "--overwrite")
    assert len(prefixes) == 1
    assert [record["losses"] for record in together] == [record["losses"] for record in alone]
    assert together[0]["losses"] != together[1]["losses"]
    assert together[0]["test"]["labels"] == together[1]["test"]["labels"]


def test_random_weights_share_no_prefix(run, prefixes):
    run("--model_size", TINY, "--weights", "random", "--num_seeds", "2", *QUICK)
    assert len(prefixes) == 2


@pytest.mark.slow
def test_rows_in_one_process_tokenize_once_and_are_the_runs_of_single_ones(run, monkeypatch):
    made, tokenize = [], datasets.tokenize
    monkeypatch.setattr(datasets, "tokenize", lambda *a: made.append(1) or tokenize(*a))
    run("--row", "2,4,14,16", *QUICK[:2])
    assert len(made) == 2  # once padded, once not
    for row in ("2", "4", "14", "16"):
        assert "Recorded already" in run("--row", row, *QUICK[:2])[1]


@pytest.mark.parametrize("reuse", ["by seeds", "by cache"])
def test_a_run_that_reuses_activations_counts_what_they_cost(reuse, run, monkeypatch, tmp_path):
    batches = prefix._batches
    monkeypatch.setattr(prefix, "_batches", lambda *a, **k: time.sleep(0.7) or batches(*a, **k))
    if reuse == "by seeds":
        records, printed = run("--num_seeds", "2", *QUICK)
    else:
        cache = ["--cache_dir", tmp_path / "cache"]
        run(*cache, *QUICK)
        records, printed = run(*cache, *QUICK, "--seed", "124")
    assert [record["prefix_reused"] for record in records] == [False, True]
    first, second = (record["seconds"]["prefix"] for record in records)
    assert first > 0.7
    assert first == pytest.approx(second, abs=0.2)
    assert re.search(r"Cached activations: .*\d\.\d s", printed)


def test_each_run_has_its_own_peak_of_memory_rounded_and_null_where_it_is_unknown(run, monkeypatch):
    since, peaks = iter(["run", "process"]), iter([123.456, math.nan])
    monkeypatch.setattr(devices, "start_peak", lambda _: next(since))
    monkeypatch.setattr(devices, "peak_memory_mib", lambda _: next(peaks))
    records, _ = run("--num_seeds", "2", "--max_steps", "1")
    found = [(r["peak_memory_mib"], r["environment"]["peak_since"]) for r in records]
    assert found == [(123.5, "run"), (None, "process")]


def losses_by_precision(run, *flags):
    run(*QUICK, *flags)
    records, _ = run(*QUICK, *flags, "--precision", "bfloat16")
    return {record["precision"]: record["losses"] for record in records}


@pytest.mark.parametrize(
    "flags",  # without a prefix, with nothing but one for all tokens, and in training
    [["--trainable_layers", "all"], [], ["--no_shortcuts"]],
)
def test_products_have_the_requested_precision(run, flags):
    found = losses_by_precision(run, *flags)
    assert found["float32"] != found["bfloat16"]
    for exact, rounded in zip(*found.values(), strict=True):
        assert rounded == pytest.approx(exact, abs=0.02)


@pytest.mark.slow
def test_precisions_devices_and_kernels_share_no_cached_activations(
    run, prefixes, monkeypatch, tmp_path
):
    alone = losses_by_precision(run)
    prefixes.clear()
    cache = ["--cache_dir", str(tmp_path / "cache")]
    assert losses_by_precision(run, *cache) == alone
    assert len(prefixes) == 2
    monkeypatch.setattr(devices, "choose_kernels", lambda *_, **__: "others")
    run(*QUICK, *cache)
    monkeypatch.setattr(devices, "device_name", lambda _: "another")
    run(*QUICK, *cache)
    assert len(prefixes) == 4


def test_the_reference_uses_its_own_kernels_and_the_record_names_them(run, monkeypatch):
    monkeypatch.setattr(devices, "choose_kernels", lambda _, reference: f"reference: {reference}")
    run(*QUICK)
    records, _ = run(*QUICK, "--no_shortcuts", "--seed", "124")
    found = [record["environment"]["kernels"] for record in records]
    assert found == ["reference: False", "reference: True"]


# ------------------------------------------------------------------------------------- the demo


def test_the_demo_needs_and_leaves_no_files_and_restores_what_it_sets_in_pytorch(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    result = run_experiment(parse_args(["--demo", "--max_steps", "1"]))
    sizes = {name: len(examples) for name, examples in result.corpus.splits.items()}
    assert sizes == split_sizes(2 * NUM_DEMO_SPAM)  # known before reading
    totals = {name: total for name, (_, total) in result.correct.items()}
    assert totals == sizes | {"train": sizes["train"] // 8 * 8}  # over whole batches
    assert len(result.probabilities) == len(result.labels) == sizes["test"]
    assert matmul.fp32_precision == before
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_sizes_known_before_reading_are_those_of_the_real_data(real_data_dir):
    datasets = RunCache().datasets(parse_args(["--data_dir", str(real_data_dir)]))
    assert list(split_sizes(2 * NUM_SPAM).values()) == [len(dataset) for dataset in datasets]
    assert datasets.train.max_length == LONGEST_EXAMPLE


def test_an_error_is_one_message_unless_debug_is_given_or_it_is_a_mistake_in_the_code(
    tmp_path, monkeypatch
):
    (tmp_path / "train.csv").write_text("mine")
    flags = ["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "results")]
    with pytest.raises(SystemExit, match=r"train\.csv is not the expected file"):
        main(flags)
    with pytest.raises(ValueError, match=r"train\.csv"):
        main([*flags, "--debug"])
    monkeypatch.setattr(training_loop, "train", lambda *_, **__: torch.ones(2).item())
    with pytest.raises(RuntimeError, match="cannot be converted to Scalar"):
        main(["--demo"])


def test_full_memory_is_reported_with_the_peak_and_a_hint(monkeypatch):
    monkeypatch.setattr(training_loop, "train", lambda *_, **__: torch.empty(2**45))
    with pytest.raises(SystemExit, match=r"[\d,]+ MiB.*--batch_size.*memory"):
        main(["--demo"])


# ------------------------------------------------------------------------------------- downloads

TEXTS = ("sms_spam_collection/SMSSpamCollection",)
TOKENIZER = (*TEXTS, "gpt2/tokenizer/vocab.json", "gpt2/tokenizer/merges.txt")


@pytest.mark.usefixtures("quick_and_alone")
@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ([], (*TOKENIZER, "gpt2/124M/model.safetensors")),
        (["--row", "10"], TOKENIZER),
        (["--baseline", "majority"], TEXTS),
    ],
    ids=["row 1", "random weights", "baseline"],
)
def test_offline_a_run_names_all_files_that_it_lacks_at_once(flags, missing, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as exit_:
        main(flags)
    lines = str(exit_.value.code).splitlines()
    for line, path in zip(lines, missing, strict=True):
        assert f" as {path} (SHA-256 " in line
