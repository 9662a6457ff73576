"""The machine's processor and memory, without PyTorch."""

import ctypes
import math
import os
import platform
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil

from experiments.system.distributed import world

try:
    import resource
except ImportError:  # Windows
    resource = None

_ROOT = Path("/")  # of /proc and /sys


@cache
def cpu_name() -> str:
    """Return the name of the processor."""
    name = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():  # Linux, whose processor() is the architecture
        name = re.search(r"model name\s*: (.*)|$", cpuinfo.read_text())[1] or name
    return name


def usable_cpus() -> int:
    """Return how many processors this process may use, of its affinity and its container's quota.

    No limit is looked up if OMP_NUM_THREADS is set.

    Source: the kernel's admin-guide/cgroup-v2, cpu.max.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return sys.maxsize
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    limits = [len(affinity(0))]
    for folder in _control_groups(""):
        if (file := folder / "cpu.max").is_file() and not file.read_text().startswith("max"):
            quota, period = map(int, file.read_text().split())
            limits.append(max(1, math.ceil(quota / period)))
    return min(limits)


def total_memory() -> int:
    """Return the bytes of memory that the machine has, or that its container may use."""
    return min(psutil.virtual_memory().total, *(limit for limit, _ in _memory_limits()), math.inf)


def available_memory() -> float:
    """Return the bytes that this process may hold, including those that it holds already.

    They are never more than a limit, which counts fewer pages of files than the process holds.
    """
    limits, held = list(_memory_limits()), psutil.Process().memory_info()
    left = min(
        psutil.virtual_memory().available, *(limit - used for limit, used in limits), math.inf
    )
    found = [held.rss + max(0, left) / world.local_size, *(limit for limit, _ in limits)]
    for name, field in (("RLIMIT_AS", "vms"), ("RLIMIT_DATA", "data")) if resource else ():
        if (limit := resource.getrlimit(getattr(resource, name))[0]) >= 0:
            used = getattr(held, field, 0)
            found.append(min(limit, held.rss + max(0, limit - used)))
    return min(found)  # processes share what is left


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use in bytes of each control group that limits this process.

    Source: the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory.
    """
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for controller, names in (("", ("memory.max", "memory.current")), ("memory", version_1)):
        for folder in _control_groups(controller):
            limit, used = (_number_in(folder / name) for name in names)
            if limit is not None:
                # The kernel frees inactive pages of files first. Of two such numbers in version 1,
                # the last is that of all groups below.
                cached = _number_in(folder / "memory.stat", r"inactive_file (\d+)") or 0
                yield limit, max(0, (used or 0) - cached)


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of Linux's control groups that limit this process, its own first.

    A limit holds for all groups below it. In a container, its own group is the topmost. Version 1
    has a hierarchy for each controller, version 2 has one, whose controller is "".
    """
    listing, top = _ROOT / "proc/self/cgroup", _ROOT / "sys/fs/cgroup" / controller
    for line in listing.read_text().splitlines() if listing.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            group = top / path.strip("/")
            yield from (each for each in (group, *group.parents) if each.is_relative_to(top))


def _number_in(file: Path, pattern: str = r"^\d+") -> int | None:
    found = re.findall(pattern, file.read_text()) if file.is_file() else []
    return int(found[-1]) if found else None


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory for the next tensor instead of returning it to the system.

    New pages for the gradients took a third of row 2's steps. It lasts to the end of the process:
    glibc's settings cannot be read and restored.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(-1, 2**31 - 1)  # malloc.h's number of the trim threshold
        mallopt(-3, 2**25)  # of the mmap threshold, and its maximum
