"""Files that are on this machine already, wherever they lie."""

from pathlib import Path

import pytest
from conftest import Answer
from remote import CONTENT, DOWN, SPOILED, place, remote, sha256

from experiments.system import known_files
from experiments.system.downloads import DownloadError, fetch, fetch_all
from gpt_download import CHECKPOINTS, hub_file

pytestmark = pytest.mark.usefixtures("quick_and_alone")

# ------------------------------------------------------------------------ what is here already


@pytest.mark.parametrize("name", ["file", "file.tsv"])
def test_a_file_in_its_folder_is_used_without_a_request(name, server, folder):
    here = place(folder / name)
    assert fetch(remote(server.serve("file", Answer(CONTENT))), folder) == here
    assert server.asked == []


@pytest.mark.parametrize("name", ["file", "file.tsv"])
def test_a_file_with_another_digest_is_refused_and_stays(name, server, folder):
    here = place(folder / name, SPOILED)
    with pytest.raises(ValueError, match=f"{sha256(SPOILED)}, expected {sha256(CONTENT)}"):
        fetch(remote(server.serve("file", Answer(CONTENT))), folder)
    assert here.read_bytes() == SPOILED
    assert server.asked == []


def test_offline_nothing_is_asked_for(server, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=f"HF_HUB_OFFLINE.*Save.*{folder / 'file'}"):
        fetch(remote(server.serve("file", Answer(CONTENT))), folder)
    assert server.asked == []


def test_offline_a_file_in_its_folder_is_used(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    here = place(folder / "file")
    assert fetch(remote(DOWN), folder) == here


@pytest.mark.parametrize("name", ["models--someone--model", "models--model", "models--a--a-model"])
@pytest.mark.parametrize(
    "cached_name",
    [f"blobs/{sha256(CONTENT)}", "snapshots/revision/weights", "snapshots/other/weights"],
)
def test_a_file_in_the_hubs_cache_is_used_in_place(
    name, cached_name, tmp_path, folder, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached = place(tmp_path / "hub" / name / cached_name)
    file = hub_file("someone/model", "revision", "weights", sha256(CONTENT))
    assert fetch(file, folder) == cached
    assert not folder.exists()


def test_of_several_revisions_in_the_hubs_cache_the_right_one_is_used(tmp_path, folder):
    place(tmp_path / "hub/models--someone--model/snapshots/1/weights", SPOILED)
    place(tmp_path / "hub/models--someone--model/snapshots/2/weights", b"short")
    cached = place(tmp_path / "hub/models--model/snapshots/3/weights")
    file = hub_file("someone/model", "revision", "weights", sha256(CONTENT), len(CONTENT))
    assert fetch(file, folder) == cached


@pytest.mark.parametrize("size", CHECKPOINTS)
def test_the_weights_in_the_hubs_cache_are_found_under_the_short_name(size, tmp_path):
    repository, revision, sha, _ = CHECKPOINTS[size]
    names = {repository.replace("/", "--"), repository.partition("/")[2]}
    cached = {
        place(tmp_path / "hub" / f"models--{name}" / "snapshots" / "any" / "model.safetensors")
        for name in names
    }
    assert cached <= set(hub_file(repository, revision, "model.safetensors", sha).copies)


def test_a_copy_of_another_size_is_not_read(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(known_files, "known_sha256", lambda *_: 1 / 0)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError):
        fetch(remote(DOWN, copies=(place(tmp_path / "copy", b"short"),)), folder)


def test_a_corrupt_file_in_the_hubs_cache_is_passed_over(server, tmp_path, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.serve("someone/model/resolve/revision/weights", Answer(CONTENT))
    cached = place(tmp_path / "hub/models--someone--model/snapshots/revision/weights", SPOILED)
    fetched = fetch(hub_file("someone/model", "revision", "weights", sha256(CONTENT)), folder)
    assert fetched == folder / "weights"
    assert fetched.read_bytes() == CONTENT
    assert cached.read_bytes() == SPOILED


def test_a_cache_that_may_not_be_looked_into_is_passed_over(server, folder, monkeypatch):
    def refuse(path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", refuse)
    file = remote(server.serve("file", Answer(CONTENT)), copies=(Path("locked"),))
    assert fetch(file, folder).read_bytes() == CONTENT


def test_offline_one_message_names_all_that_is_missing(server, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place(folder / "file")
    needed = [(remote(DOWN), tmp_path / name) for name in ("one", "folder", "two")]
    with pytest.raises(DownloadError) as raised:
        fetch_all(needed)
    first, second = str(raised.value).splitlines()
    assert first.startswith(f"HF_HUB_OFFLINE forbids downloads. Save the file at {DOWN} as ")
    assert f"as {tmp_path / 'one' / 'file'} " in first
    assert f"as {tmp_path / 'two' / 'file'} " in second


def test_without_a_network_one_message_names_all_that_is_missing(server, tmp_path):
    needed = [(remote(DOWN), tmp_path / name) for name in ("one", "two", "three")]
    with pytest.raises(DownloadError) as raised:
        fetch_all(needed)
    for name in ("one", "two", "three"):
        assert str(raised.value).count(f"as {tmp_path / name / 'file'} ") == 1


def test_what_can_be_had_is_kept_when_the_next_file_cannot(server, tmp_path):
    address = server.serve("file", Answer(CONTENT))
    with pytest.raises(DownloadError):
        fetch_all([(remote(address), tmp_path / "one"), (remote(DOWN), tmp_path / "two")])
    assert (tmp_path / "one" / "file").read_bytes() == CONTENT


def test_wrong_files_are_told_before_anything_is_downloaded(server, tmp_path):
    place(tmp_path / "two" / "file", SPOILED)
    address = server.serve("file", Answer(CONTENT))
    with pytest.raises(ValueError, match="is not the expected file"):
        fetch_all([(remote(address), tmp_path / name) for name in ("one", "two")])
    assert server.asked == []
