"""From messages to batches of tokens and labels.

datasets = create_datasets(splits, load_gpt2_tokenizer(), limit=120)
loaders = create_loaders(datasets, batch_size=8)
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.config.sizes import PAD_TOKEN_ID
from experiments.data.sms_spam import read_messages
from experiments.system.distributed import SharedBatches
from experiments.system.torchrun import count_processes


class Tokenizer(Protocol):
    """What makes tokens of a text: one of tiktoken's, of transformers', or a reader's own."""

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text."""


def encode(texts: Iterable[str], tokenizer: Tokenizer, pad_token_id: int) -> list[list[int]]:
    """Returns the tokens of each text, one padding token for an empty one."""
    # tiktoken's `encode` refuses a text in which a special token's name stands.
    encode_one = getattr(tokenizer, "encode_ordinary", None) or tokenizer.encode
    return [encode_one(text) or [pad_token_id] for text in texts]


class MessageDataset(Dataset):
    """The tokens and labels of messages.

    Args:
        messages: with the columns Label (a class's number) and Text.
        encoded: the tokens of each.
        max_length: tokens after which a message is cut; if None, that of the longest.
        pad_token_id: fills every message up to `max_length`.
        no_padding: leaves every message at its own length.
    """

    def __init__(
        self,
        messages: pd.DataFrame,
        encoded: Sequence[list[int]],
        max_length: int | None = None,
        pad_token_id: int = PAD_TOKEN_ID,
        no_padding: bool = False,
    ) -> None:
        self.data = messages
        self.num_cut = sum(len(tokens) > (max_length or len(tokens)) for tokens in encoded)
        self.no_padding = no_padding
        self.labels = torch.tensor(messages["Label"].to_numpy())  # (N,)
        cut = [tokens[:max_length] for tokens in encoded]
        self.lengths = torch.tensor([len(tokens) for tokens in cut])  # (N,), without padding
        longest = int(self.lengths.max())
        self.max_length = longest if no_padding or max_length is None else max_length
        self.tokens = torch.full((len(cut), self.max_length), pad_token_id)  # (N, T)
        for row, tokens in zip(self.tokens, cut, strict=True):
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


class SpamDataset(MessageDataset):
    """The tokens and labels of a CSV file of messages, as the book has it.

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
        pad_token_id: int = PAD_TOKEN_ID,
        no_padding: bool = False,
    ) -> None:
        messages = read_messages(csv_file)
        encoded = encode(messages["Text"], tokenizer, pad_token_id)
        super().__init__(messages, encoded, max_length, pad_token_id, no_padding)


class Splits(NamedTuple):
    """One thing for each split."""

    train: Any
    validation: Any
    test: Any


def create_datasets(
    splits: Mapping[str, pd.DataFrame],
    tokenizer: Tokenizer,
    limit: int,
    is_longest: bool = False,
    no_padding: bool = False,
) -> Splits:
    """Returns the data sets of the three splits.

    Args:
        splits: messages by the name of their split.
        tokenizer: what encodes the texts.
        limit: tokens after which messages are cut, and to which they are padded.
        is_longest: pads to the longest training message instead, if that is shorter.
        no_padding: leaves every message at its own length, up to the limit.
    """
    encoded = {name: encode(splits[name]["Text"], tokenizer, PAD_TOKEN_ID) for name in splits}
    if is_longest and not no_padding:
        limit = min(limit, max(map(len, encoded["train"])))
    return Splits(
        *(
            MessageDataset(splits[name], encoded[name], limit, no_padding=no_padding)
            for name in Splits._fields
        )
    )


def create_loaders(datasets: Splits, batch_size: int) -> Splits:
    """Returns loaders of (inputs, lengths, labels); only training is shuffled and drops a rest.

    Where several processes make the run, they are its `SharedBatches`.
    """
    is_shared = count_processes() > 1
    loaders = (
        DataLoader(
            range(len(dataset)),
            batch_size,
            shuffle=dataset is datasets.train,
            drop_last=dataset is datasets.train,
            collate_fn=list if is_shared else dataset.batch,
        )
        for dataset in datasets
    )
    if is_shared:
        loaders = map(SharedBatches, loaders, datasets)
    return Splits(*loaders)
