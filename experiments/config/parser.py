"""The flags of a run, one by one: their words, numbers, defaults and help.

The published flags have the published defaults. This is the only place where a default is written.

Source: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", for
`--lora_scaling rslora`.
"""

import argparse
import math
import re
from pathlib import Path
from typing import Any

from experiments.config.rows import ROWS
from experiments.config.settings import BASELINES, MODEL_SIZES, PARALLEL, SCHEDULES, TRAINABLE
from experiments.config.sizes import SHARES, parse_shares
from experiments.system.terminal import Parser, path

# ------------------------------------------------------------------------------ words and numbers


def whole_number(minimum: int, maximum: int = 2**63 - 1) -> Any:
    """Returns a `type=` function that takes whole numbers from `minimum` to `maximum`."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,19}", text) or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {minimum} to {maximum}, got {text!r}"
            )
        return int(text)

    return convert


def row_numbers(text: str) -> list[int]:
    """Returns the numbers of rows, such as 1, 1-5,10,16 or all; each once, in their order."""
    numbers: list[int] = []
    for part in (f"1-{len(ROWS)}" if text == "all" else text).split(","):
        if not (found := re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", part, re.ASCII)):
            numbers = []
            break
        first, last = int(found[1]), int(found[2] or found[1])
        numbers += range(first, last + 1) if first <= last else [0]
    if not numbers or not set(numbers) <= ROWS.keys():
        raise argparse.ArgumentTypeError(
            f"must be a row from 1 to {len(ROWS)}, several such as 1-5,10,16, or all, got {text!r}"
        )
    return sorted(set(numbers))


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
    add("--row", type=row_numbers, metavar="N", default=argparse.SUPPRESS,
        help="the flags of a row of the table, or of several, such as 1-5,10,16 or all; flags "
        "given beside it win")
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
    add("--tensorboard", type=path, metavar="DIR",
        help="write losses and accuracies there for TensorBoard, as the run goes")
    add("--overwrite", action="store_true", help="run again what is recorded already")
    add("--baseline", choices=BASELINES, help="run no network but a baseline that costs nothing")
    add("--max_steps", type=whole_number(1), metavar="N", help="stop after N optimiser steps")
    add("--parallel", choices=PARALLEL, default="replicate",
        help="of the processes that torchrun starts, each holds the whole model or a part of it")
    add("--dry_run", action="store_true",
        help="say what would be done and which memory it needs, and end; loads no weights")
    add("--ignore_memory", action="store_true",
        help="run what seems to need more memory than there is")
    add("--activation_checkpointing", action="store_true",
        help="compute a block's inner results again in the backward pass: less memory, more time")
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
