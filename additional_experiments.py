"""Finetunes GPT-2 as a spam classifier, once for each design question of the published table.

    python additional_experiments.py --demo                    # ten seconds, nothing is downloaded
    python additional_experiments.py                           # row 1: the last block, last token
    python additional_experiments.py --trainable_layers lora   # another design
    python additional_experiments.py --row 16                  # the flags of a row by its number

First or last token? One block, two, all, LoRA? A bigger model? Padding? The causal mask? Mean
pooling? Each row of the published table is one answer. A run prepares the SMS Spam Collection,
builds the GPT of the book, adapts it, trains it, reports, and leaves a record, in the published
order and with the published random numbers: its losses and accuracies are those of the published
script, batch by batch.

Sources: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6 and its additional
experiments; Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84.
"""

if __name__ == "__main__":  # a wrong flag ends here: the imports below take seconds
    from experiments import command_line, flags

    command_line.take_over()
    flags.parse_args()

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from experiments.baselines import run_baseline
from experiments.command_line import one_line_errors
from experiments.data.corpus import Corpus
from experiments.data.datasets import SpamDataset as SpamDataset
from experiments.data.datasets import create_loaders
from experiments.descriptions import describe_result, describe_run
from experiments.devices import (
    autocast,
    choose_kernels,
    device_name,
    keep_freed_memory,
    peak_memory_mib,
    pick_device,
    set_precision,
    start_peak,
    telling_full_memory,
)
from experiments.files import check_writable
from experiments.finetuning import evaluate, finetune
from experiments.flags import parse_args
from experiments.keeping.bases import is_saved, keep_classifier
from experiments.lora import LinearWithLoRA as LinearWithLoRA
from experiments.lora import LinearWithLoRAMerged as LinearWithLoRAMerged
from experiments.lora import LoRALayer as LoRALayer
from experiments.lora import replace_linear_with_lora as replace_linear_with_lora
from experiments.preparation import (
    build_classifier,
    count_parameters,
    gather_files,
    load_corpus,
    load_datasets,
    read_own,
)
from experiments.records import is_finished, record_path, write_record
from experiments.results import (
    Clock,
    Result,
    begin_record,
    finish_record,
    published_row,
    record_failure,
)
from experiments.settings import Settings
from experiments.shortcuts.switch import take_shortcuts
from experiments.training import calc_accuracy_loader as calc_accuracy_loader
from experiments.training import calc_loss_batch as calc_loss_batch
from experiments.training import calc_loss_loader as calc_loss_loader
from experiments.training import evaluate_model as evaluate_model
from experiments.training import train_classifier_simple as train_classifier_simple

PROGRAM = "additional_experiments.py"


def run_experiment(
    settings: Settings,
    memo: dict[str, Any] | None = None,
    corpus: Corpus | None = None,
    record: str | None = None,
) -> Result:
    """Runs an experiment from its data to its final accuracies, and prints each step.

    Args:
        settings: of one seed.
        memo: keeps the hidden states from one seed to the next.
        corpus: the messages, where they are read already.
        record: digest of the run's record, which a saved model names.

    Raises:
        OSError: when data, tokenizer or weights cannot be had.
        ValueError: when they are not the expected ones, or do not fit the settings, or when the
            loss becomes infinite or no number.
    """
    clock, network, machine = Clock(), settings.network, settings.machine
    device = pick_device(machine.device)
    corpus = corpus or load_corpus(settings.reading, settings.own)
    datasets = load_datasets(corpus, settings.reading, network.config["context_length"])
    plain = build_classifier(network, settings.seed, len(corpus.class_names)).to(device)
    model, max_length, parameters = plain, datasets.train.max_length, count_parameters(plain)
    kernels = choose_kernels(device, plain=machine.no_shortcuts)
    print(describe_run(network, settings.reading, parameters, datasets, device))
    print(f"Kernels: {kernels}")
    clock.stop("load")

    in_training = datasets.test.data["Text"].isin(datasets.train.data["Text"]).tolist()
    prefix_seconds, prefix_reused = 0.0, False
    if not machine.no_shortcuts:
        keep_freed_memory()
        conditions = f"{machine.precision} {kernels} {device_name(device)}"
        with autocast(machine.precision, device):
            model, datasets, report, prefix_seconds, prefix_reused = take_shortcuts(
                model, datasets, machine.cache_dir, conditions, memo
            )
        print(f"Shortcuts: {report}")
    set_precision(model, machine.precision, device)
    clock.stop("prefix", prefix_seconds)

    loaders = create_loaders(datasets, settings.training.batch_size)
    torch.manual_seed(settings.seed)
    labels, fused = datasets.train.labels, not machine.no_shortcuts
    history = finetune(model, loaders, labels, settings.training, device, fused)
    clock.stop("train")
    minutes = (clock.seconds["prefix"] + clock.seconds["train"]) / 60
    print(f"Training completed in {minutes:.2f} minutes.")
    correct, probabilities, labels = evaluate(model, loaders, device)
    clock.stop("final_accuracies")
    model.__dict__.pop("forward", None)  # of `set_precision`, which would keep the model alive
    if settings.output.save_model:
        kept = keep_classifier(settings, plain, max_length, corpus.class_names, record)
        print(f"Saved: {kept}")
    return Result(
        history, correct, probabilities, labels, in_training, clock.seconds, parameters,
        kernels, prefix_reused,
    )  # fmt: skip


def device_of(settings: Settings) -> torch.device:
    """Returns where a run is computed: a baseline on the CPU, whatever the machine has."""
    return pick_device("cpu" if settings.baseline else settings.machine.device)


def run(
    settings: Settings, memo: dict[str, Any] | None, corpus: Corpus | None, record: str | None
) -> Result:
    """Runs an experiment or a baseline, whichever the settings ask for."""
    with telling_full_memory(device_of(settings)):
        network = None if settings.baseline else settings.network
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
    if is_finished(path) and not settings.output.overwrite and is_saved(settings):
        print(f"Recorded already, and not run again (--overwrite does): {path}")
        return
    try:
        result = run(settings, memo, corpus, record["digest"])
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        record_failure(folder, record, error)
        raise
    peak_mib = peak_memory_mib(device)
    print(describe_result(result.correct, peak_mib, published_row(record), demo=False))
    finished = finish_record(record, result, peak_mib, peak_since)
    print(f"Recorded: {write_record(folder, finished)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiments that the flags describe; ends with status 1 on what goes wrong."""
    settings = parse_args(argv)
    memo: dict[str, Any] | None = {} if settings.num_seeds > 1 else None
    with one_line_errors(PROGRAM, settings.output.debug, status=2):
        corpus = read_own(settings.own, settings.training)
    with one_line_errors(PROGRAM, settings.output.debug):
        for seed in range(settings.seed, settings.seed + settings.num_seeds):
            run_and_record(replace(settings, seed=seed), memo, corpus)


if __name__ == "__main__":
    main()
