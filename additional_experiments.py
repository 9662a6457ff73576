"""Finetunes GPT-2 as a spam classifier, once for each design question of the published table.

    python additional_experiments.py --demo                    # ten seconds, nothing is downloaded
    python additional_experiments.py                           # row 1: the last block, last token
    python additional_experiments.py --trainable_layers lora   # another design
    python additional_experiments.py --row 16                  # the flags of a row by its number

First or last token? One block, two, all, LoRA? A bigger model? Padding? The causal mask? Mean
pooling? Each row of `ROWS` is one answer: the flags of a run, and the accuracies once published
for it. A run prepares the SMS Spam Collection, builds the GPT of the book, adapts it, trains it and
reports, in the published order and with the published random numbers: its losses and accuracies
are those of the published script, batch by batch.

Sources: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6 and its additional
experiments; Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84; Hu et al. 2021,
"LoRA"; Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA".
"""

import argparse
import difflib
import math
import platform
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pandas as pd
import tiktoken
import torch
from torch import Tensor, nn

try:
    import resource
except ImportError:  # Windows
    resource = None

from gpt_classifier import GPTClassifier, make_trainable
from gpt_classifier import LinearWithLoRA as LinearWithLoRA
from gpt_classifier import LinearWithLoRAMerged as LinearWithLoRAMerged
from gpt_classifier import LoRALayer as LoRALayer
from gpt_classifier import replace_linear_with_lora as replace_linear_with_lora
from gpt_download import (
    download_and_load_gpt2,
    load_gpt2_checkpoint,
    load_gpt2_tokenizer,
    read_gpt2_settings,
)
from previous_chapters import load_weights_into_gpt
from shortcuts import choose_kernels, keep_freed_memory, take_shortcuts
from spam_data import SpamDataset as SpamDataset
from spam_data import (
    Splits,
    create_datasets,
    create_loaders,
    demo_splits,
    demo_tokenizer,
    prepare_splits,
)
from training import History, count_correct, train_classifier_simple
from training import calc_accuracy_loader as calc_accuracy_loader
from training import calc_loss_batch as calc_loss_batch
from training import calc_loss_loader as calc_loss_loader
from training import evaluate_model as evaluate_model

# ------------------------------------------------------------------------- the published table


class Row(NamedTuple):
    """One published run: its flags, and what an A100 gave for them."""

    flags: str
    train_accuracy: float  # percent, as the two below
    validation_accuracy: float
    test_accuracy: float
    train_minutes: float


XL = '--model_size "gpt2-xl (1558M)"'
ROWS = {
    1: Row("", 96.63, 99.33, 95.00, 0.28),
    2: Row("--trainable_token_pos first", 78.46, 80.54, 75.00, 0.28),
    3: Row("--trainable_layers last_layer", 78.65, 79.87, 72.00, 0.25),
    4: Row("--trainable_layers last_two_blocks", 98.85, 98.66, 98.33, 0.33),
    5: Row("--trainable_layers all", 99.62, 96.64, 96.67, 0.69),
    6: Row('--model_size "gpt2-medium (355M)"', 87.50, 91.28, 84.67, 0.75),
    7: Row('--model_size "gpt2-large (774M)"', 99.52, 98.66, 96.67, 1.50),
    8: Row(XL, 99.81, 99.81, 98.33, 2.83),  # no count of 149 messages gives 99.81 %
    9: Row(f"{XL} --trainable_layers all", 100.00, 98.66, 98.67, 8.12),
    10: Row("--weights random --trainable_layers all", 100.00, 96.64, 93.67, 0.69),
    11: Row("--trainable_layers lora --lora_rank 16 --lora_alpha 16", 100.00, 97.32, 96.67, 0.75),
    12: Row(
        f"--trainable_layers lora --lora_rank 16 --lora_alpha 8 {XL}", 100.00, 98.66, 98.33, 5.79
    ),
    13: Row('--context_length "model_context_length"', 83.08, 87.92, 78.33, 2.46),
    14: Row("--no_padding --batch_size 1", 100.00, 98.66, 98.00, 1.75),
    15: Row("--no_padding --batch_size 1 --accumulation_steps 8", 99.33, 98.66, 98.33, 1.70),
    16: Row('--trainable_token_pos "flexible"', 99.42, 98.66, 98.33, 0.30),
    17: Row("--disable_causal_mask", 99.23, 98.66, 95.33, 0.29),
    18: Row("--ignore_index 50256", 96.63, 99.33, 95.00, 0.28),
    19: Row("--average_embeddings", 97.79, 99.33, 96.33, 0.32),
}

