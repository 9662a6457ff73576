"""A classifier's own parameters on the shortest way to the same logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments.model.classifier import GPTClassifier
from experiments.model.recomputing import RecomputedBlocks, recompute
from experiments.shortcuts.casts import with_cast_weights
from experiments.shortcuts.layers import (
    LastingGradient,
    LookUp,
    apply_linear,
    normalise,
    run_block,
    run_last_block,
)


class ShortcutClassifier(nn.Module):
    """A `GPTClassifier`'s own parameters on the shortest way to the same logits.

    Args:
        plain: the classifier whose modules are shared.
        depth: how many of the first blocks the inputs have behind them; None for tokens.
        pooled: whether the inputs are what the head reads, (B, C).
        no_padding: whether all tokens of the messages are real.
        dtype: of the products in blocks that are run for all tokens; if None, the parameters'.
        cast_once: keeps frozen weights in that data type, beside those of the plain model.

    Raises:
        ValueError: when the plain model drops out, so that nothing frozen stays the same.
    """

    def __init__(
        self,
        plain: GPTClassifier,
        depth: int | None,
        pooled: bool = False,
        no_padding: bool = False,
        dtype: torch.dtype | None = None,
        cast_once: bool = True,
    ) -> None:
        super().__init__()
        if any(m.p > 0 for m in plain.modules() if isinstance(m, nn.Dropout)):
            raise ValueError("shortcuts need a model without dropout (drop_rate 0)")
        for name, module in plain.named_children():
            self.add_module(name, module)
        self.token_position = plain.token_position
        self.average_embeddings = plain.average_embeddings
        if no_padding and (self.average_embeddings or self.token_position == "last"):
            self.token_position = "flexible"  # the same, where all tokens are real
        self.depth = depth
        self.pooled = pooled
        self.dtype = dtype
        if dtype and cast_once:
            whole = len(self.trf_blocks) - (not self.average_embeddings)  # the last has one query
            self.trf_blocks = with_cast_weights(self.trf_blocks, dtype, whole)
        self.gradient: LastingGradient | None = LastingGradient(self.tok_emb.weight)

    def train(self, mode: bool = True) -> "ShortcutClassifier":
        """Returns the module in training or evaluation mode.

        Raises:
            RuntimeError: when something that was computed before is to be trained after all.
        """
        frozen = [] if self.depth is None else [self.tok_emb, self.pos_emb]
        frozen += self.trf_blocks[: len(self.trf_blocks) if self.pooled else self.depth or 0]
        if any(p.requires_grad for module in frozen for p in module.parameters()):
            raise RuntimeError("the hidden states need a frozen prefix: take shortcuts anew")
        return super().train(mode)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Returns logits (B, K) for tokens (B, T), hidden states (B, T, C), or what is pooled."""
        if self.pooled:
            return apply_linear(self.out_head, inputs)
        x = self.embed(inputs) if self.depth is None else inputs
        return apply_linear(self.out_head, self.pool(x, lengths, self.depth or 0))

    def embed(self, tokens: Tensor) -> Tensor:
        """Returns the input of the first block, (B, T) to (B, T, C)."""
        weight = self.tok_emb.weight
        is_trained = weight.requires_grad and torch.is_grad_enabled()
        if is_trained and self.gradient is not None:
            x = LookUp.apply(weight, tokens, self.gradient)
        else:
            x = self.tok_emb(tokens)
        return x + self.pos_emb.weight[: tokens.shape[1]]

    def run(self, function: Callable[..., Tensor], block: nn.Module, *inputs: Any) -> Tensor:
        """Returns a function of a block and its inputs; all blocks are run through here."""
        if isinstance(self.trf_blocks, RecomputedBlocks):
            return recompute(function, block, *inputs)
        return function(block, *inputs)

    def pool(self, x: Tensor, lengths: Tensor, depth: int) -> Tensor:
        """Returns what the head reads (B, C), from the hidden states (B, T, C) before a block."""
        T, x = x.shape[1], x.to(self.pos_emb.weight.dtype)
        for block in self.trf_blocks[depth:-1]:
            x = self.run(run_block, block, x, self.dtype)
        if not self.average_embeddings:
            by_name = {"first": torch.zeros_like(lengths), "last": torch.full_like(lengths, T - 1)}
            positions = by_name.get(self.token_position, lengths - 1)
            pooled = self.run(run_last_block, self.trf_blocks[-1], x, positions)
            return normalise(self.final_norm, pooled)
        x = self.run(run_block, self.trf_blocks[-1], x, self.dtype)
        x = normalise(self.final_norm, x)  # (B, T, C)
        if self.token_position != "flexible":
            return x.mean(dim=1)
        is_real = torch.arange(T, device=x.device) < lengths[:, None]  # (B, T)
        return (x * is_real[:, :, None]).sum(dim=1) / lengths[:, None]
