"""The optimised implementation computes what the reference implementation does.

Logits, gradients and whole optimiser steps are compared in float64 at 1e-9.
"""

import itertools

import designs
import pytest
import torch
from designs import CHOICES, OPTIONS, classifier, covering

from experiments.shortcuts.model import OptimizedClassifier
from experiments.shortcuts.prefix import cache_frozen_prefix

DESIGNS = list(covering(CHOICES | OPTIONS))
ALL = [dict(zip(CHOICES, design, strict=True)) for design in itertools.product(*CHOICES.values())]


@pytest.mark.parametrize(
    ("design", "device"),
    [(design, "cpu") for design in DESIGNS]
    + [pytest.param(design, "cpu", marks=pytest.mark.by_hand) for design in ALL]
    + [pytest.param(design, "cuda", marks=pytest.mark.cuda) for design in covering(CHOICES)],
    ids=lambda each: f"{each['layers']}-{each['position']}" if isinstance(each, dict) else each,
)
@pytest.mark.usefixtures("float64")
def test_ten_steps_are_those_of_the_reference_implementation(design, device):
    device, training = torch.device(device), ("accumulation_steps", "max_grad_norm")
    how = {name: design[name] for name in training if name in design}
    choices = {name: choice for name, choice in design.items() if name not in how}
    plain, short = designs.both_paths(**choices, device=device)
    found = designs.trajectory(*short, **how, device=device)
    designs.assert_same(designs.trajectory(*plain, **how), found)


def test_the_designs_contain_every_pair_of_choices():
    for (a, of_a), (b, of_b) in itertools.combinations((CHOICES | OPTIONS).items(), 2):
        assert len({(str(d[a]), str(d[b])) for d in DESIGNS}) == len(of_a) * len(of_b)


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
    "name", ["tok_emb", "pos_emb", "trf_blocks.0", "trf_blocks.1", "trf_blocks.2", "final_norm"]
)
def test_a_layer_whose_output_is_cached_is_not_trained_and_has_no_dropout(name):
    layers = "last_layer" if name in ("trf_blocks.2", "final_norm") else "last_block"
    plain = classifier(layers)
    model = cache_frozen_prefix(plain, designs.datasets_of()).model
    next(plain.get_submodule(name).parameters()).requires_grad_(True)
    with pytest.raises(RuntimeError, match="frozen prefix"):
        model.train()
    plain.trf_blocks[-1].drop_resid.p = 0.1
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
