"""What a classifier computes, and which of its parameters are trained.

    design = Design(config, "last", False, False, "last_block", 8, 8.0)
    design.num_frozen_blocks, design.needed_tokens(no_padding=False)  # 11, "all"

The model, the caches, the memory estimate and the order of runs all take these facts from here.
"""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Design:
    """A classifier but for its weights and its number of classes."""

    config: dict[str, Any]  # the book's, as `GPTModel` takes it
    token_position: str
    average_embeddings: bool
    disable_causal_mask: bool
    trainable_layers: str
    lora_rank: int
    lora_scaling: float  # factor of LoRA's update

    @property
    def is_lora(self) -> bool:
        """Whether LoRA is added to every linear layer."""
        return self.trainable_layers in ("lora", "lora_alternative")

    @property
    def num_trained_blocks(self) -> int:
        """Number of last blocks through which gradients flow."""
        few = {"last_layer": 0, "last_block": 1, "last_two_blocks": 2}
        blocks = self.config["n_layers"]
        return min(few.get(self.trainable_layers, blocks), blocks)

    @property
    def num_frozen_blocks(self) -> int:
        """Number of first blocks whose output stays the same during training."""
        return self.config["n_layers"] - self.num_trained_blocks

    @property
    def trains_final_norm(self) -> bool:
        """Whether the final norm is trained."""
        return self.trainable_layers in ("last_block", "last_two_blocks", "all")

    def needed_tokens(self, no_padding: bool) -> Literal["first", "real", "all"]:
        """Return which tokens of an example its logits depend on.

        Under the causal mask, these are the tokens up to the position that is read; `flexible`
        never reads beyond the real tokens, averaging or not. Without the mask, or when averaging
        over the padding, they are all.
        """
        if not self.disable_causal_mask:
            if self.token_position == "flexible":
                return "real"
            if self.token_position == "first" and not self.average_embeddings:
                return "first"
        return "real" if no_padding else "all"

    def count_parameters(self, num_classes: int) -> tuple[int, int]:
        """Return how many parameters are trained, and how many there are."""
        config, rank = self.config, self.lora_rank if self.is_lora else 0
        C, n = config["emb_dim"], config["n_layers"]
        embeddings = (config["vocab_size"] + config["context_length"]) * C
        block = 12 * C * C + (13 if config["qkv_bias"] else 10) * C
        lora = n * 18 * C * rank  # A and B of the six linear layers of each block
        head = (C + 1) * num_classes + (C + num_classes) * rank
        trained = lora if self.is_lora else block * self.num_trained_blocks
        trained += embeddings * (self.trainable_layers == "all") + 2 * C * self.trains_final_norm
        return trained + head, embeddings + n * block + lora + 2 * C + head
