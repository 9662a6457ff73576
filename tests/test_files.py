"""Files that are written whole or not at all, and digests that are remembered until a change."""

import errno
import os
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from remote import CONTENT, SPOILED, names_in, place, sha256, start_python

from experiments.system import files
from experiments.system.files import check_digest, sha256_of, write_file, write_whole

TEXT = b"ham\tHello\nspam\tWINNER\n"

# ------------------------------------------------------------------------------------- writing


def test_a_file_is_written_and_nothing_next_to_it(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (CONTENT, b"", SPOILED):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert names_in(path.parent) == {"file"}


def test_a_link_is_written_through(tmp_path):
    file, link = place(tmp_path / "file"), tmp_path / "link"
    link.symlink_to(file)
    write_file(link, "text")
    assert link.is_symlink()
    assert file.read_text() == "text"


def test_a_write_that_fails_names_the_file_and_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = place(tmp_path / "sub" / "file", b"earlier")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=full))
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_whole(path, CONTENT)
    assert path.read_bytes() == b"earlier"
    assert names_in(path.parent) == {"file"}


@pytest.mark.process
def test_a_file_is_whole_when_its_writer_is_killed(tmp_path):
    script = (
        "import pathlib, sys\n"
        "from experiments.system.files import write_whole\n"
        "for byte in range(1_000_000):\n"
        "    write_whole(pathlib.Path(sys.argv[1]), bytes([byte % 256]) * 5_000_000)\n"
        "    print(byte, flush=True)\n"
    )
    path = tmp_path / "file"
    for moment in (0, 0.015, 0.11):
        process = start_python(script, path)
        process.stdout.readline()
        time.sleep(moment)
        process.kill()
        process.communicate()
        content = path.read_bytes()
        assert content == content[:1] * 5_000_000


# ------------------------------------------------------------------------------------- digests


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Treats each file as large and long unchanged; returns the list of those that are read.

    `forget` makes the process a new one.
    """
    paths, compute = [], files._compute_sha256
    monkeypatch.setattr(files, "LARGE", 0)
    monkeypatch.setattr(files, "TICK", -(10**12))
    monkeypatch.setattr(files, "_verified", {})
    monkeypatch.setattr(files, "_compute_sha256", lambda path: paths.append(path) or compute(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return paths


def forget():
    files._verified.clear()


@pytest.fixture
def file(tmp_path):
    return place(tmp_path / "file")


def notes(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_file_that_has_not_changed_is_read_once(read, file):
    for _ in range(3):
        assert sha256_of(file) == sha256(CONTENT)
        forget()
    assert read == [file]


def test_verify_reads_a_file_once_in_each_process(read, file):
    for _ in range(3):
        check_digest(file, sha256(CONTENT), verify=True)
    assert read == [file]
    forget()
    check_digest(file, sha256(CONTENT), verify=True)
    assert read == [file] * 2


def rewritten(file, status):
    file.write_bytes(SPOILED)  # as long, in the same inode
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def rewritten_under_its_old_date(file, status):
    file.write_bytes(SPOILED)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    while file.stat().st_ctime_ns == status.st_ctime_ns:  # a clock may tick slowly
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns


def replaced(file, status):
    other = place(file.with_name("other"), SPOILED)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


def longer(file, _):
    file.write_bytes(CONTENT + b"more")


@pytest.mark.parametrize("change", [rewritten, rewritten_under_its_old_date, replaced, longer])
def test_a_file_that_changed_in_any_way_is_read_again(change, read, file):
    check_digest(file, sha256(CONTENT))
    change(file, file.stat())
    with pytest.raises(ValueError, match="is not the expected file"):
        check_digest(file, sha256(CONTENT))
    assert read == [file] * 2


def test_the_same_file_under_another_path_is_read_for_itself(read, file):
    other = file.with_name("other")
    other.hardlink_to(file)
    sha256_of(file)
    sha256_of(other)
    assert read == [file, other]


def test_without_a_home_folder_no_note_is_written_to_the_working_folder(
    read, file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", Mock(side_effect=RuntimeError("no home")))
    sha256_of(file)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("change", ["a moment ago", "while it is read"])
def test_the_digest_of_a_file_that_just_changed_is_not_remembered(
    change, read, file, tmp_path, monkeypatch
):
    compute = files._compute_sha256
    if change == "a moment ago":
        monkeypatch.setattr(files, "TICK", 10**12)
    else:
        monkeypatch.setattr(
            files, "_compute_sha256", lambda path: (compute(path), longer(path, 0))[0]
        )
    sha256_of(file)
    assert not notes(tmp_path)
    assert not files._verified


@pytest.mark.parametrize("damage", [b"", b"0" * 63, b"no digest"])
def test_a_damaged_note_is_written_again(damage, read, file, tmp_path):
    sha256_of(file)
    (note,) = notes(tmp_path)
    whole = note.read_bytes()
    note.write_bytes(damage)
    forget()
    assert sha256_of(file) == sha256(CONTENT)
    assert note.read_bytes() == whole == f"{sha256(CONTENT)}  {file}\n".encode()


def test_if_no_note_can_be_written_each_process_reads_the_file(read, file, monkeypatch):
    refuse = Mock(side_effect=OSError(errno.EROFS, "Read-only file system"))
    monkeypatch.setattr(files, "write_whole", refuse)
    for _ in range(2):
        assert sha256_of(file) == sha256(CONTENT)
        forget()
    assert read == [file] * 2


def test_small_files_are_read_each_time_and_leave_no_note(read, file, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", len(CONTENT))
    for _ in range(2):
        sha256_of(file)
    assert read == [file] * 2
    assert not notes(tmp_path)


def test_reading_a_large_file_shows_progress(read, file, capsys):
    sha256_of(file)
    assert capsys.readouterr().out == "Checking file: 10.0kB\n"


@pytest.mark.parametrize(("more", "words"), [(b"", "Windows line endings"), (b"x", "not the")])
def test_a_copy_with_windows_line_endings_is_named_as_that(more, words, tmp_path):
    path = place(tmp_path / "messages", TEXT.replace(b"\n", b"\r\n") + more)
    with pytest.raises(ValueError, match=words):
        check_digest(path, sha256(TEXT))
