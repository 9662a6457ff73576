"""What a saved classifier was finetuned from: named when it is saved, found when it is loaded.

    path = keep_classifier(settings, model, max_length, class_names, record)
    model, description = load_saved(path)

A base is known by its digest, wherever it lies. Weights that were drawn are drawn again.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.published import CHECKPOINT_SHA256
from experiments.config.settings import Settings
from experiments.model.classifier import GPTClassifier
from experiments.model.description import Description
from experiments.model.saved import (
    frozen_sha256,
    one_line,
    read_saved,
    restore,
    save_classifier,
)
from experiments.runs.fingerprint import checkpoint_sha256, identify_weights
from experiments.runs.preparation import design_of_network
from experiments.system.downloads import fetch_all
from gpt_download import needed_for_weights


def saved_path(settings: Settings) -> Path | None:
    """Returns where a run's classifier is kept, if it is."""
    file = settings.output.save_model
    return file and file.with_name(file.name.replace("{seed}", str(settings.seed)))


def is_saved(settings: Settings) -> bool:
    """Says whether all that a run was to keep is there."""
    path = saved_path(settings)
    return path is None or path.is_file()


def keep_classifier(
    settings: Settings,
    model: GPTClassifier,
    max_length: int,
    class_names: Sequence[str],
    record: str | None,
) -> Path:
    """Saves a run's classifier where `--save_model` says, and returns the path.

    Args:
        settings: of its seed.
        model: the plain one, whose parameters were trained.
        max_length: of its training data set.
        class_names: in the order of their numbers.
        record: digest of the run's record, if it has one.

    Raises:
        OSError: when it cannot be written.
    """
    path = saved_path(settings)
    save_classifier(path, model, describe_saved(settings, model, max_length, class_names, record))
    return path


def describe_saved(
    settings: Settings,
    model: GPTClassifier,
    max_length: int,
    class_names: Sequence[str],
    record: str | None,
) -> Description:
    """Returns what has to be known of a run's classifier, from what `keep_classifier` takes."""
    network, reading = settings.network, settings.reading
    base_path = str(network.checkpoint.resolve()) if network.checkpoint else network.weights
    if settings.output.save_whole or network.trainable_layers == "all":
        base = None
    else:
        is_random = network.weights == "random"
        base = frozen_sha256(model) if is_random else identify_weights(network)
    return Description(
        design=design_of_network(network),
        class_names=list(class_names),
        # Without padding the data set has the length of its longest message, which cuts nothing.
        max_length=network.config["context_length"] if reading.no_padding else max_length,
        no_padding=reading.no_padding,
        tokenizer="bytes" if reading.demo else "gpt2",
        precision=settings.machine.precision,
        seed=settings.seed,
        is_whole=settings.output.save_whole,
        base=base,
        base_path=base_path,
        settings=settings.identity,
        record=record,
    )


def load_saved(path: Path, weights: Path | None = None) -> tuple[GPTClassifier, Description]:
    """Returns a saved classifier, on the CPU, and its description.

    Args:
        path: of its file.
        weights: the checkpoint of its base; if None, that is found.

    Raises:
        ValueError: when the file is no saved classifier, or its base is another or not found.
        OSError: when a file cannot be had or read.
    """
    description, tensors = read_saved(path)
    is_drawn = description.base_path == "random"
    if description.holds_everything or is_drawn:
        if weights:
            why = "draws its base from the seed" if is_drawn else "holds all that it needs"
            raise ValueError(f"{path} {why}: leave out --weights")
        return restore(description, tensors), description
    base = find_base(description, weights)
    return restore(description, tensors, load_gpt2_checkpoint(base)[1]), description


def find_base(description: Description, named: Path | None = None) -> Path:
    """Returns the checkpoint that was finetuned: the named one, its old path, or a published one.

    Raises:
        ValueError: when the named one is another, or none is found.
        OSError: when a published one cannot be had.
    """
    expected, old_path = description.base, description.base_path
    if named:
        if (actual := checkpoint_sha256(named)) != expected:
            raise ValueError(f"{named} is another base: SHA-256 {actual}, expected {expected}")
        return named
    found = ""
    if old_path != "pretrained":
        try:
            if (actual := checkpoint_sha256(Path(old_path))) == expected:
                return Path(old_path)
            found = f" ({old_path} is another, SHA-256 {actual})"
        except (OSError, ValueError) as error:
            found = f" ({one_line(error)})"
    for size, sha256 in CHECKPOINT_SHA256.items():
        if sha256 == expected:
            return fetch_all(needed_for_weights(size))[0]
    raise ValueError(f"the base, SHA-256 {expected}, is not found{found}: name it by --weights")
