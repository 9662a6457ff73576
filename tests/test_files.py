"""Files that are written whole or not at all, and digests that are remembered until a change."""

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
from remote import CONTENT, SPOILED, names_in, place, sha256

from experiments.system import files
from experiments.system.files import check_digest, sha256_of, write_file, write_whole

TEXT = b"ham\tHello\nspam\tWINNER\n"

# ------------------------------------------------------------------------------------- writing


def test_a_file_is_written_and_nothing_next_to_it_and_a_link_is_written_through(tmp_path):
    path, link = tmp_path / "new" / "file", tmp_path / "link"
    for content in (CONTENT, b"", SPOILED):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert names_in(path.parent) == {"file"}
    link.symlink_to(path)
    write_file(link, "text")
    assert link.is_symlink()
    assert path.read_text() == "text"


def test_a_write_that_fails_names_the_file_and_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = place(tmp_path / "sub" / "file", b"earlier")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=full))
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_whole(path, CONTENT)
    assert path.read_bytes() == b"earlier"
    assert names_in(path.parent) == {"file"}


# ------------------------------------------------------------------------------------- digests


@pytest.fixture
def file(tmp_path):
    return place(tmp_path / "file")


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Treats each file as large and long unchanged; returns the list of those that are read."""
    paths, compute = [], files._compute_sha256
    monkeypatch.setattr(files, "LARGE", 0)
    monkeypatch.setattr(files, "TICK", -(10**12))
    monkeypatch.setattr(files, "_verified", {})
    monkeypatch.setattr(files, "_compute_sha256", lambda path: paths.append(path) or compute(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return paths


def in_new_process(file, verify=False):
    files._verified.clear()
    check_digest(file, sha256(CONTENT), verify)


def notes(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_file_that_has_not_changed_is_read_once_or_to_verify_once_in_each_process(read, file):
    for _ in range(2):
        in_new_process(file)
    assert read == [file]
    in_new_process(file, verify=True)
    check_digest(file, sha256(CONTENT), verify=True)
    assert read == [file] * 2
    other = file.with_name("other")
    other.hardlink_to(file)
    in_new_process(other)  # is read for itself
    assert read == [file, file, other]


def lengthen(file):
    file.write_bytes(CONTENT + b"more")


def rewrite_under_the_old_date(file):
    """Write as many bytes into the same inode; only the time of its change differs."""
    old = file.stat()
    file.write_bytes(SPOILED)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    while file.stat().st_ctime_ns == old.st_ctime_ns:  # a clock may tick slowly
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))


@pytest.mark.parametrize("change", [lengthen, rewrite_under_the_old_date])
def test_a_file_that_changed_in_any_way_is_read_again(change, read, file):
    check_digest(file, sha256(CONTENT))
    change(file)
    with pytest.raises(ValueError, match="is not the expected file"):
        check_digest(file, sha256(CONTENT))
    assert read == [file] * 2


def test_without_a_home_folder_no_note_is_written(read, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", Mock(side_effect=RuntimeError("no home")))
    sha256_of(file)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("change", ["a moment ago", "while it is read"])
def test_a_digest_in_flux_is_not_remembered(change, read, file, tmp_path, monkeypatch):
    if change == "a moment ago":
        monkeypatch.setattr(files, "TICK", 10**12)
    else:
        monkeypatch.setattr(files, "_compute_sha256", lambda path: lengthen(path) or "digest")
    sha256_of(file)
    assert not notes(tmp_path)
    assert not files._verified


@pytest.mark.parametrize("damage", [b"", b"0" * 63, b"no digest"])
def test_a_damaged_note_is_written_again(damage, read, file, tmp_path):
    sha256_of(file)
    (note,) = notes(tmp_path)
    note.write_bytes(damage)
    in_new_process(file)
    assert note.read_bytes() == f"{sha256(CONTENT)}  {file}\n".encode()


def test_a_file_without_a_note_or_small_is_read_again(read, file, tmp_path, monkeypatch):
    refuse = Mock(side_effect=OSError(errno.EROFS, "Read-only file system"))
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_whole", refuse)
        in_new_process(file)
    monkeypatch.setattr(files, "LARGE", len(CONTENT))
    for _ in range(2):
        check_digest(file, sha256(CONTENT))
    assert read == [file] * 3
    assert not notes(tmp_path)


def test_reading_a_large_file_shows_progress(read, file, capsys):
    sha256_of(file)
    assert capsys.readouterr().out == "Checking file: 10.0kB\n"


@pytest.mark.parametrize(("more", "words"), [(b"", "Windows line endings"), (b"x", "not the")])
def test_a_copy_with_windows_line_endings_is_named_as_that(more, words, tmp_path):
    path = place(tmp_path / "messages", TEXT.replace(b"\n", b"\r\n") + more)
    with pytest.raises(ValueError, match=words):
        check_digest(path, sha256(TEXT))
