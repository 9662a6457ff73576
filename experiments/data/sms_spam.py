"""The SMS Spam Collection: from its file to the published splits.

    files = prepare_splits(Path("sms_spam_collection"))
    messages = read_messages(files["test"])

Of 5,572 messages, the 747 spam and as many ham are kept and split into 1,045 for training, 149 for
validation and 300 for testing, always in the same way.

Source: Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84, CC BY 4.0.
"""

import csv
import errno
import hashlib
import io
from itertools import accumulate
from pathlib import Path

import pandas as pd

from experiments.config.published import SPLIT_SHA256
from experiments.config.sizes import split_sizes
from experiments.system.downloads import fetch_all
from experiments.system.files import write_whole
from experiments.system.known_files import Needed, RemoteFile
from experiments.system.verified import check_digest

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
LABEL_WORDS = {"ham": "0", "false": "0", "spam": "1", "true": "1"}
SPLIT_SEED = 123  # whatever --seed says
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def needed_for_splits(data_dir: Path) -> list[Needed]:
    """Returns what has to be fetched before the splits can be made: nothing if they are there.

    Raises:
        ValueError: when a CSV of that name is not the published one; it is left alone.
    """
    paths = {name: data_dir / f"{name}.csv" for name in SPLIT_SHA256}
    for name, path in paths.items():
        if path.is_file():
            check_digest(path, SPLIT_SHA256[name])
    are_there = all(path.is_file() for path in paths.values())
    return [] if are_there else [(SMS_SPAM_COLLECTION, data_dir)]


def prepare_splits(data_dir: Path) -> dict[str, Path | io.StringIO]:
    """Returns the CSV files of the three splits, made from the SMS Spam Collection if need be.

    Where the folder cannot be written to, those that it lacks are made in memory.

    Raises:
        ValueError: when a CSV of that name is not the published one; it is left alone.
        OSError: when the messages cannot be had, or the disk is full.
    """
    files: dict[str, Path | io.StringIO] = {name: data_dir / f"{name}.csv" for name in SPLIT_SHA256}
    if needed := needed_for_splits(data_dir):
        (source,) = fetch_all(needed)
        for name, content in make_splits(source).items():
            try:
                write_whole(data_dir / f"{name}.csv", content.encode())
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise
                files[name] = io.StringIO(content)
    return files


def make_splits(source: Path) -> dict[str, str]:
    """Returns the CSV of each published split.

    Args:
        source: the file of the SMS Spam Collection.

    Raises:
        ValueError: when this pandas makes other splits.
    """
    messages = pd.read_csv(source, sep="\t", header=None, names=["Label", "Text"])
    splits = split_messages(balance_messages(messages))
    contents = {name: to_csv(split) for name, split in splits.items()}
    for name, content in contents.items():
        if (actual := hashlib.sha256(content.encode()).hexdigest()) != SPLIT_SHA256[name]:
            raise ValueError(
                f"pandas {pd.__version__} makes another {name} split than the published one "
                f"(SHA-256 {actual}, expected {SPLIT_SHA256[name]}): install the pandas of "
                "requirements.txt"
            )
    return contents


def balance_messages(messages: pd.DataFrame) -> pd.DataFrame:
    """Returns as many ham as spam messages in random order, ham labelled 0 and spam 1."""
    spam = messages[messages["Label"] == "spam"]
    ham = messages[messages["Label"] == "ham"].sample(len(spam), random_state=SPLIT_SEED)
    balanced = pd.concat([ham, spam]).sample(frac=1, random_state=SPLIT_SEED)
    return balanced.assign(Label=balanced["Label"].map({"ham": 0, "spam": 1}))


def split_messages(messages: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Returns 70 % of the messages, shuffled once more, for training, 10 % and 20 %."""
    shuffled = messages.sample(frac=1, random_state=SPLIT_SEED)
    sizes = split_sizes(len(shuffled))
    ends = accumulate(sizes.values())
    return {name: shuffled[end - sizes[name] : end] for name, end in zip(sizes, ends, strict=True)}


def to_csv(messages: pd.DataFrame) -> str:
    """Returns the messages as CSV, the same on every system."""
    # A carriage return ends a line when it is read, but is not quoted of itself.
    has_return = messages["Text"].str.contains("\r").any()
    quoting = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    return messages.to_csv(index=False, lineterminator="\n", quoting=quoting)


def read_messages(csv_file: str | Path | io.StringIO) -> pd.DataFrame:
    """Returns the messages of a CSV file, ham labelled 0 and spam 1; every text is the text it is.

    Raises:
        ValueError: when it has no messages, or lacks a column, or a label is neither 0 nor 1 nor
            one of `LABEL_WORDS`, in any case.
    """
    messages = pd.read_csv(csv_file, dtype={"Label": str, "Text": str}, keep_default_na=False)
    if missing := {"Label", "Text"} - set(messages):
        raise ValueError(f"{csv_file} lacks the column {' and '.join(sorted(missing))}")
    if messages.empty:
        raise ValueError(f"{csv_file} has no message")
    words = messages["Label"].str.strip().str.lower()
    labels = pd.to_numeric(words.replace(LABEL_WORDS), errors="coerce")
    others = messages.loc[~labels.isin([0, 1]), "Label"]
    if len(others):
        raise ValueError(
            f"{csv_file} has {others.iloc[0] or 'no label'} in message {others.index[0]}, expected "
            "labels 0 and 1, False and True, or ham and spam"
        )
    return messages.assign(Label=labels.astype("int64"))
