"""Activations in files: what they depend on, whole files or none, and room on the disk.

    values, seconds, is_reused = load_or_compute(folder / f"{key}.npy", shape, dtype, compute)

NumPy has no bfloat16, so that each row of activations is stored as its bytes.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

import previous_chapters
from experiments.shortcuts.model import OptimizedClassifier
from experiments.system.files import locked, naming, sha256_of

CHUNK = 2**20  # bytes
LARGE_FILES = Path("/var/tmp")  # noqa: S108 (files made there have no name)
HINT = "name another folder by TMPDIR or --cache_dir"


def prefix_key(model: OptimizedClassifier, examples: list[Tensor], conditions: str) -> str:
    """Return a digest of all that the activations before block `model.depth` depend on."""
    attention = model.trf_blocks[0].att
    sources = [Path(previous_chapters.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    prefix = nn.ModuleList([model.tok_emb, model.pos_emb, *model.trf_blocks[: model.depth]])
    choices = (model.depth, model.dtype, attention.num_heads, attention.disable_causal_mask)
    shapes = [(tuple(parameter.shape), parameter.dtype) for parameter in prefix.parameters()]
    code = [*map(sha256_of, sources)]
    facts = (code, torch.__version__, conditions, choices, shapes, [*map(len, examples)])
    digest = hashlib.sha256(repr(facts).encode())
    for tensor in (*prefix.parameters(), *examples):
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def load_or_compute(
    path: Path, shape: tuple[int, int], dtype: torch.dtype, compute: Callable[[Tensor], float]
) -> tuple[Tensor, float, bool]:
    """Return activations mapped from an .npy file, seconds, and whether they are reused.

    A file that is missing, cut short, damaged or renamed is computed first: a note next to it holds
    a digest of its name, its content and its seconds. A lock lets two processes share one
    computation. `shape` is (tokens, C); `compute` fills a tensor and returns its seconds.
    """
    note, part = path.with_suffix(".sha256"), path.with_suffix(".part")
    with locked(Path(f"{path}.lock")):  # makes the folder
        if path.is_file() and note.is_file():
            digest, _, took = note.read_text(errors="replace").partition(" ")
            if digest == _digest_of(path, took):
                return _view(open_memmap(path, "c"), dtype), float(took), True
        with naming(part):  # replaces what an interrupted run left
            rows = open_memmap(part, "w+", np.uint8, (shape[0], shape[1] * dtype.itemsize))
            with part.open("r+b") as file:
                _reserve(file, rows.offset, rows.size)
            seconds = compute(_view(rows, dtype))
            note.write_text(f"{_digest_of(part, str(seconds))} {seconds}")
        del rows  # Windows renames no file that is mapped
        part.replace(path)
        return _view(open_memmap(path, "c"), dtype), seconds, False


def temporary_values(shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Path]:
    """Return room for activations in a file without a name, and its folder, or raise OSError."""
    folder, in_bytes = _temporary_folder(), (shape[0], shape[1] * dtype.itemsize)
    size = in_bytes[0] * in_bytes[1]
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file, 0, size)
            return _view(np.memmap(file, np.uint8, shape=in_bytes), dtype), folder
    except OSError as error:
        problem = f"{error.strerror} for {size / 2**20:,.0f} MiB of activations: {HINT}"
        raise OSError(error.errno, problem, str(folder)) from error


def _view(rows: np.memmap, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(rows).view(dtype)


def _digest_of(path: Path, seconds: str) -> str:
    start = partial(hashlib.sha256, (path.stem + seconds).encode())
    with path.open("rb") as file:
        return hashlib.file_digest(file, start).hexdigest()


def _reserve(file: BinaryIO, start: int, size: int) -> None:
    """Take room on the disk, or raise OSError; a write to a mapping would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), start, size)
        return
    file.seek(start)
    for done in range(0, size, CHUNK):  # macOS, Windows
        file.write(bytes(min(CHUNK, size - done)))


def _temporary_folder() -> Path:
    # Some systems have their folder for temporary files in memory.
    types = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    first = Path(tempfile.gettempdir())
    for folder in (first, LARGE_FILES):
        parents = (folder.resolve(), *folder.resolve().parents)
        type_ = next((types[path] for path in parents if path in types), "")
        if os.access(folder, os.W_OK) and type_ not in ("tmpfs", "ramfs"):
            return folder
    raise OSError(f"{first} is in memory, which activations would fill: {HINT}")
