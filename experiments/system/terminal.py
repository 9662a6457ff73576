"""How a script behaves in a terminal: signals, encoding of the output, errors, progress.

    setup_terminal()                       # before slow imports
    with one_line_errors("script.py"):     # around the work
        with progress("Checking model.safetensors", total=548_105_171, unit="B") as bar:
            bar.update(65_536)

In a notebook, signals and streams belong to the notebook and are not changed.
"""

import atexit
import builtins
import errno
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from experiments.system.distributed import world

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without ipywidgets tqdm warns, and draws text
    from tqdm.auto import tqdm

Item = TypeVar("Item")
RESUMABLE = (
    '\nInterrupted. Finished runs are saved, an unfinished one up to its last line "State saved". '
    "Run the same command to resume.\n"
)
INTERRUPTED = "\nInterrupted.\n"  # of a script that saves nothing
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 5  # seconds that a deferred signal waits
_FULL, _FORBIDDEN = "free some space and run it again", "check its permissions or name another"
_HINTS = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _FORBIDDEN, errno.EPERM: _FORBIDDEN,
    errno.EROFS: "name a folder that can be written to",
    errno.EFBIG: "raise the limit on the size of files and run it again",
}  # fmt: skip


class UsageError(Exception):
    """What was asked for cannot be done; ends a script with status 2."""


def in_notebook() -> bool:
    """Return whether IPython runs this, in a notebook or by itself."""
    return "__IPYTHON__" in vars(builtins)


def printable(text: str) -> str:
    """Return a text with control characters as escapes, except newlines and tabs.

    All that comes from elsewhere passes through it before it is printed: texts, names, paths,
    records, answers of servers. Characters that reverse a line count as control characters.
    """
    control = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
    return re.sub(control, lambda found: f"\\x{ord(found[0]):02x}", text)


def describe_error(error: Exception) -> str:
    """Return the message of an error without the system's number of it."""
    return re.sub(r"^\[(Errno|WinError) \d+\] ", "", str(error))


def setup_terminal(message: str = RESUMABLE) -> None:
    """Exit cleanly on SIGINT and SIGTERM, and print each line at once in any encoding.

    The message is printed on a signal. One that is ignored, as in a shell's background jobs, stays
    ignored. Of the processes that torchrun starts, only the main one prints.
    """
    if in_notebook():
        return
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, partial(_exit_at_once, message))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) if world.is_main else None  # also None if a shell has closed it
        stream = stream or Path(os.devnull).open("w")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):  # not one of an embedding program, such as IDLE
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
        setattr(sys, name, stream)


@contextmanager
def one_line_errors(program: str, debug: bool = False, message: str = RESUMABLE) -> Iterator[None]:
    """End the program with one message on an error within a `with`, and with status 1 or 2.

    `debug` raises the error with its traceback instead; `message` is printed on a signal.
    """
    for number in SIGNALS:
        if isinstance(signal.getsignal(number), partial):  # setup_terminal's: now clean up first
            signal.signal(number, partial(_exit_in_order, message))
    try:
        yield
    except KeyboardInterrupt:  # a notebook's button; in a shell the handler comes first
        sys.stderr.write(message)
        sys.exit(128 + signal.SIGINT)
    except (OSError, ValueError, MemoryError, UsageError) as error:
        if debug:
            raise
        try:
            sys.stdout.flush()
        except OSError:  # cannot be printed any more, which would raise a second error at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        hint = _HINTS.get(getattr(error, "errno", None))
        text = f"{program}: error: {describe_error(error)}{f': {hint}' if hint else ''}"
        text = printable("\n".join([text, *getattr(error, "__notes__", ())]))
        if isinstance(error, UsageError):
            print(text, file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else text)


@contextmanager
def reader_may_stop() -> Iterator[None]:
    """Let a reader of the output that has seen enough, such as `head`, end a `with` silently."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class DeferredSignals:
    """Signals that wait until the program calls `handle`, `PATIENCE` seconds at most."""

    def __init__(self) -> None:
        self.seconds_needed = 0.0  # that it will probably take; too many: no waiting
        self.pending: int | None = None  # the signal that waits
        self._handlers: dict[int, Any] = {}
        self._timer = threading.Timer(PATIENCE, lambda: None)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let signals wait within a `with`, in the main thread; one that waits still comes last."""
        found = {number: signal.getsignal(number) for number in SIGNALS}
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: each for number, each in found.items() if callable(each)}
        for number in self._handlers:
            signal.signal(number, self._defer)
        try:
            yield
        finally:
            for number, handler in self._handlers.items():
                if signal.getsignal(number) == self._defer:  # else the program is ending
                    signal.signal(number, handler)
        self.handle()

    def handle(self) -> None:
        """Call the handler of a signal that waits."""
        if self.pending:
            self._timer.cancel()
            number, self.pending = self.pending, None
            self._handlers[number](number, None)

    def _defer(self, number: int, _: Any) -> None:
        is_second, self.pending = self.pending is not None, number
        if is_second or self.seconds_needed > PATIENCE:
            self.handle()
        else:
            self._timer = threading.Timer(PATIENCE, signal.raise_signal, [number])
            self._timer.daemon = True
            self._timer.start()


def print_interrupted(message: str) -> None:
    """Print the message of a signal; the main process does."""
    with suppress(OSError):  # the reader may be gone
        if world.is_main:
            os.write(2, message.encode())  # the signal may have interrupted `sys.stderr`


def _exit_at_once(message: str, number: int, _: Any) -> NoReturn:
    """Exit with status 128 + the signal's number, without cleaning up.

    The handler during imports: an exception would leave modules half imported, and some catch it.
    """
    print_interrupted(message)
    os._exit(128 + number)


def _exit_in_order(message: str, number: int, frame: Any) -> NoReturn:
    """Exit with status 128 + the signal's number after cleaning up; at once on a second signal."""

    def exit_if_dropped(dropped: Any) -> None:  # Python drops exceptions in some callbacks
        if isinstance(dropped.exc_value, SystemExit):
            _exit_at_once(message, number, frame)
        sys.__unraisablehook__(dropped)

    for each in SIGNALS:
        signal.signal(each, partial(_exit_at_once, message))
    sys.unraisablehook = exit_if_dropped
    atexit.register(print_interrupted, message)  # after progress bars are closed
    sys.exit(128 + number)


# ------------------------------------------------------------------------------------- progress


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
