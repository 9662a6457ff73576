"""The weights of a GPT-2 checkpoint, in the book's layout.

load_weights_into_gpt(model, load_gpt2_checkpoint("model.safetensors")[1])
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from experiments.checkpoints.header import LINEAR, Stored, book_names, read_checkpoint
from experiments.system.terminal import progress


def load_gpt2_checkpoint(path: str | Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Return a GPT-2 checkpoint's settings and its weights in the book's layout.

    The arrays are views of memory-mapped files, or computed (from half precision, or separate
    queries, keys and values), which takes memory for one block at a time. Heads and causal masks
    are left out: the vocabulary's head has the token embedding's weights.

    Returns:
        The settings `n_vocab`, `n_ctx`, `n_embd`, `n_head` and `n_layer`, and the weights, such
        as `params["blocks"][0]["attn"]["c_attn"]["w"]` of shape (C, 3C), in float32. `c_attn` has
        no "b" if queries, keys and values have no bias.

    Raises:
        ValueError: when it is not a GPT-2 checkpoint, or a value is not finite.
        OSError: when it cannot be read.
    """
    checkpoint = read_checkpoint(path)
    files = {file: safe_open(file, framework="pt") for file in checkpoint.files}

    def tensor_of(stored: Stored) -> torch.Tensor:
        return files[stored.file].get_tensor(stored.name)

    def read(name: str) -> np.ndarray:
        names = book_names(name) if checkpoint.has_book_names else [name]
        arrays = [tensor_of(checkpoint.tensors[n]).float().numpy() for n in names]
        joined = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
        return joined.T if checkpoint.has_book_names and LINEAR in name else joined

    label = f"Reading {Path(path).resolve().name}"
    with progress(label, len(checkpoint.tensors), "tensors") as bar:
        for stored in checkpoint.tensors.values():
            if not torch.isfinite(tensor_of(stored)).all():
                raise ValueError(f"{stored.file}: {stored.name} has values that are not finite")
            bar.update()
    sizes = checkpoint.sizes
    blocks = _Blocks(lambda i: _block(read, i, sizes["qkv_bias"]), sizes["n_layer"])
    params = {"wte": read("wte.weight"), "wpe": read("wpe.weight"), "blocks": blocks}
    params |= {"g": read("ln_f.weight"), "b": read("ln_f.bias")}
    settings = {name: sizes[name] for name in ("n_embd", "n_head", "n_layer")}
    return {"n_vocab": sizes["vocab_size"], "n_ctx": sizes["n_positions"]} | settings, params


class _Blocks(Sequence):
    """The arrays of each block, computed when read, one block at a time."""

    def __init__(self, compute: Callable[[int], dict[str, Any]], count: int) -> None:
        self._compute = lru_cache(maxsize=1)(compute)  # one block's arrays are read one by one
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._compute(range(self._count)[index])


def _block(read: Callable[[str], np.ndarray], i: int, qkv_bias: bool) -> dict[str, Any]:
    def layer(name: str, weight: str = "w") -> dict[str, np.ndarray]:
        kinds = {weight: "weight", "b": "bias"}
        if name == "attn.c_attn" and not qkv_bias:
            del kinds["b"]
        return {kind: read(f"h.{i}.{name}.{stored}") for kind, stored in kinds.items()}

    return {
        "ln_1": layer("ln_1", "g"),
        "attn": {"c_attn": layer("attn.c_attn"), "c_proj": layer("attn.c_proj")},
        "ln_2": layer("ln_2", "g"),
        "mlp": {"c_fc": layer("mlp.c_fc"), "c_proj": layer("mlp.c_proj")},
    }
