"""The `.safetensors` files of a checkpoint; of other formats only the first bytes are read."""

import re
from pathlib import Path

from experiments.checkpoints.config import as_json, read_json_object

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
    shards = read_json_object(index).get("weight_map")
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
        vocabulary = read_json_object(path)
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
