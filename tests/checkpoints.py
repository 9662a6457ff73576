"""Miniature GPT-2 checkpoints in the format of the published ones, for tests.

python tests/checkpoints.py tiny.safetensors     # the one of tests/golden_trajectories.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

MINIATURE = {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 128, "n_head": 2, "n_layer": 3}
TINY = {"n_vocab": 11, "n_ctx": 5, "n_embd": 128, "n_head": 2, "n_layer": 2}
SMALLEST = {"n_vocab": 3, "n_ctx": 2, "n_embd": 64, "n_head": 1, "n_layer": 1}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
MINIATURE_SHA256 = "f4117487c504078577fed54dcf456d344b337e8b7bb4527b5a7e44bbf96476dd"


def random_tensors(settings: dict[str, int], seed: int = 7) -> dict[str, torch.Tensor]:
    """Random weights by the tensor names of the hub; each is drawn in the order of the dictionary.

    Standard deviations are those on which the golden trajectories were measured.
    """
    generator, tensors = np.random.default_rng(seed), {}
    C, T = settings["n_embd"], settings["n_ctx"]

    def draw(name: str, std: float, *shape: int, mean: float = 0) -> None:
        values = (generator.standard_normal(shape) * std).astype(np.float32)
        tensors[name] = torch.from_numpy(values) + mean

    def draw_layer(name: str, std: float, *shape: int, mean: float = 0) -> None:
        draw(f"{name}.weight", std, *shape, mean=mean)
        draw(f"{name}.bias", 0.05, shape[-1])

    draw("wte.weight", 0.12, settings["n_vocab"], C)
    draw("wpe.weight", 0.05, T, C)
    for block in (f"h.{i}" for i in range(settings["n_layer"])):
        draw_layer(f"{block}.ln_1", 0.1, C, mean=1)
        tensors[f"{block}.attn.bias"] = torch.ones(T, T).tril().view(1, 1, T, T)
        draw_layer(f"{block}.attn.c_attn", 0.12, C, 3 * C)
        draw_layer(f"{block}.attn.c_proj", 0.08, C, C)
        draw_layer(f"{block}.ln_2", 0.1, C, mean=1)
        draw_layer(f"{block}.mlp.c_fc", 0.12, C, 4 * C)
        draw_layer(f"{block}.mlp.c_proj", 0.08, 4 * C, C)
    draw_layer("ln_f", 0.1, C, mean=1)
    return tensors


def write_checkpoint(path: Path, settings: dict[str, int] = MINIATURE, seed: int = 7) -> Path:
    """Writes random weights as a checkpoint and returns its path."""
    save_file(random_tensors(settings, seed), path, metadata={"format": "pt"})
    return path


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 2) -> Path:
    """Writes tensors as a sharded checkpoint and returns the path of its index."""
    files = {
        name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors"
        for i, name in enumerate(tensors)
    }
    for file in set(files.values()):
        some = {name: tensor for name, tensor in tensors.items() if files[name] == file}
        save_file(some, folder / file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return index


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]))
