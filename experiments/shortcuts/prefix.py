"""Hidden states of the frozen prefix: computed once for each distinct message, and looked up.

hidden = compute_hidden_states(model, messages, depth, cache_dir)
x = hidden.batch(numbers)  # (B, T, C)
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.shortcuts.layers import run_block
from experiments.shortcuts.model import ShortcutClassifier
from experiments.shortcuts.storage import cached_values, nameless_values, prefix_key
from experiments.system.devices import memory_of, total_memory
from experiments.system.distributed import add_up, agree, hand_out
from experiments.system.progress import progress
from experiments.system.torchrun import count_processes, rank
from experiments.training.memory_workload import MEMORY_SHARE, PREFIX_TOKENS


@dataclass(frozen=True)
class HiddenStates:
    """The hidden states of every distinct message before one block.

    They assume that embeddings and earlier blocks never change, that nothing is dropped out, and
    the messages, mask, data type and kernels they were computed with.
    """

    depth: int  # blocks behind them
    values: Tensor  # (tokens of all messages, C)
    lengths: Tensor  # (M,), tokens of each message
    place: str  # where they lie, in words
    seconds: float  # what computing them cost, whenever that was
    is_reused: bool = False

    def batch(self, messages: Tensor) -> Tensor:
        """Returns (B, T, C) for the numbers of some messages (B,), zeros after the shorter."""
        lengths, values = self.lengths[messages], self.values
        shape = len(messages), int(lengths.max()), values.shape[1]
        is_pinned = values.is_cpu and torch.cuda.is_available() and values.is_pinned()
        x = torch.zeros(shape, dtype=values.dtype, device=values.device, pin_memory=is_pinned)
        ends = self.ends[messages]
        for row, length, end in zip(x, lengths.tolist(), ends.tolist(), strict=True):
            row[:length] = values[end - length : end]
        return x

    @cached_property
    def ends(self) -> Tensor:
        """Where each message's tokens end, (M,)."""
        return self.lengths.cumsum(0)


def prefix_batches(messages: list[Tensor], is_causal: bool) -> Iterator[list[Tensor]]:
    """Yields batches of messages, shortest first; without the mask, of one length each."""
    batch: list[Tensor] = []
    for tokens in messages:
        is_full = (len(batch) + 1) * len(tokens) > PREFIX_TOKENS
        if batch and (is_full or not (is_causal or len(tokens) == len(batch[0]))):
            yield batch
            batch = []
        batch.append(tokens)
    if batch:
        yield batch


@torch.no_grad()
def run_prefix(
    model: ShortcutClassifier, messages: list[Tensor], depth: int, values: Tensor
) -> None:
    """Fills `values` (tokens of all messages, C) with the hidden states before block `depth`.

    Several processes take the batches in turn.
    """
    device = model.pos_emb.weight.device
    is_causal = not model.trf_blocks[0].att.disable_causal_mask
    filled = 0
    with progress("Hidden states", len(messages), "messages") as bar:
        for number, batch in enumerate(prefix_batches(messages, is_causal)):
            size = sum(map(len, batch))
            if number % count_processes() != rank():
                values[filled : filled + size] = 0
                filled += size
                continue
            tokens = nn.utils.rnn.pad_sequence(batch, batch_first=True)  # (B, T)
            x = model.embed(tokens.to(device))  # (B, T, C)
            for block in model.trf_blocks[:depth]:
                x = run_block(block, x, model.dtype)
            x = x.to(values.device)  # at once: each copy from a GPU waits for it
            for row, of_message in zip(x, batch, strict=True):
                values[filled : filled + len(of_message)] = row[: len(of_message)]
                filled += len(of_message)
            bar.update(len(batch) * count_processes())
    add_up(values)


def compute_hidden_states(
    model: ShortcutClassifier,
    messages: list[Tensor],
    depth: int,
    cache_dir: Path | None = None,
    conditions: str = "",
    memo: dict[str, HiddenStates] | None = None,
) -> HiddenStates:
    """Returns the hidden states of messages before block `depth`, from the cache if it has them.

    Args:
        model: whose embeddings and first blocks are run.
        messages: the tokens of each.
        depth: how many blocks are run.
        cache_dir: where they are kept for the next run; None keeps nothing.
        conditions: what else they depend on, such as precision and kernels.
        memo: where the last are kept for the next call in this process.

    Raises:
        OSError: when a file is needed and cannot be written, say because the disk is full.
    """
    key = ""
    if cache_dir is not None or memo is not None:
        key = prefix_key(model, messages, depth, conditions)
    if memo is None:
        return make_hidden_states(model, messages, depth, cache_dir, key)
    if key in memo:
        return replace(memo[key], is_reused=True)
    memo.clear()  # first, so that two are never in memory
    memo[key] = make_hidden_states(model, messages, depth, cache_dir, key)
    return memo[key]


def make_hidden_states(
    model: ShortcutClassifier, messages: list[Tensor], depth: int, cache_dir: Path | None, key: str
) -> HiddenStates:
    """Returns hidden states: on an accelerator, in memory, or in a file.

    That is one of the cache, under a key, or one without a name. An accelerator gets those of the
    cache too, where it has room; else each batch is copied ahead, while the device is busy.

    Of several processes the first one alone looks into the cache; the others hear from it whether
    there is something to compute, and keep their own copy.
    """
    lengths = torch.tensor([len(tokens) for tokens in messages])
    weight = model.pos_emb.weight
    shape, dtype = (int(lengths.sum()), weight.shape[1]), model.dtype or weight.dtype
    size, device = math.prod(shape) * dtype.itemsize, weight.device
    has_room = agree(device.type != "cpu" and size <= MEMORY_SHARE * memory_of(device))

    def compute(values: Tensor) -> float:
        started = time.perf_counter()
        run_prefix(model, messages, depth, values)
        return time.perf_counter() - started

    def fill(values: Tensor) -> float:
        agree(True)
        return compute(values)

    if cache_dir is not None and rank() == 0:
        path = cache_dir / f"{key}.hidden"
        values, seconds, is_reused = cached_values(path, shape, dtype, fill)
        if is_reused:
            agree(False)
            hand_out(values)
        values = values.to(device) if has_room else values
        return HiddenStates(depth, values, lengths, f"in {path}", seconds, is_reused)
    if has_room and cache_dir is None:  # with one, the first process sends what lies on the CPU
        values, place = torch.empty(shape, dtype=dtype, device=device), f"on {device.type}"
    elif size * count_processes() <= MEMORY_SHARE * total_memory():
        is_pinned = device.type == "cuda"  # from where a copy waits for nothing
        values, place = torch.empty(shape, dtype=dtype, pin_memory=is_pinned), "in memory"
    else:
        values, folder = nameless_values(shape, dtype)
        place = f"in a file in {folder} that goes with the run"
    if rank() == 0:
        return HiddenStates(depth, values, lengths, place, fill(values))
    if agree(None):
        compute(values)
    else:
        hand_out(values)
    values = values.to(device) if has_room else values
    return HiddenStates(depth, values, lengths, place, seconds=0.0)
