"""Progress of long work: a bar in a terminal or notebook, otherwise one line before it begins.

with progress("Checking model.safetensors", total=548_105_171, unit="B") as bar:
    bar.update(65_536)
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from experiments.system.terminal import in_notebook, printable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without ipywidgets tqdm warns, and draws text
    from tqdm.auto import tqdm

Item = TypeVar("Item")


@contextmanager
def progress(what: str, total: int | None, unit: str, done: int = 0) -> Iterator[tqdm]:
    """Show the progress of work within a `with`; an error's message comes after the bar.

    `total` and `done`, which was done before, count units, in the plural; None is unknown. Bytes,
    "B", are shortened to MB and GB.
    """
    what = printable(what)
    is_interactive, is_bytes = _is_interactive(), unit == "B"
    if not is_interactive:
        amount = (
            f"{tqdm.format_sizeof(total or 0)}B"
            if is_bytes
            else f"{total or 0:,} {unit[:-1] if total == 1 else unit}"
        )
        print(what if total is None else f"{what}: {amount}")
    options = {"unit": "B", "unit_scale": True} if is_bytes else {"unit": f" {unit}"}
    with tqdm(desc=what, total=total, initial=done, disable=not is_interactive, **options) as bar:
        yield bar


def counted(items: Iterable[Item], bar: tqdm) -> Iterator[Item]:
    """Yield items, and advance a bar by one after each."""
    for item in items:
        yield item
        bar.update()


def _is_interactive() -> bool:
    return sys.stderr.isatty() or in_notebook()
