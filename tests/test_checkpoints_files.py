"""What `--weights` takes: a file, a folder, shards; and hints for everything else."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import ANY_JSON, SMALLEST, random_tensors, write_checkpoint, write_shards
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import assert_same_function, oracle_of, read_or_refused, refusal_of, settings_of
from remote import place
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from experiments.checkpoints.header import read_checkpoint
from experiments.config.parsing import parse_args

INDEX = "model.safetensors.index.json"


@pytest.mark.usefixtures("float64")
def test_a_sharded_checkpoint_is_read_if_no_shard_is_missing(tmp_path, monkeypatch):
    oracle, folder = oracle_of(GPT2LMHeadModel, n_head=4), tmp_path / "mine"
    oracle.save_pretrained(folder, max_shard_size="200KB")
    monkeypatch.chdir(folder)
    assert len(read_checkpoint(folder).files) > 2
    for path in (".", "../mine", INDEX, folder):
        assert settings_of(path).weights.description == "checkpoint mine"
        assert_same_function(oracle, path)
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    for path in (folder, folder / INDEX):
        message = str(refusal_of(path))
        assert f'{folder / INDEX}: the shard "{shard.name}", with "' in message
        assert " is missing from its folder: download it as well" in message


def test_one_shard_by_itself_and_a_tensor_in_two_shards_are_recognised(tmp_path):
    tensors = random_tensors(SMALLEST)
    index = write_shards(tmp_path, tensors)
    for shard in sorted(tmp_path.glob("*.safetensors")):
        hint = "; this is one shard: give the path of its folder"
        assert str(refusal_of(shard)).endswith(hint)
    assert not str(refusal_of(shutil.copy(shard, tmp_path / "other.safetensors"))).endswith(hint)
    save_file({"wte.weight": tensors["wte.weight"]} | load_file(shard), shard)
    assert "are the same tensor, expected it once" in str(refusal_of(index))


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
    content = {"model_state_dict": tensors, "epoch": 1} if form == "book" else tensors
    if form == "sharded":
        files = {name: f"pytorch_model-{i % 2}.bin" for i, name in enumerate(tensors)}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
        content, other = ({n: tensors[n] for n in files if files[n][-5] == i} for i in "01")
        torch.save(other, folder / "pytorch_model-1.bin")
    torch.save(content, folder / file, _use_new_zipfile_serialization=form != "legacy")
    torch.save({}, folder / "optimizer.pt")
    with pytest.raises(SystemExit):
        parse_args(["--weights", str(folder / given)])
    error, *lines = capsys.readouterr().err.splitlines()
    what = "and others are PyTorch pickles" if form == "sharded" else "is a PyTorch pickle"
    assert f"{folder / file} {what}" in error
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


@pytest.mark.parametrize("is_zip", [True, False])
def test_nothing_in_a_pickle_is_run(is_zip, tmp_path):
    path, trap = tmp_path / "model.bin", tmp_path / "trap"
    torch.save({"a": Trap(trap)}, path, _use_new_zipfile_serialization=is_zip)
    for named in (path, tmp_path):
        assert "PyTorch pickle" in str(refusal_of(named))
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists()


ZEROS = bytes(50)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 548105171\n" % ZEROS
A_FILE, A_FOLDER = "is not a safetensors file but ", "contains no .safetensors file but "
SAME = "use the model.safetensors of the same model"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", LFS, A_FILE + "a Git LFS pointer: run `git lfs pull` in its folder"),
        ("model.safetensors", b"\n<!doctype html>", A_FILE + "a web page: download the f"),
        ("model.gguf", b"GGUF\3" + ZEROS,
         A_FILE + f"a GGUF file, with rounded and renamed weights: {SAME}"),
        ("model.gguf", b"", A_FILE + "empty"),
        ("tf.h5", b"\x89HDF\r\n\x1a\n" + ZEROS, A_FILE + f"an HDF5 file of TensorFlow: {SAME}"),
        ("tf.h5", ZEROS, A_FILE + f"a TensorFlow file: {SAME}"),
        ("model.ckpt.data-00000-of-00001", ZEROS, A_FILE + f"a TensorFlow file: {SAME}"),
        ("flax_model.msgpack", b"\x84\xab" + ZEROS, A_FILE + f"a Flax file: {SAME}"),
        ("model.zip", b"PK\3\4" + ZEROS, A_FILE + "a zip file: unpack it"),
        ("config.json", b'{"n_head": 12}', A_FILE + "a JSON file: give the path of its folder"),
        ("a.safetensors", b"\x80\x06" + ZEROS, "is not a safetensors file ("),
        ("adapter_model.bin", b"\x80\2", "contains an adapter such as LoRA's (adapter_model.bin)"),
        # files of a folder, which is given
        ("model.gguf /", b"some", A_FOLDER + f"a GGUF file: {SAME}"),
        ("model.ckpt.index /", b"some", A_FOLDER + f"a TensorFlow file: {SAME}"),
        ("a.pth b.pth /", b"some", A_FOLDER + "PyTorch pickles: give the path of the model's"),
        ("a.pth b.pth pytorch_model.bin /", b"some", "/pytorch_model.bin is a PyTorch pickle"),
        ("a.safetensors b.safetensors /", b"some",
         "contains a.safetensors, b.safetensors: give the path of one of them, or, if they are sh"),
        ("adapter_config.json adapter_model.bin /", b"some",
         "contains an adapter such as LoRA's (adapter_config.json)"),
        ("README.md /", b"some", "no checkpoint, expected model.safetensors or its .index.json"),
        ("optimizer.pt /", b"some", "contains no checkpoint, expected"),
        ("snapshots/a/b /", b"some", "is a cache: give the path of a folder in its snapshots"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_of_this_format_is_recognised(name, content, message, tmp_path):
    *names, given = (tmp_path / each for each in name.split())
    for path in names if name.endswith("/") else [given]:
        place(path, content)
    assert message in str(refusal_of(tmp_path if name.endswith("/") else given))


NAMES = [*random_tensors(SMALLEST)]
WHOLE = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(NAMES)}
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
    path = write_checkpoint(tmp_path / "model.safetensors", SMALLEST)
    gpt2 = {"!": 0, "Ġthe": 262, "Ġto": 284, "Hello": 15496}
    for vocabulary in (gpt2, {"Ġder": 0, "Ġdie": 1}):
        content = {"model": {"vocab": vocabulary}} if name == "tokenizer.json" else vocabulary
        (tmp_path / name).write_text(json.dumps(content))
        if vocabulary is gpt2:
            assert read_checkpoint(path)
    assert f"{name} is not GPT-2's tokenizer" in str(refusal_of(path))
