"""How many parameters a network has, and how many of them are trained, from its settings alone."""

from typing import NamedTuple

from experiments.config.settings import Network


class Parameters(NamedTuple):
    """The parameters of a network's parts; LoRA's are counted where they are added."""

    tokens: int  # the embedding of tokens
    positions: int
    block: int  # each of them
    blocks: int  # how many
    ends: int  # the final norm and the new head
    trained_blocks: int  # all together
    trained_rest: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.tokens + self.positions + self.block * self.blocks + self.ends

    @property
    def trained(self) -> int:
        """Those that are trained."""
        return self.trained_blocks + self.trained_rest


def count_by_part(network: Network, num_classes: int) -> Parameters:
    """Returns how many parameters the parts of a network have.

    Args:
        network: which network is built, and what of it is trained.
        num_classes: what the new head tells apart.
    """
    config, layers, rank = network.config, network.trainable_layers, network.lora_rank
    C, n = config["emb_dim"], config["n_layers"]
    tokens, positions = config["vocab_size"] * C, config["context_length"] * C
    block = 12 * C * C + (13 if config["qkv_bias"] else 10) * C
    norm, head = 2 * C, (C + 1) * num_classes
    if layers in ("lora", "lora_alternative"):
        lora, head_lora = 18 * C * rank, (C + num_classes) * rank  # A and B of each linear
        ends = norm + head + head_lora
        return Parameters(tokens, positions, block + lora, n, ends, n * lora, head + head_lora)
    rest = {"last_layer": head, "all": tokens + positions + norm + head}
    trained = block * blocks_trained_through(layers, n)
    trained_rest = rest.get(layers, norm + head)
    return Parameters(tokens, positions, block, n, norm + head, trained, trained_rest)


def blocks_trained_through(trainable_layers: str, blocks: int) -> int:
    """Returns through how many of so many blocks the gradients go."""
    few = {"last_layer": 0, "last_block": 1, "last_two_blocks": 2}
    return min(few.get(trainable_layers, blocks), blocks)
