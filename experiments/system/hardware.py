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
    limits, listing, top = [len(affinity(0))], _ROOT / "proc/self/cgroup", _ROOT / "sys/fs/cgroup"
    found = re.search(r"^0::/(.*)$", listing.read_text(), re.M) if listing.is_file() else None
    for folder in ((top / found[1]), *(top / found[1]).parents) if found else ():
        file = folder / "cpu.max"
        if folder.is_relative_to(top) and file.is_file():
            quota, period = file.read_text().split()
            limits += [max(1, math.ceil(int(quota) / int(period)))] if quota != "max" else []
    return min(limits)


def total_memory() -> int:
    """Return the bytes of memory that the machine has, or that its container may use."""
    return min(psutil.virtual_memory().total, *(limit for limit, _ in _control_groups()), math.inf)


def available_memory() -> float:
    """Return the bytes that this process may hold, including those that it holds already.

    They are never more than a limit, which counts fewer pages of files than the process holds.
    """
    groups, held = list(_control_groups()), psutil.Process().memory_info()
    left = min(
        psutil.virtual_memory().available, *(limit - used for limit, used in groups), math.inf
    )
    found = [held.rss + max(0, left) / world.local_size, *(limit for limit, _ in groups)]
    for name, used in (
        ("RLIMIT_AS", getattr(held, "vms", 0)),
        ("RLIMIT_DATA", getattr(held, "data", 0)),
    ):
        limit = resource.getrlimit(getattr(resource, name))[0] if resource else -1
        found += [min(limit, held.rss + max(0, limit - used))] if limit >= 0 else []
    return min(found)  # processes share what is left


def _control_groups() -> Iterator[tuple[int, int]]:
    """Yield limit and use in bytes of each of Linux's control groups that limits this process.

    A limit holds for all groups below it. In a container, its own group is the topmost.

    Source: the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory.
    """
    listing, top = _ROOT / "proc/self/cgroup", _ROOT / "sys/fs/cgroup"
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    names = {"": ("memory.max", "memory.current"), "memory": version_1}
    for line in listing.read_text().splitlines() if listing.is_file() else ():
        _, controllers, path = line.split(":", 2)
        for controller in names.keys() & controllers.split(","):
            group = top / controller / path.strip("/")
            for folder in (group, *group.parents):
                limit, used = (_number_in(folder / name) for name in names[controller])
                if folder.is_relative_to(top / controller) and limit is not None:
                    # The kernel frees inactive pages of files first. Of two such numbers in
                    # version 1, the last is that of all groups below.
                    cached = _number_in(folder / "memory.stat", r"inactive_file (\d+)") or 0
                    yield limit, max(0, (used or 0) - cached)


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
