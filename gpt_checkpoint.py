"""GPT-2 checkpoints: from a `.safetensors` file of the hub's tensor names to the book's arrays.

    settings, params = load_gpt2_checkpoint("model.safetensors")
    load_weights_into_gpt(model, params)

A file is taken for what its header says once names, shapes and types are those of a GPT-2. Nothing
in it is ever executed: the format holds numbers only, and no other format is read.

Sources: the checkpoints of huggingface.co/openai-community (GPT-2, Radford et al. 2019) and the
layout of safetensors (github.com/huggingface/safetensors).
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

HEAD_WIDTH = 64  # in every GPT-2
FLOATS = ("F32", "F16", "BF16", "F64")  # as what numbers may be stored; float32 comes out
HEAD = "lm_head.weight"
DROPPED = re.compile(rf"(transformer\.)?h\.\d+\.attn\.(masked_)?bias|{re.escape(HEAD)}")


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


def read_gpt2_settings(path: str | Path) -> dict[str, int]:
    """Returns a checkpoint's settings, from its header alone, after a check of all that it tells.

    Raises:
        ValueError: when a tensor is missing, unknown, there twice, of another shape than the
            others imply, or of numbers that are no floating-point ones.
        OSError: when the file cannot be read.
    """
    shapes, kinds = read_header(path)
    for name in ("wte.weight", "wpe.weight"):
        if len(shapes.get(name, ())) != 2:
            raise ValueError(f"{path} is no GPT-2 checkpoint: no two-dimensional {name}")
    (n_vocab, n_embd), (n_ctx, _) = shapes["wte.weight"], shapes["wpe.weight"]
    settings = {
        "n_vocab": n_vocab,
        "n_ctx": n_ctx,
        "n_embd": n_embd,
        "n_head": n_embd // HEAD_WIDTH,
        "n_layer": len({name.split(".")[1] for name in shapes if name.startswith("h.")}),
    }
    if n_embd % HEAD_WIDTH:
        raise ValueError(f"{path}: width {n_embd} is no multiple of a head's {HEAD_WIDTH}")
    for name, number in settings.items():
        if number == 0:
            raise ValueError(f"{path} is no GPT-2 checkpoint: {name} is 0")
    expected = gpt2_shapes(settings)
    for name in sorted(expected.keys() | shapes.keys()):
        if shapes.get(name) != expected.get(name):
            found, wanted = shapes.get(name, "missing"), expected.get(name, "none of that name")
            raise ValueError(f"{path}: {name} is {found}, expected {wanted}")
        if kinds[name] not in FLOATS:
            raise ValueError(f"{path}: {name} holds {kinds[name]}, expected {', '.join(FLOATS)}")
    return settings


def read_header(path: str | Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Returns the shape of each tensor by its name on the hub, and its type as the file has it."""
    try:
        with safe_open(path, framework="pt") as file:
            headers = {ours: file.get_slice(name) for ours, name in stored_names(file).items()}
            shapes = {name: tuple(header.get_shape()) for name, header in headers.items()}
            kinds = {name: header.get_dtype() for name, header in headers.items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return shapes, kinds


def stored_names(file: Any) -> dict[str, str]:
    """Returns the name in the file for each tensor name of the hub, but for what is dropped.

    Raises:
        ValueError: when a tensor is there with and without the prefix `transformer.`.
    """
    names: dict[str, str] = {}
    for stored in list(file.keys()):
        name = stored.removeprefix("transformer.")
        if DROPPED.fullmatch(stored):
            continue
        if name in names:
            raise ValueError(f"{names[name]} and {stored} are one tensor, there twice")
        names[name] = stored
    return names


def gpt2_shapes(settings: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each tensor of a GPT-2 checkpoint; weights of linears are (in, out)."""
    C = settings["n_embd"]
    weights = {"wte": (settings["n_vocab"], C), "wpe": (settings["n_ctx"], C), "ln_f": (C,)}
    for i in range(settings["n_layer"]):
        weights |= {
            f"h.{i}.ln_1": (C,),
            f"h.{i}.attn.c_attn": (C, 3 * C),
            f"h.{i}.attn.c_proj": (C, C),
            f"h.{i}.ln_2": (C,),
            f"h.{i}.mlp.c_fc": (C, 4 * C),
            f"h.{i}.mlp.c_proj": (4 * C, C),
        }
    biases = {f"{name}.bias": shape[-1:] for name, shape in weights.items() if name[0] != "w"}
    return {f"{name}.weight": shape for name, shape in weights.items()} | biases
