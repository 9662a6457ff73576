"""How far a long piece of work is: a bar where one can move, else one line once it is done.

with progress("Checking model.safetensors", total=548_105_171, unit="B") as bar:
    bar.update(65_536)
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook


def can_move() -> bool:
    """Says whether what is printed can be overwritten: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or issubclass(tqdm, tqdm_notebook)


@contextmanager
def progress(what: str, total: int | None, unit: str, done: int = 0) -> Iterator[tqdm]:
    """Shows the progress of what happens within a `with`; an error's message comes after the bar.

    Args:
        what: the work, in words.
        total: how much there is to do; None if that is not known.
        unit: of `total`; bytes, "B", are shortened to MB and GB.
        done: how much of it was done before.
    """
    began, moves = time.monotonic(), can_move()
    with tqdm(
        desc=what, total=total, initial=done, unit=unit, unit_scale=unit == "B", disable=not moves
    ) as bar:
        yield bar
    if not moves:
        print(f"{what}: {in_words(total, unit)}{time.monotonic() - began:.1f} seconds")


def in_words(total: int | None, unit: str) -> str:
    """Returns an amount, to be followed by the time that it took; nothing if it is not known."""
    if total is None:
        return ""
    return f"{tqdm.format_sizeof(total)}B in " if unit == "B" else f"{total:,} {unit} in "
