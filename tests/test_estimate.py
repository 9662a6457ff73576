"""The memory that a run needs, from numbers alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_recomputing import bytes_kept

from experiments.config.flags import parse_args
from experiments.config.settings import TINY, TRAINABLE
from experiments.model.classifier import create_classifier
from experiments.runs.preparation import (
    count_parameters,
    design_of_network,
    load_corpus,
    load_datasets,
)
from experiments.shortcuts.model import ShortcutClassifier
from experiments.system.devices import dtype_of, set_precision
from experiments.training.memory_estimate import FLOAT, Need
from experiments.training.memory_fitting import count_messages
from experiments.training.memory_parameters import count_by_part
from experiments.training.memory_workload import Messages, Place, known_messages

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
RANDOM = ("--weights", "random")


def need(*flags, total=float("inf"), messages=None, **place):
    settings = parse_args([*RANDOM, *flags])
    messages = messages or known_messages(settings.reading, 1024)
    return Need(
        settings.network, settings.training, settings.machine, messages, Place(total, **place)
    )


def test_an_estimate_waits_for_no_pytorch():
    code = "import sys, experiments.training.memory_estimate; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# ------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize("layers", TRAINABLE)
def test_the_parameters_are_those_of_the_model(layers):
    flags = ["--model_size", "gpt2-tiny (7M)", "--lora_rank", "3", "--trainable_layers", layers]
    network = parse_args([*RANDOM, *flags]).network
    counts = count_by_part(network, num_classes=5)
    model = create_classifier(design_of_network(network), None, 1, 5)
    assert (counts.trained, counts.total) == count_parameters(model)


def test_the_parameters_are_those_of_a_model_without_biases_of_queries(monkeypatch, small_config):
    network = parse_args([*RANDOM]).network
    config = small_config | {"qkv_bias": False}
    monkeypatch.setattr(type(network), "config", config)
    model = create_classifier(design_of_network(network), None, 1, 2)
    counts = count_by_part(network, num_classes=2)
    assert (counts.trained, counts.total) == count_parameters(model)


# --------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    "flags", [[], ["--row", "13"], ["--row", "14"], ["--context_length", "60"]]
)
@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_published_messages_are_known_unread(flags, real_data_dir):
    reading, own = (
        parse_args([*flags, "--data_dir", str(real_data_dir)]).reading,
        parse_args([]).own,
    )
    read = count_messages(load_datasets(load_corpus(reading, own), reading, 1024), 2)
    known = known_messages(reading, 1024)
    assert known.distinct >= read.distinct > 0.95 * known.distinct
    assert known.tokens >= read.tokens > 0.8 * known.tokens
    assert known._replace(distinct=0, tokens=0) == read._replace(distinct=0, tokens=0)


def test_the_made_up_messages_are_known_unread():
    settings = parse_args(["--demo"])
    corpus = load_corpus(settings.reading, settings.own)
    read = count_messages(load_datasets(corpus, settings.reading, 1024), 2)
    assert read == known_messages(settings.reading, 1024)


# -------------------------------------------------------------------------- what autograd keeps


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("layers", ["all", "lora"])
@pytest.mark.parametrize("flags", [[], ["--no_shortcuts"]], ids=["short", "plain"])
def test_what_blocks_leave_behind_is_what_autograd_keeps(flags, layers, precision):
    flags = ["--trainable_layers", layers, "--average_embeddings", *flags]
    flags += ["--model_size", TINY, "--precision", precision]
    found = need(*flags, messages=Messages({}, 96, 1, 96))
    model = create_classifier(design_of_network(found.network), None, 1, 2)
    if found.fast:
        model = ShortcutClassifier(model, depth=None, dtype=dtype_of(precision))
    else:
        set_precision(model, precision, CPU)
    kept = bytes_kept(model, torch.zeros(8, 96, dtype=torch.int64), torch.full((8,), 96))
    assert kept == pytest.approx(8 * 96 * FLOAT * 3 * found.kept_of_block + found.casts, rel=0.1)


# ---------------------------------------------------------------------------------- what it says


def test_shortcuts_take_less_and_so_does_a_smaller_batch_or_recomputing():
    whole = need("--row", "5", "--no_shortcuts").peak
    less = [
        need("--row", "5").peak,
        need("--row", "5", "--no_shortcuts", "--batch_size", "4").peak,
        need("--row", "5", "--no_shortcuts", "--activation_checkpointing").peak,
        need("--row", "5", "--no_shortcuts", "--precision", "bfloat16").peak,
    ]
    assert max(less) < whole


def test_moments_and_gradients_are_of_what_is_trained():
    found = need("--row", "3", "--keep_best")
    head = FLOAT * 2 * 769
    assert (found.gradients, found.optimiser, found.best_epoch) == (head, 2 * head, head)
    assert need("--row", "3").best_epoch == 0


def test_hidden_states_beyond_their_share_of_memory_or_kept_for_others_are_mapped():
    size = FLOAT * 1388 * 120 * 768
    assert (need().hidden_states, need().mapped) == (size, 0)
    for mapped in (need(total=7 * size), need("--cache_dir", "x")):
        assert (mapped.hidden_states, mapped.mapped) == (0, size)
    assert need("--row", "5").all_hidden_states == 0


def test_processes_share_out_batches_and_where_they_are_to_blocks():
    alone, two = need("--row", "5"), need("--row", "5", processes=2)
    sharded = need("--row", "5", processes=2, sharded=True)
    assert two.activations == alone.activations / 2
    assert (two.weights, two.optimiser) == (alone.weights, alone.optimiser)
    assert sharded.optimiser == alone.optimiser / 2
    assert sharded.weights == alone.weights - FLOAT * (12 / 2 - 2) * alone.counts.block
    frozen = need("--row", "1", processes=9, sharded=True)
    assert frozen.weights > need("--row", "1").weights  # its frozen blocks are in every process


def test_a_gpu_holds_hidden_states_where_it_has_room_and_never_the_process():
    size = need().hidden_states
    small, large = need(is_cpu=False, gpu=7 * size), need(is_cpu=False, gpu=8 * size)
    assert (small.base, small.hidden_states, large.hidden_states) == (0, 0, size)
    assert small.peak < large.peak < need().peak


# --------------------------------------------------------------------------------- what is measured


def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "benchmarks" / "memory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="was measured there")
@pytest.mark.usefixtures("real_tokenizer_files")
@pytest.mark.parametrize(
    ("row", "flags"),
    [
        *((row, "") for row in (1, 4, 5, 11, 13)),
        *((row, "--no_shortcuts") for row in (1, 5, 11)),
        (5, "--precision bfloat16"),
        (5, "--activation_checkpointing"),
    ],
)
def test_the_peak_of_a_run_is_within_15_percent_of_the_estimate(row, flags):
    module = benchmark()
    measured = module.measure(row, flags)["measured_mib"]
    assert module.estimate(row, flags).peak / 2**20 == pytest.approx(measured, rel=0.15)


def test_the_peaks_that_were_measured_are_within_15_percent_of_the_estimates_of_today():
    module = benchmark()
    records = module.load_records(module.RECORDS)
    assert {1, 4, 5, 6, 8, 11, 13} <= {record["row"] for record in records}
    for record in records:
        run = record["row"], record["flags"], record["processes"]
        estimated = module.estimate(*run).peak / 2**20
        assert estimated == pytest.approx(record["measured_mib"], rel=0.15), record
