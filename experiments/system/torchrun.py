"""What torchrun tells each of its processes, by the environment; all that is known without PyTorch.

Source: PyTorch's documentation of torchrun, "Environment Variables".
"""

import os


def is_launched() -> bool:
    """Says whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def number_of(variable: str, alone: int) -> int:
    """Returns a number that torchrun tells, or that of a process which it did not start."""
    return int(os.environ[variable]) if is_launched() else alone


def rank() -> int:
    """Returns the number of this process among all, counted from 0."""
    return number_of("RANK", 0)


def local_rank() -> int:
    """Returns its number among those of its machine, which is that of its GPU."""
    return number_of("LOCAL_RANK", 0)


def count_processes() -> int:
    """Returns how many processes make the run together."""
    return number_of("WORLD_SIZE", 1)


def count_local_processes() -> int:
    """Returns how many of them are on this machine, and share its memory."""
    return number_of("LOCAL_WORLD_SIZE", 1)
