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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from experiments.files import check_digest, naming, sha256_of, write_whole
from experiments.hub import hub_endpoint, is_offline

TIMEOUT = (10, 30)  # seconds: to connect, and between two pieces of the answer
RETRIES = 3
LONGEST_WAIT = 10  # seconds that an address may ask us to wait before a retry
PATIENCE = 30  # seconds in which an address has to bring the bytes below
PIECE = 1 << 16  # bytes; an address is given up when a request brings less
LARGEST = 1 << 34  # bytes of a file of unknown size
ZIP_OVERHEAD = 1 << 20  # bytes that a zip may add to the member that is wanted

# ----------------------------------------------------------------------- what there is to fetch


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


# ------------------------------------------------------------------------------------- downloads


class DownloadError(OSError):
    """No address gave the file; the message says why for each, and how to place it by hand."""


def fetch(file: RemoteFile, folder: Path) -> Path:
    """Returns where the verified file lies: in its folder, or as a copy elsewhere on this machine.

    Args:
        file: what to fetch.
        folder: where it is looked for first, and where a download goes.

    Raises:
        ValueError: when a file of that name with another digest lies in the folder. It stays.
        DownloadError: when no address gives the file, or `HF_HUB_OFFLINE` forbids to ask.
    """
    if (found := find(file, folder)) is not None:
        return found
    if is_offline():
        raise DownloadError(f"HF_HUB_OFFLINE forbids downloads. {how_to_place(file, folder)}")
    folder.mkdir(parents=True, exist_ok=True)
    destination = folder / file.names[0]
    with FileLock(f"{destination}.lock"):
        if (found := find(file, folder)) is not None:  # another process was faster
            return found
        download(file, destination)
    return destination


def find(file: RemoteFile, folder: Path) -> Path | None:
    """Returns where on this machine the file lies already, or None."""
    for path in (folder / name for name in file.names):
        if path.is_file():
            check_digest(path, file.sha256)
            return path
    for path in file.copies:
        with suppress(OSError):  # another user's
            if path.is_file() and sha256_of(path) == file.sha256:
                return path
    return None


def how_to_place(file: RemoteFile, folder: Path) -> str:
    """Returns the way out for whoever cannot download."""
    what = f"the member {file.zip_member} of the zip at" if file.zip_member else "the file at"
    where = f"{what} {' or '.join(file.addresses)}"
    return f"Save {where} as {folder / file.names[0]} (SHA-256 {file.sha256})."


def download(file: RemoteFile, destination: Path) -> None:
    """Downloads from the first address that serves the file; names them all when none does."""
    part = destination.with_name(destination.name + ".part")
    reasons = []
    for address in file.addresses:
        try:
            return obtain(file, address, part, destination)
        except (requests.RequestException, ValueError) as error:
            reasons.append(f"  {address}: {error}")
    problem = f"{destination} could not be downloaded:"
    raise DownloadError("\n".join([problem, *reasons, how_to_place(file, destination.parent)]))


def obtain(file: RemoteFile, address: str, part: Path, destination: Path) -> None:
    """Completes `part` from one address, checks it, and moves it to its place."""
    resumed = part.exists()
    receive(file, address, part)
    try:
        install(file, part, destination)
    except ValueError:
        if not resumed:
            raise
        receive(file, address, part)  # the old part was at fault: from the start
        install(file, part, destination)


class HttpsOnly(HTTPAdapter):
    """Takes the place of what would ask an address that is not https, or is redirected to one."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> NoReturn:
        """Refuses the request."""
        raise requests.exceptions.InvalidSchema(f"{request.url} is not https")


def open_session() -> requests.Session:
    """Returns a session that tries again, over https or to the mirror that the user names."""
    retry = Retry(
        RETRIES,
        backoff_factor=0.5,
        retry_after_max=LONGEST_WAIT,
        status_forcelist=(429, 500, 502, 503, 504),
    )
    session = requests.Session()
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HttpsOnly())
    session.mount(f"{hub_endpoint()}/", HTTPAdapter(max_retries=retry))
    return session


def receive(file: RemoteFile, address: str, part: Path) -> None:
    """Appends to `part` what is missing of a file, in as many requests as it takes.

    Raises:
        requests.RequestException: when a request fails and has brought less than a piece.
        ValueError: when the address serves a web page, or something of another size.
        OSError: when it cannot be written.
    """
    with open_session() as session:
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
        bar = tqdm(
            desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None
        )
        with naming(part), part.open("ab" if start else "wb") as out, bar:
            for piece in pieces(response):
                out.write(piece)
                bar.update(len(piece))
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
            check_digest(part, file.sha256)
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
