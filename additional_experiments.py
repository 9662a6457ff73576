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
experiments; Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84; Hu et al. 2021,
"LoRA"; Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA".
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from command_line import take_over

    take_over()

import hashlib
import math
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tiktoken
import torch
from torch import Tensor, nn

try:
    import resource
except ImportError:  # Windows
    resource = None

from baselines import BASELINES
from command_line import one_line_errors
from experiment_flags import (
    ELSEWHERE,
    TRAINABLE,
    Settings,
    design_of,
    parse_args,
    row_of,
)
from experiment_records import (
    FAILED,
    FINISHED,
    ROWS,
    VERSION,
    git_commit,
    is_finished,
    published_count,
    record_path,
    source_digest,
    write_record,
)
from gpt_checkpoint import load_gpt2_checkpoint
from gpt_classifier import GPTClassifier, make_trainable
from gpt_classifier import LinearWithLoRA as LinearWithLoRA
from gpt_classifier import LinearWithLoRAMerged as LinearWithLoRAMerged
from gpt_classifier import LoRALayer as LoRALayer
from gpt_classifier import replace_linear_with_lora as replace_linear_with_lora
from gpt_download import (
    CHECKPOINTS,
    download_and_load_gpt2,
    load_gpt2_tokenizer,
    sha256_of,
)
from previous_chapters import load_weights_into_gpt
from shortcuts import choose_kernels, keep_freed_memory, take_shortcuts
from spam_data import (
    SPLIT_SHA256,
    Splits,
    create_datasets,
    create_loaders,
    demo_splits,
    demo_tokenizer,
    prepare_splits,
    read_messages,
)
from spam_data import SpamDataset as SpamDataset
from training import History, count_correct, predict, train_classifier_simple
from training import calc_accuracy_loader as calc_accuracy_loader
from training import calc_loss_batch as calc_loss_batch
from training import calc_loss_loader as calc_loss_loader
from training import evaluate_model as evaluate_model

# ---------------------------------------------------------------------------------------- model


def build_classifier(settings: Settings, num_classes: int = 2) -> GPTClassifier:
    """Returns the adapted model, on the CPU, with the published initialisation.

    Raises:
        OSError: when the weights cannot be had or read.
        ValueError: when they are not GPT-2's.
    """
    config = settings.model_config
    choices = (
        settings.trainable_token_pos,
        settings.average_embeddings,
        settings.disable_causal_mask,
    )
    if settings.weights == "random":
        torch.manual_seed(settings.seed)
        model = GPTClassifier(config, *choices)
    else:
        with torch.device("meta"):
            model = GPTClassifier(config, *choices)
        load_weights_into_gpt(model, load_params(settings))
    model.requires_grad_(False)
    torch.manual_seed(settings.seed)
    model.out_head = nn.Linear(config["emb_dim"], num_classes)
    make_trainable(model, settings.trainable_layers, settings.lora_rank, settings.scaling)
    return model


def load_params(settings: Settings) -> dict[str, Any]:
    """Returns the weights of the local checkpoint, or of the published one of the model's size."""
    if settings.checkpoint:
        return load_gpt2_checkpoint(settings.checkpoint)[1]
    return download_and_load_gpt2(settings.parameter_count)[1]


# ------------------------------------------------------------------------------ one experiment

MEMORY_IS_FULL = (  # what torch's errors say then, on one device or another
    "can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED",
)  # fmt: skip
LEARNING_RATE = 5e-5
WEIGHT_DECAY = 0.1


@dataclass
class Result:
    """What a run found."""

    history: History
    correct: dict[str, tuple[int, int]]  # split: messages told right, and of how many
    p_spam: Tensor  # (N,), of the test messages
    labels: Tensor  # (N,)
    in_training: list[bool]  # whether a training message has the very text
    seconds: dict[str, float]  # by phase; prefix and train make up the training time
    parameters: tuple[int, int] = (0, 0)  # trained, and in all
    kernels: str = ""


