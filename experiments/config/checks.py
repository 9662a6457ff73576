"""Flags that do not fit together, or do not fit a model or its data; each message has a hint."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.checkpoints.files import checkpoint_files
from experiments.config import rows
from experiments.config.arguments import LENGTHS, TINY
from experiments.config.settings import CustomData, ModelConfig, Settings, TrainingConfig, flags_of
from experiments.system.distributed import world


def find_conflict(
    settings: Settings, given: Mapping[str, Any], several: Mapping[str, str]
) -> str | None:
    """Return the first problem with the given flags and a hint, or None.

    `several` has the placeholders that names of files need, and which flag makes several runs.
    """
    for problems_in in (_in_model, _in_data, _in_runtime, _in_output, _in_file_of_model):
        if problem := next(problems_in(settings, given), None):
            return problem
    for placeholder, flag in several.items():
        if "save_model" in given and placeholder not in given["save_model"].name:
            return f"--save_model needs {placeholder} in the file's name with {flag}"
    if several and "name" in given:
        return "--name names one design: remove it, or run the designs one by one"
    if settings.custom.data:
        return None
    total = 2 * (rows.NUM_DEMO_SPAM if settings.data.demo else rows.NUM_SPAM)
    return find_training_conflict(settings.training, rows.split_sizes(total)["train"])


def flags_without_effect(flags: Mapping[str, Any]) -> dict[str, str]:
    """Return the flags that change nothing about a run with these values, and why."""
    found = {}
    if "lora" not in flags["trainable_layers"]:
        reason = "without LoRA (--trainable_layers lora)"
        found |= dict.fromkeys(("lora_rank", "lora_alpha", "lora_scaling"), reason)
    if flags["average_embeddings"] and flags["trainable_token_pos"] != "flexible":
        found["trainable_token_pos"] = "with --average_embeddings, unless it is flexible"
    if flags["no_padding"] and flags["context_length"] in LENGTHS:
        found["context_length"] = "with --no_padding"
    if flags["data"] or flags["demo"]:
        found["data_dir"] = "on --data" if flags["data"] else "with --demo"
    if flags["demo"]:
        names = ("output_dir", "overwrite", "save_every", "no_resume")
        found |= dict.fromkeys(names, "with --demo, which is not recorded")
    if flags["baseline"]:
        network = [f.name for group in (ModelConfig, TrainingConfig) for f in flags_of(group)]
        network += ["context_length", "no_padding", "precision", "seed", "save_every", "no_resume"]
        found |= dict.fromkeys(network, "with --baseline")
    return found


def find_training_conflict(training: TrainingConfig, examples: int) -> str | None:
    """Return what does not fit the number of training examples and a hint, or None."""
    steps = training.count_steps(examples)
    if training.batch_size > examples:
        return f"--batch_size {training.batch_size} exceeds the {examples:,} training examples"
    if training.max_steps is not None and training.max_steps > steps:
        return (
            f"--max_steps {training.max_steps} exceeds the {steps} steps of --num_epochs "
            f"{training.num_epochs}: raise --num_epochs or lower --max_steps"
        )
    steps = training.max_steps or steps
    if training.warmup_steps > steps:
        return f"--warmup_steps {training.warmup_steps} exceeds the {steps} steps of the run"
    return None


def _in_model(settings: Settings, given: Collection[str]) -> Iterator[str]:
    model, data, config = settings.model, settings.data, settings.design.config
    if data.demo and (model.model_size != TINY or model.weights != "random"):
        yield "--demo runs the tiny random model: remove --model_size and --weights"
    if settings.weights.kind == "checkpoint" and "model_size" in given:
        yield "--weights PATH determines the size: remove --model_size"
    if model.model_size == TINY and model.weights == "pretrained":
        yield f'no weights were published for --model_size "{TINY}": add --weights random'
    if settings.baseline and settings.num_seeds > 1:
        yield "--baseline is the same for every seed: remove --num_seeds"
    vocabulary, longest = config["vocab_size"], config["context_length"]
    length = data.context_length
    if vocabulary <= rows.PAD_TOKEN_ID:
        yield (
            f"--weights: the checkpoint has {vocabulary} tokens, GPT-2's tokenizer "
            f"{rows.PAD_TOKEN_ID + 1}: use a checkpoint with GPT-2's vocabulary"
        )
    if isinstance(length, int) and length > longest:
        yield f"--context_length {length} exceeds the model's {longest}: use {longest} or less"
    pads_to_longest = length == LENGTHS[0] and not data.no_padding
    is_published = not (data.demo or settings.custom.data)
    if pads_to_longest and is_published and longest < rows.LONGEST_EXAMPLE:
        yield (
            f"the longest training example has {rows.LONGEST_EXAMPLE} tokens, the model's context "
            f"{longest}: add --context_length {longest}"
        )
    if (rank := model.lora_rank) > (widest := 4 * config["emb_dim"]):
        yield f"--lora_rank {rank} exceeds the model's widest layer: use {widest} or less"


def _in_data(settings: Settings, given: Collection[str]) -> Iterator[str]:
    data, custom = settings.data, settings.custom
    if data.no_padding and settings.training.batch_size > 1:
        yield "--no_padding requires --batch_size 1 (use --accumulation_steps for larger steps)"
    if data.no_padding and isinstance(data.context_length, int):
        yield "--no_padding uses each text's own length: remove --context_length"
    if not custom.data and (needing := [f.name for f in flags_of(CustomData) if f.name in given]):
        yield f"{' and '.join(f'--{name}' for name in needing)} requires --data FILE"
    if custom.data and data.demo:
        yield "--demo uses generated messages: remove --data"
    if [custom.data, custom.validation_data, custom.test_data].count(Path("-")) > 1:
        yield "only one file can be standard input: name the others"
    if custom.validation_data and custom.test_data and "split" in given:
        yield "--split has no effect with both --validation_data and --test_data: remove it"
    if custom.split_column and (custom.validation_data or custom.test_data):
        yield "--split_column has all splits: remove --validation_data and --test_data"
    if world.size > 1 and custom.data == Path("-"):
        yield "--data - can be read by one process only: name a file"


def _in_runtime(settings: Settings, given: Collection[str]) -> Iterator[str]:
    runtime = settings.runtime
    if runtime.no_shortcuts and runtime.cache_dir:
        yield "--no_shortcuts has no activations to cache: remove --cache_dir"
    if not world.is_launched and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        yield (
            "this launcher starts processes that do not find each other: use torchrun "
            f"--nproc_per_node={os.environ['WORLD_SIZE']} additional_experiments.py"
        )
    if runtime.parallel == "shard" and world.size == 1:
        yield (
            "--parallel shard requires several processes: start them with torchrun "
            "--nproc_per_node=2 additional_experiments.py"
        )
    if runtime.device not in ("auto", "cpu"):
        from experiments.system.devices import device_is_available  # imports PyTorch

        if not device_is_available(runtime.device):
            yield f"--device {runtime.device} is not available here: use --device cpu"


def _in_output(settings: Settings, given: Collection[str]) -> Iterator[str]:
    output = settings.output
    folders = {
        "data_dir": settings.data.data_dir,
        "output_dir": output.output_dir,
        "cache_dir": settings.runtime.cache_dir,
        "tensorboard": output.tensorboard,
    }
    for name, folder in folders.items():
        if folder and folder.exists() and not folder.is_dir():
            yield f"--{name} {folder} is a file: name a folder"
    if output.tensorboard and settings.baseline:
        yield "--baseline has no losses to log: remove --tensorboard"
    if output.tensorboard and not find_spec("tensorboard"):
        yield "--tensorboard requires a package that is not installed: pip install tensorboard"


def _in_file_of_model(settings: Settings, given: Collection[str]) -> Iterator[str]:
    file = settings.output.save_model
    if settings.output.save_whole and not file:
        yield "--save_whole requires --save_model FILE"
    if file and settings.baseline:
        yield "--baseline has no model: remove --save_model"
    if file and file.suffix != ".safetensors":
        yield f"--save_model {file} must end in .safetensors"
    if file and (path := _input_of_that_name(settings)):
        yield f"--save_model {path} is an input of the run: name another file"
    if file and settings.num_seeds > 1 and "{seed}" not in file.name:
        yield "--save_model needs {seed} in the file's name with --num_seeds"
    if file and (unknown := re.findall(r"\{(?!seed\})[^}]*\}", file.name)):
        yield (
            f"--save_model has no value for {unknown[0]}: use {{seed}}, {{row}} with --row, or "
            "{design} with --vary"
        )


def _input_of_that_name(settings: Settings) -> Path | None:
    """Return where a classifier would be saved if that is a file from which a run is made."""
    weights, custom = settings.weights, settings.custom
    inputs = [custom.data, custom.validation_data, custom.test_data]
    inputs += checkpoint_files(weights.path) if weights.path else []
    inputs.append(Path("gpt2", weights.model_size, "model.safetensors"))  # where it is downloaded
    resolved = {path.resolve() for path in inputs if path}
    seeds = range(settings.seed, settings.seed + settings.num_seeds)
    paths = (replace(settings, seed=seed).model_path for seed in seeds)
    return next((path for path in paths if path.resolve() in resolved), None)
