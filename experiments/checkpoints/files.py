"""The files of a checkpoint: from a file, a folder or an index to its `.safetensors` files."""

import re
from pathlib import Path

from experiments.checkpoints.config import read_object, shown
from experiments.checkpoints.foreign import explain_adapter, explain_folder, explain_pickles

INDEX = ".index.json"
PREFERRED = (  # in a folder
    r"model\.safetensors", r"model\.safetensors\.index\.json", r".+\.safetensors\.index\.json",
    r".+\.safetensors", r".+\.bin\.index\.json",
)  # fmt: skip
ADAPTER_FILE = re.compile(r"adapter_(model\..+|config\.json)")


def checkpoint_files(path: Path) -> list[Path]:
    """Returns the files that hold a checkpoint's tensors, more than one if it is sharded.

    Args:
        path: of a `.safetensors` file, of a folder, or of an index, whose name ends on
            `.index.json`.

    Raises:
        ValueError: when the folder or the index is not of such files, or a shard is missing.
        OSError: when it cannot be read.
    """
    if path.is_dir():
        return files_of_folder(path)
    if ADAPTER_FILE.fullmatch(path.name):
        raise explain_adapter(path, path.name)
    return files_of_index(path) if path.name.endswith(INDEX) else [path]


def config_file(path: Path) -> Path | None:
    """Returns the `config.json` of a checkpoint, or None where there is none."""
    config = (path if path.is_dir() else path.parent) / "config.json"
    return config if config.exists() else None


def files_in(folder: Path) -> list[str]:
    """Returns the names of a folder's files."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def files_of_folder(folder: Path) -> list[Path]:
    """Returns the files of the one checkpoint in a folder, as `save_pretrained` leaves it."""
    names = files_in(folder)
    for name in filter(ADAPTER_FILE.fullmatch, names):
        raise explain_adapter(folder, name)
    for wanted in PREFERRED:
        found = [name for name in names if re.fullmatch(wanted, name)]
        if len(found) == 1:
            return checkpoint_files(folder / found[0])
        if found:
            raise ValueError(
                f"{folder} holds {', '.join(found[:4])}: name one of them, or, if they are shards, "
                "add their model.safetensors.index.json"
            )
    raise explain_folder(folder, names)


def files_of_index(index: Path) -> list[Path]:
    """Returns the shards that an index names, each once.

    Raises:
        ValueError: when it names none, one that is missing, or pickles.
    """
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        found = shown(shards)
        raise ValueError(f"{index}: weight_map is {found}, expected the file of each tensor")
    there = files_in(index.parent)
    for name, shard in shards.items():
        if shard not in there:
            raise ValueError(
                f"{index}: the shard {shown(shard)}, with {shown(name)}, is missing from its "
                "folder: download it as well"
            )
    paths = [index.parent / shard for shard in dict.fromkeys(shards.values())]
    if index.name.endswith(f".bin{INDEX}"):
        raise explain_pickles(paths)
    return paths
