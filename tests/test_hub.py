"""What the environment says of the hub."""

from pathlib import Path

import pytest

from experiments.system.hub import hub_cache, hub_endpoint, hub_token, offline_variable

pytestmark = pytest.mark.usefixtures("quick_and_alone")


def set_variables(monkeypatch, variables):
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"HF_HUB_CACHE": "/a/b", "HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/a/b"),
        ({"HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/b"),
        ({"HF_HOME": "/c", "XDG_CACHE_HOME": "/d"}, "/c/hub"),
        ({"HF_HOME": "~/c", "HOME": "/e"}, "/e/c/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({"HOME": "/e"}, "/e/.cache/huggingface/hub"),
        (
            {"HF_HUB_CACHE": "", "HF_HOME": "", "XDG_CACHE_HOME": "", "HOME": "/e"},
            "/e/.cache/huggingface/hub",
        ),
    ],
)
def test_the_hubs_cache_lies_where_its_own_tools_put_it(variables, cache, monkeypatch):
    set_variables(monkeypatch, variables)
    assert hub_cache() == Path(cache)


# --------------------------------------------------------------------------------------- address


@pytest.mark.parametrize(
    ("said", "endpoint"),
    [
        ({}, "https://huggingface.co"),
        ({"HF_ENDPOINT": ""}, "https://huggingface.co"),
        ({"HF_ENDPOINT": " "}, "https://huggingface.co"),
        ({"HF_ENDPOINT": "https://mirror.invalid/hub/"}, "https://mirror.invalid/hub"),
        ({"HF_ENDPOINT": "http://127.0.0.1:80"}, "http://127.0.0.1:80"),
    ],
)
def test_an_empty_endpoint_is_none(said, endpoint, monkeypatch):
    set_variables(monkeypatch, said)
    assert hub_endpoint() == endpoint


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("mirror.invalid", "https://mirror.invalid"),
        ("mirror.invalid:8080/hub", "https://mirror.invalid:8080/hub"),
        ("//mirror.invalid", "https://mirror.invalid"),
        ("ftp://mirror.invalid", "https://mirror.invalid"),
        ("https://", "https://HOST"),
        ("/", "https://HOST"),
    ],
)
def test_an_endpoint_that_is_no_address_is_one_sentence(said, meant, monkeypatch):
    set_variables(monkeypatch, {"HF_ENDPOINT": said})
    with pytest.raises(ValueError, match=r"HF_ENDPOINT must begin") as raised:
        hub_endpoint()
    assert str(raised.value).endswith(f"did you mean HF_ENDPOINT={meant}?")
    assert "\n" not in str(raised.value)


# ----------------------------------------------------------------------------------------- token


def test_the_token_is_that_of_the_first_place_that_has_one(tmp_path, monkeypatch):
    home, path = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    monkeypatch.setenv("HF_HOME", str(home))
    assert hub_token() is None
    (home / "token").write_text("of_home\n")
    assert hub_token() == ("of_home", str(home / "token"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(path))
    assert hub_token() is None
    path.write_text(" of_path\n")
    assert hub_token() == ("of_path", str(path))
    monkeypatch.setenv("HF_TOKEN", "")
    assert hub_token() == ("of_path", str(path))
    monkeypatch.setenv("HF_TOKEN", "of_variable ")
    assert hub_token() == ("of_variable", "HF_TOKEN")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert hub_token() is None


@pytest.mark.parametrize("content", [b"two tokens", b"\xff\xfe", "naïve".encode(), b"a\nb"])
def test_a_file_that_holds_no_token_is_told_and_not_shown(content, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ValueError, match="holds something else than one token") as raised:
        hub_token()
    assert str(raised.value).startswith(f"{tmp_path / 'token'} holds")


# --------------------------------------------------------------------------------------- offline


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": "yes", "TRANSFORMERS_OFFLINE": "0"}, "HF_HUB_OFFLINE"),
        ({"TRANSFORMERS_OFFLINE": "ON"}, "TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "true"}, "TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, None),
    ],
)
def test_downloads_are_forbidden_by_either_variable(variables, name, monkeypatch):
    set_variables(monkeypatch, variables)
    assert offline_variable() == name
