"""The numbers of a GPT-2 checkpoint, in the book's layout.

settings, params = load_gpt2_checkpoint("model.safetensors")
load_weights_into_gpt(model, params)
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from experiments.checkpoint.header import HEAD, read_gpt2_settings, stored_names


def load_gpt2_checkpoint(path: str | Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Returns a GPT-2 checkpoint's settings and its weights in the book's layout.

    The arrays are views of the mapped file: the system can take their memory back.

    Args:
        path: a `.safetensors` file with the tensor names of the hub, with or without the prefix
            `transformer.`. Causal masks in it are dropped, and so is a head of the vocabulary,
            which GPT-2 shares with its token embedding.

    Returns:
        The settings `n_vocab`, `n_ctx`, `n_embd`, `n_head` and `n_layer`, and the weights, such
        as `params["blocks"][0]["attn"]["c_attn"]["w"]` of shape (C, 3C), in float32.

    Raises:
        ValueError: when the file is no such checkpoint; the tensor at fault is named.
        OSError: when it cannot be read.
    """
    settings = read_gpt2_settings(path)
    with safe_open(path, framework="pt") as file:
        stored = stored_names(file)

        def read(name: str) -> np.ndarray:
            tensor = file.get_tensor(stored[name]).float()
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{path}: {stored[name]} holds values that are not finite")
            return tensor.numpy()

        def layer(name: str, weight: str = "w") -> dict[str, np.ndarray]:
            return {weight: read(f"{name}.weight"), "b": read(f"{name}.bias")}

        params = {"wte": read("wte.weight"), "wpe": read("wpe.weight"), **layer("ln_f", "g")}
        heads = [file.get_tensor(name).float() for name in set(file.keys()) & {HEAD}]
        if heads and not np.array_equal(heads[0], params["wte"]):
            raise ValueError(f"{path}: {HEAD} differs from wte.weight; in a GPT-2 they are one")
        params["blocks"] = [
            {
                "ln_1": layer(f"h.{i}.ln_1", "g"),
                "attn": {name: layer(f"h.{i}.attn.{name}") for name in ("c_attn", "c_proj")},
                "ln_2": layer(f"h.{i}.ln_2", "g"),
                "mlp": {name: layer(f"h.{i}.mlp.{name}") for name in ("c_fc", "c_proj")},
            }
            for i in range(settings["n_layer"])
        ]
    return settings, params
