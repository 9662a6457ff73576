"""Files on the disk: digests, writing whole or not at all, and where caches lie.

write_whole(Path("results/record.json"), content)
sha256_of(path)
"""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.system.progress import progress

LARGE = 100_000_000  # bytes; the digest of a larger file takes seconds


def sha256_of(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file's bytes, and shows how far it is in a large one."""
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


def expanded(path: str) -> Path:
    """Returns a path with the user's home in place of `~`, where the user has one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # has none
        return Path(path)


def user_cache() -> Path:
    """Returns the folder where programs keep what they can make again."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def check_writable(folder: Path) -> None:
    """Makes a folder if need be; raises OSError where it cannot be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
