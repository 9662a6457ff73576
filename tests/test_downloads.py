"""Downloads of published files, from a web server on this machine."""

import base64
import contextlib
import gzip
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import unquote

import pytest
from conftest import CERTIFICATE, Answer
from huggingface_hub import constants
from remote import (
    CONTENT,
    DOWN,
    HTML,
    SPOILED,
    names_in,
    place,
    ranges_asked,
    remote,
    sha256,
    zipped,
)

from experiments.system import downloads
from experiments.system.downloads import (
    DownloadError,
    fetch,
    find,
    how_to_place,
    hub_file,
    naming_missing,
    offline_variable,
)

pytestmark = pytest.mark.usefixtures("quick_and_alone")
ARCHIVE = zipped({"readme": b"Hello", "messages": CONTENT})
SECRET = "hf_secret"
WEIGHTS = "someone/model/resolve/revision/weights"  # what `weights` asks the hub for


def weights(**changes):
    """CONTENT as a file of the hub."""
    return hub_file("someone/model", "revision", "weights", sha256(CONTENT), **changes)


def in_zip(*addresses, archive=ARCHIVE):
    """CONTENT as the member of a zip at these addresses."""
    return remote(*addresses, zip_member="messages")


def failure(file, folder):
    """The message of a download that fails."""
    with pytest.raises(DownloadError) as raised:
        fetch(file, folder)
    return str(raised.value)


# ----------------------------------------------------------------------- files of this machine


