"""What `--weights` takes: a file, a folder, shards; and hints for everything else."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from checkpoints import ANY_JSON, SMALLEST, random_tensors, write_checkpoint, write_shards
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import assert_same_function, oracle_of, read_or_refused, refusal_of, settings_of
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from experiments.checkpoints.header import read_checkpoint
from experiments.config.parsing import parse_args

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("given", ["", INDEX])
@pytest.mark.usefixtures("float64")
def test_a_sharded_checkpoint_is_the_same_function(given, tmp_path):
    oracle = oracle_of(GPT2LMHeadModel, n_head=4)
    oracle.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(read_checkpoint(tmp_path / given).files) > 2
    assert_same_function(oracle, tmp_path / given)


@pytest.mark.parametrize("given", ["", INDEX])
def test_a_missing_shard_is_named(given, tmp_path):
    oracle_of().save_pretrained(tmp_path, max_shard_size="200KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    message = str(refusal_of(tmp_path / given))
    assert f'the shard "{shard.name}", with "' in message
    assert "is missing" in message


def test_one_shard_by_itself_is_recognised(tmp_path):
    write_shards(tmp_path, dict(list(random_tensors(SMALLEST).items())[1:]))
    shard = tmp_path / "model-00001-of-00002.safetensors"
    hint = "; this is one shard: give the path of its folder"
    assert str(refusal_of(shard)).endswith(hint)
    assert not str(refusal_of(shard.rename(tmp_path / "other.safetensors"))).endswith(hint)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    tensors = random_tensors(SMALLEST)
    index = write_shards(tmp_path, tensors)
    shard = tmp_path / "model-00001-of-00002.safetensors"
    save_file({"wpe.weight": tensors["wpe.weight"]} | load_file(shard), shard)
    assert "are the same tensor, expected it once" in str(refusal_of(index))


def test_a_checkpoint_has_one_description_for_all_its_paths(tmp_path, monkeypatch):
    oracle_of().save_pretrained(tmp_path / "mine", max_shard_size="200KB")
    monkeypatch.chdir(tmp_path / "mine")
    paths = (".", "../mine", INDEX, tmp_path / "mine")
    assert {settings_of(path).weights.description for path in paths} == {"checkpoint mine"}


def test_of_several_files_in_a_folder_the_usual_one_is_read(tmp_path):
    for other in ("training_args.bin", "optimizer.pt", "pytorch_model.bin", "README.md"):
        (tmp_path / other).write_bytes(b"\x80\x02")
    (tmp_path / "a.safetensors").mkdir()
    path = write_checkpoint(tmp_path / "any.safetensors", SMALLEST)
    assert read_checkpoint(tmp_path).files == [path]
    index = write_shards(tmp_path, random_tensors(SMALLEST))
    assert len(read_checkpoint(tmp_path).files) == 2
    index.rename(tmp_path / f"another.{INDEX}")
    assert len(read_checkpoint(tmp_path).files) == 2
    path = write_checkpoint(tmp_path / "model.safetensors", SMALLEST)
    assert read_checkpoint(tmp_path).files == [path]


# ---------------------------------------------------------------------------------- other formats


@pytest.mark.parametrize(
    ("form", "file", "given"),
    [
        ("zip", "model.pth", "model.pth"),
        ("book", "model.pth", ""),
        ("legacy", "pytorch_model.bin", "pytorch_model.bin"),
        ("zip", "pytorch_model.bin", ""),
        ("zip", "model.safetensors", "model.safetensors"),
        ("sharded", "pytorch_model-0.bin", ""),
    ],
)
@pytest.mark.filterwarnings("ignore:.*unclosed file")
@pytest.mark.usefixtures("float64")
def test_a_pickle_is_refused_with_three_lines_that_convert_it(form, file, given, tmp_path, capsys):
    folder = tmp_path / "it's mine"
    oracle = oracle_of(GPT2LMHeadModel)  # its head is tied
    oracle.config.save_pretrained(folder)
    tensors = oracle.state_dict()
    if form == "sharded":
        files = {name: f"pytorch_model-{i % 2}.bin" for i, name in enumerate(tensors)}
        for shard in set(files.values()):
            torch.save({n: t for n, t in tensors.items() if files[n] == shard}, folder / shard)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    else:
        content = {"model_state_dict": tensors, "epoch": 1} if form == "book" else tensors
        torch.save(content, folder / file, _use_new_zipfile_serialization=form != "legacy")
        torch.save({}, folder / "optimizer.pt")
    error = refusal_of(folder / given)
    what = "and others are PyTorch pickles" if form == "sharded" else "is a PyTorch pickle"
    assert str(error).startswith(f"{folder / file} {what}")
    with pytest.raises(SystemExit):
        parse_args(["--weights", str(folder / given)])
    _, *lines = capsys.readouterr().err.splitlines()
    assert lines == error.__notes__
    assert len(lines) == 3
    exec("\n".join(lines), {})  # noqa: S102 (as the reader does)
    (converted,) = folder.glob("*.converted.safetensors")
    assert converted.name.startswith("model." if form == "sharded" else f"{Path(file).stem}.")
    assert_same_function(oracle, converted)


class Trap:
    """Writes a file when it is unpickled."""

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
        torch.save({"a": Trap(trap)}, path, _use_new_zipfile_serialization=form == "zip")
    for named in (path, tmp_path):
        assert "PyTorch pickle" in str(refusal_of(named))
    assert not trap.exists()
    torch.load(path, weights_only=False) if form != "plain" else pickle.loads(path.read_bytes())
    assert trap.exists()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 548105171\n" % (b"0" * 64)
ZEROS = bytes(50)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", LFS, "is not a safetensors file but a Git LFS pointer: run `git l"),
        ("model.gguf", b"GGUF\3" + ZEROS, "file but a GGUF file, with rounded and renamed weights"),
        ("tf.h5", b"\x89HDF\r\n\x1a\n" + ZEROS, "HDF5 file of TensorFlow: use the model.safetens"),
        ("tf.h5", ZEROS, "file but a TensorFlow file: use the model.safetensors of the same model"),
        ("adapter_model.bin", b"\x80\2", "contains an adapter such as LoRA's (adapter_model.bi"),
        ("model.ckpt.data-00000-of-00001", ZEROS, "file but a TensorFlow file: use the model.safe"),
        ("flax_model.msgpack", b"\x84\xab" + ZEROS, "file but a Flax file: use the model.safetens"),
        ("model.safetensors", b"\n<!doctype html>", "file but a web page: download the file itse"),
        ("model.zip", b"PK\3\4" + ZEROS, "file but a zip file: unpack it"),
        ("config.json", b'{"n_head": 12}', "file but a JSON file: give the path of its folder"),
        ("model.gguf", b"", "file but empty"),
        ("a.safetensors", b"\x80\x06" + ZEROS, "is not a safetensors file ("),
    ],
)
def test_a_file_of_another_format_is_recognised(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert message in str(refusal_of(tmp_path / name))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("model.gguf", "contains no .safetensors file but a GGUF file: use the model.safetensors"),
        ("model.ckpt.index", "contains no .safetensors file but a TensorFlow file: use the model."),
        ("a.pth b.pth", "contains no .safetensors file but PyTorch pickles: give the path of the "),
        ("a.pth b.pth pytorch_model.bin", "pytorch_model.bin is a PyTorch pickle, which can run "),
        ("a.safetensors b.safetensors", "contains a.safetensors, b.safetensors: give the path of"),
        ("adapter_config.json adapter_model.bin", "an adapter such as LoRA's (adapter_config.js"),
        ("README.md", "contains no checkpoint, expected model.safetensors or its .index.json"),
        ("optimizer.pt", "contains no checkpoint"),
        ("snapshots/a/b", "is a cache: give the path of a folder in its snapshots"),
    ],
)
def test_a_folder_without_a_checkpoint_is_refused_with_a_hint(names, message, tmp_path):
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"some")
    assert message in str(refusal_of(tmp_path))


WHOLE = {
    name: f"model-0000{i % 2 + 1}-of-00002.safetensors"
    for i, name in enumerate(random_tensors(SMALLEST))
}
shards = ANY_JSON | st.sampled_from([*WHOLE.values(), "../a", "a" * 300, "\0", "\ud800"])


@pytest.fixture(scope="session")
def index(tmp_path_factory):
    """The index of a sharded checkpoint, which tests overwrite."""
    return write_shards(tmp_path_factory.mktemp("mutations"), random_tensors(SMALLEST))


@given(
    content=st.dictionaries(st.sampled_from([*WHOLE]), shards).map(
        lambda changes: {"weight_map": WHOLE | changes}
    )
    | ANY_JSON.map(lambda value: {"weight_map": value})
    | ANY_JSON
)
@example(content={"weight_map": WHOLE})
@example(content={"weight_map": {}})
@example(content={"weight_map": {"wte.weight": "model.safetensors.index.json"}})
def test_any_index_is_read_or_refused_in_one_sentence(content, index):
    index.write_text(json.dumps(content))
    checkpoint = read_or_refused(read_checkpoint, index, index.parent)
    assert checkpoint is None or checkpoint.sizes["n_layer"] == 1


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer.json"])
def test_a_tokenizer_that_is_not_gpt2s_is_refused(name, tmp_path):
    gpt2 = {"!": 0, "Ġthe": 262, "Ġto": 284, "Hello": 15496}
    path = write_checkpoint(tmp_path / "model.safetensors", SMALLEST)
    for vocabulary, is_gpt2 in ((gpt2, True), ({"Ġder": 0, "Ġdie": 1}, False)):
        content = {"model": {"vocab": vocabulary}} if name == "tokenizer.json" else vocabulary
        (tmp_path / name).write_text(json.dumps(content))
        if is_gpt2:
            assert read_checkpoint(path)
        else:
            with pytest.raises(ValueError, match=f"{name} is not GPT-2's tokenizer"):
                read_checkpoint(path)
