"""The published table: the flags of its 19 rows, and what an A100 gave for them.

Source: the table of the additional experiments to Raschka 2024, "Build a Large Language Model (From
Scratch)", chapter 6.
"""

from typing import NamedTuple

from experiments.config.sizes import sizes_of


class Row(NamedTuple):
    """One published run: its flags, and what an A100 gave for them."""

    flags: str
    train_accuracy: float  # percent, as the two below
    validation_accuracy: float
    test_accuracy: float
    train_minutes: float


XL = '--model_size "gpt2-xl (1558M)"'
ROWS = {
    1: Row("", 96.63, 99.33, 95.00, 0.28),
    2: Row("--trainable_token_pos first", 78.46, 80.54, 75.00, 0.28),
    3: Row("--trainable_layers last_layer", 78.65, 79.87, 72.00, 0.25),
    4: Row("--trainable_layers last_two_blocks", 98.85, 98.66, 98.33, 0.33),
    5: Row("--trainable_layers all", 99.62, 96.64, 96.67, 0.69),
    6: Row('--model_size "gpt2-medium (355M)"', 87.50, 91.28, 84.67, 0.75),
    7: Row('--model_size "gpt2-large (774M)"', 99.52, 98.66, 96.67, 1.50),
    8: Row(XL, 99.81, 99.81, 98.33, 2.83),  # no count of 149 messages gives 99.81 %
    9: Row(f"{XL} --trainable_layers all", 100.00, 98.66, 98.67, 8.12),
    10: Row("--weights random --trainable_layers all", 100.00, 96.64, 93.67, 0.69),
    11: Row("--trainable_layers lora --lora_rank 16 --lora_alpha 16", 100.00, 97.32, 96.67, 0.75),
    12: Row(
        f"--trainable_layers lora --lora_rank 16 --lora_alpha 8 {XL}", 100.00, 98.66, 98.33, 5.79
    ),
    13: Row('--context_length "model_context_length"', 83.08, 87.92, 78.33, 2.46),
    14: Row("--no_padding --batch_size 1", 100.00, 98.66, 98.00, 1.75),
    15: Row("--no_padding --batch_size 1 --accumulation_steps 8", 99.33, 98.66, 98.33, 1.70),
    16: Row('--trainable_token_pos "flexible"', 99.42, 98.66, 98.33, 0.30),
    17: Row("--disable_causal_mask", 99.23, 98.66, 95.33, 0.29),
    18: Row("--ignore_index 50256", 96.63, 99.33, 95.00, 0.28),
    19: Row("--average_embeddings", 97.79, 99.33, 96.33, 0.32),
}
SIZES = sizes_of(demo=False)
SIZES["train"] -= SIZES["train"] % 8  # what whole batches of 8 hold


def name_of_row(row: int | None) -> str:
    """Returns what runs of a row are called; those of none are all called the same."""
    return "run" if row is None else f"row {row:02d}"


def published_count(percent: float, total: int) -> int | None:
    """Returns the count of `total` that a published percentage stands for, None if none does."""
    count = round(percent / 100 * total)
    return count if round(100 * count / total, 2) == percent else None
