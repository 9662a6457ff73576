"""How many bytes a run needs, from its settings alone.

    need = Need(network, training, machine, messages, place)
    need.weights, need.activations, need.peak

It counts what PyTorch's autograd keeps, tensor by tensor, and adds what was measured of the process
itself and of the C library's heap; `docs/memory.md` holds it against measured peaks. Pages of
mapped files are the system's to take back, and not counted: a checkpoint's, and those of hidden
states in a file.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from experiments.config.settings import Machine, Network, Training
from experiments.training.memory_parameters import Parameters, blocks_trained_through, count_by_part
from experiments.training.memory_workload import (
    MEMORY_SHARE,
    POOL,
    PREFIX_TOKENS,
    SHORT,
    Messages,
    Place,
)

FLOAT, HALF = 4, 2  # bytes
BASE = 460 * 2**20  # Python, the modules, and the tokenizer; measured
SHARING = 1056 * 2**20  # more modules, what is sent and gathered, the whole model's hole; measured

# Numbers that the forward pass of one block leaves behind for the backward pass, in widths C a
# token. Fused: the inputs of both norms, of the three linears behind the first, of the out
# projection and of the widening one are 5, queries, keys and values 3, GELU's input and output 8.
# The book's norms keep two more each, its GELU 12; in bfloat16 each of its linears keeps a copy of
# its own. Attention weights come on top, as many as heads times tokens, but where they are fused.
KEPT = {  # by whether shortcuts are taken, and precision
    (True, "float32"): 16,
    (True, "bfloat16"): 10,
    (False, "float32"): 32,
    (False, "bfloat16"): 20,
}
KEPT_OF_ONE_QUERY = 2  # the last block's input, and the same normalised

# The same of what is there while a block computes, and goes with it.
PASSING = {True: 10, False: 20}  # in training, by whether shortcuts are taken
PASSING_PREFIX = 17
PASSING_POOL = 4

# The heap of Linux's C library seldom gives a hole to an aligned tensor of that very size, so that
# what lay between kept tensors is lost for as long as these are. Measured, of what is kept.
HEAP = {  # by whether shortcuts are taken, and whether activations are checkpointed
    (True, False): 1.5,
    (False, False): 2.2,
    (True, True): 3.3,
    (False, True): 6,
}


@dataclass(frozen=True)
class Need:
    """The bytes of memory that a run needs, in each of its processes."""

    network: Network
    training: Training
    machine: Machine
    messages: Messages
    place: Place

    # ------------------------------------------------------------------------------- what is there

    @property
    def base(self) -> float:
        """The process itself, and what sharing out takes of it; nothing of it is on a GPU."""
        return BASE + SHARING * (self.share > 1) if self.place.is_cpu else 0

    @property
    def weights(self) -> float:
        """All parameters; of blocks that are shared out, two at a time are put together.

        Frozen ones in bfloat16 are among `casts`.
        """
        counts = self.counts
        if self.share == 1:
            return FLOAT * (counts.total - self.frozen_casts)
        shared = counts.block * (counts.blocks - self.depth)
        return FLOAT * (counts.total - shared + shared / self.share + 2 * counts.block)

    @property
    def gradients(self) -> float:
        """One of each trained parameter; of shared ones, a part."""
        return FLOAT * (self.counts.trained_blocks / self.share + self.counts.trained_rest)

    @property
    def optimiser(self) -> float:
        """AdamW's two moments of each trained parameter; of shared ones, a part."""
        return 2 * FLOAT * self.counts.trained / self.share

    @property
    def best_epoch(self) -> float:
        """The copy that `--keep_best` holds."""
        return self.gradients * self.training.keep_best

    @property
    def activations(self) -> float:
        """What the forward pass of a batch leaves behind, and what passes meanwhile."""
        recomputes = self.machine.activation_checkpointing
        heap = HEAP[self.fast, recomputes] if self.place.is_cpu else 1
        kept, passing = self.kept_of_block, self.passing_of_block
        full = self.trained_whole
        kept_of_all = full * self.width + kept * bool(full) if recomputes else full * kept
        if self.has_one_query:
            kept_of_all += KEPT_OF_ONE_QUERY * self.width
            passing = passing if full else KEPT_OF_ONE_QUERY * self.width
        tokens = self.batch * self.length
        return FLOAT * tokens * (heap * kept_of_all + passing) + self.casts

    @property
    def hidden_states(self) -> float:
        """Those of frozen layers, where they are in the device's memory."""
        if self.place.is_cpu:
            return 0 if self.is_mapped else self.all_hidden_states
        has_room = self.all_hidden_states <= MEMORY_SHARE * self.place.gpu
        return self.all_hidden_states if has_room else 0

    @property
    def mapped(self) -> float:
        """Those in a file, whose pages the system can take back; no part of the peak."""
        return self.all_hidden_states if self.is_mapped else 0

    # -------------------------------------------------------------------------------- and at once

    @property
    def peak(self) -> float:
        """The most at once: while the model is built, in the frozen prefix, or in training."""
        counts = self.counts
        # The vocabulary's head is there until the new one is, and nothing is shared out yet.
        building = FLOAT * (counts.total + counts.tokens)
        both = FLOAT * counts.total + HALF * self.frozen_casts
        prefix = both + self.hidden_states + self.prefix
        training = self.weights + self.hidden_states + self.training_peak
        return self.base + max(building, prefix, training)

    @property
    def prefix(self) -> float:
        """What passes while hidden states are computed, or what is pooled of them."""
        if not self.depth:
            return 0
        batch = PASSING_PREFIX * max(PREFIX_TOKENS, self.length)
        pool = PASSING_POOL * POOL * self.length if self.is_pooled else 0
        return FLOAT * self.width * max(batch, pool)

    @property
    def training_peak(self) -> float:
        """The most that training adds: as the backward pass begins, at its end, or in the step."""
        everything = self.network.trainable_layers == "all"
        table = FLOAT * self.counts.tokens if everything else 0
        accumulated = self.gradients if self.training.accumulation_steps > 1 else 0
        lasting = table if self.fast and self.place.processes == 1 else 0  # `LastingGradient`'s
        there = max(accumulated, lasting)
        recomputes = self.machine.activation_checkpointing
        of_one_block = self.activations / (1 if recomputes else max(1, self.through))
        largest = table or FLOAT * 4 * self.width**2  # of what is trained
        in_step = 0 if self.fast else 2 * largest  # fused, AdamW holds nothing in between
        at_end = self.gradients + of_one_block + in_step
        return self.optimiser + self.best_epoch + max(there + self.activations, at_end)

    # ------------------------------------------------------------------------------------ by parts

    @cached_property
    def config(self) -> dict[str, Any]:
        """The book's, of the network."""
        return self.network.config

    @cached_property
    def counts(self) -> Parameters:
        """The parameters of the network's parts."""
        return count_by_part(self.network, self.messages.num_classes)

    @property
    def share(self) -> int:
        """Among how many processes the blocks are shared out."""
        return self.place.processes if self.place.sharded else 1

    @property
    def fast(self) -> bool:
        """Whether shortcuts are taken."""
        return not self.machine.no_shortcuts

    @property
    def width(self) -> int:
        """C, of the network."""
        return self.config["emb_dim"]

    @property
    def through(self) -> int:
        """Blocks through which the gradients go."""
        return blocks_trained_through(self.network.trainable_layers, self.config["n_layers"])

    @property
    def batch(self) -> int:
        """Messages of a batch, in one process."""
        return math.ceil(self.training.batch_size / self.place.processes)

    @property
    def length(self) -> int:
        """Tokens that are computed of the longest message."""
        return 1 if self.fast and self.network.reads_first_alone else self.messages.length

    @property
    def has_one_query(self) -> bool:
        """Whether only one position of the last block's output is computed."""
        return self.fast and not self.network.average_embeddings

    @property
    def depth(self) -> int:
        """Blocks whose hidden states are computed once."""
        n = self.config["n_layers"]
        return min(n - self.through, n - 1) if self.fast else 0

    @property
    def is_pooled(self) -> bool:
        """Whether what the head reads is computed once, too."""
        return self.fast and self.network.trainable_layers == "last_layer"

    @property
    def kept_of_block(self) -> float:
        """Numbers a token that a block leaves behind."""
        kept = KEPT[self.fast, self.machine.precision] * self.width
        if not self.fast:
            return kept + self.attention_weights / (2 if self.is_half else 1)
        is_fused = self.length > SHORT or not self.place.is_cpu
        return kept + (0 if is_fused else self.attention_weights * (1.5 if self.is_half else 1))

    @property
    def passing_of_block(self) -> float:
        """Numbers a token that are there while a block computes."""
        passing = PASSING[self.fast] * self.width
        if self.fast:
            return passing
        return max(passing, 8 * self.width + 3 * self.attention_weights)

    @property
    def attention_weights(self) -> int:
        """Numbers a token of the book's attention, H T."""
        return self.config["n_heads"] * self.length

    @property
    def trained_whole(self) -> int:
        """Blocks through which the gradients go, and of which every position is computed."""
        return self.through - (self.has_one_query and self.through > 0)

    @property
    def is_half(self) -> bool:
        """Whether products take bfloat16."""
        return self.machine.precision == "bfloat16"

    @property
    def is_lora(self) -> bool:
        """Whether the gradients go through layers whose own weights are frozen."""
        return "lora" in self.network.trainable_layers

    @property
    def linears_of_block(self) -> int:
        """Weights of a block's linear layers."""
        return 12 * self.width**2

    @property
    def frozen_casts(self) -> int:
        """Frozen weights that are in bfloat16 for the whole run, and no longer in float32."""
        if not (self.is_half and self.fast and self.share == 1):
            return 0
        n = self.config["n_layers"]
        frozen = n if self.is_lora else n - self.through
        return self.linears_of_block * min(frozen, n - self.has_one_query)

    @property
    def casts(self) -> int:
        """The bytes of weights in bfloat16, those for the whole run and those that a step makes."""
        if not self.is_half:
            return 0
        is_kept = self.is_lora and self.frozen_casts
        of_step = 0 if is_kept else self.linears_of_block * self.trained_whole
        return HALF * (of_step + self.frozen_casts)

    @property
    def all_hidden_states(self) -> float:
        """Those of every distinct message before the first trained block."""
        if not self.depth:
            return 0
        messages = self.messages
        tokens = messages.distinct * self.length
        if self.network.reads_to_last_real or not messages.is_padded:
            tokens = min(tokens, messages.tokens)
        return (HALF if self.is_half else FLOAT) * self.width * tokens

    @property
    def is_mapped(self) -> bool:
        """Whether hidden states lie in a file."""
        is_large = self.all_hidden_states > MEMORY_SHARE * self.place.total
        return is_large or (self.machine.cache_dir is not None and self.depth > 0)