# ---------------------------------------------------------------------------------------- flags

TINY = "gpt2-tiny (7M)"
MODEL_SIZES = {
    TINY: {"emb_dim": 128, "n_layers": 3, "n_heads": 2},
    "gpt2-small (124M)": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},
    "gpt2-medium (355M)": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},
    "gpt2-large (774M)": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},
    "gpt2-xl (1558M)": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},
}
DEMO_FLAGS = ["--model_size", TINY, "--weights", "random"]
TRAINABLE = {  # --trainable_layers, and how a run says it
    "all": "everything",
    "last_block": "the last block, the final norm and the head",
    "last_two_blocks": "the last two blocks, the final norm and the head",
    "last_layer": "the head",
    "lora": "LoRA and the head",
    "lora_alternative": "LoRA, merged, and the head",
}


@dataclass(frozen=True)
class Settings:
    """All that a run is told; one field for each flag but `--row`, which only names others."""

    model_size: str
    weights: str  # pretrained, random, or the path of a checkpoint
    trainable_layers: str
    trainable_token_pos: str
    average_embeddings: bool
    context_length: str | int
    lora_rank: int
    lora_alpha: float
    lora_scaling: str
    no_padding: bool
    num_epochs: int
    batch_size: int
    accumulation_steps: int
    disable_causal_mask: bool
    ignore_index: int
    seed: int
    device: str
    data_dir: Path
    precision: str
    no_shortcuts: bool
    cache_dir: Path | None
    max_steps: int | None
    demo: bool
    debug: bool

    @property
    def checkpoint(self) -> Path | None:
        """The local checkpoint that `--weights` names, if it names one."""
        return None if self.weights in ("pretrained", "random") else Path(self.weights)

    @property
    def model_config(self) -> dict[str, Any]:
        """The book's dictionary for `GPTModel`, as the model's size or the checkpoint has it."""
        config = {"vocab_size": 50257, "context_length": 1024, "drop_rate": 0.0, "qkv_bias": True}
        if self.checkpoint is None:
            return config | MODEL_SIZES[self.model_size]
        found = read_gpt2_settings(self.checkpoint)
        return config | {
            "vocab_size": found["n_vocab"],
            "context_length": found["n_ctx"],
            "emb_dim": found["n_embd"],
            "n_layers": found["n_layer"],
            "n_heads": found["n_head"],
        }

    @property
    def scaling(self) -> float:
        """The factor of LoRA's update; plain alpha is what rows 11 and 12 were published with."""
        divisor = {"alpha": 1, "alpha_over_rank": self.lora_rank, "rslora": self.lora_rank**0.5}
        return self.lora_alpha / divisor[self.lora_scaling]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def whole_number(minimum: int, maximum: int = 2**63 - 1) -> Any:
    """Returns a `type=` function that takes whole numbers from `minimum` to `maximum`."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,19}", text) or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {minimum} to {maximum}, got {text!r}"
            )
        return int(text)

    return convert


def positive_number(text: str) -> float:
    """Returns a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return number


def model_size(text: str) -> str:
    """Returns the name of a model size; knows the slip of leaving out the space behind it."""
    for name in MODEL_SIZES:
        if text != name and text.startswith(name):
            rest = text.removeprefix(name)
            raise argparse.ArgumentTypeError(f"a space is missing between {name!r} and {rest!r}")
    if text not in MODEL_SIZES:
        names = ", ".join(repr(name) for name in MODEL_SIZES)
        raise argparse.ArgumentTypeError(f"must be one of {names}, got {text!r}")
    return text


