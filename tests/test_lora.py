"""LoRA: its formula, its initialisation, and PEFT's as the oracle."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_equal, randomise
from peft import LoraConfig, inject_adapter_in_model
from test_classifier import LINEARS, design_of, draw_batch, frozen_classifier, lora_layers
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


def with_lora(model, alternative=False):
    """A copy of the model with LoRA whose A and B are random."""
    model = deepcopy(model)
    torch.manual_seed(1)
    replace_linear_with_lora(model, RANK, SCALING, alternative)
    for lora in lora_layers(model).values():
        randomise(lora)
    return model


@BOTH
@pytest.mark.usefixtures("float64")
def test_lora_equals_the_one_of_peft(alternative, model):
    config = LoraConfig(r=RANK, lora_alpha=SCALING * RANK, target_modules=LINEARS)
    oracle = inject_adapter_in_model(config, deepcopy(model))
    model, batch = with_lora(model, alternative), draw_batch()
    with torch.no_grad():
        for name, lora in lora_layers(model).items():
            peft_layer = oracle.get_submodule(name)
            peft_layer.lora_A["default"].weight.copy_(lora.A.T)
            peft_layer.lora_B["default"].weight.copy_(lora.B.T)
    assert_equal(model(*batch), oracle(*batch))


@pytest.mark.usefixtures("float64")
def test_merged_lora_has_the_logits_and_gradients_of_the_other(small_config):
    model, batch = frozen_classifier(small_config), draw_batch()
    separate, merged = with_lora(model), with_lora(model, alternative=True)
    assert type(separate.out_head) is LinearWithLoRA
    assert type(merged.out_head) is LinearWithLoRAMerged
    for one in (separate, merged):
        F.cross_entropy(one(*batch), torch.tensor([0, 1, 1, 0])).backward()
    assert_equal(merged(*batch), separate(*batch))
    gradients = [[p.grad for p in m.parameters() if p.requires_grad] for m in (merged, separate)]
    assert_equal(*gradients)


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
