"""GPT-2's weights and its tokenizer: from addresses to verified files, and from these to arrays.

    settings, params = download_and_load_gpt2("124M", models_dir="gpt2")
    tokenizer = load_gpt2_tokenizer(models_dir="gpt2")

From the environment, as with Hugging Face's own tools: `HF_ENDPOINT` names a mirror of the hub,
the only address that need not be https; `HF_TOKEN` is shown to it and to no one else;
`HF_HUB_OFFLINE=1` forbids downloads; `HF_HUB_CACHE` or `HF_HOME` say where the hub's cache lies,
whose files are used as well, and so are those of tiktoken's and of the book's own folders.

Sources: the checkpoints and the tokenizer are those of huggingface.co/openai-community (GPT-2,
Radford et al. 2019).
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.published import CHECKPOINT_SHA256
from experiments.system.downloads import fetch_all
from experiments.system.hub import hub_cache, hub_endpoint
from experiments.system.known_files import Needed, RemoteFile

# ----------------------------------------------------------------------- what there is to fetch

# model size: repository, revision, SHA-256 and bytes of its model.safetensors
CHECKPOINTS = {
    "124M": (
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        CHECKPOINT_SHA256["124M"],
        548_105_171,
    ),
    "355M": (
        "openai-community/gpt2-medium",
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        CHECKPOINT_SHA256["355M"],
        1_519_984_962,
    ),
    "774M": (
        "openai-community/gpt2-large",
        "32b71b12589c2f8d625668d2335a01cac3249519",
        CHECKPOINT_SHA256["774M"],
        None,
    ),
    "1558M": (
        "openai-community/gpt2-xl",
        "15ea56dee5df4983c59b2538573817e1667135e2",
        CHECKPOINT_SHA256["1558M"],
        None,
    ),
}

# names on the hub, in the book, and in tiktoken's cache (the SHA-1 of its address), SHA-256, bytes
TOKENIZER_FILES = (
    (
        "vocab.json",
        "encoder.json",
        "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        1_042_301,
    ),
    (
        "merges.txt",
        "vocab.bpe",
        "6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        456_318,
    ),
)


def hub_file(
    repository: str, revision: str, name: str, sha256: str, size: int | None = None
) -> RemoteFile:
    """Returns a file of the Hugging Face hub, of its mirror, or of its cache on this machine.

    In the cache it may lie under any revision, and under other names of the repository.
    """
    model = repository.rpartition("/")[2]
    cache = hub_cache()
    copies = (
        *cache.glob(f"models--*/blobs/{sha256}"),
        *cache.glob(f"models--*{model}/snapshots/*/{name}"),
    )
    return RemoteFile(
        names=(name,),
        sha256=sha256,
        addresses=(f"{hub_endpoint()}/{repository}/resolve/{revision}/{name}",),
        size=size,
        copies=tuple(sorted(copies)),
    )


def needed_for_weights(model_size: str, models_dir: str | Path = "gpt2") -> list[Needed]:
    """Returns what has to be fetched of a GPT-2's weights, and to where.

    Raises:
        ValueError: on an unknown size.
    """
    if model_size not in CHECKPOINTS:
        raise ValueError(f"model_size must be one of {', '.join(CHECKPOINTS)}, got {model_size!r}")
    repository, revision, sha256, size = CHECKPOINTS[model_size]
    file = hub_file(repository, revision, "model.safetensors", sha256, size)
    return [(file, Path(models_dir) / model_size)]


def needed_for_tokenizer(models_dir: str | Path = "gpt2") -> list[Needed]:
    """Returns what has to be fetched of the tokenizer, and to where: its tokens and its merges."""
    repository, revision, *_ = CHECKPOINTS["124M"]
    needed = []
    for name, book_name, cached_name, sha256, size in TOKENIZER_FILES:
        file = hub_file(repository, revision, name, sha256, size)
        copies = (
            *(tiktoken_cache() / own_name for own_name in (cached_name, book_name, name)),
            *sorted(Path(models_dir).glob(f"*/{book_name}")),
            *file.copies,
        )
        file = replace(file, copies=copies)
        needed.append((file, Path(models_dir) / "tokenizer"))
    return needed


# ------------------------------------------------------------------------------ GPT-2's own files


def download_and_load_gpt2(
    model_size: str, models_dir: str | Path = "gpt2", verify: bool = False
) -> tuple[dict[str, int], dict[str, Any]]:
    """Returns a GPT-2's settings and weights, downloaded to `models_dir/model_size` if need be.

    Args:
        model_size: "124M", "355M", "774M" or "1558M".
        models_dir: the folder of all models.
        verify: computes the digest of the weights even if they have not changed since the last
            time.

    Returns:
        What `load_gpt2_checkpoint` returns.

    Raises:
        ValueError: on an unknown size, or a file in the folder that is not the published one.
        DownloadError: when the weights cannot be had.
    """
    (path,) = fetch_all(needed_for_weights(model_size, models_dir), verify)
    return load_gpt2_checkpoint(path)


def load_gpt2_tokenizer(models_dir: str | Path = "gpt2") -> tiktoken.Encoding:
    """Returns GPT-2's tokenizer, made from verified files.

    They lie in `models_dir/tokenizer`, in the book's own folder of a model, or in a cache of
    tiktoken's or the hub's; else they are downloaded from the hub. tiktoken would ask another
    host for the same, without a timeout.

    Raises:
        ValueError: when a file in `models_dir/tokenizer` is not the published one.
        DownloadError: when the files cannot be had.
    """
    tokens, merges = fetch_all(needed_for_tokenizer(models_dir))
    with no_tiktoken_cache():
        ranks = data_gym_to_mergeable_bpe_ranks(str(merges), str(tokens))
    return tiktoken.Encoding(
        name="gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={ENDOFTEXT: len(ranks)},
    )


def tiktoken_cache() -> Path:
    """Returns the folder where tiktoken keeps what it downloaded."""
    variables = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
    named = next((os.environ[name] for name in variables if os.environ.get(name)), None)
    return Path(named) if named else Path(tempfile.gettempdir()) / "data-gym-cache"


@contextmanager
def no_tiktoken_cache() -> Iterator[None]:
    """Keeps tiktoken from copying local files into its cache, for the length of a `with`."""
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = ""  # tiktoken's own word for none
    try:
        yield
    finally:
        del os.environ["TIKTOKEN_CACHE_DIR"]
        if before is not None:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
