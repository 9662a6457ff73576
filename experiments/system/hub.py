"""What the environment says of the Hugging Face hub: address, token, cache, and being offline.

The variables are those of Hugging Face's own tools. One that is empty says nothing.
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from experiments.system.files import expanded, user_cache

HUB = "https://huggingface.co"


def variable(name: str) -> str:
    """Returns what a variable of the environment says, or nothing."""
    return os.environ.get(name, "").strip()


def is_true(text: str) -> bool:
    """Says whether the value of a variable means yes."""
    return text.upper() in {"1", "ON", "YES", "TRUE"}


def hub_endpoint() -> str:
    """Returns the address of the hub or of the mirror that `HF_ENDPOINT` names.

    Raises:
        ValueError: when that is no address.
    """
    said = variable("HF_ENDPOINT") or HUB
    scheme, host, *_ = urlsplit(said)
    if scheme not in ("http", "https") or not host:
        likely = said.rpartition("://")[2].strip("/") or "HOST"
        raise ValueError(
            f"HF_ENDPOINT must begin with https:// or http:// and name a host, got {said!r}: did "
            f"you mean HF_ENDPOINT=https://{likely}?"
        )
    return said.rstrip("/")


def hub_home() -> Path:
    """Returns the folder where Hugging Face's own tools keep all that is theirs."""
    home = variable("HF_HOME")
    return expanded(home) if home else user_cache() / "huggingface"


def hub_cache() -> Path:
    """Returns the folder where Hugging Face's own tools keep what they downloaded."""
    cache = variable("HF_HUB_CACHE") or variable("HUGGINGFACE_HUB_CACHE")
    return expanded(cache) if cache else hub_home() / "hub"


def hub_token() -> tuple[str, str] | None:
    """Returns the user's token for the hub and where it stands, or None.

    Raises:
        ValueError: when what stands there can be no token; it is not shown.
    """
    if is_true(variable("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        return None
    token, place = variable("HF_TOKEN"), "HF_TOKEN"
    if not token:
        named = variable("HF_TOKEN_PATH")
        path = expanded(named) if named else hub_home() / "token"
        try:
            token, place = path.read_text(encoding="utf-8", errors="replace").strip(), str(path)
        except OSError:  # none, or another user's; the published files need none
            return None
    if token and not re.fullmatch(r"[!-~]+", token):
        raise ValueError(f"{place} holds something else than one token of ASCII signs: see to it")
    return (token, place) if token else None


def offline_variable() -> str | None:
    """Returns the name of the variable by which the user forbids downloads, or None."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    told = next((name for name in names if variable(name)), None)
    return told if told and is_true(variable(told)) else None