@pytest.mark.parametrize(
    "cached_name",
    [
        f"models--someone--model/blobs/{sha256(CONTENT)}", f"models--other/blobs/{sha256(CONTENT)}",
        "models--someone--model/snapshots/revision/weights",
        "models--model/snapshots/other/weights", "models--a--a-model/snapshots/other/weights",
    ],
)  # fmt: skip
def test_a_file_in_the_hubs_cache_is_used(cached_name, tmp_path, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached = place(tmp_path / "hub" / cached_name)
    assert fetch(weights(), folder) == cached
    assert not folder.exists()


def test_wrong_copies_are_skipped_and_not_changed(server, tmp_path, folder):
    snapshots = tmp_path / "hub" / "models--someone--model" / "snapshots"
    wrong = place(snapshots / "1" / "weights", SPOILED)
    place(snapshots / "2" / "weights", b"short")
    server.serve(WEIGHTS, Answer(CONTENT))
    assert fetch(weights(), folder) == folder / "weights"
    assert wrong.read_bytes() == SPOILED
    right = place(tmp_path / "hub/models--model/snapshots/3/weights")
    assert find(weights(), tmp_path / "elsewhere") == right


def test_a_copy_that_may_not_be_read_is_skipped(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(downloads, "sha256_of", Mock(side_effect=PermissionError))
    assert find(remote(DOWN, copies=(place(tmp_path / "locked"),)), folder) is None


# ------------------------------------------------------------------------------- missing files


@pytest.mark.parametrize(
    ("hub", "transformers", "name"),
    [
        ("", "", None), ("0", "1", None), ("yes", "0", "HF_HUB_OFFLINE"),
        ("", "true", "TRANSFORMERS_OFFLINE"), ("", "ON", "TRANSFORMERS_OFFLINE"),
    ],
)  # fmt: skip
def test_either_variable_forbids_downloads(hub, transformers, name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", hub)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", transformers)
    assert offline_variable() == name


def fetch_all(needed):
    def missing():
        return [how_to_place(*each) for each in needed if find(*each) is None]

    with naming_missing(missing):
        return [fetch(*each) for each in needed]


def test_offline_one_message_says_what_to_save_where(server, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    here = place(folder / "file.tsv")
    file = remote(server.serve("file", Answer(CONTENT)))
    assert fetch(file, folder) == here
    with pytest.raises(DownloadError) as raised:
        fetch_all([(file, tmp_path / name) for name in ("one", "folder", "two")])
    one, two = (how_to_place(file, tmp_path / name) for name in ("one", "two"))
    assert str(raised.value) == f"HF_HUB_OFFLINE forbids downloads. {one}\n{two}"
    assert failure(file, tmp_path / "two") == f"HF_HUB_OFFLINE forbids downloads. {two}"
    assert server.asked == []


def test_a_failed_download_names_all_missing_files_and_leaves_those_before_it(server, tmp_path):
    here = (remote(server.serve("file", Answer(CONTENT))), tmp_path / "here")
    with pytest.raises(DownloadError) as raised:
        fetch_all([here, *((remote(DOWN), tmp_path / name) for name in ("one", "two"))])
    found = re.findall(rf" as {tmp_path}/(\w+)/file ", str(raised.value))
    assert found == ["one", "two"]
    assert (tmp_path / "here" / "file").read_bytes() == CONTENT


def test_a_wrong_file_is_refused_before_anything_is_downloaded_and_not_changed(server, tmp_path):
    wrong = place(tmp_path / "two" / "file.tsv", SPOILED)
    address = server.serve("file", Answer(CONTENT))
    with pytest.raises(ValueError, match=f"{sha256(SPOILED)}, expected {sha256(CONTENT)}"):
        fetch_all([(remote(address), tmp_path / folder) for folder in ("one", "two")])
    assert wrong.read_bytes() == SPOILED
    assert server.asked == []


# ----------------------------------------------------------------------------------- downloads


@pytest.mark.parametrize(
    ("part", "size", "answers", "ranges"),
    [
        (b"", 10_000, [Answer(CONTENT)], [None]),
        (b"", 10_000, [Answer(CONTENT, cut=5000), Answer(CONTENT)], [None, "bytes=5000-"]),
        (CONTENT[:1], 10_000, [Answer(CONTENT)], ["bytes=1-"]),
        (CONTENT[:9_999], 10_000, [Answer(CONTENT)], ["bytes=9999-"]),
        (CONTENT, 10_000, [], []),
        (CONTENT, None, [Answer(CONTENT)], ["bytes=10000-"]),
        (SPOILED[:5000], 10_000, [Answer(CONTENT)], ["bytes=5000-", None]),
        (SPOILED[:5000], 10_000, [Answer(CONTENT, ranges=False)], ["bytes=5000-"]),
        (SPOILED, 10_000, [Answer(CONTENT)], [None]),
        (CONTENT + b"more", 10_000, [Answer(CONTENT)], [None]),
    ],
)
def test_only_missing_bytes_are_requested(part, size, answers, ranges, server, folder):
    place(folder / "file.part", part)
    file = remote(server.serve("file", *answers), size=size)
    assert fetch(file, folder).read_bytes() == CONTENT
    assert ranges_asked(server) == ranges
    assert names_in(folder) == {"file"}


def test_an_interrupted_download_leaves_its_part_for_the_next_run(server, folder):
    failure(remote(server.serve("file", Answer(CONTENT, cut=5000), Answer(status=403))), folder)
    assert names_in(folder) == {"file.part"}
    assert (folder / "file.part").read_bytes() == CONTENT[:5000]


FAILURES = {
    "HTTP status 401; HF_TOKEN identifies you": Answer(status=401),
    "HTTP status 403; HTTPS_PROXY names a proxy, NO_PROXY": Answer(status=403),
    "HTTP status 407; HTTPS_PROXY=http://NAME:PASSWORD@HOST": Answer(status=407),
    "HTTP status 429; wait some minutes": Answer(status=429),
    "HTTP status 500": Answer(status=500),
    "serves 6 bytes, expected 10,000": Answer(b"<html>", headers=HTML),
    "redirects": Answer(status=302, headers={"Location": "/file"}),
    "RemoteProtocolError": Answer(CONTENT, cut=0),
    f"SHA-256 {sha256(SPOILED)}, expected {sha256(CONTENT)}": Answer(SPOILED),
    "serves more than the expected 10,000 bytes": Answer(CONTENT + b"more"),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failed_download_has_its_reason_and_how_to_place_the_file(reason, server, folder):
    address = server.serve("file", FAILURES[reason])
    title, line, mirror, by_hand = failure(remote(address), folder).splitlines()
    assert title == f"{folder / 'file'} could not be downloaded:"
    assert line.startswith(f"  {address}: ")
    assert reason in line
    assert mirror == "HF_ENDPOINT can name a mirror of the hub."
    assert by_hand == how_to_place(remote(address), folder)
    assert not any(path.stat().st_size for path in folder.iterdir())


def test_an_address_that_sends_nothing_is_given_up(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.05)
    address = server.serve("file", Answer(CONTENT, delay_seconds=0.5))
    started = time.monotonic()
    assert "Timeout" in failure(remote(address), folder)
    assert "timed out" in failure(in_zip(address), folder)
    assert time.monotonic() - started < 10


# ---------------------------------------------------------------------------------------- zips


def spoiled_headers(at, number):
    """The archive with a number of two bytes at a place in both of the last member's headers."""
    changed = bytearray(ARCHIVE)
    for signature, more in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        start = changed.rindex(signature) + at + more
        changed[start : start + 2] = number.to_bytes(2, "little")
    return bytes(changed)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=403), "HTTP status 403; HTTPS_PROXY"),
        (Answer(b"<html>Sign in", headers=HTML), "serves no zip with messages: File is not a zip"),
        (Answer(ARCHIVE[:-30]), "serves no zip with messages: File is not a zip"),
        (Answer(ARCHIVE, cut=100, ranges=False), "RemoteProtocolError"),
        (Answer(zipped({"messages": SPOILED})), "serves a file of SHA-256"),
        (Answer(b""), "serves no zip with messages: File is not a zip"),
        *((Answer(spoiled_headers(*each)), "serves no zip with messages: ")
          for each in ((6, 1), (8, 99), (8, 12), (8, 14))),
    ],
)  # fmt: skip
def test_the_first_zip_that_contains_the_file_is_used(answer, reason, server, folder):
    file = in_zip(server.serve("zip", answer), DOWN)
    _, first, second, by_hand = failure(file, folder).splitlines()
    assert first.startswith(f"  {server.url}/zip: {reason}")
    assert second.startswith(f"  {DOWN}: ConnectError: ")
    assert by_hand.startswith(f"Save the member messages of the zip at {server.url}/zip or {DOWN}")
    assert names_in(folder) == set()
    file = in_zip(*file.addresses, server.serve("other", Answer(ARCHIVE)))
    assert fetch(file, folder).read_bytes() == CONTENT
    assert names_in(folder) == {"file"}


