"""From a GPT to a classifier: logits of a text, and what is trained.

    model = create_classifier(design, params, seed=123, num_classes=2)
    logits = model(tokens, lengths)  # (B, 2)

Shapes: B examples, T tokens, C width, K classes.
Sources: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6; Chen et al. 2016,
"Training Deep Nets with Sublinear Memory Cost" (activation checkpointing).
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.design import Design
from experiments.config.settings import Settings
from experiments.model.lora import replace_linear_with_lora
from gpt_download import download_and_load_gpt2
from previous_chapters import GPTModel, load_weights_into_gpt

# Returns a function's output, and stores only its inputs for the backward pass.
checkpointed = partial(checkpoint, use_reentrant=False)


class GPTClassifier(GPTModel):
    """A GPT that returns one set of logits for each text.

    `activation_checkpointing` computes the blocks again in the backward pass instead of storing
    their activations.
    """

    def __init__(self, design: Design, activation_checkpointing: bool = False) -> None:
        super().__init__(design.config, design.disable_causal_mask)
        self.design = design
        self.activation_checkpointing = activation_checkpointing
        if activation_checkpointing:
            self.trf_blocks = CheckpointedBlocks(*self.trf_blocks)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, K) for tokens (B, T), the first `lengths` (B,) real."""
        logits, position = super().forward(tokens), self.design.token_position  # (B, T, K)
        if not self.design.average_embeddings:
            positions = {"first": 0, "last": -1, "flexible": lengths - 1}[position]
            return logits[torch.arange(len(logits), device=logits.device), positions]
        if position != "flexible":
            return logits.mean(dim=1)
        is_real = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]  # (B, T)
        return (logits * is_real[:, :, None]).sum(dim=1) / lengths[:, None]


class CheckpointedBlocks(nn.Sequential):
    """Blocks that store only their inputs for the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last block, (B, T, C) to (B, T, C)."""
        for block in self:
            x = checkpointed(block, x)
        return x


def make_trainable(model: GPTClassifier) -> None:
    """Unfreeze what the design trains, or add LoRA, in a frozen model."""
    design = model.design
    if design.is_lora:
        replace_linear_with_lora(model, design.lora_rank, design.lora_scaling)
        return
    model.out_head.requires_grad_(True)
    model.final_norm.requires_grad_(design.trains_final_norm)
    model.trf_blocks[design.num_frozen_blocks :].requires_grad_(True)
    for embedding in (model.tok_emb, model.pos_emb):
        embedding.requires_grad_(design.trainable_layers == "all")


def create_classifier(
    design: Design,
    params: dict[str, Any] | None,
    seed: int,
    num_classes: int,
    activation_checkpointing: bool = False,
) -> GPTClassifier:
    """Return a classifier on the CPU with the published initialisation.

    Initial weights are `params`, as `load_weights_into_gpt` takes them, or random ones if None; the
    seed is of these, and of the head and LoRA.

    Raises:
        ValueError: when the weights do not fit the network.
    """
    if params is None:
        torch.manual_seed(seed)
        model = GPTClassifier(design, activation_checkpointing)
    else:
        with torch.device("meta"):
            model = GPTClassifier(design, activation_checkpointing)
        load_weights_into_gpt(model, params)
    model.requires_grad_(False)
    torch.manual_seed(seed)
    model.out_head = nn.Linear(design.config["emb_dim"], num_classes)
    make_trainable(model)
    return model


def build_classifier(settings: Settings, num_classes: int) -> GPTClassifier:
    """Return a run's classifier on the CPU; download its weights if needed.

    Raises:
        OSError: when the weights cannot be downloaded or read.
        ValueError: when they are not those of a GPT-2.
    """
    weights, runtime, params = settings.weights, settings.runtime, None
    if weights.kind == "checkpoint":
        params = load_gpt2_checkpoint(weights.path)[1]
    elif weights.kind == "pretrained":
        params = download_and_load_gpt2(weights.model_size, verify=runtime.verify)[1]
    checkpoints = runtime.activation_checkpointing
    return create_classifier(settings.design, params, settings.seed, num_classes, checkpoints)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of trained and of all parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, is_trained in sizes if is_trained), sum(n for n, _ in sizes)
