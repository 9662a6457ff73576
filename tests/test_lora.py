"""LoRA: its formula, its initialisation, and PEFT's as the oracle."""

from copy import deepcopy

import pytest
import torch
from helpers import assert_equal, randomise
from peft import LoraConfig, inject_adapter_in_model
from test_classifier import LINEARS, design_of, draw_batch, lora_layers
from torch import nn

from experiments.model.classifier import GPTClassifier
from experiments.model.lora import (
    LinearWithLoRA,
    LinearWithLoRAMerged,
    replace_linear_with_lora,
)

RANK, SCALING = 4, 3.0
BOTH = pytest.mark.parametrize("alternative", [False, True])


@pytest.fixture
def model(small_config):
    return randomise(GPTClassifier(design_of(small_config)))


@BOTH
@pytest.mark.usefixtures("float64")
def test_logits_and_gradients_are_those_of_peft_separate_or_merged(alternative, model):
    config = LoraConfig(r=RANK, lora_alpha=SCALING * RANK, target_modules=LINEARS)
    oracle, batch = inject_adapter_in_model(config, deepcopy(model)), draw_batch()
    replace_linear_with_lora(model.requires_grad_(False), RANK, SCALING, alternative)
    kind = LinearWithLoRAMerged if alternative else LinearWithLoRA
    assert {name for name, m in model.named_modules() if type(m) is kind} == {*LINEARS}
    pairs = []
    for name, lora in lora_layers(model).items():
        randomise(lora)
        peft_layer = oracle.get_submodule(name)
        for ours, theirs in ((lora.A, peft_layer.lora_A), (lora.B, peft_layer.lora_B)):
            theirs["default"].weight.data.copy_(ours.T)
            pairs.append((ours, theirs["default"].weight))
    logits = model(*batch), oracle(*batch)
    assert_equal(*logits)
    for each in logits:
        each.square().sum().backward()
    for ours, theirs in pairs:
        assert_equal(ours.grad.T, theirs.grad, tolerance=1e-9 * theirs.grad.norm())


@BOTH
@pytest.mark.usefixtures("float64")
def test_a_new_lora_does_not_change_the_logits_and_the_b_of_each_layer_does(alternative, model):
    batch = draw_batch()
    expected = model(*batch)
    replace_linear_with_lora(model, RANK, SCALING, alternative)
    assert torch.equal(model(*batch), expected)
    for name, lora in lora_layers(model).items():
        nn.init.normal_(lora.B, std=0.2)
        assert (model(*batch) - expected).abs().max() > 1e-6, name
        nn.init.zeros_(lora.B)
