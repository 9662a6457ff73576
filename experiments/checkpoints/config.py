"""`config.json` beside a checkpoint: its heads, and whether the book's GPT is that function.

Shapes do not tell how many heads share the width, nor which function is computed. What changes
nothing at inference is ignored: dropout, caches, data types, token ids, the heads of tasks, and
`reorder_and_upcast_attn`, which is about rounding. So is what transformers' GPT-2 does not know,
since it computes the same with and without it.

Source: `GPT2Config` of huggingface.co/docs/transformers/model_doc/gpt2, whose defaults hold for
what a file leaves out.
"""

import json
from pathlib import Path
from typing import Any

HEAD_WIDTH = 64  # in every GPT-2
DEFAULT_HEADS = 12
COMPUTED = {  # what the book's GPT computes; another value of these is another function
    "model_type": ("gpt2",),
    "activation_function": (  # five names of GELU's tanh approximation
        "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh",
    ),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "per_layer_config": (None, {}),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "auto_map": (None, {}),  # code of the checkpoint's own, which is not run
}  # fmt: skip
OTHER_NAMES = {  # of transformers, and of the book's dictionary
    "num_attention_heads": "n_head",
    "n_heads": "n_head",
    "hidden_size": "n_embd",
    "emb_dim": "n_embd",
    "num_hidden_layers": "n_layer",
    "n_layers": "n_layer",
    "max_position_embeddings": "n_positions",
    "context_length": "n_positions",
}


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Raises:
        ValueError: when it holds something else.
        OSError: when it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested without end
        raise ValueError(f"{path} is no JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {shown(content)}, expected an object of settings")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """Returns the settings by the names of `GPT2Config`, after a check of the function.

    Raises:
        ValueError: when a setting is told in two ways, or means what the book's GPT does not
            compute; it is named with its value.
        OSError: when the file cannot be read.
    """
    config: dict[str, Any] = {}
    for given, value in read_object(path).items():
        name = OTHER_NAMES.get(given, given)
        if name in config and config[name] != value:
            raise ValueError(f"{path}: {name} is {shown(config[name])} and {shown(value)}")
        config[name] = value
    for name, computed in COMPUTED.items():
        if name in config and config[name] not in computed:
            raise ValueError(
                f"{path}: {name} is {shown(config[name])}, which the book's GPT cannot express, "
                f"expected {' or '.join(map(shown, computed))}"
            )
    return config


def check_sizes(config: dict[str, Any], sizes: dict[str, int], path: Path) -> None:
    """Raises ValueError where the settings contradict what the tensors have.

    Args:
        config: as `read_config` returns it.
        sizes: by the names of `GPT2Config`, from the tensors.
        path: of the file, for the message.
    """
    inner = 4 * sizes["n_embd"]
    if config.get("n_inner") not in (None, inner):
        raise ValueError(
            f"{path}: n_inner is {shown(config['n_inner'])}, which the book's GPT cannot express, "
            f"expected null or 4 * n_embd, {inner}"
        )
    for name, size in sizes.items():
        if name in config and config[name] != size:
            told = shown(config[name])
            raise ValueError(f"{path}: {name} is {told}, but the tensors have {shown(size)}")


def count_heads(config: dict[str, Any], width: int, path: Path) -> int:
    """Returns how many heads share the width.

    Raises:
        ValueError: when that many cannot.
    """
    heads = config.get("n_head", DEFAULT_HEADS)
    if type(heads) is not int or heads < 1 or width % heads:
        told = "" if "n_head" in config else ", transformers' default"
        raise ValueError(
            f"{path}: n_head is {shown(heads)}{told}, expected a divisor of the width {width}"
        )
    return heads


def assume_heads(width: int, path: Path) -> int:
    """Returns how many heads of GPT-2's width there are, for want of a `config.json`.

    Raises:
        ValueError: when the width is no multiple of it.
    """
    if width % HEAD_WIDTH:
        raise ValueError(
            f"{path}: width {width} is no multiple of a head's {HEAD_WIDTH}: put a config.json "
            "with n_head beside it"
        )
    return width // HEAD_WIDTH


def shown(value: Any) -> str:
    """Returns a value as JSON has it, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
