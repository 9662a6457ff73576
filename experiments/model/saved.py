"""A trained classifier in one file: its numbers, and how messages have to be given to it.

    save_classifier(path, model, description)
    description, tensors = read_saved(path)
    model = restore(description, tensors, params)  # the weights of its base

What was trained is saved, or all of it under the book's names; the description stands in the
metadata. A file holds numbers and JSON; nothing in it is executed.

Source: the layout of safetensors (github.com/huggingface/safetensors).
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from experiments.model.classifier import GPTClassifier, create_classifier, make_trainable
from experiments.model.description import Description, parse_description
from experiments.model.lora import LinearWithLoRA
from experiments.shortcuts.layers import weight_of
from experiments.system.files import write_whole
from previous_chapters import causal_mask

KEY = "finetuned_classifier"  # of the description in the metadata
MASK = ".att.mask"

# ----------------------------------------------------------------------------------------- saving


def save_classifier(path: Path, model: GPTClassifier, description: Description) -> None:
    """Writes a classifier's trained tensors, or all of them, whole or not at all.

    Args:
        path: of the `.safetensors` file.
        model: the trained classifier, on any device.
        description: of the classifier.

    Raises:
        OSError: when it cannot be written.
    """
    tensors = whole_tensors(model) if description.is_whole else trained_tensors(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not by `save_file`, whose files only their owner can read, and whose errors are its own.
    write_whole(path, save(tensors, {"format": "pt", KEY: description.to_json()}))


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns the parameters that are trained, by their names in the `state_dict`."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def whole_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns all tensors by the book's names, causal masks included; LoRA is merged."""
    tensors = model.state_dict()
    for name, layer in model.named_modules():
        if isinstance(layer, LinearWithLoRA):
            for key in layer.state_dict(prefix=f"{name}."):
                del tensors[key]
            tensors[f"{name}.weight"] = weight_of(layer)
            if layer.linear.bias is not None:
                tensors[f"{name}.bias"] = layer.linear.bias
    return tensors


def frozen_sha256(model: nn.Module) -> str:
    """Returns one SHA-256 for the parameters that are not trained."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------- reading


def read_saved(path: Path) -> tuple[Description, dict[str, Tensor]]:
    """Returns the description and the tensors of a saved classifier, causal masks left out.

    Raises:
        ValueError: when the file is no saved classifier, or its tensors are not those that its
            description implies.
        OSError: when it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if KEY not in (metadata := file.metadata() or {}):
                raise ValueError(f"its metadata have no {KEY}, which --save_model writes")
            description = parse_description(metadata[KEY])
            names = [name for name in file.keys() if not name.endswith(MASK)]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in names}
        check_tensors(tensors, expected_tensors(description))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no saved classifier: {one_line(error)}") from error
    return description, tensors


def expected_tensors(description: Description) -> dict[str, Tensor]:
    """Returns what a file of this description holds, without numbers and without masks."""
    model, design = outline(description), description.design
    if description.is_whole:
        return dict(model.named_parameters())
    with torch.device("meta"):
        make_trainable(model, design.trainable_layers, design.lora_rank, design.lora_scaling)
    return trained_tensors(model)


def check_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises ValueError unless all tensors are there, of the expected shapes, and finite."""
    for name in sorted(found.keys() | expected.keys()):
        actual, wanted = (kind_of(tensors.get(name)) for tensors in (found, expected))
        if actual != wanted:
            raise ValueError(f"{name} is {actual}, expected {wanted}")
        if not torch.isfinite(found[name]).all():
            raise ValueError(f"{name} holds values that are not finite")


def kind_of(tensor: Tensor | None) -> str:
    """Returns a tensor's data type and shape, as messages have it."""
    return "not there" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"


def one_line(error: Exception) -> str:
    """Returns an error's message without line breaks."""
    return " ".join(str(error).split())


# -------------------------------------------------------------------------------------- restoring


def outline(description: Description) -> GPTClassifier:
    """Returns the classifier without numbers: frozen but for its head, and without LoRA."""
    design = description.design
    choices = design.token_position, design.average_embeddings, design.disable_causal_mask
    with torch.device("meta"):
        model = GPTClassifier(design.config, *choices).requires_grad_(False)
        model.out_head = nn.Linear(design.config["emb_dim"], len(description.class_names))
    return model


def restore(
    description: Description, tensors: dict[str, Tensor], params: dict[str, Any] | None = None
) -> GPTClassifier:
    """Returns the classifier that was saved, on the CPU.

    Args:
        description: of the classifier.
        tensors: that were saved.
        params: the weights of its base; None draws them from the seed, where any are needed.

    Raises:
        ValueError: when the weights are not the network's, or others are drawn than once.
    """
    design, seed = description.design, description.seed
    if description.holds_everything:
        model = outline(description)
        for block in model.trf_blocks:
            if not design.disable_causal_mask:
                block.att.mask = causal_mask(design.config["context_length"])
        model.load_state_dict(tensors, strict=False, assign=True)  # the masks are there
        return model
    model = create_classifier(design, params, seed, len(description.class_names))
    if params is None and (actual := frozen_sha256(model)) != description.base:
        raise ValueError(
            f"seed {seed} draws other weights here, by torch {torch.__version__}, than those that "
            f"were finetuned (SHA-256 {actual}, expected {description.base}): use the torch of "
            "requirements.txt, or train with --save_whole"
        )
    with torch.no_grad():
        for name, parameter in trained_tensors(model).items():
            parameter.copy_(tensors[name])
    return model
