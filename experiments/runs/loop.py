"""Runs and their records: one for each seed, and none that is there already.

run_seeds(settings, corpus)
"""

from contextlib import nullcontext
from dataclasses import replace
from enum import Enum
from typing import Any

import torch

from experiments.config.settings import Settings
from experiments.data.corpus import Corpus
from experiments.model.bases import is_saved
from experiments.runs.experiment import Memo, run_experiment
from experiments.runs.fingerprint import describe_recorded
from experiments.runs.locks import claim
from experiments.runs.planning import describe_plan
from experiments.runs.preparation import gather_files, load_corpus, load_datasets
from experiments.runs.printing import describe_result
from experiments.runs.records import is_finished, record_path, write_record
from experiments.runs.results import (
    Result,
    begin_record,
    finish_record,
    published_row,
    record_failure,
)
from experiments.system.devices import (
    available_memory,
    peak_memory_mib,
    pick_device,
    start_peak,
    telling_full_memory,
)
from experiments.system.distributed import agree, first_goes_ahead, largest
from experiments.system.files import check_writable
from experiments.system.torchrun import rank
from experiments.training.baselines import run_baseline
from experiments.training.memory_fitting import count_messages, need_of, tell_memory
from experiments.training.memory_workload import known_messages


def device_of(settings: Settings) -> torch.device:
    """Returns where a run is computed: a baseline on the CPU, whatever the machine has."""
    return pick_device("cpu" if settings.baseline else settings.machine.device)


def run(settings: Settings, memo: Memo | None, corpus: Corpus | None, record: str | None) -> Result:
    """Runs an experiment or a baseline, whichever the settings ask for.

    The memory is told before anything is fetched, but for the user's own messages, whose lengths
    only the tokenizer tells: for them `run_experiment` tells it.
    """
    device, own = device_of(settings), settings.own
    network = None if settings.baseline else settings.network
    with telling_full_memory(device):
        if network and not own.data:
            messages = known_messages(settings.reading, network.config["context_length"])
            print(tell_memory(settings, messages, device))
        with first_goes_ahead():
            gather_files(settings.reading, own, network, settings.machine.verify)
        if settings.baseline:
            with first_goes_ahead():
                corpus = corpus or load_corpus(settings.reading, settings.own)
            return run_baseline(settings.baseline, corpus)
        return run_experiment(settings, memo, corpus, record)


def plan(settings: Settings, corpus: Corpus | None) -> str:
    """Returns what a run would do, which memory it would need, and whether it fits.

    The user's own messages are made tokens of, to know how long they are.
    """
    if settings.baseline:
        return f"Baseline: {settings.baseline}, which loads no network"
    device, context = device_of(settings), settings.network.config["context_length"]
    messages = known_messages(settings.reading, context)
    if corpus:
        datasets = load_datasets(corpus, settings.reading, context)
        messages = count_messages(datasets, len(corpus.class_names))
    need = need_of(settings, messages, device)
    return describe_plan(settings, need, available_memory(device), device)


def run_seeds(settings: Settings, corpus: Corpus | None) -> None:
    """Runs every seed of the settings, and leaves a record of each."""
    memo = Memo() if settings.num_seeds > 1 else None
    for seed in range(settings.seed, settings.seed + settings.num_seeds):
        run_and_record(replace(settings, seed=seed), memo, corpus)


class Outcome(Enum):
    """What became of a run."""

    MADE = "made"
    RECORDED = "recorded already"
    CLAIMED = "claimed by another process"


def run_and_record(
    settings: Settings, memo: Memo | None, corpus: Corpus | None, waits: bool = False
) -> Outcome:
    """Runs one seed and leaves its record, unless there is one already.

    Args:
        settings: of one seed.
        memo: keeps what the next run can share.
        corpus: the user's own messages, if there are any.
        waits: for another process that has claimed the run; else that is passed over.

    Returns:
        Whether it was made.
    """
    device, folder = device_of(settings), settings.output.output_dir
    peak_since = start_peak(device)
    if settings.output.tensorboard and rank() == 0:
        check_writable(settings.output.tensorboard)  # is told now, as below
    if settings.reading.demo:  # is shown, not recorded
        result = run(settings, memo, corpus, record=None)
        print(describe_result(result.correct, peak_memory_mib(device), row=None, demo=True))
        return Outcome.MADE
    if rank() == 0:
        check_writable(folder)  # is told now, and not after hours
    record = begin_record(settings, corpus, device)
    path = record_path(folder, record)
    with claim(path, waits) if rank() == 0 else nullcontext() as is_mine:
        if not agree(is_mine):
            print(f"Claimed by another process, and passed over: {path}")
            return Outcome.CLAIMED
        if agree(is_finished(path) and not settings.output.overwrite and is_saved(settings)):
            print(describe_recorded(path))
            return Outcome.RECORDED
        result = run_or_record_failure(settings, memo, corpus, record)
        peak_mib = largest(peak_memory_mib(device), device)
        if rank() == 0:
            print(describe_result(result.correct, peak_mib, published_row(record), demo=False))
            finished = finish_record(record, result, peak_mib, peak_since)
            print(f"Recorded: {write_record(folder, finished)}")
    return Outcome.MADE


def run_or_record_failure(
    settings: Settings, memo: Memo | None, corpus: Corpus | None, record: dict[str, Any]
) -> Result:
    """Runs one seed; if it fails, leaves a record of that."""
    try:
        return run(settings, memo, corpus, record["digest"])
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if rank() == 0:
            record_failure(settings.output.output_dir, record, error)
        raise
