"""From addresses to verified files: downloads that are checked, resumed, and locked.

    path = fetch(RemoteFile(names=("model.safetensors",), sha256=..., addresses=(...)), folder)

Every file is known by its SHA-256. One that is already here is used once its digest is right; else
it is downloaded beside its place, checked, and only then renamed, so that a file under its final
name is whole. A download that was cut off goes on where it stopped. Every address but a mirror of
the hub that the user names has to be https.
"""

import hashlib
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests
from filelock import FileLock
from urllib3.exceptions import HTTPError

from experiments.system.files import naming, sha256_of, write_whole
from experiments.system.hub import offline_variable
from experiments.system.known_files import Needed, RemoteFile, find, how_to_place
from experiments.system.progress import progress
from experiments.system.sessions import hint_at, open_session

TIMEOUT = (10, 30)  # seconds: to connect, and between two pieces of the answer
PATIENCE = 30  # seconds in which an address has to bring the bytes below
PIECE = 1 << 16  # bytes; an address is given up when a request brings less

# ------------------------------------------------------------------------- what there is to fetch


class DownloadError(OSError):
    """A file cannot be had; the message says why, and how to place all that is missing by hand."""


def fetch(file: RemoteFile, folder: Path, verify: bool = False) -> Path:
    """Returns where the verified file lies: in its folder, or as a copy elsewhere on this machine.

    Args:
        file: what to fetch.
        folder: where it is looked for first, and where a download goes.
        verify: computes the digest of what is here even if it is remembered.

    Raises:
        ValueError: when a file of that name with another digest lies in the folder. It stays.
        DownloadError: when no address gives the file, or the user forbids to ask.
    """
    return fetch_all([(file, folder)], verify)[0]


def fetch_all(needed: Sequence[Needed], verify: bool = False) -> list[Path]:
    """Returns where each of some files lies, as `fetch` does; one error names all that is missing.

    They are looked for before the first is downloaded. When one cannot be had, the next ones are
    not asked for.
    """
    paths = [find(file, folder, verify) for file, folder in needed]
    missing = [number for number, path in enumerate(paths) if path is None]
    by_hand = [how_to_place(*needed[number]) for number in missing]
    if missing and (forbids := offline_variable()):
        raise DownloadError(f"{forbids} forbids downloads. " + "\n".join(by_hand))
    for done, number in enumerate(missing, start=1):
        try:
            paths[number] = fetch_missing(*needed[number])
        except DownloadError as error:
            rest = ["Missing besides:", *by_hand[done:]] if by_hand[done:] else []
            raise DownloadError("\n".join([str(error), *rest])) from error
    return paths


def fetch_missing(file: RemoteFile, folder: Path) -> Path:
    """Returns where a file lies after its download; of two processes, one waits for the other."""
    folder.mkdir(parents=True, exist_ok=True)
    destination = folder / file.names[0]
    with FileLock(f"{destination}.lock"):
        if (found := find(file, folder)) is not None:  # another process was faster
            return found
        download(file, destination)
    return destination


# -------------------------------------------------------------------------------------- downloads


def download(file: RemoteFile, destination: Path) -> None:
    """Downloads from the first address that serves the file; names them all when none does."""
    part = destination.with_name(destination.name + ".part")
    reasons = []
    with open_session() as session:
        for address in file.addresses:
            try:
                return obtain(session, file, address, part, destination)
            except (requests.RequestException, ValueError) as error:
                reasons.append(f"  {address}: {error}{hint_at(error, address)}")
    problem = f"{destination} could not be downloaded:"
    raise DownloadError("\n".join([problem, *reasons, how_to_place(file, destination.parent)]))


def obtain(
    session: requests.Session, file: RemoteFile, address: str, part: Path, destination: Path
) -> None:
    """Completes `part` from one address, checks it, and moves it to its place."""
    resumed = part.exists()
    receive(session, file, address, part)
    try:
        install(file, part, destination)
    except ValueError:
        if not resumed:
            raise
        receive(session, file, address, part)  # the old part was at fault: from the start
        install(file, part, destination)


def receive(session: requests.Session, file: RemoteFile, address: str, part: Path) -> None:
    """Appends to `part` what is missing of a file, in as many requests as it takes.

    Raises:
        requests.RequestException: when a request fails and has brought less than a piece.
        ValueError: when the address serves a web page, or something of another size.
        OSError: when it cannot be written.
    """
    while True:
        before = size_of(part)
        try:
            return receive_rest(session, file, address, part)
        except requests.RequestException:
            if size_of(part) < before + PIECE:
                raise


def receive_rest(session: requests.Session, file: RemoteFile, address: str, part: Path) -> None:
    """Makes one request for all that `part` does not hold yet."""
    start, size = size_of(part), file.served_size
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with session.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else size
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/html") or (size is not None and total != size):
            raise ValueError(
                f"serves {total} bytes of {kind or 'unknown type'}, expected {size or 'a file'}"
            )
        bar = progress(f"Downloading {part.stem}", total, "B", done=start)
        with naming(part), part.open("ab" if start else "wb") as out, bar as shown:
            for piece in pieces(response):
                out.write(piece)
                shown.update(len(piece))
                if out.tell() > file.largest_size:
                    raise ValueError(f"serves more than {file.largest_size} bytes")


def pieces(response: requests.Response) -> Iterator[bytes]:
    """Yields what an address sends, as it comes.

    Raises:
        requests.Timeout: when it comes too slowly to ever end.
        requests.ConnectionError: when it ends too early.
    """
    began, received = time.monotonic(), 0
    try:
        while piece := response.raw.read1(PIECE):
            yield piece
            received += len(piece)
            if time.monotonic() > began + PATIENCE:
                if received < PIECE:
                    raise requests.Timeout(f"brought only {received} bytes in {PATIENCE} seconds")
                began, received = time.monotonic(), 0
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


def size_of(path: Path) -> int:
    """Returns a file's bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def install(file: RemoteFile, part: Path, destination: Path) -> None:
    """Moves a finished download to its place if it is the expected file, and removes it if not.

    Raises:
        ValueError: when its digest is another.
    """
    try:
        if file.zip_member is None:
            if (actual := sha256_of(part)) != file.sha256:
                raise ValueError(f"serves a file of SHA-256 {actual}, expected {file.sha256}")
            part.replace(destination)
            return
        content = read_member(part, file.zip_member, file.size)
        if (actual := hashlib.sha256(content).hexdigest()) != file.sha256:
            member = f"the zip's {file.zip_member}"
            raise ValueError(f"{member} has SHA-256 {actual}, expected {file.sha256}")
    except ValueError:
        part.unlink()
        raise
    write_whole(destination, content)
    part.unlink()


def read_member(archive: Path, member: str, size: int) -> bytes:
    """Returns one member of a zip, and never more than one byte beyond its known size.

    Raises:
        ValueError: when the file is no zip or has no such member.
    """
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as content:
            return content.read(size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError) as error:
        raise ValueError(f"no zip with a member {member}: {error}") from error
