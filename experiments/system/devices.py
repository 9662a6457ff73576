"""Where a run is computed: device, precision, kernels, and memory."""

import ctypes
import gc
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.runs.fingerprint import cpu_name
from experiments.system.torchrun import count_local_processes, is_launched, local_rank

try:
    import resource
except ImportError:  # Windows
    resource = None

# ----------------------------------------------------------------------------------- the device


def pick_device(name: str) -> torch.device:
    """Returns the device of that name; `auto` never picks mps, whose results differ.

    Of several processes on a machine each takes a GPU of its own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and is_launched():
        name = f"cuda:{local_rank()}"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Returns what a device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {cpu_name()}"


# ---------------------------------------------------------------------------------- precision


def dtype_of(precision: str) -> torch.dtype | None:
    """Returns the data type of products of that precision, None where it is the parameters'."""
    return torch.bfloat16 if precision == "bfloat16" else None


def set_precision(model: nn.Module, precision: str, device: torch.device) -> None:
    """Lets a plain model's products take operands of that precision; logits come as float32."""
    if dtype := dtype_of(precision):
        forward = model.forward

        def cast(inputs: Tensor, lengths: Tensor) -> Tensor:
            with torch.autocast(device.type, dtype):
                return forward(inputs, lengths).float()

        model.forward = cast


# ------------------------------------------------------------------------------------ kernels

LARGEST_ERROR = 1e-6  # relative, of a float32 product; TF32's operands give 3e-4, bfloat16's 2e-3


def choose_kernels(device: torch.device, plain: bool = False) -> str:
    """Lets oneDNN take float32 products where that is exact, and returns whose kernels are used.

    `plain` leaves them to PyTorch, as a new process does.

    PyTorch's own float32 products on a CPU are MKL's, which are slow on AMD's. The setting that
    hands them to oneDNN permits bfloat16 operands; whether a CPU has these, and would lose digits,
    a product tells that is held against float64. It also tells where PyTorch's own lose them, as
    on CUDA when the environment asks for TF32.
    """
    matmul = torch.backends.mkldnn.matmul
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        matmul.fp32_precision = "none"
        if not plain:
            matmul.fp32_precision = "bf16"
            if product_error(device) < LARGEST_ERROR:
                return "oneDNN's float32 products"
            matmul.fp32_precision = "none"
    if product_error(device) < LARGEST_ERROR:
        return "PyTorch's products"
    return "PyTorch's products, of fewer digits than float32 has"


@contextmanager
def kernels_restored() -> Iterator[None]:
    """Lets whose products are used be as before at the end of a `with`, or of a function.

    A notebook, or a program that runs an experiment, has products of its own.
    """
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


def product_error(device: torch.device) -> float:
    """Returns the relative error of a device's float32 product, held against float64."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    return float((multiply(a, b, device).double() - exact).norm() / exact.norm())


def multiply(a: Tensor, b: Tensor, device: torch.device) -> Tensor:
    """Returns the product of two matrices, computed on a device, on the CPU."""
    return (a.to(device) @ b.to(device)).cpu()


# ------------------------------------------------------------------------------------- memory

MEMORY_IS_FULL = (  # what torch's errors say then, on one device or another
    "can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED",
)  # fmt: skip


@contextmanager
def telling_full_memory(
    device: torch.device,
    way_out: str = "lower --batch_size or --context_length, or take a smaller --model_size",
) -> Iterator[None]:
    """Lets full memory of a device be told with the way out.

    Raises:
        MemoryError: when the memory of the device is full; the message says what to lower.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch has a type for CUDA's memory only
        if isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_IS_FULL):
            raise MemoryError(
                f"the memory of the device is full, {peak_memory_mib(device):,.0f} MiB at the "
                f"peak: {way_out} ({error})"
            ) from error
        raise


def start_peak(device: torch.device) -> str:
    """Lets the peak of memory count from here on, and returns since when it does.

    Returns:
        `run`, or `process` where the system cannot forget an earlier peak.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return "run"
    if give_back := function_of_glibc("malloc_trim"):
        gc.collect()
        give_back(0)  # what an earlier run has freed is no part of this one
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: restarts VmHWM
    except OSError:
        return "process"
    return "run"


def peak_memory_mib(device: torch.device) -> float:
    """Returns the most memory held: the device's on CUDA, else the process's, in MiB.

    It counts from `start_peak` on, where the system allows that. The process's counts pages of
    mapped files too. NaN where the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")  # Linux
    if status.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) / 2**10
    if resource is None:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def total_memory() -> float:
    """Returns the memory in bytes that the machine has, or the container may take.

    0 where the system does not tell (Windows).
    """
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return 0
    return min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *memory_limits())


def memory_of(device: torch.device) -> float:
    """Returns the memory in bytes that a device has: a GPU its own, others the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return total_memory()


def memory_limits(root: Path = Path("/")) -> list[float]:
    """Returns what Linux's control groups let the process take, in bytes; infinity is among them.

    Args:
        root: the folder that `/proc` and `/sys` lie in.
    """
    return [limit for limit, _ in memory_groups(root)] + [math.inf]


def memory_groups(root: Path) -> Iterator[tuple[int, int]]:
    """Yields the limit of each of Linux's control groups that has one, and what it holds, in bytes.

    A limit binds all groups below it. Within a container its own group lies where the first one
    does outside, whatever the path says. Pages of files that are not in use are no part of what it
    holds, for they go first.

    Source: the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory.
    """
    listing = root / "proc/self/cgroup"
    for line in listing.read_text().splitlines() if listing.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            first, limit, use = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            first = root / "sys/fs/cgroup/memory"
            limit, use = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = first / path.strip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(first) and (most := read_number(folder / limit)) is not None:
                held = read_number(folder / use) or 0
                yield most, max(0, held - pages_of_files(folder / "memory.stat"))


def read_number(file: Path) -> int | None:
    """Returns the number that a file of the kernel's holds; None for a word, or without a file."""
    text = file.read_text().strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else None


def pages_of_files(statistics: Path) -> int:
    """Returns the bytes of a control group's pages of files that are not in use."""
    text = statistics.read_text() if statistics.is_file() else ""
    found = re.search(r"^(?:total_)?inactive_file (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def available_memory(device: torch.device, root: Path = Path("/")) -> float:
    """Returns the bytes of memory that this process may hold, with those that it holds already.

    They are what is free on a GPU; on Linux what the system and the control groups have left, of
    which processes of one run have a part each; and all that there is elsewhere. Infinity where the
    system does not tell.

    Args:
        device: where a run is computed.
        root: the folder that `/proc` and `/sys` lie in.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    meminfo, status = root / "proc/meminfo", root / "proc/self/status"
    if not meminfo.is_file():
        return total_memory() or math.inf
    free = 1024 * int(re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text())[1])
    own = 1024 * int(re.search(r"VmRSS:\s*(\d+) kB", status.read_text())[1])
    left = min(free, *(limit - held for limit, held in memory_groups(root)), math.inf)
    return own + left / count_local_processes()


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed for the next tensor of the size, instead of asking the system.

    Fresh pages for the gradients took a third of row 2's steps. Other systems' ways are their own.
    """
    # Stays so to the end of the process. What was set cannot be read, and glibc's defaults, set,
    # would be another thing: 128 KiB for good, while its own thresholds grow with what is freed.
    if mallopt := function_of_glibc("mallopt"):
        trim_threshold, mmap_threshold = -1, -3  # as malloc.h numbers them
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**25)  # the most it takes


def function_of_glibc(name: str) -> Callable[..., int] | None:
    """Returns a function of Linux's usual C library, or None where that is another one."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
