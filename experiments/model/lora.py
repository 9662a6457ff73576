"""LoRA: a trained low-rank update of every linear layer, which is frozen.

    replace_linear_with_lora(model, rank=8, alpha=8)

Sources: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"; Raschka 2024, "Build
a Large Language Model (From Scratch)", appendix E, whose names of classes these are.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoRALayer(nn.Module):
    """The update of a linear layer, alpha * x A B, not divided by the rank."""

    def __init__(self, in_dim: int, out_dim: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(in_dim, rank))
        # In this layout fan_in is `rank`, so A starts sqrt(in / rank) wider than in the paper.
        # Rows 11 and 12 were published with it.
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.B = nn.Parameter(torch.zeros(rank, out_dim))
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Return the update, (..., in) to (..., out)."""
        return self.alpha * (x @ self.A @ self.B)


class LinearWithLoRA(nn.Module):
    """A linear layer plus its LoRA update."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both, (..., in) to (..., out)."""
        return self.linear(x) + self.lora(x)


class LinearWithLoRAMerged(LinearWithLoRA):
    """The same function with one weight: x (W + alpha A B) + b."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both, (..., in) to (..., out)."""
        return F.linear(x, merged_weight(self), self.linear.bias)


def merged_weight(layer: nn.Linear | LinearWithLoRA) -> Tensor:
    """Return a layer's whole weight (out, in), including LoRA's update."""
    if isinstance(layer, nn.Linear):
        return layer.weight
    return layer.linear.weight + (layer.lora.alpha * (layer.lora.A @ layer.lora.B)).T


def replace_linear_with_lora(
    model: nn.Module, rank: int, alpha: float, alternative: bool = False
) -> None:
    """Add LoRA, or `LinearWithLoRAMerged` as alternative, to all linear layers in place."""
    wrapper = LinearWithLoRAMerged if alternative else LinearWithLoRA
    for name, child in model.named_children():
        if isinstance(child, nn.Linear):
            setattr(model, name, wrapper(child, rank, alpha))
        else:
            replace_linear_with_lora(child, rank, alpha, alternative)
