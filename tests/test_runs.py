"""Whole runs on a small checkpoint: what they record, reuse, print and refuse."""

import contextlib
import io
import json
import math
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from runs import small, use_demo_data  # noqa: F401 (a fixture)
from safetensors import safe_open

import additional_experiments
from additional_experiments import main, run_experiment
from experiments.config import parsing
from experiments.config.arguments import TINY
from experiments.config.parsing import parse_args
from experiments.config.rows import LONGEST_EXAMPLE, NUM_DEMO_SPAM, NUM_SPAM, split_sizes
from experiments.data import datasets
from experiments.data.sms_spam import demo_splits
from experiments.model import saved as saved_module
from experiments.model.saved import load_classifier
from experiments.runs.loop import RunCache
from experiments.runs.records import FAILED, FINISHED
from experiments.shortcuts import prefix
from experiments.system import devices, files
from experiments.training import loop as training_loop

SCRIPT = Path(__file__).parents[1] / "additional_experiments.py"
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


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):  # noqa: F811
    """The record of one run over two epochs, and what it printed; for tests that only look."""
    folder, printed = tmp_path_factory.mktemp("finished"), io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
        use_demo_data(monkeypatch)
        main(
            ["--weights", str(small), "--output_dir", str(folder), "--num_epochs", "2",
             "--keep_best"]
        )  # fmt: skip
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
    records, printed = run(*QUICK, "--num_seeds", "2")
    shares = [k / n for k, n in (record["correct"]["test"] for record in records)]
    for seed, share in zip((123, 124), shares, strict=True):
        assert (
            f"  row 1, num_epochs 1, max_steps 1, seed {seed}: test accuracy {share:.2%}\n"
            in printed.partition("Summary")[2]
        )
    assert printed.endswith(
        f"Next: python compare_experiments.py --results {tmp_path / 'results'}; --save_model saves "
        "a classifier\n"
    )
    assert "with 0." not in re.findall("Training completed .*", printed)[0]
    assert re.search(r"\d minutes, with \d+\.\d s in which an earlier run cached", printed)


def test_a_limit_of_steps_limits_the_announced_batches_and_epochs(run):
    _, printed = run("--max_steps", "3", "--accumulation_steps", "2", "--num_epochs", "5")
    assert "; 3 steps of 2 x 8 examples, 1 epoch\n" in printed
    assert "Training: 6 batches" in printed


def test_a_folder_has_the_heads_of_its_config(run, small, tmp_path):  # noqa: F811
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(small)
    (folder / "config.json").write_text('{"n_head": 4}')
    (record,), printed = run("--weights", str(folder), *QUICK)
    assert "Model: checkpoint mine; 3 blocks of width 64, 4 heads\n" in printed
    assert record["model"] == "checkpoint mine"


@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")], ids=["network", "baseline"])
def test_duplicates_of_training_texts_and_equal_texts_are_recorded(flags, run):
    texts = {name: pd.read_csv(csv)["Text"].tolist() for name, csv in demo_splits().items()}
    by_split = {name: [text in texts[name] for text in texts["test"]] for name in texts}
    assert by_split["train"] not in ([True] * 73, [False] * 73, by_split["validation"])
    (record,), _ = run(*QUICK, *flags)
    assert record["test"]["in_training"] == by_split["train"]
    test = texts["test"]
    assert record["test"]["same_text"] == [test.index(text) for text in test]
    assert len(set(test)) < len(test)


def test_a_row_on_another_checkpoint_is_recorded_as_a_substitute(run):
    (record,), printed = run("--row", "16", "--num_epochs", "5")
    assert (record["name"], record["row"], record["stands_in"]) == ("row 16", 16, True)
    assert "published and here" not in printed


def test_published_accuracies_are_printed_next_to_those_of_the_published_model(run, monkeypatch):
    monkeypatch.setattr(
        parsing, "is_substitute", lambda _: False
    )  # as if it were the published one
    (record,), printed = run("--row", "16", "--num_epochs", "5")
    assert (record["stands_in"], record["best"]) == (False, None)
    assert "Row 16, published and here:" in printed
    assert re.search(r"Test\s+98\.33% \(.*\)\s+\d+\.\d\d% \(\d+ of 73\)", printed)
    _, printed = run("--row", "16", "--num_epochs", "5", "--precision", "bfloat16")
    assert "published and here" not in printed


