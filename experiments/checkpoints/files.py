"""GPT-2 checkpoints as files: the published ones, and what a local folder contains.

Settings in `config.json` that change nothing at inference, such as dropout, and those not of GPT-2
are ignored. Of formats other than safetensors only the first bytes are read.

Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; `GPT2Config` of
huggingface.co/docs/transformers/model_doc/gpt2, whose defaults apply to missing settings.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple


class Published(NamedTuple):
    """The `model.safetensors` of one GPT-2 on the hub."""

    repository: str
    revision: str  # Git commit
    sha256: str
    size: int | None  # bytes


GPT2 = {  # by model size
    "124M": Published(
        "openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707", 548_105_171,
    ),
    "355M": Published(
        "openai-community/gpt2-medium", "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd", 1_519_984_962,
    ),
    "774M": Published(
        "openai-community/gpt2-large", "32b71b12589c2f8d625668d2335a01cac3249519",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce", None,
    ),
    "1558M": Published(
        "openai-community/gpt2-xl", "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a", None,
    ),
}  # fmt: skip
CHECKPOINT_SHA256 = {size: published.sha256 for size, published in GPT2.items()}

# -------------------------------------------------------------------------------------- local files

INDEX = ".index.json"  # end of the name of a sharded checkpoint's index
_PREFERRED = (  # in a folder
    r"model\.safetensors", r"model\.safetensors\.index\.json", r".+\.safetensors\.index\.json",
    r".+\.safetensors", r".+\.bin\.index\.json",
)  # fmt: skip
_ADAPTER_FILE = re.compile(r"adapter_(model\..+|config\.json)")
_GPT2_TOKENS = {"!": 0, "Ġthe": 262, "Ġto": 284, "Hello": 15496}  # some of its vocabulary
_HINT = "use the model.safetensors of the same model"
_ZIP = b"PK\3\4"
_FIRST_BYTES = {  # of a file, and what the file is
    b"version https://git-lfs": "a Git LFS pointer: run `git lfs pull` in its folder",
    b"GGUF": f"a GGUF file, with rounded and renamed weights: {_HINT}",
    b"\x89HDF": f"an HDF5 file of TensorFlow: {_HINT}",
    _ZIP: "a zip file: unpack it",
    b"{": "a JSON file: give the path of its folder",
    b"<": "a web page: download the file itself",
}
_SUFFIXES = {".gguf": "GGUF", ".h5": "TensorFlow", ".ckpt": "TensorFlow", ".msgpack": "Flax"}
_PICKLE = re.compile(r".+\.(bin|pth|pt|ckpt)")
_NO_MODEL = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state)\..+")


def checkpoint_files(path: Path) -> list[Path]:
    """Return the files with a checkpoint's tensors, several if it is sharded.

    The path is a `.safetensors` file, a folder as `save_pretrained` writes it, or an index.

    Raises:
        ValueError: when the path contains no checkpoint of this format, or a shard is missing.
        OSError: when it cannot be read.
    """
    if path.is_dir():
        return _files_of_folder(path)
    if _ADAPTER_FILE.fullmatch(path.name):
        raise adapter_error(path, path.name)
    return _files_of_index(path) if path.name.endswith(INDEX) else [path]


def _files_of_folder(folder: Path) -> list[Path]:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in filter(_ADAPTER_FILE.fullmatch, names):
        raise adapter_error(folder, name)
    for pattern in _PREFERRED:
        found = [name for name in names if re.fullmatch(pattern, name)]
        if len(found) == 1:
            return checkpoint_files(folder / found[0])
        if found:
            raise ValueError(
                f"{folder} contains {', '.join(found[:4])}: give the path of one of them, or, if "
                "they are shards, add their model.safetensors.index.json"
            )
    raise _folder_error(folder, names)


def _files_of_index(index: Path) -> list[Path]:
    shards = _read_json_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        found = as_json(shards)
        raise ValueError(f"{index}: weight_map is {found}, expected the file of each tensor")
    present = [path.name for path in index.parent.iterdir() if path.is_file()]
    for name, shard in shards.items():
        if shard not in present:
            missing = f"{as_json(shard)}, with {as_json(name)}, is missing"
            raise ValueError(f"{index}: the shard {missing} from its folder: download it as well")
    paths = [index.parent / shard for shard in dict.fromkeys(shards.values())]
    if index.name.endswith(f".bin{INDEX}"):
        raise _pickle_error(paths)
    return paths


def check_tokenizer(folder: Path) -> None:
    """Raise ValueError if the tokenizer next to a checkpoint is not GPT-2's."""
    for path in filter(Path.is_file, (folder / "vocab.json", folder / "tokenizer.json")):
        vocabulary = _read_json_object(path)
        if path.name == "tokenizer.json":
            model = vocabulary.get("model")
            vocabulary = model.get("vocab") if isinstance(model, dict) else None
        of = vocabulary.get if isinstance(vocabulary, dict) else {}.get
        if any(of(token) != number for token, number in _GPT2_TOKENS.items()):
            raise ValueError(
                f"{path} is not GPT-2's tokenizer, which texts are read with: use a checkpoint "
                "that was trained with GPT-2's"
            )


