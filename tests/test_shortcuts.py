"""The optimised implementation computes what the reference implementation does.

Logits, gradients and whole optimiser steps are compared in float64 at 1e-9.
"""

import itertools
from copy import deepcopy

import designs
import pytest
import torch
from designs import CHOICES, OPTIONS, assert_same, both_paths, classifier, covering

from experiments.data.datasets import create_loaders
from experiments.shortcuts.model import OptimizedClassifier
from experiments.shortcuts.prefix import cache_frozen_prefix

DESIGNS = list(covering(CHOICES | OPTIONS))


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: f"{d['layers']}-{d['position']}")
@pytest.mark.usefixtures("float64")
def test_ten_steps_are_those_of_the_reference_implementation(design):
    how = {name: design[name] for name in ("accumulation_steps", "max_grad_norm")}
    plain, short = both_paths(**{name: design[name] for name in design if name not in how})
    assert_same(designs.trajectory(*plain, **how), designs.trajectory(*short, **how))


@pytest.mark.by_hand
@pytest.mark.parametrize("design", list(itertools.product(*CHOICES.values())), ids=str)
@pytest.mark.usefixtures("float64")
def test_ten_steps_of_any_design_are_those_of_the_reference_implementation(design):
    *choices, no_padding = design
    paths = both_paths(*choices, no_padding=no_padding)
    assert_same(*(designs.trajectory(*path) for path in paths))


def test_the_designs_contain_every_pair_of_choices():
    for (a, of_a), (b, of_b) in itertools.combinations((CHOICES | OPTIONS).items(), 2):
        assert len({(str(d[a]), str(d[b])) for d in DESIGNS}) == len(of_a) * len(of_b)


@pytest.mark.cuda
@pytest.mark.parametrize("design", list(covering(CHOICES)), ids=str)
@pytest.mark.usefixtures("float64")
def test_ten_steps_on_cuda_are_those_of_the_cpu(design):
    *choices, no_padding = design.values()
    cuda, size = torch.device("cuda"), 1 if no_padding else 4
    plain, loaders = both_paths(*choices, no_padding=no_padding)[0]
    short = cache_frozen_prefix(deepcopy(plain).to(cuda), designs.datasets_of(no_padding))
    found = designs.trajectory(short.model, create_loaders(short.datasets, size), device=cuda)
    assert_same(designs.trajectory(plain, loaders), found)


@pytest.mark.parametrize("layers", designs.LAYERS)
def test_training_starts_from_the_output_of_what_is_frozen_and_shares_all_parameters(layers):
    plain = classifier(layers)
    model, *_, seconds, is_reused = cache_frozen_prefix(plain, designs.datasets_of())
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [id(p) for p in model.parameters()] == [id(p) for p in plain.parameters()]
    first = {"last_layer": 3, "last_block": 2, "last_two_blocks": 1}.get(layers, 0)
    assert model.is_pooled == (layers == "last_layer")
    prefix = [model.tok_emb, model.pos_emb, *model.trf_blocks[:first]] if first else []
    assert model.frozen_prefix == prefix + [model.final_norm] * model.is_pooled
    assert ((seconds > 0), is_reused) == (first > 0, False)
    assert model.eval() is model.train() is model
    assert model.training


@pytest.mark.parametrize(
    ("layers", "name"),
    [("last_block", "tok_emb"), ("last_block", "pos_emb"), ("last_block", "trf_blocks.0"),
     ("last_block", "trf_blocks.1"), ("last_layer", "trf_blocks.2"), ("last_layer", "final_norm")],
)  # fmt: skip
def test_a_layer_whose_output_is_cached_is_not_trained(layers, name):
    plain = classifier(layers)
    model = cache_frozen_prefix(plain, designs.datasets_of()).model
    next(plain.get_submodule(name).parameters()).requires_grad_(True)
    with pytest.raises(RuntimeError, match="frozen prefix"):
        model.train()


def test_a_model_with_dropout_is_refused():
    plain = classifier(config=designs.CONFIG | {"drop_rate": 0.1})
    with pytest.raises(ValueError, match="drop_rate 0"):
        cache_frozen_prefix(plain, designs.datasets_of())


def test_the_gradient_of_an_embedding_is_reused_by_a_single_process_only(monkeypatch):
    for size, layers in (("1", "all"), ("1", "lora"), ("2", "all")):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
        monkeypatch.setenv("WORLD_SIZE", size)
        model = OptimizedClassifier(classifier(layers))
        model(designs.datasets_of().train.tokens[:2], torch.tensor([2, 2])).sum().backward()
        buffer = model.gradient and model.gradient.buffer
        assert (model.tok_emb.weight.grad is None) == (layers == "lora")
        assert (buffer is None) == ((size, layers) != ("1", "all"))
        assert buffer is None or buffer is model.tok_emb.weight.grad
