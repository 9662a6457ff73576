"""From addresses to verified files, with a web server on this machine."""

import random
import sys
import time
import zipfile

import pytest
from conftest import Answer
from remote import (
    CONTENT,
    DOWN,
    HTML,
    PIECE,
    SPOILED,
    names_in,
    place,
    ranges_asked,
    remote,
    sha256,
    start_python,
    zipped,
)

from experiments.system import downloads, known_files
from experiments.system.downloads import DownloadError, fetch, read_member
from gpt_download import hub_file

pytestmark = pytest.mark.usefixtures("quick_and_alone")

# ----------------------------------------------------------------------------------- downloads


def test_a_fresh_download_has_the_right_bytes_and_leaves_nothing_else(server, folder):
    assert fetch(remote(server.serve("file", Answer(CONTENT))), folder) == folder / "file"
    assert (folder / "file").read_bytes() == CONTENT
    assert names_in(folder) == {"file"}


def test_a_connection_cut_once_goes_on_where_it_ended(server, folder):
    address = server.serve("file", Answer(CONTENT, cut=5 * PIECE), Answer(CONTENT))
    assert fetch(remote(address), folder).read_bytes() == CONTENT
    assert ranges_asked(server) == [None, "bytes=5000-"]


def test_an_interrupted_download_is_resumed_by_a_later_fetch(server, folder):
    address = server.serve("file", Answer(CONTENT, cut=5 * PIECE), Answer(status=403))
    with pytest.raises(DownloadError):
        fetch(remote(address), folder)
    assert names_in(folder) == {"file.part"}
    assert (folder / "file.part").read_bytes() == CONTENT[: 5 * PIECE]

    server.asked.clear()
    server.serve("file", Answer(CONTENT))
    assert fetch(remote(address), folder).read_bytes() == CONTENT
    assert ranges_asked(server) == ["bytes=5000-"]
    assert names_in(folder) == {"file"}


def test_what_one_address_began_is_completed_at_the_next(server, folder):
    first = server.serve("first", Answer(CONTENT, cut=5 * PIECE), Answer(status=403))
    second = server.serve("second", Answer(CONTENT))
    assert fetch(remote(first, second), folder).read_bytes() == CONTENT
    assert ranges_asked(server) == [None, "bytes=5000-", "bytes=5000-"]


@pytest.mark.parametrize("kept", [1, 9_999, 10_000])
def test_only_the_missing_bytes_are_asked_for(kept, server, folder):
    place(folder / "file.part", CONTENT[:kept])
    assert fetch(remote(server.serve("file", Answer(CONTENT))), folder).read_bytes() == CONTENT
    assert ranges_asked(server) == [f"bytes={kept}-"]


@pytest.mark.parametrize("part", [SPOILED[:5000], SPOILED, CONTENT + b"more"])
def test_a_wrong_part_is_found_and_the_download_starts_over(part, server, folder):
    place(folder / "file.part", part)
    assert fetch(remote(server.serve("file", Answer(CONTENT))), folder).read_bytes() == CONTENT
    assert ranges_asked(server) == [f"bytes={len(part)}-", None]


