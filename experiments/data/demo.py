"""Generated messages, similar to those of the SMS Spam Collection, for runs without downloads.

messages = read_messages(demo_splits()["train"])
"""

import io
import random

import pandas as pd
import tiktoken

from experiments.config.rows import NUM_DEMO_SPAM, PAD_TOKEN_ID
from experiments.data.sms_spam import balance_messages, split_messages, to_csv

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
    splits = split_messages(balance_messages(demo_messages()))
    return {name: io.StringIO(to_csv(split)) for name, split in splits.items()}


def demo_tokenizer() -> tiktoken.Encoding:
    """Return a tokenizer of single bytes, with GPT-2's padding token."""
    ranks = {bytes([i]): i for i in range(256)}
    special = {"<|endoftext|>": PAD_TOKEN_ID}
    return tiktoken.Encoding(
        "bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens=special
    )
