"""Activation checkpointing gives the same numbers for less memory."""

import itertools
from copy import deepcopy

import pytest
import torch
from helpers import assert_equal
from test_shortcuts import both_paths, trajectory

from experiments.config.flags import parse_args
from experiments.model.recomputing import RecomputedBlocks, recompute
from experiments.runs.experiment import run_experiment
from experiments.shortcuts import model as shortcut_model

pytestmark = pytest.mark.usefixtures("one_thread")


def recomputed(path):
    model, loaders = path
    model = deepcopy(model)
    model.trf_blocks = RecomputedBlocks(*model.trf_blocks)
    return model, loaders


def bytes_kept(model, inputs, lengths):
    """The bytes that the forward pass of a batch leaves behind, the model's own aside."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor keeps its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(inputs, lengths)
    for own in itertools.chain(model.parameters(), model.buffers()):
        kept.pop(own.untyped_storage().data_ptr(), None)
    assert logits.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("way", [0, 1], ids=["plain", "short"])
@pytest.mark.parametrize("average", [False, True], ids=["", "average"])
@pytest.mark.parametrize("layers", ["all", "last_two_blocks", "lora"])
def test_losses_and_gradients_are_those_of_kept_activations(layers, average, way):
    path = both_paths(layers, "last", average)[way]
    again = recomputed(path)
    expected, actual = (trajectory(*p, steps=3) for p in (path, again))
    for one, other in zip(expected, actual, strict=True):
        assert_equal(other, one, 1e-12)


@pytest.mark.parametrize("way", [0, 1], ids=["plain", "short"])
def test_less_is_kept_for_the_backward_pass(way):
    path = both_paths("all", "last", True)[way]
    inputs, lengths, _ = next(iter(path[1].train))
    less, more = (bytes_kept(model, inputs, lengths) for model, _ in (recomputed(path), path))
    assert less < more / 4


def test_the_parameters_keep_their_names_and_order():
    path = both_paths("lora", "last")[0]
    names = [name for name, _ in path[0].named_parameters()]
    assert [name for name, _ in recomputed(path)[0].named_parameters()] == names


def test_what_is_looked_at_without_gradients_is_computed_once():
    calls = []
    with torch.no_grad():
        recompute(lambda x: calls.append(1) or 2 * x, torch.ones(2, requires_grad=True))
    assert len(calls) == 1


@pytest.mark.parametrize("flags", [[], ["--no_shortcuts"]], ids=["short", "plain"])
def test_the_flag_reaches_every_block_that_is_trained(flags, monkeypatch):
    seen = []

    def counted(function, *inputs):
        seen.append(function)
        return recompute(function, *inputs)

    monkeypatch.setattr("experiments.model.recomputing.recompute", counted)
    monkeypatch.setattr(shortcut_model, "recompute", counted)
    flags = ["--demo", "--trainable_layers", "all", "--max_steps", "2", *flags]
    plain, again = (
        run_experiment(parse_args([*flags, *more])) for more in ([], ["--activation_checkpointing"])
    )
    assert len(set(seen)) >= 2
    assert_equal(*(torch.tensor(run.history.losses) for run in (again, plain)), 1e-6)
