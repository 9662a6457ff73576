"""Command lines: a parser whose errors are one sentence with a hint, and types of values.

    parser = Parser(prog="script.py")
    parser.add_argument("--num_epochs", type=whole_number(1))
    arguments = parser.parse_known()  # --epochs 3: "did you mean --num_epochs?"

An unknown flag is looked up among well-known names of other programs, then by its spelling. An
invalid text raises `argparse.ArgumentTypeError`, which names what is expected.
"""

import argparse
import codecs
import difflib
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from experiments.config.rows import ROWS
from experiments.system.distributed import EXIT_TIMEOUT, world
from experiments.system.terminal import describe_error, printable

_TORCHRUN = "torchrun --nproc_per_node=N additional_experiments.py starts N processes"
SIMILAR = 0.8  # difflib's ratio, 1 for the same word
OTHER_NAMES = {  # a flag of other programs: the flag that is meant, or why there is none
    "lr": "--learning_rate",
    "epochs": "--num_epochs",
    "model": "--model_size",
    "max_length": "--context_length",
    "dataset": "--data",
    "output": "--output_dir",
    "save": "--save_model",
    "seeds": "--num_seeds",
    "gpu": "--device cuda",
    "cuda": "--device cuda",
    "no_cuda": "--device cpu",
    "bf16": "--precision bfloat16",
    "fp16": "float16 is not supported: use --precision bfloat16",
    "resume": "run the same command to resume; --save_every says when the state is saved",
    "num_labels": "the classes are the labels in --data",
    "eval_steps": "losses are evaluated every 50 batches, as published",
    "eval_batch_size": "evaluation uses --batch_size",
    "nproc_per_node": _TORCHRUN,
    "num_gpus": _TORCHRUN,
    "local_rank": _TORCHRUN,
    "fsdp": "--parallel shard",
    "sep": "--separator",
    "delimiter": "--separator",
    "wandb": "--tensorboard",
    "plot": "compare_experiments.py has that flag",
}

# ------------------------------------------------------------------------------------- the parser


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, without the usage."""

    def __init__(self, **options: Any) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(**({"allow_abbrev": False, "formatter_class": layout} | options))

    def error(self, message: str, *lines: str) -> NoReturn:
        """End the program with status 2; lines of code may follow the message."""
        if not world.is_main:  # torchrun ends all with the first; the main process has the message
            time.sleep(EXIT_TIMEOUT)
        shown = (f"{self.prog}: error: {message}", *lines)
        self.exit(2, "".join(printable(line).replace("\n", "\\n") + "\n" for line in shown))

    def parse_known(
        self, argv: Sequence[str] | None = None, other_names: Mapping[str, str] = OTHER_NAMES
    ) -> argparse.Namespace:
        """Return the values of flags; an unknown one ends the program with a hint.

        `argv` is the command line of this process if None.
        """
        given, unknown = self.parse_known_args(argv)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            self.error(f"unknown: {' '.join(unknown)}; {hint(unknown, flags, other_names)}")
        return given


# ------------------------------------------------------------------------------------------ hints


def hint(unknown: Sequence[str], flags: Iterable[str], other_names: Mapping[str, str]) -> str:
    """Return which of the flags are probably meant by unknown words of a command line."""
    names = other_names | {_name_of(flag): flag for flag in flags if flag.startswith("--")}
    starts = [number for number, word in enumerate(unknown) if word.startswith("-")]
    groups = [unknown[start:end] for start, end in pairwise([*starts, len(unknown)])]
    hints = [_hint_for(group, names) for group in groups]
    return "; ".join(dict.fromkeys(filter(None, hints))) or "--help lists the flags"


def _hint_for(words: Sequence[str], names: Mapping[str, str]) -> str | None:
    for name in (_name_of("_".join(words)), _name_of(words[0])):  # "--no padding" is --no_padding
        if found := difflib.get_close_matches(name, names, 1, SIMILAR):
            meant = names[found[0]]
            return f"did you mean {meant}?" if meant.startswith("--") else meant
    return None


def _name_of(flag: str) -> str:
    return flag.partition("=")[0].strip("-").replace("-", "_").lower()


# ------------------------------------------------------------------------------- types of values


def expected(what: str, text: str) -> argparse.ArgumentTypeError:
    """Return the error of a flag with another value than expected."""
    return argparse.ArgumentTypeError(f"must be {what}, got {text!r}")


def path(text: str) -> Path:
    """Return a path; `~` is the home folder, also in `--flag=~/x`, which shells do not expand."""
    if not text.startswith("~"):  # ./~x is a file of that name
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # no such user
        name = Path(text).parts[0]
        problem = f"there is no home folder {name}: for a file of that name, write ./{text}"
        raise argparse.ArgumentTypeError(problem) from error


def whole_number(minimum: int, maximum: int = 2**63 - 1) -> Any:
    """Return a `type=` function for whole numbers from `minimum` to `maximum`."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,19}", text) or not minimum <= int(text) <= maximum:
            raise expected(f"a whole number from {minimum} to {maximum}", text)
        return int(text)

    return convert


