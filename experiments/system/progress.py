"""What takes long: a bar where one can move, else one line before it begins.

with progress("Checking model.safetensors", total=548_105_171, unit="B") as bar:
    bar.update(65_536)
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from experiments.system.terminal import in_notebook

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without ipywidgets tqdm complains, and draws text instead
    from tqdm.auto import tqdm

Item = TypeVar("Item")


def can_move() -> bool:
    """Says whether what is printed can be overwritten: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or in_notebook()


@contextmanager
def progress(what: str, total: int | None, unit: str, done: int = 0) -> Iterator[tqdm]:
    """Shows the progress of what happens within a `with`; an error's message comes after the bar.

    Args:
        what: the work, in words.
        total: how much there is to do; None if that is not known.
        unit: of `total`, in the plural; bytes, "B", are shortened to MB and GB.
        done: how much of it was done before.
    """
    moves, is_bytes = can_move(), unit == "B"
    if not moves:
        print(what if total is None else f"{what}: {in_words(total, unit)}")
    with tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=unit if is_bytes else f" {unit}",
        unit_scale=is_bytes,
        disable=not moves,
    ) as bar:
        yield bar


def in_words(total: int, unit: str) -> str:
    """Returns an amount with its unit."""
    return f"{tqdm.format_sizeof(total)}B" if unit == "B" else f"{total:,} {unit}"


def counted(items: Iterable[Item], bar: tqdm) -> Iterator[Item]:
    """Yields items, and moves a bar on by one after each."""
    for item in items:
        yield item
        bar.update()
