"""What a run computes on, in numbers: its messages, where it computes, and how much at a time.

The published messages and the made-up ones are known unread.
"""

from typing import NamedTuple

from experiments.config.settings import Reading
from experiments.config.sizes import DISTINCT, sizes_of

SHORT = 256  # tokens, up to which attention is plain products on a CPU
PREFIX_TOKENS = 2048  # in one batch of the frozen prefix
POOL = 64  # messages of which the head's input is computed at once
MEMORY_SHARE = 1 / 8  # of the machine's memory; larger hidden states lie elsewhere


class Messages(NamedTuple):
    """The messages of a run."""

    sizes: dict[str, int]  # messages of each split
    length: int  # tokens of each as the network gets it, or of the longest without padding
    distinct: int  # messages, over all splits
    tokens: int  # of the distinct ones together, without padding
    is_padded: bool = True
    num_classes: int = 2


class Place(NamedTuple):
    """Where a run computes, and with how many."""

    total: float  # bytes of memory that the machine has; infinity if not known
    is_cpu: bool = True
    processes: int = 1  # that share out each batch
    sharded: bool = False  # whether they share out the blocks, too
    gpu: float = 0  # bytes of memory that the GPU has, where it computes on one


def known_messages(reading: Reading, model_context: int) -> Messages:
    """Returns the messages that are published or made up, without reading them.

    Args:
        reading: which, and how they are cut.
        model_context: the most tokens that the model takes.
    """
    distinct, tokens, longest = DISTINCT[reading.demo]
    length = model_context
    if isinstance(reading.context_length, int):
        length = reading.context_length
    elif reading.no_padding or reading.context_length == "longest_training_example":
        length = min(longest, model_context)
    tokens = min(tokens, distinct * length)
    return Messages(sizes_of(reading.demo), length, distinct, tokens, not reading.no_padding)
