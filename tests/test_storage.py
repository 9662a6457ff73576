"""Files of activations: what they depend on, whole files or none, and room on the disk."""

import errno
import os
from collections import namedtuple
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from designs import classifier
from torch import nn

from experiments.shortcuts import storage
from experiments.shortcuts.model import OptimizedClassifier
from experiments.shortcuts.storage import load_or_compute, prefix_key, temporary_values

EXPECTED = torch.arange(120.0).view(30, 4)


def load(folder, name="a", values=EXPECTED):
    """Loads a file, and returns how often it had to be computed."""
    calls = []
    path, compute = folder / f"{name}.npy", lambda x: calls.append(x.copy_(values)) or 12.5
    found, seconds, is_reused = load_or_compute(path, values.shape, values.dtype, compute)
    assert torch.equal(found, values)
    assert (seconds, is_reused) == (12.5, not calls)
    found.zero_()  # does not reach the file
    return len(calls)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_file_is_computed_once(dtype, tmp_path):
    folder = tmp_path / "new"
    assert [load(folder, values=EXPECTED.to(dtype)) for _ in range(3)] == [1, 0, 0]
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["a.npy", "a.npy.lock", "a.sha256"]
    for suffix in ("npy", "sha256"):  # renamed, it is another one
        (folder / f"a.{suffix}").replace(folder / f"b.{suffix}")
    assert load(folder, "b", EXPECTED.to(dtype)) == 1


@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        ("npy", lambda content: content[:-10]),
        ("npy", lambda content: content[:-50] + b"x" + content[-49:]),
        ("npy", lambda content: content[:20] + b"x" + content[21:]),  # the header
        ("sha256", lambda content: content + b"1"),  # the seconds
        ("sha256", lambda content: b"\xff\xfe"),
        ("sha256", None),
        ("npy", None),
    ],
)
def test_a_damaged_file_is_computed_again(suffix, change, tmp_path):
    load(tmp_path)
    path = tmp_path / f"a.{suffix}"
    content = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(content))
    assert [load(tmp_path) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("moment", [(storage, "_digest_of"), (Path, "replace")], ids=str)
def test_an_interrupted_run_leaves_nothing_that_is_reused(moment, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(*moment, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load(tmp_path)
    assert not (tmp_path / "a.npy").exists()
    assert [load(tmp_path) for _ in range(2)] == [1, 0]
    assert not list(tmp_path.glob("*.part"))


def test_the_key_depends_on_all_that_activations_depend_on(monkeypatch):
    def set_positions(model, weight):
        model.pos_emb.weight = nn.Parameter(weight, requires_grad=False)

    changes = [
        lambda model: None,
        lambda model: model.trf_blocks[1].att.W_key.bias.data.add_(1e-3),
        lambda model: model.tok_emb.weight.data.add_(1e-3),
        lambda model: model.pos_emb.weight.data.add_(1e-3),
        lambda model: set_positions(model, model.pos_emb.weight.view(torch.int32)),  # same bytes
        lambda model: set_positions(model, model.pos_emb.weight.view(-1, 16)),
        lambda model: setattr(model, "depth", 1),
        lambda model: setattr(model, "dtype", torch.bfloat16),
        lambda model: setattr(model.trf_blocks[0].att, "num_heads", 2),
        lambda model: setattr(model.trf_blocks[0].att, "disable_causal_mask", True),
    ]
    examples, keys = [torch.tensor([1, 2]), torch.tensor([3])], []
    model = OptimizedClassifier(classifier(), is_cached=True)
    for change in changes:
        other = deepcopy(model)
        change(other)
        keys.append(prefix_key(other, examples, ""))
    assert prefix_key(model, examples, "") == keys[0]
    others = [[torch.tensor([1]), torch.tensor([2, 3])], [torch.tensor([1, 2]), torch.tensor([4])]]
    keys += [prefix_key(model, each, "") for each in others]
    keys.append(prefix_key(model, examples, "other kernels"))
    monkeypatch.setattr(torch, "__version__", "0")
    keys.append(prefix_key(model, examples, ""))
    monkeypatch.setattr(storage, "sha256_of", lambda path: path.name)
    keys.append(prefix_key(model, examples, ""))
    assert len(set(keys)) == len(keys) == len(changes) + 5


# ------------------------------------------------------------------------------- room on the disk


def test_a_full_disk_is_reported_with_the_file_or_the_folder(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", fail, raising=False)
    with pytest.raises(OSError, match="No space left on device") as error:
        load(tmp_path)
    assert error.value.filename == str(tmp_path / "a.part")
    with pytest.raises(OSError, match="No space left on device for 8 MiB of activations") as error:
        temporary_values((2**18, 8), torch.float32)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path))
    assert "name another folder by TMPDIR or --cache_dir" in str(error.value)


@pytest.mark.parametrize("can_reserve", [True, False])
def test_a_file_has_its_room_before_it_is_written(can_reserve, monkeypatch, tmp_path):
    if not can_reserve:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(storage, "CHUNK", 4096)
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"head")
        storage._reserve(file, 4, 10_000)
    assert (tmp_path / "file").read_bytes() == b"head" + bytes(10_000)
    if hasattr(os.stat_result, "st_blocks"):
        assert (tmp_path / "file").stat().st_blocks * 512 >= 10_000
    assert load(tmp_path) == 1


def test_a_temporary_file_has_no_name_and_is_not_in_memory(monkeypatch, tmp_path):
    first, large = tmp_path / "tmp", tmp_path / "large"
    first.mkdir()
    large.mkdir()
    Mount = namedtuple("Mount", "mountpoint fstype")
    mounts, rest = [], [Mount("/", "tmpfs"), Mount(str(tmp_path), "ext4")]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts if all else [])
    monkeypatch.setattr("tempfile.tempdir", str(first))
    monkeypatch.setattr(storage, "LARGE_FILES", large)
    for kinds, folder in (("", first), ("ext4", first), ("ext4 tmpfs", large), ("ramfs", large)):
        mounts[:] = [*rest, *(Mount(str(first), kind) for kind in kinds.split())]
        values, found = temporary_values((3, 2), torch.bfloat16)
        assert (values.shape, values.dtype, found) == ((3, 2), torch.bfloat16, folder)
        assert not [*first.iterdir(), *large.iterdir()]
    large.rmdir()
    with pytest.raises(OSError, match=r"tmp is in memory.*TMPDIR or --cache_dir"):
        temporary_values((3, 2), torch.bfloat16)
    mounts.clear()
    assert temporary_values((3, 2), torch.bfloat16)[1] == first
