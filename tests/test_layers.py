"""Each layer by itself: attention, LoRA's products, an embedding's gradient, and bfloat16."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from designs import CONFIG, classifier, datasets_of
from helpers import assert_equal, randomise
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.model.lora import LinearWithLoRA
from experiments.shortcuts import layers as module
from experiments.shortcuts.layers import MAX_PLAIN_ATTENTION, OptimizedBlock, apply_linear, attend
from experiments.shortcuts.model import OptimizedClassifier
from experiments.shortcuts.prefix import cache_frozen_prefix

BF16 = torch.bfloat16


class Seen(TorchDispatchMode):
    """Records the operations that are run, and their operands."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.calls.append((operation.overloadpacket.__name__, args))
        return operation(*args, **(kwargs or {}))

    def operands_of(self, *names):
        operands = [x for name, args in self.calls if name in names for x in args]
        return [x for x in operands if isinstance(x, torch.Tensor)]


def with_gradients(function, *inputs):
    """A function's result, and the gradients of a sum in which each number has its own weight."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    found = function(*inputs)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
    (weights * found).sum().backward()
    return [found.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize("T", [1, 5, MAX_PLAIN_ATTENTION, MAX_PLAIN_ATTENTION + 1])
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.usefixtures("float64")
def test_attention_is_pytorchs_and_fused_where_that_is_faster(T, is_causal):
    inputs = torch.randn(3, 2, 2, T, 8).unbind()
    with Seen() as seen:
        found = with_gradients(lambda q, k, v: attend(q, k, v, is_causal), *inputs)
    expected = with_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=is_causal), *inputs
    )
    assert_equal(found, expected)
    assert any("attention" in name for name, _ in seen.calls) == (T > MAX_PLAIN_ATTENTION)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("is_frozen", [True, False])
@pytest.mark.usefixtures("float64")
def test_loras_products_have_the_gradients_of_the_layer(bias, is_frozen):
    layer = randomise(LinearWithLoRA(nn.Linear(6, 5, bias=bias), rank=2, alpha=1.5))
    layer.linear.requires_grad_(not is_frozen)
    found = []
    for function in (layer, lambda x: apply_linear(layer, x)):
        layer.zero_grad()
        found.append(with_gradients(function, torch.linspace(-1, 1, 24).view(2, 2, 6)))
        found[-1] += [p.grad for p in layer.parameters()]
    assert_equal(*found)


def test_an_input_without_gradient_costs_no_product():
    layer, counts = LinearWithLoRA(nn.Linear(6, 5).requires_grad_(False), rank=2, alpha=1.5), []
    for needs_gradient in (True, False):
        with Seen() as seen:
            apply_linear(layer, torch.randn(4, 6, requires_grad=needs_gradient)).sum().backward()
        counts.append(sum("mm" in name for name, _ in seen.calls))
    assert counts == [8, 6]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_reused_gradient_is_the_plain_one_step_after_step(set_to_none):
    plain, short = (nn.Parameter(torch.randn(9, 4)) for _ in range(2))
    gradient, buffers = module.ReusedGradient(short), set()
    for tokens in torch.tensor([[[1, 2], [2, 2]], [[3, 1], [8, 0]], [[2, 7], [7, 7]]]):
        factor = torch.randn(2, 2, 4)
        for _ in range(2):  # accumulated
            (factor * F.embedding(tokens, plain)).sum().backward()
            (factor * gradient.look_up(tokens)).sum().backward()
        assert_equal(short.grad, plain.grad, tolerance=1e-6)
        buffers.add(short.grad.data_ptr())
        for parameter in (plain, short):
            parameter.grad = None if set_to_none else parameter.grad.zero_()
    assert len(buffers) == 1


# --------------------------------------------------------------------------------------- bfloat16


@pytest.mark.parametrize("layers", ["all", "lora", "last_layer"])
def test_only_products_are_in_bfloat16_and_results_are_close_to_those_in_float32(layers):
    plain, x = classifier(layers).trf_blocks[0], torch.randn(2, 7, CONFIG["emb_dim"])
    block, (y, gradient) = OptimizedBlock(plain, BF16), with_gradients(OptimizedBlock(plain), x)
    assert (BF16 in {p.dtype for p in block.parameters()}) == (layers != "all")
    with Seen() as seen:
        rounded = block(x.requires_grad_())
    assert {x.dtype for x in seen.operands_of("mm", "addmm", "addmm_", "bmm")} == {BF16}
    assert {x.dtype for x in seen.operands_of("native_layer_norm", "_softmax")} == {torch.float32}
    for found, exact in zip(with_gradients(block, x), (y, gradient), strict=True):
        assert found.dtype == torch.float32
        assert 1e-5 < (found - exact).norm() / exact.norm() < 2e-2
    rounded.sum().backward()
    assert {p.grad.dtype for p in block.parameters() if p.requires_grad} <= {torch.float32}


@pytest.mark.parametrize("cast_once", [True, False])
@pytest.mark.parametrize("average", [True, False])
def test_frozen_weights_are_cast_once_and_all_other_tensors_are_shared(cast_once, average):
    plain = classifier("lora", average=average)
    before, options = deepcopy(plain.state_dict()), {} if cast_once else {"cast_once": False}
    short = cache_frozen_prefix(plain, datasets_of(), dtype=BF16, **options).model
    is_cast = [True, True, average]  # the last block computes one query, in float32
    for block, own, is_stored in zip(plain.trf_blocks, short.trf_blocks, is_cast, strict=True):
        weight, cast = block.ff.layers[0].linear.weight, own.ff.layers[0].linear.weight
        assert (cast is weight) != (is_stored and cast_once)
        assert torch.equal(cast, weight.to(BF16 if is_stored and cast_once else torch.float32))
        assert not cast.requires_grad
        assert own.norm1.scale is block.norm1.scale
        assert own.att.mask is block.att.mask
    trained = {name: p for name, p in plain.named_parameters() if p.requires_grad}
    assert all(short.get_parameter(name) is p for name, p in trained.items())
    tokens = datasets_of().train.tokens[:4]
    with Seen() as seen:
        short(tokens, torch.full((4,), tokens.shape[1])).sum().backward()
    frozen = {id(p) for p in short.parameters() if not p.requires_grad}
    assert cast_once == frozen.isdisjoint(map(id, seen.operands_of("_to_copy")))
    assert_equal(plain.state_dict(), before, tolerance=0)
    alone = OptimizedClassifier(plain, dtype=BF16, **options)
    assert (BF16 in {p.dtype for p in alone.parameters()}) == cast_once
