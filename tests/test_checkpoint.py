"""Checkpoints of GPT-2's format: what is read, what is refused, and by which name."""

import json
import secrets
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import random_tensors, write_shards
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from experiments.checkpoints import weights
from experiments.checkpoints.names import book_shapes, hub_shapes
from experiments.checkpoints.weights import load_gpt2_checkpoint

TINY = {"n_vocab": 11, "n_ctx": 5, "n_embd": 128, "n_head": 2, "n_layer": 2}


@pytest.fixture
def tensors():
    """A tiny checkpoint's tensors by the names of the hub, causal masks included."""
    return random_tensors(TINY)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def load(tensors, path):
    save_file(tensors, path, metadata={"format": "pt"})
    return load_gpt2_checkpoint(path)


def by_hub_name(params):
    """Arrays in the book's layout under the names of the hub."""
    kinds = {"w": "weight", "g": "weight", "b": "bias"}
    arrays = {f"{name}.weight": params[name] for name in ("wte", "wpe")}
    arrays |= {f"ln_f.{kinds[kind]}": params[kind] for kind in "gb"}
    for i, block in enumerate(params["blocks"]):
        layers = {name: block[name] for name in ("ln_1", "ln_2")}
        layers |= {
            f"{p}.{name}": layer for p in ("attn", "mlp") for name, layer in block[p].items()
        }
        arrays |= {
            f"h.{i}.{name}.{kinds[kind]}": array
            for name, layer in layers.items()
            for kind, array in layer.items()
        }
    return arrays


def assert_holds(params, tensors):
    """The arrays are these tensors, in float32, without the causal masks."""
    arrays = by_hub_name(params)
    assert arrays.keys() == {name for name in tensors if not name.endswith(".attn.bias")}
    for name, array in arrays.items():
        assert array.dtype == np.float32, name
        np.testing.assert_array_equal(array, tensors[name].float().numpy(), err_msg=name)


def test_settings_come_from_the_shapes(tensors, path):
    settings, _ = load(tensors, path)
    assert settings == TINY


def test_arrays_are_the_tensors_of_the_file(tensors, path):
    _, params = load(tensors, path)
    assert_holds(params, tensors)


def test_a_file_of_a_whole_language_model_loads_the_same(tensors, path):
    stored = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    stored["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    stored["lm_head.weight"] = tensors["wte.weight"].clone()
    settings, params = load(stored, path)
    assert settings == TINY
    assert_holds(params, tensors)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
    ],
    ids=str,
)
def test_a_tied_head_in_half_precision_is_dropped(dtype, tensors, path):
    stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    load(stored | {"lm_head.weight": stored["wte.weight"].clone()}, path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_precision_is_converted(dtype, tensors, path):
    stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    _, params = load(stored, path)
    assert_holds(params, stored)


@pytest.mark.parametrize(
    "name", ["wte.weight", "wpe.weight", "ln_f.bias", "h.0.attn.c_proj.bias", "h.1.mlp.c_fc.weight"]
)
def test_a_missing_tensor_is_named(name, tensors, path):
    del tensors[name]
    with pytest.raises(ValueError, match=name):
        load(tensors, path)


@pytest.mark.parametrize(
    "name", ["adapter.weight", "h.0.crossattention.c_attn.weight", "h.2.ln_1.bias"]
)
def test_an_unknown_tensor_is_named(name, tensors, path):
    named = "h.2" if name.startswith("h.2") else name  # of a third block, the rest is missing
    with pytest.raises(ValueError, match=named):
        load(tensors | {name: torch.ones(128)}, path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("wte.weight", (11 * 128,)),
        ("wpe.weight", (5, 64)),
        ("h.0.attn.c_attn.weight", (3 * 128, 128)),  # (out, in), as in nn.Linear
        ("h.1.mlp.c_proj.bias", (1, 128)),
    ],
)
def test_a_misshapen_tensor_is_named(name, shape, tensors, path):
    with pytest.raises(ValueError, match=name):
        load(tensors | {name: torch.ones(shape)}, path)


def test_a_width_that_is_no_multiple_of_a_heads_is_refused(path):
    with pytest.raises(ValueError, match="width 96 is no multiple of a head's 64"):
        load(random_tensors(TINY | {"n_embd": 96}), path)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("name", ["wte.weight", "h.1.mlp.c_proj.bias"])
def test_a_tensor_that_is_not_finite_is_named(name, bad, tensors, path):
    tensors[name].view(-1)[-1] = bad
    with pytest.raises(ValueError, match=rf"{name} holds values that are not finite"):
        load(tensors, path)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.bool], ids=str)
def test_a_tensor_of_other_numbers_is_named(dtype, tensors, path):
    with pytest.raises(ValueError, match=r"h\.0\.ln_1\.bias holds .*, expected F32, F16"):
        load(tensors | {"h.0.ln_1.bias": torch.ones(128, dtype=dtype)}, path)


def test_a_tensor_with_and_without_the_prefix_is_refused(tensors, path):
    twice = {"transformer.ln_f.bias": tensors["ln_f.bias"] + 1}
    with pytest.raises(ValueError, match=r"ln_f\.bias and transformer\.ln_f\.bias are one tensor"):
        load(tensors | twice, path)


