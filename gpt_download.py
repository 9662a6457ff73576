"""GPT-2's weights and tokenizer: verified files, and what is read from them.

    settings, params = download_and_load_gpt2("124M", models_dir="gpt2")
    tokenizer = load_gpt2_tokenizer(models_dir="gpt2")

The environment is that of Hugging Face's own tools: `HF_ENDPOINT` names a mirror of the hub,
`HF_TOKEN` is sent to it only, `HF_HUB_OFFLINE=1` forbids downloads, and `HF_HUB_CACHE` or `HF_HOME`
name the hub's cache, whose files are used. So are those of tiktoken's cache and of the book.

Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; the files are
those of huggingface.co/openai-community.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.checkpoints.files import GPT2
from experiments.system import downloads
from experiments.system.downloads import RemoteFile, fetch, hub_file, naming_missing

if TYPE_CHECKING:
    import tiktoken

TOKENIZER_FILES = {  # name on the hub: name in the book, in tiktoken's cache, and SHA-256
    "vocab.json": (
        "encoder.json",
        "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    "merges.txt": (
        "vocab.bpe",
        "6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
}


def download_and_load_gpt2(
    model_size: str, models_dir: str | Path = "gpt2", verify: bool = False
) -> tuple[dict[str, int], dict[str, Any]]:
    """Return a GPT-2's settings and weights, downloaded to `models_dir/model_size` if need be.

    Args:
        model_size: "124M", "355M", "774M" or "1558M".
        models_dir: the folder of all models.
        verify: computes the SHA-256 of the weights even if it is remembered.

    Raises:
        ValueError: on an unknown size, or if the folder has another file of that name.
        OSError: if the weights cannot be downloaded.
    """
    from experiments.checkpoints.weights import load_gpt2_checkpoint

    return load_gpt2_checkpoint(fetch_weights(model_size, models_dir, verify))


def load_gpt2_tokenizer(models_dir: str | Path = "gpt2") -> tiktoken.Encoding:
    """Return GPT-2's tokenizer, made from verified files.

    They are in `models_dir/tokenizer`, in the book's folder of a model, or in a cache of tiktoken
    or the hub; otherwise they are downloaded from the hub. tiktoken would request them from another
    host, without a timeout.

    Raises:
        ValueError: if `models_dir/tokenizer` has another file of that name.
        OSError: if the files cannot be downloaded.
    """
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

    with naming_missing(lambda: missing_files(None, models_dir)):
        tokens, merges = (fetch(*file) for file in _tokenizer_files(models_dir))
    cache = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = ""  # else tiktoken copies both files into its cache
    try:
        ranks = data_gym_to_mergeable_bpe_ranks(str(merges), str(tokens))
    finally:
        del os.environ["TIKTOKEN_CACHE_DIR"]
        os.environ |= {} if cache is None else {"TIKTOKEN_CACHE_DIR": cache}
    return tiktoken.Encoding(
        "gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={ENDOFTEXT: len(ranks)}
    )


def fetch_weights(model_size: str, models_dir: str | Path = "gpt2", verify: bool = False) -> Path:
    """Return where the verified weights of a GPT-2 are, after downloading them if need be.

    Args and errors are those of `download_and_load_gpt2`.
    """
    return fetch(*_weights(model_size, models_dir), verify)


def missing_files(model_size: str | None, models_dir: str | Path = "gpt2") -> list[str]:
    """Return how to place the tokenizer and the weights, if any, that are not on this machine.

    Raises:
        ValueError: if the folder has another file of one of the names.
    """
    needed = _tokenizer_files(models_dir)
    needed += [_weights(model_size, models_dir)] if model_size else []
    return [downloads.how_to_place(*each) for each in needed if not downloads.find(*each)]


def _weights(model_size: str, models_dir: str | Path) -> tuple[RemoteFile, Path]:
    if model_size not in GPT2:
        raise ValueError(f"model_size must be one of {', '.join(GPT2)}, got {model_size!r}")
    repository, revision, sha256, size = GPT2[model_size]
    file = hub_file(repository, revision, "model.safetensors", sha256, size)
    return file, Path(models_dir) / model_size


def _tokenizer_files(models_dir: str | Path) -> list[tuple[RemoteFile, Path]]:
    """Return the files of the tokens and of the merges, and their folder."""
    repository, revision, *_ = GPT2["124M"]
    variables = map(os.environ.get, ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"))
    named = next(filter(None, variables), None)
    cache = Path(named) if named else Path(tempfile.gettempdir()) / "data-gym-cache"
    files = []
    for name, (book_name, cached_name, sha256) in TOKENIZER_FILES.items():
        file = hub_file(repository, revision, name, sha256)
        in_cache = (cache / each for each in (cached_name, book_name, name))
        of_book = sorted(Path(models_dir).glob(f"*/{book_name}"))
        files.append(replace(file, copies=(*in_cache, *of_book, *file.copies)))
    return [(file, Path(models_dir) / "tokenizer") for file in files]
