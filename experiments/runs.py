"""Runs and their records: one for each seed, and none that is there already.

run_and_record(settings, memo, corpus)
"""

from typing import Any

import torch

from experiments.baselines import run_baseline
from experiments.data.corpus import Corpus
from experiments.descriptions import describe_result
from experiments.devices import (
    peak_memory_mib,
    pick_device,
    start_peak,
    telling_full_memory,
)
from experiments.experiment import run_experiment
from experiments.files import check_writable
from experiments.keeping.bases import is_saved
from experiments.preparation import gather_files, load_corpus
from experiments.processes import agree, first_goes_ahead, largest
from experiments.records import is_finished, record_path, write_record
from experiments.results import (
    Result,
    begin_record,
    finish_record,
    published_row,
    record_failure,
)
from experiments.settings import Settings
from experiments.torchrun import rank


def device_of(settings: Settings) -> torch.device:
    """Returns where a run is computed: a baseline on the CPU, whatever the machine has."""
    return pick_device("cpu" if settings.baseline else settings.machine.device)


def run(
    settings: Settings, memo: dict[str, Any] | None, corpus: Corpus | None, record: str | None
) -> Result:
    """Runs an experiment or a baseline, whichever the settings ask for."""
    with telling_full_memory(device_of(settings)):
        network = None if settings.baseline else settings.network
        with first_goes_ahead():
            gather_files(settings.reading, settings.own, network, settings.machine.verify)
        if settings.baseline:
            corpus = corpus or load_corpus(settings.reading, settings.own)
            return run_baseline(settings.baseline, corpus)
        return run_experiment(settings, memo, corpus, record)


def run_and_record(settings: Settings, memo: dict[str, Any] | None, corpus: Corpus | None) -> None:
    """Runs one seed and leaves its record, unless there is one already."""
    device, folder = device_of(settings), settings.output.output_dir
    peak_since = start_peak(device)
    if settings.reading.demo:  # is shown, not recorded
        result = run(settings, memo, corpus, record=None)
        print(describe_result(result.correct, peak_memory_mib(device), row=None, demo=True))
        return
    check_writable(folder)  # is told now, and not after hours
    record = begin_record(settings, corpus, device)
    path = record_path(folder, record)
    is_there = is_finished(path) and not settings.output.overwrite and is_saved(settings)
    if agree(is_there):
        print(f"Recorded already, and not run again (--overwrite does): {path}")
        return
    try:
        result = run(settings, memo, corpus, record["digest"])
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if rank() == 0:
            record_failure(folder, record, error)
        raise
    peak_mib = largest(peak_memory_mib(device), device)
    if rank() > 0:  # the first process records
        return
    print(describe_result(result.correct, peak_mib, published_row(record), demo=False))
    finished = finish_record(record, result, peak_mib, peak_since)
    print(f"Recorded: {write_record(folder, finished)}")
