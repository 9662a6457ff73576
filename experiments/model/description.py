"""What has to be known of a saved classifier beside its numbers, as JSON and back.

A classifier knows messages as it was trained on them: cut and padded to one length, read at one
position, with or without the causal mask.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_type_hints

from experiments.config.settings import TRAINABLE
from experiments.config.sizes import PAD_TOKEN_ID
from experiments.model.classifier import Design

VERSION = 1
CHOICES = {  # of fields that are words
    "token_position": ("first", "last", "flexible"),
    "trainable_layers": tuple(TRAINABLE),
    "tokenizer": ("gpt2", "bytes"),
    "precision": ("float32", "bfloat16"),
}
LARGEST = 10_000_000  # of what counts a network's parts, but for its blocks
Told = TypeVar("Told")


@dataclass(frozen=True)
class Description:
    """All that has to be known of a classifier beside its numbers."""

    design: Design
    class_names: list  # in the order of their numbers
    max_length: int  # tokens to which messages are cut, and padded unless `no_padding`
    no_padding: bool
    tokenizer: str  # gpt2, or bytes, the demo's
    precision: str  # of the operands of matrix products
    seed: int  # of random weights and of the head
    is_whole: bool  # is saved with everything, under the book's names, LoRA merged
    base: str | None  # SHA-256 of what was finetuned; None where nothing of it is needed
    base_path: str  # where that lay; or pretrained, or random
    settings: dict  # of the run, by flag
    record: str | None  # digest of the run's record

    @property
    def holds_everything(self) -> bool:
        """Says whether no base is needed."""
        return self.is_whole or self.design.trainable_layers == "all"

    def to_json(self) -> str:
        """Returns what `parse_description` reads."""
        return json.dumps({"version": VERSION} | asdict(self), default=str)


def parse_description(text: str) -> Description:
    """Returns the description that a JSON text holds.

    Raises:
        ValueError: when it holds none, one of another version, or one that cannot be.
    """
    try:
        told = json.loads(text)
    except RecursionError as error:
        raise ValueError("its description is nested too deeply") from error
    if not isinstance(told, dict):
        raise ValueError(f"its description is {shown(told)}, expected an object")
    if (version := told.pop("version", None)) != VERSION:
        raise ValueError(f"it is of version {shown(version)}, expected {VERSION}")
    design = told.get("design")
    told["design"] = build(Design, design if isinstance(design, dict) else {})
    description = build(Description, told)
    check_description(description)
    return description


def build(kind: type[Told], told: dict[str, Any]) -> Told:
    """Returns a dataclass of the values by the names of its fields.

    Raises:
        ValueError: when a field is missing, unknown, or of another type.
    """
    types = get_type_hints(kind)
    for name in sorted(types.keys() | told.keys()):
        if name not in types or name not in told:
            raise ValueError(f"{shown(name)} is {'missing' if name in types else 'unknown'}")
        value, choices = told[name], CHOICES.get(name)
        wanted = {float: int | float, dict[str, Any]: dict}.get(types[name], types[name])
        if not isinstance(value, wanted) or (choices and value not in choices):
            expected = " or ".join(choices or [getattr(wanted, "__name__", str(wanted))])
            raise ValueError(f"{name} is {shown(value)}, expected {expected}")
    return kind(**told)


def check_description(description: Description) -> None:
    """Raises ValueError where a description's values cannot be those of a classifier."""
    design, config = description.design, description.design.config
    sizes = ("context_length", "emb_dim", "n_heads")
    numbers = {name: (config.get(name), 1, LARGEST) for name in sizes} | {
        "n_layers": (config.get("n_layers"), 1, 1000),
        "vocab_size": (config.get("vocab_size"), PAD_TOKEN_ID + 1, LARGEST),
        "lora_rank": (design.lora_rank, 1, LARGEST),
        "seed": (description.seed, 0, 2**63 - 1),
    }
    for name, (number, smallest, largest) in numbers.items():
        if type(number) is not int or not smallest <= number <= largest:
            raise ValueError(f"{name} is {shown(number)}, expected {smallest} to {largest}")
    if config.get("drop_rate") != 0 or type(config.get("qkv_bias")) is not bool:
        raise ValueError("its config lacks a drop_rate of 0, or a qkv_bias of true or false")
    longest = config["context_length"]
    if not 1 <= description.max_length <= longest:
        raise ValueError(f"max_length is {description.max_length}, expected 1 to {longest}")
    names = description.class_names
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names is {shown(names)}, expected two names or more")
    if (description.base is None) != description.holds_everything:
        expected = "null" if description.holds_everything else "the SHA-256 of its base"
        raise ValueError(f"base is {shown(description.base)}, expected {expected}")


def shown(value: Any) -> str:
    """Returns a value as JSON has it, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
