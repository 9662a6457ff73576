"""What tests of files and downloads share: a file at some addresses, and its folder."""

import hashlib
import io
import random
import zipfile
from dataclasses import replace

from experiments.system.downloads import RemoteFile

CONTENT = random.Random(0).randbytes(10_000)
SPOILED = CONTENT[:50] + bytes([CONTENT[50] ^ 1]) + CONTENT[51:]  # one bit differs
DOWN = "http://127.0.0.1:1/file"  # nothing listens there
HTML = {"Content-Type": "text/html"}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def remote(*addresses, **changes):
    """CONTENT as a file at these addresses."""
    file = RemoteFile(("file", "file.tsv"), sha256(CONTENT), addresses, size=len(CONTENT))
    return replace(file, **changes)


def place(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def ranges_asked(server):
    return [headers.get("Range") for _, headers in server.asked]


def names_in(folder):
    """The names in a folder, except locks."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def zipped(members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()
