"""Downloads of published files, each identified by its SHA-256.

    path = fetch(hub_file("openai-community/gpt2", revision, "vocab.json", sha256), folder)

A file that is on this machine is used, and a download gets its name once its digest is checked.
Downloads use httpx2, as huggingface_hub does, but not `http_get` or `hf_hub_download`: these read
the bodies of redirects and errors without a limit, wait for headers without a deadline, and delete
what an interrupted download has; here the next run resumes.
"""

import base64
import os
import re
import ssl
import struct
import textwrap
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote

from experiments.system.files import check_digest, locked, naming, sha256_of
from experiments.system.terminal import progress

if TYPE_CHECKING:
    import httpx2
    from tqdm import tqdm

TIMEOUT = 30  # seconds, to connect and without data
START = 60  # seconds in which the body begins, with all redirects and tries
TRIES, PAUSE = 5, 1  # in a row without data, and the seconds between them
MAX_REDIRECTS = 10
_HINTS = {  # a pattern in the reason of a failure
    "CERTIFICATE_VERIFY_FAILED": "REQUESTS_CA_BUNDLE or SSL_CERT_FILE names trusted certificates",
    r"\b401\b": "HF_TOKEN identifies you at the hub: set it, or unset one that has expired",
    r"\b403\b": "HTTPS_PROXY names a proxy, NO_PROXY hosts to request without it",
    r"\b407\b": "HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT identifies you at the proxy",
    r"\b429\b": "wait some minutes",
    "codec can't encode": "HF_TOKEN, or the file of the token, has characters that no token has",
}
_NO_ZIP = (  # RuntimeError: encrypted, or an unknown method
    zipfile.BadZipFile, zlib.error, LZMAError, struct.error, EOFError, KeyError, RuntimeError,
    OSError,
)  # fmt: skip
_HUB = "https://huggingface.co"


class DownloadError(OSError):
    """A file cannot be downloaded; the message says why, and how to place it by hand."""


@dataclass(frozen=True)
class RemoteFile:
    """A published file."""

    names: tuple[str, ...]  # that it may have in its folder; it is saved under the first
    sha256: str
    addresses: tuple[str, ...]  # tried in this order
    size: int | None = None  # bytes, if known
    zip_member: str | None = None  # if the addresses serve a zip that contains the file
    copies: tuple[Path, ...] = ()  # where else on this machine it may be


def hub_file(
    repository: str, revision: str, name: str, sha256: str, size: int | None = None
) -> RemoteFile:
    """Return a file of the Hugging Face hub, or of the mirror that `HF_ENDPOINT` names.

    Copies in the hub's cache count under any revision and any owner of the repository.
    """
    from huggingface_hub import constants

    endpoint = _endpoint()
    if not re.match("https?://[^/]", endpoint):
        raise ValueError(f"HF_ENDPOINT must be an address such as {_HUB}, got {_hide(endpoint)!r}")
    address = f"{endpoint}/{repository}/resolve/{revision}/{name}"
    cache, model = Path(constants.HF_HUB_CACHE), repository.rpartition("/")[2]
    blobs = cache.glob(f"models--*/blobs/{sha256}")
    files = cache.glob(f"models--*{model}/snapshots/*/{name}")
    return RemoteFile((name,), sha256, (address,), size, copies=(*sorted(blobs), *sorted(files)))


# --------------------------------------------------------------------------- files of this machine


def find(file: RemoteFile, folder: Path, verify: bool = False) -> Path | None:
    """Return where on this machine a file is, or None; `verify` as in `sha256_of`.

    Raises:
        ValueError: if the folder has another file of that name.
    """
    for path in (folder / name for name in file.names):
        if path.is_file():
            check_digest(path, file.sha256, verify)
            return path
    for path in file.copies:
        with suppress(OSError):  # another user's
            is_candidate = path.is_file() and file.size in (None, path.stat().st_size)
            if is_candidate and sha256_of(path, verify) == file.sha256:
                return path
    return None


def how_to_place(file: RemoteFile, folder: Path) -> str:
    """Return how to place a file by hand, in one sentence."""
    what = f"the member {file.zip_member} of the zip at" if file.zip_member else "the file at"
    where = _hide(" or ".join(file.addresses))
    return f"Save {what} {where} as {folder / file.names[0]} (SHA-256 {file.sha256})."


