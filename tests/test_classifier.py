from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_equal, randomise
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from experiments.model.classifier import GPTClassifier, make_trainable
from experiments.model.lora import (
    LinearWithLoRA,
    LinearWithLoRAMerged,
    LoRALayer,
    replace_linear_with_lora,
)
from previous_chapters import GPTModel

PAD = 96
LENGTHS = torch.tensor([1, 4, 9, 12])
BLOCK_LINEARS = ["att.W_query", "att.W_key", "att.W_value", "att.out_proj"]
BLOCK_LINEARS += ["ff.layers.0", "ff.layers.2"]
LINEARS = [f"trf_blocks.{i}.{name}" for i in range(3) for name in BLOCK_LINEARS] + ["out_head"]
RANK, SCALING = 4, 3.0


def draw_batch():
    """Returns padded messages in which PAD is a word as well, even the last one, and lengths."""
    tokens = torch.randint(PAD, (len(LENGTHS), 12))
    tokens[2, 5] = tokens[2, 8] = PAD
    return tokens.where(torch.arange(12) < LENGTHS[:, None], PAD), LENGTHS


def frozen_classifier(cfg, token_position="last"):
    """Returns a classifier as training finds it: frozen but for a new head of two classes."""
    model = randomise(GPTClassifier(cfg, token_position)).requires_grad_(False)
    model.out_head = nn.Linear(cfg["emb_dim"], 2)
    return model


def lora_layers(model):
    return {name: m.lora for name, m in model.named_modules() if isinstance(m, LinearWithLoRA)}


def with_lora(model, alternative=False):
    """Returns a copy of the model with a LoRA whose A and B are random."""
    model = deepcopy(model)
    torch.manual_seed(1)
    replace_linear_with_lora(model, RANK, SCALING, alternative)
    for lora in lora_layers(model).values():
        randomise(lora)
    return model


# ------------------------------------------------------------------------------------ classifier


@pytest.mark.parametrize(
    ("token_position", "average_embeddings", "of_message"),
    [
        ("first", False, lambda logits, length: logits[0]),
        ("last", False, lambda logits, length: logits[11]),
        ("flexible", False, lambda logits, length: logits[length - 1]),
        ("first", True, lambda logits, length: sum(logits) / 12),
        ("last", True, lambda logits, length: sum(logits) / 12),
        ("flexible", True, lambda logits, length: sum(logits[:length]) / length),
    ],
    ids=["first", "last", "flexible", "first-mean", "last-mean", "flexible-mean"],
)
@pytest.mark.usefixtures("float64")
def test_a_message_has_the_logits_of_the_chosen_tokens(
    token_position, average_embeddings, of_message, small_config
):
    model = randomise(GPTClassifier(small_config, token_position, average_embeddings))
    gpt = GPTModel(small_config)
    gpt.load_state_dict(model.state_dict())
    tokens, lengths = draw_batch()
    logits = gpt(tokens)
    expected = [of_message(logits[i], length) for i, length in enumerate(lengths.tolist())]
    assert_equal(model(tokens, lengths), torch.stack(expected))


def change_by_other_padding(cfg, *choices):
    """Returns the largest change of each message's logits when the padding is other tokens."""
    model = randomise(GPTClassifier(cfg, *choices))
    tokens, lengths = draw_batch()
    other = tokens.where(torch.arange(12) < lengths[:, None], PAD - 1)
    return (model(other, lengths) - model(tokens, lengths)).abs().amax(dim=1)


@pytest.mark.parametrize("average_embeddings", [False, True])
@pytest.mark.usefixtures("float64")
def test_under_the_causal_mask_padding_does_not_matter_to_flexible(
    average_embeddings, small_config
):
    assert change_by_other_padding(small_config, "flexible", average_embeddings).max() < 1e-9


@pytest.mark.parametrize("average_embeddings", [False, True])
@pytest.mark.usefixtures("float64")
def test_under_the_causal_mask_more_padding_does_not_matter_to_flexible(
    average_embeddings, small_config
):
    model = randomise(GPTClassifier(small_config, "flexible", average_embeddings))
    tokens, lengths = draw_batch()
    padded = F.pad(tokens, (0, 8), value=PAD)
    assert_equal(model(padded, lengths), model(tokens, lengths))


@pytest.mark.parametrize(
    "choices",
    [("flexible", False, True), ("flexible", True, True), ("last",), ("first", True)],
    ids=["flexible-no-mask", "flexible-mean-no-mask", "last", "first-mean"],
)
@pytest.mark.usefixtures("float64")
def test_padding_matters_to_the_other_choices(choices, small_config):
    change = change_by_other_padding(small_config, *choices)
    assert ((change > 1e-3) == (LENGTHS < 12)).all()


# ------------------------------------------------------------------------------------------ LoRA


def test_a_starts_kaiming_uniform_over_in_and_rank_and_b_starts_at_zero():
    torch.manual_seed(1)
    expected = nn.init.kaiming_uniform_(torch.empty(48, 8), a=5**0.5)
    torch.manual_seed(1)
    lora = LoRALayer(48, 20, rank=8, alpha=SCALING)
    assert torch.equal(lora.A, expected)
    assert torch.equal(lora.B, torch.zeros(8, 20))


