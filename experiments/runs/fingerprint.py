"""What tells a run apart from all others, known before PyTorch is imported.

    tell_recorded(parse_rows())  # True where all of it is recorded already

A run has a digest of what it depends on: flags, seed, weights, data, device, versions, sources.
"""

import hashlib
import importlib
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.checkpoints.config import HEAD_WIDTH
from experiments.checkpoints.header import read_checkpoint
from experiments.config.flags import design_of, stands_in
from experiments.config.published import CHECKPOINT_SHA256, DATA_SHA256
from experiments.config.rows import name_of_row
from experiments.config.settings import MODEL_SIZES, Network, Settings
from experiments.runs.records import is_finished, record_path
from experiments.runs.sources import source_digest
from experiments.system.torchrun import is_launched
from experiments.system.verified import known_sha256

LIBRARIES = ("torch", "numpy", "pandas", "tiktoken")  # that a result can depend on

# -------------------------------------------------------------------------------- what a run is of


def identify_weights(network: Network, verify: bool = False) -> str:
    """Returns what tells the weights that a run starts from apart from all others.

    Args:
        network: which network is built.
        verify: reads a checkpoint even if it has not changed since its digest was noted.
    """
    if network.checkpoint:
        return checkpoint_sha256(network.checkpoint, verify)
    return "random" if network.weights == "random" else CHECKPOINT_SHA256[network.parameter_count]


def checkpoint_sha256(path: Path, verify: bool = False) -> str:
    """Returns one SHA-256 for the files of a checkpoint and its heads.

    It is the file's own where there is one file whose heads have the width of GPT-2's, so that a
    copy of a published checkpoint is known as that.
    """
    checkpoint = read_checkpoint(path)
    digests = [known_sha256(file, verify) for file in checkpoint.files]
    heads = checkpoint.sizes["n_head"]
    if len(digests) == 1 and heads * HEAD_WIDTH == checkpoint.sizes["n_embd"]:
        return digests[0]
    return hashlib.sha256(f"{heads} heads {' '.join(digests)}".encode()).hexdigest()


def as_published(network: Network, weights: str) -> Network:
    """Returns the network with the published model in place of a file that is the very same.

    Args:
        network: which network is built.
        weights: what tells its weights apart.
    """
    for name in MODEL_SIZES:
        published = replace(network, model_size=name, weights="pretrained")
        is_same = CHECKPOINT_SHA256.get(published.parameter_count) == weights
        if is_same and published.config == network.config:  # the same numbers in as many heads
            return published
    return network


def describe_subject(settings: Settings) -> dict[str, Any]:
    """Returns what a run is of: a row or a baseline, the model, and all flags that make it."""
    if settings.baseline:
        return {
            "name": f"baseline {settings.baseline}",
            "row": None,
            "stands_in": False,
            "model": settings.baseline,
            "weights": None,
            "precision": "float32",
            "settings": {"baseline": settings.baseline},
        }
    weights = identify_weights(settings.network, settings.machine.verify)
    settings = replace(settings, network=as_published(settings.network, weights))
    row = design_of(settings)
    return {
        "name": name_of_row(row),
        "row": row,
        "stands_in": stands_in(settings),
        "model": settings.network.description,
        "weights": weights,
        "precision": settings.machine.precision,
        "settings": settings.identity,
    }


# --------------------------------------------------------------------------- what it is made with


def list_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a result can depend on."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in LIBRARIES}


def version_of(library: str) -> str:
    """Returns the version of an installed library, as pip knows it or as it says itself."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # built by hand
        return importlib.import_module(library).__version__


def cpu_name() -> str:
    """Returns what the processor is called."""
    name = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():  # Linux, whose processor() is the architecture
        name = re.search(r"model name\s*: (.*)|$", cpuinfo.read_text())[1] or name
    return name


def is_on_cpu(settings: Settings) -> bool:
    """Says whether a run is surely computed on the CPU; PyTorch alone can find a GPU."""
    has_no_gpu = version_of("torch").endswith("+cpu") or sys.platform == "darwin"
    name = settings.machine.device
    return bool(settings.baseline) or name == "cpu" or (name == "auto" and has_no_gpu)


# ----------------------------------------------------------------------- whether it was made before


def digest_of_run(
    settings: Settings, subject: dict[str, Any], data: str, device_type: str, device_name: str
) -> str:
    """Returns the SHA-256 of all that a run depends on.

    Args:
        settings: of one seed.
        subject: as `describe_subject` gives it.
        data: digest of the messages.
        device_type: where it is computed.
        device_name: which one that is.
    """
    depends_on = [
        subject["settings"] | {"weights": subject["weights"]},
        None if settings.baseline else settings.network.config,
        settings.seed, not settings.machine.no_shortcuts, device_type, device_name,
        list_versions(), data, source_digest(),
    ]  # fmt: skip
    return hashlib.sha256(repr(depends_on).encode()).hexdigest()


def recorded_path(settings: Settings) -> Path | None:
    """Returns where the record of a seed is, if there is one that surely is this very run's."""
    output = settings.output
    if output.overwrite or output.save_model or settings.own.data or settings.reading.demo:
        return None
    if is_launched() or not is_on_cpu(settings):
        return None
    subject = describe_subject(settings)
    digest = digest_of_run(settings, subject, DATA_SHA256, "cpu", f"cpu, {cpu_name()}")
    path = record_path(output.output_dir, subject | {"seed": settings.seed, "digest": digest})
    return path if is_finished(path) else None


def tell_recorded(rows: Mapping[int | None, Settings]) -> bool:
    """Says on the screen that a row is recorded already, and returns whether all its seeds are.

    Several rows are left to the sweep, which says what is done and what remains.
    """
    if len(rows) > 1 or (first := next(iter(rows.values()))).output.dry_run:
        return False
    seeds = range(first.seed, first.seed + first.num_seeds)
    try:
        paths = [recorded_path(replace(first, seed=seed)) for seed in seeds]
    except (OSError, ValueError):  # is told in its place
        return False
    if None in paths:
        return False
    for path in paths:
        print(describe_recorded(path))
    return True


def describe_recorded(path: Path) -> str:
    """Returns that a run is recorded already, and where."""
    return f"Recorded already, and not run again (--overwrite does): {path}"