def offline_variable() -> str | None:
    """Return the environment variable by which the user forbids downloads, or None."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # the first that is set counts
    name = next((name for name in names if os.environ.get(name)), None)
    return name if name and os.environ[name].upper() in ("1", "ON", "YES", "TRUE") else None


@contextmanager
def naming_missing(missing: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Name all missing files in the error of a `with` in which one cannot be downloaded.

    `missing` returns how to place each file that is not on this machine.
    """
    if (sentences := missing()) and (variable := offline_variable()):
        raise DownloadError(f"{variable} forbids downloads. " + "\n".join(sentences))
    try:
        yield
    except DownloadError as error:
        others = [sentence for sentence in missing() if sentence not in str(error)]
        raise DownloadError("\n".join([str(error), *others])) from error


# --------------------------------------------------------------------------------------- downloads


def fetch(file: RemoteFile, folder: Path, verify: bool = False) -> Path:
    """Return where a verified file is; one of several processes downloads it if it is missing.

    Raises:
        ValueError: if the folder has another file of that name, which is not changed.
        DownloadError: if no address serves the file, or downloads are forbidden.
    """
    if found := find(file, folder, verify):
        return found
    if variable := offline_variable():
        raise DownloadError(f"{variable} forbids downloads. {how_to_place(file, folder)}")
    import httpx2

    destination = folder / file.names[0]
    lines = [f"{destination} could not be downloaded:"]
    with locked(Path(f"{destination}.lock")):
        if found := find(file, folder):  # another process has downloaded it
            return found
        _certificates()  # a wrong variable is no fault of an address
        for address in file.addresses:
            try:
                _download(file, address, destination)
                return destination
            except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the disk, not of the address
                lines.append(f"  {_hide(address)}: {_describe(error)}")
    mirror = [] if file.zip_member else ["HF_ENDPOINT can name a mirror of the hub."]
    raise DownloadError("\n".join([*lines, *mirror, how_to_place(file, folder)]))


def _download(file: RemoteFile, address: str, destination: Path) -> None:
    """Download a file, or complete what an interrupted download has left."""
    part = destination.with_name(f"{destination.name}.part")
    size = None if file.zip_member else file.size
    done = part.stat().st_size if part.exists() else 0
    if file.zip_member or (size is not None and done > size):
        part.unlink(missing_ok=True)  # another address may serve another zip
        done = 0
    bar = progress(f"Downloading {destination.name}", size, "B", done)
    try:
        with naming(part), part.open("ab") as out, bar as shown:
            _transfer(file, address, out, shown)
        if file.zip_member:
            _extract(file, part)
        if (actual := sha256_of(part)) == file.sha256:
            part.replace(destination)
            return
        if not done:  # else what was left may have been wrong: start again
            raise ValueError(f"serves a file of SHA-256 {actual}, expected {file.sha256}")
    except ValueError:
        part.unlink(missing_ok=True)
        raise
    finally:
        if file.zip_member:
            part.unlink(missing_ok=True)
    part.unlink()
    _download(file, address, destination)


def _extract(file: RemoteFile, archive: Path) -> None:
    """Replace a zip by its member; raise ValueError if it has none that can be read."""
    try:
        with zipfile.ZipFile(archive) as zipped, zipped.open(file.zip_member) as member:
            content = member.read(file.size and file.size + 1)  # more is another file
    except _NO_ZIP as error:
        raise ValueError(f"serves no zip with {file.zip_member}: {error}") from error
    archive.write_bytes(content)


def _transfer(file: RemoteFile, address: str, out: BinaryIO, bar: "tqdm") -> None:
    """Append to a file what it lacks, after each lost connection too; ValueError if too long."""
    import httpx2

    temporary = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError,
                 RuntimeError)  # of a client that `watch` has closed  # fmt: skip
    token, size = (None, None) if file.zip_member else (_token(), file.size)
    tries, until, most = TRIES, time.monotonic() + START, out.tell()
    while size is None or out.tell() < size:
        done = out.tell()
        try:
            with _body(address, token, done, until) as response:
                _append(response, out, size, bar)
            break
        except temporary as error:
            out.flush()
            if out.tell() > most:
                tries, until, most = TRIES, time.monotonic() + START, out.tell()
            if time.monotonic() > until:
                raise httpx2.ReadTimeout(f"sent no file within {START} seconds") from error
            if tries == 1 or (isinstance(error, httpx2.ConnectError) and not out.tell()):
                raise
            tries -= 1
            time.sleep(PAUSE)
    if size is not None and out.tell() != size:
        raise ValueError(f"serves {out.tell():,} bytes, expected {size:,}")