def weights(text: str) -> str:
    """Returns `pretrained`, `random`, or the path of a checkpoint that exists."""
    if text not in ("pretrained", "random") and not Path(text).is_file():
        raise argparse.ArgumentTypeError(
            f"must be pretrained, random, or the path of a .safetensors file, got {text!r}"
        )
    return text


def context_length(text: str) -> str | int:
    """Returns one of the two words, or a number of tokens."""
    words = ("longest_training_example", "model_context_length")
    if text not in words and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(
            f"must be {words[0]}, {words[1]}, or a number of tokens above 0, got {text!r}"
        )
    return text if text in words else int(text)


def build_parser() -> Parser:
    """Returns the parser, the one place where a default is written."""
    parser = Parser(
        prog="additional_experiments.py",
        description="Finetunes GPT-2 as a spam classifier; without flags, row 1 of the table.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("the published flags").add_argument
    # fmt: off
    add("--model_size", type=model_size, default="gpt2-small (124M)", metavar="NAME",
        help=f"one of {', '.join(MODEL_SIZES)}")
    add("--weights", type=weights, default="pretrained", metavar="WORD",
        help="pretrained, random, or the path of a local GPT-2 checkpoint (.safetensors)")
    add("--trainable_layers", default="last_block", help="what is trained besides the new head",
        choices=TRAINABLE)
    add("--trainable_token_pos", choices=("first", "last", "flexible"), default="last",
        help="whose logits count; flexible is the last token before the padding")
    add("--average_embeddings", action="store_true", help="average over all positions instead")
    add("--context_length", type=context_length, default="longest_training_example",
        metavar="LENGTH", help="longest_training_example, model_context_length, or tokens")
    add("--lora_rank", type=whole_number(1), default=8, metavar="N", help="width of LoRA's waist")
    add("--lora_alpha", type=positive_number, default=8, metavar="X", help="size of its update")
    add("--no_padding", action="store_true", help="every message at its own length")
    add("--num_epochs", type=whole_number(1), default=5, metavar="N", help="passes over the data")
    add("--batch_size", type=whole_number(1), default=8, metavar="N", help="messages in a batch")
    add("--accumulation_steps", type=whole_number(1), default=1, metavar="N",
        help="batches in an optimiser step")
    add("--disable_causal_mask", action="store_true", help="let every token see every other")
    add("--ignore_index", type=whole_number(-(2**63)), default=-100, metavar="LABEL",
        help="label whose messages do not count in the loss")
    add = parser.add_argument_group("and beyond them").add_argument
    add("--row", type=whole_number(1, len(ROWS)), metavar="N", default=argparse.SUPPRESS,
        help="the flags of a row of the table; flags given beside it win")
    add("--demo", action="store_true",
        help="a tiny random model on made-up messages; downloads nothing, proves nothing")
    add("--lora_scaling", choices=("alpha", "alpha_over_rank", "rslora"), default="alpha",
        help="LoRA's factor: alpha, alpha / rank, or alpha / sqrt(rank)")
    add("--seed", type=whole_number(0), default=123, metavar="N",
        help="of initialisation and shuffling; the split stays")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto",
        help="auto is cuda where there is one, else cpu")
    add("--data_dir", type=Path, default=Path("sms_spam_collection"), metavar="DIR",
        help="where the messages and their split lie")
    add("--precision", choices=("float32", "bfloat16"), default="float32",
        help="of the operands of matrix products; sums and parameters stay float32")
    add("--no_shortcuts", action="store_true",
        help="the plain way of the book: compute everything, every time")
    add("--cache_dir", type=Path, metavar="DIR",
        help="keep hidden states of frozen layers there for the next run")
    add("--max_steps", type=whole_number(1), metavar="N", help="stop after N optimiser steps")
    add("--debug", action="store_true", help="show the traceback of an error")
    # fmt: on
    return parser


