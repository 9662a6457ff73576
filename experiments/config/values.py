"""Words and numbers that flags take: from the text of a command line to a checked value.

An invalid text raises `argparse.ArgumentTypeError`, which names what is expected.
"""

import argparse
import codecs
import re

from experiments.config.rows import ROWS
from experiments.system.arguments import expected, path

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
        if text.lower() in (
            name.lower(),
            *name.lower().rstrip(")").split(" ("),
        ):  # 124M, gpt2-small
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
        raise argparse.ArgumentTypeError(str(error)) from error
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
