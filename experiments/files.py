"""Files on the disk: digests, and writing whole or not at all.

write_whole(Path("results/record.json"), content)
check_digest(path, expected_sha256)
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path: Path, expected: str) -> None:
    """Raises ValueError unless the file has the expected SHA-256."""
    if (actual := sha256_of(path)) != expected:
        raise ValueError(f"{path} is not the expected file: SHA-256 {actual}, expected {expected}")


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, whatever happens meanwhile; errors name it."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets an error of the system name the file, which it leaves out when a write fails."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_file(path: Path, text: str) -> None:
    """Writes a file whole or not at all, but a device or a link, such as /dev/stdout, as it is."""
    is_file = path.is_file() and not path.is_symlink()
    if is_file or not path.exists():
        write_whole(path, text.encode())
    else:
        path.write_text(text, encoding="utf-8")
