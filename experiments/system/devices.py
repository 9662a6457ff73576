"""Where a run is computed: device, precision, kernels, and memory."""

import gc
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from torch import Tensor

from experiments.system import hardware
from experiments.system.distributed import world
from experiments.system.hardware import cpu_name, total_memory, usable_cpus
from experiments.system.hardware import keep_freed_memory as keep_freed_memory

try:
    import resource
except ImportError:  # Windows
    resource = None

# ---------------------------------------------------------------------------- device and precision


def select_device(name: str) -> torch.device:
    """Return the device of that name; `auto` never selects mps, whose results differ."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))
    if name == "cuda" and world.is_launched:  # each process on a machine gets its own GPU
        name = f"cuda:{world.local_rank}"
    return torch.device(name)


def device_is_available(name: str) -> bool:
    """Return whether PyTorch can compute on the device of that name."""
    if name in ("auto", "cpu"):
        return True
    if name == "mps":
        return torch.backends.mps.is_available()
    return torch.cuda.is_available() and int(name[5:] or 0) < torch.cuda.device_count()


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the kind of device with the name of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {cpu_name()}"


def dtype_of(precision: str) -> torch.dtype | None:
    """Return the data type of matrix products; None if it is that of the parameters."""
    return torch.bfloat16 if precision == "bfloat16" else None


def lacks_bfloat16(device: torch.device) -> bool:
    """Return whether a GPU only emulates products in bfloat16, as those before Ampere do."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)


# ---------------------------------------------------------------------------------------- kernels


def choose_kernels(device: torch.device, reference: bool = False) -> str:
    """Let oneDNN compute float32 products where that is exact, and return whose kernels are used.

    PyTorch's own on a CPU are MKL's, which are slow on AMD's; `reference` uses them. The setting
    that selects oneDNN also permits bfloat16 operands; whether a CPU would lose digits is found by
    comparing a product with float64. So is a loss in PyTorch's own, as by TF32 on CUDA.
    """
    matmul = torch.backends.mkldnn.matmul
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        matmul.fp32_precision = "none" if reference else "bf16"
        if not reference and _is_exact(device):
            return "oneDNN's float32 products"
        matmul.fp32_precision = "none"
    fewer = "" if _is_exact(device) else ", of fewer digits than float32 has"
    return f"PyTorch's products{fewer}"


@contextmanager
def kernels_restored() -> Iterator[None]:
    """Restore a notebook's choice of kernels at the end of a `with`, or of a decorated function."""
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


def _is_exact(device: torch.device) -> bool:
    """Return whether a float32 product has all digits: TF32's error is 3e-4, bfloat16's 2e-3."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    error = (_multiply(a, b, device).double() - exact).norm() / exact.norm()
    return float(error) < 1e-6


def _multiply(a: Tensor, b: Tensor, device: torch.device) -> Tensor:
    return (a.to(device) @ b.to(device)).cpu()


# ----------------------------------------------------------------------------------------- memory

_OUT_OF_MEMORY = "can't allocate memory|not enough memory|out of memory|ALLOC_FAILED"  # in messages


@contextmanager
def explain_full_memory(
    device: torch.device,
    hint: str = "lower --batch_size or --context_length, or use a smaller --model_size",
) -> Iterator[None]:
    """Raise MemoryError with a hint when the memory of the device is full."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # PyTorch has a type for CUDA's memory only
        if not isinstance(error, MemoryError) and not re.search(_OUT_OF_MEMORY, str(error)):
            raise
        peak = f"{peak_memory_mib(device):,.0f} MiB at the peak"
        raise MemoryError(f"the memory of the device is full, {peak}: {hint} ({error})") from error


def start_peak(device: torch.device) -> str:
    """Start to measure the peak of memory; return "process" if the system keeps an earlier one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return "run"
    gc.collect()
    if hasattr(psutil, "heap_trim"):
        psutil.heap_trim()  # what an earlier run has freed is no part of this one
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: restarts VmHWM
        return "run"
    return "process"


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak of memory in MiB, on CUDA the device's, otherwise the process's.

    The process's includes pages of mapped files. NaN on Windows.
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


def memory_of(device: torch.device) -> float:
    """Return the bytes of memory that a device has: a GPU its own, others the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return total_memory()


def available_memory(device: torch.device) -> float:
    """Return the bytes of a device's memory that this process may hold, with those it holds."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return hardware.available_memory()
