"""The memory estimate, and what a run does with it."""

import math
import re
import sys

import pytest
import torch
from designs import CONFIG, LAYERS, PAD, datasets_of

from benchmarks import memory as benchmark
from experiments.config.design import Design
from experiments.config.parsing import parse_args
from experiments.model import classifier
from experiments.system.terminal import UsageError
from experiments.training import memory
from experiments.training.memory import FLOAT, GIB, Examples, Hardware, estimate_memory

MACHINE = Hardware(math.inf, math.inf)
PUBLISHED = Examples(120, 1388 * 120, 2)
REFERENCE = "--row 5 --no_shortcuts"


def settings_of(flags=""):
    return parse_args(["--weights", "random", *flags.split()])


def estimate(flags="", examples=PUBLISHED, **hardware):
    return estimate_memory(settings_of(flags), examples, MACHINE._replace(**hardware))


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_parameters_are_counted_as_the_model_has_them(layers, qkv_bias):
    design = Design(CONFIG | {"qkv_bias": qkv_bias}, "last", False, False, layers, 3, 1.5)
    model = classifier.create_classifier(design, None, seed=1, num_classes=5)
    assert design.count_parameters(5) == classifier.count_parameters(model)


@pytest.mark.parametrize(
    ("flags", "length", "cached"),
    [
        ("", 18, "padded"),
        ("--trainable_token_pos flexible", 18, "real"),
        ("--trainable_token_pos first", 1, "first"),
        ("--trainable_token_pos first --no_shortcuts", 18, "none"),
        ("--trainable_layers all", 18, "none"),
    ],
)
def test_examples_are_counted_as_far_as_they_are_computed(flags, length, cached):
    datasets = datasets_of()
    pairs = [pair for d in datasets for pair in zip(d.tokens.tolist(), d.lengths, strict=True)]
    real = {tuple(tokens[:n]) for tokens, n in pairs}
    padded = {(*row, *[PAD] * (18 - len(row))) for row in real}
    first = {row[0] for row in real}
    expected = {"padded": 18 * len(padded), "real": sum(map(len, real)), "first": len(first)}
    found = memory.count_examples(settings_of(flags), datasets, 50)
    assert found[:3] == (length, expected.get(cached, 0), 50)
    train, _, test = map(len, datasets)
    frames = sum(int(d.data.memory_usage(deep=True).sum()) for d in datasets)
    assert found.num_bytes == frames + 8 * 18 * len(pairs) + 50 * (8 * train + memory.RECORD * test)


CACHED = FLOAT * 768 * PUBLISHED.cached_tokens


@pytest.mark.parametrize(
    ("expected", "flags", "hardware"),
    [
        (CACHED, "", {}),
        (CACHED / 2, "--precision bfloat16", {}),
        (0, "--no_shortcuts", {}),
        (0, "--cache_dir x", {}),  # in a mapped file, as the next
        (0, "", {"memory": 7.9 * CACHED}),
        (CACHED, "", {"memory": 8 * CACHED}),
        (0, "", {"memory": 8 * CACHED, "processes": 2}),
        (CACHED, "--cache_dir x", {"memory": 8 * CACHED, "processes": 2, "is_gpu": True}),
        (0, "", {"memory": 7.9 * CACHED, "is_gpu": True}),
    ],
)
def test_cached_activations_count_if_they_are_in_the_devices_memory(expected, flags, hardware):
    assert estimate(flags, **hardware).cached_activations == expected


def test_the_parts_of_an_estimate_follow_the_design_the_data_and_the_hardware():
    head = FLOAT * 2 * 769
    assert estimate("--row 3")[1:3] == (head, 2 * head)
    assert estimate("--row 3 --keep_best").optimiser == 3 * head

    alone, two = estimate("--row 5"), estimate("--row 5", processes=2)
    assert two[:4] == (*alone[:3], alone.activations / 2)
    shards = estimate("--row 5", processes=2, shards=2)
    assert shards[:4] == tuple(size / 2 for size in alone[:4])
    frozen, whole = estimate("--row 1", shards=2).weights, estimate("--row 1").weights
    assert whole / 2 < frozen < whole
    gpu = estimate("--row 5", is_gpu=True)  # holds neither the process nor holes
    assert (gpu.base, gpu.weights) == (0, alone.weights)
    assert gpu.activations < alone.activations / 1.4

    examples = PUBLISHED._replace(num_bytes=GIB)
    assert estimate(examples=examples).base == estimate().base + GIB
    for flags, tokens in (("", 1), ("--no_shortcuts", 120)):
        few, many = (estimate(flags, Examples(120, 0, k)).activations for k in (2, 1000))
        assert many - few == 4 * FLOAT * 8 * tokens * 998