def run_experiment(settings: Settings, memo: dict[str, Any] | None = None) -> Result:
    """Runs an experiment from its data to its final accuracies, and prints each step.

    Args:
        settings: of one seed.
        memo: keeps the hidden states from one seed to the next.

    Raises:
        OSError: when data, tokenizer or weights cannot be had.
        ValueError: when they are not the expected ones, or do not fit the settings, or when the
            loss becomes infinite or no number.
    """
    clock = Clock()
    device = pick_device(settings.device)
    datasets = load_datasets(settings)
    model = build_classifier(settings).to(device)
    parameters = count_parameters(model)
    print(describe_run(settings, parameters, datasets, device))
    clock.stop("load")

    in_training = datasets.test.data["Text"].isin(datasets.train.data["Text"]).tolist()
    kernels = choose_kernels(device, plain=settings.no_shortcuts)
    if not settings.no_shortcuts:
        keep_freed_memory()
        conditions = f"{settings.precision} {kernels} {device.type}"
        with autocast(settings.precision, device):
            model, datasets, report = take_shortcuts(
                model, datasets, settings.cache_dir, conditions, memo
            )
        print(f"Shortcuts: {kernels}; {report}")
    set_precision(model, settings.precision, device)
    clock.stop("prefix")

    loaders = create_loaders(datasets, settings.batch_size)
    history = train(settings, model, loaders, device)
    clock.stop("train")
    minutes = (clock.seconds["prefix"] + clock.seconds["train"]) / 60
    print(f"Training completed in {minutes:.2f} minutes.")

    correct = {
        "train": count_correct(loaders.train, model, device),
        "validation": count_correct(loaders.validation, model, device),
    }
    probabilities, labels = predict(loaders.test, model, device)
    correct["test"] = (int((probabilities.argmax(dim=-1) == labels).sum()), len(labels))
    clock.stop("final_accuracies")
    model.__dict__.pop("forward", None)  # of `set_precision`, which would keep the model alive
    return Result(
        history,
        correct,
        probabilities[:, 1],
        labels,
        in_training,
        clock.seconds,
        parameters,
        kernels,
    )


class Clock:
    """Seconds of the phases of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    def stop(self, phase: str) -> None:
        """Notes the seconds since the last stop, and starts anew."""
        now = time.perf_counter()
        self.seconds[phase], self.started = now - self.started, now


def train(settings: Settings, model: nn.Module, loaders: Splits, device: torch.device) -> History:
    """Trains a model as the settings have it, and returns what was seen."""
    torch.manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        fused=not settings.no_shortcuts,
    )
    return train_classifier_simple(
        model,
        loaders.train,
        loaders.validation,
        optimizer,
        device,
        settings.num_epochs,
        accumulation_steps=settings.accumulation_steps,
        ignore_index=settings.ignore_index,
        max_steps=settings.max_steps,
    )


def run_baseline(settings: Settings) -> Result:
    """Runs a baseline on the same splits."""
    clock = Clock()
    files = demo_splits() if settings.demo else prepare_splits(settings.data_dir)
    frames = {name: read_messages(file) for name, file in files.items()}
    texts = [frame["Text"].tolist() for frame in frames.values()]
    labels = [torch.tensor(frame["Label"].to_numpy()) for frame in frames.values()]
    clock.stop("load")
    predicted = BASELINES[settings.baseline](texts[0], labels[0].tolist(), texts)
    clock.stop("train")
    correct = {
        name: (int(((p > 0.5).long() == y).sum()), len(y))
        for name, p, y in zip(frames, predicted, labels, strict=True)
    }
    in_training = frames["test"]["Text"].isin(frames["train"]["Text"]).tolist()
    return Result(History(), correct, predicted[-1], labels[-1], in_training, clock.seconds)


def run(settings: Settings, memo: dict[str, Any] | None = None) -> Result:
    """Runs an experiment or a baseline, whichever the settings ask for.

    Raises:
        MemoryError: when the memory of the device is full; the message says what to lower.
    """
    try:
        return run_baseline(settings) if settings.baseline else run_experiment(settings, memo)
    except (RuntimeError, MemoryError) as error:  # torch has a type for CUDA's memory only
        if isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_IS_FULL):
            peak = peak_memory_mib(pick_device(settings.device))
            raise MemoryError(
                f"the memory of the device is full, {peak:,.0f} MiB at the peak: lower "
                f"--batch_size or --context_length, or take a smaller --model_size ({error})"
            ) from error
        raise


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Returns a context in which matrix products take operands of that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def set_precision(model: nn.Module, precision: str, device: torch.device) -> None:
    """Lets a model's forward pass take operands of that precision; logits come as float32."""
    if precision == "bfloat16":
        forward = model.forward

        def cast(inputs: Tensor, lengths: Tensor) -> Tensor:
            with autocast(precision, device):
                return forward(inputs, lengths).float()

        model.forward = cast


