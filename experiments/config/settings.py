"""All settings of a run, grouped by subject. Each flag is declared here, once.

A field is a flag: its name, default, type, help, and whether it is part of what defines a run.
`parsing.py` makes the parser of these declarations, and `Settings` of a command line. Settings are
plain data: the row, the network and the digest of its weights are resolved while parsing.

Source: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", for
`--lora_scaling rslora`.
"""

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from experiments.config import arguments as types
from experiments.config.design import Design

TRAINABLE = {  # --trainable_layers, and how a run describes it
    "all": "all layers",
    "last_block": "last block, final norm and head",
    "last_two_blocks": "last two blocks, final norm and head",
    "last_layer": "head",
    "lora": "LoRA and head",
    "lora_alternative": "LoRA and head",
}
BASELINES = ("majority", "bag_of_words")
SCHEDULES = ("constant", "linear", "cosine")
POSITIVE = types.whole_number(1)


def flag(
    default: Any, help: str, *, published: bool = False, defines_run: bool = True, **options: Any
) -> Any:
    """Declare a flag; False as its default makes a switch.

    Args:
        published: whether it is a flag of the published commands.
        defines_run: whether two values make two different runs.
        options: other arguments of `add_argument`.
    """
    metadata = {"help": help, "published": published, "defines_run": defines_run}
    return field(default=default, metadata=metadata | {"options": options})


def option(default: Any, help: str, **options: Any) -> Any:
    """Declare a flag that is no part of what defines a run."""
    return flag(default, help, defines_run=False, **options)


# fmt: off
@dataclass(frozen=True)
class ModelConfig:
    """The network, and which of its layers are trained."""

    model_size: str = flag(
        "gpt2-small (124M)", f"one of {', '.join(types.MODEL_SIZES)}, or a part such as 124M",
        published=True,
        type=types.model_size, metavar="NAME")
    weights: str = flag(
        "pretrained", "pretrained, random, or the path of a GPT-2 checkpoint: a .safetensors file, "
        "its folder, or its .index.json", published=True, type=types.weights, metavar="WORD")
    trainable_layers: str = flag(
        "last_block", "layers to train in addition to the new head", published=True,
        choices=tuple(TRAINABLE))
    trainable_token_pos: str = flag(
        "last", "token whose logits classify the text; flexible is the last token before the "
        "padding", published=True, choices=("first", "last", "flexible"))
    average_embeddings: bool = flag(False, "average over all tokens instead", published=True)
    disable_causal_mask: bool = flag(False, "let every token attend to every other", published=True)
    lora_rank: int = flag(8, "LoRA rank", published=True, type=POSITIVE, metavar="N")
    lora_alpha: float = flag(
        8.0, "LoRA alpha", published=True, type=types.positive_number, metavar="X")
    lora_scaling: str = flag(
        "alpha", "factor of LoRA's update: alpha, alpha / rank, or alpha / sqrt(rank)",
        choices=("alpha", "alpha_over_rank", "rslora"))

    @property
    def scaling(self) -> float:
        """Factor of LoRA's update; rows 11 and 12 were published with plain alpha."""
        divisor = {"alpha": 1, "alpha_over_rank": self.lora_rank, "rslora": self.lora_rank**0.5}
        return self.lora_alpha / divisor[self.lora_scaling]


@dataclass(frozen=True)
class DataConfig:
    """Which examples are read, and how they are cut and padded."""

    context_length: str | int = flag(
        types.LENGTHS[0], f"{', '.join(types.LENGTHS)}, or a number of tokens", published=True,
        type=types.context_length, metavar="LENGTH")
    no_padding: bool = flag(False, "do not pad texts", published=True)
    demo: bool = flag(
        False, "a tiny random model on generated messages: a test of the installation that "
        "downloads nothing")
    data_dir: Path = option(
        Path("sms_spam_collection"), "folder of the SMS Spam Collection and its split",
        type=types.path, metavar="DIR")


