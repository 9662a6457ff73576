"""Digests that are remembered until the file changes."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from remote import CONTENT, SPOILED, place, remote, sha256

from experiments.system import files, verified
from experiments.system.downloads import fetch
from experiments.system.verified import check_digest, known_sha256, note_of

TEXT = b"ham\tHello\nspam\tWINNER\n"


@pytest.fixture
def read_counted(monkeypatch, tmp_path):
    """Treats every file as large and long unchanged; returns the list of those that are read."""
    read, sha256_of = [], verified.sha256_of
    monkeypatch.setattr(verified, "LARGE", 0)
    monkeypatch.setattr(verified, "TICK", -(10**12))
    monkeypatch.setattr(verified, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return read


@pytest.fixture
def file(tmp_path):
    return place(tmp_path / "file")


def notes(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_file_that_has_not_changed_is_read_once(read_counted, file):
    assert [known_sha256(file) for _ in range(3)] == [sha256(CONTENT)] * 3
    assert read_counted == [file]


def test_verify_reads_it_all_the_same(read_counted, file):
    for _ in range(3):
        check_digest(file, sha256(CONTENT), verify=True)
    assert read_counted == [file] * 3


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
def test_a_file_that_changed_in_any_way_is_read_again(change, read_counted, file):
    check_digest(file, sha256(CONTENT))
    change(file, file.stat())
    with pytest.raises(ValueError, match="is not the expected file"):
        check_digest(file, sha256(CONTENT))
    assert read_counted == [file] * 2


@pytest.mark.parametrize("field", ["st_size", "st_dev", "st_ino", "st_mtime_ns", "st_ctime_ns"])
def test_a_note_is_of_one_state_of_a_file(field, file):
    state = {name: getattr(file.stat(), name) for name in dir(file.stat()) if name[:3] == "st_"}
    other = state | {field: state[field] + 1}
    assert note_of(file, SimpleNamespace(**state)) == note_of(file, file.stat())
    assert note_of(file, SimpleNamespace(**other)) != note_of(file, file.stat())


def test_the_same_file_under_another_path_is_read_for_itself(read_counted, file):
    other = file.with_name("other")
    other.hardlink_to(file)
    known_sha256(file)
    known_sha256(other)
    assert read_counted == [file, other]


def test_without_a_home_no_note_is_left_in_the_working_folder(
    read_counted, file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verified, "user_cache", lambda: Path("~/.cache"))
    known_sha256(file)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["folder/file", "copy"])
@pytest.mark.parametrize("verify", [False, True])
def test_verify_reads_every_file_that_is_found(name, verify, read_counted, tmp_path):
    path = place(tmp_path / name)
    file = remote("https://127.0.0.1:1/file", copies=(tmp_path / "copy",))
    for _ in range(2):
        assert fetch(file, tmp_path / "folder", verify) == path
    assert len(read_counted) == (2 if verify else 1)


def test_a_file_that_changed_a_moment_ago_is_not_noted(read_counted, file, tmp_path, monkeypatch):
    monkeypatch.setattr(verified, "TICK", 10**12)
    known_sha256(file)
    assert not notes(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_not_noted(
    read_counted, file, tmp_path, monkeypatch
):
    sha256_of = verified.sha256_of
    monkeypatch.setattr(verified, "sha256_of", lambda path: (sha256_of(path), longer(path, 0))[0])
    known_sha256(file)
    assert not notes(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"0" * 63, b"no digest"])
def test_a_note_that_is_damaged_is_made_anew(damage, read_counted, file, tmp_path):
    known_sha256(file)
    (note,) = notes(tmp_path)
    whole = note.read_bytes()
    note.write_bytes(damage)
    assert known_sha256(file) == sha256(CONTENT)
    assert note.read_bytes() == whole == f"{sha256(CONTENT)}  {file}\n".encode()


def test_where_no_note_can_be_written_files_are_read_each_time(read_counted, file, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(verified, "write_whole", refuse)
    assert [known_sha256(file) for _ in range(2)] == [sha256(CONTENT)] * 2
    assert read_counted == [file] * 2


def test_small_files_are_read_each_time_and_leave_no_note(
    read_counted, file, tmp_path, monkeypatch
):
    monkeypatch.setattr(verified, "LARGE", len(CONTENT))
    for _ in range(2):
        known_sha256(file)
    assert read_counted == [file] * 2
    assert not notes(tmp_path)


def test_a_large_file_shows_how_far_its_digest_is(file, capsys, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 0)
    assert files.sha256_of(file) == sha256(CONTENT)
    assert capsys.readouterr().out == "Checking file: 10.0kB\n"


# -------------------------------------------------------------------------------------- line ends


def test_a_copy_with_windows_line_ends_is_told_as_that_and_the_way_out_works(tmp_path):
    path = place(tmp_path / "a folder" / "messages", TEXT.replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=r"with the line ends of Windows, \\r\\n") as raised:
        check_digest(path, sha256(TEXT))
    command = str(raised.value).partition("python -c ")[2].strip('"')
    subprocess.run([sys.executable, "-c", command], check=True)
    check_digest(path, sha256(TEXT))


def test_other_content_with_windows_line_ends_is_another_file(tmp_path):
    path = place(tmp_path / "messages", TEXT.replace(b"\n", b"\r\n") + b"more")
    with pytest.raises(ValueError, match="is not the expected file"):
        check_digest(path, sha256(TEXT))
