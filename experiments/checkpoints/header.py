"""Headers of a checkpoint: which network it is, without its weights.

    read_checkpoint("model.safetensors").sizes["n_layer"]

Tensors have the names of the hub or of the book, with or without prefixes that wrappers add.
Source: the layout of safetensors (github.com/huggingface/safetensors).
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from experiments.checkpoints.files import (
    adapter_error,
    check_tokenizer,
    checkpoint_files,
    count_heads,
    format_error,
    read_config,
)
from experiments.system.files import sha256_of

LINEAR = ".c_"  # in names of the hub: weights are (in, out), those of the book (out, in)
_HEAD_WIDTH = 64  # in every GPT-2
_FLOATS = ("F32", "F16", "BF16", "F64")  # data types in files; all are loaded as float32
_WRAPPER = re.compile(  # torch.compile, DDP, FSDP, activation checkpointing, PEFT around a layer
    r"(?<![^.])(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|base_layer)\."
)
_MODEL = re.compile(r"((base_model\.)?model\.|transformer\.)*")  # PEFT, and the hub's own
_MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias|trf_blocks\.\d+\.att\.mask")  # causal, a buffer
_HEAD = re.compile(r"((lm|v|out|multiple_choice)_head|score|classifier|qa_outputs)\..+")
_ADAPTER = re.compile(r"(.*[._])?(lora|ia3|prompt_embeddings|prompt_encoder)([._].*)?")
_BLOCK = re.compile(r"(?:h|trf_blocks)\.(\d+)\.")
_BOOK_LAYERS = {  # the hub's name of a layer, and the book's
    "wte": "tok_emb", "wpe": "pos_emb", "ln_f": "final_norm", "ln_1": "norm1", "ln_2": "norm2",
    "attn.c_attn": "att.W_query att.W_key att.W_value", "attn.c_proj": "att.out_proj",
    "mlp.c_fc": "ff.layers.0", "mlp.c_proj": "ff.layers.2",
}  # fmt: skip


class Stored(NamedTuple):
    """A tensor in a file."""

    file: Path
    name: str  # in the file
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Checkpoint:
    """What the headers of a checkpoint say."""

    files: list[Path]
    sizes: dict[str, Any]  # by the names of `GPT2Config`, and the book's `qkv_bias`
    tensors: dict[str, Stored]  # by the names of the hub or of the book, without prefixes
    has_book_names: bool
    note: str  # what was assumed or left out; empty if nothing


def checkpoint_sha256(path: str | Path, verify: bool = False) -> str:
    """Return one SHA-256 of a checkpoint's files and its number of heads.

    For one file with heads as wide as GPT-2's it is the file's own, so that a copy of a published
    checkpoint is recognised. `verify` reads files even if they are unchanged.
    """
    checkpoint = read_checkpoint(path)
    digests = [sha256_of(file, verify) for file in checkpoint.files]
    heads = checkpoint.sizes["n_head"]
    if len(digests) == 1 and heads * _HEAD_WIDTH == checkpoint.sizes["n_embd"]:
        return digests[0]
    return hashlib.sha256(f"{heads} heads {' '.join(digests)}".encode()).hexdigest()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return what the headers and `config.json` say, after checking all of it.

    Raises:
        ValueError: when the function is not that of the book's GPT, or a tensor is missing,
            unknown, duplicated, not of floating point, or of a shape that contradicts others.
        OSError: when a file cannot be read.
    """
    path = Path(path)
    files = checkpoint_files(path)
    folder = path if path.is_dir() else path.parent
    config_path = folder / "config.json"
    check_tokenizer(folder)
    config = read_config(config_path) if config_path.exists() else None
    tensors, left_out = _read_headers(files)
    is_book = "tok_emb.weight" in tensors
    sizes = _sizes_of(tensors, is_book, path)
    width, notes = sizes["n_embd"], []
    if config is not None:
        sizes["n_head"] = count_heads(config, sizes, config_path)
    elif width % _HEAD_WIDTH:
        raise ValueError(
            f"{path}: the width {width} is not a multiple of {_HEAD_WIDTH}, the width of GPT-2's "
            "heads: add a config.json with n_head to its folder"
        )
    else:
        sizes["n_head"] = width // _HEAD_WIDTH
        notes.append(f"no config.json in its folder, heads are assumed {_HEAD_WIDTH} wide")
    _check_tensors(tensors, _shapes_of(sizes, is_book), path)
    if left_out:
        notes.append(f"left out: {', '.join(sorted(left_out))}")
    return Checkpoint(files, sizes, tensors, is_book, "; ".join(notes))


