"""Frozen weights in the data type of the products, cast once for a whole run."""

from copy import deepcopy

import torch
from torch import nn


def with_cast_weights(blocks: nn.Sequential, dtype: torch.dtype, count: int) -> nn.Sequential:
    """Returns blocks whose frozen linear layers have weights of a data type; the rest is shared.

    What is trained stays as it is, and is cast when it is used. The blocks that are given stay too:
    whoever lets them go has the memory back.

    Args:
        blocks: of a classifier.
        dtype: of the products.
        count: how many of the blocks, from the first on.
    """
    shared = {id(tensor): tensor for tensor in (*blocks.parameters(), *blocks.buffers())}
    blocks = deepcopy(blocks, shared)
    for layer in blocks[:count].modules():
        if isinstance(layer, nn.Linear):
            for name, parameter in layer.named_parameters():
                if not parameter.requires_grad:
                    cast = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
                    setattr(layer, name, cast)
    return blocks
