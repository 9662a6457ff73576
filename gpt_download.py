"""From addresses to verified files: GPT-2's weights, its tokenizer, and the SMS Spam Collection.

    settings, params = download_and_load_gpt2("124M", models_dir="gpt2")
    tokenizer = load_gpt2_tokenizer(models_dir="gpt2")
    path = fetch(SMS_SPAM_COLLECTION, Path("sms_spam_collection"))

Every file is known by its SHA-256. One that is already here is used once its digest is right; else
it is downloaded beside its place, checked, and only then renamed, so that a file under its final
name is whole. A download that was cut off goes on where it stopped.

From the environment, as with Hugging Face's own tools: `HF_ENDPOINT` names a mirror of the hub,
the only address that need not be https; `HF_HUB_OFFLINE=1` forbids downloads; `HF_HUB_CACHE` or
`HF_HOME` say where the hub's cache lies, whose files are used as well.

Sources: the checkpoints and the tokenizer are those of huggingface.co/openai-community (GPT-2,
Radford et al. 2019); the messages are UCI's (Almeida & Hidalgo 2011, doi 10.24432/C5CC84).
"""

import hashlib
import os
import secrets
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import requests
import tiktoken
from filelock import FileLock
from requests.adapters import HTTPAdapter
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from gpt_checkpoint import load_gpt2_checkpoint

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


def hub_file(
    repository: str, revision: str, name: str, sha256: str, size: int | None = None
) -> RemoteFile:
    """Returns a file of the Hugging Face hub, of its mirror, or of its cache on this machine."""
    endpoint = hub_endpoint()
    cache = hub_cache() / f"models--{repository.replace('/', '--')}"
    return RemoteFile(
        names=(name,),
        sha256=sha256,
        addresses=(f"{endpoint}/{repository}/resolve/{revision}/{name}",),
        size=size,
        copies=(cache / "blobs" / sha256, cache / "snapshots" / revision / name),
    )


def hub_endpoint() -> str:
    """Returns the address of the Hugging Face hub or of the mirror that the user names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_cache() -> Path:
    """Returns the folder where Hugging Face's own tools keep what they downloaded."""
    cache_home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{cache_home}/huggingface")
    path = Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub"))
    try:
        return path.expanduser()
    except RuntimeError:  # a user without a home has no cache
        return path


# model size: repository, revision, SHA-256 and bytes of its model.safetensors
CHECKPOINTS = {
    "124M": (
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        548_105_171,
    ),
    "355M": (
        "openai-community/gpt2-medium",
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
        1_519_984_962,
    ),
    "774M": (
        "openai-community/gpt2-large",
        "32b71b12589c2f8d625668d2335a01cac3249519",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
        None,
    ),
    "1558M": (
        "openai-community/gpt2-xl",
        "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
        None,
    ),
}

# name on the hub, name in tiktoken's cache (the SHA-1 of tiktoken's own address), SHA-256, bytes
TOKENIZER_FILES = (
    (
        "vocab.json",
        "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        1_042_301,
    ),
    (
        "merges.txt",
        "6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        456_318,
    ),
)

SMS_SPAM_COLLECTION = RemoteFile(
    names=("SMSSpamCollection", "SMSSpamCollection.tsv"),
    sha256="7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
    size=477_907,
    zip_member="SMSSpamCollection",
    addresses=(
        "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
        "https://f001.backblazeb2.com/file/LLMs-from-scratch/sms%2Bspam%2Bcollection.zip",
    ),
)

# ---------------------------------------------------------------------------- files on the disk


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
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
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


# ------------------------------------------------------------------------------ GPT-2's own files


def download_and_load_gpt2(
    model_size: str, models_dir: str | Path = "gpt2"
) -> tuple[dict[str, int], dict[str, Any]]:
    """Returns a GPT-2's settings and weights, downloaded to `models_dir/model_size` if need be.

    Args:
        model_size: "124M", "355M", "774M" or "1558M".
        models_dir: the folder of all models.

    Returns:
        What `load_gpt2_checkpoint` returns.

    Raises:
        ValueError: on an unknown size, or a file in the folder that is not the published one.
        DownloadError: when the weights cannot be had.
    """
    if model_size not in CHECKPOINTS:
        raise ValueError(f"model_size must be one of {', '.join(CHECKPOINTS)}, got {model_size!r}")
    repository, revision, sha256, size = CHECKPOINTS[model_size]
    file = hub_file(repository, revision, "model.safetensors", sha256, size=size)
    return load_gpt2_checkpoint(fetch(file, Path(models_dir) / model_size))


def load_gpt2_tokenizer(models_dir: str | Path = "gpt2") -> tiktoken.Encoding:
    """Returns GPT-2's tokenizer, made from verified files.

    They lie in `models_dir/tokenizer` or a cache of tiktoken's or the hub's; else they are
    downloaded from the hub. tiktoken would ask another host for the same, without a timeout.

    Raises:
        ValueError: when a file in `models_dir/tokenizer` is not the published one.
        DownloadError: when the files cannot be had.
    """
    repository, revision, *_ = CHECKPOINTS["124M"]
    paths = {}
    for name, cached_name, sha256, size in TOKENIZER_FILES:
        file = hub_file(repository, revision, name, sha256, size)
        file = replace(file, copies=(tiktoken_cache() / cached_name, *file.copies))
        paths[name] = str(fetch(file, Path(models_dir) / "tokenizer"))
    with no_tiktoken_cache():
        ranks = data_gym_to_mergeable_bpe_ranks(paths["merges.txt"], paths["vocab.json"])
    return tiktoken.Encoding(
        name="gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={ENDOFTEXT: len(ranks)},
    )


def tiktoken_cache() -> Path:
    """Returns the folder where tiktoken keeps what it downloaded."""
    default = Path(tempfile.gettempdir()) / "data-gym-cache"
    variables = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
    return next((Path(os.environ[name]) for name in variables if os.environ.get(name)), default)


@contextmanager
def no_tiktoken_cache() -> Iterator[None]:
    """Keeps tiktoken from copying local files into its cache, for the length of a `with`."""
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = ""  # tiktoken's own word for none
    try:
        yield
    finally:
        del os.environ["TIKTOKEN_CACHE_DIR"]
        if before is not None:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
