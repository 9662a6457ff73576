"""From a command line to settings, and from settings to the row of the table that they make.

    settings = parse_args(["--row", "16", "--seed", "7"])
    row_of(settings)  # 16

The published flags have the published defaults. What is wrong with a command line ends the program
with status 2 and one sentence, before anything is downloaded; neither that nor `--help` waits for
PyTorch.

Source: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", for
`--lora_scaling rslora`.
"""

import argparse
import math
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from experiments.command_line import Parser, path
from experiments.data.sizes import (
    LONGEST_MESSAGE,
    PAD_TOKEN_ID,
    SHARES,
    parse_shares,
    sizes_of,
)
from experiments.hints import OTHER_NAMES
from experiments.rows import ROWS
from experiments.settings import (
    BASELINES,
    MODEL_SIZES,
    SCHEDULES,
    TINY,
    TRAINABLE,
    Machine,
    Network,
    Output,
    Own,
    Reading,
    Settings,
    Training,
)

DEMO_FLAGS = ["--model_size", TINY, "--weights", "random"]
PARTS = {
    "network": Network, "reading": Reading, "own": Own, "training": Training, "machine": Machine,
    "output": Output,
}  # fmt: skip

# --------------------------------------------------------------------------------------- parser


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


def number_from_0(text: str) -> float:
    """Returns a finite number that is not negative."""
    return 0.0 if re.fullmatch(r"[+-]?0*\.?0*", text) and "0" in text else positive_number(text)


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
    """Returns `pretrained`, `random`, or the path of a file or folder that exists."""
    if text in ("pretrained", "random"):
        return text
    found = path(text)
    try:
        is_there = found.is_file() or found.is_dir()
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise argparse.ArgumentTypeError(str(error)) from error
    if not is_there:
        raise argparse.ArgumentTypeError(
            "must be pretrained, random, or the path of a checkpoint: a .safetensors file, its "
            f"folder, or its .index.json, got {text!r}"
        )
    return str(found)


def context_length(text: str) -> str | int:
    """Returns one of the two words, or a number of tokens."""
    words = ("longest_training_example", "model_context_length")
    if text not in words and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(
            f"must be {words[0]}, {words[1]}, or a number of tokens above 0, got {text!r}"
        )
    return text if text in words else int(text)


