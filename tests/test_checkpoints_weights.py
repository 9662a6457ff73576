"""The weights of checkpoints: the arrays of the book, in little memory."""

import ctypes
import json
import re
import secrets
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import ANY_JSON, SMALLEST, TINY, random_tensors
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_same_function, oracle_of, read_or_refused
from safetensors.torch import save, save_file
from transformers import GPT2Config, GPT2Model

from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.design import Design
from experiments.model.classifier import create_classifier
from previous_chapters import GPTModel


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def load(tensors, path):
    save_file(tensors, path, metadata={"format": "pt"})
    return load_gpt2_checkpoint(path)


def arrays_in(params):
    """The arrays of nested dictionaries and sequences."""
    if isinstance(params, np.ndarray):
        return [params]
    parts = params.values() if isinstance(params, dict) else params
    return [array for part in parts for array in arrays_in(part)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.usefixtures("float64")
def test_every_precision_is_loaded_as_float32(dtype, prefix, path):
    oracle = oracle_of().to(dtype)
    tensors = {f"{prefix}{name}": tensor for name, tensor in oracle.state_dict().items()}
    tensors[f"{prefix}h.0.attn.masked_bias"] = torch.tensor(-1e4)
    tensors["lm_head.weight"] = tensors[f"{prefix}wte.weight"].clone()  # tied to the embedding
    _, params = load(tensors, path)
    assert all(array.dtype == np.float32 for array in arrays_in(params))
    assert_same_function(oracle, path)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("name", ["wte.weight", "h.1.mlp.c_proj.bias"])
def test_a_tensor_that_is_not_finite_is_named(name, bad, path):
    tensors = random_tensors(TINY)
    tensors[name].view(-1)[-1] = bad
    with pytest.raises(ValueError, match=rf"{path}: {name} has values that are not finite"):
        load(tensors, path)


# -------------------------------------------------------------------------------------- mutations

WHOLE = save(random_tensors(SMALLEST))
HEADER_SIZE = 8 + int.from_bytes(WHOLE[:8], "little")
HEADER = json.loads(WHOLE[8:HEADER_SIZE])

names = st.sampled_from(list(HEADER)) | st.text()
numbers = st.integers(-(2**70), 2**70) | st.integers(-2, 200_000)
types = st.sampled_from(["F32", "F64", "BF16", "I8", "U64", "BOOL", "F8_E4M3", "C64"]) | st.text()
shapes, offsets = st.lists(numbers, max_size=4), st.lists(numbers, max_size=3)
entries = st.fixed_dictionaries({"dtype": types, "shape": shapes, "data_offsets": offsets})


@given(
    changed=st.dictionaries(names, entries | ANY_JSON, max_size=3),
    same=st.data(),
    cut=st.just(0) | st.integers(0, len(WHOLE)),
)
def test_a_file_with_another_header_is_loaded_or_refused(changed, same, cut, tmp_path_factory):
    header = {name: entry for name, entry in (HEADER | changed).items() if entry is not None}
    for name, entry in changed.items():
        if isinstance(entry, dict) and name in HEADER:
            fields = same.draw(st.sets(st.sampled_from(sorted(HEADER[name])), max_size=2))
            header[name] = entry | {field: HEADER[name][field] for field in fields}
    encoded = json.dumps(header).encode()
    content = struct.pack("<Q", len(encoded)) + encoded + WHOLE[HEADER_SIZE:]
    path = tmp_path_factory.getbasetemp() / f"{secrets.token_hex(8)}.safetensors"
    path.write_bytes(content[: len(content) - cut])
    found = read_or_refused(load_gpt2_checkpoint, path, path, in_one_line=False)
    path.unlink()
    assert not found or all(np.isfinite(array).all() for array in arrays_in(found[1]))


# ----------------------------------------------------------------------------------------- memory


def anonymous_memory():
    """Bytes of this process that are not of mapped files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1.2), (torch.float16, 1.5)])
@pytest.mark.parametrize("kind", [GPT2Model, GPTModel])
def test_weights_are_in_memory_once_while_a_model_is_built(kind, dtype, most, path):
    sizes = {"vocab_size": 1000, "n_positions": 64, "n_embd": 256, "n_head": 4, "n_layer": 16}
    config = {"vocab_size": 1000, "context_length": 64, "emb_dim": 256, "n_heads": 4,
              "n_layers": 16, "drop_rate": 0.0, "qkv_bias": True}  # fmt: skip
    model = GPT2Model(GPT2Config(**sizes)) if kind is GPT2Model else GPTModel(config)
    floats = {name: t for name, t in model.state_dict().items() if t.is_floating_point()}
    save_file({name: tensor.to(dtype) for name, tensor in floats.items()}, path)
    del model, floats
    seen, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.001):
            seen.append(anonymous_memory() - before)

    thread = threading.Thread(target=watch)
    ctypes.CDLL(None).malloc_trim(0)  # gives back what was freed
    before = anonymous_memory()
    thread.start()
    design = Design(config, "last", False, False, "all", 1, 1.0)
    classifier = create_classifier(design, load_gpt2_checkpoint(path)[1], 1, 2)
    stop.set()
    thread.join()
    assert 0.9 < max(seen) / sum(4 * p.numel() for p in classifier.parameters()) < most
