"""The classifier: its logits, what is trained, how it starts, LoRA, and its memory."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from checkpoints import write_checkpoint
from helpers import assert_equal, randomise
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.design import Design
from experiments.config.parsing import parse_args
from experiments.model import classifier
from experiments.model.classifier import (
    GPTClassifier,
    build_classifier,
    create_classifier,
    make_trainable,
)
from experiments.model.lora import (
    LinearWithLoRA,
    LinearWithLoRAMerged,
    replace_linear_with_lora,
)
from experiments.shortcuts.model import OptimizedClassifier
from previous_chapters import GPTModel, load_weights_into_gpt

PAD = 96
LENGTHS = torch.tensor([1, 4, 9, 12])
LABELS = torch.tensor([0, 1, 1, 0])
BLOCK_LINEARS = ["att.W_query", "att.W_key", "att.W_value", "att.out_proj"]
BLOCK_LINEARS += ["ff.layers.0", "ff.layers.2"]
LINEARS = [f"trf_blocks.{i}.{name}" for i in range(3) for name in BLOCK_LINEARS] + ["out_head"]


def design_of(config, position="last", average=False, no_mask=False, layers="last_block"):
    return Design(config, position, average, no_mask, layers, lora_rank=5, lora_scaling=0.5)


def draw_batch():
    """Padded examples, in which PAD is a word as well, even the last one, and their lengths."""
    tokens = torch.randint(PAD, (len(LENGTHS), 12))
    tokens[2, 5] = tokens[2, 8] = PAD
    return tokens.where(torch.arange(12) < LENGTHS[:, None], PAD), LENGTHS


def lora_layers(model):
    return {name: m.lora for name, m in model.named_modules() if isinstance(m, LinearWithLoRA)}


# ------------------------------------------------------------------------------------------ logits


OF_EXAMPLE = {  # position, averaging: of the logits of all tokens
    ("first", False): lambda logits, length: logits[0],
    ("last", False): lambda logits, length: logits[11],
    ("flexible", False): lambda logits, length: logits[length - 1],
    ("first", True): lambda logits, length: sum(logits) / 12,
    ("last", True): lambda logits, length: sum(logits) / 12,
    ("flexible", True): lambda logits, length: sum(logits[:length]) / length,
}


@pytest.mark.parametrize("no_mask", [False, True], ids=["mask", "no_mask"])
@pytest.mark.parametrize("choices", OF_EXAMPLE, ids=str)
@pytest.mark.usefixtures("float64")
def test_an_example_has_the_logits_of_the_chosen_tokens(choices, no_mask, small_config):
    model = randomise(GPTClassifier(design_of(small_config, *choices, no_mask)))
    gpt = GPTModel(small_config, no_mask)
    gpt.load_state_dict(model.state_dict())
    tokens, lengths = draw_batch()
    logits, of_example = gpt(tokens), OF_EXAMPLE[choices]
    expected = [of_example(logits[i], length) for i, length in enumerate(lengths.tolist())]
    assert_equal(model(tokens, lengths), torch.stack(expected))


# ---------------------------------------------------------------------------------- what is trained

HEAD = {"out_head.weight", "out_head.bias"}
FINAL_NORM = {"final_norm.scale", "final_norm.shift"}
BLOCK = {f"{name}.{part}" for name in BLOCK_LINEARS for part in ("weight", "bias")}
BLOCK |= {f"{name}.{part}" for name in ("norm1", "norm2") for part in ("scale", "shift")}
BLOCKS = [{f"trf_blocks.{i}.{name}" for name in BLOCK} for i in range(3)]
LORA = {f"{name}.lora.{part}" for name in LINEARS for part in "AB"}
LORA |= {"out_head.linear.weight", "out_head.linear.bias"}
TRAINABLE = {
    "last_layer": HEAD,
    "last_block": HEAD | FINAL_NORM | BLOCKS[2],
    "last_two_blocks": HEAD | FINAL_NORM | BLOCKS[1] | BLOCKS[2],
    "all": HEAD | FINAL_NORM | set().union(*BLOCKS) | {"tok_emb.weight", "pos_emb.weight"},
    "lora": LORA,
    "lora_alternative": LORA,
}


@pytest.mark.parametrize(
    ("layers", "names"),
    [*TRAINABLE.items(), ("last_block", None), ("last_two_blocks", None)],
)
def test_the_layers_of_the_design_are_trained_and_no_others_move(layers, names, small_config):
    if names is None:  # a single block, with which the embeddings stay frozen
        small_config["n_layers"], names = 1, HEAD | FINAL_NORM | BLOCKS[0]
    design = design_of(small_config, layers=layers)
    model = randomise(GPTClassifier(design)).requires_grad_(False)
    model.out_head = nn.Linear(small_config["emb_dim"], 2)
    make_trainable(model)
    assert {name for name, values in model.named_parameters() if values.requires_grad} == names
    before = {name: values.clone() for name, values in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    F.cross_entropy(model(*draw_batch()), LABELS).backward()
    optimizer.step()
    after = model.state_dict()
    moved = {name for name, values in before.items() if not torch.equal(after[name], values)}
    assert moved == names


# --------------------------------------------------------------------------------- initialisation


@pytest.mark.parametrize("layers", ["last_block", "lora", "lora_alternative"])
@pytest.mark.parametrize("is_random", [True, False])
def test_the_seed_draws_the_weights_and_then_again_the_head_and_lora(
    is_random, layers, small_config, tmp_path
):
    sizes = {"n_vocab": 97, "n_ctx": 24, "n_embd": 128, "n_layer": 3}
    path = write_checkpoint(tmp_path / "small.safetensors", sizes)
    params = None if is_random else load_gpt2_checkpoint(path)[1]
    model = create_classifier(design_of(small_config, layers=layers), params, 7, num_classes=2)
    torch.manual_seed(7)
    gpt = GPTModel(small_config)
    if not is_random:
        load_weights_into_gpt(gpt, params)
    torch.manual_seed(7)
    gpt.out_head = nn.Linear(128, 2)
    found = {name.replace(".linear.", "."): t for name, t in model.state_dict().items()}
    assert all(torch.equal(found[name], t) for name, t in gpt.state_dict().items())
    for lora in lora_layers(model).values():
        assert torch.equal(lora.A, nn.init.kaiming_uniform_(torch.empty(lora.A.shape), a=5**0.5))
        assert (lora.A.shape[1], lora.B.shape[0], lora.alpha) == (5, 5, 0.5)
    is_lora = layers.startswith("lora")
    assert type(model.out_head) is (LinearWithLoRA if is_lora else nn.Linear)
    assert len(lora_layers(model)) == (len(LINEARS) if is_lora else 0)


def test_a_run_starts_from_the_weights_that_its_settings_name(miniature, monkeypatch):
    loaded, calls = load_gpt2_checkpoint(miniature)[1], []
    tiny = ["--model_size", "gpt2-tiny (7M)"]
    random = build_classifier(parse_args([*tiny, "--weights", "random", "--seed", "5"]), 2)
    settings = parse_args(["--weights", str(miniature), "--activation_checkpointing"])
    local = build_classifier(settings, 3)
    monkeypatch.setattr(
        classifier, "download_and_load_gpt2",
        lambda size, verify: calls.append((size, verify)) or ({}, loaded),
    )  # fmt: skip
    published = parse_args(["--weights", "pretrained", "--verify"])
    published = build_classifier(replace(published, design=settings.design), 2)
    torch.manual_seed(5)
    assert torch.equal(random.tok_emb.weight, nn.Embedding(50257, 128).weight)
    assert torch.equal(local.tok_emb.weight, torch.as_tensor(loaded["wte"]))
    assert torch.equal(local.pos_emb.weight, published.pos_emb.weight)
    assert calls == [("124M", True)]
    assert (local.out_head.out_features, published.out_head.out_features) == (3, 2)
    assert (local.activation_checkpointing, published.activation_checkpointing) == (True, False)


# -------------------------------------------------------------------------------------------- LoRA


@pytest.mark.parametrize("alternative", [False, True])
@pytest.mark.usefixtures("float64")
def test_logits_and_gradients_are_those_of_peft_separate_or_merged(alternative, small_config):
    model = randomise(GPTClassifier(design_of(small_config)))
    peft = LoraConfig(r=5, lora_alpha=3.0 * 5, target_modules=LINEARS)
    oracle, batch = inject_adapter_in_model(peft, deepcopy(model)), draw_batch()
    before = model(*batch)
    replace_linear_with_lora(model.requires_grad_(False), 5, 3.0, alternative)
    assert torch.equal(model(*batch), before)  # B is zero
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


# ------------------------------------------------------------------------ activation checkpointing


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("layers", ["all", "last_two_blocks", "lora"])
def test_losses_and_gradients_are_those_of_stored_activations_for_which_less_is_stored(
    layers, average, optimised, small_config
):
    design, gradients, sizes = design_of(small_config, "last", average, layers=layers), [], []

    def count(stored):
        sizes[-1] += stored.nbytes
        return stored

    for checkpointing in (True, False):
        sizes.append(0)
        model = create_classifier(design, None, 1, 2, checkpointing)
        torch.manual_seed(1)
        model = OptimizedClassifier(randomise(model)) if optimised else randomise(model)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda stored: stored):
            loss = F.cross_entropy(model(*draw_batch()), LABELS)
        loss.backward()
        named = model.named_parameters()
        gradients.append({"loss": loss} | {name: p.grad for name, p in named if p.requires_grad})
    assert_equal(*gradients, tolerance=1e-12)
    assert len(gradients[0]) > 5
    assert sizes[0] < sizes[1] / 4