def load_datasets(settings: Settings) -> Splits:
    """Returns the data sets of a run.

    Raises:
        OSError: when the messages or the tokenizer cannot be had.
        ValueError: when they are not the published ones.
    """
    longest = settings.model_config["context_length"]
    limits = {"longest_training_example": None, "model_context_length": longest}
    limit = limits.get(settings.context_length, settings.context_length)
    if settings.no_padding:
        limit = longest
    if settings.demo:
        files, tokenizer = demo_splits(), demo_tokenizer()
    else:
        files, tokenizer = prepare_splits(settings.data_dir), load_gpt2_tokenizer()
    return create_datasets(files, tokenizer, limit, settings.no_padding)


def pick_device(name: str) -> torch.device:
    """Returns the device of that name; `auto` never picks mps, whose results differ."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def describe_model(settings: Settings) -> str:
    """Returns the model's name and where its weights come from."""
    if settings.checkpoint:
        return f"checkpoint {settings.checkpoint.name}"
    return f"{settings.model_size}, {settings.weights} weights"


def device_name(device: torch.device) -> str:
    """Returns what a device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():  # Linux, whose processor() is the architecture
        name = re.search(r"model name\s*: (.*)|$", cpuinfo.read_text())[1] or name
    return f"{device.type}, {name}"


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Returns how many parameters are trained, and how many there are."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, is_trained in sizes if is_trained), sum(n for n, _ in sizes)


def describe_run(
    settings: Settings, parameters: tuple[int, int], datasets: Splits, device: torch.device
) -> str:
    """Returns what a run is about to do."""
    config = settings.model_config
    trainable, total = parameters
    length = "at their own lengths, up to" if settings.no_padding else "cut and padded to"
    where = f"{device}" + (f", {torch.get_num_threads()} threads" if device.type == "cpu" else "")
    lines = (
        f"Model: {describe_model(settings)}; {config['n_layers']} blocks of width "
        f"{config['emb_dim']}, {config['n_heads']} heads",
        f"Trainable: {TRAINABLE[settings.trainable_layers]}; {trainable:,} of {total:,} parameters",
        f"Data: {len(datasets.train):,} training, {len(datasets.validation):,} validation, "
        f"{len(datasets.test):,} test messages, {length} {datasets.train.max_length} tokens",
        f"Device: {where}",
        f"Versions: Python {platform.python_version()}, torch {torch.__version__}, "
        f"tiktoken {tiktoken.__version__}, pandas {pd.__version__}",
    )
    demo = "Demo: made-up messages and a tiny random model; its figures mean nothing about GPT-2."
    return "\n".join((demo, *lines) if settings.demo else lines)


def describe_result(
    settings: Settings, correct: dict[str, tuple[int, int]], device: torch.device
) -> str:
    """Returns the final accuracies, the peak memory, and beside them what was published."""
    words = {"train": "Training", "validation": "Validation", "test": "Test"}
    lines = [f"{words[name]} accuracy: {k / n:.2%}" for name, (k, n) in correct.items()]
    lines.append(f"Peak memory: {peak_memory_mib(device):,.0f} MiB")
    number = row_of(settings)
    if number:
        published = ROWS[number][1:4]
        lines.append(f"Row {number} as published, and here:")
        for percent, (name, (k, n)) in zip(published, correct.items(), strict=True):
            count = published_count(percent, n) or "no count"
            lines.append(
                f"  {words[name]:10} {percent:6.2f}% ({count} of {n:,})"
                f"   {k / n:7.2%} ({k:,} of {n:,})"
            )
    if settings.demo:
        lines.append("This was the demo: these figures mean nothing about GPT-2.")
    return "\n".join(lines)


def peak_memory_mib(device: torch.device) -> float:
    """Returns the most memory held so far: the device's on CUDA, else the process's, in MiB.

    The process's counts pages of mapped files too. NaN where the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if resource is None:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


