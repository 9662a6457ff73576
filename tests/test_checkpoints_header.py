"""Headers of a checkpoint: names of tensors as people have them, shapes, types, and the digest."""

import hashlib
import json
import shutil
from copy import deepcopy

import pytest
import torch
from checkpoints import SMALLEST, TINY, random_tensors, write_checkpoint, write_shards
from helpers import assert_equal, randomise
from oracles import assert_same_function, draw_tokens, load_gpt, oracle_of, refusal_of, settings_of
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file, save_model
from transformers import GPT2LMHeadModel

from experiments.checkpoints import header
from experiments.checkpoints.header import checkpoint_sha256, read_checkpoint
from experiments.model.lora import replace_linear_with_lora
from experiments.system.files import sha256_of
from previous_chapters import GPTModel

ONES, OUT_IN = torch.ones(128), torch.ones(3 * 128, 128)  # (out, in), as in nn.Linear
FLOATS = ", expected F32, F16, BF16, F64"


def refusal_of_tensors(tensors, tmp_path):
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return str(refusal_of(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wte.weight": None}, "is not a GPT-2 checkpoint: no two-dimensional wte.weight"),
        ({"wpe.weight": None}, "is not a GPT-2 checkpoint: no two-dimensional wpe.weight"),
        ({"ln_f.bias": None}, ": ln_f.bias is missing, expected (128,)"),
        ({"h.0.attn.c_proj.bias": None}, ": h.0.attn.c_proj.bias is missing, expected (128,)"),
        ({"h.1.mlp.c_fc.weight": None}, ": h.1.mlp.c_fc.weight is missing, expected (128, 512)"),
        ({"a.weight": ONES}, ": a.weight is (128,), expected no tensor of that name"),
        ({"h.0.crossattention.c_attn.weight": ONES}, "weight is (128,), expected no tensor of th"),
        ({"h.2.ln_1.bias": ONES}, ": h.2.attn.c_attn.bias is missing, expected (384,)"),
        ({"trf_blocks.0.norm1.scale": ONES}, ": trf_blocks.0.norm1.scale is (128,), expected no"),
        ({"h.0.attn.mask": ONES}, ": h.0.attn.mask is (128,), expected no tensor of that name"),
        ({"wte.weight": torch.ones(11 * 128)}, "no two-dimensional wte.weight"),
        ({"wpe.weight": torch.ones(5, 64)}, ": wpe.weight is (5, 64), expected (5, 128)"),
        ({"h.0.attn.c_attn.weight": OUT_IN}, "c_attn.weight is (384, 128), expected (128, 384)"),
        ({"h.1.mlp.c_proj.bias": ONES[None]}, "c_proj.bias is (1, 128), expected (128,)"),
        ({"h.0.ln_1.bias": ONES.int()}, f": h.0.ln_1.bias is I32{FLOATS}"),
        ({"h.0.ln_1.bias": ONES.bool()}, f": h.0.ln_1.bias is BOOL{FLOATS}"),
        ({"transformer.ln_f.bias": ONES}, ": ln_f.bias and transformer.ln_f.bias are the same te"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_tensor_that_is_missing_unknown_or_of_another_kind_is_named(changes, message, tmp_path):
    tensors = {n: t for n, t in (random_tensors(TINY) | changes).items() if t is not None}
    assert message in refusal_of_tensors(tensors, tmp_path)


@pytest.mark.parametrize(
    ("size", "number", "message"),
    [
        ("n_embd", 96, ": the width 96 is not a multiple of 64, the width of GPT-2's heads: add a"),
        *((size, 0, "is not a GPT-2 checkpoint: it has no blocks or an empty tensor")
          for size in ("n_vocab", "n_ctx", "n_embd", "n_layer")),
    ],
)  # fmt: skip
def test_impossible_sizes_are_refused(size, number, message, tmp_path):
    assert message in refusal_of_tensors(random_tensors(TINY | {size: number}), tmp_path)


# ------------------------------------------------------------------------------------------ names


HEADS = (
    "classifier.bias", "lm_head.weight", "multiple_choice_head.summary.weight", "out_head.weight",
    "qa_outputs.bias", "score.weight", "v_head.summary.bias",
)  # fmt: skip


def test_heads_are_left_out_and_named(tmp_path):
    heads = {name: torch.ones(1) for name in HEADS}
    path = tmp_path / "model.safetensors"
    save_file(random_tensors(TINY) | heads, path)
    (tmp_path / "config.json").write_text('{"n_head": 2}')
    assert settings_of(path).weights.note == f"left out: {', '.join(HEADS)}"


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.transformer.", "module.transformer.", "base_model.model.transformer.",
        "module._orig_mod.base_model.model.transformer.", "transformer._checkpoint_wrapped_module.",
        "base_model.model._orig_mod.transformer.module.", "model.transformer._fsdp_wrapped_module.",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("float64")
def test_prefixes_of_wrappers_are_removed(prefix, tmp_path):
    oracle = oracle_of()
    tensors = {f"{prefix}{name}": tensor for name, tensor in oracle.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_function(oracle, tmp_path)


@pytest.mark.usefixtures("float64")
def test_an_embedding_that_is_stored_as_the_head_is_read(tmp_path):
    oracle = oracle_of(GPT2LMHeadModel)
    save_model(oracle, str(tmp_path / "model.safetensors"))
    assert "transformer.wte.weight" not in load_file(tmp_path / "model.safetensors")
    assert_same_function(oracle, tmp_path)


@pytest.mark.parametrize(("qkv_bias", "prefix"), [(True, ""), (False, ""), (False, "_orig_mod.")])
@pytest.mark.usefixtures("float64")
def test_a_state_dict_of_the_book_is_the_same_network(qkv_bias, prefix, small_config, tmp_path):
    config = small_config | {"qkv_bias": qkv_bias, "n_heads": 2 if prefix else 4}
    oracle, path = randomise(GPTModel(config).float()), tmp_path / "gpt.safetensors"
    tensors = {f"{prefix}{name}": tensor for name, tensor in oracle.state_dict().items()}
    save_file(tensors, path)
    if not prefix:  # the book's dictionary as config.json
        (tmp_path / "config.json").write_text(json.dumps(config))
    gpt, tokens = load_gpt(path), draw_tokens()
    assert settings_of(path).design.config == config
    assumed = "no config.json in its folder, heads are assumed 64 wide; " if prefix else ""
    assert settings_of(path).weights.note == f"{assumed}left out: {prefix}out_head.weight"
    gpt.out_head = oracle.double().out_head
    assert_equal(gpt(tokens), oracle(tokens))
    bias = f"1.att.{'W_key' if qkv_bias else 'out_proj'}.bias"
    for name in ("pos_emb.weight", "final_norm.shift", bias):
        others = {n: tensor for n, tensor in tensors.items() if not n.endswith(name)}
        assert name in refusal_of_tensors(others, tmp_path)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT, about transformers
class TestAdapters:
    def lora_model(self):
        config = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
        return get_peft_model(oracle_of(GPT2LMHeadModel), config)

    def test_an_adapter_that_is_not_merged_is_refused(self, small_config, tmp_path):
        self.lora_model().save_pretrained(tmp_path)
        file, renamed = tmp_path / "adapter_model.safetensors", tmp_path / "renamed.safetensors"
        shutil.copy(file, renamed)
        for path in (tmp_path, file, renamed):
            message = str(refusal_of(path))
            assert "contains an adapter" in message
            assert "merge_and_unload" in message
        gpt = GPTModel(small_config)
        replace_linear_with_lora(gpt, rank=2, alpha=2)
        for model in (self.lora_model(), gpt):
            tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            assert "contains an adapter" in refusal_of_tensors(tensors, tmp_path)

    @pytest.mark.parametrize("is_unloaded", [True, False])
    @pytest.mark.usefixtures("float64")
    def test_a_merged_adapter_is_read(self, is_unloaded, tmp_path):
        model = randomise(self.lora_model())
        merged = deepcopy(model).merge_and_unload().eval()
        model.merge_adapter()  # layers stay wrapped
        state = {f"base_model.model.{name}": t for name, t in merged.state_dict().items()}
        if not is_unloaded:
            state = {name: t for name, t in model.state_dict().items() if "lora_" not in name}
            assert any(".base_layer." in name for name in state)
        tensors = {name: tensor.clone() for name, tensor in state.items()}
        save_file(tensors, tmp_path / "model.safetensors")
        assert_same_function(merged, tmp_path)


# ----------------------------------------------------------------------------------------- digest


def test_the_digest_covers_heads_and_every_shard(tmp_path):
    whole = write_checkpoint(tmp_path / "model.safetensors", SMALLEST)
    digests = [checkpoint_sha256(whole), checkpoint_sha256(tmp_path)]
    assert digests == 2 * [sha256_of(whole)]
    for heads in (1, 2, 4):
        (tmp_path / "config.json").write_text(json.dumps({"n_head": heads}))
        digests.append(checkpoint_sha256(tmp_path))
    assert digests[2] == digests[0]
    for changed in (None, "wte.weight", "wpe.weight"):
        tensors = random_tensors(SMALLEST)
        if changed:
            tensors[changed] += 1
        folder = tmp_path / str(changed)
        folder.mkdir()
        digests.append(checkpoint_sha256(write_shards(folder, tensors)))
    assert len(set(digests[2:])) == 6
    shards = " ".join(sha256_of(shard) for shard in sorted((tmp_path / "None").glob("*-of-*")))
    assert digests[5] == hashlib.sha256(f"1 heads {shards}".encode()).hexdigest()


def test_verify_computes_the_digest_of_every_file_again(tmp_path, monkeypatch):
    index, calls = write_shards(tmp_path, random_tensors(SMALLEST)), []
    monkeypatch.setattr(header, "sha256_of", lambda *call: calls.append(call) or "a")
    for verify in (True, False):
        checkpoint_sha256(index, verify=verify)
    files = read_checkpoint(index).files
    assert calls == [(file, verify) for verify in (True, False) for file in files]
