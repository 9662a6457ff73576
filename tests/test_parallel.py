"""Several processes together make the run of one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from designs import CONFIG, classifier
from helpers import assert_equal
from safetensors.torch import load_file
from shared_runs import all_runs

from experiments.data.datasets import DistributedBatches
from experiments.system.distributed import world
from experiments.training.optimization import mean_cross_entropy
from experiments.training.parallel import (
    Autocast,
    _OwnExamples,
    gather_parameters,
    wrap_distributed,
)

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}tests"}


def torchrun(count, script, *arguments, more=()):
    """Start processes of one run, each with a thread."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}", *more]
    return subprocess.Popen(
        [*command, str(script), *map(str, arguments)], cwd=ROOT, env=os.environ | ENVIRONMENT,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(started, seconds=600):
    """Status, output and errors of processes at their end."""
    output, errors = started.communicate(timeout=seconds)
    return started.returncode, output, errors


# ---------------------------------------------------------------------------- in this process


def test_one_process_uses_the_model_and_the_values_themselves():
    x, parameter, model = torch.ones(3), torch.nn.Parameter(torch.ones(2)), classifier()
    assert (world.rank, world.size, world.is_main, world.is_launched) == (0, 1, True, False)
    assert (world.broadcast("value"), world.gather("value")) == ("value", ["value"])
    assert world.all_reduce_sum(x) is world.gather_rows(x, 3, x.device) is x
    world.sum_gradients([parameter])
    assert parameter.grad is None
    with world.main_first():
        world.broadcast_(x)
    assert wrap_distributed(model, 2, "replicate") is gather_parameters(model, 2) is model


class Numbers:
    """A data set of numbers; odd ones are of class 1."""

    labels = torch.arange(20) % 2

    def batch(self, indices):
        return torch.tensor(indices), torch.ones(len(indices)), self.labels[indices]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_each_example_of_a_pass_belongs_to_one_process(count, size, monkeypatch):
    order = torch.randperm(20).tolist()
    batches = [order[i : i + size] for i in range(0, 20, size)]
    found = [[] for _ in range(20)]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", str(count))
    for number in range(count):
        monkeypatch.setenv("RANK", str(number))
        for k, (inputs, _, own, labels) in enumerate(DistributedBatches(batches, Numbers())):
            assert sorted(labels.tolist()) == sorted(i % 2 for i in batches[k])
            assert labels[: len(own)].tolist() == [i % 2 for i in inputs[: len(own)].tolist()]
            for position, example in zip(own.tolist(), inputs.tolist(), strict=False):
                assert example == batches[k][position]
                found[size * k + position].append(number)
    assert found == [[m % count] for m in range(20)]


@pytest.mark.parametrize("in_step", [False, True])
def test_a_process_without_an_example_adds_nothing(in_step):
    model, calls = classifier(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    tokens, none = torch.zeros(1, 4, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    logits = _OwnExamples(model, 2, in_step)(tokens, torch.tensor([4]), none)
    assert logits.shape == (0, 2)
    mean_cross_entropy(logits, torch.tensor([1])).backward()
    assert len(calls) == in_step
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_autocast_multiplies_in_bfloat16_and_returns_float32():
    model, tokens = classifier("all"), torch.randint(CONFIG["vocab_size"], (2, 8))
    lengths = torch.tensor([8, 8])
    logits, exact = Autocast(model, torch.bfloat16)(tokens, lengths), model(tokens, lengths)
    assert logits.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits, model(tokens, lengths).float())
    assert 1e-4 < (logits - exact).abs().max() / exact.abs().max() < 0.1


# ------------------------------------------------------------------------------ in several ones


@pytest.mark.process
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.by_hand)])
def test_several_processes_make_the_run_of_one(count, tmp_path):
    file = tmp_path / "results"
    started = torchrun(count, ROOT / "tests/shared_runs.py", file, "replicate", "shard")
    alone = all_runs("replicate")
    status, _, errors = finish(started)
    assert status == 0, errors
    for parallel, results in torch.load(file).items():
        assert results.keys() == alone.keys()
        for name, expected in alone.items():
            for i, (x, y) in enumerate(zip(results[name], expected, strict=True)):
                assert (x.double() - y.double()).abs().max() < 1e-9, (parallel, *name, i)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    ("flags", "tolerance"),
    [
        ("--trainable_layers all", 1e-5),
        ("--trainable_layers lora --precision bfloat16", 1e-2),
        ("--no_shortcuts --precision bfloat16", 1e-2),
        ("--precision bfloat16", 1e-2),  # the processes divide the frozen prefix
    ],
)
def test_shards_are_saved_as_one_whole_file(flags, tolerance, tmp_path):
    files = [tmp_path / "alone.safetensors", tmp_path / "shards.safetensors"]
    flags = ["--demo", "--max_steps", "3", *flags.split(), "--save_model"]
    for count, file in enumerate(files, start=1):
        parallel = ["--parallel", "shard"] if count == 2 else []
        started = torchrun(count, "additional_experiments.py", *parallel, *flags, file)
        status, _, errors = finish(started)
        assert status == 0, errors
    tensors = [load_file(file) for file in files]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert_equal(tensors[1][name], tensor, tolerance)
    assert not list(tmp_path.glob(".*"))
