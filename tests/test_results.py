"""What a record says of its run before it began: which model, weights, data and device."""

from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from checkpoints import write_checkpoint
from records import begin_record

from experiments.config.flags import parse_args
from experiments.config.published import CHECKPOINT_SHA256, DATA_SHA256
from experiments.config.settings import MODEL_SIZES
from experiments.runs import fingerprint as identity
from experiments.runs import results
from experiments.runs.fingerprint import as_published
from experiments.runs.results import Clock, Result
from experiments.system.files import sha256_of

CPU, SMALL = torch.device("cpu"), "gpt2-small (124M)"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A local file, called otherwise, that is the published small model for one test."""
    sizes = {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 64, "n_head": 1, "n_layer": 1}
    path = write_checkpoint(tmp_path / "my own.safetensors", sizes)
    monkeypatch.setitem(CHECKPOINT_SHA256, "124M", sha256_of(path))
    monkeypatch.setitem(MODEL_SIZES, SMALL, {"emb_dim": 64, "n_layers": 1, "n_heads": 1})
    return path


def test_a_local_file_with_a_published_digest_is_the_published_model(published):
    record = begin_record(parse_args(["--row", "2", "--weights", str(published)]))
    assert (record["name"], record["row"], record["stands_in"]) == ("row 02", 2, False)
    assert record["model"] == "gpt2-small (124M), pretrained weights"
    assert record["weights"] == CHECKPOINT_SHA256["124M"]
    assert record == begin_record(parse_args(["--row", "2"]))


def test_a_published_file_with_other_heads_is_not_the_published_model(published, monkeypatch):
    monkeypatch.setitem(MODEL_SIZES, SMALL, {"emb_dim": 64, "n_layers": 1, "n_heads": 2})
    network = parse_args(["--weights", str(published)]).network
    assert as_published(network, CHECKPOINT_SHA256["124M"]) == network


def test_a_copy_of_a_larger_published_model_is_that_model(published, monkeypatch):
    monkeypatch.setitem(MODEL_SIZES, (name := "gpt2-medium (355M)"), MODEL_SIZES[SMALL])
    monkeypatch.setitem(CHECKPOINT_SHA256, "355M", "5" * 64)
    network = parse_args(["--weights", str(published)]).network
    assert as_published(network, "5" * 64).description == f"{name}, pretrained weights"


def test_another_file_stands_in_for_the_published_model(tmp_path):
    sizes = {"n_vocab": 50257, "n_ctx": 128, "n_embd": 64, "n_head": 1, "n_layer": 1}
    path = write_checkpoint(tmp_path / "model.safetensors", sizes)
    record = begin_record(parse_args(["--row", "2", "--weights", str(path)]))
    assert (record["row"], record["stands_in"]) == (2, True)
    assert (record["model"], record["weights"]) == ("checkpoint model.safetensors", sha256_of(path))


@pytest.mark.parametrize(
    ("flags", "weights", "precision"),
    [
        (["--row", "1"], CHECKPOINT_SHA256["124M"], "float32"),
        (["--row", "8"], CHECKPOINT_SHA256["1558M"], "float32"),
        (["--row", "10"], "random", "float32"),
        (["--precision", "bfloat16"], CHECKPOINT_SHA256["124M"], "bfloat16"),
        (["--baseline", "majority"], None, "float32"),
    ],
)
def test_a_record_tells_weights_data_precision_and_device(flags, weights, precision):
    record = begin_record(parse_args(flags))
    told = (record["weights"], record["data"], record["precision"])
    assert told == (weights, DATA_SHA256, precision)
    assert record["environment"]["device_type"] == "cpu"
    assert not record["prefix_reused"]


def test_a_record_of_a_baseline_names_it_and_has_no_row():
    record = begin_record(parse_args(["--baseline", "majority"]), CPU)
    assert (record["name"], record["model"]) == ("baseline majority", "majority")
    assert (record["row"], record["stands_in"]) == (None, False)
    assert record["settings"] == {"baseline": "majority"}


def test_a_record_tells_versions_and_whether_shortcuts_were_taken():
    names = {"torch", "numpy", "pandas", "tiktoken"}
    for flags in ([], ["--no_shortcuts"]):
        environment = begin_record(parse_args(flags), CPU)["environment"]
        assert {name: environment[name] for name in names} == {n: version(n) for n in names}
        assert environment["shortcuts"] == (not flags)
        assert environment["processes"] == 1
        more = {"python", "platform", "device", "device_type", "threads", "shortcuts", "git_commit"}
        assert environment.keys() == names | more | {"processes"}


def test_a_result_without_a_network_has_no_parameters_kernels_or_prefix():
    result = Result([], {}, None, None, [], [], {})
    assert (result.parameters, result.kernels, result.prefix_reused) == ((0, 0), "", False)


def digest(*flags, device=CPU):
    return begin_record(parse_args(flags), device)["digest"]


@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")])
def test_the_same_command_on_the_same_machine_is_the_same_run(flags):
    assert digest(*flags) == digest(*flags) == digest(*flags, "--device", "cpu")


def test_another_baseline_is_another_run():
    assert digest("--baseline", "majority") != digest("--baseline", "bag_of_words")


@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")])
def test_another_device_is_another_run(flags, monkeypatch):
    digests = {digest(*flags)}
    monkeypatch.setattr(results, "device_name", lambda _: "one")
    digests |= {digest(*flags), digest(*flags, device=torch.device("mps"))}
    monkeypatch.setattr(results, "device_name", lambda _: "another")
    assert len(digests | {digest(*flags)}) == 4


@pytest.mark.parametrize("name", ["source_digest", "list_versions"])
def test_other_code_or_versions_are_another_run(name, monkeypatch):
    before = digest()
    monkeypatch.setattr(identity, name, lambda: {"torch": "other"})
    assert digest() != before


def test_other_messages_are_another_run():
    settings = parse_args([])
    digests = {begin_record(settings, data=data)["digest"] for data in (DATA_SHA256, "other")}
    assert len(digests) == 2


def test_a_network_read_in_another_way_is_another_run(monkeypatch):
    before = digest()
    monkeypatch.setitem(MODEL_SIZES, SMALL, MODEL_SIZES[SMALL] | {"n_heads": 6})
    assert digest() != before


def test_every_flag_that_makes_a_run_and_its_seed_are_in_the_digest():
    settings = parse_args([])
    others = [
        replace(settings, seed=5),
        replace(settings, machine=replace(settings.machine, precision="bfloat16")),
        replace(settings, machine=replace(settings.machine, no_shortcuts=True)),
        replace(settings, training=replace(settings.training, max_steps=3)),
    ]
    digests = {begin_record(each)["digest"] for each in (settings, *others)}
    assert len(digests) == 5


def test_a_clock_notes_what_passed_or_what_it_is_told(monkeypatch):
    times = iter([10.0, 12.0, 15.0, 19.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock()
    clock.stop("load")
    clock.stop("prefix", seconds=0.5)
    clock.stop("train")
    assert clock.seconds == {"load": 2, "prefix": 0.5, "train": 4}