def _number(what: str, is_valid: Callable[[float], bool]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        with suppress(ValueError):
            if is_valid(number := float(text)):
                return abs(number)  # of -0.0, which is valid where 0 is
        raise expected(what, text)

    return convert


positive_number = _number("a number above 0", lambda number: 0 < number < math.inf)
number_from_0 = _number("a number of at least 0", lambda number: 0 <= number < math.inf)
probability = _number("a probability above 0 and below 1", lambda number: 0 < number < 1)


def device(text: str) -> str:
    """Return the name of a kind of device, or of one of several GPUs."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9]\d?))?", text, re.ASCII):
        raise expected("auto, cpu, cuda, cuda:1 (or another number), or mps", text)
    return text


# --------------------------------------------------------------------- values of the flags of a run

TINY = "gpt2-tiny (7M)"
MODEL_SIZES = {
    TINY: {"emb_dim": 128, "n_layers": 3, "n_heads": 2},
    "gpt2-small (124M)": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},
    "gpt2-medium (355M)": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},
    "gpt2-large (774M)": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},
    "gpt2-xl (1558M)": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},
}
QUOTING = ("double", "backslash", "none")
LENGTHS = ("longest_training_example", "model_context_length")


def row_numbers(text: str) -> list[int]:
    """Return row numbers, sorted and without duplicates, from 1, 1-5,10,16 or all."""
    numbers: list[int] = []
    for part in (f"1-{len(ROWS)}" if text == "all" else text).split(","):
        found = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", part, re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        numbers += range(first, last + 1) if first <= last else [0]
    if not set(numbers) <= ROWS.keys():
        raise expected(f"a row from 1 to {len(ROWS)}, several such as 1-5,10,16, or all", text)
    return sorted(set(numbers))


def model_size(text: str) -> str:
    """Return the name of a model size; recognise a missing space after it."""
    for name in MODEL_SIZES:
        parts = name.lower().rstrip(")").split(" (")  # gpt2-small, 124m
        if text.lower() in (name.lower(), *parts):
            return name
        if text.startswith(name):
            rest = text.removeprefix(name)
            raise argparse.ArgumentTypeError(f"a space is missing between {name!r} and {rest!r}")
    raise expected(f"one of {', '.join(map(repr, MODEL_SIZES))}", text)


def name(text: str) -> str:
    """Return a name of 1 to 60 printable characters that is not that of a row or a baseline."""
    is_taken = text.isdecimal() or re.match(r"\s*(row|baseline)\b", text, re.IGNORECASE)
    if not (text.strip() and text.isprintable() and len(text) <= 60) or is_taken:
        raise expected("1 to 60 printable characters, and neither a number nor a row", text)
    return text.strip()


def weights(text: str) -> str:
    """Return `pretrained`, `random`, or the path of a file or folder that exists."""
    if text in ("pretrained", "random"):
        return text
    found = path(text)
    try:
        exists = found.is_file() or found.is_dir()
    except OSError as error:  # a name too long, a folder without permission
        raise argparse.ArgumentTypeError(describe_error(error)) from error
    if not exists:
        checkpoint = "a checkpoint: a .safetensors file, its folder, or its .index.json"
        raise expected(f"pretrained, random, or the path of {checkpoint}", text)
    return str(found)


def context_length(text: str) -> str | int:
    """Return one of the two words, or a number of tokens."""
    if text not in LENGTHS and not (text.isdecimal() and int(text) > 0):
        raise expected(f"{' or '.join(LENGTHS)}, or a number of tokens above 0", text)
    return text if text in LENGTHS else int(text)


def shares(text: str) -> tuple[int, ...]:
    """Return the percentages of training, validation and test from a text such as 80/10/10."""
    digits = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{1,2})", text, re.ASCII)
    found = tuple(map(int, digits.groups())) if digits else ()
    if not found or 0 in found or sum(found) != 100:
        raise expected("three percentages above 0 that sum to 100, such as 80/10/10", text)
    return found


def encoding(text: str) -> str:
    """Return the name of an encoding of texts."""
    try:
        if codecs.lookup(text)._is_text_encoding:
            return text
    except (LookupError, ValueError):
        pass
    raise expected("an encoding such as utf-8, cp1252 or utf-16", text)


def separator(text: str) -> str:
    """Return a character that separates fields; tab is also `tab` or a backslash and t."""
    found = {"tab": "\t", r"\t": "\t"}.get(text, text)
    if len(found) != 1 or found in '"\r\n\\':
        raise expected("one character, such as ';', or tab", text)
    return found
