"""LoRA: a low-rank update beside every linear layer, whose own weights stay frozen.

    replace_linear_with_lora(model, rank=8, alpha=8)

Sources: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"; Raschka 2024, "Build
a Large Language Model (From Scratch)", appendix E.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoRALayer(nn.Module):
    """A low-rank update of a linear layer: alpha * x A B, nothing while B is 0.

    Args:
        in_dim: width of the input.
        out_dim: width of the output.
        rank: width between A and B.
        alpha: the factor, by which the update is multiplied as it is.
    """

    def __init__(self, in_dim: int, out_dim: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(in_dim, rank))
        # In this layout fan_in is `rank`, so that A starts sqrt(in / rank) wider than LoRA's
        # authors have it. Rows 11 and 12 were published with it.
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.B = nn.Parameter(torch.zeros(rank, out_dim))
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Returns the update, (..., in) to (..., out)."""
        return self.alpha * (x @ self.A @ self.B)


class LinearWithLoRA(nn.Module):
    """A linear layer with a LoRA beside it."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sum of the two, (..., in) to (..., out)."""
        return self.linear(x) + self.lora(x)


class LinearWithLoRAMerged(LinearWithLoRA):
    """The same function through one weight: x (W + alpha A B) + b."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sum of the two, (..., in) to (..., out)."""
        update = self.lora.alpha * (self.lora.A @ self.lora.B)  # (in, out)
        return F.linear(x, self.linear.weight + update.T, self.linear.bias)


def replace_linear_with_lora(
    model: nn.Module, rank: int, alpha: float, alternative: bool = False
) -> None:
    """Wraps every linear layer of a model, in the order of `named_children`.

    Args:
        model: changed in place.
        rank: LoRA's rank.
        alpha: the factor of LoRA's update.
        alternative: takes `LinearWithLoRAMerged`.
    """
    wrapper = LinearWithLoRAMerged if alternative else LinearWithLoRA
    for name, child in model.named_children():
        if isinstance(child, nn.Linear):
            setattr(model, name, wrapper(child, rank, alpha))
        else:
            replace_linear_with_lora(child, rank, alpha, alternative)