def test_a_baseline_is_recorded_like_a_row(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (record,), printed = run("--baseline", "majority")
    assert "Peak memory" not in printed
    assert (record["name"], record["row"], record["best"]) == ("baseline majority", None, None)
    assert record["correct"]["test"][1] == 73
    assert record["environment"]["device"].startswith("cpu, ")
    assert (record["parameters"], record["environment"]["kernels"]) == (0, "")


# ---------------------------------------------------------------------------------- again or anew


def test_a_recorded_run_is_made_again_only_with_overwrite(run):
    (first,), _ = run()
    (again,), printed = run()
    assert again == first
    assert "Recorded already" in printed
    assert "Ep 1" not in printed
    (anew,), printed = run("--overwrite")
    assert "Ep 1" in printed
    assert anew["test"] == first["test"]


def fail(*_, **__):
    raise ValueError("the loss became nan")


def test_a_failed_run_is_recorded_and_made_again_and_replaces_no_finished_one(
    run, monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "train", fail)
        with pytest.raises(SystemExit) as exit_:
            run(*QUICK)
    assert "the loss became nan" in str(exit_.value.code)
    (record,) = read(tmp_path / "results")
    assert (record["status"], record["error"]) == (FAILED, "the loss became nan")
    finished, printed = run(*QUICK[:2])
    assert finished[0]["status"] == FINISHED
    assert "Ep 1" in printed
    monkeypatch.setattr(training_loop, "train", fail)
    with pytest.raises(SystemExit):
        run(*QUICK)
    assert read(tmp_path / "results") == finished


def test_a_folder_that_cannot_be_written_to_ends_before_the_run(run, monkeypatch, tmp_path):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(additional_experiments, "run_experiment", lambda *_: 1 / 0)

    def refuse(*_, **__):
        raise PermissionError("no writing here")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(SystemExit) as exit_:
        run()
    assert "no writing here" in str(exit_.value.code)


@pytest.mark.parametrize(
    ("flags", "learning_rate"),
    [
        (["--trainable_layers", "lora", "--lora_alpha", "3e38"], 5e-5),
        (["--max_steps", "1", "--learning_rate", "1e38"], 1e38),
    ],
    ids=["at first", "after the last step"],
)
def test_a_loss_that_is_not_finite_ends_the_run_as_failed(flags, learning_rate, run, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        run(*flags)
    (record,) = read(tmp_path / "results")
    assert record["status"] == FAILED
    assert str(exit_.value.code).endswith(record["error"])
    start = (
        f"the loss became nan at batch 0, with a learning rate of {learning_rate}: try a smaller"
    )
    assert record["error"].replace("inf", "nan").startswith(start)


@pytest.mark.parametrize("flags", [[], ["--baseline", "majority"]])
def test_a_dry_run_computes_and_records_nothing(flags, run, monkeypatch):
    from experiments.model import classifier

    monkeypatch.setattr(classifier, "build_classifier", lambda *_, **__: 1 / 0)
    records, printed = run("--dry_run", *flags)
    assert records == []
    assert "Baseline: majority" in printed if flags else "; memory: " in printed


# ------------------------------------------------------------------------------ saved classifiers


def record_of(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["finetuned_classifier"])["record"]


def refused(run, capsys, *flags):
    """The sentence with which the script ends, before a model is built."""
    from experiments.model import classifier

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "build_classifier", lambda *_: 1 / 0)
        with pytest.raises(SystemExit) as exit_:
            run(*flags)
    error = capsys.readouterr().err
    return error if exit_.value.code == 2 else exit_.value.code


def test_the_saved_classifier_is_that_of_the_run_or_it_is_refused(run, tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    a, b = (["--max_steps", "1", "--save_model", str(path), "--seed", seed] for seed in "12")
    (record,), _ = run(*a)
    assert record_of(path) == record["digest"]
    assert "Recorded already" in run(*a)[1]
    assert "is the classifier of another run" in refused(run, capsys, *b)
    assert record_of(path) == record["digest"]
    other = run(*b, "--overwrite")[0][-1]
    assert record_of(path) == other["digest"]
    assert "is the classifier of another run" in refused(run, capsys, *a)
    path.write_bytes(b"junk")
    assert "is a file that no run has saved" in refused(run, capsys, *a)
    path.unlink()
    _, printed = run(*a)
    assert "Ep 1" in printed
    assert record_of(path) == record["digest"]
    size = path.stat().st_size
    run(*a, "--save_whole")
    assert path.stat().st_size > 2 * size


def test_a_classifier_is_never_saved_over_the_checkpoint(run, small, tmp_path, capsys):  # noqa: F811
    base = tmp_path / "base124.safetensors"
    base.write_bytes(small.read_bytes())
    (tmp_path / "link.safetensors").symlink_to(base)
    for name, more in (
        ("base124", ()),
        ("link", ()),
        ("base{seed}", ("--num_seeds", "2")),
        ("../" + tmp_path.name + "/base124", ("--overwrite",)),
    ):
        target = tmp_path / f"{name}.safetensors"
        message = refused(run, capsys, "--weights", base, "--save_model", target, *more)
        assert "is an input of the run: name another file" in message
    assert base.read_bytes() == small.read_bytes()
    published = Path("gpt2") / "124M" / "model.safetensors"
    message = refused(run, capsys, "--weights", "pretrained", "--save_model", published)
    assert "is an input of the run" in message


def test_where_a_classifier_cannot_be_saved_is_found_before_the_run(
    run, tmp_path, capsys, monkeypatch
):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    for name, problem in (
        ("folder.safetensors", "Is a directory"),
        ("file/m.safetensors", "Not a directory|File exists"),
        ("x" * 228 + ".safetensors", "File name too long"),
    ):
        message = refused(run, capsys, "--save_model", tmp_path / name)
        assert re.search(problem, message), message
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "No space left" in refused(run, capsys, "--save_model", tmp_path / "m.safetensors")
    assert read(tmp_path / "results") == []


def test_a_file_that_cannot_be_written_in_the_end_loses_nothing(run, tmp_path, capsys, monkeypatch):
    from experiments.runs import records

    rescue, write_whole = tmp_path / "rescue", files.write_whole
    rescue.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(rescue))
    is_refused = set()

    def write(path, content):
        if path.suffix in is_refused and not path.is_relative_to(rescue):
            raise OSError(28, "No space left on device", str(path))
        write_whole(path, content)

    for module in (files, saved_module, records):
        monkeypatch.setattr(module, "write_whole", write)
    model = tmp_path / "m.safetensors"
    flags = ["--max_steps", "1", "--save_model", model, "--overwrite"]
    is_refused.add(".safetensors")
    with pytest.raises(SystemExit):
        run(*flags)
    (record,) = read(tmp_path / "results")
    assert (record["status"], model.exists()) == (FINISHED, False)
    is_refused.add(".json")
    with pytest.raises(SystemExit):
        run(*flags)
    errors = capsys.readouterr().err
    found = [Path(line) for line in re.findall("Saved instead: (.*)", errors)]
    assert [path.suffix for path in found] == [".safetensors", ".json", ".safetensors"]
    assert record_of(found[2]) == json.loads(found[1].read_text())["digest"]
    assert load_classifier(found[2])


def test_a_failed_download_is_no_failed_run(run, tmp_path, monkeypatch):
    def offline(*_):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "tokenize", offline)
    with pytest.raises(SystemExit):
        run()
    assert read(tmp_path / "results") == []


