"""Generated questions to a shop in three classes, in every format of custom data.

They contain what breaks careless readers: commas, quotes, line breaks, tabs, emoji, leading blanks,
Windows line ends, and texts that look like numbers or like nothing ("NA", "1.0").
"""

import csv
import io
import json
import random
from pathlib import Path

import pandas as pd

TEXT, LABEL = "question", "category"
WORDS = {
    "name": ("Ada", "Bo", "Chloé", "Dmitri", "Eun-ji", "Farid", "Gül", "Hannah"),
    "thing": ("lamp", "kettle", "blue scarf", "tent, the small one", "bicycle bell", "tea set"),
    "size": ('24"', "XL", "5,5 cm", 'the "large" one', "two of them"),
    "day": ("Monday", "Tuesday", "Friday", "the 3rd", "next week"),
    "mood": ("🙂", "😡", "👍🏽", "🎁", ":)", "…", ""),
    "number": ("1042", "20993", "A-77", "00815", "31,337"),
    "break": ("\n", "\n\n", " ", " ", ", "),
}
TEMPLATES = {
    "order": (
        "Hello,{break}I would like to order the {thing}, {size}. {mood}",
        "Can I get a {thing} by {day}?{break}{name}",
        "{name} wants the {thing} in {size}: is it in stock? {mood}",
        'Please add "{thing}" to my order {number}{break}Thanks, {name}',
    ),
    "return": (
        "The {thing} arrived broken {mood}{break}How do I send it back?",
        "I want my money back for order {number}, since {day} nobody has answered",
        '{name} says "{size}" does not fit. Can we return the {thing}?',
        "Return label for {number} please,{break}{name} {mood}",
    ),
    "other": (
        "Are you open on {day}, {name}? {mood}",
        "  Where is your shop?{break}I will come by on {day}",
        "Do you sell vouchers?\tFor {name}, {size} {mood}",
        "My password does not work since {day} {mood}",
    ),
}
TRAPS = (("NA", "other"), ("1.0", "other"), ('"', "other"), ("null", "other"), ("🎁", "order"))


def three_classes(total: int = 300, seed: int = 123) -> list[tuple[str, str]]:
    """Return pairs of class and text, the same for the same seed; some are duplicates."""
    rng = random.Random(seed)
    pairs = [(label, text) for text, label in TRAPS]
    while len(pairs) < total:
        label = rng.choices([*TEMPLATES], weights=[3, 2, 1])[0]
        words = {name: rng.choice(choices) for name, choices in WORDS.items()}
        pairs.append((label, rng.choice(TEMPLATES[label]).format_map(words)))
    rng.shuffle(pairs)
    return pairs


def table(*pairs: tuple[str, str]) -> pd.DataFrame:
    """Return classes and texts as if they were read from a file with a header."""
    index = pd.RangeIndex(2, len(pairs) + 2, name="line")
    return pd.DataFrame(pairs, index, columns=["Label", "Text"], dtype=str)


def pairs_of(examples: pd.DataFrame) -> list[tuple[str, str]]:
    """Return what `table` was given."""
    return list(zip(examples["Label"], examples["Text"], strict=True))


def separated(pairs: list[tuple[str, str]], separator: str = ",") -> bytes:
    """Return a file as Excel writes it: byte order mark, Windows line ends, quotes if needed."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\r\n")
    writer.writerows([("id", TEXT, LABEL)] + [(i, text, k) for i, (k, text) in enumerate(pairs)])
    return out.getvalue().encode("utf-8-sig")


def write_three_classes(folder: Path, total: int = 300, seed: int = 123) -> dict[str, Path]:
    """Write files with the same examples; return them by their extension."""
    pairs = three_classes(total, seed)
    rows = [{TEXT: text, LABEL: label} for label, text in pairs]
    paths = {x: folder / f"questions.{x}" for x in ("csv", "tsv", "jsonl", "json", "parquet")}
    paths["csv"].write_bytes(separated(pairs))
    paths["tsv"].write_bytes(separated(pairs, "\t"))
    lines = (json.dumps(row, ensure_ascii=i % 2 == 0) for i, row in enumerate(rows))
    paths["jsonl"].write_bytes("\r\n".join(lines).encode())
    paths["json"].write_text(json.dumps(rows, indent=1), encoding="utf-8")
    pd.DataFrame(rows).to_parquet(paths["parquet"])
    return paths
