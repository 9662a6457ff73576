"""Cached activations of the frozen prefix, computed once for each distinct example.

Of an example's tokens, only those are computed on which its logits depend.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from experiments.config.design import Design
from experiments.data.datasets import Splits, TextDataset
from experiments.model.classifier import GPTClassifier
from experiments.model.prediction import needed_lengths
from experiments.shortcuts.model import OptimizedClassifier
from experiments.shortcuts.storage import load_or_compute, prefix_key, temporary_values
from experiments.system.devices import memory_of, total_memory
from experiments.system.distributed import world
from experiments.system.terminal import progress

PREFIX_TOKENS = 2048  # in one batch of the frozen prefix
POOL = 64  # examples of which the head's input is computed at once
MEMORY_SHARE = 1 / 8  # of a device's memory; larger activations are stored elsewhere


def distinct_examples(design: Design, datasets: Splits) -> tuple[list[Tensor], list[Tensor]]:
    """Return the needed tokens of each distinct example, and the numbers (N,) of each split.

    The shortest is first; a split's numbers are those of its examples among the distinct ones.
    """
    keys, needed = [], {}  # digests, since the tokens of all examples may fill the memory
    for dataset in datasets:
        rows = zip(dataset.tokens, needed_lengths(design, dataset), strict=True)
        rows = [tokens[:length] for tokens, length in rows]
        keys.append([hashlib.sha256(row.numpy().data).digest() for row in rows])
        needed = dict(zip(keys[-1], rows, strict=True)) | needed
    order = sorted(dict.fromkeys(chain(*keys)), key=lambda key: len(needed[key]))
    number = {key: i for i, key in enumerate(order)}
    examples = [needed[key] for key in order]
    return examples, [torch.tensor([number[key] for key in of_split]) for of_split in keys]


class _OptimizedDataset:
    """The labels and lengths of a data set, with other inputs."""

    def __init__(self, plain: TextDataset, inputs_of: Callable[[list[int]], Tensor]) -> None:
        self.plain, self.labels, self.inputs_of = plain, plain.labels, inputs_of

    def __len__(self) -> int:
        return len(self.plain)

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the inputs (B, ...), lengths (B,) and labels (B,) of some examples."""
        return self.inputs_of(indices), self.plain.lengths[indices], self.labels[indices]


@dataclass(frozen=True)
class CachedActivations:
    """The activations of all distinct examples before one block.

    They hold while embeddings and earlier blocks never change, and for the examples, mask, data
    type and kernels with which they were computed.
    """

    values: Tensor  # (tokens of all examples, C)
    rows: Sequence[Tensor]  # (T, C) for each example, views of them
    place: str  # where they are stored, in words
    seconds: float  # that computing them took, now or in an earlier run
    is_reused: bool

    def batch(self, numbers: Tensor, indices: Sequence[int] | Tensor) -> Tensor:
        """Return (B, T, C), padded with zeros, for examples of a split that has `numbers` (N,)."""
        rows = [self.rows[number] for number in numbers[indices].tolist()]
        x = pad_sequence(rows, batch_first=True)
        is_pinned = torch.cuda.is_available() and self.values.is_pinned()
        return x.pin_memory() if is_pinned else x


def _batches(examples: list[Tensor], is_causal: bool) -> Iterator[list[Tensor]]:
    """Yield batches of examples, shortest first; without the mask, of one length each."""
    batch: list[Tensor] = []
    for tokens in examples:
        is_full = (len(batch) + 1) * len(tokens) > PREFIX_TOKENS
        if batch and (is_full or not (is_causal or len(tokens) == len(batch[0]))):
            yield batch
            batch = []
        batch.append(tokens)
    yield batch


@torch.no_grad()
def run_prefix(model: OptimizedClassifier, examples: list[Tensor], values: Tensor) -> float:
    """Fill (tokens of all examples, C), and return seconds; processes take batches in turn."""
    started, device, filled = time.perf_counter(), model.pos_emb.weight.device, 0
    batches = _batches(examples, is_causal=not model.design.disable_causal_mask)
    with progress("Frozen prefix", len(examples), "examples") as bar:
        for number, batch in enumerate(batches):
            part = values[filled : filled + sum(map(len, batch))]
            filled += len(part)
            if number % world.size != world.rank:
                part.zero_()
                continue
            x = model.embed(pad_sequence(batch, batch_first=True).to(device))  # (B, T, C)
            for block in model.trf_blocks[: model.depth]:
                x = block(x)
            rows = [row[: len(example)] for row, example in zip(x, batch, strict=True)]
            part.copy_(torch.cat(rows))  # at once: each copy from a GPU waits for it
            bar.update(len(batch) * world.size)
    world.all_reduce_sum(values)
    return time.perf_counter() - started


