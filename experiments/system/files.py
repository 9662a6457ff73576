"""Files: writing them whole or not at all, their SHA-256, and where caches are.

    write_whole(Path("results/record.json"), content)
    check_digest(path, expected_sha256)

The digest of a large file is remembered until the file changes, here and in the user's cache.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from experiments.system.terminal import progress

LARGE = 100_000_000  # bytes; the digest of a larger file takes seconds
TICK = 100_000_000  # nanoseconds; the second of two changes within one may not change the times
_verified: dict[Path, str] = {}  # digests that this process has computed, by the path of their note

# ---------------------------------------------------------------------------------------- writing


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; errors name it."""
    with open_whole(path) as file:
        file.write(content)


@contextmanager
def open_whole(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` when it is complete; errors name `path`."""
    unfinished = _unfinished(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def write_or_rescue(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a path; if that fails, with one in a temporary folder, and print where.

    Raises:
        OSError: if the file could not be written to its own path.
    """
    try:
        write(path)
    except OSError:
        with suppress(OSError):  # the first error is the one to report
            rescued = Path(tempfile.mkdtemp(prefix="gpt2_spam_classifier_")) / path.name
            write(rescued)
            print(f"{path} could not be written. Saved instead: {rescued}", file=sys.stderr)
        raise


def write_file(path: Path, text: str) -> None:
    """Write a file completely or not at all, or write to a device or link such as /dev/stdout."""
    if not path.exists() or (path.is_file() and not path.is_symlink()):
        write_whole(path, text.encode())
    else:
        path.write_text(text, encoding="utf-8")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of the file to errors of the system, which lack it when a write fails."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def check_writable(folder: Path) -> None:
    """Create a folder if need be; raise OSError if it cannot be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def check_file_writable(path: Path, size: int) -> None:
    """Create a file's folder if need be; raise OSError if the file cannot be written there."""
    with naming(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        unfinished = _unfinished(path)
        unfinished.touch(exist_ok=False)
        unfinished.unlink()


# ---------------------------------------------------------------------------------------- digests


def sha256_of(path: Path, verify: bool = False) -> str:
    """Return the hexadecimal SHA-256 of a file; a large one is read only after a change.

    With `verify`, it is read even if its digest is in the user's cache, once in a process.
    """
    status = path.stat()
    if status.st_size <= LARGE:
        return _compute_sha256(path)
    note = _note_of(path, status)
    if digest := _verified.get(note) or (None if verify else _read_note(note)):
        return digest
    settled = max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - TICK
    digest = _compute_sha256(path)
    if settled and note == _note_of(path, path.stat()):
        _verified[note] = digest
        with suppress(OSError):  # without a cache, each process reads the file
            if note.is_absolute():
                write_whole(note, f"{digest}  {path}\n".encode(errors="surrogateescape"))
    return digest


def check_digest(path: Path, expected: str, verify: bool = False) -> None:
    """Raise ValueError if a file has another SHA-256 than expected; `verify` as in `sha256_of`."""
    if (actual := sha256_of(path, verify)) == expected:
        return
    content = path.read_bytes() if path.stat().st_size <= LARGE else b""
    is_windows = hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == expected
    problem = "is the expected file, but with Windows line endings"
    problem = problem if is_windows else "is not the expected file"
    raise ValueError(f"{path} {problem}: SHA-256 {actual}, expected {expected}; move or delete it")


def _compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= LARGE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        with progress(f"Checking {path.name}", size, "B") as bar:
            while piece := file.read(1 << 20):
                digest.update(piece)
                bar.update(len(piece))
    return digest.hexdigest()


def _note_of(path: Path, status: os.stat_result) -> Path:
    """Return where the digest of a file in this state is noted."""
    place = str(path.resolve()), status.st_size, status.st_dev, status.st_ino
    state = *place, status.st_mtime_ns, status.st_ctime_ns
    name = hashlib.sha256(repr(state).encode(errors="surrogateescape")).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    with suppress(RuntimeError):  # without a home folder, the path stays relative
        cache = cache.expanduser()
    return cache / "gpt2_spam_classifier" / "verified" / name


def _read_note(note: Path) -> str | None:
    with suppress(OSError):
        if found := re.match(rb"([0-9a-f]{64})  ", note.read_bytes()):
            return found[1].decode()
    return None


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Yield whether a lock file could be locked; without `wait`, another process may have it.

    On a file system without locks, a note is printed, and nothing is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, is_locked = FileLock(path), True
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        is_locked = False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        note = f"Note: {path.parent} allows no locks ({error.strerror}): run one process at a time"
        print(note, file=sys.stderr)
    try:
        yield is_locked
    finally:
        lock.release()