# ----------------------------------------------------------------------------------------- sharing


def count_prefixes(monkeypatch):
    made, run_prefix = [], prefix.run_prefix
    monkeypatch.setattr(prefix, "run_prefix", lambda *a: made.append(1) or run_prefix(*a))
    return made


@pytest.mark.slow
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
    random = ["--model_size", TINY, "--weights", "random"]
    records, _ = run(*random, "--num_seeds", "2", *QUICK)
    assert (len(prefixes), len(records)) == (2, 2)


@pytest.mark.slow
def test_rows_in_one_process_tokenize_once_and_are_the_runs_of_single_ones(run, monkeypatch):
    made, datasets = [], RunCache.datasets

    def count(self, settings):
        before = len(self.tokenized)
        found = datasets(self, settings)
        made.append(len(self.tokenized) - before)
        return found

    monkeypatch.setattr(RunCache, "datasets", count)
    run("--row", "2,4,14,16", *QUICK[:2])
    assert sorted(made) == [0, 0, 1, 1]  # once padded, once not
    for row in ("2", "4", "14", "16"):
        assert "Recorded already" in run("--row", row, *QUICK[:2])[1]


def reuse_by_seeds(run, _):
    return run("--num_seeds", "2", *QUICK)


def reuse_by_cache(run, tmp_path):
    cache = ["--cache_dir", str(tmp_path / "cache")]
    run(*cache, *QUICK)
    records, printed = run(*cache, *QUICK, "--ignore_index", "5")
    return sorted(records, key=lambda record: record["settings"]["ignore_index"]), printed