def _read_headers(files: list[Path]) -> tuple[dict[str, Stored], list[str]]:
    """Return the tensors by their names in the network, and the names of heads."""
    tensors, heads = {}, []
    for full_name, stored in (pair for file in files for pair in _read_header(file).items()):
        name = _MODEL.sub("", _WRAPPER.sub("", full_name), count=1)
        if _ADAPTER.fullmatch(stored.name):
            raise adapter_error(stored.file, stored.name)
        if _HEAD.fullmatch(name):
            heads.append(full_name)
        elif name in tensors:
            names = f"{tensors[name].name} and {stored.name}"
            raise ValueError(f"{stored.file}: {names} are the same tensor, expected it once")
        elif not _MASK.fullmatch(name):
            tensors[name] = stored
    return tensors, heads


def _read_header(path: Path) -> dict[str, Stored]:
    try:
        with safe_open(path, framework="np") as file:
            stored = {}
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                stored[name] = Stored(path, name, tuple(part.get_shape()), part.get_dtype())
            # `safetensors.torch.save_model` notes here the second name of a tensor that has two.
            metadata = (file.metadata() or {}).items()
            return {other: stored[name] for other, name in metadata if name in stored} | stored
    except SafetensorError as error:
        raise format_error(path, error) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _sizes_of(tensors: dict[str, Stored], is_book: bool, path: Path) -> dict[str, Any]:
    wte, wpe = ("tok_emb.weight", "pos_emb.weight") if is_book else ("wte.weight", "wpe.weight")
    for name in (wte, wpe):
        if name not in tensors or len(tensors[name].shape) != 2:
            is_shard = re.fullmatch(r".+-\d{5}-of-\d{5}\.safetensors", path.name)
            hint = "; this is one shard: give the path of its folder" if is_shard else ""
            raise ValueError(f"{path} is not a GPT-2 checkpoint: no two-dimensional {name}{hint}")
    (vocab_size, n_embd), (n_positions, _) = tensors[wte].shape, tensors[wpe].shape
    n_layer = len({found[1] for found in map(_BLOCK.match, tensors) if found})
    if 0 in (vocab_size, n_embd, n_positions, n_layer):
        raise ValueError(f"{path} is not a GPT-2 checkpoint: it has no blocks or an empty tensor")
    qkv_bias = not is_book or any("att.W_" in n and n.endswith("bias") for n in tensors)
    sizes = {"vocab_size": vocab_size, "n_positions": n_positions, "n_embd": n_embd}
    return sizes | {"n_layer": n_layer, "qkv_bias": qkv_bias}


def _check_tensors(tensors: dict[str, Stored], expected: dict[str, Any], path: Path) -> None:
    for name in sorted(expected.keys() | tensors.keys()):
        shape = tensors[name].shape if name in tensors else "missing"
        if shape != (wanted := expected.get(name, "no tensor of that name")):
            raise ValueError(f"{path}: {name} is {shape}, expected {wanted}")
        if (dtype := tensors[name].dtype) not in _FLOATS:
            raise ValueError(f"{path}: {name} is {dtype}, expected {', '.join(_FLOATS)}")


def _shapes_of(sizes: dict[str, Any], is_book: bool) -> dict[str, tuple[int, ...]]:
    C = sizes["n_embd"]
    block = {
        "ln_1": (C,), "attn.c_attn": (C, 3 * C), "attn.c_proj": (C, C),
        "ln_2": (C,), "mlp.c_fc": (C, 4 * C), "mlp.c_proj": (4 * C, C),
    }  # fmt: skip
    layers = {f"h.{i}.{name}": s for i in range(sizes["n_layer"]) for name, s in block.items()}
    layers["ln_f"] = (C,)
    shapes = {f"{name}.bias": shape[-1:] for name, shape in layers.items()}
    layers |= {"wte": (sizes["vocab_size"], C), "wpe": (sizes["n_positions"], C)}
    shapes |= {f"{name}.weight": shape for name, shape in layers.items()}
    if not is_book:
        return shapes
    book_shapes = {}
    for name, (*rest, width) in shapes.items():
        if sizes["qkv_bias"] or not name.endswith("c_attn.bias"):
            names = book_names(name)
            shape = (*rest, width // len(names))
            book_shapes |= dict.fromkeys(names, shape[::-1] if LINEAR in name else shape)
    return book_shapes


def book_names(name: str) -> list[str]:
    """Return the book's names of a hub tensor, in the order of its columns."""
    block, layer, kind = re.fullmatch(r"(?:h\.(\d+)\.)?(.+)\.(weight|bias)", name).groups()
    if layer.startswith("ln"):
        kind = {"weight": "scale", "bias": "shift"}[kind]
    prefix = f"trf_blocks.{block}." if block else ""
    return [f"{prefix}{book_layer}.{kind}" for book_layer in _BOOK_LAYERS[layer].split()]
