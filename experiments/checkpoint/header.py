"""What a checkpoint's header tells: which network it is, and whether it is a GPT-2 at all."""

import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

HEAD_WIDTH = 64  # in every GPT-2
FLOATS = ("F32", "F16", "BF16", "F64")  # as what numbers may be stored; float32 comes out
HEAD = "lm_head.weight"
DROPPED = re.compile(rf"(transformer\.)?h\.\d+\.attn\.(masked_)?bias|{re.escape(HEAD)}")


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
        with safe_open(path, framework="np") as file:
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
