"""config.json beside a checkpoint: honoured, ignored as it changes nothing, or refused by name."""

import json

import pytest
import torch
from checkpoints import write_checkpoint
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import SIZES, assert_same_function, network_of, oracle_of, refusal_of
from transformers import GPT2Config, GPT2Model

from experiments.checkpoints.config import COMPUTED
from experiments.checkpoints.weights import load_gpt2_checkpoint

SMALLEST = {"n_vocab": 3, "n_ctx": 2, "n_embd": 64, "n_head": 1, "n_layer": 1}


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("named", ["", "model.safetensors"])
@pytest.mark.usefixtures("float64")
def test_heads_are_those_of_config_json(heads, named, tmp_path):
    oracle = oracle_of(n_head=heads)
    oracle.save_pretrained(tmp_path)
    assert load_gpt2_checkpoint(tmp_path)[0]["n_head"] == heads
    assert network_of(tmp_path / named).checkpoint_note == ""
    assert_same_function(oracle, tmp_path / named)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("activation_function", "relu"),
        ("activation_function", "gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("add_cross_attention", True),
        ("n_inner", 128),
    ],
)
def test_a_setting_of_another_function_is_refused_by_name_and_value(name, value, tmp_path):
    oracle_of(**{name: value}).save_pretrained(tmp_path)
    assert f"config.json: {name} is {json.dumps(value)}, which the book's GPT cannot" in str(
        refusal_of(tmp_path)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "gpt_neo"),
        ("activation_function", None),
        ("scale_attn_weights", "true"),
        ("per_layer_config", {"0": {"n_inner": 256}}),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 4}),
        ("auto_map", {"AutoModel": "own.Model"}),
    ],
)
def test_a_setting_beyond_gpt2s_own_is_refused_by_name_and_value(name, value, tmp_path):
    oracle_of().save_pretrained(tmp_path)
    edit_config(tmp_path, **{name: value})
    assert f"config.json: {name} is {json.dumps(value)}, which" in str(refusal_of(tmp_path))


@pytest.mark.parametrize(
    "harmless",
    [
        {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
        {"use_cache": False, "dtype": "bfloat16", "pad_token_id": 3, "initializer_range": 1.0},
        {"reorder_and_upcast_attn": True, "n_inner": 256, "tie_word_embeddings": False},
        {"id2label": {"0": "ham", "1": "spam", "2": "?"}, "summary_type": "mean", "of_mine": [1]},
        {"scale_attn_weights": 1, "layer_norm_epsilon": 0.00001},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.usefixtures("float64")
def test_a_setting_that_changes_nothing_is_ignored(harmless, tmp_path):
    oracle = oracle_of()
    oracle.save_pretrained(tmp_path)
    edit_config(tmp_path, **harmless)
    assert_same_function(oracle, tmp_path)


@pytest.mark.parametrize("name", COMPUTED["activation_function"])
@pytest.mark.usefixtures("float64")
def test_each_name_of_the_tanh_approximation_is_that(name, tmp_path):
    oracle = oracle_of(activation_function=name)
    oracle.save_pretrained(tmp_path)
    assert_same_function(oracle, tmp_path)


@pytest.mark.parametrize("name", ["vocab_size", "n_positions", "n_embd", "n_layer"])
def test_a_size_that_contradicts_the_tensors_is_named(name, tmp_path):
    oracle_of().save_pretrained(tmp_path)
    edit_config(tmp_path, **{name: 96})
    assert f"{name} is 96, but the tensors have {SIZES[name]}" in str(refusal_of(tmp_path))


@pytest.mark.parametrize("heads", [0, -2, 3, 2.0, True, None, "2", 2**70])
def test_heads_that_cannot_be_are_refused(heads, tmp_path):
    oracle_of().save_pretrained(tmp_path)
    edit_config(tmp_path, n_head=heads)
    assert f"n_head is {json.dumps(heads)}, expected a divisor of the width 64" in str(
        refusal_of(tmp_path)
    )


@pytest.mark.parametrize(
    "names",
    [
        {"num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2},
        {"n_heads": 4, "emb_dim": 64, "n_layers": 2, "context_length": 24, "qkv_bias": True},
    ],
    ids=["transformers", "book"],
)
@pytest.mark.usefixtures("float64")
def test_settings_are_known_by_their_other_names(names, tmp_path):
    oracle = oracle_of(n_head=4)
    oracle.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(names))
    assert_same_function(oracle, tmp_path)


def test_a_setting_told_in_two_ways_is_refused(tmp_path):
    oracle_of().save_pretrained(tmp_path)
    edit_config(tmp_path, num_attention_heads=4)
    assert "n_head is 1 and 4" in str(refusal_of(tmp_path))


@pytest.mark.usefixtures("float64")
def test_without_n_head_transformers_default_holds(tmp_path):
    oracle_of(n_embd=192, n_head=3).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["n_head"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    oracle = GPT2Model.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert_same_function(oracle, tmp_path)
    assert load_gpt2_checkpoint(tmp_path)[0]["n_head"] == 12


def test_without_n_head_a_width_that_the_default_does_not_divide_is_refused(tmp_path):
    oracle_of().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "n_head is 12, transformers' default, expected a divisor" in str(refusal_of(tmp_path))


def test_without_a_config_json_the_assumed_heads_are_told(tmp_path):
    path = write_checkpoint(tmp_path / "some.safetensors", SMALLEST)
    note = "no config.json lies beside it, heads are assumed 64 wide"
    assert network_of(path).checkpoint_note == note


# ---------------------------------------------------------------------------------- mutations

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
settings = st.sampled_from(list(GPT2Config().to_dict())) | st.text()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with a checkpoint, and a config.json to be written over."""
    return write_checkpoint(tmp_path_factory.mktemp("mutations") / "a.safetensors", SMALLEST).parent


def is_read_or_refused(folder):
    """Whether heads fit the width, or one sentence names the file at fault."""
    try:
        sizes, _ = load_gpt2_checkpoint(folder)
    except ValueError as error:
        return str(error).startswith(str(folder)) and "\n" not in str(error)
    return sizes["n_embd"] % sizes["n_head"] == 0


@given(changes=st.dictionaries(settings, anything, max_size=4))
@example(changes={"n_head": 2, "n_embd": 64})
@example(changes={"n_inner": float("nan")})
def test_any_settings_are_read_or_refused(changes, folder):
    (folder / "config.json").write_text(json.dumps({"n_head": 1} | changes))
    assert is_read_or_refused(folder)


@given(content=anything.map(json.dumps).map(str.encode) | st.binary())
@example(content=b"[" * 100_000)
@example(content=b"9" * 5000)
@example(content=b"\xef\xbb\xbf{}")
def test_any_content_of_config_json_is_read_or_refused(content, folder):
    (folder / "config.json").write_bytes(content)
    assert is_read_or_refused(folder)
