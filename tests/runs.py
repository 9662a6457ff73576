"""Short runs of the script: a small checkpoint, and generated messages as the real data."""

import pytest
from checkpoints import write_checkpoint

from experiments.config.rows import DATA_SHA256, SPAM_CLASSES
from experiments.data import corpus, datasets
from experiments.data.corpus import Corpus, digest_of
from experiments.data.sms_spam import demo_splits

SMALL = {"n_vocab": 50257, "n_ctx": 128, "n_embd": 64, "n_head": 1, "n_layer": 3}


def demo_corpus():
    """The demo's messages, as if they were the published ones."""
    splits = {name: datasets.read_messages(csv) for name, csv in demo_splits().items()}
    assert digest_of(splits, SPAM_CLASSES) != DATA_SHA256
    return Corpus(splits, SPAM_CLASSES, DATA_SHA256)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A checkpoint of three blocks."""
    return write_checkpoint(tmp_path_factory.mktemp("small") / "small.safetensors", SMALL)


def use_demo_data(monkeypatch):
    """Let a run find the demo's messages in place of the published ones, and its tokenizer."""
    load_corpus, tokenize = corpus.load_corpus, datasets.tokenize

    def load(data, custom):
        return load_corpus(data, custom) if custom.data else demo_corpus()

    def tokenize_bytes(corpus, data, length):
        from dataclasses import replace

        return tokenize(corpus, replace(data, demo=True), length)

    monkeypatch.setattr(corpus, "load_corpus", load)
    monkeypatch.setattr(datasets, "tokenize", tokenize_bytes)