# ----------------------------------------------------------------------------- hostile servers


@pytest.fixture
def hostile():
    """Serves a start and a thousand times more on a port of this machine, slowly if few."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(start, more):
            def answer():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(OSError):
                            connection.recv(10_000)
                            connection.sendall(start)
                            for _ in range(1000):
                                time.sleep(0.01 if len(more) < 1000 else 0)
                                connection.sendall(more)

            threading.Thread(target=answer, daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}/file"

        yield serve
        listener.shutdown(socket.SHUT_RDWR)


HOSTILE = {  # how an answer begins, and what then follows slowly, or at once and without end
    "slow headers": (b"HTTP/1.1 302 Found\r\n", b"a"),
    "slow status": (b"HTTP/1.1 ", b" "),
    "endless continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 1000),
    "slow body of a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b"a"),
    "slow body of an error": (b"HTTP/1.1 503 Busy\r\n\r\n", b"a"),
    "endless body of an error": (b"HTTP/1.1 503 Busy\r\n\r\n", b"a" * 1000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_is_given_up_for_the_next(name, hostile, server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "START", 0.3)
    monkeypatch.setattr(downloads, "TIMEOUT", 1)  # of a connection made while the watch closes all
    started = time.monotonic()
    addresses = hostile(*HOSTILE[name]), server.serve("file", Answer(CONTENT))
    assert fetch(remote(*addresses), folder).read_bytes() == CONTENT
    assert time.monotonic() - started < 10


def test_the_body_of_a_redirect_is_neither_read_nor_unpacked(server, folder):
    there = server.serve("there", Answer(CONTENT))
    headers = {"Location": there, "Content-Encoding": "gzip"}
    address = server.serve("file", Answer(gzip.compress(bytes(10**8)), 302, headers))
    tracemalloc.start()
    assert fetch(remote(address), folder).read_bytes() == CONTENT
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


# --------------------------------------------------------------------- mirror, proxy and token


def test_a_proxy_is_asked_for_the_file_and_named_when_it_refuses(server, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.answers[f"http://mirror.invalid/{WEIGHTS}"] = [Answer(CONTENT)]
    assert fetch(weights(), folder).read_bytes() == CONTENT
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("//", "//me:password@"))
    message = failure(in_zip("https://mirror.invalid/zip"), folder / "another")
    assert all(words in message for words in ("ProxyError", "403", "NO_PROXY"))
    assert "password" not in message
    asked = [path for path, _ in server.asked]
    assert asked == [f"http://mirror.invalid/{WEIGHTS}", "mirror.invalid:443"]


def authorizations(server):
    return [headers.get("Authorization") for _, headers in server.asked]


def test_a_redirect_gets_no_token(server, https_server, folder, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HF_ENDPOINT", https_server.url)
    headers = {"Location": server.serve("there", Answer(CONTENT))}
    https_server.serve(WEIGHTS, Answer(status=302, headers=headers))
    assert fetch(weights(), folder).read_bytes() == CONTENT
    assert authorizations(https_server) == [f"Bearer {SECRET}"]
    assert authorizations(server) == [None]


def test_the_token_may_be_in_its_file_and_disabled(server, tmp_path, folder, monkeypatch):
    server.serve(WEIGHTS, Answer(CONTENT))
    (tmp_path / "token").write_text(f"{SECRET}\n")
    fetch(weights(), folder)
    fetch(in_zip(server.serve("zip", Answer(ARCHIVE))), folder)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    fetch(weights(), tmp_path / "elsewhere")
    assert authorizations(server) == [f"Bearer {SECRET}", None, None]


@pytest.mark.parametrize("path", ["other/file", "m/../other/file", "m/%2e%2e/other/file", "mother"])
def test_no_secret_is_sent_outside_the_mirrors_path(path, server, folder, monkeypatch):
    server.serve(f"m/{WEIGHTS}", Answer(status=302, headers={"Location": "/m/again"}))
    server.serve("m/again", Answer(status=302, headers={"Location": f"/{path}"}))
    for login, token in (("", SECRET), ("me:p4ssw0rd@", "")):
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/m".replace("//", f"//{login}"))
        monkeypatch.setenv("HF_TOKEN", token)
        failure(weights(), folder)
    assert [a and a.split()[0] for a in authorizations(server)] == [
        "Bearer", "Bearer", None, "Basic", "Basic", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("token", "password"),
    [
        *((SECRET, f"p4ss{sign}w0rd") for sign in ("=", "%2F", "/", "@", "'")),
        *((f"{SECRET}{more}", "p4ssw0rd") for more in (" X", "ï")),
    ],
)
def test_no_message_shows_a_secret(token, password, server, folder, monkeypatch, caplog):
    monkeypatch.setenv("HF_ENDPOINT", server.url.replace("//", f"//me:{password}@"))
    monkeypatch.setenv("HF_TOKEN", token)
    encoded = base64.b64encode(f"me:{unquote(password)}".encode()).decode()
    echo = f"/{unquote(password)}-{encoded}-{SECRET}"
    for answer in (
        Answer(status=302, headers={"Location": f"gopher://x{echo}"}),
        Answer(status=401, reason=f"no {SECRET} here"),
    ):
        server.serve(WEIGHTS, answer)
        message = failure(weights(), folder)
        for secret in (password, unquote(password), encoded, SECRET, "w0rd"):
            assert secret not in message + caplog.text
    assert "HF_TOKEN" in message or "/" in password


def test_a_mirror_is_used_if_it_is_an_address(server, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", " ")
    assert weights().addresses == (f"https://huggingface.co/{WEIGHTS}",)
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/m/".replace("//", "//me:p4ssw0rd@", 1))
    server.serve(f"m/{WEIGHTS}", Answer(CONTENT))
    assert fetch(weights(), folder).read_bytes() == CONTENT
    assert authorizations(server) == ["Basic bWU6cDRzc3cwcmQ="]
    for endpoint in ("mirror.invalid", "//mirror", "ftp://mirror", "https://", "***@mirror"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint.replace("***", "me:p4ssw0rd"))
        with pytest.raises(ValueError, match=r"^HF_ENDPOINT must be an address") as error:
            weights()
        assert str(error.value).endswith(f", got {endpoint.rstrip('/')!r}")


# -------------------------------------------------------------------------------- certificates


@pytest.mark.parametrize(
    "name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]
)
def test_certificates_of_four_variables_are_trusted(
    name, https_server, tmp_path, folder, monkeypatch
):
    shutil.copy(CERTIFICATE, tmp_path / "ce275665.0")  # by which OpenSSL finds it in a folder
    monkeypatch.setenv(name, str(tmp_path if name == "SSL_CERT_DIR" else CERTIFICATE))
    assert fetch(remote(https_server.serve("file", Answer(CONTENT))), folder)


def test_an_untrusted_certificate_is_refused_with_a_hint(https_server, folder, monkeypatch):
    file = remote(https_server.serve("file", Answer(CONTENT)))
    expected = "CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE names trusted certificates"
    assert re.search(expected, failure(file, folder))
    monkeypatch.setenv("SSL_CERT_FILE", "/not/there")
    with pytest.raises(ValueError, match="SSL_CERT_FILE names /not/there, which does not exist"):
        fetch(file, folder)


# ----------------------------------------------------------------------------------- processes


def test_two_at_once_download_once(server, folder):
    address = server.serve("file", Answer(CONTENT, delay_seconds=0.3))
    with ThreadPoolExecutor() as pool:  # a lock excludes threads as it does processes
        paths = pool.map(lambda _: fetch(remote(address), folder), range(2))
    assert [path.read_bytes() for path in paths] == [CONTENT] * 2
    assert len(server.asked) == 1


SCRIPT = """
import pathlib, sys
from experiments.system.downloads import RemoteFile, fetch
address, sha256, folder = sys.argv[1:]
try:
    fetch(RemoteFile(("file",), sha256, (address,)), pathlib.Path(folder))
