"""Hidden states in files: what they depend on, and whole files or none."""

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

import previous_chapters
from experiments.files import naming, sha256_of
from experiments.shortcuts.model import ShortcutClassifier


def prefix_key(
    model: ShortcutClassifier, messages: list[Tensor], depth: int, conditions: str
) -> str:
    """Returns a digest of all that the hidden states before block `depth` depend on."""
    attention = model.trf_blocks[0].att
    sources = [Path(previous_chapters.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    code = [sha256_of(path) for path in sources]
    told = (depth, attention.num_heads, attention.disable_causal_mask, torch.__version__, code)
    digest = hashlib.sha256(f"{told} {conditions}".encode())
    prefix = nn.ModuleList([model.tok_emb, model.pos_emb, *model.trf_blocks[:depth]])
    for name, parameter in prefix.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().numpy())
    for tokens in messages:
        digest.update(len(tokens).to_bytes(8, "little") + tokens.numpy().tobytes())
    return digest.hexdigest()


def cached_values(
    path: Path, shape: tuple[int, int], dtype: torch.dtype, fill: Callable[[Tensor], None]
) -> Tensor:
    """Returns hidden states mapped from a file, which is computed first where it is not whole.

    The file ends with a digest of its name and content: one that was cut short, or belongs to
    something else, is computed again. A lock lets two processes share one computation.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = math.prod(shape) * dtype.itemsize
    with FileLock(f"{path}.lock"):
        if path.is_file() and path.stat().st_size == size + hashlib.sha256().digest_size:
            with path.open("rb") as file:
                values = mapped(file, shape, dtype, mode="c")
                file.seek(size)
                if file.read() == digest_of(path.name, values):
                    return values
        part = path.with_name(path.name + ".part")  # of an interrupted run, if there is one
        with naming(part), part.open("w+b") as file:
            values = mapped(file, shape, dtype)
            fill(values)
            file.seek(size)
            file.write(digest_of(path.name, values))
        del values  # Windows renames no file that is mapped
        part.replace(path)
        with path.open("rb") as file:
            return mapped(file, shape, dtype, mode="c")


def digest_of(name: str, values: Tensor) -> bytes:
    """Returns the SHA-256 of a name and hidden states."""
    digest = hashlib.sha256(name.encode())
    digest.update(values.numpy())
    return digest.digest()


def mapped(file: BinaryIO, shape: tuple[int, int], dtype: torch.dtype, mode: str = "r+") -> Tensor:
    """Returns a tensor over an open file, which first gets its room on the disk if written to.

    Raises:
        OSError: when the disk is full. Without room the process would die at a later write.
    """
    if mode == "r+":
        size = math.prod(shape) * dtype.itemsize
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    numbers = np.memmap(file, torch.empty(0, dtype=dtype).numpy().dtype, mode, shape=shape)
    return torch.from_numpy(numbers)
