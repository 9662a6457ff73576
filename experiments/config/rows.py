"""The published table, and what is known of its data before anything is read.

    ROWS[16].changes  # {"trainable_token_pos": "flexible"}
    ROWS[16].flags    # "--trainable_token_pos flexible"

Sources: the table of the additional experiments to Raschka 2024, "Build a Large Language Model
(From Scratch)", chapter 6; Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84.
"""

import hashlib
from typing import Any, NamedTuple

# ---------------------------------------------------------------------------------------- the data

SPAM_CLASSES = ("ham", "spam")  # labelled 0 and 1
SPLIT_SHA256 = {  # of the CSV files
    "train": "ec2895b026553ce06475815818c52cf44828af0605b07b257935a194e611195a",
    "validation": "f92996ef2ae2ed6d6937e96bc7a3f739f2bae59b07d1babd7f3725e473f2d2bd",
    "test": "f82216f37a6d785b52f99a84a3552dcc9835316018758c2117b2ca133e6c1409",
}
DATA_SHA256 = hashlib.sha256("\n".join(SPLIT_SHA256.values()).encode()).hexdigest()
NUM_SPAM = 747  # in the collection; as many ham are drawn
NUM_DEMO_SPAM = 180  # in the demo's data
LONGEST_EXAMPLE = 120  # tokens of the longest training message of the SMS Spam Collection
PAD_TOKEN_ID = 50256  # the last of GPT-2's vocabulary


def split_sizes(total: int) -> dict[str, int]:
    """Return the number of examples in each split: 70 %, 10 %, and the rest."""
    train, validation = int(0.7 * total), int(0.1 * total)
    return {"train": train, "validation": validation, "test": total - train - validation}


# --------------------------------------------------------------------------------------- the table


class Row(NamedTuple):
    """One published run: what differs from the defaults, and the results on an A100."""

    changes: dict[str, Any]  # value by flag
    train_accuracy: float  # percent, as the two below
    validation_accuracy: float
    test_accuracy: float
    train_minutes: float

    @property
    def flags(self) -> str:
        """The flags as they are typed."""
        words = []
        for name, value in self.changes.items():
            text = f"{value:g}" if isinstance(value, float) else str(value)
            text = f'"{text}"' if " " in text else text
            words += [f"--{name}"] if value is True else [f"--{name}", text]
        return " ".join(words)


_MEDIUM = {"model_size": "gpt2-medium (355M)"}
_LARGE = {"model_size": "gpt2-large (774M)"}
_XL = {"model_size": "gpt2-xl (1558M)"}
_ALL, _LORA = {"trainable_layers": "all"}, {"trainable_layers": "lora", "lora_rank": 16}
_UNPADDED = {"no_padding": True, "batch_size": 1}
ROWS = {
    1: Row({}, 96.63, 99.33, 95.00, 0.28),
    2: Row({"trainable_token_pos": "first"}, 78.46, 80.54, 75.00, 0.28),
    3: Row({"trainable_layers": "last_layer"}, 78.65, 79.87, 72.00, 0.25),
    4: Row({"trainable_layers": "last_two_blocks"}, 98.85, 98.66, 98.33, 0.33),
    5: Row(_ALL, 99.62, 96.64, 96.67, 0.69),
    6: Row(_MEDIUM, 87.50, 91.28, 84.67, 0.75),
    7: Row(_LARGE, 99.52, 98.66, 96.67, 1.50),
    8: Row(_XL, 99.81, 99.81, 98.33, 2.83),  # no count of 149 messages gives 99.81 %
    9: Row(_XL | _ALL, 100.00, 98.66, 98.67, 8.12),
    10: Row({"weights": "random"} | _ALL, 100.00, 96.64, 93.67, 0.69),
    11: Row(_LORA | {"lora_alpha": 16.0}, 100.00, 97.32, 96.67, 0.75),
    12: Row(_LORA | {"lora_alpha": 8.0} | _XL, 100.00, 98.66, 98.33, 5.79),
    13: Row({"context_length": "model_context_length"}, 83.08, 87.92, 78.33, 2.46),
    14: Row(_UNPADDED, 100.00, 98.66, 98.00, 1.75),
    15: Row(_UNPADDED | {"accumulation_steps": 8}, 99.33, 98.66, 98.33, 1.70),
    16: Row({"trainable_token_pos": "flexible"}, 99.42, 98.66, 98.33, 0.30),
    17: Row({"disable_causal_mask": True}, 99.23, 98.66, 95.33, 0.29),
    18: Row({"ignore_index": 50256}, 96.63, 99.33, 95.00, 0.28),
    19: Row({"average_embeddings": True}, 97.79, 99.33, 96.33, 0.32),
}
SIZES = split_sizes(2 * NUM_SPAM)
SIZES["train"] -= SIZES["train"] % 8  # in whole batches of 8


def name_of_row(row: int | None) -> str:
    """Return the name of a row's runs; all others are called "run"."""
    return "run" if row is None else f"row {row:02d}"


def published_count(percent: float, total: int) -> int | None:
    """Return the count of `total` that rounds to a published percentage, None if none does."""
    count = round(percent / 100 * total)
    return count if round(100 * count / total, 2) == percent else None
