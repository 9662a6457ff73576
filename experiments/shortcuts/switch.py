"""The one switch: a plain model and its data sets in, faster ones out."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from experiments.data.datasets import MessageDataset, Splits
from experiments.model.classifier import GPTClassifier
from experiments.shortcuts.model import ShortcutClassifier
from experiments.shortcuts.needed import distinct_messages, frozen_blocks, needed_lengths
from experiments.shortcuts.prefix import HiddenStates, compute_hidden_states
from experiments.training.memory_workload import POOL


class ShortcutDataset(Dataset):
    """A data set's labels and lengths, beside inputs that are further along than tokens."""

    def __init__(self, plain: MessageDataset, inputs_of: Callable[[list[int]], Tensor]) -> None:
        self.plain = plain
        self.labels = plain.labels  # (N,)
        self.inputs_of = inputs_of

    def __len__(self) -> int:
        return len(self.plain)

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the inputs (B, ...), lengths (B,) and labels (B,) of some messages."""
        return self.inputs_of(indices), self.plain.lengths[indices], self.labels[indices]


class Shortcuts(NamedTuple):
    """What takes the place of the plain model and its data sets."""

    model: ShortcutClassifier
    datasets: Splits
    report: str
    prefix_seconds: float = 0.0  # of hidden states and what is made of them, as if none were kept
    prefix_reused: bool = False


def take_shortcuts(
    plain: GPTClassifier,
    datasets: Splits,
    cache_dir: Path | None = None,
    conditions: str = "",
    memo: dict[str, HiddenStates] | None = None,
    dtype: torch.dtype | None = None,
    cast_once: bool = True,
) -> Shortcuts:
    """Returns a model and data sets that give the same logits and gradients with less work.

    Args:
        plain: the model, with what is to be trained unfrozen already.
        datasets: its data sets.
        cache_dir: as `compute_hidden_states` takes it, like the next.
        conditions: what else the hidden states depend on.
        memo: keeps the last hidden states for a call with the same prefix.
        dtype: as `ShortcutClassifier` takes it, like the next.
        cast_once: keeps frozen weights in that data type.

    Raises:
        ValueError: when the model drops out.
        OSError: when hidden states need a file that cannot be written.
    """
    needed = Splits(*(needed_lengths(plain, dataset) for dataset in datasets))
    no_padding = datasets.train.no_padding
    frozen = frozen_blocks(plain)
    casts = (dtype, cast_once)
    if frozen == 0:
        model = ShortcutClassifier(plain, None, False, no_padding, *casts)
        inputs = [cut_tokens(d.tokens, n) for d, n in zip(datasets, needed, strict=True)]
        report = "Hidden states: none, for the first block is trained"
        return Shortcuts(model, with_inputs(datasets, inputs), report)

    depth = min(frozen, len(plain.trf_blocks) - 1)  # where rows that freeze more can share them
    is_pooled = frozen > depth and not any(p.requires_grad for p in plain.final_norm.parameters())
    model = ShortcutClassifier(plain, depth, is_pooled, no_padding, *casts)
    messages, which = distinct_messages(needed, datasets)
    hidden = compute_hidden_states(model, messages, depth, cache_dir, conditions, memo)
    started = time.perf_counter()
    if is_pooled:
        inputs = [
            pool_all(model, hidden, numbers, dataset).__getitem__
            for numbers, dataset in zip(which, datasets, strict=True)
        ]
    else:
        inputs = [partial(batch_of, hidden, numbers) for numbers in which]
    report = (
        f"Hidden states: {len(messages):,} distinct messages, {depth} blocks computed once, "
        f"{hidden.values.nbytes / 2**20:,.0f} MiB {hidden.place}"
    )
    if hidden.is_reused:
        report += f", of an earlier run that took {hidden.seconds:.1f} s for them"
    seconds = hidden.seconds + time.perf_counter() - started
    return Shortcuts(model, with_inputs(datasets, inputs), report, seconds, hidden.is_reused)


def with_inputs(datasets: Splits, inputs: list[Callable[[list[int]], Tensor]]) -> Splits:
    """Returns the data sets with other inputs."""
    return Splits(*(ShortcutDataset(d, i) for d, i in zip(datasets, inputs, strict=True)))


def batch_of(hidden: HiddenStates, numbers: Tensor, indices: list[int]) -> Tensor:
    """Returns the hidden states (B, T, C) of some messages of a split, `numbers` (N,) overall."""
    return hidden.batch(numbers[indices])


def cut_tokens(tokens: Tensor, needed: Tensor) -> Callable[[list[int]], Tensor]:
    """Returns a function from indices to tokens (B, T), cut to the longest that is needed."""
    return lambda indices: tokens[indices, : int(needed[indices].max())]


@torch.no_grad()
def pool_all(
    model: ShortcutClassifier, hidden: HiddenStates, numbers: Tensor, dataset: MessageDataset
) -> Tensor:
    """Returns what the head reads of all messages of a split, (N, C)."""
    device = model.pos_emb.weight.device
    is_causal = not model.trf_blocks[0].att.disable_causal_mask
    size = POOL if is_causal or not dataset.no_padding else 1  # without a mask, of one length
    pooled = [
        model.pool(hidden.batch(some).to(device), lengths.to(device), hidden.depth)
        for some, lengths in zip(numbers.split(size), dataset.lengths.split(size), strict=True)
    ]
    return torch.cat(pooled)
