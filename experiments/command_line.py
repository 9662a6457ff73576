"""How a script behaves toward the shell: signals, the output's encoding, errors in one line.

    take_over()                            # before slow imports
    with one_line_errors("script.py"):     # around the work
        ...

Knows nothing of what the scripts do.
"""

import argparse
import difflib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

STOPPED = "\nStopped. What is recorded stays; the same command goes on.\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
WAYS_OUT = {
    errno.ENOSPC: "free some space, and start it again",
    errno.EDQUOT: "free some space, and start it again",
    errno.EFBIG: "raise the limit on the size of files, and start it again",
    errno.EACCES: "see to its permissions, or name another folder",
    errno.EPERM: "see to its permissions, or name another folder",
    errno.EROFS: "name a folder that can be written to",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str, *more: str) -> NoReturn:
        """Ends the program with status 2; lines of code that help may follow the sentence."""
        lines = (f"{self.prog}: error: {message}", *more)
        self.exit(2, "".join(line.replace("\n", "\\n") + "\n" for line in lines))

    def nearest_flag(self, unknown: list[str]) -> str:
        """Returns a hint at the flag that was probably meant, or nothing."""
        flags = [name for action in self._actions for name in action.option_strings]
        wanted = next((word for word in unknown if word.startswith("-")), unknown[0])
        near = difflib.get_close_matches("_".join(unknown), flags, n=1)
        near = near or difflib.get_close_matches(wanted.partition("=")[0], flags, n=1)
        return f"; did you mean {near[0]}?" if near else "; --help lists the flags"


def take_over() -> None:
    """Leaves in order on SIGINT and SIGTERM, and prints lines at once, whatever is in them.

    What the encoding of the output lacks is printed as an escape. A signal that is ignored, as in
    a shell's background jobs, stays so.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 (None: closed by the shell)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")


def stop(number: int, _: Any) -> NoReturn:
    """Leaves with status 128 + the signal's number, after all clean-ups; a second one, at once."""
    for each in SIGNALS:
        signal.signal(each, lambda number, _: os._exit(128 + number))
    with suppress(OSError):  # who reads may be gone
        os.write(2, STOPPED.encode())  # print could be interrupting itself
    sys.exit(128 + number)


def give_up_output() -> None:
    """Lets what can no longer be printed vanish, which would be a second error at the exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def one_line_errors(program: str, debug: bool = False) -> Iterator[None]:
    """Ends the program with status 1 and one message on what goes wrong within a `with`.

    Args:
        program: what the message begins with.
        debug: lets the error through, with its traceback.
    """
    try:
        yield
    except (OSError, ValueError, MemoryError) as error:
        if debug:
            raise
        give_up_output()
        way_out = WAYS_OUT.get(getattr(error, "errno", None))
        sys.exit(f"{program}: error: {error}{f': {way_out}' if way_out else ''}")