@pytest.mark.parametrize("nothing", ["n_vocab", "n_ctx", "n_embd", "n_layer"])
def test_a_network_of_nothing_is_refused(nothing, path):
    with pytest.raises(ValueError, match=r"is no GPT-2 checkpoint: .* is 0"):
        load(random_tensors(TINY | {nothing: 0}), path)


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>"], ids=["empty", "html"])
def test_what_is_no_safetensors_file_is_refused(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no safetensors file"):
        load_gpt2_checkpoint(path)


def test_a_truncated_file_is_refused(tensors, path):
    path.write_bytes(save(tensors)[:-1])
    with pytest.raises(ValueError, match="no safetensors file"):
        load_gpt2_checkpoint(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shards", [1, 2])
def test_arrays_are_mapped_not_read(shards, miniature, tmp_path):
    path = miniature if shards == 1 else write_shards(tmp_path, load_file(miniature), shards)
    script = (
        "import pathlib, re, sys, torch\n"
        "from experiments.checkpoints.weights import load_gpt2_checkpoint\n"
        "def private():\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return 1024 * int(re.search(r'RssAnon:\\s+(\\d+) kB', status)[1])\n"
        "before = private()\n"
        "settings, params = load_gpt2_checkpoint(sys.argv[1])\n"
        "print(private() - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(run.stdout.split()[-1]) < miniature.stat().st_size / 4


# -------------------------------------------------------------------------------------- mutations

SMALLEST = {"n_vocab": 3, "n_ctx": 2, "n_embd": 64, "n_head": 1, "n_layer": 1}
WHOLE = save(random_tensors(SMALLEST))
HEADER_SIZE = 8 + int.from_bytes(WHOLE[:8], "little")
HEADER = json.loads(WHOLE[8:HEADER_SIZE])

numbers = st.integers(-(2**70), 2**70) | st.integers(-2, 200_000)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
names = st.sampled_from(list(HEADER)) | st.text()
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "BF16", "I8", "U64", "BOOL", "F8_E4M3", "C64"])
        | st.text(),
        "shape": st.lists(numbers, max_size=4),
        "data_offsets": st.lists(numbers, max_size=3),
    }
)


def load_mutated(content, folder):
    """Loads a file, and says whether it gives finite arrays, or an error that names it."""
    path = folder / f"{secrets.token_hex(8)}.safetensors"
    path.write_bytes(content)
    try:
        _, params = load_gpt2_checkpoint(path)
    except ValueError as error:
        return str(error).startswith(str(path))
    finally:
        path.unlink()
    return all(np.isfinite(array).all() for array in by_hub_name(params).values())


@given(
    changes=st.dictionaries(
        st.integers(0, HEADER_SIZE) | st.integers(0, len(WHOLE) - 1),
        st.integers(0, 255),
        max_size=5,
    ),
    end=st.just(len(WHOLE)) | st.integers(0, len(WHOLE)),
)
def test_a_file_with_other_bytes_is_loaded_or_refused(changes, end, folder_of_mutations):
    content = bytearray(WHOLE)
    for place, byte in changes.items():
        content[place] = byte
    assert load_mutated(bytes(content[:end]), folder_of_mutations)


@given(changed=st.dictionaries(names, entries | anything | st.none(), max_size=3), kept=st.data())
def test_a_file_with_another_header_is_loaded_or_refused(changed, kept, folder_of_mutations):
    header = {name: entry for name, entry in (HEADER | changed).items() if entry is not None}
    for name, entry in changed.items():
        if isinstance(entry, dict) and name in HEADER:
            fields = kept.draw(st.sets(st.sampled_from(sorted(HEADER[name])), max_size=2))
            header[name] = entry | {field: HEADER[name][field] for field in fields}
    encoded = json.dumps(header).encode()
    content = struct.pack("<Q", len(encoded)) + encoded + WHOLE[HEADER_SIZE:]
    assert load_mutated(content, folder_of_mutations)


@pytest.fixture(scope="session")
def folder_of_mutations(tmp_path_factory):
    return tmp_path_factory.mktemp("mutations")


# ---------------------------------------------------------------------------------------- memory

LOADING = """
import re, sys, threading
from pathlib import Path
from experiments.config.flags import parse_args
from experiments.runs.preparation import build_classifier

def own():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

network = parse_args(["--weights", sys.argv[1]]).network
before, seen, stop = own(), [0], threading.Event()

def watch():
    while not stop.wait(0.005):
        seen.append(own() - before)

threading.Thread(target=watch).start()
model = build_classifier(network, seed=1)
stop.set()
print(max(seen) / sum(4 * p.numel() for p in model.parameters()))
"""


def test_each_block_is_made_when_it_is_asked_for_and_one_is_held():
    made = []
    blocks = weights.Blocks(lambda i: made.append(i) or {"number": i}, 3)
    assert not made
    assert (len(blocks), [block["number"] for block in blocks]) == (3, [0, 1, 2])
    assert (blocks[-1]["number"], made) == (2, [0, 1, 2])
    with pytest.raises(IndexError):
        blocks[3]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1.35), (torch.float16, 1.55)])
@pytest.mark.parametrize("shapes_of", [hub_shapes, book_shapes])
def test_a_checkpoint_of_gpt2_mediums_size_is_not_held_twice(dtype, most, shapes_of, tmp_path):
    sizes = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 1024, "n_layer": 24}
    shapes = shapes_of(sizes | {"qkv_bias": True})
    file = tmp_path / "medium.safetensors"
    save_file({name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}, file)
    run = subprocess.run(
        [sys.executable, "-c", LOADING, file],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    file.unlink()
    assert 1 < float(run.stdout.splitlines()[-1]) < most
