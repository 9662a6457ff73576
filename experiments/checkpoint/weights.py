"""The numbers of a GPT-2 checkpoint, in the book's layout.

settings, params = load_gpt2_checkpoint("model.safetensors")
load_weights_into_gpt(model, params)
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from experiments.checkpoint.header import read_checkpoint
from experiments.progress import progress

Read = Callable[[str], np.ndarray]


def load_gpt2_checkpoint(path: str | Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Returns a GPT-2 checkpoint's settings and its weights in the book's layout.

    The arrays are views of the mapped files: the system can take their memory back. (But for half
    precision, which is converted, and queries, keys and values of the book's names, which are put
    side by side.)

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
    with ExitStack() as stack:
        files = {
            file: stack.enter_context(safe_open(file, framework="pt")) for file in checkpoint.files
        }

        def read(name: str) -> np.ndarray:
            stored = checkpoint.tensors[name]
            tensor = files[stored.file].get_tensor(stored.name).float()
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{stored.file}: {stored.name} holds values that are not finite")
            bar.update()
            return tensor.numpy()

        params_of = book_params if checkpoint.is_of_the_book else hub_params
        what = f"Reading {Path(path).resolve().name}"
        with progress(what, len(checkpoint.tensors), "tensors") as bar:
            params = params_of(read, checkpoint.sizes)
    settings = {"n_vocab": "vocab_size", "n_ctx": "n_positions"}
    names = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")
    return {name: checkpoint.sizes[settings.get(name, name)] for name in names}, params


def hub_params(read: Read, sizes: dict[str, Any]) -> dict[str, Any]:
    """Returns the book's arrays from tensors of the hub's names."""

    def layer(name: str, weight: str = "w") -> dict[str, np.ndarray]:
        return {weight: read(f"{name}.weight"), "b": read(f"{name}.bias")}

    params = {"wte": read("wte.weight"), "wpe": read("wpe.weight"), **layer("ln_f", "g")}
    params["blocks"] = [
        {
            "ln_1": layer(f"h.{i}.ln_1", "g"),
            "attn": {name: layer(f"h.{i}.attn.{name}") for name in ("c_attn", "c_proj")},
            "ln_2": layer(f"h.{i}.ln_2", "g"),
            "mlp": {name: layer(f"h.{i}.mlp.{name}") for name in ("c_fc", "c_proj")},
        }
        for i in range(sizes["n_layer"])
    ]
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

    params = {"wte": read("tok_emb.weight"), "wpe": read("pos_emb.weight"), **norm("final_norm")}
    params["blocks"] = [
        {
            "ln_1": norm(f"{block}.norm1"),
            "attn": {
                "c_attn": query_key_value(f"{block}.att"),
                "c_proj": linear(f"{block}.att.out_proj"),
            },
            "ln_2": norm(f"{block}.norm2"),
            "mlp": {
                "c_fc": linear(f"{block}.ff.layers.0"),
                "c_proj": linear(f"{block}.ff.layers.2"),
            },
        }
        for block in (f"trf_blocks.{i}" for i in range(sizes["n_layer"]))
    ]
    return params
