"""A run is claimed while it is made, so that no two workers on one folder make it twice.

    with claim(path) as is_mine:
        if is_mine:
            ...

The claim is a lock on a file beside the records, which the system releases when its owner ends,
however that is; the file stays, and says nothing. Locks reach over a shared folder where its file
system carries them: NFS since Linux 2.6.12 does, and the usual ones of clusters.

Source: the manual page flock(2).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

FOLDER = ".claims"  # beside the records


@contextmanager
def claim(record: Path, waits: bool = False) -> Iterator[bool]:
    """Gives whether a run is this process's to make; others cannot claim it meanwhile.

    Args:
        record: where it leaves its record.
        waits: for another process that has claimed it to end.

    Raises:
        OSError: when the folder cannot be written to.
    """
    folder = record.parent / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{record.stem}.lock")
    try:
        lock.acquire(timeout=-1 if waits else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
