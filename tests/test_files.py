"""Files on the disk: whole or not at all."""

import sys
import time

import pytest
from remote import CONTENT, SPOILED, names_in, place, start_python

from experiments.system.files import write_whole

# --------------------------------------------------------------------------------- write_whole


def test_write_whole_writes_the_content_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (CONTENT, b"", SPOILED):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert names_in(path.parent) == {"file"}


@pytest.mark.skipif(sys.platform == "win32", reason="has no file-size limits")
def test_when_the_disk_is_full_the_earlier_file_stays_and_nothing_beside_it(tmp_path):
    script = (
        "import pathlib, resource, sys\n"
        "from experiments.system.files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    write_whole(pathlib.Path(sys.argv[1]), bytes(10_000))\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    path = place(tmp_path / "sub" / "file", b"earlier")
    output, errors = start_python(script, path).communicate(timeout=60)
    assert output == f"[Errno 27] File too large: '{path}'\n", errors
    assert path.read_bytes() == b"earlier"
    assert names_in(path.parent) == {"file"}


def test_a_file_is_whole_whenever_its_writer_is_killed(tmp_path):
    script = (
        "import pathlib, sys\n"
        "from experiments.system.files import write_whole\n"
        "for byte in range(1_000_000):\n"
        "    write_whole(pathlib.Path(sys.argv[1]), bytes([byte % 256]) * 5_000_000)\n"
        "    print(byte, flush=True)\n"
    )
    path = tmp_path / "file"
    for moment in (0, 0.015, 0.11):
        process = start_python(script, path)
        process.stdout.readline()
        time.sleep(moment)
        process.kill()
        process.communicate()
        content = path.read_bytes()
        assert content == content[:1] * 5_000_000
