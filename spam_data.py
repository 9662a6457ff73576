"""The messages: from the SMS Spam Collection to batches of tokens and labels.

    files = prepare_splits(Path("sms_spam_collection"))
    datasets = create_datasets(files, load_gpt2_tokenizer(), context_length=120)
    loaders = create_loaders(datasets, batch_size=8)

Of 5,572 messages, the 747 spam and as many ham are kept and split into 1,045 for training, 149 for
validation and 300 for testing, always in the same way. `demo_splits` gives made-up messages in the
same form, for where there is no network.

Source: Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84, CC BY 4.0.
"""

import csv
import hashlib
import io
import random
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import tiktoken
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gpt_download import SMS_SPAM_COLLECTION, check_digest, fetch, write_whole

# --------------------------------------------------------------------------------------- splits

SPLIT_SHA256 = {
    "train": "ec2895b026553ce06475815818c52cf44828af0605b07b257935a194e611195a",
    "validation": "f92996ef2ae2ed6d6937e96bc7a3f739f2bae59b07d1babd7f3725e473f2d2bd",
    "test": "f82216f37a6d785b52f99a84a3552dcc9835316018758c2117b2ca133e6c1409",
}
SPLIT_SEED = 123  # whatever --seed says


def prepare_splits(data_dir: Path) -> dict[str, Path]:
    """Returns the CSV files of the three splits, made from the SMS Spam Collection if need be.

    Raises:
        ValueError: when a CSV of that name is not the published one; it is left alone.
        OSError: when the messages cannot be had or the files not be written.
    """
    paths = {name: data_dir / f"{name}.csv" for name in SPLIT_SHA256}
    for name, path in paths.items():
        if path.is_file():
            check_digest(path, SPLIT_SHA256[name])
    if not all(path.is_file() for path in paths.values()):
        source = fetch(SMS_SPAM_COLLECTION, data_dir)
        messages = pd.read_csv(source, sep="\t", header=None, names=["Label", "Text"])
        for name, split in split_messages(balance_messages(messages)).items():
            content = to_csv(split).encode()
            if (actual := hashlib.sha256(content).hexdigest()) != SPLIT_SHA256[name]:
                raise ValueError(
                    f"pandas {pd.__version__} makes another {name} split than the published one "
                    f"(SHA-256 {actual}, expected {SPLIT_SHA256[name]}): install the pandas of "
                    "requirements.txt"
                )
            write_whole(paths[name], content)
    return paths


def balance_messages(messages: pd.DataFrame) -> pd.DataFrame:
    """Returns as many ham as spam messages in random order, ham labelled 0 and spam 1."""
    spam = messages[messages["Label"] == "spam"]
    ham = messages[messages["Label"] == "ham"].sample(len(spam), random_state=SPLIT_SEED)
    balanced = pd.concat([ham, spam]).sample(frac=1, random_state=SPLIT_SEED)
    return balanced.assign(Label=balanced["Label"].map({"ham": 0, "spam": 1}))