def _append(response: "httpx2.Response", out: BinaryIO, size: int | None, bar: "tqdm") -> None:
    if response.status_code == 416:  # the file has all bytes, or too many
        return
    if response.status_code == 200 and (done := out.tell()):  # the server sends all of it again
        bar.update(-done)
        out.seek(0)
        out.truncate()
    for piece in response.iter_bytes():
        out.write(piece)
        bar.update(len(piece))
        if size is not None and out.tell() > size:
            raise ValueError(f"serves more than the expected {size:,} bytes")


@contextmanager
def _body(address: str, token: str | None, done: int, until: float) -> Iterator["httpx2.Response"]:
    """Yield an answer whose body begins before a time; no other body is read, a redirect's neither.

    The token is sent to addresses below the hub's, or the mirror's, only.
    """
    import httpx2

    endpoint, url = httpx2.URL(_endpoint()), httpx2.URL(address)
    client = httpx2.Client(timeout=TIMEOUT, verify=_certificates())
    watch = Timer(max(0, until - time.monotonic()), client.close)  # which ends slow headers
    watch.daemon = True
    watch.start()
    try:
        for _ in range(MAX_REDIRECTS):
            headers = {"Accept-Encoding": "identity", "Range": f"bytes={done}-"}
            if not done:
                del headers["Range"]
            if not _is_below(url, endpoint):
                url = url.copy_with(userinfo=b"") if str(url) != address else url
            elif token:
                headers["Authorization"] = f"Bearer {token}"
            response = client.send(client.build_request("GET", url, headers=headers), stream=True)
            if not response.has_redirect_location:
                break
            response.close()
            url = url.join(response.headers["Location"])
        else:
            raise httpx2.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")
        if response.status_code != 416 or not done:
            response.raise_for_status()
        watch.cancel()
        yield response
    finally:
        watch.cancel()
        client.close()


def _is_below(url: "httpx2.URL", endpoint: "httpx2.URL") -> bool:
    path = unquote(url.path).replace("\\", "/")
    is_same = (url.scheme, url.host, url.port) == (endpoint.scheme, endpoint.host, endpoint.port)
    return is_same and path.startswith(f"{endpoint.path.rstrip('/')}/") and "/.." not in path


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT", "").strip() or _HUB).rstrip("/")


def _token() -> str | None:
    from huggingface_hub import constants, get_token

    with suppress(OSError):  # another user's file; published files need no token
        return None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return None


def _certificates() -> ssl.SSLContext | bool:
    """Return the certificates that the first of four variables names, or True for the default."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    if not (name := next(filter(os.environ.get, names), None)):
        return True
    path = Path(os.environ[name])
    if not path.exists():
        raise ValueError(f"{name} names {path}, which does not exist: correct or unset it")
    return ssl.create_default_context(**{"capath" if path.is_dir() else "cafile": str(path)})


def _describe(error: Exception) -> str:
    """Return why an address failed and a hint, in one line."""
    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    if (response := getattr(error, "response", None)) is not None:
        reason = f"HTTP status {response.status_code}"
    hints = [hint for pattern, hint in _HINTS.items() if re.search(pattern, reason)]
    return "; ".join([textwrap.shorten(_hide(reason), 300, placeholder=" ..."), *hints])


def _hide(text: str) -> str:
    """Return a text without the token, and without names and passwords in addresses."""
    secrets = {_token() or ""}
    for name, address in os.environ.items():
        if name == "HF_ENDPOINT" or name.upper().endswith("_PROXY"):
            login = address.rpartition("@")[0].rpartition("//")[2]
            for each in (login, unquote(login)):
                encoded = base64.b64encode(each.encode(errors="replace")).decode()
                secrets |= {each, each.partition(":")[2], encoded}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"(?<=//)[^\s'\"]*@|[^\s/'\"=]+@", "***@", text)
