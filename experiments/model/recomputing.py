"""Activation checkpointing: a block's inner results are computed again, in place of being kept.

    model.trf_blocks = RecomputedBlocks(*model.trf_blocks)

The backward pass reads what the forward pass left behind, which grows with the blocks, the batch
and the tokens. Here only what goes into a block is left behind; the block runs a second time when
the backward pass comes to it. The numbers are the same, for they are computed by the same code.

Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class RecomputedBlocks(nn.Sequential):
    """A stack of blocks that keeps of each only its input; parameters and their names stay."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns what the blocks make of hidden states, (B, T, C) to (B, T, C)."""
        for block in self:
            x = recompute(block, x)
        return x


def recompute(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Returns what a function makes of its inputs, which alone are kept for the backward pass."""
    if not torch.is_grad_enabled():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False)
