"""Hidden states in files: what they depend on, whole files or none, and the room on the disk."""

import hashlib
import math
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

import previous_chapters
from experiments.shortcuts.model import ShortcutClassifier
from experiments.system.files import naming, sha256_of

END = struct.Struct("<d32s")  # of a file: seconds, SHA-256
CHUNK = 2**20  # bytes
LARGE_FILES = Path("/var/tmp")  # noqa: S108 (what is made there has no name)
WAY_OUT = "name another folder by TMPDIR or --cache_dir"


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
        digest.update(bytes_of(parameter.detach().cpu()))
    for tokens in messages:
        digest.update(len(tokens).to_bytes(8, "little") + tokens.numpy().tobytes())
    return digest.hexdigest()


class Cached(NamedTuple):
    """Hidden states of the cache."""

    values: Tensor
    seconds: float  # what computing them cost, whenever that was
    is_reused: bool


def cached_values(
    path: Path, shape: tuple[int, int], dtype: torch.dtype, fill: Callable[[Tensor], float]
) -> Cached:
    """Returns hidden states mapped from a file, which is computed first where it is not whole.

    The file ends with the seconds that it cost, and a digest of its name, these, and its content:
    one that was cut short, or belongs to something else, is computed again. A lock lets two
    processes share one computation.

    Args:
        path: of the file.
        shape: of the hidden states.
        dtype: of the hidden states.
        fill: computes them, and returns the seconds that this took.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = math.prod(shape) * dtype.itemsize
    with FileLock(f"{path}.lock"):
        if path.is_file() and path.stat().st_size == size + END.size:
            with path.open("rb") as file:
                values = mapped(file, shape, dtype, mode="c")
                file.seek(size)
                seconds, digest = END.unpack(file.read())
                if digest == digest_of(path.name, seconds, values):
                    return Cached(values, seconds, is_reused=True)
        part = path.with_name(path.name + ".part")  # of an interrupted run, if there is one
        with naming(part), part.open("w+b") as file:
            values = mapped(file, shape, dtype)
            seconds = fill(values)
            file.seek(size)
            file.write(END.pack(seconds, digest_of(path.name, seconds, values)))
        del values  # Windows renames no file that is mapped
        part.replace(path)
        with path.open("rb") as file:
            return Cached(mapped(file, shape, dtype, mode="c"), seconds, is_reused=False)


def digest_of(name: str, seconds: float, values: Tensor) -> bytes:
    """Returns the SHA-256 of a name, of what hidden states cost, and of themselves."""
    digest = hashlib.sha256(f"{name} {seconds}".encode())
    digest.update(bytes_of(values))
    return digest.digest()


def bytes_of(values: Tensor) -> np.ndarray:
    """Returns the bytes of a tensor on the CPU, whatever its data type; NumPy has no bfloat16."""
    return values.contiguous().view(torch.uint8).numpy()


def nameless_values(shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Path]:
    """Returns room for hidden states in a file that goes when it is unmapped, and its folder.

    Raises:
        OSError: when no folder for temporary files has the room.
    """
    folder = temporary_folder()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return mapped(file, shape, dtype), folder
    except OSError as error:
        size = math.prod(shape) * dtype.itemsize / 2**20
        told = f"{error.strerror} for {size:,.0f} MiB of hidden states, {WAY_OUT}"
        raise OSError(error.errno, told, str(folder)) from error


def temporary_folder() -> Path:
    """Returns the system's folder for temporary files, or the one for large ones.

    Some systems hold the first in memory, which a file there would take instead of sparing it.

    Raises:
        OSError: when both lie in memory.
    """
    first = Path(tempfile.gettempdir())
    for folder in (first, LARGE_FILES):
        if os.access(folder, os.W_OK) and not lies_in_memory(folder):
            return folder
    raise OSError(f"{first} lies in memory, which hidden states would fill: {WAY_OUT}")


def lies_in_memory(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Says whether files of a folder take memory and no disk, as Linux's tmpfs has it.

    Source: the manual page proc_pid_mountinfo(5).
    """
    if not mounts.is_file():
        return False
    device = folder.stat().st_dev
    for line in mounts.read_text(errors="replace").splitlines():
        mount, _, file_system = line.partition(" - ")
        if mount.split()[2] == f"{os.major(device)}:{os.minor(device)}":
            return file_system.split()[0] in ("tmpfs", "ramfs")
    return False


def mapped(file: BinaryIO, shape: tuple[int, int], dtype: torch.dtype, mode: str = "r+") -> Tensor:
    """Returns a tensor over an open file, which first gets its room on the disk if written to.

    Raises:
        OSError: when the disk is full.
    """
    size = math.prod(shape) * dtype.itemsize
    if mode == "r+":
        take_room(file, size)
    numbers = np.memmap(file, np.uint8, mode, shape=(size,))
    return torch.from_numpy(numbers).view(dtype).view(shape)


def take_room(file: BinaryIO, size: int) -> None:
    """Gives an empty file its size and its room on the disk.

    A file can have the one without the other; the process would then die at a later write.

    Raises:
        OSError: when the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, CHUNK):  # macOS, Windows
        file.write(bytes(min(CHUNK, size - start)))
    file.flush()