@pytest.mark.usefixtures("float64")
def test_the_factor_multiplies_the_update_as_it_is():
    lora, x = randomise(LoRALayer(48, 20, rank=8, alpha=SCALING)), torch.randn(5, 48)
    assert_equal(lora(x), SCALING * (x @ lora.A @ lora.B))


@pytest.mark.parametrize("alternative", [False, True])
@pytest.mark.usefixtures("float64")
def test_lora_equals_the_one_of_peft(alternative, small_config):
    model, batch = randomise(GPTClassifier(small_config)), draw_batch()
    config = LoraConfig(r=RANK, lora_alpha=SCALING * RANK, target_modules=LINEARS)
    oracle = inject_adapter_in_model(config, deepcopy(model))
    model = with_lora(model, alternative)
    with torch.no_grad():
        for name, lora in lora_layers(model).items():
            theirs = oracle.get_submodule(name)
            theirs.lora_A["default"].weight.copy_(lora.A.T)
            theirs.lora_B["default"].weight.copy_(lora.B.T)
    assert_equal(model(*batch), oracle(*batch))


@pytest.mark.usefixtures("float64")
def test_merged_lora_has_the_logits_and_gradients_of_the_plain_one(small_config):
    model, batch = frozen_classifier(small_config), draw_batch()
    plain, merged = with_lora(model), with_lora(model, alternative=True)
    for one in (plain, merged):
        F.cross_entropy(one(*batch), torch.tensor([0, 1, 1, 0])).backward()
    assert_equal(merged(*batch), plain(*batch))
    gradients = [[p.grad for p in m.parameters() if p.requires_grad] for m in (merged, plain)]
    assert_equal(*gradients)


@pytest.mark.parametrize("alternative", [False, True])
@pytest.mark.usefixtures("float64")
def test_a_new_lora_leaves_the_logits_as_they_are(alternative, small_config):
    model, batch = randomise(GPTClassifier(small_config)), draw_batch()
    expected = model(*batch)
    replace_linear_with_lora(model, RANK, SCALING, alternative)
    assert torch.equal(model(*batch), expected)


@pytest.mark.parametrize("alternative", [False, True])
@pytest.mark.usefixtures("float64")
def test_the_b_of_each_layer_changes_the_logits(alternative, small_config):
    model, batch = randomise(GPTClassifier(small_config)), draw_batch()
    expected = model(*batch)
    replace_linear_with_lora(model, RANK, SCALING, alternative)
    for name, lora in lora_layers(model).items():
        nn.init.normal_(lora.B, std=0.2)
        assert (model(*batch) - expected).abs().max() > 1e-6, name
        nn.init.zeros_(lora.B)


@pytest.mark.parametrize(
    ("alternative", "wrapper"), [(False, LinearWithLoRA), (True, LinearWithLoRAMerged)]
)
def test_lora_wraps_every_linear_layer_in_order_with_the_head_last(
    alternative, wrapper, small_config
):
    model = frozen_classifier(small_config)
    linears = {name: model.get_submodule(name) for name in LINEARS}
    torch.manual_seed(1)
    replace_linear_with_lora(model, RANK, SCALING, alternative)
    assert list(lora_layers(model)) == LINEARS
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == len(LINEARS)
    torch.manual_seed(1)
    for name, linear in linears.items():
        wrapped = model.get_submodule(name)
        assert type(wrapped) is wrapper
        assert wrapped.linear is linear
        drawn_next = LoRALayer(linear.in_features, linear.out_features, RANK, SCALING)
        assert torch.equal(wrapped.lora.A, drawn_next.A), name


# ------------------------------------------------------------------------------- make_trainable

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


@pytest.mark.parametrize("trainable_layers", TRAINABLE)
def test_just_the_named_part_is_trainable(trainable_layers, small_config):
    model = frozen_classifier(small_config)
    make_trainable(model, trainable_layers)
    names = {name for name, values in model.named_parameters() if values.requires_grad}
    assert names == TRAINABLE[trainable_layers]


@pytest.mark.parametrize("trainable_layers", TRAINABLE)
def test_a_step_of_training_moves_just_what_is_trainable(trainable_layers, small_config):
    model = frozen_classifier(small_config)
    make_trainable(model, trainable_layers)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    F.cross_entropy(model(*draw_batch()), torch.tensor([0, 1, 1, 0])).backward()
    optimizer.step()
    after = model.state_dict()
    moved = {name for name, values in before.items() if not torch.equal(after[name], values)}
    assert moved == TRAINABLE[trainable_layers]


@pytest.mark.parametrize(
    ("trainable_layers", "wrapper"),
    [("lora", LinearWithLoRA), ("lora_alternative", LinearWithLoRAMerged)],
)
def test_lora_has_the_chosen_form_rank_and_factor(trainable_layers, wrapper, small_config):
    model = frozen_classifier(small_config)
    make_trainable(model, trainable_layers, lora_rank=5, lora_scaling=0.5)
    assert type(model.out_head) is wrapper
    for lora in lora_layers(model).values():
        assert (lora.A.shape[1], lora.B.shape[0], lora.alpha) == (5, 5, 0.5)