def test_saving_the_whole_model_needs_two_more_copies():
    trained, total = settings_of().design.count_parameters(2)
    flags = ("", "--save_model x.safetensors", "--save_model x.safetensors --save_whole")
    none, part, whole = (estimate(each, Examples(1, 0, 2)).peak for each in flags)
    assert whole - none > 1.8 * FLOAT * total
    assert part < whole - 1.5 * FLOAT * (total - trained)


# ---------------------------------------------------------------------------------- measured peaks


def assert_near(estimated, measured_mib, run):
    assert 0.95 < estimated / 2**20 / measured_mib < 1.25, run


def test_estimates_are_near_all_recorded_peaks():
    records = benchmark.load_records(benchmark.RECORDS)
    assert {1, 4, 5, 6, 8, 11, 13} <= {record["row"] for record in records}
    for record in records:
        run = record["row"], record["flags"], record["processes"]
        assert_near(benchmark.estimate(*run).peak, record["measured_mib"], run)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="was measured on Linux")
@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_estimate_is_near_the_peak_of_a_run():
    measured = benchmark.measure(1, "")["measured_mib"]
    assert_near(benchmark.estimate(1, "").peak, measured, 1)


# ------------------------------------------------------------------------------- what a run does


@pytest.fixture
def check(monkeypatch):
    """`check_memory` on a machine with so many GiB available."""

    def check(available, flags):
        monkeypatch.setattr(memory, "available_memory", lambda _: available * GIB)
        monkeypatch.setattr(memory, "count_examples", lambda *_: PUBLISHED)
        return memory.check_memory(settings_of(flags), datasets_of(), 2, torch.device("cpu"))

    return check


def test_a_run_that_fits_gets_one_line(check, monkeypatch):
    line = check(5, REFERENCE)
    assert re.fullmatch(
        r"memory: 4\.\d GiB needed \(weights 0\.5, gradients 0\.5, optimiser 0\.9, activations "
        r"2\.\d, base 0\.4\), 5\.0 GiB available",
        line,
    )
    assert check(1, f"{REFERENCE} --ignore_memory") == line.replace("5.0", "1.0")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")  # of which the process with the least memory counts
    monkeypatch.setattr(type(memory.world), "gather", lambda _, x: [x, (x[0], x[1] / 2)])
    assert check(20, REFERENCE).endswith("10.0 GiB available to process 1")


def test_a_run_that_does_not_fit_is_refused_with_options_that_fit(check):
    with pytest.raises(UsageError) as error:
        check(3.5, REFERENCE)
    assert re.fullmatch(
        r"Not enough memory: 4\.\d GiB needed \(weights .*\), 3\.5 GiB available\. Options that "
        r"fit: --activation_checkpointing \(3\.\d GiB\), or --batch_size 2 --accumulation_steps 4 "
        r"\(\d\.\d GiB\), or --parallel shard on 3 processes with as much memory each \(\d\.\d "
        r"GiB\); --ignore_memory runs it anyway\.",
        str(error.value),
    )
    assert check(3.5, f"{REFERENCE} --dry_run") == str(error.value)
    with pytest.raises(UsageError, match=r"available\. Use a smaller --model_size; --ignore"):
        check(0.1, REFERENCE)


def test_two_flags_are_suggested_together_only_if_neither_is_enough():
    both = "--activation_checkpointing --batch_size 1 --accumulation_steps 8"
    long, settings = PUBLISHED._replace(length=1024), settings_of("--row 11")
    available = 1.001 * estimate(f"--row 11 {both}", long).peak
    for factor, is_both in ((1, True), (10, False)):
        hardware = Hardware(math.inf, factor * available)
        flags = {flags for flags, _ in memory.suggestions(settings, long, hardware)}
        assert {both, "--activation_checkpointing"} & flags == (
            {both} if is_both else {"--activation_checkpointing"}
        )