def device(text: str) -> str:
    """Returns the name of a kind of device, or of one of several."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9]\d?))?", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"must be auto, cpu, cuda, cuda:1 (or another number), or mps, got {text!r}"
        )
    return text


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
        help="pretrained, random, or the path of a GPT-2 checkpoint: a .safetensors file, its "
        "folder, or its .index.json")
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
    add("--device", type=device, default="auto", metavar="NAME",
        help="auto, cpu, cuda, cuda:1 (or another number), mps; auto is cuda where there is one, "
        "else cpu")
    add("--data_dir", type=path, default=Path("sms_spam_collection"), metavar="DIR",
        help="where the messages and their split lie")
    add("--precision", choices=("float32", "bfloat16"), default="float32",
        help="of the operands of matrix products; sums and parameters stay float32")
    add("--no_shortcuts", action="store_true",
        help="the plain way of the book: compute everything, every time")
    add("--cache_dir", type=path, metavar="DIR",
        help="keep hidden states of frozen layers there for the next run")
    add("--num_seeds", type=whole_number(1), default=1, metavar="K",
        help="run K seeds, counted up from --seed")
    add("--output_dir", type=path, default=Path("results"), metavar="DIR",
        help="where each run leaves its record")
    add("--overwrite", action="store_true", help="run again what is recorded already")
    add("--baseline", choices=BASELINES, help="run no network but a baseline that costs nothing")
    add("--max_steps", type=whole_number(1), metavar="N", help="stop after N optimiser steps")
    add("--verify", action="store_true",
        help="compute the digest of every file, even of those that have not changed since")
    add("--debug", action="store_true", help="show the traceback of an error")
    add = parser.add_argument_group("your own messages").add_argument
    add("--data", type=path, metavar="FILE",
        help=".csv, .tsv, .jsonl, .json or .parquet, or - for standard input")
    add("--text_column", metavar="NAME", help="holds the texts; guessed where names leave no doubt")
    add("--label_column", metavar="NAME", help="holds the labels; likewise")
    add("--validation_data", type=path, metavar="FILE", help="where that split exists already")
    add("--test_data", type=path, metavar="FILE", help="where that split exists already")
    add("--split", type=parse_shares, default=SHARES, metavar="70/10/20",
        help="percent of the messages for training, validation and test")
    add("--split_seed", type=whole_number(0, 2**32 - 1), default=123, metavar="N",
        help="of the split, and of what --balance and --train_size leave out")
    add("--balance", action="store_true", help="cut all classes to the smallest")
    add("--train_size", type=whole_number(1), metavar="N", help="train on N messages only")
    add = parser.add_argument_group("how it is trained").add_argument
    add("--learning_rate", type=positive_number, default=5e-5, metavar="X", help="of AdamW")
    add("--weight_decay", type=number_from_0, default=0.1, metavar="X", help="of AdamW")
    add("--warmup_steps", type=whole_number(0), default=0, metavar="N",
        help="optimiser steps over which the learning rate rises from 0")
    add("--schedule", choices=SCHEDULES, default="constant",
        help="what the learning rate does after that, down to 0 at the end but for constant")
    add("--max_grad_norm", type=positive_number, metavar="X", help="scale larger gradients down")
    add("--class_weights", action="store_true", help="weigh the loss by how rare a class is")
    add("--keep_best", action="store_true",
        help="keep the epoch with the smallest loss on the whole validation set")
    add = parser.add_argument_group("what is kept").add_argument
    add("--save_model", type=path, metavar="FILE",
        help="keep what was trained as a .safetensors file for classify.py; {seed} in the name "
        "stands for the seed")
    add("--save_whole", action="store_true",
        help="keep the whole classifier in it, so that it needs no base")
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
    except ValueError as error:  # of the checkpoint; its notes are lines that convert it
        parser.error(f"--weights: {error}", *getattr(error, "__notes__", ()))
    if problem:
        parser.error(problem)
    return settings


def read_flags(parser: Parser, argv: list[str]) -> Settings:
    """Returns what flags say one by one, with those that `--row` and `--demo` stand for."""
    given = parser.parse_known(argv, OTHER_NAMES)
    implied = shlex.split(ROWS[given.row].flags) if "row" in given else []
    implied += DEMO_FLAGS if given.demo else []
    values = vars(parser.parse_args(implied + argv))
    parts = {
        name: kind(**{f.name: values[f.name] for f in fields(kind)}) for name, kind in PARTS.items()
    }
    alone = {name: values[name] for name in ("seed", "num_seeds", "baseline")}
    return Settings(**parts, **alone)


def find_conflict(settings: Settings, model_size_given: bool) -> str | None:
    """Returns what is wrong with the flags together and the way out, or None."""
    network, reading, machine = settings.network, settings.reading, settings.machine
    folders = {
        "data_dir": reading.data_dir,
        "output_dir": settings.output.output_dir,
        "cache_dir": machine.cache_dir,
    }
    files = [
        f"--{name} {folder}"
        for name, folder in folders.items()
        if folder and folder.exists() and not folder.is_dir()
    ]
    conflicts = (
        (
            reading.demo and (network.model_size != TINY or network.weights != "random"),
            "--demo runs the tiny random model: leave out --model_size and --weights",
        ),
        (
            network.checkpoint and model_size_given,
            "--weights PATH brings its own size: leave out --model_size",
        ),
        (
            network.model_size == TINY and network.weights == "pretrained",
            f'no weights were published for --model_size "{TINY}": add --weights random',
        ),
        (
            reading.no_padding and settings.training.batch_size > 1,
            "--no_padding gives messages of different lengths, which make no batch: "
            "add --batch_size 1 (and --accumulation_steps for larger steps)",
        ),
        (
            reading.no_padding and isinstance(reading.context_length, int),
            "--no_padding keeps every message's own length: leave out --context_length",
        ),
        (
            machine.no_shortcuts and machine.cache_dir,
            "--no_shortcuts has no hidden states to keep: leave out --cache_dir",
        ),
        (
            settings.baseline and settings.num_seeds > 1,
            "--baseline is the same for every seed: leave out --num_seeds",
        ),
        (files, f"{' and '.join(files)} is a file: name a folder"),
        (
            not device_is_available(machine.device),
            f"--device {machine.device} is not available here: use --device cpu",
        ),
    )
    return (
        next((message for is_so, message in conflicts if is_so), None)
        or find_conflict_of_data(settings.reading, settings.own)
        or find_conflict_of_saving(settings)
        or find_misfit(settings.network, settings.reading, settings.own)
        or (
            None
            if settings.own.data
            else find_misfit_of_training(
                settings.training, sizes_of(settings.reading.demo)["train"]
            )
        )
    )


def find_conflict_of_data(reading: Reading, own: Own) -> str | None:
    """Returns what is wrong with the flags of the user's own messages, or None."""
    defaults = {"split": SHARES, "split_seed": 123}
    needing = [
        f"--{name}"
        for name, value in vars(own).items()
        if name != "data" and value != defaults.get(name) and value not in (None, False)
    ]
    files = [own.data, own.validation_data, own.test_data]
    conflicts = (
        (needing and not own.data, f"{' and '.join(needing)} needs --data FILE"),
        (own.data and reading.demo, "--demo has made-up messages: leave out --data"),
        (files.count(Path("-")) > 1, "only one file can be standard input: name the others"),
        (
            own.validation_data and own.test_data and own.split != SHARES,
            "nothing is left to --split where --validation_data and --test_data are given",
        ),
    )
    return next((message for is_so, message in conflicts if is_so), None)


