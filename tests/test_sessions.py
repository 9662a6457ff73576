"""Who is asked, as whom, and what is said when that is refused."""

import shutil

import pytest
import requests
from conftest import CERTIFICATE, Answer
from remote import CONTENT, remote, sha256

from experiments.system import sessions
from experiments.system.downloads import DownloadError, fetch
from experiments.system.sessions import CERTIFICATES, hint_at, open_session
from gpt_download import hub_file

pytestmark = pytest.mark.usefixtures("quick_and_alone")

SECRET = "hf_secret"
HASH_NAME = "ce275665.0"  # by which OpenSSL looks for the certificate in a folder


@pytest.fixture
def trusted(quick_and_alone, monkeypatch):
    """Lets the certificate of the https server be trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


def authorizations(server):
    return [headers.get("Authorization") for _, headers in server.asked]


def get(address):
    with open_session() as session:
        return session.get(address)


# ------------------------------------------------------------------------------------- the token


def test_the_hub_is_shown_the_token(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    server.serve("someone/model/resolve/revision/weights", Answer(CONTENT))
    fetch(hub_file("someone/model", "revision", "weights", sha256(CONTENT)), folder)
    assert authorizations(server) == [f"Bearer {SECRET}"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_token_does_not_follow_a_redirect_to_another_address(
    host, server, https_server, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    elsewhere = https_server.serve("there", Answer(CONTENT)).replace("127.0.0.1", host)
    redirect = Answer(status=302, headers={"Location": elsewhere})
    assert get(server.serve("here", redirect)).content == CONTENT
    assert authorizations(server) == [f"Bearer {SECRET}"]
    assert authorizations(https_server) == [None]


@pytest.mark.usefixtures("trusted")
def test_the_token_stays_with_the_mirror_though_other_paths_of_its_host_are_asked(
    https_server, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HF_ENDPOINT", f"{https_server.url}/mirror")
    https_server.serve("mirror/a", Answer(status=302, headers={"Location": "/mirror/b"}))
    https_server.serve("mirror/b", Answer(status=302, headers={"Location": "/mirrored"}))
    https_server.serve("mirrored", Answer(CONTENT))
    assert get(f"{https_server.url}/mirror/a").content == CONTENT
    assert authorizations(https_server) == [f"Bearer {SECRET}", f"Bearer {SECRET}", None]


@pytest.mark.usefixtures("trusted")
def test_who_is_not_the_hub_never_sees_the_token(https_server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    fetch(remote(https_server.serve("file", Answer(CONTENT))), folder)
    assert authorizations(https_server) == [None]


@pytest.mark.usefixtures("trusted")
def test_netrc_neither_replaces_the_token_nor_carries_it(
    server, https_server, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    elsewhere = https_server.serve("there", Answer(CONTENT))
    assert get(server.serve("here", Answer(status=302, headers={"Location": elsewhere}))).ok
    assert authorizations(server) == [f"Bearer {SECRET}"]
    assert authorizations(https_server) == [requests.auth._basic_auth_str("me", "mine")]


def test_no_message_shows_the_token(server, folder, monkeypatch):
    server.serve("someone/model/resolve/revision/weights", Answer(status=401))
    for token in (SECRET, f"{SECRET}\nX-Other: 1"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises((DownloadError, ValueError), match="HF_TOKEN") as raised:
            fetch(hub_file("someone/model", "revision", "weights", sha256(CONTENT)), folder)
        assert SECRET not in str(raised.value)


# ---------------------------------------------------------------------------------- certificates


@pytest.mark.parametrize("name", CERTIFICATES)
def test_the_certificates_that_a_variable_names_are_trusted(
    name, https_server, tmp_path, monkeypatch
):
    shutil.copy(CERTIFICATE, tmp_path / HASH_NAME)
    path = tmp_path if name == "SSL_CERT_DIR" else CERTIFICATE
    monkeypatch.setenv(name, str(path))
    assert get(https_server.serve("file", Answer(CONTENT))).content == CONTENT


def test_a_certificate_that_is_not_trusted_is_told_with_the_variables_that_help(
    https_server, folder
):
    address = https_server.serve("file", Answer(CONTENT))
    with pytest.raises(DownloadError, match=r"CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"):
        fetch(remote(address), folder)


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates_that_are_not_there_are_told_by_their_variable(name, folder, monkeypatch):
    monkeypatch.setenv(name, "/not/there")
    with pytest.raises(ValueError, match=f"{name} names /not/there, which is not there"):
        fetch(remote("https://127.0.0.1:1/file"), folder)


# -------------------------------------------------------------------------------------- ways out


@pytest.mark.parametrize(
    ("status", "of_hub", "of_others"),
    [
        (401, "HF_TOKEN", ".netrc"),
        (403, "HF_TOKEN", "HTTPS_PROXY"),
        (407, "HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT", "HTTPS_PROXY=http://NAME:"),
        (429, "HF_TOKEN", "wait some minutes"),
    ],
)
def test_a_refusal_is_told_with_what_helps(
    status, of_hub, of_others, server, https_server, folder, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    hubs = server.serve("file", Answer(status=status))
    others = https_server.serve("file", Answer(status=status))
    with pytest.raises(DownloadError) as raised:
        fetch(remote(hubs, others), folder)
    _, hub_line, other_line, _ = str(raised.value).splitlines()
    assert str(status) in hub_line
    assert of_hub in hub_line
    assert hub_line.endswith("HF_ENDPOINT can name a mirror of the hub")
    assert of_others in other_line
    assert "HF_" not in other_line


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_is_told_by_where_it_stands(
    status, server, tmp_path, folder, monkeypatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text(SECRET)
    with pytest.raises(DownloadError, match=f"refuses the token of {tmp_path / 'token'}"):
        fetch(remote(server.serve("file", Answer(status=status))), folder)


@pytest.mark.parametrize(("status", "words"), [(403, "NO_PROXY"), (407, "NAME:PASSWORD@HOST")])
def test_what_a_proxy_refuses_is_told_as_that(status, words):
    error = requests.exceptions.ProxyError(f"Tunnel connection failed: {status} No")
    assert words in hint_at(error, "https://other.invalid/file")


def test_an_address_that_is_down_is_asked_elsewhere_by_a_mirror(monkeypatch):
    error = requests.ConnectionError("refused")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    assert "HF_ENDPOINT" in hint_at(error, "https://hub.invalid/file")
    assert hint_at(error, "https://hub.invalid.other/file") == ""


def test_an_address_may_not_let_us_wait_for_long(server, monkeypatch):
    monkeypatch.setattr(sessions, "LONGEST_WAIT", 0)
    busy = Answer(status=429, headers={"Retry-After": 3600})
    assert get(server.serve("file", busy, Answer(CONTENT))).content == CONTENT
