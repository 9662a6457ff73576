"""From a GPT to a classifier: logits for a message as a whole, and what of the network is trained.

    model = GPTClassifier(cfg, token_position="last")
    model.requires_grad_(False)
    model.out_head = nn.Linear(cfg["emb_dim"], 2)
    make_trainable(model, "last_block")
    logits = model(tokens, lengths)  # (B, 2)

Shapes: B messages, T tokens, C width, K classes.

Sources: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6 and appendix E;
Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from previous_chapters import GPTModel

# ------------------------------------------------------------------------------------ classifier


class GPTClassifier(GPTModel):
    """A GPT that gives the logits of each message as a whole.

    Args:
        cfg: as `GPTModel` takes it.
        token_position: whose logits count: `first`, `last`, or `flexible`, the last real token.
        average_embeddings: takes the mean over all positions instead; with `flexible`, over the
            real tokens.
        disable_causal_mask: lets every token see every other.
    """

    def __init__(
        self,
        cfg: dict[str, Any],
        token_position: str = "last",
        average_embeddings: bool = False,
        disable_causal_mask: bool = False,
    ) -> None:
        super().__init__(cfg, disable_causal_mask)
        self.token_position = token_position
        self.average_embeddings = average_embeddings

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Returns logits (B, K) for tokens (B, T) of which the first `lengths` (B,) are real."""
        logits = super().forward(tokens)  # (B, T, K)
        if not self.average_embeddings:
            positions = {"first": 0, "last": -1, "flexible": lengths - 1}[self.token_position]
            return logits[torch.arange(len(logits), device=logits.device), positions]
        if self.token_position != "flexible":
            return logits.mean(dim=1)
        is_real = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]  # (B, T)
        return (logits * is_real[:, :, None]).sum(dim=1) / lengths[:, None]


# ------------------------------------------------------------------------------------------ LoRA


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


def make_trainable(
    model: GPTClassifier, trainable_layers: str, lora_rank: int = 8, lora_scaling: float = 8.0
) -> None:
    """Unfreezes a part of a frozen model, or adds LoRA to all of it; a new head stays trainable.

    Args:
        model: changed in place.
        trainable_layers: `last_layer`, `last_block`, `last_two_blocks`, `all`, `lora` or
            `lora_alternative`.
        lora_rank: LoRA's rank.
        lora_scaling: the factor of LoRA's update.
    """
    if trainable_layers in ("lora", "lora_alternative"):
        alternative = trainable_layers == "lora_alternative"
        replace_linear_with_lora(model, lora_rank, lora_scaling, alternative)
        return
    trainable = {
        "last_layer": [model.out_head],
        "last_block": [model.trf_blocks[-1], model.final_norm],
        "last_two_blocks": [*model.trf_blocks[-2:], model.final_norm],
        "all": [model],
    }
    for module in trainable[trainable_layers]:
        module.requires_grad_(True)
