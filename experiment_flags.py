"""What a run is told: the flags, their defaults, and which row of the published table they make.

    settings = parse_args(["--row", "16", "--seed", "7"])
    row_of(settings)  # 16

The published flags have the published defaults. What is wrong with a command line ends the program
with status 2 and one sentence, before anything is downloaded.

Source: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", for
`--lora_scaling rslora`.
"""

import argparse
import difflib
import math
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import torch

from baselines import BASELINES
from experiment_records import ROWS
from gpt_checkpoint import read_gpt2_settings

# ------------------------------------------------------------------------------------- settings

TINY = "gpt2-tiny (7M)"
MODEL_SIZES = {
    TINY: {"emb_dim": 128, "n_layers": 3, "n_heads": 2},
    "gpt2-small (124M)": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},
    "gpt2-medium (355M)": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},
    "gpt2-large (774M)": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},
    "gpt2-xl (1558M)": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},
}
PAD_TOKEN_ID = 50256  # the last of GPT-2's vocabulary
TRAINING = {False: (1045, 120), True: (251, 80)}  # by --demo: messages, tokens of the longest
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
    baseline: str | None
    num_seeds: int
    output_dir: Path
    overwrite: bool
    demo: bool
    debug: bool

    @property
    def checkpoint(self) -> Path | None:
        """The local checkpoint that `--weights` names, if it names one."""
        return None if self.weights in ("pretrained", "random") else Path(self.weights)

    @property
    def parameter_count(self) -> str:
        """The model's size as the checkpoints are called, such as 124M."""
        return self.model_size.partition("(")[2].rstrip(")")

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


