"""What the environment says of the Hugging Face hub: its address, its cache, and being offline.

The variables are those of Hugging Face's own tools: `HF_ENDPOINT` names a mirror, `HF_HUB_OFFLINE`
forbids downloads, `HF_HUB_CACHE` or `HF_HOME` say where the cache lies.
"""

import os
from pathlib import Path


def hub_endpoint() -> str:
    """Returns the address of the Hugging Face hub or of the mirror that the user names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_cache() -> Path:
    """Returns the folder where Hugging Face's own tools keep what they downloaded."""
    cache_home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{cache_home}/huggingface")
    path = Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub"))
    try:
        return path.expanduser()
    except RuntimeError:  # a user without a home has no cache
        return path


def is_offline() -> bool:
    """Says whether the user forbids downloads."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