# ---------------------------------------------------------------------------------------- records


def begin_record(settings: Settings) -> dict[str, Any]:
    """Returns what a record holds before its run: who made it, and with what."""
    device = pick_device(settings.device)
    weights = settings.weights  # random
    if settings.checkpoint:
        weights = sha256_of(settings.checkpoint)
    elif settings.weights == "pretrained":
        weights = CHECKPOINTS[settings.parameter_count]
    told = {k: v for k, v in asdict(settings).items() if k not in ELSEWHERE}
    if settings.baseline:
        told, weights = {"baseline": settings.baseline}, None
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "tiktoken": tiktoken.__version__,
    }
    depends_on = [
        told | {"weights": weights}, settings.seed, settings.no_shortcuts, device.type, versions,
        SPLIT_SHA256, source_digest(),
    ]  # fmt: skip
    row = None if settings.baseline else design_of(settings)
    name = "run" if row is None else f"row {row:02d}"
    return {
        "version": VERSION,
        "digest": hashlib.sha256(repr(depends_on).encode()).hexdigest(),
        "name": f"baseline {settings.baseline}" if settings.baseline else name,
        "row": row,
        "stands_in": row is not None and row_of(settings) is None,
        "model": settings.baseline or describe_model(settings),
        "seed": settings.seed,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in told.items()},
        "environment": versions
        | {
            "platform": platform.platform(),
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "shortcuts": not settings.no_shortcuts,
            "git_commit": git_commit(),
        },
    }


def finish_record(record: dict[str, Any], result: Result, peak_mib: float) -> dict[str, Any]:
    """Returns a record with what its run found."""
    predictions = (result.p_spam > 0.5).long()
    return record | {
        "status": FINISHED,
        "date": now(),
        "losses": [list(line) for line in result.history.losses],
        "accuracies": [list(line) for line in result.history.accuracies],
        "correct": {name: list(counts) for name, counts in result.correct.items()},
        "test": {
            "labels": result.labels.tolist(),
            "predictions": predictions.tolist(),
            "p_spam": [round(p, 6) for p in result.p_spam.tolist()],
            "in_training": result.in_training,
        },
        "seconds": {name: round(s, 3) for name, s in result.seconds.items()},
        "peak_memory_mib": None if math.isnan(peak_mib) else round(peak_mib, 1),
        "trainable_parameters": result.parameters[0],
        "parameters": result.parameters[1],
        "environment": record["environment"] | {"kernels": result.kernels},
    }


def now() -> str:
    """Returns the date and time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def run_and_record(settings: Settings, memo: dict[str, Any] | None) -> None:
    """Runs one seed and leaves its record, unless there is one already."""
    if settings.demo:  # is shown, not recorded
        result = run(settings)
        print(describe_result(settings, result.correct, pick_device(settings.device)))
        return
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.output_dir):
        pass  # a folder that cannot be written to is told now, and not after hours
    record = begin_record(settings)
    path = record_path(settings.output_dir, record)
    if is_finished(path) and not settings.overwrite:
        print(f"Recorded already, and not run again (--overwrite does): {path}")
        return
    device = pick_device(settings.device)
    try:
        result = run(settings, memo)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if not is_finished(path):
            failed = record | {"status": FAILED, "date": now(), "error": str(error)}
            with suppress(OSError):  # the first error is the one to tell
                write_record(settings.output_dir, failed)
        raise
    print(describe_result(settings, result.correct, device))
    finished = finish_record(record, result, peak_memory_mib(device))
    print(f"Recorded: {write_record(settings.output_dir, finished)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiments that the flags describe; ends with status 1 on what goes wrong."""
    settings = parse_args(argv)
    memo: dict[str, Any] | None = {} if settings.num_seeds > 1 else None
    with one_line_errors("additional_experiments.py", settings.debug):
        for seed in range(settings.seed, settings.seed + settings.num_seeds):
            run_and_record(replace(settings, seed=seed), memo)


if __name__ == "__main__":
    main()
