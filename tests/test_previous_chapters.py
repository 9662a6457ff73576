"""The GPT of the book: equal to PyTorch's layers and transformers' GPT-2, filled by copies."""

from functools import reduce
from operator import getitem

import pytest
import torch
from checkpoints import write_checkpoint
from helpers import assert_equal, randomise
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from experiments.checkpoints.weights import load_gpt2_checkpoint
from previous_chapters import GPTModel, MultiHeadAttention, load_weights_into_gpt

NORMS = ("norm1", "norm2")
LINEARS = ["att.W_query", "att.W_key", "att.W_value", "att.out_proj", "ff.layers.0", "ff.layers.2"]


def draw_tokens(cfg):
    return torch.randint(cfg["vocab_size"], (3, cfg["context_length"]))


@pytest.fixture
def params(tmp_path):
    """Weights that fit the small configuration, in the book's layout."""
    sizes = {"n_vocab": 97, "n_ctx": 24, "n_embd": 128, "n_layer": 3}
    params = load_gpt2_checkpoint(write_checkpoint(tmp_path / "small.safetensors", sizes))[1]
    return params | {"blocks": list(params["blocks"])}


# ------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("disable_causal_mask", [True, False])
@pytest.mark.usefixtures("float64")
def test_attention_equals_the_one_of_torch(disable_causal_mask, qkv_bias):
    C, T, H = 48, 7, 3
    attention = randomise(MultiHeadAttention(C, C, T + 2, 0.0, H, qkv_bias, disable_causal_mask))
    thirds = [attention.W_query, attention.W_key, attention.W_value]
    oracle = nn.MultiheadAttention(C, H, batch_first=True)
    oracle.out_proj = attention.out_proj
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([linear.weight for linear in thirds]))
        if qkv_bias:
            oracle.in_proj_bias.copy_(torch.cat([linear.bias for linear in thirds]))
    x = torch.randn(2, T, C)
    mask = None if disable_causal_mask else torch.ones(T, T, dtype=torch.bool).triu(1)
    assert_equal(attention(x), oracle(x, x, x, attn_mask=mask)[0])


# -------------------------------------------------------------------------------- model


@pytest.mark.parametrize("drop_rate", [0.0, 0.1])  # the dropouts draw in the same order too
@pytest.mark.usefixtures("float64")
def test_a_gpt_with_loaded_weights_equals_the_one_of_transformers(
    drop_rate, small_config, tmp_path
):
    cfg = small_config | {"drop_rate": drop_rate}
    sizes = {"vocab_size": 97, "n_positions": 24, "n_embd": 128, "n_head": 2, "n_layer": 3}
    dropout = dict.fromkeys(["embd_pdrop", "attn_pdrop", "resid_pdrop"], drop_rate)
    more = {"bos_token_id": 0, "eos_token_id": 0, "attn_implementation": "eager"}
    oracle = GPT2LMHeadModel(GPT2Config(**sizes, **dropout, **more))
    randomise(oracle.float()).save_pretrained(tmp_path)
    gpt = GPTModel(cfg)
    load_weights_into_gpt(gpt, load_gpt2_checkpoint(tmp_path / "model.safetensors")[1])
    tokens = draw_tokens(cfg)
    torch.manual_seed(1)
    expected = oracle.double().train()(tokens).logits
    torch.manual_seed(1)
    assert_equal(gpt.double()(tokens), expected)


@pytest.mark.parametrize("disable_causal_mask", [True, False])
def test_a_new_gpt_draws_its_layers_in_order_under_the_names_of_the_book(
    disable_causal_mask, small_config
):
    V, T, C = (small_config[name] for name in ("vocab_size", "context_length", "emb_dim"))
    torch.manual_seed(123)
    expected, names = {"tok_emb": nn.Embedding(V, C), "pos_emb": nn.Embedding(T, C)}, set()
    for block in ("trf_blocks.0", "trf_blocks.1", "trf_blocks.2"):
        for name in LINEARS:
            widths = {"ff.layers.0": (C, 4 * C), "ff.layers.2": (4 * C, C)}.get(name, (C, C))
            expected[f"{block}.{name}"] = nn.Linear(*widths)
        names |= {f"{block}.{norm}.{part}" for norm in NORMS for part in ("scale", "shift")}
        names |= set() if disable_causal_mask else {f"{block}.att.mask"}
    expected["out_head"] = nn.Linear(C, V, bias=False)
    torch.manual_seed(123)
    gpt = GPTModel(small_config, disable_causal_mask)
    for name, layer in expected.items():
        assert_equal(gpt.get_submodule(name).state_dict(), layer.state_dict(), tolerance=0)
        names |= {f"{name}.{part}" for part in layer.state_dict()}
    state = gpt.state_dict()
    assert set(state) == names | {"final_norm.scale", "final_norm.shift"}
    gpt.load_state_dict({name: values.float() for name, values in state.items()})  # its masks too
    assert_equal(gpt.state_dict(), state, tolerance=0)


def test_a_sequence_longer_than_the_context_is_refused(small_config):
    with pytest.raises(ValueError, match="context is 24 tokens, got 25"):
        GPTModel(small_config)(torch.zeros(1, 25, dtype=torch.long))


# ------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("disable_causal_mask", [True, False])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_are_copied_and_what_is_frozen_stays_frozen(
    device, disable_causal_mask, small_config, params
):
    other = GPTModel(small_config, disable_causal_mask)
    with torch.device(device):
        gpt = GPTModel(small_config, disable_causal_mask).requires_grad_(False)
    gpt.trf_blocks[-1].requires_grad_(True)
    before = dict(gpt.named_parameters())
    load_weights_into_gpt(gpt, params)
    for name, values in gpt.named_parameters():
        assert values.requires_grad == before[name].requires_grad
        assert (values is before[name]) == (device == "cpu")
    original = {name: values.clone() for name, values in gpt.state_dict().items()}
    for name, values in gpt.state_dict().items():
        assert torch.equal(values, original[name]), f"{name} shares memory with another"
        values.zero_()
    load_weights_into_gpt(other, params)
    found = other.state_dict()
    assert found.keys() == original.keys()
    assert all(torch.equal(values, original[name]) for name, values in found.items())


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"n_layers": 2}, None, "model has 2 blocks, the weights have 3"),
        ({"qkv_bias": False}, None, r"Linear.bias has shape None in the model, \(128,\)"),
        ({}, "wte", r"Embedding.weight has shape \(97, 128\) in the model, \(96, 128\)"),
        ({}, "blocks.1.ln_2.b", r"LayerNorm.shift has shape \(128,\) in the model, \(127,\)"),
        ({}, "blocks.1.attn.c_attn.w", r"Linear.weight has shape .* \(128, 127\)"),
        ({}, "blocks.1.attn.c_attn.b", "c_attn has width 383, expected 384"),
        ({}, "blocks.1.mlp.c_fc.w", r"Linear.weight has shape .* \(512, 127\)"),
    ],
)
def test_arrays_of_another_network_are_refused(changes, path, message, small_config, params):
    if path:
        *way, last = [int(name) if name.isdigit() else name for name in path.split(".")]
        place = reduce(getitem, way, params)
        place[last] = place[last][:-1]
    with pytest.raises(ValueError, match=message):
        load_weights_into_gpt(GPTModel(small_config | changes), params)
