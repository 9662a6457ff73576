"""Whether a run fits into the memory that there is, and what would if it does not.

print(tell_memory(settings, messages, device))  # or raises Refused, with what would fit
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import torch

from experiments.config.settings import Settings
from experiments.data.datasets import Splits
from experiments.system.devices import available_memory, memory_of, total_memory
from experiments.system.distributed import agree
from experiments.system.terminal import Refused
from experiments.system.torchrun import count_processes
from experiments.training.memory_estimate import Need
from experiments.training.memory_workload import Messages, Place

GIB = 2**30
MOST_PROCESSES = 64
PARTS = ("weights", "gradients", "optimiser", "activations", "hidden_states")


def tell_memory(settings: Settings, messages: Messages, device: torch.device) -> str:
    """Returns the memory that a run needs, and that there is, in a line.

    Args:
        settings: of the run.
        messages: what it computes on.
        device: where it is computed.

    Raises:
        Refused: when it does not fit, with the ways out that would.
    """
    available = agree(available_memory(device))  # so that all processes go on, or none
    need = need_of(settings, messages, device)
    return check_memory(need, available, settings.machine.ignore_memory)


def need_of(settings: Settings, messages: Messages, device: torch.device) -> Need:
    """Returns the memory that a run needs in each of its processes, from what `tell_memory` has."""
    is_gpu = device.type == "cuda"
    place = Place(
        total=total_memory() or math.inf,
        is_cpu=not is_gpu,
        processes=count_processes(),
        sharded=settings.machine.parallel == "shard" and count_processes() > 1,
        gpu=memory_of(device) if is_gpu else 0,
    )
    return Need(settings.network, settings.training, settings.machine, messages, place)


def count_messages(datasets: Splits, num_classes: int) -> Messages:
    """Returns what the memory depends on of data sets."""
    lengths = {
        tokens[:length].numpy().tobytes(): int(length)
        for dataset in datasets
        for tokens, length in zip(dataset.tokens, dataset.lengths, strict=True)
    }
    return Messages(
        sizes={name: len(dataset) for name, dataset in datasets._asdict().items()},
        length=max(dataset.max_length for dataset in datasets),
        distinct=len(lengths),
        tokens=sum(lengths.values()),
        is_padded=not datasets.train.no_padding,
        num_classes=num_classes,
    )


def check_memory(need: Need, available: float, ignore: bool) -> str:
    """Returns what a run needs and what there is, in a line.

    Args:
        need: of the run.
        available: bytes that the process may hold.
        ignore: lets the run go on all the same.

    Raises:
        Refused: when it does not fit, with the ways out that would.
    """
    if need.peak > available and not ignore:
        raise Refused(describe_fit(need, available))
    return f"Memory: {describe_need(need, available)}"


def describe_fit(need: Need, available: float) -> str:
    """Returns the same line, or where the run does not fit, that it does not, and what would."""
    line = describe_need(need, available)
    if need.peak <= available:
        return f"Memory: {line}"
    ways = [f"{flags} ({way.peak / GIB:.1f} GiB)" for flags, way in ways_out(need, available)]
    way_out = f"what fits is {', or '.join(ways)}" if ways else "use a smaller --model_size"
    return f"the memory is too small: {line}; {way_out}; --ignore_memory goes on as it is"


def describe_need(need: Need, available: float) -> str:
    """Returns what a run needs in all and for what, and what there is, in words."""
    parts = ", ".join(f"{name.replace('_', ' ')} {getattr(need, name) / GIB:.1f}" for name in PARTS)
    there = "" if math.isinf(available) else f", {available / GIB:.1f} GiB available"
    return f"{need.peak / GIB:.1f} GiB needed ({parts}){there}"


Way = tuple[str, Need]  # flags, and what a run needs with them


def ways_out(need: Need, available: float) -> list[Way]:
    """Returns flags with which a run would fit, each with what it would then need.

    Two together are named where neither does alone.
    """

    def first(ways: Iterable[Way]) -> list[Way]:
        return list(islice(((flags, way) for flags, way in ways if way.peak <= available), 1))

    machine = replace(need.machine, activation_checkpointing=True)
    recomputing = replace(need, machine=machine)
    flag = "--activation_checkpointing"
    found = first([(flag, recomputing)]) + first(smaller_batches(need))
    both = ((f"{flag} {flags}", way) for flags, way in smaller_batches(recomputing))
    return (found or first(both)) + first(shards(need))


def smaller_batches(need: Need) -> Iterator[Way]:
    """Yields smaller batches, the largest first, of which as many messages make a step."""
    whole, steps = need.training.batch_size, need.training.accumulation_steps
    for size in range(whole - 1, 0, -1):
        if whole % size == 0:
            accumulated = steps * (whole // size)
            training = replace(need.training, batch_size=size, accumulation_steps=accumulated)
            flags = f"--batch_size {size} --accumulation_steps {accumulated}"
            yield flags, replace(need, training=training)


def shards(need: Need) -> Iterator[Way]:
    """Yields ever more processes that share out blocks and batches."""
    for processes in range(2, MOST_PROCESSES + 1):
        place = need.place._replace(processes=processes, sharded=True)
        flags = f"--parallel shard on {processes} processes with as much memory each"
        yield flags, replace(need, place=place)
