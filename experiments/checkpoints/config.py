"""`config.json` of a checkpoint: its heads, and whether the book's GPT fits.

Settings that change nothing at inference, such as dropout, and those not of GPT-2 are ignored.
Source: `GPT2Config` of huggingface.co/docs/transformers/model_doc/gpt2, whose defaults apply to
missing settings.
"""

import json
from pathlib import Path
from typing import Any

_DEFAULT_HEADS = 12  # of transformers
_SUPPORTED = {  # values with which GPT-2 is the function of the book's GPT
    "model_type": ("gpt2",),
    "activation_function": (  # five names of GELU's tanh approximation
        "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh",
    ),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "per_layer_config": (None, {}), "pruned_heads": (None, {}), "quantization_config": (None,),
    "auto_map": (None, {}),  # code that comes with the checkpoint, which is never run
}  # fmt: skip
_OTHER_NAMES = {  # of transformers, and of the book's dictionary
    "num_attention_heads": "n_head", "hidden_size": "n_embd", "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions", "context_length": "n_positions",
    "n_heads": "n_head", "emb_dim": "n_embd", "n_layers": "n_layer",
}  # fmt: skip


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; ValueError if it contains something else."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} contains {as_json(content)}, expected a JSON object")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings by the names of `GPT2Config`.

    Raises:
        ValueError: when a setting has two values, or one that the book's GPT does not support.
    """
    config: dict[str, Any] = {}
    for given, value in read_json_object(path).items():
        name = _OTHER_NAMES.get(given, given)
        if name in config and config[name] != value:
            values = f"{as_json(config[name])} and {as_json(value)}"
            raise ValueError(f"{path}: {name} has two values, {values}")
        config[name] = value
    for name, supported in _SUPPORTED.items():
        if name in config and config[name] not in supported:
            raise ValueError(
                f"{path}: {name} is {as_json(config[name])}, which the book's GPT does not "
                f"support, expected {' or '.join(map(as_json, supported))}"
            )
    return config


def count_heads(config: dict[str, Any], sizes: dict[str, Any], path: Path) -> int:
    """Return the number of heads; compare all settings with the tensors.

    Raises:
        ValueError: when the settings contradict the tensors, or the heads do not divide the width.
    """
    width = sizes["n_embd"]
    if config.get("n_inner") is not None:
        sizes = sizes | {"n_inner": 4 * width}
    for name, size in sizes.items():
        if name in config and config[name] != size:
            values = f"{as_json(config[name])}, but {as_json(size)} follows from the tensors"
            raise ValueError(f"{path}: {name} is {values}")
    heads = config.get("n_head", _DEFAULT_HEADS)
    if type(heads) is not int or heads < 1 or width % heads:
        origin = "" if "n_head" in config else ", the default of transformers"
        raise ValueError(
            f"{path}: n_head is {as_json(heads)}{origin}, expected a divisor of the width {width}"
        )
    return heads


def as_json(value: Any) -> str:
    """Return a value as JSON for an error, cut after 60 characters."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
