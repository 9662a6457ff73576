import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of this process and those it starts

import contextlib
import re
import shutil
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hypothesis
import pytest
import torch
from checkpoints import MINIATURE_SHA256, write_checkpoint

from experiments.system import downloads
from experiments.system.files import sha256_of

CERTIFICATE = Path(__file__).parent / "localhost.pem"  # and its key
DATA_VARIABLE = "SPAM_TEST_DATA"
ENVIRONMENT = (  # what downloads depend on
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "DATA_GYM_CACHE_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY",
    "HTTPS_PROXY",
)  # fmt: skip

hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch):
    """No test reaches another machine."""
    connect = socket.socket.connect

    def guarded(self, address):
        is_local = self.family not in (socket.AF_INET, socket.AF_INET6)
        if not is_local and address[0] not in ("127.0.0.1", "::1"):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def cpu_unless_marked(request, monkeypatch):
    """What a test expects is the CPU's, but where it is marked for CUDA."""
    if "cuda" not in request.keywords:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def float64():
    """Makes float64 the default data type for one test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def small_config():
    return {
        "vocab_size": 97, "context_length": 24, "emb_dim": 128, "n_heads": 2, "n_layers": 3,
        "drop_rate": 0.0, "qkv_bias": True,
    }  # fmt: skip


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """The checkpoint on which the golden trajectories were measured."""
    path = write_checkpoint(tmp_path_factory.mktemp("miniature") / "tiny.safetensors")
    assert sha256_of(path) == MINIATURE_SHA256
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A checkpoint, a folder, that the small classifiers of `test_saved.py` finetune."""
    folder = tmp_path_factory.mktemp("base")
    sizes = {"n_vocab": 50257, "n_ctx": 24, "n_embd": 8, "n_head": 2, "n_layer": 3}
    write_checkpoint(folder / "model.safetensors", sizes)
    (folder / "config.json").write_text('{"n_head": 2}')
    return folder


@pytest.fixture(scope="session")
def real_data():
    """The folder with the real `SMSSpamCollection` and, in `tiktoken`, the tokenizer's files."""
    if DATA_VARIABLE not in os.environ:
        pytest.skip(f"{DATA_VARIABLE} names no folder with the real data")
    folder = Path(os.environ[DATA_VARIABLE])
    assert (folder / "SMSSpamCollection").is_file(), f"{DATA_VARIABLE}={folder} lacks the messages"
    return folder


@pytest.fixture(scope="session")
def real_data_dir(real_data, tmp_path_factory):
    """A writable folder for --data_dir that holds the real messages; needs no network."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(real_data / "SMSSpamCollection", folder)
    return folder


@pytest.fixture
def real_tokenizer_files(real_data, monkeypatch):
    """Lets the tokenizer be found without a network."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(real_data / "tiktoken"))


@dataclass
class Answer:
    """What the local server sends. A GET with a Range of `body` gets it, unless `ranges` is off."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    cut: int | None = None  # bytes after which the connection ends too early
    delay_seconds: float = 0  # before anything is sent
    trickle_seconds: float = 0  # before each ten bytes of the body
    tell_length: bool = True
    reason: str | None = None  # in the status line


class LocalHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        answer = self.server.next_answer(self.path, self.headers)
        time.sleep(answer.delay_seconds)
        status, start = answer.status, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and answer.ranges and status == 200:
            start = int(wanted[1])
            status = 206 if start < len(answer.body) else 416
        body = answer.body[start:]
        self.send_response(status, answer.reason)
        length = {"Content-Length": len(body)} if answer.tell_length else {}
        for name, value in (length | answer.headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        body = body[: answer.cut]
        size = 10 if answer.trickle_seconds else max(len(body), 1)
        with contextlib.suppress(ConnectionError):  # who asked may go away
            for start in range(0, len(body), size):
                time.sleep(answer.trickle_seconds)
                self.wfile.write(body[start : start + size])

    def do_CONNECT(self):  # what a proxy is asked for when an address is https
        self.server.next_answer(self.path, self.headers)
        self.send_error(403)

    def log_message(self, *_):
        pass


class LocalServer(ThreadingHTTPServer):
    """Gives each path its answers in turn, the last one for ever, and remembers the requests."""

    def __init__(self, certificate=None):
        super().__init__(("127.0.0.1", 0), LocalHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")
        self.answers = {}
        self.asked = []  # path and headers of each request

    def serve(self, name, *answers):
        self.answers[f"/{name}"] = list(answers)
        return f"{self.url}/{name}"

    def next_answer(self, path, headers):
        self.asked.append((path, headers))
        answers = self.answers.get(path, [Answer(status=404)])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def handle_error(self, *_):  # who asked does not trust the certificate
        pass


@contextlib.contextmanager
def running(server):
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server():
    """A web server on this machine that answers as the test tells it to."""
    with running(LocalServer()) as started:
        yield started


@pytest.fixture
def https_server():
    """Another one, with a certificate that nobody trusts of himself."""
    with running(LocalServer(CERTIFICATE)) as started:
        yield started


@pytest.fixture
def quick_and_alone(monkeypatch, tmp_path, server):
    """Retries cost no time, and the environment is empty but for the server."""
    from huggingface_hub import constants

    monkeypatch.setattr(downloads, "PAUSE", 0)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that what a test makes of it is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def folder(tmp_path):
    """Where files are fetched to; not there yet."""
    return tmp_path / "folder"
