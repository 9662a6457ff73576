"""Each layer by itself: attention by products or fused, LoRA's products, and bfloat16."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_equal, randomise
from test_shortcuts import CONFIG, classifier, datasets_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.data.datasets import Splits
from experiments.model.lora import LinearWithLoRA
from experiments.shortcuts import prefix as module
from experiments.shortcuts.casts import with_cast_weights
from experiments.shortcuts.layers import SHORT, apply_linear, attend, run_block
from experiments.shortcuts.model import ShortcutClassifier
from experiments.shortcuts.needed import distinct_messages
from experiments.shortcuts.switch import take_shortcuts
from previous_chapters import TransformerBlock

pytestmark = pytest.mark.usefixtures("one_thread")

BF16 = torch.bfloat16


class Seen(TorchDispatchMode):
    """Notes the operations that are run, and the data types of what they take."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        self.calls.append((operation.overloadpacket.__name__, [x.dtype for x in tensors], tensors))
        return operation(*args, **(kwargs or {}))

    def dtypes_of(self, *names):
        return {dtype for name, dtypes, _ in self.calls if name in names for dtype in dtypes}


def with_gradients(function, *inputs):
    """What a function gives, and the gradients of a sum that weighs each number otherwise."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    found = function(*inputs)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
    (weights * found).sum().backward()
    return [found.detach(), *(x.grad for x in inputs)]


# -------------------------------------------------------------------------------------- attention


@pytest.mark.parametrize("T", [1, 5, SHORT, SHORT + 1])
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.usefixtures("float64")
def test_attention_is_pytorchs_whatever_the_length(T, is_causal):
    inputs = torch.randn(3, 2, 2, T, 8).unbind()
    found = with_gradients(lambda q, k, v: attend(q, k, v, is_causal), *inputs)
    expected = with_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=is_causal), *inputs
    )
    assert_equal(found, expected)


@pytest.mark.parametrize(("T", "is_fused"), [(SHORT, False), (SHORT + 1, True)])
def test_attention_is_fused_from_where_that_is_faster(T, is_fused):
    with Seen() as seen:
        attend(*torch.randn(3, 1, 1, T, 8).unbind(), True)
    assert any("attention" in name for name, *_ in seen.calls) == is_fused


def test_the_softmax_of_attention_has_float32_whatever_the_products_have():
    with Seen() as seen:
        gathered = attend(*torch.randn(3, 1, 2, 9, 8, dtype=BF16).unbind(), True)
    assert seen.dtypes_of("_softmax") == {torch.float32}
    assert gathered.dtype == BF16


# ------------------------------------------------------------------------------------------- LoRA


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


def test_an_input_that_wants_no_gradient_costs_no_product():
    layer = LinearWithLoRA(nn.Linear(6, 5).requires_grad_(False), rank=2, alpha=1.5)
    x, counts = torch.randn(4, 6), []
    for wants in (True, False):
        with Seen() as seen:
            apply_linear(layer, x.detach().requires_grad_(wants)).sum().backward()
        counts.append(sum(name in ("mm", "addmm", "addmm_") for name, *_ in seen.calls))
    assert counts == [8, 6]


# --------------------------------------------------------------------------------------- bfloat16


def block_of(layers="all"):
    model = classifier(layers, "last")
    return model.trf_blocks[0]


@pytest.mark.parametrize("layers", ["all", "lora", "last_layer"])
def test_a_block_in_bfloat16_is_near_that_in_float32(layers):
    block, x = block_of(layers), torch.randn(2, 7, CONFIG["emb_dim"])
    exact, rounded = (
        with_gradients(lambda x, dtype=dtype: run_block(block, x, dtype), x)
        for dtype in (None, BF16)
    )
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        assert 1e-5 < (one - other).norm() / one.norm() < 2e-2


@pytest.mark.parametrize("layers", ["all", "lora"])
def test_only_products_have_bfloat16(layers):
    block, x = block_of(layers), torch.randn(2, 7, CONFIG["emb_dim"])
    with Seen() as seen:
        run_block(block, x, BF16)
    assert seen.dtypes_of("mm", "addmm", "addmm_", "bmm") == {BF16}
    assert seen.dtypes_of("native_layer_norm", "_softmax") == {torch.float32}


def test_trained_weights_have_gradients_in_float32():
    block = block_of("all")
    run_block(block, torch.randn(2, 7, CONFIG["emb_dim"]), BF16).sum().backward()
    assert {p.grad.dtype for p in block.parameters()} == {torch.float32}


def test_frozen_weights_are_cast_once_and_the_plain_model_stays():
    plain = classifier("lora", "last")
    before = deepcopy(plain.state_dict())
    short = ShortcutClassifier(plain, depth=None, dtype=BF16)
    frozen = [b.ff.layers[0].linear.weight for b in short.trf_blocks]
    assert [weight.dtype for weight in frozen] == [BF16, BF16, torch.float32]  # the last: one query
    trained = {name: p for name, p in plain.named_parameters() if p.requires_grad}
    assert all(dict(short.named_parameters())[name] is p for name, p in trained.items())
    tokens = datasets_of().train.tokens[:4]
    with Seen() as seen:
        short(tokens, torch.full((4,), tokens.shape[1])).sum().backward()
    cast = [tensors[0] for name, _, tensors in seen.calls if name == "_to_copy"]
    assert not [x for x in cast for p in short.parameters() if x is p and not p.requires_grad]
    assert_equal(plain.state_dict(), before, tolerance=0)


def test_a_last_block_of_which_every_position_counts_is_cast_too():
    short = ShortcutClassifier(classifier("lora", "last", True), depth=None, dtype=BF16)
    assert short.trf_blocks[-1].att.W_key.linear.weight.dtype == BF16


def test_trained_blocks_are_shared_and_frozen_ones_are_as_their_casts():
    blocks = nn.Sequential(*(TransformerBlock(CONFIG) for _ in range(2)))
    blocks[0].requires_grad_(False)
    cast = with_cast_weights(blocks, BF16, 2)
    assert cast[0].ff.layers[0].weight.dtype == BF16
    assert torch.equal(cast[0].ff.layers[0].weight, blocks[0].ff.layers[0].weight.to(BF16))
    assert not any(p.requires_grad for p in cast[0].parameters())
    assert cast[0].norm1.scale is blocks[0].norm1.scale
    assert cast[0].att.mask is blocks[0].att.mask
    assert all(map(torch.Tensor.is_set_to, cast[1].parameters(), blocks[1].parameters()))
    assert blocks[0].ff.layers[0].weight.dtype == torch.float32


@pytest.mark.parametrize("place", ["memory", "cache", "file"])
def test_hidden_states_of_bfloat16_take_half_the_memory(place, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if place == "file":
        monkeypatch.setattr(module, "MEMORY_SHARE", 0)
    cache = tmp_path / "cache" if place == "cache" else None
    datasets = datasets_of()
    lengths = Splits(*(dataset.lengths for dataset in datasets))
    messages, _ = distinct_messages(lengths, datasets)
    found = []
    for dtype in (None, BF16, BF16):
        short = ShortcutClassifier(classifier("last_block", "flexible"), 2, dtype=dtype)
        found.append(module.compute_hidden_states(short, messages, 2, cache, str(dtype)))
    exact, rounded, again = found
    assert rounded.values.dtype == BF16
    assert 2 * rounded.values.nbytes == exact.values.nbytes
    assert torch.equal(rounded.values, again.values)
    assert again.is_reused == (place == "cache")
    assert 1e-5 < (rounded.values - exact.values).norm() / exact.values.norm() < 2e-2


@pytest.mark.parametrize("layers", ["last_layer", "last_block", "last_two_blocks", "all", "lora"])
@pytest.mark.parametrize("average", [False, True], ids=["", "average"])
def test_logits_in_bfloat16_are_near_those_in_float32(layers, average):
    found = []
    for dtype in (None, BF16):
        taken = take_shortcuts(classifier(layers, "last", average), datasets_of(), dtype=dtype)
        *inputs, _ = taken.datasets.train.batch([0, 3, 5])
        found.append(taken.model(*inputs))
        assert found[-1].dtype == torch.float32
    assert 1e-6 < (found[0] - found[1]).abs().max() < 0.1 * found[0].abs().max()
