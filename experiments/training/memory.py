"""Memory estimate of a run, before its weights are loaded.

    print(check_memory(settings, datasets, num_classes, device))  # or raises UsageError

What autograd keeps of a batch, the process itself and the holes of the C library's heap were
measured; docs/performance.md compares estimates with measured peaks. Pages of mapped files, which
the system can take back, do not count.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from experiments.config.settings import Settings
from experiments.data.datasets import Splits
from experiments.shortcuts.layers import MAX_PLAIN_ATTENTION
from experiments.shortcuts.prefix import MEMORY_SHARE, POOL, PREFIX_TOKENS, distinct_examples
from experiments.system.devices import available_memory, memory_of, peak_memory_mib
from experiments.system.distributed import world
from experiments.system.terminal import UsageError

GIB, FLOAT, HALF = 2**30, 4, 2  # bytes
MAX_PROCESSES, SHARDED = 64, "--parallel shard on {} processes with as much memory each"

# Measured on a CPU: bytes of Python, modules and tokenizer; of sharding (communication, gathered
# blocks, holes of the whole model); and of a test example's probability (arrays, numbers, JSON).
BASE, SHARDING, RECORD = 460 * 2**20, 1250 * 2**20, 100
# Numbers per token, in widths C, that a block keeps for the backward pass: inputs of norms and
# linear layers, queries, keys, values, GELU's input and output. The reference keeps twice as many.
KEPT = {"float32": 16, "bfloat16": 12}
KEPT_ONE_QUERY = 2  # of a last block that computes one query
LOGITS, SAVED = 4, 2.3  # copies of logits, and of tensors that are saved
PASSING = 8  # of what passes while a block computes
PASSING_PREFIX = {"all": 17, "first": 17, "real": 57}  # examples of many lengths leave holes
# Factor for the holes between what is kept, by whether optimised and whether checkpointed.
HEAP = {(True, False): 1.5, (True, True): 1.5, (False, False): 2.2, (False, True): 7}


class Examples(NamedTuple):
    """What the memory depends on of the data sets."""

    length: int  # tokens of the longest example, as far as they are computed
    cached_tokens: int  # of all distinct examples, as far as their logits depend on them
    num_classes: int
    num_bytes: int = 0  # of tokens and predictions


class Hardware(NamedTuple):
    """The device of each process, and the processes of the run."""

    memory: float  # bytes, of which `available` are
    available: float
    is_gpu: bool = False
    processes: int = 1
    shards: int = 1


class MemoryEstimate(NamedTuple):
    """The bytes that each process needs; at the peak, not all parts are there in full."""

    weights: float
    gradients: float
    optimiser: float
    activations: float
    cached_activations: float
    base: float  # the process and the data
    peak: float


def count_examples(settings: Settings, datasets: Splits, num_classes: int) -> Examples:
    """Return what the memory depends on of the data sets."""
    design, length, distinct = settings.design, max(d.max_length for d in datasets), []
    if not settings.runtime.no_shortcuts:
        length = 1 if design.needed_tokens(no_padding=False) == "first" else length
        distinct = distinct_examples(design, datasets)[0] if design.num_frozen_blocks else []
    predictions = num_classes * (2 * FLOAT * len(datasets.train) + RECORD * len(datasets.test))
    data = (d.tokens.nbytes + int(d.data.memory_usage(deep=True).sum()) for d in datasets)
    num_bytes = predictions + sum(data)
    return Examples(length, sum(map(len, distinct)), num_classes, num_bytes)


def estimate_memory(settings: Settings, examples: Examples, hardware: Hardware) -> MemoryEstimate:
    """Return the memory that each process of a run needs."""
    design, training, runtime = settings.design, settings.training, settings.runtime
    C, n, vocab = (design.config[name] for name in ("emb_dim", "n_layers", "vocab_size"))
    trained, total = design.count_parameters(examples.num_classes)
    is_optimised, is_half = not runtime.no_shortcuts, runtime.precision == "bfloat16"
    is_checkpointed, shards = runtime.activation_checkpointing, hardware.shards
    has_one_query = is_optimised and not design.average_embeddings
    blocks = max(0, design.num_trained_blocks - has_one_query)  # that keep all tokens
    depth = min(design.num_frozen_blocks, n - 1) if is_optimised else 0  # of cached activations
    linears = 12 * C * C  # weights of a block

    # Frozen weights are cast once; what runs in training is sharded.
    frozen = min(n if design.is_lora else design.num_frozen_blocks, n - has_one_query)
    cast = HALF * linears * frozen if is_half and is_optimised and shards == 1 else 0
    whole = depth and (vocab + design.config["context_length"]) * C + depth * linears
    weights = FLOAT * (whole + (total - whole) / shards) - cast
    gradients = FLOAT * trained / shards
    optimiser = (2 + training.keep_best) * gradients

    batch, length = math.ceil(training.batch_size / hardware.processes), examples.length
    is_fused = is_optimised and (hardware.is_gpu or length > MAX_PLAIN_ATTENTION)
    attention = 0 if is_fused else design.config["n_heads"] * length  # weights per token
    of_block = KEPT[runtime.precision] * C * (1 if is_optimised else 2) + attention
    kept = blocks * C + of_block * (blocks > 0) if is_checkpointed else blocks * of_block
    kept += KEPT_ONE_QUERY * C * has_one_query
    logits = LOGITS * examples.num_classes * (1 if is_optimised else length)  # of each token
    heap = 1 if hardware.is_gpu else HEAP[is_optimised, is_checkpointed]
    passing = PASSING * C + 3 * attention if blocks or not is_optimised else KEPT_ONE_QUERY * C
    activations = FLOAT * batch * (length * (heap * kept + passing) + logits)

    base = 0 if hardware.is_gpu else BASE + examples.num_bytes + SHARDING * (shards > 1)
    cached = depth and (HALF if is_half else FLOAT) * C * examples.cached_tokens
    limit = MEMORY_SHARE * hardware.memory / (1 if hardware.is_gpu else hardware.processes)
    if cached > limit or (runtime.cache_dir and not hardware.is_gpu):
        cached = 0  # in a file, or not on the GPU
    # Before training: the vocabulary's head or the prefix; features pass a quarter of a block's.
    together = POOL / 4 if design.trainable_layers == "last_layer" else 1
    passing = PASSING_PREFIX[design.needed_tokens(settings.data.no_padding)]
    prefix = FLOAT * C * passing * max(PREFIX_TOKENS, together * length)
    before = FLOAT * total + max(FLOAT * vocab * C, depth and cast + cached + prefix)
    # In the backward pass, gradients of blocks take the place of activations.
    replaced = min(gradients, activations, FLOAT * linears * design.num_trained_blocks / shards)
    replaced *= training.accumulation_steps == 1 and not is_checkpointed
    during = weights + gradients + optimiser + activations + cached - replaced
    saved = total + linears * n * design.is_lora if settings.output.save_whole else trained
    saved *= SAVED * FLOAT * (settings.output.save_model is not None)
    after = saved and FLOAT * total + gradients + optimiser + cached + saved
    peak = base + max(before, during, after)
    return MemoryEstimate(weights, gradients, optimiser, activations, cached, base, peak)


def check_memory(
    settings: Settings, datasets: Splits, num_classes: int, device: torch.device
) -> str:
    """Return a line on the memory that a run needs, and that is available.

    Raises:
        UsageError: if it is not enough, with flags that would fit; a dry run returns the message.
    """
    shards = world.size if settings.runtime.parallel == "shard" else 1
    memory, is_gpu = (memory_of(device), available_memory(device)), device.type == "cuda"
    all_memory = world.gather(memory)  # the smallest counts for all processes
    rank = min(range(world.size), key=lambda number: all_memory[number][1])
    hardware = Hardware(*all_memory[rank], is_gpu, world.size, shards)
    examples = count_examples(settings, datasets, num_classes)
    estimate = estimate_memory(settings, examples, hardware)
    used = 0 if is_gpu else peak_memory_mib(device) * 2**20  # until now, as by reading the data
    needed = max(estimate.peak, used)
    sizes = {n.replace("_", " "): f"{x / GIB:.1f}" for n, x in estimate._asdict().items()}
    parts = [f"{n} {x}" for n, x in sizes.items() if n != "peak" and x != "0.0"]
    line = f"{needed / GIB:.1f} GiB needed" + (f" ({', '.join(parts)})" if parts else "")
    line += f", {hardware.available / GIB:.1f} GiB available"
    line += f" to process {rank}" if world.size > 1 else ""
    if estimate.peak <= hardware.available or settings.runtime.ignore_memory:
        return f"memory: {line}"
    found = suggestions(settings, examples, hardware)
    options = ", or ".join(f"{flags} ({size / GIB:.1f} GiB)" for flags, size in found)
    options = f"Options that fit: {options}" if found else "Use a smaller --model_size"
    message = f"Not enough memory: {line}. {options}; --ignore_memory runs it anyway."
    if settings.output.dry_run:
        return message
    raise UsageError(message)


def suggestions(
    settings: Settings, examples: Examples, hardware: Hardware
) -> list[tuple[str, float]]:
    """Return flags with which a run would fit, and the bytes that it would then need."""

    def peak(changed: Settings, changed_hardware: Hardware = hardware) -> float:
        return estimate_memory(changed, examples, changed_hardware).peak

    runtime, flag = settings.runtime, "--activation_checkpointing"
    checkpointed = replace(settings, runtime=replace(runtime, activation_checkpointing=True))
    sharded = [hardware._replace(processes=k, shards=k) for k in range(2, MAX_PROCESSES + 1)]
    groups = (
        [(flag, peak(checkpointed))],
        [(flags, peak(s)) for flags, s in _smaller_batches(settings)],
        [(f"{flag} {flags}", peak(s)) for flags, s in _smaller_batches(checkpointed)],
        [(SHARDED.format(h.shards), peak(settings, h)) for h in sharded],
    )
    first, smaller, both, shards = ([x for x in g if x[1] <= hardware.available] for g in groups)
    return (first + smaller[:1] or both[:1]) + shards[:1]


def _smaller_batches(settings: Settings) -> Iterator[tuple[str, Settings]]:
    training = settings.training
    for size in range(training.batch_size - 1, 0, -1):
        if training.batch_size % size == 0:
            steps = training.accumulation_steps * training.batch_size // size
            smaller = replace(training, batch_size=size, accumulation_steps=steps)
            flags = f"--batch_size {size} --accumulation_steps {steps}"
            yield flags, replace(settings, training=smaller)