def test_a_server_without_ranges_sends_the_whole_file_anew(server, folder):
    place(folder / "file.part", CONTENT[:5000])
    address = server.serve("file", Answer(CONTENT, ranges=False))
    assert fetch(remote(address), folder).read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(status=403), id="403"),
        pytest.param(Answer(status=404), id="404"),
        pytest.param(Answer(status=500), id="500"),
        pytest.param(Answer(b"<html>Sign in", headers=HTML), id="html"),
        pytest.param(Answer(status=302, headers={"Location": "/first"}), id="redirect loop"),
        pytest.param(Answer(CONTENT, cut=5), id="cut off each time"),
        pytest.param(Answer(SPOILED), id="wrong bytes"),
        pytest.param(Answer(CONTENT + b"more"), id="too many bytes"),
        None,
    ],
)
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_when_the_first_address_fails_the_second_is_used(answer, size, server, folder):
    first = server.serve("first", answer) if answer else DOWN
    second = server.serve("second", Answer(CONTENT))
    assert fetch(remote(first, second, size=size), folder).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(CONTENT, trickle_seconds=0.05), id="a trickle"),
        pytest.param(Answer(CONTENT, delay_seconds=2), id="nothing at all"),
    ],
)
def test_an_address_that_is_too_slow_is_given_up(answer, server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", (1, 0.4))
    monkeypatch.setattr(downloads, "PATIENCE", 0.4)
    first, second = server.serve("first", answer), server.serve("second", Answer(CONTENT))
    started = time.monotonic()
    assert fetch(remote(first, second), folder).read_bytes() == CONTENT
    assert time.monotonic() - started < 5  # a trickle of all would take 50 seconds


def test_what_comes_slowly_but_surely_is_waited_for(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", 1)
    monkeypatch.setattr(downloads, "PIECE", 20)
    address = server.serve("file", Answer(CONTENT[:500], trickle_seconds=0.04))
    file = remote(address, sha256=sha256(CONTENT[:500]), size=500)
    assert fetch(file, folder).read_bytes() == CONTENT[:500]
    assert len(server.asked) == 1


@pytest.mark.parametrize("zip_member", [None, "messages"])
def test_an_address_that_sends_too_much_is_given_up(zip_member, server, folder, monkeypatch):
    monkeypatch.setattr(known_files, "ZIP_OVERHEAD", 100)
    endless = Answer(zipped({"messages": CONTENT}) + bytes(10_000_000), tell_length=False)
    address = server.serve("file", endless)
    with pytest.raises(DownloadError, match=f"{address}: serves more than 10[01]00 bytes"):
        fetch(remote(address, zip_member=zip_member), folder)
    assert (folder / "file.part").stat().st_size <= len(CONTENT) + 100 + PIECE


def test_without_the_users_word_only_https_is_asked(server, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.invalid")
    address = server.serve("file", Answer(CONTENT))
    with pytest.raises(DownloadError, match=f"{address} is not https"):
        fetch(remote(address), folder)
    assert server.asked == []


def test_a_redirect_to_what_is_not_https_is_not_followed(server, folder):
    elsewhere = server.serve("there", Answer(CONTENT)).replace("127.0.0.1", "localhost")
    address = server.serve("here", Answer(status=302, headers={"Location": elsewhere}))
    with pytest.raises(DownloadError, match=f"{address}: {elsewhere} is not https"):
        fetch(remote(address), folder)
    assert len(server.asked) == 1


def test_a_redirect_is_followed(server, folder):
    server.serve("there", Answer(CONTENT))
    address = server.serve("here", Answer(status=302, headers={"Location": "/there"}))
    assert fetch(remote(address), folder).read_bytes() == CONTENT


def test_a_server_out_of_order_is_asked_again(server, folder):
    address = server.serve("file", Answer(status=503), Answer(CONTENT))
    assert fetch(remote(address), folder).read_bytes() == CONTENT


def test_when_all_addresses_fail_each_is_named_with_its_reason(server, folder):
    reasons = {
        DOWN: "refused",
        server.serve("forbidden", Answer(status=403)): "403",
        server.serve("broken", Answer(status=500)): "500",
        server.serve(
            "html", Answer(b"<html>", headers=HTML)
        ): "6 bytes of text/html, expected 10000",
        server.serve("loop", Answer(status=302, headers={"Location": "/loop"})): "redirects",
        server.serve("spoiled", Answer(SPOILED)): sha256(SPOILED),
    }
    with pytest.raises(DownloadError) as raised:
        fetch(remote(*reasons), folder)
    _, *lines, way_out = str(raised.value).splitlines()
    for line, (address, reason) in zip(lines, reasons.items(), strict=True):
        assert line.startswith(f"  {address}: ")
        assert reason in line
    assert way_out.startswith(f"Save the file at {DOWN} or ")
    assert way_out.endswith(f"as {folder / 'file'} (SHA-256 {sha256(CONTENT)}).")
    assert names_in(folder) == set()


def test_a_file_of_the_hub_is_asked_for_at_its_mirror(server, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/mirror/")
    server.serve("mirror/someone/model/resolve/revision/weights", Answer(CONTENT))
    file = hub_file("someone/model", "revision", "weights", sha256(CONTENT), size=len(CONTENT))
    assert fetch(file, folder).read_bytes() == CONTENT


def test_a_proxy_is_asked_for_the_file(server, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    monkeypatch.setenv("HTTP_PROXY", server.url)
    address = "http://mirror.invalid/someone/model/resolve/revision/weights"
    server.answers[address] = [Answer(CONTENT)]
    file = hub_file("someone/model", "revision", "weights", sha256(CONTENT), size=len(CONTENT))
    assert fetch(file, folder).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == [address]


def test_a_proxy_that_refuses_is_named(server, folder, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    with pytest.raises(DownloadError, match=r"Unable to connect to proxy.*403"):
        fetch(remote("https://mirror.invalid/file"), folder)
    assert server.asked[0][0] == "mirror.invalid:443"


@pytest.mark.skipif(sys.platform == "win32", reason="has no file-size limits")
def test_a_download_beyond_the_disk_is_told_and_resumed_once_there_is_room(server, folder):
    script = (
        "import pathlib, resource, sys\n"
        "from experiments.system.downloads import RemoteFile, fetch\n"
        "address, sha256, folder = sys.argv[1:]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    fetch(RemoteFile(('file',), sha256, (address,)), pathlib.Path(folder))\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    address = server.serve("file", Answer(CONTENT))
    output, errors = start_python(script, address, sha256(CONTENT), folder).communicate(timeout=60)
    assert output.splitlines() == [
        "Downloading file: 10.0kB",
        f"[Errno 27] File too large: '{folder / 'file.part'}'",
    ], errors
    assert names_in(folder) == {"file.part"}

    server.asked.clear()
    assert fetch(remote(address), folder).read_bytes() == CONTENT
    assert ranges_asked(server) == ["bytes=5000-"]


def test_a_download_that_is_killed_is_resumed(server, folder):
    script = (
        "import pathlib, sys\n"
        "from experiments.system.downloads import RemoteFile, fetch\n"
        "address, sha256, folder = sys.argv[1:]\n"
        "fetch(RemoteFile(('file',), sha256, (address,)), pathlib.Path(folder))\n"
    )
    big = random.Random(1).randbytes(1_000_000)
    address = server.serve("file", Answer(big, cut=500_000, trickle_seconds=1e-6), Answer(big))
    process = start_python(script, address, sha256(big), folder)
    while downloads.size_of(folder / "file.part") < 50_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = downloads.size_of(folder / "file.part")
    assert names_in(folder) == {"file.part"}

    server.asked.clear()
    file = remote(address, sha256=sha256(big), size=len(big))
    assert fetch(file, folder).read_bytes() == big
    assert ranges_asked(server) == [f"bytes={kept}-"]


def test_two_processes_at_once_download_once_and_both_end_right(server, folder):
    script = (
        "import pathlib, sys\n"
        "from experiments.system.downloads import RemoteFile, fetch\n"
        "address, sha256, folder = sys.argv[1:]\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "path = fetch(RemoteFile(('file',), sha256, (address,)), pathlib.Path(folder))\n"
        "print(path.read_bytes().hex())\n"
    )
    address = server.serve("file", Answer(CONTENT, delay_seconds=0.3))
    processes = [start_python(script, address, sha256(CONTENT), folder) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=30)
        assert output.splitlines()[-1] == CONTENT.hex(), errors
    assert len(server.asked) == 1


# ---------------------------------------------------------------------------------------- zips


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(zipped({"messages": CONTENT, "readme": b"Hello"}), id="first"),
        pytest.param(zipped({"readme": b"Hello", "messages": CONTENT}), id="zipped again"),
        pytest.param(zipped({"messages": CONTENT}, zipfile.ZIP_STORED), id="uncompressed"),
    ],
)
def test_a_member_is_taken_from_any_zip_that_holds_it(archive, server, folder):
    address = server.serve("zip", Answer(archive))
    path = fetch(remote(address, zip_member="messages"), folder)
    assert path == folder / "file"
    assert path.read_bytes() == CONTENT
    assert names_in(folder) == {"file"}


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(zipped({"readme": CONTENT}), id="no such member"),
        pytest.param(CONTENT, id="no zip"),
        pytest.param(b"", id="empty"),
        pytest.param(zipped({"messages": CONTENT + b"more"}), id="oversized"),
        pytest.param(zipped({"messages": CONTENT[:-1]}), id="too short"),
        pytest.param(zipped({"messages": SPOILED}), id="other content"),
        pytest.param(zipped({"messages": CONTENT})[:-30], id="truncated"),
    ],
)
def test_a_zip_without_the_right_member_is_refused(archive, server, folder):
    address = server.serve("zip", Answer(archive))
    with pytest.raises(DownloadError, match=f"{address}: .*messages.*\nSave the member messages"):
        fetch(remote(address, zip_member="messages"), folder)
    assert names_in(folder) == set()


def test_a_web_page_in_place_of_a_zip_is_named(server, folder):
    address = server.serve("zip", Answer(b"<html>Sign in", headers=HTML))
    with pytest.raises(DownloadError, match=f"{address}: serves 13 bytes of text/html, expected a"):
        fetch(remote(address, zip_member="messages"), folder)


def test_an_oversized_member_is_read_one_byte_too_far_and_no_further(tmp_path):
    archive = place(tmp_path / "zip", zipped({"messages": bytes(10_000_000)}))
    assert read_member(archive, "messages", 100) == bytes(101)


def test_members_that_climb_out_of_the_folder_are_never_written(server, tmp_path, folder):
    members = {"../climbed": b"", "/climbed": b"", "messages": CONTENT, "sub/../../climbed": b""}
    address = server.serve("zip", Answer(zipped(members)))
    fetch(remote(address, zip_member="messages"), folder)
    assert names_in(folder) == {"file"}
    assert not list(tmp_path.rglob("*climbed*"))


TEXT = b"".join(b"%d: some message\n" % i for i in range(1000))
DAMAGED = bytearray(zipped({"messages": TEXT}))
DAMAGED[45] ^= 0xFF  # within the compressed data


def test_a_zip_damaged_within_is_passed_over(server, folder):
    first = server.serve("first", Answer(bytes(DAMAGED)))
    second = server.serve("second", Answer(zipped({"messages": TEXT})))
    file = remote(first, second, sha256=sha256(TEXT), size=len(TEXT), zip_member="messages")
    assert fetch(file, folder).read_bytes() == TEXT


def test_a_wrong_part_of_a_zip_is_found_and_the_download_starts_over(server, folder):
    place(folder / "file.part", bytes(DAMAGED[:500]))
    address = server.serve("zip", Answer(zipped({"messages": TEXT})))
    file = remote(address, sha256=sha256(TEXT), size=len(TEXT), zip_member="messages")
    assert fetch(file, folder).read_bytes() == TEXT