except OSError as error:
    print(error)
"""


def start_download(address, content, folder, before=""):
    """Start another process that downloads a file."""
    command = [sys.executable, "-c", before + SCRIPT, address, sha256(content), folder]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], **pipes)


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="has no file-size limits")
def test_a_full_disk_is_named_and_the_download_resumed_once_there_is_room(server, folder):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    address = server.serve("file", Answer(CONTENT))
    output, errors = start_download(address, CONTENT, folder, limit).communicate(timeout=60)
    assert output.splitlines() == [
        "Downloading file",
        f"[Errno 27] File too large: '{folder / 'file.part'}'",
    ], errors
    server.asked.clear()
    assert fetch(remote(address), folder).read_bytes() == CONTENT
    assert ranges_asked(server) == ["bytes=5000-"]


@pytest.mark.process
def test_a_download_that_is_killed_is_resumed(server, folder):
    big, part = random.Random(1).randbytes(1_000_000), folder / "file.part"
    address = server.serve("file", Answer(big, cut=500_000, trickle_seconds=1e-6), Answer(big))
    process = start_download(address, big, folder)
    while not part.exists() or part.stat().st_size < 50_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = part.stat().st_size
    assert names_in(folder) == {"file.part"}
    server.asked.clear()
    file = remote(address, sha256=sha256(big), size=len(big))
    assert fetch(file, folder).read_bytes() == big
    assert ranges_asked(server) == [f"bytes={kept}-"]
