"""The numbers of a GPT-2 checkpoint, in the book's layout.

settings, params = load_gpt2_checkpoint("model.safetensors")
load_weights_into_gpt(model, params)
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from experiments.checkpoints.header import read_checkpoint
from experiments.system.progress import progress

Read = Callable[[str], np.ndarray]


class Blocks(Sequence):
    """The arrays of each block, made when they are asked for, so that no others are held.

    Args:
        make: the arrays of a block of that number.
        count: how many blocks there are.
    """

    def __init__(self, make: Callable[[int], dict[str, Any]], count: int) -> None:
        self.make = lru_cache(maxsize=1)(make)  # who fills one array at a time asks again
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns the arrays of one block.

        Raises:
            IndexError: when there is none of that number.
        """
        return self.make(range(self.count)[index])


def load_gpt2_checkpoint(path: str | Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Returns a GPT-2 checkpoint's settings and its weights in the book's layout.

    The arrays are views of the mapped files: the system can take their memory back. Half precision,
    which is converted, and queries, keys and values of the book's names, which are put side by
    side, take memory for one block at a time.

    Args:
        path: a `.safetensors` file, a folder, or the index of a sharded checkpoint. The tensors
            have the names of the hub or of the book, with or without those of wrappers. Heads and
            causal masks are left out: the head of the vocabulary is the token embedding's.

    Returns:
        The settings `n_vocab`, `n_ctx`, `n_embd`, `n_head` and `n_layer`, and the weights, such
        as `params["blocks"][0]["attn"]["c_attn"]["w"]` of shape (C, 3C), in float32. Without a
        bias of queries, keys and values, its "b" is left out.

    Raises:
        ValueError: when it is no such checkpoint; the setting or tensor at fault is named.
        OSError: when it cannot be read.
    """
    checkpoint = read_checkpoint(path)
    files = {file: safe_open(file, framework="pt") for file in checkpoint.files}

    def stored(name: str) -> Tensor:
        found = checkpoint.tensors[name]
        return files[found.file].get_tensor(found.name)

    with progress(
        f"Reading {Path(path).resolve().name}", len(checkpoint.tensors), "tensors"
    ) as bar:
        for name, found in checkpoint.tensors.items():
            if not torch.isfinite(stored(name)).all():
                raise ValueError(f"{found.file}: {found.name} holds values that are not finite")
            bar.update()
    params_of = book_params if checkpoint.is_of_the_book else hub_params
    params = params_of(lambda name: stored(name).float().numpy(), checkpoint.sizes)
    is_float32 = all(found.kind == "F32" for found in checkpoint.tensors.values())
    if is_float32 and not checkpoint.is_of_the_book:  # views, which take no memory
        params["blocks"] = list(params["blocks"])
    settings = {"n_vocab": "vocab_size", "n_ctx": "n_positions"}
    names = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")
    return {name: checkpoint.sizes[settings.get(name, name)] for name in names}, params


def hub_params(read: Read, sizes: dict[str, Any]) -> dict[str, Any]:
    """Returns the book's arrays from tensors of the hub's names."""

    def layer(name: str, weight: str = "w") -> dict[str, np.ndarray]:
        return {weight: read(f"{name}.weight"), "b": read(f"{name}.bias")}

    def block(i: int) -> dict[str, Any]:
        return {
            "ln_1": layer(f"h.{i}.ln_1", "g"),
            "attn": {name: layer(f"h.{i}.attn.{name}") for name in ("c_attn", "c_proj")},
            "ln_2": layer(f"h.{i}.ln_2", "g"),
            "mlp": {name: layer(f"h.{i}.mlp.{name}") for name in ("c_fc", "c_proj")},
        }

    params = {"wte": read("wte.weight"), "wpe": read("wpe.weight"), **layer("ln_f", "g")}
    params["blocks"] = Blocks(block, sizes["n_layer"])
    return params


def book_params(read: Read, sizes: dict[str, Any]) -> dict[str, Any]:
    """Returns the book's arrays from a state_dict of the book's GPT."""

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"g": read(f"{name}.scale"), "b": read(f"{name}.shift")}

    def linear(name: str) -> dict[str, np.ndarray]:
        return {"w": read(f"{name}.weight").T, "b": read(f"{name}.bias")}

    def query_key_value(name: str) -> dict[str, np.ndarray]:
        names = [f"{name}.W_{part}" for part in ("query", "key", "value")]
        arrays = {"w": np.concatenate([read(f"{n}.weight") for n in names]).T}
        if sizes["qkv_bias"]:
            arrays["b"] = np.concatenate([read(f"{n}.bias") for n in names])
        return arrays

    def block(i: int) -> dict[str, Any]:
        name = f"trf_blocks.{i}"
        return {
            "ln_1": norm(f"{name}.norm1"),
            "attn": {
                "c_attn": query_key_value(f"{name}.att"),
                "c_proj": linear(f"{name}.att.out_proj"),
            },
            "ln_2": norm(f"{name}.norm2"),
            "mlp": {
                "c_fc": linear(f"{name}.ff.layers.0"),
                "c_proj": linear(f"{name}.ff.layers.2"),
            },
        }

    params = {"wte": read("tok_emb.weight"), "wpe": read("pos_emb.weight"), **norm("final_norm")}
    params["blocks"] = Blocks(block, sizes["n_layer"])
    return params
