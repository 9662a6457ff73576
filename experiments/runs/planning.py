"""What a run would do, told without doing it: `--dry_run`.

print(describe_plan(settings, need, available, device))
"""

import torch

from experiments.config.settings import Settings
from experiments.runs.printing import (
    describe_device,
    describe_messages,
    describe_model,
    describe_trainable,
)
from experiments.training.memory_estimate import Need
from experiments.training.memory_fitting import describe_fit


def describe_plan(settings: Settings, need: Need, available: float, device: torch.device) -> str:
    """Returns what a run would do, and which memory it would need.

    Args:
        settings: of the run.
        need: its memory.
        available: bytes that it may hold.
        device: where it would be computed.
    """
    network, messages, counts = settings.network, need.messages, need.counts
    lines = (
        describe_model(network),
        describe_trainable(network, (counts.trained, counts.total)),
        describe_messages(messages.sizes, messages.length, not messages.is_padded),
        describe_steps(settings, messages.sizes["train"]),
        describe_shared(settings, need),
        describe_device(device),
        describe_fit(need, available),
        "Dry run: no weights were loaded, nothing was trained or recorded.",
    )
    return "\n".join(lines)


def describe_steps(settings: Settings, messages: int) -> str:
    """Returns how many steps a run makes on so many training messages."""
    training = settings.training
    batches = messages // training.batch_size
    steps = training.max_steps or training.count_steps(messages)
    epochs = f"{training.num_epochs} epochs of {batches:,} batches of {training.batch_size}"
    seeds = f"; {settings.num_seeds} seeds" if settings.num_seeds > 1 else ""
    return f"Steps: {steps:,}, each of {training.accumulation_steps} batches; {epochs}{seeds}"


def describe_shared(settings: Settings, need: Need) -> str:
    """Returns what is computed once, where it is kept, and who shares it."""
    if not need.fast:
        return "Shortcuts: none"
    if not need.depth:
        return "Shortcuts: Hidden states: none, for the first block is trained"
    folder = settings.machine.cache_dir
    place = "in a file" if need.is_mapped else "in memory"
    shared = ", which the seeds share" if settings.num_seeds > 1 else ""
    if folder:
        place, shared = f"in {folder}", ", for every run with the same frozen blocks"
    return (
        f"Shortcuts: Hidden states: {need.messages.distinct:,} distinct messages, {need.depth} "
        f"blocks computed once, {need.all_hidden_states / 2**20:,.0f} MiB {place}{shared}"
    )
