"""Where a run is computed: device, precision, kernels, and memory."""

import ctypes
import math
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

try:
    import resource
except ImportError:  # Windows
    resource = None

# ----------------------------------------------------------------------------------- the device


def pick_device(name: str) -> torch.device:
    """Returns the device of that name; `auto` never picks mps, whose results differ."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Returns what a device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():  # Linux, whose processor() is the architecture
        name = re.search(r"model name\s*: (.*)|$", cpuinfo.read_text())[1] or name
    return f"{device.type}, {name}"


# ---------------------------------------------------------------------------------- precision


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Returns a context in which matrix products take operands of that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def set_precision(model: nn.Module, precision: str, device: torch.device) -> None:
    """Lets a model's forward pass take operands of that precision; logits come as float32."""
    if precision == "bfloat16":
        forward = model.forward

        def cast(inputs: Tensor, lengths: Tensor) -> Tensor:
            with autocast(precision, device):
                return forward(inputs, lengths).float()

        model.forward = cast


# ------------------------------------------------------------------------------------ kernels

LARGEST_ERROR = 1e-6  # relative, of a float32 product; what bfloat16 operands give is 2e-3


def choose_kernels(device: torch.device, plain: bool = False) -> str:
    """Lets oneDNN take float32 products where that is exact, and returns whose kernels are used.

    `plain` leaves them to PyTorch, as a new process does.

    PyTorch's own float32 products on a CPU are MKL's, which are slow on AMD's. The setting that
    hands them to oneDNN permits bfloat16 operands; whether a CPU has these, and would lose digits,
    a product tells that is held against float64.
    """
    matmul = torch.backends.mkldnn.matmul
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return "PyTorch's products"
    matmul.fp32_precision = "none"
    if plain:
        return "PyTorch's products"
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    matmul.fp32_precision = "bf16"
    error = float(((a @ b).double() - exact).norm() / exact.norm())
    if error < LARGEST_ERROR:
        return "oneDNN's float32 products"
    matmul.fp32_precision = "none"
    return "PyTorch's products"


# ------------------------------------------------------------------------------------- memory

MEMORY_IS_FULL = (  # what torch's errors say then, on one device or another
    "can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED",
)  # fmt: skip


@contextmanager
def telling_full_memory(device: torch.device) -> Iterator[None]:
    """Lets full memory of a device be told with what to lower.

    Raises:
        MemoryError: when the memory of the device is full; the message says what to lower.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch has a type for CUDA's memory only
        if isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_IS_FULL):
            raise MemoryError(
                f"the memory of the device is full, {peak_memory_mib(device):,.0f} MiB at the "
                "peak: lower --batch_size or --context_length, or take a smaller --model_size "
                f"({error})"
            ) from error
        raise


def peak_memory_mib(device: torch.device) -> float:
    """Returns the most memory held so far: the device's on CUDA, else the process's, in MiB.

    The process's counts pages of mapped files too. NaN where the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if resource is None:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def total_memory() -> float:
    """Returns the machine's memory in bytes; 0 where the system does not tell (Windows)."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed for the next tensor of the size, instead of asking the system.

    Fresh pages for the gradients took a third of row 2's steps. Other systems' ways are their own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # as malloc.h numbers them
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**25)  # the most it takes
