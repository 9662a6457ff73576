"""The SMS Spam Collection and its published splits; generated messages like those of the demo.

    files = prepare_splits(Path("sms_spam_collection"))
    messages = read_messages(files["test"])

Of 5,572 messages, the 747 spam and as many ham are split into 1,045 for training, 149 for
validation and 300 for testing, always in the same way.

Source: Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84, CC BY 4.0.
"""

import csv
import errno
import hashlib
import io
import random
from itertools import accumulate
from pathlib import Path

import pandas as pd
import tiktoken

from experiments.config.rows import NUM_DEMO_SPAM, PAD_TOKEN_ID, SPLIT_SHA256, split_sizes
from experiments.system.downloads import RemoteFile, fetch, find, how_to_place
from experiments.system.files import check_digest, write_whole

SMS_SPAM_COLLECTION = RemoteFile(
    names=("SMSSpamCollection", "SMSSpamCollection.tsv"),
    sha256="7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
    size=477_907,
    zip_member="SMSSpamCollection",
    addresses=(
        "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
        "https://f001.backblazeb2.com/file/LLMs-from-scratch/sms%2Bspam%2Bcollection.zip",
    ),
)
_LABELS = {"ham": "0", "false": "0", "spam": "1", "true": "1"}
_SEED = 123  # of the published splits


def prepare_splits(data_dir: Path) -> dict[str, Path | io.StringIO]:
    """Return the CSV files of the three splits; make missing ones, in memory if read-only.

    ValueError or OSError: a file is not the published one and stays, or cannot be made.
    """
    files: dict[str, Path | io.StringIO] = {name: data_dir / f"{name}.csv" for name in SPLIT_SHA256}
    missing = [name for name, path in files.items() if not path.is_file()]
    for name in files.keys() - missing:
        check_digest(files[name], SPLIT_SHA256[name])
    contents = _make_splits(fetch(SMS_SPAM_COLLECTION, data_dir)) if missing else {}
    for name in missing:
        try:
            write_whole(files[name], contents[name].encode())
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            files[name] = io.StringIO(contents[name])
    return files


def missing_files(data_dir: Path) -> list[str]:
    """Return how to place by hand what `prepare_splits` would download."""
    is_complete = all((data_dir / f"{name}.csv").is_file() for name in SPLIT_SHA256)
    is_found = is_complete or find(SMS_SPAM_COLLECTION, data_dir)
    return [] if is_found else [how_to_place(SMS_SPAM_COLLECTION, data_dir)]


def _make_splits(source: Path) -> dict[str, str]:
    messages = pd.read_csv(source, sep="\t", header=None, names=["Label", "Text"])
    splits = _split_messages(_balance_messages(messages))
    contents = {name: to_csv(split) for name, split in splits.items()}
    for name, content in contents.items():
        if (actual := hashlib.sha256(content.encode()).hexdigest()) != SPLIT_SHA256[name]:
            raise ValueError(
                f"pandas {pd.__version__} makes another {name} split than the published one "
                f"(SHA-256 {actual}, expected {SPLIT_SHA256[name]}): install the pandas of "
                "requirements.txt"
            )
    return contents


def _balance_messages(messages: pd.DataFrame) -> pd.DataFrame:
    """Return all spam and as many ham in random order, ham labelled 0 and spam 1."""
    spam = messages[messages["Label"] == "spam"]
    ham = messages[messages["Label"] == "ham"].sample(len(spam), random_state=_SEED)
    balanced = pd.concat([ham, spam]).sample(frac=1, random_state=_SEED)
    return balanced.assign(Label=balanced["Label"].map({"ham": 0, "spam": 1}))


def _split_messages(messages: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the messages, shuffled again: 70 % for training, 10 % for validation, the rest."""
    shuffled = messages.sample(frac=1, random_state=_SEED)
    sizes = split_sizes(len(shuffled))
    ends = accumulate(sizes.values())
    return {name: shuffled[end - sizes[name] : end] for name, end in zip(sizes, ends, strict=True)}


def to_csv(messages: pd.DataFrame) -> str:
    """Return messages as CSV, the same on every system."""
    # A carriage return ends a line when it is read, but pandas does not quote it by default.
    has_return = messages["Text"].str.contains("\r").any()
    quoting = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    return messages.to_csv(index=False, lineterminator="\n", quoting=quoting)


def read_messages(csv_file: str | Path | io.StringIO) -> pd.DataFrame:
    """Return the messages of a CSV file with unchanged texts, ham labelled 0 and spam 1.

    Labels are 0, 1, False, True, ham or spam, in any case; others are a ValueError.
    """
    messages = pd.read_csv(csv_file, dtype={"Label": str, "Text": str}, keep_default_na=False)
    if missing := {"Label", "Text"} - set(messages):
        raise ValueError(f"{csv_file} lacks the column {' and '.join(sorted(missing))}")
    if messages.empty:
        raise ValueError(f"{csv_file} has no messages")
    words = messages["Label"].str.strip().str.lower()
    labels = pd.to_numeric(words.replace(_LABELS), errors="coerce")
    others = messages.loc[~labels.isin([0, 1]), "Label"]
    if len(others):
        raise ValueError(
            f"{csv_file} has {others.iloc[0] or 'no label'} in message {others.index[0]}, expected "
            "labels 0 and 1, False and True, or ham and spam"
        )
    return messages.assign(Label=labels.astype("int64"))


# ------------------------------------------------------------------------------- generated messages

_WORDS = {
    "name": ("Anna", "Ben", "Chioma", "Deepak", "Elif", "mum", "Tom"),
    "place": ("the station", "home", "the gym", "work", "the cafe", "school"),
    "time": ("at 5", "tonight", "tomorrow", "after lunch", "in an hour", "on Sunday"),
    "prize": ("a holiday for two", "a new phone", "500 pounds", "free tickets", "a camera"),
    "number": ("08001234", "87121", "09066362", "80082", "60970"),
    "code": ("WIN", "YES", "CLAIM", "GO", "STOP"),
}
_TEMPLATES = {
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


def demo_messages(ham: int = 300, spam: int = NUM_DEMO_SPAM, seed: int = 123) -> pd.DataFrame:
    """Return generated messages with the columns Label and Text, the same for the same seed."""
    choose = random.Random(seed).choice
    messages = []
    for label in ["ham"] * ham + ["spam"] * spam:
        words = {name: choose(choices) for name, choices in _WORDS.items()}
        messages.append((label, choose(_TEMPLATES[label]).format_map(words)))
    return pd.DataFrame(messages, columns=["Label", "Text"])


def demo_splits() -> dict[str, io.StringIO]:
    """Return the CSV files of the three splits of generated messages, in memory."""
    splits = _split_messages(_balance_messages(demo_messages()))
    return {name: io.StringIO(to_csv(split)) for name, split in splits.items()}


def demo_tokenizer() -> tiktoken.Encoding:
    """Return a tokenizer of single bytes, with GPT-2's padding token."""
    ranks = {bytes([i]): i for i in range(256)}
    special = {"<|endoftext|>": PAD_TOKEN_ID}
    return tiktoken.Encoding(
        "bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens=special
    )
