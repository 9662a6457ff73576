"""What a checkpoint's headers tell: which network it is, and whether it is a GPT-2 at all."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from experiments.checkpoints.config import assume_heads, check_sizes, count_heads, read_config
from experiments.checkpoints.files import checkpoint_files, config_file
from experiments.checkpoints.foreign import explain_adapter, explain_file
from experiments.checkpoints.names import ADAPTER, HEAD, MASK, book_shapes, hub_shapes, unwrapped

FLOATS = ("F32", "F16", "BF16", "F64")  # as what numbers may be stored; float32 comes out
SHARD = re.compile(r".*-\d{5}-of-\d{5}\.safetensors")


class Stored(NamedTuple):
    """Where a tensor is stored, and as what."""

    file: Path
    name: str  # there
    shape: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint by its headers."""

    files: list[Path]
    sizes: dict[str, int]  # by the names of `GPT2Config`, and the book's `qkv_bias`
    tensors: dict[str, Stored]  # by the hub's names, or the book's
    note: str  # what was assumed and left out, if anything

    @property
    def is_of_the_book(self) -> bool:
        """Says whether the tensors have the book's names, and linears are (out, in)."""
        return "tok_emb.weight" in self.tensors


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Returns what a checkpoint's headers and its `config.json` tell, after a check of it all.

    Raises:
        ValueError: when it is of another function than the book's GPT, or a tensor is missing,
            unknown, there twice, of another shape than the others imply, or of numbers that are no
            floating-point ones.
        OSError: when a file cannot be read.
    """
    path = Path(path)
    files = checkpoint_files(path)
    found = config_file(path)
    config = read_config(found) if found else {}
    tensors, left_out = read_headers(files)
    sizes = sizes_of(tensors, path)
    width = sizes["n_embd"]
    if found:
        check_sizes(config, sizes, found)
        sizes["n_head"] = count_heads(config, width, found)
    else:
        sizes["n_head"] = assume_heads(width, path)
    check_tensors(tensors, sizes, path)
    notes = [] if found else ["no config.json lies beside it, heads are assumed 64 wide"]
    notes += [f"left out: {', '.join(sorted(left_out))}"] if left_out else []
    return Checkpoint(files, sizes, tensors, "; ".join(notes))


def read_headers(files: list[Path]) -> tuple[dict[str, Stored], list[str]]:
    """Returns what is stored by its name in the network, and the names of heads, left out.

    Raises:
        ValueError: when a file is no safetensors file, a tensor an adapter's, or there twice.
    """
    tensors: dict[str, Stored] = {}
    left_out = []
    for full_name, stored in (pair for path in files for pair in read_header(path).items()):
        name = unwrapped(full_name)
        if ADAPTER.fullmatch(stored.name):
            raise explain_adapter(stored.file, stored.name)
        if HEAD.fullmatch(name):
            left_out.append(full_name)
        elif name in tensors:
            twice = f"{tensors[name].name} and {stored.name} are one tensor, there twice"
            raise ValueError(f"{stored.file}: {twice}")
        elif not MASK.fullmatch(name):
            tensors[name] = stored
    return tensors, left_out


def read_header(path: Path) -> dict[str, Stored]:
    """Returns what a `.safetensors` file holds, by its names and by the other names of the same.

    `safetensors.torch.save_model` stores a tensor with two names, such as that of the token
    embedding and the head, under one, and notes the other.
    """
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            headers = {
                name: Stored(path, name, tuple(found.get_shape()), found.get_dtype())
                for name, found in slices.items()
            }
            noted = (file.metadata() or {}).items()
            return {other: headers[name] for other, name in noted if name in headers} | headers
    except SafetensorError as error:
        raise explain_file(path, error) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def sizes_of(tensors: dict[str, Stored], path: Path) -> dict[str, Any]:
    """Returns the sizes that tensors have, by the names of `GPT2Config`, and `qkv_bias`.

    Raises:
        ValueError: when these are no GPT-2's tensors, or there is nothing of something.
    """
    names = ("tok_emb.weight", "pos_emb.weight", "trf_blocks.")
    if "tok_emb.weight" not in tensors:
        names = ("wte.weight", "wpe.weight", "h.")
    for name in names[:2]:
        if name not in tensors or len(tensors[name].shape) != 2:
            hint = "; it is one shard: name its folder" if SHARD.fullmatch(path.name) else ""
            raise ValueError(f"{path} is no GPT-2 checkpoint: no two-dimensional {name}{hint}")
    (vocab_size, n_embd), (n_positions, _) = (tensors[name].shape for name in names[:2])
    blocks = {name.split(".")[1] for name in tensors if name.startswith(names[2])}
    sizes = {
        "vocab_size": vocab_size,
        "n_positions": n_positions,
        "n_embd": n_embd,
        "n_layer": len(blocks),
    }
    for name, size in sizes.items():
        if size == 0:
            raise ValueError(f"{path} is no GPT-2 checkpoint: {name} is 0")
    has_no_bias = names[2] == "trf_blocks." and not any(
        re.fullmatch(r"trf_blocks\.\d+\.att\.W_(query|key|value)\.bias", name) for name in tensors
    )
    return sizes | {"qkv_bias": not has_no_bias}


def check_tensors(tensors: dict[str, Stored], sizes: dict[str, Any], path: Path) -> None:
    """Raises ValueError unless tensors are those that a network of these sizes has."""
    expected = (book_shapes if "tok_emb.weight" in tensors else hub_shapes)(sizes)
    for name in sorted(expected.keys() | tensors.keys()):
        shape = tensors[name].shape if name in tensors else "missing"
        if shape != expected.get(name):
            wanted = expected.get(name, "none of that name")
            raise ValueError(f"{path}: {name} is {shape}, expected {wanted}")
        if (kind := tensors[name].kind) not in FLOATS:
            raise ValueError(f"{path}: {name} holds {kind}, expected {', '.join(FLOATS)}")