# --------------------------------------------------------------------------------------- parser


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2."""
        line = message.replace("\n", "\\n")
        self.exit(2, f"{self.prog}: error: {line}\n")


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
    try:
        is_known = text in ("pretrained", "random") or Path(text).is_file()
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise argparse.ArgumentTypeError(str(error)) from error
    if not is_known:
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
    add("--lora_alpha", type=positive_number, default=8.0, metavar="X", help="size of its update")
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
    add("--num_seeds", type=whole_number(1), default=1, metavar="K",
        help="run K seeds, counted up from --seed")
    add("--output_dir", type=Path, default=Path("results"), metavar="DIR",
        help="where each run leaves its record")
    add("--overwrite", action="store_true", help="run again what is recorded already")
    add("--baseline", choices=BASELINES, help="run no network but a baseline that costs nothing")
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
    settings = read_flags(parser, argv)
    model_size_given = parser.parse_args(argv, argparse.Namespace(model_size=None)).model_size
    try:
        problem = find_conflict(settings, model_size_given is not None)
    except OSError as error:  # a name too long, a folder that may not be looked into
        problem = str(error)
    if problem:
        parser.error(problem)
    return settings


def read_flags(parser: Parser, argv: list[str]) -> Settings:
    """Returns what flags say one by one, with those that `--row` and `--demo` stand for."""
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}{nearest_flag(parser, unknown)}")
    implied = shlex.split(ROWS[given.row].flags) if "row" in given else []
    implied += DEMO_FLAGS if given.demo else []
    values = vars(parser.parse_args(implied + argv))
    return Settings(**{f.name: values[f.name] for f in fields(Settings)})


def nearest_flag(parser: Parser, unknown: list[str]) -> str:
    """Returns a hint at the flag that was probably meant, or nothing."""
    flags = [name for action in parser._actions for name in action.option_strings]
    wanted = next((word for word in unknown if word.startswith("-")), unknown[0])
    near = difflib.get_close_matches("_".join(unknown), flags, n=1)
    near = near or difflib.get_close_matches(wanted.partition("=")[0], flags, n=1)
    return f"; did you mean {near[0]}?" if near else "; --help lists the flags"


def find_conflict(settings: Settings, model_size_given: bool) -> str | None:
    """Returns what is wrong with the flags together and the way out, or None."""
    flag, length = settings, settings.context_length
    files = [
        f"--{name} {folder}"
        for name in ("data_dir", "output_dir", "cache_dir")
        if (folder := getattr(settings, name)) and folder.exists() and not folder.is_dir()
    ]
    conflicts = (
        (
            flag.demo and (flag.model_size != TINY or flag.weights != "random"),
            "--demo runs the tiny random model: leave out --model_size and --weights",
        ),
        (
            flag.checkpoint and model_size_given,
            "--weights PATH brings its own size: leave out --model_size",
        ),
        (
            flag.model_size == TINY and flag.weights == "pretrained",
            f'no weights were published for --model_size "{TINY}": add --weights random',
        ),
        (
            flag.no_padding and flag.batch_size > 1,
            "--no_padding gives messages of different lengths, which make no batch: "
            "add --batch_size 1 (and --accumulation_steps for larger steps)",
        ),
        (
            flag.no_padding and isinstance(length, int),
            "--no_padding keeps every message's own length: leave out --context_length",
        ),
        (
            flag.no_shortcuts and flag.cache_dir,
            "--no_shortcuts has no hidden states to keep: leave out --cache_dir",
        ),
        (
            flag.baseline and flag.num_seeds > 1,
            "--baseline is the same for every seed: leave out --num_seeds",
        ),
        (files, f"{' and '.join(files)} is a file: name a folder"),
        (
            not device_is_available(flag.device),
            f"--device {flag.device} is not available here: use --device cpu",
        ),
    )
    return next((message for is_so, message in conflicts if is_so), None) or find_misfit(settings)


def find_misfit(settings: Settings) -> str | None:
    """Returns what of the model does not fit the data or the flags and the way out, or None."""
    try:
        config = settings.model_config
    except (OSError, ValueError) as error:
        return f"--weights: {error}"
    flag, vocabulary, longest = settings, config["vocab_size"], config["context_length"]
    messages, tokens = TRAINING[flag.demo]
    steps = flag.num_epochs * math.ceil(messages // flag.batch_size / flag.accumulation_steps)
    takes_longest = flag.context_length == "longest_training_example" and not flag.no_padding
    misfits = (
        (
            vocabulary <= PAD_TOKEN_ID,
            f"--weights: the checkpoint knows {vocabulary} tokens, GPT-2's tokenizer "
            f"{PAD_TOKEN_ID + 1}: use a checkpoint of GPT-2's vocabulary",
        ),
        (
            isinstance(flag.context_length, int) and flag.context_length > longest,
            f"--context_length {flag.context_length} exceeds the model's {longest}: use {longest} "
            "or less",
        ),
        (
            takes_longest and tokens > longest,
            f"the longest training message has {tokens} tokens, the model's context {longest}: "
            f"add --context_length {longest}",
        ),
        (
            flag.batch_size > messages,
            f"--batch_size {flag.batch_size} exceeds the {messages:,} training messages",
        ),
        (
            flag.max_steps is not None and flag.max_steps > steps,
            f"--max_steps {flag.max_steps} exceeds the {steps} steps of --num_epochs "
            f"{flag.num_epochs}: raise --num_epochs or lower --max_steps",
        ),
        (
            flag.lora_rank > 4 * config["emb_dim"],
            f"--lora_rank {flag.lora_rank} exceeds the model's widest layer: use "
            f"{4 * config['emb_dim']} or less",
        ),
    )
    return next((message for is_so, message in misfits if is_so), None)


def device_is_available(name: str) -> bool:
    """Says whether torch can compute there."""
    return {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(
        name, lambda: True
    )()


# ----------------------------------------------------------------------------------------- rows

ELSEWHERE = (  # flags that change where and how a run is made, but not what it is
    "seed", "num_seeds", "device", "data_dir", "output_dir", "cache_dir", "no_shortcuts",
    "overwrite", "debug",
)  # fmt: skip


@cache
def settings_of_rows() -> dict[int, Settings]:
    """Returns the settings of each row."""
    return {number: read_flags(build_parser(), ["--row", str(number)]) for number in ROWS}


def row_of(settings: Settings) -> int | None:
    """Returns the number of the row that has these settings, whatever the seed and the device."""
    for number, row in settings_of_rows().items():
        if row == replace(settings, **{name: getattr(row, name) for name in ELSEWHERE}):
            return number
    return None


def design_of(settings: Settings) -> int | None:
    """Returns the row whose question a run asks, of its own model or of one that stands in.

    A local checkpoint stands in for the published one of the size, and the tiny model, which has
    random weights, for the small one of row 10.
    """
    if settings.checkpoint:
        settings = replace(settings, weights="pretrained")
    if settings.model_size == TINY:
        settings = replace(settings, model_size="gpt2-small (124M)")
    return None if settings.demo else row_of(settings)
