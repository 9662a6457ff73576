"""All that a run is told, grouped by subject; `flags.py` makes it of a command line."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.checkpoints.files import INDEX
from experiments.checkpoints.header import read_checkpoint

TINY = "gpt2-tiny (7M)"
MODEL_SIZES = {
    TINY: {"emb_dim": 128, "n_layers": 3, "n_heads": 2},
    "gpt2-small (124M)": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},
    "gpt2-medium (355M)": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},
    "gpt2-large (774M)": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},
    "gpt2-xl (1558M)": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},
}
TRAINABLE = {  # --trainable_layers, and how a run says it
    "all": "everything",
    "last_block": "the last block, the final norm and the head",
    "last_two_blocks": "the last two blocks, the final norm and the head",
    "last_layer": "the head",
    "lora": "LoRA and the head",
    "lora_alternative": "LoRA (merged by --no_shortcuts only) and the head",
}

BASELINES = ("majority", "bag_of_words")
SCHEDULES = ("constant", "linear", "cosine")
PARALLEL = ("replicate", "shard")
ELSEWHERE = (  # flags that change where and how a run is made, but not what it is
    "seed", "num_seeds", "device", "data_dir", "output_dir", "cache_dir", "no_shortcuts",
    "overwrite", "debug", "verify", "save_model", "save_whole", "parallel", "dry_run",
    "ignore_memory", "activation_checkpointing", "tensorboard",
    # of which messages it is made, which a record tells by their digest
    "data", "text_column", "label_column", "validation_data", "test_data", "split", "split_seed",
    "balance", "train_size",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """Which network is built, and what of it is trained."""

    model_size: str
    weights: str  # pretrained, random, or the path of a checkpoint
    trainable_layers: str
    trainable_token_pos: str
    average_embeddings: bool
    disable_causal_mask: bool
    lora_rank: int
    lora_alpha: float
    lora_scaling: str

    @property
    def checkpoint(self) -> Path | None:
        """The local checkpoint that `--weights` names, if it names one."""
        return None if self.weights in ("pretrained", "random") else Path(self.weights)

    @property
    def parameter_count(self) -> str:
        """The model's size as the checkpoints are called, such as 124M."""
        return self.model_size.partition("(")[2].rstrip(")")

    @property
    def config(self) -> dict[str, Any]:
        """The book's dictionary for `GPTModel`, as the model's size or the checkpoint has it."""
        config = {"vocab_size": 50257, "context_length": 1024, "drop_rate": 0.0, "qkv_bias": True}
        if self.checkpoint is None:
            return config | MODEL_SIZES[self.model_size]
        found = read_checkpoint(self.checkpoint).sizes
        return config | {
            "vocab_size": found["vocab_size"],
            "context_length": found["n_positions"],
            "emb_dim": found["n_embd"],
            "n_layers": found["n_layer"],
            "n_heads": found["n_head"],
            "qkv_bias": found["qkv_bias"],
        }

    @property
    def checkpoint_note(self) -> str:
        """What was assumed of the local checkpoint and left out of it; empty if nothing was."""
        return read_checkpoint(self.checkpoint).note if self.checkpoint else ""

    @property
    def scaling(self) -> float:
        """The factor of LoRA's update; plain alpha is what rows 11 and 12 were published with."""
        divisor = {"alpha": 1, "alpha_over_rank": self.lora_rank, "rslora": self.lora_rank**0.5}
        return self.lora_alpha / divisor[self.lora_scaling]

    @property
    def reads_first_alone(self) -> bool:
        """Whether nothing after the first token matters."""
        is_first = self.trainable_token_pos == "first" and not self.average_embeddings
        return is_first and not self.disable_causal_mask

    @property
    def reads_to_last_real(self) -> bool:
        """Whether nothing of the padding matters."""
        return self.trainable_token_pos == "flexible" and not self.disable_causal_mask

    @property
    def description(self) -> str:
        """The model's name and where its weights come from."""
        if self.checkpoint:
            is_index = self.checkpoint.name.endswith(INDEX)
            place = self.checkpoint.parent if is_index else self.checkpoint
            return f"checkpoint {place.resolve().name if place.is_dir() else place.name}"
        return f"{self.model_size}, {self.weights} weights"


@dataclass(frozen=True)
class Reading:
    """Which messages are read, and how they are cut."""

    demo: bool
    data_dir: Path
    context_length: str | int
    no_padding: bool


@dataclass(frozen=True)
class Own:
    """The user's own messages, if there are any, and how they are split."""

    data: Path | None  # or - for standard input
    text_column: str | None
    label_column: str | None
    validation_data: Path | None
    test_data: Path | None
    split: tuple[int, ...]  # percent of training, validation, test
    split_seed: int
    balance: bool
    train_size: int | None


@dataclass(frozen=True)
class Training:
    """How the network is trained."""

    num_epochs: int
    batch_size: int
    accumulation_steps: int
    ignore_index: int
    class_weights: bool
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    schedule: str
    max_grad_norm: float | None
    keep_best: bool
    max_steps: int | None

    def count_steps(self, messages: int) -> int:
        """Returns the optimiser steps of all epochs over so many training messages."""
        batches = messages // self.batch_size
        return self.num_epochs * math.ceil(batches / self.accumulation_steps)


@dataclass(frozen=True)
class Machine:
    """Where a run is computed, and by which way."""

    device: str
    precision: str
    no_shortcuts: bool
    cache_dir: Path | None
    verify: bool
    parallel: str  # how several processes make a run together
    activation_checkpointing: bool
    ignore_memory: bool


@dataclass(frozen=True)
class Output:
    """Where a run lands, and what it shows."""

    output_dir: Path
    save_model: Path | None
    save_whole: bool
    tensorboard: Path | None
    overwrite: bool
    dry_run: bool
    debug: bool


@dataclass(frozen=True)
class Settings:
    """All that a run is told; each flag but `--row`, which only names others, has its field."""

    network: Network
    reading: Reading
    own: Own
    training: Training
    machine: Machine
    output: Output
    seed: int
    num_seeds: int
    baseline: str | None

    @property
    def flat(self) -> dict[str, Any]:
        """The value of each flag by its name."""
        values: dict[str, Any] = {}
        for name, value in asdict(self).items():
            values |= value if isinstance(value, dict) else {name: value}
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a run what it is, whatever its seed, and wherever and however it is made."""
        return {name: value for name, value in self.flat.items() if name not in ELSEWHERE}
