"""What people have in the place of a checkpoint that can be read, and the way out of each.

Nothing here is opened but to look at its first bytes.
"""

from pathlib import Path

PUBLISHED = "use the model.safetensors of the same model"
ZIP = b"PK\3\4"
BEGINNINGS = (  # how files begin, and what they are
    (
        b"version https://git-lfs",
        "a pointer of Git LFS in the place of the file: run `git lfs pull` in its folder",
    ),
    (b"GGUF", f"a GGUF file, whose weights are rounded and renamed: {PUBLISHED}"),
    (b"\x89HDF", f"an HDF5 file, as TensorFlow writes it: {PUBLISHED}"),
    (ZIP, "a zip file: unpack it, and name what is in it"),
    (b"{", "a JSON file: name the folder where it lies"),
    (b"<", "a web page: download the file itself"),
)
ENDINGS = {  # of names, where the beginning says nothing
    ".gguf": "a GGUF file",
    ".h5": "TensorFlow's",
    ".ckpt": "TensorFlow's",
    ".msgpack": "Flax's",
}
PICKLES = (".bin", ".pth", ".pt", ".ckpt")
BESIDE_MODELS = (  # pickles that training leaves, and no models
    "training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin",
    "scaler.pt", "rng_state.pth",
)  # fmt: skip


def explain_file(path: Path, error: Exception) -> ValueError:
    """Returns an error that says what a file is that is no safetensors file.

    Args:
        path: of the file.
        error: what the reader of safetensors said.
    """
    with path.open("rb") as file:
        beginning = file.read(4096)
    if not beginning:
        return ValueError(f"{path} is no safetensors file, but empty")
    if is_pickle(beginning):
        return explain_pickles([path])
    for known, what in BEGINNINGS:
        if beginning.lstrip().startswith(known):
            return ValueError(f"{path} is no safetensors file, but {what}")
    for ending, what in ENDINGS.items():
        if ending in path.suffixes:
            return ValueError(f"{path} is no safetensors file; by its name, {what}: {PUBLISHED}")
    return ValueError(f"{path} is no safetensors file: {error}")


def is_pickle(beginning: bytes) -> bool:
    """Says whether `torch.save` wrote a file: a zip around a pickle, or, long ago, a pickle."""
    if beginning.startswith(ZIP):
        return b"/data.pkl" in beginning  # its first member
    return beginning[0] == 0x80 and beginning[1:2] in (b"\2", b"\3", b"\4", b"\5")


def explain_pickles(paths: list[Path]) -> ValueError:
    """Returns an error for the pickles of one model, with three lines that convert them."""
    first, *others = paths
    name = "model" if others else first.stem
    # `torch.load` would read a path that ends on .safetensors by that name.
    source = "open(path, 'rb')" if first.suffix == ".safetensors" else "path"
    lines = (
        "import torch; from safetensors.torch import save_file",
        f"parts = [torch.load({source}, map_location='cpu', weights_only=True) "
        f"for path in {[str(path) for path in paths]}]",
        "save_file({name: tensor.contiguous().clone() for part in parts for name, tensor in "
        "part.get('model_state_dict', part).items()}, "
        f"{str(first.with_name(f'{name}.converted.safetensors'))!r})",
    )
    error = ValueError(
        f"{first}{' and others are' if others else ' is'} no safetensors file, but a PyTorch "
        "pickle, which can run any code when it is read, and is not; this makes a checkpoint of it "
        "in Python:"
    )
    for line in lines:
        error.add_note(line)
    return error


def explain_adapter(path: Path, name: str) -> ValueError:
    """Returns an error for an adapter that goes beside a model's weights.

    Args:
        path: of the file or folder.
        name: of the tensor or file that shows it.
    """
    return ValueError(
        f"{path} holds an adapter, such as LoRA's ({name}), which is no model by itself: merge it "
        "into its model, with PEFT by `merge_and_unload()`, and save that in a folder of its own"
    )


def explain_folder(folder: Path, names: list[str]) -> ValueError:
    """Returns an error that says what a folder holds in the place of a checkpoint.

    Args:
        folder: that was named.
        names: of its files.
    """
    pickles = [name for name in names if name.endswith(PICKLES) and name not in BESIDE_MODELS]
    if "pytorch_model.bin" in pickles or len(pickles) == 1:
        name = "pytorch_model.bin" if "pytorch_model.bin" in pickles else pickles[0]
        return explain_pickles([folder / name])
    if pickles:
        return ValueError(
            f"{folder} holds no .safetensors file, but PyTorch pickles: name the one of the model"
        )
    for name in names:
        for ending, what in ENDINGS.items():
            if ending in Path(name).suffixes:
                return ValueError(f"{folder} holds no .safetensors file, but {what}: {PUBLISHED}")
    if (folder / "snapshots").is_dir():
        return ValueError(f"{folder} is of the hub's cache: name a folder in its snapshots")
    return ValueError(
        f"{folder} holds no checkpoint: expected model.safetensors or model.safetensors.index.json"
    )