@dataclass(frozen=True)
class CustomData:
    """The user's files of examples, if there are any, and their split."""

    data: Path | None = option(
        None, "file of examples (CSV, TSV, JSON lines, JSON, Parquet, also in gzip), or - for "
        "standard input", type=types.path, metavar="FILE")
    text_column: tuple[str, ...] = option(
        (), "name of the text column, or of several, which are joined by line breaks (default: "
        "detected)", nargs="+", action="extend", metavar="NAME")
    label_column: str | None = option(
        None, "name of the label column (default: detected)", metavar="NAME")
    encoding: str | None = option(
        None, "encoding of the files, such as cp1252 (default: detected)", type=types.encoding,
        metavar="NAME")
    separator: str | None = option(
        None, "one character, or tab, between the fields of a CSV file (default: detected)",
        type=types.separator, metavar="C")
    quoting: str | None = option(
        None, 'quotes within a quoted field are doubled or follow a backslash; none: quotes are '
        "parts of texts (default: detected)", choices=types.QUOTING)
    no_header: bool = option(False, "the first line is an example: columns are named 1, 2, …")
    split_column: str | None = option(
        None, "name of a column that says train, validation or test", metavar="NAME")
    drop_label: tuple[str, ...] = option(
        (), "leave out examples with these labels", nargs="+", action="extend", metavar="LABEL")
    min_class_size: int = option(
        1, "leave out classes with fewer different texts", type=POSITIVE, metavar="N")
    validation_data: Path | None = option(
        None, "validation split, if it exists already", type=types.path, metavar="FILE")
    test_data: Path | None = option(
        None, "test split, if it exists already", type=types.path, metavar="FILE")
    split: tuple[int, ...] = option(
        (70, 10, 20), "percent of the examples for training, validation and test",
        type=types.shares, metavar="70/10/20")
    split_seed: int = option(
        123, "seed of the split, and of what --balance and --train_size select",
        type=types.whole_number(0, 2**32 - 1), metavar="N")
    balance: bool = option(False, "reduce all classes to the smallest")
    train_size: int | None = option(None, "train on N examples only", type=POSITIVE, metavar="N")


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation."""

    num_epochs: int = flag(
        5, "passes over the training data", published=True, type=POSITIVE, metavar="N")
    batch_size: int = flag(8, "examples per batch", published=True, type=POSITIVE, metavar="N")
    accumulation_steps: int = flag(
        1, "batches per optimiser step", published=True, type=POSITIVE, metavar="N")
    ignore_index: int = flag(
        -100, "label that the loss ignores", published=True, type=types.whole_number(-(2**63)),
        metavar="LABEL")
    learning_rate: float = flag(
        5e-5, "learning rate of AdamW", type=types.positive_number, metavar="X")
    weight_decay: float = flag(0.1, "weight decay of AdamW", type=types.number_from_0, metavar="X")
    warmup_steps: int = flag(
        0, "optimiser steps of linear warmup", type=types.whole_number(0), metavar="N")
    schedule: str = flag(
        "constant", "learning rate after the warmup: constant, or down to 0 at the end",
        choices=SCHEDULES)
    max_grad_norm: float | None = flag(
        None, "clip the gradient norm", type=types.positive_number, metavar="X")
    class_weights: bool = flag(False, "weight the loss by inverse class frequency")
    keep_best: bool = flag(False, "use the epoch with the smallest validation loss")
    max_steps: int | None = flag(None, "stop after N optimiser steps", type=POSITIVE, metavar="N")

    def count_steps(self, examples: int) -> int:
        """Return the number of optimiser steps of all epochs."""
        batches = examples // self.batch_size
        return self.num_epochs * math.ceil(batches / self.accumulation_steps)


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how a run is computed."""

    device: str = option(
        "auto", "auto, cpu, cuda, cuda:1 (or another number), mps; auto is cuda if available, "
        "else cpu", type=types.device, metavar="NAME")
    precision: str = flag(
        "float32", "precision of matrix products; sums and parameters are float32",
        choices=("float32", "bfloat16"))
    no_shortcuts: bool = option(
        False, "use the reference implementation, without cached activations")
    cache_dir: Path | None = option(
        None, "save activations of frozen layers there for later runs", type=types.path,
        metavar="DIR")
    parallel: str = option(
        "replicate", "with torchrun: replicate the model in each process, or shard it (FSDP)",
        choices=("replicate", "shard"))
    activation_checkpointing: bool = option(
        False, "recompute activations in the backward pass: less memory, more time")
    ignore_memory: bool = option(False, "run even if the memory seems insufficient")
    save_every: int | None = option(
        None, "save the state of training, for resuming, after every N epochs, 0 for never "
        "(default: if an epoch takes over 30 s)", type=types.whole_number(0), metavar="N")
    no_resume: bool = option(False, "start anew, not from the saved state of an interrupted run")
    verify: bool = option(False, "compute the SHA-256 of the weights even if they have not changed")


