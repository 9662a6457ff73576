"""Files that were verified: the digest of a large one is remembered until the file changes.

    check_digest(path, expected_sha256)

What was found is noted in the user's cache, under the file's path, size, inode, and nanoseconds of
change. Where that cannot be written to, every file is read every time.
"""

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from experiments.system.files import LARGE, sha256_of, user_cache, write_whole

TICK = 100_000_000  # nanoseconds; of two changes within one, the second may show in no time stamp
LARGEST_TEXT = 1 << 24  # bytes of a file whose line ends are looked at


def known_sha256(path: Path, verify: bool = False) -> str:
    """Returns a file's SHA-256; a large file is read only if it changed since it was noted.

    Args:
        path: of the file.
        verify: reads it in any case.
    """
    status = path.stat()
    if status.st_size <= LARGE:
        return sha256_of(path)
    note = note_of(path, status)
    if not verify and (noted := read_note(note)):
        return noted
    began = time.time_ns()
    digest = sha256_of(path)
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    is_settled = changed < began - TICK and note == note_of(path, path.stat())
    if is_settled and note.is_absolute():  # it is not where the user has no home
        with suppress(OSError):  # a cache that cannot be written to costs time, and nothing else
            write_whole(note, f"{digest}  {path}\n".encode(errors="surrogateescape"))
    return digest


def note_of(path: Path, status: os.stat_result) -> Path:
    """Returns where the digest of a file in this state is noted."""
    state = (
        str(path.resolve()),
        status.st_size,
        status.st_dev,
        status.st_ino,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    name = hashlib.sha256(repr(state).encode(errors="surrogateescape")).hexdigest()
    return user_cache() / "gpt2_spam_classifier" / "verified" / name


def read_note(note: Path) -> str | None:
    """Returns the digest of a note, or None where there is none."""
    try:
        found = re.match(rb"([0-9a-f]{64})  ", note.read_bytes())
    except OSError:
        return None
    return found[1].decode() if found else None


def check_digest(path: Path, expected: str, verify: bool = False) -> None:
    """Raises ValueError unless the file has the expected SHA-256; `verify` reads it in any case."""
    if (actual := known_sha256(path, verify)) == expected:
        return
    if has_windows_line_ends(path, expected):
        convert = (
            f"from pathlib import Path; path = Path({str(path)!r}); "
            r"path.write_bytes(path.read_bytes().replace(b'\r\n', b'\n'))"
        )
        raise ValueError(
            rf"{path} is the expected file, but with the line ends of Windows, \r\n (SHA-256 "
            f"{actual}, expected {expected}): delete it, and it is made or downloaded again, or "
            f'convert it: python -c "{convert}"'
        )
    raise ValueError(f"{path} is not the expected file: SHA-256 {actual}, expected {expected}")


def has_windows_line_ends(path: Path, expected: str) -> bool:
    """Says whether a file has the expected SHA-256 once its lines end in `\\n`."""
    if path.stat().st_size > LARGEST_TEXT:
        return False
    content = path.read_bytes().replace(b"\r\n", b"\n")
    return hashlib.sha256(content).hexdigest() == expected