def _load_or_compute(
    model: OptimizedClassifier, examples: list[Tensor], path: Path | None
) -> CachedActivations:
    # Only the main process opens the cache; the others learn from it whether to compute their part.
    lengths, weight = [len(tokens) for tokens in examples], model.pos_emb.weight
    shape, dtype = (sum(lengths), weight.shape[1]), model.dtype or weight.dtype
    size, device = math.prod(shape) * dtype.itemsize, weight.device
    has_room = world.broadcast(device.type != "cpu" and size <= MEMORY_SHARE * memory_of(device))

    def fill(values: Tensor) -> float:
        if world.broadcast(True):  # the main process has no file: all compute
            return run_prefix(model, examples, values)
        world.broadcast_(values)
        return 0.0

    if path is not None and world.is_main:
        values, seconds, is_reused = load_or_compute(path, shape, dtype, fill)
        place = f"in {path}"
        if is_reused:
            world.broadcast(False)
            world.broadcast_(values)
    else:
        if has_room and path is None:  # with a file, the main process sends from the CPU
            values, place = torch.empty(shape, dtype=dtype, device=device), f"on {device.type}"
        elif size * world.size <= MEMORY_SHARE * total_memory():
            is_pinned = device.type == "cuda"  # from where a copy waits for nothing
            values, place = torch.empty(shape, dtype=dtype, pin_memory=is_pinned), "in memory"
        else:
            values, folder = temporary_values(shape, dtype)
            place = f"in a temporary file in {folder}"
        seconds, is_reused = fill(values), False
    values = values.to(device) if has_room else values
    return CachedActivations(values, values.split(lengths), place, seconds, is_reused)


class Shortcuts(NamedTuple):
    """What replaces the plain model and its data sets."""

    model: OptimizedClassifier
    datasets: Splits
    report: str
    prefix_seconds: float = 0.0  # of activations and features, as if none were reused
    prefix_reused: bool = False


def cache_frozen_prefix(
    plain: GPTClassifier,
    datasets: Splits,
    *,
    cache_dir: Path | None = None,
    conditions: str = "",
    activations: dict[str, CachedActivations] | None = None,
    dtype: torch.dtype | None = None,
    cast_once: bool = True,
) -> Shortcuts:
    """Return a model and data sets that give the same logits and gradients for less work.

    Args:
        cache_dir: folder for files of activations that later runs reuse; None for no files.
        conditions: what else the activations depend on, such as precision and kernels.
        activations: holds the last ones for the next call in this process.
        dtype, cast_once: as `OptimizedBlock` takes them.

    Raises:
        ValueError: when the model has dropout.
        OSError: when activations need a file that cannot be written, such as on a full disk.
    """
    design, no_padding = plain.design, datasets.train.no_padding
    model = OptimizedClassifier(
        plain, is_cached=True, no_padding=no_padding, dtype=dtype, cast_once=cast_once
    )
    if model.depth is None:
        inputs = [partial(_cut_tokens, d.tokens, needed_lengths(design, d)) for d in datasets]
        report = "Cached activations: none, because the first block is trained"
        return Shortcuts(model, Splits(*map(_OptimizedDataset, datasets, inputs)), report)

    examples, numbers = distinct_examples(design, datasets)
    is_shared = cache_dir is not None or activations is not None
    # Takes seconds for large models, whose frozen weights it reads.
    key = prefix_key(model, examples, conditions) if is_shared else ""
    activations = {} if activations is None else activations
    if key in activations:
        cached = replace(activations[key], is_reused=True)
    else:
        activations.clear()  # first, so that two are never in memory
        path = None if cache_dir is None else cache_dir / f"{key}.npy"
        cached = activations[key] = _load_or_compute(model, examples, path)
    started = time.perf_counter()
    inputs = [partial(cached.batch, of_split) for of_split in numbers]
    if model.is_pooled:
        features = map(partial(_compute_features, model), datasets, inputs)
        inputs = [of_split.__getitem__ for of_split in features]
    seconds = cached.seconds + time.perf_counter() - started
    report = (
        f"Cached activations: {len(examples):,} distinct examples, {model.depth} frozen blocks "
        f"computed once, {cached.values.nbytes / 2**20:,.0f} MiB {cached.place}"
    )
    if cached.is_reused:
        report += f", reused from an earlier run that computed them in {cached.seconds:.1f} s"
    datasets = Splits(*map(_OptimizedDataset, datasets, inputs))
    return Shortcuts(model, datasets, report, seconds, cached.is_reused)


def _cut_tokens(tokens: Tensor, needed: Tensor, indices: list[int]) -> Tensor:
    return tokens[indices, : int(needed[indices].max())]  # (B, T)


@torch.no_grad()
def _compute_features(
    model: OptimizedClassifier, dataset: TextDataset, inputs_of: Callable[[Tensor], Tensor]
) -> Tensor:
    device = model.pos_emb.weight.device
    # Without the mask a token attends to the padding, so that only examples of one length mix.
    size = 1 if model.design.disable_causal_mask and dataset.no_padding else POOL
    features = []
    for indices in torch.arange(len(dataset)).split(size):
        x, lengths = inputs_of(indices), dataset.lengths[indices]
        features.append(model(x.to(device), lengths.to(device), features_only=True))
    return torch.cat(features)  # (N, C), what the head reads
