"""From messages to batches of tokens and labels.

datasets = create_datasets(files, load_gpt2_tokenizer(), max_length=120)
loaders = create_loaders(datasets, batch_size=8)
"""

import io
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.data.messages import read_messages


class Tokenizer(Protocol):
    """What makes tokens of a text: one of tiktoken's, of transformers', or a reader's own."""

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text."""


class SpamDataset(Dataset):
    """The tokens and labels of a CSV file of messages.

    Args:
        csv_file: a path or an open file with the columns Label, as `read_messages` takes it, and
            Text.
        tokenizer: anything whose `encode` makes a list of tokens of a text.
        max_length: tokens after which a message is cut; if None, that of the longest.
        pad_token_id: fills every message up to `max_length`; stands for an empty message.
        no_padding: leaves every message at its own length.
    """

    def __init__(
        self,
        csv_file: str | Path | io.StringIO,
        tokenizer: Tokenizer,
        max_length: int | None = None,
        pad_token_id: int = 50256,
        no_padding: bool = False,
    ) -> None:
        self.data = read_messages(csv_file)
        # tiktoken's `encode` refuses a text in which a special token's name stands.
        encode = getattr(tokenizer, "encode_ordinary", None) or tokenizer.encode
        encoded = [(encode(text) or [pad_token_id])[:max_length] for text in self.data["Text"]]
        self.no_padding = no_padding
        self.labels = torch.tensor(self.data["Label"].to_numpy())  # (N,)
        self.lengths = torch.tensor([len(tokens) for tokens in encoded])  # (N,), without padding
        longest = int(self.lengths.max())
        self.max_length = longest if no_padding or max_length is None else max_length
        self.tokens = torch.full((len(encoded), self.max_length), pad_token_id)  # (N, T)
        for row, tokens in zip(self.tokens, encoded, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns a message's tokens (T,) and label (), as in the book."""
        length = self.lengths[index] if self.no_padding else self.max_length
        return self.tokens[index, :length], self.labels[index]

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the inputs (B, T), lengths (B,) and labels (B,) of some messages."""
        lengths = self.lengths[indices]
        longest = int(lengths.max()) if self.no_padding else self.max_length
        return self.tokens[indices, :longest], lengths, self.labels[indices]


class Splits(NamedTuple):
    """One thing for each split."""

    train: Any
    validation: Any
    test: Any


def create_datasets(
    files: dict[str, Path | io.StringIO],
    tokenizer: Tokenizer,
    max_length: int | None = None,
    no_padding: bool = False,
) -> Splits:
    """Returns the data sets of the three splits.

    Args:
        files: CSV files by the name of their split.
        tokenizer: what encodes the texts.
        max_length: tokens after which messages are cut; if None, that of the longest training
            message, or no limit without padding.
        no_padding: leaves every message at its own length.
    """
    train = SpamDataset(files["train"], tokenizer, max_length, no_padding=no_padding)
    if not no_padding:
        max_length = train.max_length
    validation, test = (
        SpamDataset(files[name], tokenizer, max_length, no_padding=no_padding)
        for name in ("validation", "test")
    )
    return Splits(train, validation, test)


def create_loaders(datasets: Splits, batch_size: int) -> Splits:
    """Returns loaders of (inputs, lengths, labels); only training is shuffled and drops a rest."""
    return Splits(
        *(
            DataLoader(
                range(len(dataset)),
                batch_size,
                shuffle=dataset is datasets.train,
                drop_last=dataset is datasets.train,
                collate_fn=dataset.batch,
            )
            for dataset in datasets
        )
    )