@dataclass(frozen=True)
class OutputConfig:
    """What a run writes."""

    output_dir: Path = option(
        Path("results"), "folder of the records", type=types.path, metavar="DIR")
    name: str | None = option(
        None, "name of the design in comparisons (default: the nearest row and what differs)",
        type=types.name, metavar="TEXT")
    save_model: Path | None = option(
        None, "save the classifier as a .safetensors file for classify.py; {seed}, {row} and "
        "{design} in the name are replaced", type=types.path, metavar="FILE")
    save_whole: bool = option(False, "save all weights, so that no base checkpoint is needed")
    tensorboard: Path | None = option(
        None, "write losses and accuracies there for TensorBoard", type=types.path, metavar="DIR")
    overwrite: bool = option(False, "repeat runs that are recorded already")
    dry_run: bool = option(False, "print the plan and the memory estimate without training")
    debug: bool = option(False, "show the traceback of an error")


# fmt: on


@dataclass(frozen=True)
class Weights:
    """Where a run's weights come from, resolved while parsing."""

    kind: str  # "pretrained", "random" or "checkpoint"
    sha256: str  # of the checkpoint; "random" for random weights
    description: str  # "gpt2-small (124M), pretrained weights"
    model_size: str  # of a published checkpoint: "124M"
    path: Path | None = None  # of a local checkpoint
    note: str = ""  # what was assumed about a local checkpoint, or left out of it


GROUPS = {  # of flags, by the field of `Settings`
    "model": ModelConfig,
    "data": DataConfig,
    "training": TrainingConfig,
    "custom": CustomData,
    "runtime": RuntimeConfig,
    "output": OutputConfig,
}


@dataclass(frozen=True)
class Settings:
    """All settings of a run: the flags, and what parsing resolved of them."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    custom: CustomData
    runtime: RuntimeConfig
    output: OutputConfig
    design: Design
    weights: Weights

    # fmt: off
    seed: int = option(
        123, "seed of initialisation and shuffling; the split stays the same",
        type=types.whole_number(0), metavar="N")
    num_seeds: int = option(
        1, "repeat with K seeds, counted up from --seed", type=POSITIVE, metavar="K")
    baseline: str | None = flag(None, "run a non-neural baseline", choices=BASELINES)
    # fmt: on
    row: int | None = None  # whose design it is
    is_substitute: bool = False  # whether another model takes the place of the row's published one
    notes: tuple[str, ...] = ()  # on flags without effect, and on a row that becomes another

    @property
    def identity(self) -> dict[str, Any]:
        """Value of each flag that defines a run; neither seed nor where it is computed."""
        found = {"baseline": self.baseline}
        for name, group in GROUPS.items():
            values = asdict(getattr(self, name))
            found |= {f.name: values[f.name] for f in fields(group) if f.metadata["defines_run"]}
        return found

    @property
    def model_path(self) -> Path | None:
        """Where the run saves its classifier; None if it does not."""
        file = self.output.save_model
        return file and file.with_name(file.name.replace("{seed}", str(self.seed)))

    @property
    def custom_values(self) -> dict[str, Any]:
        """The flags of custom data that are not at their default, as JSON has them."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self.custom).items()
            if value != default_values()[name]
        }


def flags_of(group: type) -> list[Any]:
    """Return the fields of a dataclass that are flags."""
    return [f for f in fields(group) if "help" in f.metadata]


def default_values() -> dict[str, Any]:
    """Return the default of each flag by its name."""
    return {f.name: f.default for group in (*GROUPS.values(), Settings) for f in flags_of(group)}
