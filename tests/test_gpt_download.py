"""GPT-2's weights and tokenizer, from wherever their files are."""

import os
import tempfile

import numpy as np
import pytest
import tiktoken
from checkpoints import random_tensors
from conftest import Answer
from remote import names_in, place, sha256
from safetensors.torch import save

import gpt_download
from experiments.system import downloads
from gpt_download import (
    CHECKPOINTS,
    TOKENIZER_FILES,
    download_and_load_gpt2,
    load_gpt2_tokenizer,
)

TINY = {"n_vocab": 11, "n_ctx": 5, "n_embd": 128, "n_head": 2, "n_layer": 2}
TEXTS = [
    "",
    "Congratulations! You've won £1000. Reply YES to 80082",
    "  naïve café — Übergröße, \n\n\t日本語 and 한국어, Привет! 👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200b\x00",
    "I'll we've 12345 <|endoftext|> " + "a" * 50 + "   ",
]


@pytest.fixture(autouse=True)
def alone(quick_and_alone):
    """Before what a test's own fixtures say of the environment."""


# ------------------------------------------------------------------------------- the tokenizer


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_tokenizer_is_tiktokens_own(tmp_path):
    ours, theirs = load_gpt2_tokenizer(tmp_path), tiktoken.get_encoding("gpt2")
    assert ours._mergeable_ranks == theirs._mergeable_ranks
    assert ours._special_tokens == theirs._special_tokens
    assert ours.n_vocab == theirs.n_vocab == 50257
    for text in TEXTS:
        assert ours.encode(text, allowed_special="all") == theirs.encode(
            text, allowed_special="all"
        )
        assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)
        assert ours.decode(ours.encode_ordinary(text)) == text


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_tokenizer_is_found_in_tiktokens_cache_without_a_network(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_gpt2_tokenizer(folder).n_vocab == 50257
    assert not folder.exists()


@pytest.mark.parametrize(
    "where", ["folder/124M", "folder/1558M", "folder/tokenizer", "tiktoken"], ids=str
)
def test_the_tokenizer_is_found_under_the_books_names(
    where, real_data, folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for _, book_name, cached_name, *_ in TOKENIZER_FILES:
        content = (real_data / "tiktoken" / cached_name).read_bytes()
        place(tmp_path / where / book_name, content)
    assert load_gpt2_tokenizer(folder).encode("spam") == [2777, 321]


def test_the_tokenizer_is_found_in_the_hubs_cache_of_a_larger_model(
    real_data, folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, _, cached_name, *_ in TOKENIZER_FILES:
        content = (real_data / "tiktoken" / cached_name).read_bytes()
        place(tmp_path / "hub" / "models--gpt2" / "snapshots" / "any" / name, content)
    assert load_gpt2_tokenizer(folder).n_vocab == 50257


def test_the_tokenizer_is_fetched_from_the_hub_or_its_mirror(
    real_data, server, folder, monkeypatch
):
    repository, revision, *_ = CHECKPOINTS["124M"]
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(downloads, "PIECE", 1 << 20)
    for name, _, cached_name, *_ in TOKENIZER_FILES:
        content = (real_data / "tiktoken" / cached_name).read_bytes()
        server.serve(f"{repository}/resolve/{revision}/{name}", Answer(content))
    assert load_gpt2_tokenizer(folder).encode("spam") == [2777, 321]
    assert names_in(folder / "tokenizer") == {"vocab.json", "merges.txt"}
    assert len(server.asked) == 2


@pytest.mark.parametrize("cache", [None, "", "cache"])
def test_tiktokens_cache_and_its_variable_stay_as_they_were(
    cache, real_data, tmp_path, folder, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    if cache is not None:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", cache)
    for name, _, cached_name, *_ in TOKENIZER_FILES:
        place(folder / "tokenizer" / name, (real_data / "tiktoken" / cached_name).read_bytes())
    load_gpt2_tokenizer(folder)
    assert os.environ.get("TIKTOKEN_CACHE_DIR") == cache
    assert names_in(tmp_path) == {"folder"}


def test_a_tokenizer_file_with_another_digest_is_refused(folder):
    place(folder / "tokenizer" / "vocab.json", b"{}")
    with pytest.raises(ValueError, match=r"vocab\.json is not the expected file"):
        load_gpt2_tokenizer(folder)


# -------------------------------------------------------------------------------- all together


def test_an_unknown_model_size_is_refused(folder):
    with pytest.raises(ValueError, match="one of 124M, 355M, 774M, 1558M, got '125M'"):
        download_and_load_gpt2("125M", folder)


def test_a_model_is_downloaded_once_and_loaded(server, folder, monkeypatch):
    content = save(tensors := random_tensors(TINY))
    published = ("someone/gpt2", "revision", sha256(content), len(content))
    monkeypatch.setitem(CHECKPOINTS, "tiny", published)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.serve("someone/gpt2/resolve/revision/model.safetensors", Answer(content))
    for _ in range(2):
        settings, params = download_and_load_gpt2("tiny", folder)
        assert settings == TINY
        np.testing.assert_array_equal(params["wte"], tensors["wte.weight"])
    assert names_in(folder / "tiny") == {"model.safetensors"}
    assert len(server.asked) == 1


def test_verify_reaches_the_weights(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        gpt_download, "fetch_all", lambda needed, verify: asked.append(verify) or [folder]
    )
    monkeypatch.setattr(gpt_download, "load_gpt2_checkpoint", lambda path: path)
    for verify in (True, False):
        assert download_and_load_gpt2("124M", folder, verify=verify) == folder
    assert asked == [True, False]
