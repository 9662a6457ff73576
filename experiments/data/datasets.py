"""From examples to batches of tokens and labels.

datasets = tokenize(corpus, settings.data, context_length=1024)
loaders = create_loaders(datasets, batch_size=8)
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.config.rows import PAD_TOKEN_ID
from experiments.config.settings import DataConfig
from experiments.data.corpus import Corpus
from experiments.data.sms_spam import demo_tokenizer, read_messages
from experiments.system.distributed import world
from gpt_download import load_gpt2_tokenizer


class Tokenizer(Protocol):
    """A tokenizer of tiktoken, of transformers, or a reader's own."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""


# Far more than a model reads; the tokenizer fails at a million blanks.
_MAX_CHARACTERS = 500_000


def encode(texts: Iterable[str], tokenizer: Tokenizer, pad_token_id: int) -> list[list[int]]:
    """Return the tokens of each text, one padding token for an empty one."""
    # tiktoken's `encode` refuses a text that contains the name of a special token.
    encode_one = getattr(tokenizer, "encode_ordinary", None) or tokenizer.encode
    return [encode_one(text[:_MAX_CHARACTERS]) or [pad_token_id] for text in texts]


class TextDataset(Dataset):
    """Tokens and labels of examples with the columns Label (number of a class) and Text.

    Examples are cut and, unless `no_padding`, padded to `max_length`, or to the longest if None.
    """

    def __init__(
        self,
        examples: pd.DataFrame,
        encoded: Sequence[list[int]],
        max_length: int | None = None,
        pad_token_id: int = PAD_TOKEN_ID,
        no_padding: bool = False,
    ) -> None:
        self.data, self.no_padding = examples, no_padding
        self.labels = torch.tensor(examples["Label"].to_numpy())  # (N,)
        self.full_lengths = torch.tensor(list(map(len, encoded)))  # (N,), before cutting
        limit = max_length or int(self.full_lengths.max())
        self.lengths = self.full_lengths.clamp(max=limit)  # (N,), without padding
        self.num_cut = int((self.full_lengths > self.lengths).sum())
        self.max_length = int(self.lengths.max()) if no_padding else limit
        self.tokens = torch.full((len(encoded), self.max_length), pad_token_id)  # (N, T)
        for row, tokens, length in zip(self.tokens, encoded, self.lengths.tolist(), strict=True):
            row[:length] = torch.tensor(tokens[:length])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the tokens (T,) and label () of an example, as in the book."""
        length = self.lengths[index] if self.no_padding else self.max_length
        return self.tokens[index, :length], self.labels[index]

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the inputs (B, T), lengths (B,) and labels (B,) of some examples."""
        lengths = self.lengths[indices]
        longest = int(lengths.max()) if self.no_padding else self.max_length
        return self.tokens[indices, :longest], lengths, self.labels[indices]


class SpamDataset(TextDataset):
    """Tokens and labels of a CSV file of messages, with the signature of the book."""

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
    """One value for each split."""

    train: Any
    validation: Any
    test: Any


def tokenize(corpus: Corpus, data: DataConfig, context_length: int) -> Splits:
    """Return the data sets of a run; OSError or ValueError if the tokenizer cannot be loaded."""
    tokenizer = demo_tokenizer() if data.demo else load_gpt2_tokenizer()
    limit = data.context_length if isinstance(data.context_length, int) else context_length
    splits = [corpus.splits[name] for name in Splits._fields]
    encoded = [encode(examples["Text"], tokenizer, PAD_TOKEN_ID) for examples in splits]
    if data.context_length == "longest_training_example" and not data.no_padding:
        limit = min(limit, max(map(len, encoded[0])))
    pairs = zip(splits, encoded, strict=True)
    return Splits(*(TextDataset(*pair, limit, no_padding=data.no_padding) for pair in pairs))


class DistributedBatches:
    """The batches of a loader, with the inputs of this process's examples only.

    Yields (inputs, lengths, own, labels): inputs and lengths of its b own examples, or of an unused
    one if it has none; their indices (b,) in the batch; and all labels (B,), its own first.
    """

    def __init__(self, loader: Iterable[list[int]], dataset: Any) -> None:
        self.loader, self.dataset = loader, dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        seen = 0
        for indices in self.loader:
            first = (world.rank - seen) % world.size
            own = list(range(first, len(indices), world.size))
            others = [i for i in range(len(indices)) if i not in own]
            *inputs, _ = self.dataset.batch([indices[i] for i in own or [0]])
            labels = self.dataset.labels[[indices[i] for i in own + others]]
            yield *inputs, torch.tensor(own, dtype=torch.long), labels
            seen += len(indices)


def create_loaders(datasets: Splits, batch_size: int) -> Splits:
    """Return loaders of (inputs, lengths, labels); only training shuffles and drops a remainder.

    With several processes, they are `DistributedBatches`.
    """
    loaders = []
    for dataset in datasets:
        is_train, collate = dataset is datasets.train, dataset.batch if world.size == 1 else list
        order = {"shuffle": is_train, "drop_last": is_train}
        loaders.append(DataLoader(range(len(dataset)), batch_size, collate_fn=collate, **order))
    return Splits(*(loaders if world.size == 1 else map(DistributedBatches, loaders, datasets)))
