"""What `--weights` takes: a file, a folder, shards; and what it tells of everything else."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from checkpoints import random_tensors, write_checkpoint, write_shards
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import assert_same_function, network_of, oracle_of, refusal_of
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from experiments.checkpoints.header import read_checkpoint
from experiments.config.flags import parse_args
from experiments.runs.fingerprint import checkpoint_sha256
from experiments.system.files import sha256_of

SMALLEST = {"n_vocab": 3, "n_ctx": 2, "n_embd": 64, "n_head": 1, "n_layer": 1}


@pytest.mark.parametrize("named", ["", "model.safetensors.index.json"])
@pytest.mark.usefixtures("float64")
def test_a_sharded_checkpoint_is_the_same_function(named, tmp_path):
    oracle = oracle_of(GPT2LMHeadModel, n_head=4)
    oracle.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(read_checkpoint(tmp_path / named).files) > 2
    assert_same_function(oracle, tmp_path / named)


@pytest.mark.parametrize("named", ["", "model.safetensors.index.json"])
def test_a_missing_shard_is_named(named, tmp_path):
    oracle_of().save_pretrained(tmp_path, max_shard_size="200KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    message = str(refusal_of(tmp_path / named))
    assert f'the shard "{shard.name}"' in message
    assert "is missing" in message


def test_one_shard_by_itself_is_told(tmp_path):
    oracle_of().save_pretrained(tmp_path, max_shard_size="200KB")
    shard = next(tmp_path.glob("model-00002-of-*"))
    assert "it is one shard: name its folder" in str(refusal_of(shard))


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    tensors = random_tensors(SMALLEST)
    index = write_shards(tmp_path, tensors)
    shard = tmp_path / "model-00001-of-00002.safetensors"
    save_file({"wpe.weight": tensors["wpe.weight"]} | load_file(shard), shard)
    assert "one tensor, there twice" in str(refusal_of(index))


def test_a_checkpoint_has_one_name_however_it_is_named(tmp_path, monkeypatch):
    oracle_of().save_pretrained(tmp_path / "mine", max_shard_size="200KB")
    monkeypatch.chdir(tmp_path / "mine")
    names = (".", "../mine", "model.safetensors.index.json", tmp_path / "mine")
    assert {network_of(name).description for name in names} == {"checkpoint mine"}


def test_the_digest_covers_heads_and_every_shard(tmp_path):
    whole = write_checkpoint(tmp_path / "model.safetensors", SMALLEST)
    digests = [checkpoint_sha256(whole), checkpoint_sha256(tmp_path)]
    assert digests == 2 * [sha256_of(whole)]
    for heads in (1, 2, 4):
        (tmp_path / "config.json").write_text(json.dumps({"n_head": heads}))
        digests.append(checkpoint_sha256(tmp_path))
    assert digests[2] == digests[0]
    for changed in (None, "wte.weight", "wpe.weight"):
        tensors = random_tensors(SMALLEST)
        if changed:
            tensors[changed] += 1
        folder = tmp_path / str(changed)
        folder.mkdir()
        digests.append(checkpoint_sha256(write_shards(folder, tensors)))
    assert len(set(digests[2:])) == 6


def test_a_folder_of_several_checkpoints_lists_them(tmp_path):
    for name in ("a", "b"):
        write_checkpoint(tmp_path / f"{name}.safetensors", SMALLEST)
    assert "a.safetensors, b.safetensors: name one of them" in str(refusal_of(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "any.safetensors"])
def test_what_else_lies_in_a_folder_does_not_matter(name, tmp_path):
    path = write_checkpoint(tmp_path / name, SMALLEST)
    for other in ("training_args.bin", "optimizer.pt", "pytorch_model.bin", "README.md"):
        (tmp_path / other).write_bytes(b"\x80\x02")
    assert read_checkpoint(tmp_path).files == [path]


# ------------------------------------------------------------------------ what cannot be taken


def pickled(tensors, path, form):
    """Writes a pickle as torch.save does, or did."""
    content = (
        {"model_state_dict": tensors, "optimizer_state_dict": {}} if form == "book" else tensors
    )
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")


def paste(lines):
    exec("\n".join(lines), {})  # noqa: S102 (as the reader does)


@pytest.mark.parametrize(
    ("form", "file", "named"),
    [
        ("zip", "model.pth", "model.pth"),
        ("book", "model.pth", ""),
        ("legacy", "pytorch_model.bin", "pytorch_model.bin"),
        ("zip", "pytorch_model.bin", ""),
        pytest.param(
            "zip",
            "model.safetensors",
            "model.safetensors",
            marks=pytest.mark.filterwarnings("ignore:.*unclosed file"),
        ),
    ],
)
@pytest.mark.usefixtures("float64")
def test_a_pickle_is_told_with_three_lines_that_convert_it(form, file, named, tmp_path):
    folder = tmp_path / "it's mine"
    oracle = oracle_of(GPT2LMHeadModel)  # its head is tied
    oracle.config.save_pretrained(folder)
    pickled(oracle.state_dict(), folder / file, form)
    error = refusal_of(folder / named)
    assert f"{folder / file} is no safetensors file, but a PyTorch pickle" in str(error)
    assert len(error.__notes__) == 3
    paste(error.__notes__)
    (converted,) = folder.glob("*.converted.safetensors")
    assert_same_function(oracle, converted)


@pytest.mark.usefixtures("float64")
def test_a_sharded_pickle_is_told_with_three_lines_that_convert_it(tmp_path):
    oracle, files = oracle_of(), {}
    for i in range(2):
        shard = dict(list(oracle.state_dict().items())[i::2])
        files |= dict.fromkeys(shard, f"pytorch_model-{i}.bin")
        torch.save(shard, tmp_path / f"pytorch_model-{i}.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    paste(refusal_of(tmp_path).__notes__)
    assert_same_function(oracle, tmp_path)


def test_the_lines_that_convert_a_pickle_are_printed(tmp_path, capsys):
    torch.save({}, tmp_path / "model.pth")
    with pytest.raises(SystemExit) as exit_:
        parse_args(["--weights", str(tmp_path / "model.pth")])
    assert exit_.value.code == 2
    sentence, *lines = capsys.readouterr().err.splitlines()
    assert "--weights: " in sentence
    assert lines == refusal_of(tmp_path / "model.pth").__notes__


def test_several_pickles_are_not_guessed_at(tmp_path):
    for name in ("a.pth", "b.pth"):
        torch.save({}, tmp_path / name)
    assert "PyTorch pickles: name the one of the model" in str(refusal_of(tmp_path))


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_nothing_in_a_pickle_is_run(form, tmp_path):
    path, trap = tmp_path / "model.bin", tmp_path / "trap"
    if form == "plain":
        path.write_bytes(pickle.dumps(Trap(trap)))
    else:
        pickled({"a": Trap(trap)}, path, form)
    for named in (path, tmp_path):
        assert "PyTorch pickle" in str(refusal_of(named))
    assert not trap.exists()
    torch.load(path, weights_only=False) if form != "plain" else pickle.loads(path.read_bytes())
    assert trap.exists()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 548105171\n" % (b"0" * 64)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.safetensors", LFS, "a pointer of Git LFS"),
        ("model.gguf", b"GGUF\3\0\0\0" + bytes(50), "a GGUF file"),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n" + bytes(50), "as TensorFlow writes it"),
        ("model.ckpt.data-00000-of-00001", bytes(50), "by its name, TensorFlow's"),
        ("flax_model.msgpack", b"\x84\xab" + bytes(50), "by its name, Flax's"),
        ("model.safetensors", b"<!doctype html>", "a web page"),
        ("model.zip", b"PK\3\4" + bytes(50), "unpack it"),
        ("config.json", b'{"n_head": 12}', "name the folder"),
        ("model.safetensors", b"", "empty"),
    ],
)
def test_a_file_of_another_kind_is_told_as_what_it_is(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    message = str(refusal_of(tmp_path / name))
    assert words in message
    assert "header" not in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.gguf", "a GGUF file"),
        ("model.ckpt.index", "TensorFlow's"),
        ("README.md", "expected model.safetensors or model.safetensors.index.json"),
        ("snapshots/a/b", "name a folder in its snapshots"),
    ],
)
def test_a_folder_without_a_checkpoint_is_told(name, words, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"some")
    assert words in str(refusal_of(tmp_path))


@pytest.mark.parametrize("name", ["none.safetensors", "none", "none/model.safetensors"])
def test_a_path_where_nothing_is_ends_with_what_can_be_named(name, capsys):
    with pytest.raises(SystemExit):
        parse_args(["--weights", name])
    assert "a .safetensors file, its folder, or its .index.json" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- mutations

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
WHOLE = {
    name: f"model-0000{i % 2 + 1}-of-00002.safetensors"
    for i, name in enumerate(random_tensors(SMALLEST))
}
shards = anything | st.sampled_from([*WHOLE.values(), "../a", "a" * 300, "\0", "\ud800"])


@pytest.fixture(scope="session")
def index(tmp_path_factory):
    """The index of a sharded checkpoint, to be written over."""
    return write_shards(tmp_path_factory.mktemp("mutations"), random_tensors(SMALLEST))


@given(
    content=st.dictionaries(st.sampled_from([*WHOLE]), shards).map(
        lambda changes: {"weight_map": WHOLE | changes}
    )
    | anything.map(lambda value: {"weight_map": value})
    | anything
)
@example(content={"weight_map": WHOLE})
@example(content={"weight_map": {"wte.weight": "model.safetensors.index.json"}})
def test_any_index_is_read_or_refused(content, index):
    index.write_text(json.dumps(content))
    try:
        checkpoint = read_checkpoint(index)
    except ValueError as error:
        is_told = str(error).startswith(str(index.parent)) and "\n" not in str(error)
    else:
        is_told = checkpoint.sizes["n_layer"] == 1
    assert is_told
