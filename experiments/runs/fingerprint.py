"""The fingerprint of a run: a SHA-256 of all that its result depends on.

    record = begin_record(settings, corpus=None)
    record["digest"]

For published data on a CPU it is known before PyTorch is imported, so that a run that is recorded
already ends at once.
"""

import hashlib
import importlib
import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.rows import DATA_SHA256, SPAM_CLASSES, name_of_row
from experiments.config.settings import Settings
from experiments.runs.records import VERSION
from experiments.system.distributed import world
from experiments.system.files import sha256_of
from experiments.system.hardware import cpu_name

if TYPE_CHECKING:
    from experiments.data.corpus import Corpus

_LIBRARIES = ("torch", "numpy", "pandas", "tiktoken")  # that a result can depend on
_FOLDER = Path(__file__).parents[2]
_SCRIPTS = ("additional_experiments.py", "gpt_download.py", "previous_chapters.py")


def begin_record(settings: Settings, corpus: "Corpus | None") -> dict[str, Any]:
    """Return the part of a record that is known before its run.

    The corpus is None for the published data, whose digest is known.
    """
    data, class_names, split = DATA_SHA256, SPAM_CLASSES, None
    if corpus:
        from experiments.data.corpus import digest_of

        data, class_names = corpus.digest, corpus.class_names
        split = {"of": corpus.whole, "seed": settings.custom.split_seed}
        split["custom"] = settings.custom_values
        split["test"] = digest_of({"test": corpus.splits["test"]}, corpus.class_names)
        split["sizes"] = {name: len(examples) for name, examples in corpus.splits.items()}
    device_type, device_name = _device_of(settings)
    baseline, flags = settings.baseline, settings.identity
    weights, network = settings.weights.sha256, settings.design.config
    if baseline:
        flags, weights, network = {"baseline": baseline}, None, None
    depends_on = [
        flags | {"weights": weights}, network, settings.seed, not settings.runtime.no_shortcuts,
        device_type, device_name, list_versions(), data, source_digest(),
    ]  # fmt: skip
    return {
        "name": f"baseline {baseline}" if baseline else name_of_row(settings.row),
        "row": settings.row,
        "stands_in": settings.is_substitute,
        "model": baseline or settings.weights.description,
        "weights": weights,
        "precision": settings.runtime.precision,
        "settings": flags,
        "version": VERSION,
        "digest": hashlib.sha256(repr(depends_on).encode()).hexdigest(),
        "data": data,
        "classes": list(class_names),
        "split": split,
        "prefix_reused": False,
        "seed": settings.seed,
        "label": settings.output.name,
        "environment": list_versions()
        | {
            "platform": platform.platform(),
            "device": device_name,
            "device_type": device_type,
            "processes": world.size,
            "shortcuts": not settings.runtime.no_shortcuts,
            "git_commit": git_commit(),
        },
    }


def _device_of(settings: Settings) -> tuple[str, str]:
    """Return the type and the name of a run's device; only PyTorch can find a GPU."""
    has_no_gpu = version_of("torch").endswith("+cpu") or sys.platform == "darwin"
    name = settings.runtime.device
    if settings.baseline or name == "cpu" or (name == "auto" and has_no_gpu):
        return "cpu", f"cpu, {cpu_name()}"
    from experiments.system.devices import device_name, select_device

    device = select_device(name)
    return device.type, device_name(device)


# ---------------------------------------------------------------------------- versions and sources


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a result can depend on."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in _LIBRARIES}


@cache
def version_of(library: str) -> str:
    """Return the version of an installed library."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # built by hand
        return importlib.import_module(library).__version__


def source_files() -> list[Path]:
    """Return the files that a result depends on: the whole package except the comparison."""
    package = sorted((_FOLDER / "experiments").rglob("*.py"))
    used = (path for path in package if path.parent.name != "comparison")
    return [*(_FOLDER / name for name in _SCRIPTS), *used]


@cache
def source_digest() -> str:
    """Return the digests of the source files, so that changed code runs again."""
    return " ".join(sha256_of(path) for path in source_files())


@cache
def git_commit() -> str | None:
    """Return the commit of the repository around the source files, `-dirty` if edited, or None."""
    # Takes no lock, which would stay, and block commits, if the process were killed.
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch"]
    try:
        status = subprocess.check_output(
            [*command, "--untracked-files=no"], cwd=_FOLDER, stderr=subprocess.DEVNULL,
            encoding="utf-8", errors="replace", timeout=10,  # of a branch's name
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    commit = re.search(r"^# branch\.oid ([0-9a-f]+)$", status, re.MULTILINE)
    is_edited = re.search("^[^#]", status, re.MULTILINE)
    return commit and commit[1] + "-dirty" * bool(is_edited)
