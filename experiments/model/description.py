"""What a saved classifier needs besides its weights, as JSON.

A classifier has to read texts as in training: same tokenizer, length, token read and mask.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_type_hints

from experiments.checkpoints.files import as_json
from experiments.config.design import Design
from experiments.config.rows import PAD_TOKEN_ID
from experiments.config.settings import TRAINABLE

VERSION = 1
_CHOICES = {  # values of fields
    "token_position": ("first", "last", "flexible"),
    "trainable_layers": tuple(TRAINABLE),
    "tokenizer": ("gpt2", "bytes"),
    "precision": ("float32", "bfloat16"),
}
_LARGEST = 10_000_000  # of sizes, except the number of blocks
_Fields = TypeVar("_Fields")


@dataclass(frozen=True)
class Description:
    """All facts about a classifier, except its weights."""

    design: Design
    class_names: list  # in the order of their numbers
    text_columns: list  # of the training data; [] if none is known
    max_length: int  # tokens to which texts are cut, and padded unless `no_padding`
    no_padding: bool
    tokenizer: str  # gpt2, or bytes for the demo
    precision: str  # of matrix products
    seed: int  # of random weights and of the head
    is_whole: bool  # all tensors are saved, under the book's names, with LoRA merged
    base: str | None  # SHA-256 of what was finetuned; None if the file has all weights
    base_path: str  # of what was finetuned: a path, `pretrained` or `random`
    settings: dict  # of the run, by flag
    record: str | None  # digest of the run's record

    def to_json(self) -> str:
        """Return what `parse_description` reads."""
        return json.dumps({"version": VERSION} | asdict(self), default=str)


def parse_description(text: str) -> Description:
    """Return the description in a JSON text; raise ValueError if invalid."""
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("its description is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError(f"its description is {as_json(values)}, expected an object")
    if (version := values.pop("version", None)) != VERSION:
        raise ValueError(f"its version is {as_json(version)}, expected {VERSION}")
    values.setdefault("text_columns", [])  # which earlier files lack
    design = values.get("design")
    values["design"] = _build(Design, design if isinstance(design, dict) else {})
    description = _build(Description, values)
    _check(description)
    return description


def _build(kind: type[_Fields], values: dict[str, Any]) -> _Fields:
    types = get_type_hints(kind)
    for name in sorted(types.keys() | values.keys()):
        if name not in types or name not in values:
            raise ValueError(f"{as_json(name)} is {'missing' if name in types else 'unknown'}")
        value, choices = values[name], _CHOICES.get(name)
        type_ = {float: int | float, dict[str, Any]: dict}.get(types[name], types[name])
        if not isinstance(value, type_) or (choices and value not in choices):
            expected = " or ".join(choices or [getattr(type_, "__name__", str(type_))])
            raise _invalid(name, value, expected)
    return kind(**values)


def _check(description: Description) -> None:
    design, config = description.design, description.design.config
    sizes = ("context_length", "emb_dim", "n_heads")
    ranges = {name: (config.get(name), 1, _LARGEST) for name in sizes} | {
        "n_layers": (config.get("n_layers"), 1, 1000),
        "vocab_size": (config.get("vocab_size"), PAD_TOKEN_ID + 1, _LARGEST),
        "lora_rank": (design.lora_rank, 1, _LARGEST),
        "seed": (description.seed, 0, 2**63 - 1),
        "max_length": (description.max_length, 1, config.get("context_length")),
    }
    for name, (number, smallest, largest) in ranges.items():
        if type(number) is not int or not smallest <= number <= largest:
            raise _invalid(name, number, f"{smallest} to {largest}")
    if config.get("drop_rate") != 0 or type(config.get("qkv_bias")) is not bool:
        raise ValueError("its config needs a drop_rate of 0, and a qkv_bias of true or false")
    names, base = description.class_names, description.base
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise _invalid("class_names", names, "two names or more")
    if not all(isinstance(name, str) for name in description.text_columns):
        raise _invalid("text_columns", description.text_columns, "names")
    needs_base = not description.is_whole and design.trainable_layers != "all"
    if (base is not None) != needs_base:
        raise _invalid("base", base, "the SHA-256 of its base" if needs_base else "null")


def _invalid(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name} is {as_json(value)}, expected {expected}")