def find_conflict_of_saving(settings: Settings) -> str | None:
    """Returns what is wrong with the flags of what is kept, or None."""
    file, whole = settings.output.save_model, settings.output.save_whole
    conflicts = (
        (whole and not file, "--save_whole says how --save_model FILE keeps it: add that"),
        (file and settings.baseline, "--baseline has no model: leave out --save_model"),
        (
            file and file.suffix != ".safetensors",
            f"--save_model {file} is a .safetensors file: name it so",
        ),
        (
            file and settings.num_seeds > 1 and "{seed}" not in file.name,
            "--save_model needs {seed} in the file's name where --num_seeds makes several",
        ),
    )
    return next((message for is_so, message in conflicts if is_so), None)


def find_misfit(network: Network, reading: Reading, own: Own) -> str | None:
    """Returns what of the model does not fit the flags and the way out, or None."""
    try:
        config = network.config
    except (OSError, ValueError) as error:
        return f"--weights: {error}"
    vocabulary, longest = config["vocab_size"], config["context_length"]
    length = reading.context_length
    is_published = not (reading.demo or own.data)
    takes_longest = length == "longest_training_example" and not reading.no_padding
    misfits = (
        (
            vocabulary <= PAD_TOKEN_ID,
            f"--weights: the checkpoint knows {vocabulary} tokens, GPT-2's tokenizer "
            f"{PAD_TOKEN_ID + 1}: use a checkpoint of GPT-2's vocabulary",
        ),
        (
            isinstance(length, int) and length > longest,
            f"--context_length {length} exceeds the model's {longest}: use {longest} or less",
        ),
        (
            takes_longest and is_published and longest < LONGEST_MESSAGE,
            f"the longest training message has {LONGEST_MESSAGE} tokens, the model's context "
            f"{longest}: add --context_length {longest}",
        ),
        (
            network.lora_rank > 4 * config["emb_dim"],
            f"--lora_rank {network.lora_rank} exceeds the model's widest layer: use "
            f"{4 * config['emb_dim']} or less",
        ),
    )
    return next((message for is_so, message in misfits if is_so), None)


def find_misfit_of_training(training: Training, messages: int) -> str | None:
    """Returns what does not fit so many training messages and the way out, or None."""
    steps = training.count_steps(messages)
    misfits = (
        (
            training.batch_size > messages,
            f"--batch_size {training.batch_size} exceeds the {messages:,} training messages",
        ),
        (
            training.max_steps is not None and training.max_steps > steps,
            f"--max_steps {training.max_steps} exceeds the {steps} steps of --num_epochs "
            f"{training.num_epochs}: raise --num_epochs or lower --max_steps",
        ),
        (
            training.warmup_steps > (training.max_steps or steps),
            f"--warmup_steps {training.warmup_steps} exceeds the {training.max_steps or steps} "
            "steps of the run: lower it",
        ),
    )
    return next((message for is_so, message in misfits if is_so), None)


def device_is_available(name: str) -> bool:
    """Says whether torch can compute there."""
    if name in ("auto", "cpu"):
        return True
    import torch  # seconds, which only those wait for who name a device

    if name == "mps":
        return torch.backends.mps.is_available()
    number = int(name.partition(":")[2] or 0)
    return torch.cuda.is_available() and number < torch.cuda.device_count()


# ----------------------------------------------------------------------------------------- rows


@cache
def identities_of_rows() -> dict[int, dict[str, Any]]:
    """Returns what makes each row what it is."""
    parser = build_parser()
    return {number: read_flags(parser, ["--row", str(number)]).identity for number in ROWS}


def row_of(settings: Settings) -> int | None:
    """Returns the number of the row that has these settings, whatever the seed and the device."""
    rows = identities_of_rows().items()
    return next((number for number, row in rows if row == settings.identity), None)


def design_of(settings: Settings) -> int | None:
    """Returns the row whose question a run asks, of its own model or of one that stands in.

    A local checkpoint stands in for the published one of the size, and the tiny model, which has
    random weights, for the small one of row 10. The precision is no part of the question.
    """
    network = settings.network
    if network.checkpoint:
        network = replace(network, weights="pretrained")
    if network.model_size == TINY:
        network = replace(network, model_size="gpt2-small (124M)")
    asked = in_float32(replace(settings, network=network))
    return None if settings.reading.demo else row_of(asked)


def in_float32(settings: Settings) -> Settings:
    """Returns the settings in the precision of the rows."""
    return replace(settings, machine=replace(settings.machine, precision="float32"))


def stands_in(settings: Settings) -> bool:
    """Says whether a run asks a row's question of another model than the published one."""
    return design_of(settings) != row_of(in_float32(settings))