def parse_args(argv: Sequence[str] | None = None) -> Settings:
    """Returns the settings of a run; ends the program with status 2 on flags that are wrong.

    Args:
        argv: the flags; those of the command line if None.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser()
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}{nearest_flag(parser, unknown)}")
    implied = shlex.split(ROWS[given.row].flags) if "row" in given else []
    implied += DEMO_FLAGS if given.demo else []
    values = vars(parser.parse_args(implied + argv))
    settings = Settings(**{f.name: values[f.name] for f in fields(Settings)})
    model_size_given = parser.parse_args(argv, argparse.Namespace(model_size=None)).model_size
    if problem := find_conflict(settings, model_size_given is not None):
        parser.error(problem)
    return settings


def nearest_flag(parser: Parser, unknown: list[str]) -> str:
    """Returns a hint at the flag that was probably meant, or nothing."""
    flags = [name for action in parser._actions for name in action.option_strings]
    wanted = next((word for word in unknown if word.startswith("-")), unknown[0])
    near = difflib.get_close_matches("_".join(unknown), flags, n=1)
    near = near or difflib.get_close_matches(wanted.partition("=")[0], flags, n=1)
    return f"; did you mean {near[0]}?" if near else "; --help lists the flags"


def find_conflict(settings: Settings, model_size_given: bool) -> str | None:
    """Returns what is wrong with the flags together and the way out, or None."""
    number = isinstance(settings.context_length, int)
    if settings.demo and (settings.model_size != TINY or settings.weights != "random"):
        return "--demo runs the tiny random model: leave out --model_size and --weights"
    if settings.checkpoint and model_size_given:
        return "--weights PATH brings its own size: leave out --model_size"
    if settings.model_size == TINY and settings.weights == "pretrained":
        return f'no weights were published for --model_size "{TINY}": add --weights random'
    if settings.no_padding and settings.batch_size > 1:
        return (
            "--no_padding gives messages of different lengths, which make no batch: "
            "add --batch_size 1 (and --accumulation_steps for larger steps)"
        )
    if settings.no_padding and number:
        return "--no_padding keeps every message's own length: leave out --context_length"
    if settings.no_shortcuts and settings.cache_dir:
        return "--no_shortcuts has no hidden states to keep: leave out --cache_dir"
    if settings.device != "auto" and not device_is_available(settings.device):
        return f"--device {settings.device} is not available here: use --device cpu"
    try:
        longest = settings.model_config["context_length"]
    except (OSError, ValueError) as error:
        return f"--weights: {error}"
    if number and settings.context_length > longest:
        return (
            f"--context_length {settings.context_length} exceeds the model's {longest}: "
            f"use {longest} or less"
        )
    return None


def device_is_available(name: str) -> bool:
    """Says whether torch can compute there."""
    return {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(
        name, lambda: True
    )()


def row_of(settings: Settings) -> int | None:
    """Returns the number of the row that has these settings, whatever the seed and the device."""
    for number in ROWS:
        row = parse_args(["--row", str(number)])
        elsewhere = ("seed", "device", "data_dir", "no_shortcuts", "cache_dir", "debug")
        if row == replace(settings, **{name: getattr(row, name) for name in elsewhere}):
            return number
    return None


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
    parameter_count = settings.model_size.partition("(")[2].rstrip(")")  # 124M
    return download_and_load_gpt2(parameter_count)[1]


# ------------------------------------------------------------------------------ one experiment

LEARNING_RATE = 5e-5
WEIGHT_DECAY = 0.1


class Result(NamedTuple):
    """What a run found."""

    history: History
    correct: dict[str, tuple[int, int]]  # split: messages told right, and of how many
    prefix_seconds: float  # for what is computed before training, a part of the training time


def run_experiment(settings: Settings) -> Result:
    """Runs an experiment from its data to its final accuracies, and prints each step.

    Raises:
        OSError: when data, tokenizer or weights cannot be had.
        ValueError: when they are not the expected ones, or do not fit the settings.
    """
    device = pick_device(settings.device)
    datasets = load_datasets(settings)
    check_steps(settings, len(datasets.train))
    model = build_classifier(settings).to(device)
    print(describe_run(settings, model, datasets, device))

    started = time.perf_counter()
    if not settings.no_shortcuts:
        keep_freed_memory()
        kernels = choose_kernels(device)
        with autocast(settings.precision, device):
            conditions = f"{settings.precision} {kernels} {device.type}"
            model, datasets, report = take_shortcuts(
                model, datasets, settings.cache_dir, conditions
            )
        print(f"Shortcuts: {kernels}; {report}")
    prefix_seconds = time.perf_counter() - started
    loaders = create_loaders(datasets, settings.batch_size)
    set_precision(model, settings.precision, device)

    torch.manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        fused=not settings.no_shortcuts,
    )
    history = train_classifier_simple(
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
    minutes = (prefix_seconds + history.train_seconds) / 60
    print(f"Training completed in {minutes:.2f} minutes.")
    correct = {
        name: count_correct(loader, model, device)
        for name, loader in zip(Splits._fields, loaders, strict=True)
    }
    print(describe_result(settings, correct, device))
    return Result(history, correct, prefix_seconds)


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
        ValueError: when they are not the published ones, or too long for the model.
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
    datasets = create_datasets(files, tokenizer, limit, settings.no_padding)
    if datasets.train.max_length > longest:
        raise ValueError(
            f"the longest training message has {datasets.train.max_length} tokens, the model's "
            f"context {longest}: add --context_length {longest}"
        )
    return datasets


def pick_device(name: str) -> torch.device:
    """Returns the device of that name; `auto` never picks mps, whose results differ."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def check_steps(settings: Settings, messages: int) -> None:
    """Raises ValueError unless the training messages give a batch, and the steps asked for."""
    batches = messages // settings.batch_size
    steps = settings.num_epochs * math.ceil(batches / settings.accumulation_steps)
    if batches == 0:
        raise ValueError(
            f"--batch_size {settings.batch_size} exceeds the {messages:,} training messages"
        )
    if settings.max_steps is not None and settings.max_steps > steps:
        raise ValueError(
            f"--max_steps {settings.max_steps} exceeds the {steps} steps of --num_epochs "
            f"{settings.num_epochs}: raise --num_epochs or lower --max_steps"
        )


