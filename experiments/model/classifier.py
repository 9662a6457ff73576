"""From a GPT to a classifier: logits for a message as a whole, and what of the network is trained.

    model = create_classifier(design, params, seed=123, num_classes=2)
    logits = model(tokens, lengths)  # (B, 2)

Shapes: B messages, T tokens, C width, K classes.

Source: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.model.lora import replace_linear_with_lora
from previous_chapters import GPTModel, load_weights_into_gpt


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


@dataclass(frozen=True)
class Design:
    """What a classifier is, but for its numbers and the number of its classes."""

    config: dict[str, Any]  # the book's, as `GPTModel` takes it
    token_position: str
    average_embeddings: bool
    disable_causal_mask: bool
    trainable_layers: str
    lora_rank: int
    lora_scaling: float  # the factor of LoRA's update


def create_classifier(
    design: Design, params: dict[str, Any] | None, seed: int, num_classes: int
) -> GPTClassifier:
    """Returns the adapted model, on the CPU, with the published initialisation.

    Args:
        design: what is built and what of it is trained.
        params: the weights to start from, as `load_weights_into_gpt` takes them; None draws them.
        seed: of random weights, and of the head.
        num_classes: what the head tells apart.

    Raises:
        ValueError: when the weights are not the network's.
    """
    choices = design.token_position, design.average_embeddings, design.disable_causal_mask
    if params is None:
        torch.manual_seed(seed)
        model = GPTClassifier(design.config, *choices)
    else:
        with torch.device("meta"):
            model = GPTClassifier(design.config, *choices)
        load_weights_into_gpt(model, params)
    model.requires_grad_(False)
    torch.manual_seed(seed)
    model.out_head = nn.Linear(design.config["emb_dim"], num_classes)
    make_trainable(model, design.trainable_layers, design.lora_rank, design.lora_scaling)
    return model