@pytest.mark.parametrize("reuse", [reuse_by_seeds, reuse_by_cache])
def test_a_run_that_reuses_activations_counts_what_they_cost(reuse, run, monkeypatch, tmp_path):
    batches = prefix._batches
    monkeypatch.setattr(prefix, "_batches", lambda *a, **k: time.sleep(0.7) or batches(*a, **k))
    records, printed = reuse(run, tmp_path)
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
    "flags",
    [
        ["--trainable_layers", "all"],  # without a prefix
        [],  # with nothing but the prefix that is run for all tokens
        ["--no_shortcuts"],
    ],
)
def test_products_have_the_requested_precision(run, flags):
    found = losses_by_precision(run, *flags)
    assert found["float32"] != found["bfloat16"]
    for exact, rounded in zip(*found.values(), strict=True):
        assert rounded == pytest.approx(exact, abs=0.02)


@pytest.mark.slow
def test_precisions_devices_and_kernels_share_no_cached_activations(run, monkeypatch, tmp_path):
    alone = losses_by_precision(run)
    prefixes = count_prefixes(monkeypatch)
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
    records = run(*QUICK)[0] + run(*QUICK, "--no_shortcuts", "--seed", "5")[0][-1:]
    found = [record["environment"]["kernels"] for record in records]
    assert found == ["reference: False", "reference: True"]


# ------------------------------------------------------------------------------------- the demo


def test_the_sizes_known_before_reading_are_those_of_the_data():
    datasets = RunCache().datasets(parse_args(["--demo"]))
    sizes = [len(dataset) for dataset in datasets]
    assert list(split_sizes(2 * NUM_DEMO_SPAM).values()) == sizes


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_sizes_known_before_reading_are_those_of_the_real_data(real_data_dir):
    datasets = RunCache().datasets(parse_args(["--data_dir", str(real_data_dir)]))
    assert list(split_sizes(2 * NUM_SPAM).values()) == [len(dataset) for dataset in datasets]
    assert datasets.train.max_length == LONGEST_EXAMPLE


def test_training_accuracy_is_over_whole_batches_and_what_a_run_sets_in_pytorch_is_restored():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    result = run_experiment(parse_args(["--demo", "--max_steps", "1"]))
    totals = {name: total for name, (_, total) in result.correct.items()}
    assert totals == {"train": 248, "validation": 36, "test": 73}
    assert len(result.probabilities) == len(result.labels) == 73
    assert matmul.fp32_precision == before


def test_an_error_is_one_message_and_status_1_unless_debug_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(SystemExit) as exit_:
        main(["--data_dir", str(tmp_path)])
    assert "train.csv is not the expected file" in str(exit_.value.code)
    with pytest.raises(ValueError, match=r"train\.csv"):
        main(["--data_dir", str(tmp_path), "--debug"])


