"""What a run starts from: the files of its messages, its data sets, and the adapted model."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.checkpoint.weights import load_gpt2_checkpoint
from experiments.classifier import GPTClassifier, make_trainable
from experiments.data.datasets import Splits, create_datasets
from experiments.data.demo import demo_splits, demo_tokenizer
from experiments.data.messages import needed_for_splits, prepare_splits
from experiments.downloads import fetch_all
from experiments.settings import Network, Reading
from gpt_download import (
    download_and_load_gpt2,
    load_gpt2_tokenizer,
    needed_for_tokenizer,
    needed_for_weights,
)
from previous_chapters import load_weights_into_gpt


def gather_files(reading: Reading, network: Network | None, verify: bool) -> None:
    """Sees to it that all files of a run are on this machine, before it starts.

    Args:
        reading: which messages.
        network: whose tokenizer and weights are needed; None for a baseline.
        verify: computes the digests of all files, even of those that have not changed.

    Raises:
        OSError: when files cannot be had; all that are missing are named.
        ValueError: when one in its place is not the published one.
    """
    needed = []
    if not reading.demo:
        needed += needed_for_splits(reading.data_dir)
        needed += needed_for_tokenizer() if network else []
    if network and network.weights == "pretrained":
        needed += needed_for_weights(network.parameter_count)
    fetch_all(needed, verify)


def find_files(reading: Reading) -> dict[str, Path | io.StringIO]:
    """Returns the CSV files of the three splits.

    Raises:
        OSError: when the messages cannot be had.
        ValueError: when they are not the published ones.
    """
    return demo_splits() if reading.demo else prepare_splits(reading.data_dir)


def load_datasets(reading: Reading, model_context: int) -> Splits:
    """Returns the data sets of a run.

    Args:
        reading: which messages, and how they are cut.
        model_context: the most tokens that the model takes.

    Raises:
        OSError: when the messages or the tokenizer cannot be had.
        ValueError: when they are not the published ones.
    """
    limits = {"longest_training_example": None, "model_context_length": model_context}
    limit = limits.get(reading.context_length, reading.context_length)
    if reading.no_padding:
        limit = model_context
    files = find_files(reading)
    tokenizer = demo_tokenizer() if reading.demo else load_gpt2_tokenizer()
    return create_datasets(files, tokenizer, limit, reading.no_padding)


def build_classifier(network: Network, seed: int, num_classes: int = 2) -> GPTClassifier:
    """Returns the adapted model, on the CPU, with the published initialisation.

    Raises:
        OSError: when the weights cannot be had or read.
        ValueError: when they are not GPT-2's.
    """
    config = network.config
    choices = (
        network.trainable_token_pos,
        network.average_embeddings,
        network.disable_causal_mask,
    )
    if network.weights == "random":
        torch.manual_seed(seed)
        model = GPTClassifier(config, *choices)
    else:
        with torch.device("meta"):
            model = GPTClassifier(config, *choices)
        load_weights_into_gpt(model, load_params(network))
    model.requires_grad_(False)
    torch.manual_seed(seed)
    model.out_head = nn.Linear(config["emb_dim"], num_classes)
    make_trainable(model, network.trainable_layers, network.lora_rank, network.scaling)
    return model


def load_params(network: Network) -> dict[str, Any]:
    """Returns the weights of the local checkpoint, or of the published one of the model's size."""
    if network.checkpoint:
        return load_gpt2_checkpoint(network.checkpoint)[1]
    return download_and_load_gpt2(network.parameter_count)[1]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Returns how many parameters are trained, and how many there are."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, is_trained in sizes if is_trained), sum(n for n, _ in sizes)
