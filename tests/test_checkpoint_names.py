"""Tensor names as people have them: heads, wrappers, adapters, and the book's own."""

import json
from copy import deepcopy

import pytest
from helpers import assert_equal, randomise
from oracles import assert_same_function, draw_tokens, load_gpt, network_of, oracle_of, refusal_of
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file, save_model
from transformers import (
    GPT2DoubleHeadsModel,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
)

from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.model.lora import replace_linear_with_lora
from previous_chapters import GPTModel, load_weights_into_gpt


def lora_model():
    config = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
    return get_peft_model(oracle_of(GPT2LMHeadModel), config)


@pytest.mark.parametrize(
    ("kind", "config", "left_out"),
    [
        (GPT2ForSequenceClassification, {}, "score.weight"),
        (GPT2ForTokenClassification, {}, "classifier.bias, classifier.weight"),
        (GPT2ForQuestionAnswering, {}, "qa_outputs.bias, qa_outputs.weight"),
        (GPT2DoubleHeadsModel, {}, "multiple_choice_head.summary.bias, "
         "multiple_choice_head.summary.weight"),
        (GPT2LMHeadModel, {"tie_word_embeddings": False}, "lm_head.weight"),
        (GPT2LMHeadModel, {}, ""),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)  # fmt: skip
@pytest.mark.usefixtures("float64")
def test_heads_are_left_out_and_named(kind, config, left_out, tmp_path):
    oracle = oracle_of(kind, **config)
    oracle.save_pretrained(tmp_path)
    note = network_of(tmp_path).checkpoint_note
    assert note == (f"left out: {left_out}" if left_out else "")
    assert_same_function(oracle, tmp_path)


@pytest.mark.parametrize(
    ("prefix", "inner"),
    [
        ("_orig_mod.", ""),
        ("module.", ""),
        ("base_model.model.", ""),
        ("module._orig_mod.base_model.model.", ""),
        ("base_model.model._orig_mod.", "module."),
        ("model.", "_orig_mod."),
    ],
)
@pytest.mark.usefixtures("float64")
def test_prefixes_of_wrappers_are_removed(prefix, inner, tmp_path):
    oracle = oracle_of(GPT2LMHeadModel)
    tensors = {
        prefix + name.replace("transformer.", f"transformer.{inner}"): tensor.clone()
        for name, tensor in oracle.state_dict().items()
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_function(oracle, tmp_path)


@pytest.mark.usefixtures("float64")
def test_a_tied_head_in_place_of_the_embedding_is_read(tmp_path):
    oracle = oracle_of(GPT2LMHeadModel)
    save_model(oracle, str(tmp_path / "model.safetensors"))
    assert "transformer.wte.weight" not in load_file(tmp_path / "model.safetensors")
    assert_same_function(oracle, tmp_path)


@pytest.mark.parametrize(("qkv_bias", "prefix"), [(True, ""), (False, ""), (False, "_orig_mod.")])
@pytest.mark.usefixtures("float64")
def test_a_state_dict_of_the_book_is_the_same_network(qkv_bias, prefix, small_config, tmp_path):
    oracle = randomise(GPTModel(small_config | {"qkv_bias": qkv_bias}).float())
    tensors = {f"{prefix}{name}": tensor for name, tensor in oracle.state_dict().items()}
    save_file(tensors, tmp_path / "gpt.safetensors")
    gpt, tokens = load_gpt(tmp_path / "gpt.safetensors"), draw_tokens()
    assert network_of(tmp_path).config["qkv_bias"] == qkv_bias
    assert network_of(tmp_path).checkpoint_note.endswith(f"; left out: {prefix}out_head.weight")
    gpt.out_head = oracle.double().out_head
    assert_equal(gpt(tokens), oracle(tokens))


@pytest.mark.usefixtures("float64")
def test_heads_of_the_books_names_are_those_of_the_books_dictionary(small_config, tmp_path):
    oracle = randomise(GPTModel(small_config | {"n_heads": 4}).float())
    save_file(oracle.state_dict(), tmp_path / "gpt.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(small_config | {"n_heads": 4}))
    gpt, tokens = load_gpt(tmp_path), draw_tokens()
    gpt.out_head = oracle.double().out_head
    assert_equal(gpt(tokens), oracle(tokens))


@pytest.mark.parametrize("name", ["pos_emb.weight", "trf_blocks.1.att.W_key.bias"])
def test_a_missing_tensor_of_the_books_is_named(name, small_config, tmp_path):
    tensors = GPTModel(small_config).state_dict()
    del tensors[name]
    save_file(tensors, tmp_path / "gpt.safetensors")
    assert name in str(refusal_of(tmp_path))


def test_biases_that_the_weights_lack_are_refused(small_config, tmp_path):
    save_file(GPTModel(small_config | {"qkv_bias": False}).state_dict(), tmp_path / "a.safetensors")
    params = load_gpt2_checkpoint(tmp_path)[1]
    with pytest.raises(ValueError, match="the model has biases of query, key and value"):
        load_weights_into_gpt(GPTModel(small_config), params)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT, at transformers
@pytest.mark.parametrize("named", ["", "adapter_model.safetensors", "renamed.safetensors"])
def test_an_adapter_alone_is_told(named, tmp_path):
    lora_model().save_pretrained(tmp_path)
    if named.startswith("renamed"):
        (tmp_path / "adapter_model.safetensors").rename(tmp_path / named)
    message = str(refusal_of(tmp_path / named))
    assert "holds an adapter" in message
    assert "merge_and_unload" in message


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapter_that_is_not_merged_is_told(tmp_path):
    tensors = {name: tensor.clone() for name, tensor in lora_model().state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert "holds an adapter" in str(refusal_of(tmp_path))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.usefixtures("float64")
def test_a_merged_adapter_is_read(tmp_path):
    model = randomise(lora_model())
    merged = model.merge_and_unload().eval()
    tensors = {f"base_model.model.{name}": t.clone() for name, t in merged.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_function(merged, tmp_path)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.usefixtures("float64")
def test_layers_that_peft_wraps_are_read_once_lora_is_gone(tmp_path):
    model = randomise(lora_model())
    merged = deepcopy(model).merge_and_unload().eval()
    model.merge_adapter()
    tensors = {name: t.clone() for name, t in model.state_dict().items() if "lora_" not in name}
    assert any(".base_layer." in name for name in tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_function(merged, tmp_path)


def test_lora_of_this_repository_is_told(small_config, tmp_path):
    gpt = GPTModel(small_config)
    replace_linear_with_lora(gpt, rank=2, alpha=2)
    save_file(gpt.state_dict(), tmp_path / "gpt.safetensors")
    assert "holds an adapter" in str(refusal_of(tmp_path))