def run_out_on_the_gpu(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory")


def run_out_on_the_cpu(*_, **__):
    torch.empty(2**45)


@pytest.mark.parametrize("run_out", [run_out_on_the_gpu, run_out_on_the_cpu])
def test_full_memory_is_reported_with_the_peak_and_a_hint(run_out, monkeypatch):
    monkeypatch.setattr(training_loop, "train", run_out)
    with pytest.raises(SystemExit) as exit_:
        main(["--demo"])
    message = str(exit_.value.code)
    assert re.search(r"[\d,]+ MiB.*--batch_size.*memory", message), message


def test_a_mistake_in_the_code_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(training_loop, "train", lambda *_, **__: torch.ones(2).item())
    with pytest.raises(RuntimeError, match="cannot be converted to Scalar"):
        main(["--demo"])


# ------------------------------------------------------------------------- processes of their own


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.usefixtures("real_tokenizer_files")
def test_two_processes_share_one_prefix_and_have_the_results_of_one(
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
    assert not list((tmp_path / "cache").glob("*.part*"))
    found = [read(tmp_path / name)[0] for name in ("one", "two", "alone")]
    assert sorted(record["prefix_reused"] for record in found[:2]) == [False, True]
    assert found[0]["losses"] == found[1]["losses"] == found[2]["losses"]
    assert found[0]["test"] == found[1]["test"] == found[2]["test"]


LOOPS = [  # rows, seeds, and for each kill: after how many new records, and seconds, it happens
    pytest.param("1,3", 2, ((0, 2), (1, 1)), marks=pytest.mark.slow),
    pytest.param("1-5,11,13-19", 3, ((0, 5), (5, 10), (9, 0)), marks=pytest.mark.by_hand),
]


@pytest.mark.process
@pytest.mark.parametrize(("rows", "seeds", "kills"), LOOPS)
@pytest.mark.usefixtures("real_tokenizer_files")
def test_runs_that_are_killed_and_started_again_lose_and_repeat_nothing(
    rows, seeds, kills, miniature, real_data_dir, tmp_path
):
    def loop(folder, kill=None):
        """Run the rows until they end or are killed; return how many runs were recorded."""
        flags = ["--row", rows, "--weights", str(miniature), "--num_seeds", str(seeds)]
        flags += ["--data_dir", str(real_data_dir), "--output_dir", str(folder)]
        flags += ["--num_epochs", "2"]
        recorded, command = 0, [sys.executable, "-u", str(SCRIPT), *flags]
        with subprocess.Popen(
            [*command, "--cache_dir", f"{folder}_cache"],
            cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            if kill and not kill[0]:
                Timer(kill[1], process.kill).start()
            for line in process.stdout:
                recorded += line.startswith("Recorded: ")
                if kill and kill[0] and recorded == kill[0]:
                    Timer(kill[1], process.kill).start()
                    kill = None
        assert process.returncode in (0, -signal.SIGKILL)
        return recorded

    def found(folder):
        """What the runs found, without what the clock says."""
        return {
            (r["name"], r["seed"]): json.dumps([r[k] for k in ("losses", "correct", "test")])
            for r in read(folder)
        }

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    total = loop(undisturbed)
    assert total % seeds == 0
    for kill in kills:
        loop(killed, kill)
    before = read(killed)
    assert 0 < len(before) < total
    assert loop(killed) == total - len(before)
    after = read(killed)
    assert all(record in after for record in before)
    assert found(killed) == found(undisturbed)
    assert loop(killed) == 0


# ------------------------------------------------------------------------------------- downloads


@pytest.mark.usefixtures("quick_and_alone")
@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ([], ["sms_spam_collection/SMSSpamCollection", "gpt2/tokenizer/vocab.json",
              "gpt2/tokenizer/merges.txt", "gpt2/124M/model.safetensors"]),
        (["--row", "10"], ["sms_spam_collection/SMSSpamCollection", "gpt2/tokenizer/vocab.json",
                           "gpt2/tokenizer/merges.txt"]),
        (["--baseline", "majority"], ["sms_spam_collection/SMSSpamCollection"]),
    ],
    ids=["row 1", "random weights", "baseline"],
)  # fmt: skip
def test_offline_a_run_names_all_files_that_it_lacks_at_once(flags, missing, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as exit_:
        main(flags)
    lines = str(exit_.value.code).splitlines()
    assert len(lines) == len(missing)
    for line, path in zip(lines, missing, strict=True):
        assert f" as {path} (SHA-256 " in line


def test_the_demo_needs_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    main(["--demo", "--max_steps", "1", "--data_dir", str(tmp_path)])
