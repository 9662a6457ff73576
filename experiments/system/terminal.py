"""How a script behaves toward the shell: signals, the output's encoding, errors in one line.

    take_over()                            # before slow imports
    with one_line_errors("script.py"):     # around the work
        ...

Knows nothing of what the scripts do. In a notebook signals and streams are the notebook's, and
stay as they are.
"""

import argparse
import atexit
import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from experiments.system.hints import hint
from experiments.system.torchrun import rank

STOPPED = "\nStopped. What is recorded stays; the same command goes on.\n"
JUST_STOPPED = "\nStopped.\n"  # of a script that records nothing
SIGNALS = (signal.SIGINT, signal.SIGTERM)
WAYS_OUT = {
    errno.ENOSPC: "free some space, and start it again",
    errno.EDQUOT: "free some space, and start it again",
    errno.EFBIG: "raise the limit on the size of files, and start it again",
    errno.EACCES: "see to its permissions, or name another folder",
    errno.EPERM: "see to its permissions, or name another folder",
    errno.EROFS: "name a folder that can be written to",
}


class Refused(Exception):
    """What was asked for cannot be done here, and is not begun; ends a script with status 2."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str, *more: str) -> NoReturn:
        """Ends the program with status 2; lines of code that help may follow the sentence."""
        lines = (f"{self.prog}: error: {message}", *more)
        self.exit(2, "".join(line.replace("\n", "\\n") + "\n" for line in lines))

    def parse_known(self, argv: Sequence[str] | None, others: Mapping[str, str]) -> Any:
        """Returns the namespace of flags; an unknown one ends the program with a hint.

        Args:
            argv: the flags; those of the command line if None.
            others: what is meant by well-known names of other programs.
        """
        given, unknown = self.parse_known_args(argv)
        if unknown:
            flags = [name for action in self._actions for name in action.option_strings]
            self.error(f"unknown: {' '.join(unknown)}; {hint(unknown, flags, others)}")
        return given


def path(text: str) -> Path:
    """Returns a path; `~` is the home folder, as in `--flag=~/x`, which shells leave as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # no such user
        name = Path(text).parts[0]
        raise argparse.ArgumentTypeError(
            f"there is no home folder {name}: for a file of that name, write ./{text}"
        ) from error


def in_notebook() -> bool:
    """Says whether IPython runs this, in a notebook or by itself."""
    return "__IPYTHON__" in vars(builtins)


def take_over(words: str = STOPPED) -> None:
    """Leaves in order on SIGINT and SIGTERM, and prints lines at once, whatever is in them.

    What the encoding of the output lacks is printed as an escape. A signal that is ignored, as in
    a shell's background jobs, stays so. A notebook outlives the script, and keeps its own ways.
    Of the processes that torchrun starts, only the first one prints.

    Args:
        words: say what a stop leaves behind.
    """
    if in_notebook():
        return
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, partial(leave, words))
    if rank() > 0:
        sys.stdout = sys.stderr = None
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 (None: closed by the shell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else another program's, such as IDLE's
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def leave(words: str, number: int, _: Any) -> NoReturn:
    """Leaves at once with status 128 + the signal's number.

    So it is until the work begins: an exception would leave modules half imported, and some of
    them carry on.
    """
    say_stopped(words)
    os._exit(128 + number)


def stop(words: str, number: int, frame: Any) -> NoReturn:
    """Leaves with status 128 + the signal's number, after all clean-ups; a second one, at once."""

    def not_heard(lost: Any) -> None:  # Python drops what is raised in some callbacks
        if isinstance(lost.exc_value, SystemExit):
            leave(words, number, frame)
        sys.__unraisablehook__(lost)

    for each in SIGNALS:
        signal.signal(each, partial(leave, words))
    sys.unraisablehook = not_heard
    atexit.register(say_stopped, words)  # when progress bars are closed
    sys.exit(128 + number)


def say_stopped(words: str) -> None:
    """Says what a stop leaves behind."""
    with suppress(OSError):  # who reads may be gone
        if rank() == 0:
            os.write(2, words.encode())  # `sys.stderr` may be where the signal interrupted it


def give_up_output() -> None:
    """Lets what can no longer be printed vanish, which would be a second error at the exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def one_line_errors(
    program: str, debug: bool = False, status: int = 1, words: str = STOPPED
) -> Iterator[None]:
    """Ends the program with one message on what goes wrong within a `with`.

    Args:
        program: what the message begins with.
        debug: lets the error through, with its traceback.
        status: of the program; 2 where what it was given is at fault.
        words: say what a stop leaves behind.
    """
    for number in SIGNALS:
        if isinstance(
            signal.getsignal(number), partial
        ):  # taken over: now there is what to clean up
            signal.signal(number, partial(stop, words))
    try:
        yield
    except KeyboardInterrupt:  # a notebook's button; in a shell `stop` comes first
        sys.stderr.write(words)
        sys.exit(128 + signal.SIGINT)
    except (OSError, ValueError, MemoryError, Refused) as error:
        if debug:
            raise
        give_up_output()
        status = 2 if isinstance(error, Refused) else status
        way_out = WAYS_OUT.get(getattr(error, "errno", None))
        message = f"{program}: error: {error}{f': {way_out}' if way_out else ''}"
        if status == 1:
            sys.exit(message)
        print(message, file=sys.stderr)
        sys.exit(status)
