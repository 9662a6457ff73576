"""Downloads of published files, each identified by its SHA-256.

    path = fetch(hub_file("openai-community/gpt2", revision, "vocab.json", sha256), folder)

A file that is on this machine is used, and a download gets its name once its digest is checked.
Zips are transferred by pooch, files of the Hugging Face hub by its `http_get`: an interrupted
`hf_hub_download` deletes what it has; here the next run resumes.
"""

import logging
import os
import re
import tempfile
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from experiments.system.files import check_digest, naming, sha256_of
from experiments.system.progress import progress

TIMEOUT = (10, 30)  # seconds, to connect to the address of a zip and without data from it
_HINTS = {  # a pattern in the reason of a failure
    "CERTIFICATE_VERIFY_FAILED": "REQUESTS_CA_BUNDLE or SSL_CERT_FILE names trusted certificates",
    r"\b401\b": "HF_TOKEN identifies you at the hub: set it, or unset one that has expired",
    r"\b403\b": "HTTPS_PROXY names a proxy, NO_PROXY hosts to request without it",
    r"\b407\b": "HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT identifies you at the proxy",
    r"\b429\b": "wait some minutes",
    "codec can't encode": "HF_TOKEN, or the file of the token, has characters that no token has",
}


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

    hub = "https://huggingface.co"
    endpoint = os.environ.get("HF_ENDPOINT", "").strip() or hub
    if not re.match("https?://[^/]", endpoint):
        raise ValueError(f"HF_ENDPOINT must be an address such as {hub}, got {_hide(endpoint)!r}")
    address = f"{endpoint.rstrip('/')}/{repository}/resolve/{revision}/{name}"
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

    folder.mkdir(parents=True, exist_ok=True)
    destination = folder / file.names[0]
    download = _download_member if file.zip_member else _download_from_hub
    lines = [f"{destination} could not be downloaded:"]
    with FileLock(f"{destination}.lock"):
        if found := find(file, folder):  # another process has downloaded it
            return found
        _set_certificates()
        for address in file.addresses:
            try:
                with naming(destination):
                    download(file, address, destination)
                return destination
            except (OSError, ValueError, httpx2.HTTPError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the disk, not of the address
                lines.append(f"  {_hide(address)}: {_describe(error)}")
    mirror = [] if file.zip_member else ["HF_ENDPOINT can name a mirror of the hub."]
    raise DownloadError("\n".join([*lines, *mirror, how_to_place(file, folder)]))


def _download_member(file: RemoteFile, address: str, destination: Path) -> None:
    """Download a zip, and extract the file from it."""
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    print(f"Downloading {destination.name}")
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".download-") as folder:
        try:
            (path,) = pooch.retrieve(
                address,
                known_hash=None,  # of the zip; the file itself is verified below
                path=folder,
                fname="zip",
                processor=pooch.Unzip(members=[file.zip_member]),
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
            )
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
            raise ValueError(f"serves no zip with {file.zip_member}: {error}") from error
        if (actual := sha256_of(Path(path))) != file.sha256:
            raise ValueError(f"serves a file of SHA-256 {actual}, expected {file.sha256}")
        Path(path).replace(destination)


def _download_from_hub(file: RemoteFile, address: str, destination: Path) -> None:
    """Download a file of the hub, or complete what an interrupted download has left."""
    part = destination.with_name(f"{destination.name}.part")
    is_resumed = part.exists()
    try:
        _complete(part, address, file.size)
    except ValueError:
        part.unlink(missing_ok=True)
        raise
    if (actual := sha256_of(part)) == file.sha256:
        part.replace(destination)
        return
    part.unlink()
    if not is_resumed:  # else what was left may have been wrong: start again
        raise ValueError(f"serves a file of SHA-256 {actual}, expected {file.sha256}")
    _download_from_hub(file, address, destination)


def _complete(part: Path, address: str, size: int | None) -> None:
    """Append to a part of a file what it lacks; raise ValueError on a file of another size."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    logging.getLogger("huggingface_hub.file_download").setLevel(logging.ERROR)  # of retries
    logging.getLogger("huggingface_hub.utils._http").addFilter(_hide_in_log)
    headers = {"Accept-Encoding": "identity"}
    if token := _token():
        headers["Authorization"] = f"Bearer {token}"
    options = {"headers": headers, "expected_size": size, "displayed_filename": part.stem}
    done = part.stat().st_size if part.exists() else 0
    bar = progress(f"Downloading {part.stem}", size, "B", done)
    with naming(part), part.open("ab") as out, bar as shown:
        try:
            http_get(address, out, resume_size=done, _tqdm_bar=shown, **options)
        except HfHubHTTPError as error:
            if error.response.status_code != 416:  # it has all bytes, or too many
                raise
        except OSError as error:
            if error.errno is not None:
                raise
            raise ValueError(f"{error}".partition("\n")[0]) from error


def _token() -> str | None:
    from huggingface_hub import constants, get_token

    with suppress(OSError):  # another user's file; published files need no token
        return None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return None


def _set_certificates() -> None:
    """Let both libraries trust the certificates that the first of four variables names.

    requests, which pooch uses, knows the first two, httpx2, which huggingface_hub uses, the others.
    """
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    if name := next(filter(os.environ.get, names), None):
        path = os.environ[name]
        if not Path(path).exists():
            raise ValueError(f"{name} names {path}, which does not exist: correct or unset it")
        os.environ["REQUESTS_CA_BUNDLE"] = path
        os.environ["SSL_CERT_DIR" if Path(path).is_dir() else "SSL_CERT_FILE"] = path


def _describe(error: Exception) -> str:
    """Return why an address failed and a hint, in one line."""
    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    if (response := getattr(error, "response", None)) is not None:
        reason = f"HTTP status {response.status_code}"
    hints = [hint for pattern, hint in _HINTS.items() if re.search(pattern, reason)]
    return "; ".join([textwrap.shorten(_hide(reason), 300, placeholder=" ..."), *hints])


def _hide(text: str) -> str:
    """Return a text without the token, and without names and passwords in addresses."""
    return re.sub(r"[^\s/'\"=]+@", "***@", text.replace(_token() or "\0", "***"))


def _hide_in_log(record: logging.LogRecord) -> bool:
    record.msg, record.args = _hide(record.getMessage()), ()
    return True
