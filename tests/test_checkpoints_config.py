"""config.json of a checkpoint: read, ignored where it changes nothing, or refused by name."""

import json

import pytest
from checkpoints import ANY_JSON, SMALLEST, write_checkpoint
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import assert_same_function, oracle_of, read_or_refused, refusal_of, settings_of
from transformers import GPT2Config

from experiments.checkpoints.weights import load_gpt2_checkpoint


def edit_config(folder, **changes):
    """Changes settings in config.json; `...` removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: v for name, v in config.items() if v is not ...}))


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.usefixtures("float64")
def test_heads_are_those_of_config_json(heads, tmp_path):
    oracle = oracle_of(n_head=heads)
    oracle.save_pretrained(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert load_gpt2_checkpoint(path)[0]["n_head"] == heads
        assert settings_of(path).weights.note == ""
        assert_same_function(oracle, path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("scale_attn_weights", "true"),
        ("activation_function", "relu"),
        ("activation_function", "gelu"),
        ("activation_function", None),
        ("layer_norm_epsilon", 1e-6),
        ("add_cross_attention", True),
        ("model_type", "gpt_neo"),
        ("per_layer_config", {"0": {"n_inner": 256}}),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 4}),
        ("auto_map", {"AutoModel": "own.Model"}),
    ],
)
def test_a_setting_of_another_function_is_refused_by_name_and_value(name, value, tmp_path):
    oracle_of().save_pretrained(tmp_path)
    edit_config(tmp_path, **{name: value})
    (tmp_path / "model.safetensors").write_bytes(b"before any tensor is read")
    message = f"config.json: {name} is {json.dumps(value)}, which the book's GPT does not support"
    assert message in str(refusal_of(tmp_path))


HEADS = ", expected a divisor of the width 64"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 96}, "vocab_size is 96, but 97 follows from the tensors"),
        ({"n_positions": 96}, "n_positions is 96, but 24 follows from the tensors"),
        ({"n_embd": 96}, "n_embd is 96, but 64 follows from the tensors"),
        ({"n_layer": 96}, "n_layer is 96, but 2 follows from the tensors"),
        ({"n_inner": 128}, "n_inner is 128, but 256 follows from the tensors"),
        ({"qkv_bias": False}, "qkv_bias is false, but true follows from the tensors"),
        ({"num_attention_heads": 4}, "n_head has two values, 1 and 4"),
        ({"n_head": 0}, f"n_head is 0{HEADS}"),
        ({"n_head": 3}, f"n_head is 3{HEADS}"),
        ({"n_head": 2.0}, f"n_head is 2.0{HEADS}"),
        ({"n_head": True}, f"n_head is true{HEADS}"),
        ({"n_head": "2" * 99}, f'n_head is "{"2" * 59}…{HEADS}'),
        ({"n_head": ...}, f"n_head is 12, the default of transformers{HEADS}"),
    ],
    ids=str,
)
def test_a_setting_that_contradicts_others_or_the_tensors_is_named(changes, message, tmp_path):
    oracle_of().save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    assert str(refusal_of(tmp_path)) == f"{tmp_path / 'config.json'}: {message}"


@pytest.mark.parametrize(
    "harmless",
    [
        {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5, "n_inner": 256, "use_cache": 0,
         "dtype": "bfloat16", "pad_token_id": 3, "summary_type": "mean", "scale_attn_weights": 1,
         "reorder_and_upcast_attn": True, "tie_word_embeddings": False, "of_mine": [1],
         "layer_norm_epsilon": 0.00001, "id2label": {"0": "ham", "1": "spam", "2": "?"}},
        dict.fromkeys(["n_inner", "per_layer_config", "pruned_heads", "auto_map",
                       "quantization_config"]),
        {"per_layer_config": {}, "pruned_heads": {}, "auto_map": {}},
        *({"activation_function": f"gelu_{name}"}
          for name in ("new", "fast", "accurate", "pytorch_tanh", "python_tanh")),
    ],
    ids=list,
)  # fmt: skip
@pytest.mark.usefixtures("float64")
def test_a_setting_that_changes_nothing_is_ignored(harmless, tmp_path):
    oracle = oracle_of(**{k: v for k, v in harmless.items() if k == "activation_function"})
    oracle.save_pretrained(tmp_path)
    edit_config(tmp_path, **harmless)
    assert_same_function(oracle, tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        {"num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2,
         "max_position_embeddings": 24},
        {"n_heads": 4, "emb_dim": 64, "n_layers": 2, "context_length": 24, "qkv_bias": True},
    ],
    ids=["transformers", "book"],
)  # fmt: skip
@pytest.mark.usefixtures("float64")
def test_settings_are_known_by_their_other_names(names, tmp_path):
    oracle = oracle_of(n_head=4)
    oracle.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(names))
    assert_same_function(oracle, tmp_path)
    for name in names:
        (tmp_path / "config.json").write_text(json.dumps(names | {name: 3}))
        assert "config.json: " in str(refusal_of(tmp_path)), name


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with a checkpoint, whose config.json tests write."""
    return write_checkpoint(tmp_path_factory.mktemp("mutations") / "a.safetensors", SMALLEST).parent


names_of_settings = st.sampled_from(list(GPT2Config().to_dict())) | st.text()
some_settings = st.dictionaries(names_of_settings, ANY_JSON, max_size=4)


@given(
    content=some_settings.map(lambda changes: json.dumps({"n_head": 1} | changes).encode())
    | ANY_JSON.map(json.dumps).map(str.encode)
    | st.binary()
)
@example(content=b'{"n_head": 2, "n_embd": 64}')
@example(content=b'{"n_inner": NaN}')
@example(content=b"[" * 100_000)
@example(content=b"9" * 5000)
@example(content=b"\xef\xbb\xbf{}")
@example(content=b"[]")
def test_any_content_of_config_json_is_read_or_refused_in_one_sentence(content, folder):
    (folder / "config.json").write_bytes(content)
    found = read_or_refused(load_gpt2_checkpoint, folder, folder)
    assert found is None or found[0]["n_embd"] % found[0]["n_head"] == 0
