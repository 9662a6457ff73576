"""One run, from its messages to its final accuracies: what a row of the table is.

    result = run_experiment(parse_args(["--row", "16"]))
    result.correct["test"]  # messages told right, and of how many

Prepares the messages, builds the GPT of the book, adapts it, trains it, and looks at how it does,
in the published order and with the published random numbers.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from experiments.config.settings import Settings
from experiments.data.corpus import Corpus, same_texts
from experiments.data.datasets import Splits, create_loaders
from experiments.model.bases import keep_classifier
from experiments.model.recomputing import RecomputedBlocks
from experiments.runs.preparation import (
    build_classifier,
    count_parameters,
    design_of_network,
    load_corpus,
    load_datasets,
)
from experiments.runs.printing import describe_run
from experiments.runs.results import Clock, Result
from experiments.runs.tensorboard import name_of_run, watching
from experiments.shortcuts.prefix import HiddenStates
from experiments.shortcuts.switch import take_shortcuts
from experiments.system.devices import (
    choose_kernels,
    device_name,
    dtype_of,
    keep_freed_memory,
    kernels_restored,
    pick_device,
    set_precision,
)
from experiments.system.distributed import first_goes_ahead
from experiments.system.torchrun import rank
from experiments.training.finetuning import evaluate, finetune
from experiments.training.memory_fitting import count_messages, tell_memory
from experiments.training.sharding import gather_shards, spread


@dataclass
class Memo:
    """What a run leaves to the next ones in its process."""

    datasets: dict[tuple[Any, ...], Splits] = field(default_factory=dict)  # by what they are of
    hidden_states: dict[str, HiddenStates] = field(default_factory=dict)  # the last ones


@kernels_restored()
def run_experiment(
    settings: Settings,
    memo: Memo | None = None,
    corpus: Corpus | None = None,
    record: str | None = None,
) -> Result:
    """Runs an experiment from its data to its final accuracies, and prints each step.

    Args:
        settings: of one seed.
        memo: keeps what the next run can share.
        corpus: the messages, where they are read already.
        record: digest of the run's record, which a saved model names.

    Raises:
        Refused: when the user's own messages need more memory than there is.
        OSError: when data, tokenizer or weights cannot be had.
        ValueError: when they are not the expected ones, or do not fit the settings, or when the
            loss becomes infinite or no number.
    """
    clock, network, machine = Clock(), settings.network, settings.machine
    device = pick_device(machine.device)
    with first_goes_ahead():  # it writes the splits that the others read
        corpus = corpus or load_corpus(settings.reading, settings.own)
    kept = memo.datasets if memo else {}
    key = corpus.digest, settings.reading, network.config["context_length"]
    if key not in kept:
        kept[key] = load_datasets(corpus, settings.reading, network.config["context_length"])
    datasets = kept[key]
    if settings.own.data:
        messages = count_messages(datasets, len(corpus.class_names))
        print(tell_memory(settings, messages, device))
    plain = build_classifier(network, settings.seed, len(corpus.class_names)).to(device)
    if machine.activation_checkpointing:
        plain.trf_blocks = RecomputedBlocks(*plain.trf_blocks)
    model, max_length, parameters = plain, datasets.train.max_length, count_parameters(plain)
    kernels = choose_kernels(device, plain=machine.no_shortcuts)
    print(describe_run(network, settings.reading, parameters, datasets, device))
    print(f"Kernels: {kernels}")
    clock.stop("load")

    in_training = datasets.test.data["Text"].isin(datasets.train.data["Text"]).tolist()
    same_text = same_texts(datasets.test.data["Text"])
    prefix_seconds, prefix_reused = 0.0, False
    if not machine.no_shortcuts:
        keep_freed_memory()
        conditions = f"{machine.precision} {kernels} {device_name(device)}"
        model, datasets, report, prefix_seconds, prefix_reused = take_shortcuts(
            model, datasets, machine.cache_dir, conditions, memo and memo.hidden_states,
            dtype_of(machine.precision), cast_once=machine.parallel != "shard",
        )  # fmt: skip
        print(f"Shortcuts: {report}")
        if not settings.output.save_model:
            plain = None  # of whose frozen weights the model has others, in bfloat16
    else:
        set_precision(model, machine.precision, device)
    clock.stop("prefix", prefix_seconds)
    whole, model = model, spread(model, len(corpus.class_names), machine.parallel)

    loaders = create_loaders(datasets, settings.training.batch_size)
    torch.manual_seed(settings.seed)
    labels, fused = datasets.train.labels, not machine.no_shortcuts
    watched = settings.output.tensorboard if rank() == 0 else None
    with watching(watched, name_of_run(settings, record)) as watch:
        history = finetune(model, loaders, labels, settings.training, device, fused, watch)
    clock.stop("train")
    minutes = (clock.seconds["prefix"] + clock.seconds["train"]) / 60
    print(f"Training completed in {minutes:.2f} minutes.")
    correct, probabilities, labels = evaluate(model, loaders, device)
    clock.stop("final_accuracies")
    whole.__dict__.pop("forward", None)  # of `set_precision`, which would keep the model alive
    if settings.output.save_model:
        plain = gather_shards(plain, design_of_network(network), len(corpus.class_names))
        if rank() == 0:
            kept = keep_classifier(settings, plain, max_length, corpus.class_names, record)
            print(f"Saved: {kept}")
    return Result(
        history, correct, probabilities, labels, in_training, same_text, clock.seconds,
        parameters, kernels, prefix_reused,
    )  # fmt: skip