def describe_run(
    settings: Settings, model: nn.Module, datasets: Splits, device: torch.device
) -> str:
    """Returns what a run is about to do."""
    config = settings.model_config
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    length = "at their own lengths, up to" if settings.no_padding else "cut and padded to"
    where = f"{device}" + (f", {torch.get_num_threads()} threads" if device.type == "cpu" else "")
    lines = (
        f"Model: {settings.checkpoint or settings.model_size}, {config['n_layers']} blocks of "
        f"width {config['emb_dim']}, {config['n_heads']} heads, "
        + ("random weights" if settings.weights == "random" else "pretrained weights"),
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
            lines.append(
                f"  {words[name]:10} {percent:6.2f}% ({count_of(percent, n)} of {n:,})"
                f"   {k / n:7.2%} ({k:,} of {n:,})"
            )
    if settings.demo:
        lines.append("This was the demo: these figures mean nothing about GPT-2.")
    return "\n".join(lines)


def count_of(percent: float, total: int) -> str:
    """Returns the count of `total` that a rounded percentage stands for, if there is one."""
    count = round(percent / 100 * total)
    return f"{count:,}" if round(100 * count / total, 2) == percent else "no count"


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


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiment that the flags describe; ends with status 1 on what goes wrong."""
    settings = parse_args(argv)
    try:
        run_experiment(settings)
    except (OSError, ValueError) as error:
        if settings.debug:
            raise
        sys.exit(f"additional_experiments.py: error: {error}")


if __name__ == "__main__":
    main()
