"""Files that are known by their SHA-256: where on this machine they lie, and how to place them.

path = find(RemoteFile(names=("model.safetensors",), sha256=..., addresses=(...)), folder)
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.system.verified import check_digest, known_sha256

LARGEST = 1 << 34  # bytes of a file of unknown size
ZIP_OVERHEAD = 1 << 20  # bytes that a zip may add to the member that is wanted


@dataclass(frozen=True)
class RemoteFile:
    """A file that is known by its digest, wherever it comes from."""

    names: tuple[str, ...]  # under which it may lie in its folder; it is saved under the first
    sha256: str
    addresses: tuple[str, ...]  # tried in this order
    size: int | None = None  # bytes, where known
    zip_member: str | None = None  # set where the addresses serve a zip that holds the file
    copies: tuple[Path, ...] = ()  # where else on this machine it may lie

    @property
    def served_size(self) -> int | None:
        """Bytes that an address sends, where known."""
        return None if self.zip_member else self.size

    @property
    def largest_size(self) -> int:
        """Bytes after which what an address sends can no longer be the file."""
        if self.size is None:
            return LARGEST
        return self.size + ZIP_OVERHEAD if self.zip_member else self.size


Needed = tuple[RemoteFile, Path]  # a file, and its folder


def find(file: RemoteFile, folder: Path, verify: bool = False) -> Path | None:
    """Returns where on this machine the file lies already, or None.

    Args:
        file: what to look for.
        folder: where it is looked for first.
        verify: computes its digest even if that is remembered.

    Raises:
        ValueError: when a file of that name with another digest lies in the folder.
    """
    for path in (folder / name for name in file.names):
        if path.is_file():
            check_digest(path, file.sha256, verify)
            return path
    for path in file.copies:
        with suppress(OSError):  # another user's
            if not path.is_file() or file.size not in (None, path.stat().st_size):
                continue
            if known_sha256(path, verify) == file.sha256:
                return path
    return None


def how_to_place(file: RemoteFile, folder: Path) -> str:
    """Returns the way out for whoever cannot download."""
    what = f"the member {file.zip_member} of the zip at" if file.zip_member else "the file at"
    where = f"{what} {' or '.join(file.addresses)}"
    return f"Save {where} as {folder / file.names[0]} (SHA-256 {file.sha256})."