def format_error(path: Path, error: Exception) -> ValueError:
    """Return an error that says what a file is, given the reader's error."""
    with path.open("rb") as file:
        start = file.read(4096)
    # What `torch.save` writes: a zip whose first member is a pickle; long ago, the pickle alone.
    if (start.startswith(_ZIP) and b"/data.pkl" in start) or re.match(rb"\x80[\2-\5]", start):
        return _pickle_error([path])
    found = [what for first, what in _FIRST_BYTES.items() if start.lstrip().startswith(first)]
    found += _formats_of(path.suffixes)
    what = f"but {found[0]}" if found else f"({error})"
    return ValueError(f"{path} is not a safetensors file {what if start else 'but empty'}")


def _formats_of(suffixes: list[str]) -> list[str]:
    return [f"a {kind} file: {_HINT}" for suffix, kind in _SUFFIXES.items() if suffix in suffixes]


def adapter_error(path: Path, name: str) -> ValueError:
    """Return an error for an adapter, which `name` in the path shows."""
    return ValueError(
        f"{path} contains an adapter such as LoRA's ({name}), not a whole model: merge it into its "
        "model, with PEFT by `merge_and_unload()`, and save that in another folder"
    )


def _pickle_error(paths: list[Path]) -> ValueError:
    """Return an error for pickles of a model, with code that converts them."""
    first, *others = paths
    target = first.with_name(f"{'model' if others else first.stem}.converted.safetensors")
    # `torch.load` would take a path that ends in .safetensors for a file of that format.
    source = "open(path, 'rb')" if first.suffix == ".safetensors" else "path"
    error = ValueError(
        f"{first} {'and others are PyTorch pickles' if others else 'is a PyTorch pickle'}, which "
        "can run code when loaded, and is not read: convert it to safetensors, in Python:"
    )
    for line in (
        "import torch; from safetensors.torch import save_file",
        f"parts = [torch.load({source}, map_location='cpu', weights_only=True) "
        f"for path in {[str(path) for path in paths]}]",
        "save_file({name: tensor.contiguous().clone() for part in parts for name, tensor in "
        f"part.get('model_state_dict', part).items()}}, {str(target)!r})",
    ):
        error.add_note(line)
    return error


def _folder_error(folder: Path, names: list[str]) -> ValueError:
    pickles = [n for n in names if _PICKLE.fullmatch(n) and not _NO_MODEL.fullmatch(n)]
    if "pytorch_model.bin" in pickles:
        pickles = ["pytorch_model.bin"]
    if len(pickles) == 1:
        return _pickle_error([folder / pickles[0]])
    formats = ["PyTorch pickles: give the path of the model's"] if pickles else []
    formats += _formats_of([suffix for name in names for suffix in Path(name).suffixes])
    if formats:
        return ValueError(f"{folder} contains no .safetensors file but {formats[0]}")
    if (folder / "snapshots").is_dir():
        return ValueError(f"{folder} is a cache: give the path of a folder in its snapshots")
    return ValueError(f"{folder} contains no checkpoint, expected model.safetensors or its {INDEX}")


# -------------------------------------------------------------------------------------- config.json

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


def _read_json_object(path: Path) -> dict[str, Any]:
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
    for given, value in _read_json_object(path).items():
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
