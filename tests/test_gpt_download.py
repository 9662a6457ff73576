"""GPT-2's weights and tokenizer, from wherever their files are."""

import os
import tempfile

import numpy as np
import pytest
import tiktoken
from checkpoints import TINY, random_tensors
from conftest import Answer
from remote import names_in, place, sha256
from safetensors.torch import save

from experiments.checkpoints.files import GPT2, Published
from experiments.system import downloads
from gpt_download import (
    TOKENIZER_FILES,
    download_and_load_gpt2,
    fetch_weights,
    load_gpt2_tokenizer,
    missing_files,
)

TEXT = (
    "Congratulations! You've won £1000. I'll we've 12345 <|endoftext|> " + "a" * 50 + "   "
    "naïve café — Übergröße, \n\n\t日本語 and 한국어, Привет! 👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200b\x00"
)


@pytest.fixture(autouse=True)
def alone(quick_and_alone):
    """Before what a test's own fixtures change in the environment."""


# ------------------------------------------------------------------------------- the tokenizer


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_tokenizer_is_tiktokens_own_and_found_in_its_cache(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ours, theirs = load_gpt2_tokenizer(folder), tiktoken.get_encoding("gpt2")
    assert ours._mergeable_ranks == theirs._mergeable_ranks
    assert ours._special_tokens == theirs._special_tokens
    assert ours.n_vocab == theirs.n_vocab == 50257
    tokens = ours.encode(TEXT, allowed_special="all")
    assert tokens == theirs.encode(TEXT, allowed_special="all")
    assert ours.encode_ordinary(TEXT) == theirs.encode_ordinary(TEXT)
    assert ours.decode(tokens) == TEXT
    assert not folder.exists()


@pytest.fixture
def tokenizer_files(real_data):
    """Name on the hub, name in the book, and content of each of the tokenizer's files."""
    cache = real_data / "tiktoken"
    names = ((hub, book, name) for hub, (book, name, _) in TOKENIZER_FILES.items())
    return [(hub, book, (cache / name).read_bytes()) for hub, book, name in names]


@pytest.mark.parametrize(
    "where", ["folder/1558M", "tiktoken", "folder/tokenizer", "hub/models--gpt2/snapshots/any"]
)
def test_the_tokenizer_is_found(where, tokenizer_files, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for hub_name, book_name, content in tokenizer_files:
        is_hub = where.startswith("hub") or where.endswith("tokenizer")
        place(tmp_path / where / (hub_name if is_hub else book_name), content)
    assert missing_files(None, folder) == []
    assert load_gpt2_tokenizer(folder).encode("spam") == [2777, 321]


@pytest.mark.parametrize("cache", [None, "cache"])
def test_the_tokenizer_is_downloaded_without_touching_tiktokens_cache(
    cache, tokenizer_files, server, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    if cache is not None:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", cache)
    for name, _, content in tokenizer_files:
        address = f"{GPT2['124M'].repository}/resolve/{GPT2['124M'].revision}/{name}"
        server.serve(address, Answer(content))
    monkeypatch.chdir(tmp_path)
    assert load_gpt2_tokenizer(folder).encode("spam") == [2777, 321]
    assert names_in(folder / "tokenizer") == {"vocab.json", "merges.txt"}
    assert len(server.asked) == 2
    assert os.environ.get("TIKTOKEN_CACHE_DIR") == cache
    assert names_in(tmp_path) == {"folder"}


# ----------------------------------------------------------------------------------- the weights


@pytest.fixture
def tiny(server, monkeypatch):
    """The tensors of a small model that the server has."""
    content = save(tensors := random_tensors(TINY))
    published = Published("someone/gpt2", "revision", sha256(content), len(content))
    monkeypatch.setitem(GPT2, "tiny", published)
    server.serve("someone/gpt2/resolve/revision/model.safetensors", Answer(content))
    return tensors


def test_a_model_is_downloaded_once_and_loaded(tiny, server, folder):
    for _ in range(2):
        settings, params = download_and_load_gpt2("tiny", folder, verify=True)
        assert settings == TINY
        np.testing.assert_array_equal(params["wte"], tiny["wte.weight"])
    assert names_in(folder / "tiny") == {"model.safetensors"}
    assert len(server.asked) == 1


def test_a_model_size_must_be_known_and_verify_reaches_the_weights(tiny, folder, monkeypatch):
    asked = []
    place(folder / "tiny" / "model.safetensors")
    monkeypatch.setattr(downloads, "check_digest", lambda *given: asked.append(given[2]))
    for verify in (True, False):
        fetch_weights("tiny", folder, verify)
    assert asked == [True, False]
    with pytest.raises(ValueError, match="one of 124M, 355M, 774M, 1558M, tiny, got '125M'"):
        fetch_weights("125M", folder)


def test_missing_files_are_named_without_a_request(server, folder):
    sentences = missing_files("124M", folder)
    paths = ("tokenizer/vocab.json", "tokenizer/merges.txt", "124M/model.safetensors")
    for sentence, path in zip(sentences, paths, strict=True):
        assert f" as {folder / path} (SHA-256 " in sentence
    assert missing_files("1558M", folder)[2].count("gpt2-xl") == 1
    assert server.asked == []