def split_messages(messages: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Returns 70 % of the messages, shuffled once more, for training, 10 % and 20 %."""
    shuffled = messages.sample(frac=1, random_state=SPLIT_SEED)
    train_end = int(0.7 * len(shuffled))
    validation_end = train_end + int(0.1 * len(shuffled))
    return {
        "train": shuffled[:train_end],
        "validation": shuffled[train_end:validation_end],
        "test": shuffled[validation_end:],
    }


def to_csv(messages: pd.DataFrame) -> str:
    """Returns the messages as CSV, the same on every system."""
    # A carriage return ends a line when it is read, but is not quoted of itself.
    has_return = messages["Text"].str.contains("\r").any()
    quoting = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    return messages.to_csv(index=False, lineterminator="\n", quoting=quoting)


def read_messages(csv_file: str | Path | io.StringIO) -> pd.DataFrame:
    """Returns the messages of a CSV file with their labels; every text is the text it is.

    Raises:
        ValueError: when it has no messages, or lacks a column, or a label is neither 0 nor 1.
    """
    messages = pd.read_csv(csv_file, dtype={"Text": str}, keep_default_na=False)
    if missing := {"Label", "Text"} - set(messages):
        raise ValueError(f"{csv_file} lacks the column {' and '.join(sorted(missing))}")
    others = messages.loc[~messages["Label"].isin([0, 1]), "Label"]
    if len(others) or not len(messages):
        found = f"{others.iloc[0]} in message {others.index[0]}" if len(others) else "no message"
        raise ValueError(f"{csv_file} has {found}, expected labels 0 and 1")
    return messages


class SpamDataset(Dataset):
    """The tokens and labels of a CSV file of messages.

    Args:
        csv_file: a path or an open file with the columns Label (0 or 1) and Text.
        tokenizer: what encodes the texts, as tiktoken's encodings do.
        max_length: tokens after which a message is cut; if None, that of the longest.
        pad_token_id: fills every message up to `max_length`; stands for an empty message.
        no_padding: leaves every message at its own length.
    """

    def __init__(
        self,
        csv_file: str | Path | io.StringIO,
        tokenizer: tiktoken.Encoding,
        max_length: int | None = None,
        pad_token_id: int = 50256,
        no_padding: bool = False,
    ) -> None:
        self.data = read_messages(csv_file)
        encoded = [
            (tokenizer.encode_ordinary(text) or [pad_token_id])[:max_length]
            for text in self.data["Text"]
        ]
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
    tokenizer: tiktoken.Encoding,
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


# ------------------------------------------------------------------------------- made-up messages

DEMO_WORDS = {
    "name": ("Anna", "Ben", "Chioma", "Deepak", "Elif", "mum", "Tom"),
    "place": ("the station", "home", "the gym", "work", "the cafe", "school"),
    "time": ("at 5", "tonight", "tomorrow", "after lunch", "in an hour", "on Sunday"),
    "prize": ("a holiday for two", "a new phone", "500 pounds", "free tickets", "a camera"),
    "number": ("08001234", "87121", "09066362", "80082", "60970"),
    "code": ("WIN", "YES", "CLAIM", "GO", "STOP"),
}
DEMO_TEMPLATES = {
    "ham": (
        "Hi {name}, shall we meet {time}?",
        "I am at {place}, will call you {time}",
        "Sorry {name}, running late. See you at {place} {time}",
        "{name} says thanks for yesterday :)",
        "Can you fetch {name} from {place} {time}? I am still at {place}",
    ),
    "spam": (
        "WINNER! You have been chosen to receive {prize}. Call {number} now",
        "Txt {code} to {number} to get {prize} FREE",
        "URGENT! {prize} is waiting for you. Claim it {time}, call {number}",
        "Last chance: reply {code} and {prize} is yours. 150p per msg",
    ),
}


def demo_messages(ham: int = 300, spam: int = 180, seed: int = 123) -> pd.DataFrame:
    """Returns made-up messages with the columns Label and Text, the same for the same seed."""
    choose = random.Random(seed).choice
    messages = []
    for label in ["ham"] * ham + ["spam"] * spam:
        words = {name: choose(choices) for name, choices in DEMO_WORDS.items()}
        messages.append((label, choose(DEMO_TEMPLATES[label]).format_map(words)))
    return pd.DataFrame(messages, columns=["Label", "Text"])


def demo_tokenizer() -> tiktoken.Encoding:
    """Returns a tokenizer of single bytes, with GPT-2's padding token."""
    return tiktoken.Encoding(
        name="bytes",
        pat_str=r"[\s\S]",
        mergeable_ranks={bytes([i]): i for i in range(256)},
        special_tokens={"<|endoftext|>": 50256},
    )


def demo_splits() -> dict[str, io.StringIO]:
    """Returns the CSV files of the three splits of made-up messages, in memory."""
    splits = split_messages(balance_messages(demo_messages()))
    return {name: io.StringIO(to_csv(split)) for name, split in splits.items()}
