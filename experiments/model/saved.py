"""A trained classifier in one file, and the base that it was finetuned from.

    path = save_classifier(settings, model, max_length, class_names, record)
    model, description = load_classifier(path)

The file has the trained tensors only, or, with `--save_whole`, all of them under the book's names.
Otherwise loading needs the base: a checkpoint is identified by its SHA-256, and random weights are
drawn again. Nothing in a file can run code.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from experiments.checkpoints.files import CHECKPOINT_SHA256, format_error
from experiments.checkpoints.header import checkpoint_sha256
from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.settings import Settings
from experiments.model.classifier import GPTClassifier, count_parameters, create_classifier
from experiments.model.description import Description, parse_description
from experiments.model.lora import LinearWithLoRA, merged_weight
from experiments.system.distributed import world
from experiments.system.files import check_file_writable, write_or_rescue, write_whole
from experiments.system.terminal import UsageError
from gpt_download import fetch_weights
from previous_chapters import causal_mask

_KEY = "finetuned_classifier"  # of the description in the metadata
_PICKLE = (
    "it is a PyTorch pickle, such as the book's: train again with --save_model, or convert it for "
    "--weights of a run, in Python:"
)


def is_saved(settings: Settings, record: str | None) -> bool:
    """Return whether the classifier of the run with this record is saved as the settings ask."""
    found = _read_description(settings.model_path)
    return bool(found) and (found.record, found.is_whole) == (record, settings.output.save_whole)


def check_can_save(settings: Settings, record: str | None) -> None:
    """Check, before a run is computed, that its classifier can be saved.

    Raises:
        UsageError: if the file cannot be written, or is not an earlier classifier of this run and
            there is no `--overwrite`.
    """
    if not world.is_main:
        return
    if problem := _find_other_file(settings, record):
        raise UsageError(problem)
    with torch.device("meta"):
        model = create_classifier(settings.design, None, settings.seed, num_classes=2)
    trained, total = count_parameters(model)
    path, size = settings.model_path, 4 * (total if settings.output.save_whole else trained)
    try:
        check_file_writable(path, size)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--save_model {path} cannot be written: {reason}") from error


def _find_other_file(settings: Settings, record: str | None) -> str | None:
    path = settings.model_path
    if settings.output.overwrite or not path.is_file():
        return None
    found = _read_description(path)
    if found and found.record == record:
        return None
    run = "the classifier of another run (other flags, seed, data or code)"
    what = run if found else "a file that no run has saved"
    return f"--save_model {path} is {what}: name a new file, or add --overwrite"


def _read_description(path: Path) -> Description | None:
    with suppress(SafetensorError, ValueError, OSError), safe_open(path, framework="pt") as file:
        return parse_description((file.metadata() or {}).get(_KEY, ""))
    return None


def save_classifier(
    settings: Settings,
    model: GPTClassifier,
    max_length: int,
    class_names: Sequence[str],
    record: str | None,
    text_columns: Sequence[str] = (),
) -> Path:
    """Save a run's classifier, completely or not at all, and return the path.

    Of several processes only the main one writes. `max_length` is that of the training data set in
    tokens; class names are in the order of their numbers; `record` is the digest of a record;
    `text_columns` are those of the training data.

    Raises:
        OSError: when the file cannot be written; it is then in a temporary folder.
    """
    design, weights, data = settings.design, settings.weights, settings.data
    path, is_whole = settings.model_path, settings.output.save_whole
    base = None
    if not is_whole and design.trainable_layers != "all":
        base = _frozen_sha256(model) if weights.kind == "random" else weights.sha256
    description = Description(
        design=design,
        class_names=list(class_names),
        text_columns=list(text_columns),
        # Without padding, the length of the longest training example does not limit others.
        max_length=design.config["context_length"] if data.no_padding else max_length,
        no_padding=data.no_padding,
        tokenizer="bytes" if data.demo else "gpt2",
        precision=settings.runtime.precision,
        seed=settings.seed,
        is_whole=is_whole,
        base=base,
        base_path=str(weights.path.resolve()) if weights.path else weights.kind,
        settings=settings.identity,
        record=record,
    )
    tensors = _whole_tensors(model) if is_whole else _trained_tensors(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if world.is_main:
        # Not by `save_file`: only the owner can read its files, and its errors are not OSError.
        content = save(tensors, {"format": "pt", _KEY: description.to_json()})

        def write(target: Path) -> None:
            if target == path and (problem := _find_other_file(settings, record)):
                raise FileExistsError(problem)  # made while this run was computed
            write_whole(target, content)

        write_or_rescue(path, write)
    return path


def _trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def _whole_tensors(model: nn.Module) -> dict[str, Tensor]:
    tensors = model.state_dict()
    for name, layer in model.named_modules():
        if isinstance(layer, LinearWithLoRA):
            for key in layer.state_dict(prefix=f"{name}."):
                del tensors[key]
            tensors[f"{name}.weight"] = merged_weight(layer)
            if layer.linear.bias is not None:
                tensors[f"{name}.bias"] = layer.linear.bias
    return tensors


def _frozen_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def load_classifier(path: Path, weights: Path | None = None) -> tuple[GPTClassifier, Description]:
    """Return a saved classifier, on the CPU, and its description.

    Its base is the checkpoint `weights`; if None, it is looked up where it was, or downloaded.

    Raises:
        ValueError: when the file is not a saved classifier, or its base has changed or is missing.
        OSError: when a file cannot be read or downloaded.
    """
    description, tensors = read_saved(path)
    design, is_random = description.design, description.base_path == "random"
    if weights and (description.base is None or is_random):
        reason = "has a base with random weights" if is_random else "has all weights"
        raise ValueError(f"{path} {reason}: leave out --weights")
    if description.base is None:
        model = _without_weights(description)
        if not design.disable_causal_mask:  # the masks are not in `tensors`
            for block in model.trf_blocks:
                block.att.mask = causal_mask(design.config["context_length"])
        model.load_state_dict(tensors, strict=False, assign=True)
        return model, description
    params = None if is_random else load_gpt2_checkpoint(_find_base(description, weights))[1]
    model = create_classifier(design, params, description.seed, len(description.class_names))
    if is_random and (actual := _frozen_sha256(model)) != description.base:
        raise ValueError(
            f"torch {torch.__version__} draws other random weights from seed {description.seed} "
            f"than were finetuned (SHA-256 {actual}, expected {description.base}): use the version "
            "in requirements.txt, or train with --save_whole"
        )
    model.load_state_dict(tensors, strict=False)
    return model, description


def read_saved(path: Path) -> tuple[Description, dict[str, Tensor]]:
    """Return the description and tensors of a saved classifier, without masks.

    Raises:
        ValueError: when it is not a saved classifier, or the two do not fit together.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if _KEY not in (metadata := file.metadata() or {}):
                raise ValueError(f"its metadata have no {_KEY}, which --save_model writes")
            description = parse_description(metadata[_KEY])
            names = [name for name in file.keys() if not name.endswith(".att.mask")]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in names}
        expected = _trained_tensors(_without_weights(description))
        for name in sorted(tensors.keys() | expected.keys()):
            actual, wanted = (_kind_of(some.get(name)) for some in (tensors, expected))
            if actual != wanted:
                raise ValueError(f"{name} is {actual}, expected {wanted}")
            if not torch.isfinite(tensors[name]).all():
                raise ValueError(f"{name} has values that are not finite")
    except (SafetensorError, ValueError) as error:
        lines = getattr(format_error(path, error), "__notes__", [])  # that convert a pickle
        problem = ValueError(
            f"{path} is not a saved classifier: {_PICKLE if lines else _one_line(error)}"
        )
        problem.__notes__ = lines
        raise problem from error
    return description, tensors


def _without_weights(description: Description) -> GPTClassifier:
    """Return a meta classifier whose trained parameters are the saved tensors."""
    design = description.design
    if description.is_whole:  # LoRA is merged
        design = replace(design, trainable_layers="all")
    with torch.device("meta"):
        return create_classifier(design, None, description.seed, len(description.class_names))


def _kind_of(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _find_base(description: Description, given: Path | None) -> Path:
    expected, old_path = description.base, description.base_path
    if given:
        if (actual := checkpoint_sha256(given)) != expected:
            raise ValueError(f"{given} is another base: SHA-256 {actual}, expected {expected}")
        return given
    reason = ""
    if old_path != "pretrained":
        try:
            if (actual := checkpoint_sha256(old_path)) == expected:
                return Path(old_path)
            reason = f" ({old_path} has changed, SHA-256 {actual})"
        except (OSError, ValueError) as error:
            reason = f" ({_one_line(error)})"
    for size, sha256 in CHECKPOINT_SHA256.items():
        if sha256 == expected:
            return fetch_weights(size)
    raise ValueError(f"no base with SHA-256 {expected} found{reason}: give its path by --weights")
