"""What a run starts from: the files of its messages, its data sets, and the adapted model."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.checks import find_misfit_of_training
from experiments.config.published import DATA_SHA256, SPAM_CLASSES
from experiments.config.settings import Network, Own, Reading, Training
from experiments.data.corpus import Corpus, digest_of
from experiments.data.custom import load_own
from experiments.data.datasets import Splits, create_datasets
from experiments.data.demo import demo_splits, demo_tokenizer
from experiments.data.sms_spam import (
    needed_for_splits,
    prepare_splits,
    read_messages,
)
from experiments.model.classifier import Design, GPTClassifier, create_classifier
from experiments.runs.printing import describe_corpus
from experiments.system.downloads import fetch_all
from gpt_download import (
    download_and_load_gpt2,
    load_gpt2_tokenizer,
    needed_for_tokenizer,
    needed_for_weights,
)


def gather_files(reading: Reading, own: Own, network: Network | None, verify: bool) -> None:
    """Sees to it that all files of a run are on this machine, before it starts.

    Args:
        reading: which messages are read,
        own: unless they are the user's own.
        network: whose tokenizer and weights are needed; None for a baseline.
        verify: computes the digests of all files, even of those that have not changed.

    Raises:
        OSError: when files cannot be had; all that are missing are named.
        ValueError: when one in its place is not the published one.
    """
    needed = []
    if not reading.demo:
        needed += [] if own.data else needed_for_splits(reading.data_dir)
        needed += needed_for_tokenizer() if network else []
    if network and network.weights == "pretrained":
        needed += needed_for_weights(network.parameter_count)
    fetch_all(needed, verify)


def load_corpus(reading: Reading, own: Own) -> Corpus:
    """Returns the messages of a run: the user's own, the published ones, or made-up ones.

    Raises:
        OSError: when the messages cannot be had.
        ValueError: when they are not the published ones, or the user's own cannot work.
    """
    if own.data:
        return load_own(own)
    files = demo_splits() if reading.demo else prepare_splits(reading.data_dir)
    splits = {name: read_messages(file) for name, file in files.items()}
    digest = digest_of(splits, SPAM_CLASSES) if reading.demo else DATA_SHA256
    return Corpus(splits, SPAM_CLASSES, digest)


def read_own(own: Own, trainings: Sequence[Training]) -> Corpus | None:
    """Returns the user's own messages, None if there are none, and prints what they are.

    Args:
        own: where they are, and how they are split.
        trainings: how they are to be trained on.

    Raises:
        OSError: when a file cannot be read.
        ValueError: when they cannot work, or are too few for how they are to be trained on.
    """
    if not own.data:
        return None
    corpus = load_own(own)
    for training in trainings:
        if problem := find_misfit_of_training(training, len(corpus.splits["train"])):
            raise ValueError(problem)
    print(describe_corpus(corpus))
    return corpus


def load_datasets(corpus: Corpus, reading: Reading, model_context: int) -> Splits:
    """Returns the data sets of a run.

    Args:
        corpus: its messages.
        reading: how they are cut.
        model_context: the most tokens that the model takes.

    Raises:
        OSError: when the tokenizer cannot be had.
        ValueError: when it is not the published one.
    """
    is_longest = reading.context_length == "longest_training_example" or reading.no_padding
    is_number = isinstance(reading.context_length, int)
    limit = reading.context_length if is_number else model_context
    tokenizer = demo_tokenizer() if reading.demo else load_gpt2_tokenizer()
    return create_datasets(corpus.splits, tokenizer, limit, is_longest, reading.no_padding)


def build_classifier(network: Network, seed: int, num_classes: int = 2) -> GPTClassifier:
    """Returns the adapted model, on the CPU, with the published initialisation.

    Raises:
        OSError: when the weights cannot be had or read.
        ValueError: when they are not GPT-2's.
    """
    params = None if network.weights == "random" else load_params(network)
    return create_classifier(design_of_network(network), params, seed, num_classes)


def design_of_network(network: Network) -> Design:
    """Returns what the network's flags ask to be built and trained."""
    return Design(
        config=network.config,
        token_position=network.trainable_token_pos,
        average_embeddings=network.average_embeddings,
        disable_causal_mask=network.disable_causal_mask,
        trainable_layers=network.trainable_layers,
        lora_rank=network.lora_rank,
        lora_scaling=network.scaling,
    )


def load_params(network: Network) -> dict[str, Any]:
    """Returns the weights of the local checkpoint, or of the published one of the model's size."""
    if network.checkpoint:
        return load_gpt2_checkpoint(network.checkpoint)[1]
    return download_and_load_gpt2(network.parameter_count)[1]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Returns how many parameters are trained, and how many there are."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, is_trained in sizes if is_trained), sum(n for n, _ in sizes)
