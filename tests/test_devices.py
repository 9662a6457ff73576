"""Where a run is computed: which products are exact, and how much memory there is and was held."""

import errno
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from experiments.system import devices
from experiments.system.devices import (
    available_memory,
    choose_kernels,
    device_name,
    keep_freed_memory,
    kernels_restored,
    memory_limits,
    peak_memory_mib,
    start_peak,
    telling_full_memory,
    total_memory,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FEWER = "PyTorch's products, of fewer digits than float32 has"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="has no oneDNN")


def test_a_gpu_is_called_what_its_driver_calls_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card of {device}")
    assert device_name(CUDA) == "card of cuda"


# --------------------------------------------------------------------------------------- kernels


@pytest.fixture(autouse=True)
def kernels_of_a_new_process():
    matmul = torch.backends.mkldnn.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "none"
    yield
    matmul.fp32_precision = before


def with_tf32(a, b, _):
    """A product whose operands keep ten bits of the mantissa, as TF32's do."""
    a, b = ((x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in (a, b))
    return a @ b


def test_the_kernels_that_are_chosen_keep_float32s_digits():
    choose_kernels(CPU)
    a, b = torch.randn(300, 400), torch.randn(400, 500)
    exact = a.double() @ b.double()
    assert (a @ b - exact).norm() / exact.norm() < 1e-6


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_products_of_fewer_digits_are_told_on_any_device(device, plain, monkeypatch):
    monkeypatch.setattr(devices, "multiply", with_tf32)
    assert choose_kernels(device, plain) == FEWER
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_exact_products_of_a_gpu_are_told_as_such(monkeypatch):
    monkeypatch.setattr(devices, "multiply", lambda a, b, _: a @ b)
    assert choose_kernels(CUDA) == "PyTorch's products"


@ONEDNN
def test_onednns_products_are_taken_where_they_are_exact_but_for_the_plain_path(monkeypatch):
    monkeypatch.setattr(devices, "product_error", lambda _: 0)
    assert choose_kernels(CPU) == "oneDNN's float32 products"
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert choose_kernels(CPU, plain=True) == "PyTorch's products"
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_whose_products_are_used_is_as_before_also_after_an_error(monkeypatch):
    monkeypatch.setattr(devices, "product_error", lambda _: 0)
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"

    @kernels_restored()
    def fail():
        choose_kernels(CPU)
        raise ValueError("after the kernels were chosen")

    for _ in range(2):
        with pytest.raises(ValueError, match="after the kernels"):
            fail()
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"


@pytest.mark.cuda
def test_a_gpus_products_are_held_against_float64():
    assert choose_kernels(CUDA) in ("PyTorch's products", FEWER)


# ---------------------------------------------------------------------------------------- memory


@LINUX
def test_the_peak_of_memory_counts_from_its_start_on():
    keep_freed_memory()
    start_peak(CPU)
    earlier = [torch.ones(2**22) for _ in range(16)]  # 256 MiB
    before = peak_memory_mib(CPU)
    del earlier
    assert start_peak(CPU) == "run"
    assert peak_memory_mib(CPU) < before - 100
    held = torch.ones(2**26)
    assert peak_memory_mib(CPU) > before - 50
    del held


def test_a_peak_that_cannot_start_anew_is_told_as_the_processs(monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert start_peak(CPU) == "process"


def test_the_peak_of_a_gpu_starts_anew(monkeypatch):
    reset = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    assert (start_peak(CUDA), reset) == ("run", [CUDA])


def test_the_peak_of_a_gpu_is_its_own_in_mib(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {CUDA: 3 * 2**20}.get)
    assert peak_memory_mib(CUDA) == 3


@LINUX
def test_the_peak_on_linux_is_that_of_proc_in_mib(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda _: "VmPeak: 9 kB\nVmHWM:\t  3072 kB\n")
    assert peak_memory_mib(CPU) == 3


@pytest.mark.parametrize(("platform", "units"), [("darwin", 2**20), ("freebsd", 2**10)])
def test_the_peak_elsewhere_is_what_the_system_counts(platform, units, monkeypatch):
    usage = SimpleNamespace(ru_maxrss=3 * units)
    counter = SimpleNamespace(getrusage=lambda _: usage, RUSAGE_SELF=0)
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(devices, "resource", counter)
    assert peak_memory_mib(CPU) == 3
    monkeypatch.setattr(devices, "resource", None)
    assert math.isnan(peak_memory_mib(CPU))


def test_a_system_that_does_not_tell_its_memory_has_0(monkeypatch):
    monkeypatch.setattr(devices, "os", SimpleNamespace())
    assert total_memory() == 0


def test_freed_memory_is_kept_by_glibcs_two_thresholds(monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "function_of_glibc", lambda name: lambda *a: asked.append(a))
    keep_freed_memory()
    assert asked == [(-1, 2**31 - 1), (-3, 2**25)]  # as malloc.h numbers them
    monkeypatch.setattr(devices, "function_of_glibc", lambda _: None)
    keep_freed_memory()


@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("CUDA out of memory. Tried")])
def test_full_memory_is_told_with_the_way_out_and_another_error_as_it_is(error):
    told = pytest.raises(MemoryError, match=r"MiB at the peak: less \((no|CUDA out)")
    with told, telling_full_memory(CPU, "less"):
        raise error
    with pytest.raises(RuntimeError, match="another"), telling_full_memory(CPU):
        raise RuntimeError("another")


def make_system(root, groups, limits):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, limit in limits.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(f"{limit}\n")


@pytest.mark.parametrize(
    ("groups", "limits", "least"),
    [
        ("0::/\n", {"memory.max": 7}, 7),
        ("0::/\n", {"memory.max": "max"}, float("inf")),
        ("0::/a/b\n", {"a/memory.max": 5, "a/b/memory.max": "max"}, 5),
        ("0::/a\n", {"b/memory.max": 5}, float("inf")),
        ("4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": 6}, 6),
        ("5:cpu,memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": 6, "memory.max": 4}, 4),
        ("0::/a:b\n", {"a:b/memory.max": 3}, 3),
        ("3:cpu:/\n", {"memory/memory.limit_in_bytes": 6}, float("inf")),
    ],
)
def test_the_limits_of_a_container_are_seen(groups, limits, least, tmp_path):
    make_system(tmp_path, groups, limits)
    assert min(memory_limits(tmp_path)) == least


def test_a_system_without_control_groups_has_no_limit(tmp_path):
    assert memory_limits(tmp_path) == [float("inf")]


@LINUX
def test_the_memory_is_no_more_than_the_limit(monkeypatch):
    assert 2**28 < total_memory() < 2**60
    monkeypatch.setattr(devices, "memory_limits", lambda: [2**20, float("inf")])
    assert total_memory() == 2**20


def make_memory(root, free_kib, own_kib):
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 9999 kB\nMemAvailable:    {free_kib} kB\n")
    (root / "proc/self/status").write_text(f"VmHWM: 9 kB\nVmRSS:\t {own_kib} kB\n")


@pytest.mark.parametrize(
    ("files", "kib"),
    [
        ({}, 103),
        ({"memory.max": 50 * 1024, "memory.current": 20 * 1024}, 33),
        ({"memory.max": 50 * 1024}, 53),
        ({"memory.max": "max", "memory.current": 20 * 1024}, 103),
        (
            {
                "memory.max": 50 * 1024,
                "memory.current": 20 * 1024,
                "memory.stat": f"anon 7\ninactive_file {5 * 1024}\nactive_file 3",
            },
            38,
        ),
    ],
)
def test_what_is_available_is_what_the_system_and_the_container_have_left(files, kib, tmp_path):
    make_system(tmp_path, "0::/\n", files)
    make_memory(tmp_path, free_kib=100, own_kib=3)
    assert available_memory(CPU, tmp_path) == 1024 * kib


def test_an_older_containers_use_is_seen_too(tmp_path):
    files = {"memory.limit_in_bytes": 50 * 1024, "memory.usage_in_bytes": 20 * 1024,
             "memory.stat": "inactive_file 0\ntotal_inactive_file 1024\n"}  # fmt: skip
    make_system(tmp_path, "4:memory:/\n", {f"memory/{name}": text for name, text in files.items()})
    make_memory(tmp_path, free_kib=100, own_kib=0)
    assert available_memory(CPU, tmp_path) == 1024 * 30


def test_where_the_system_does_not_tell_what_is_free_all_that_there_is_counts(
    monkeypatch, tmp_path
):
    for total, available in ((2**33, 2**33), (0, float("inf"))):
        monkeypatch.setattr(devices, "total_memory", lambda total=total: total)
        assert available_memory(CPU, tmp_path) == available


def test_a_gpus_free_memory_is_what_is_available_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5)
    assert available_memory(CUDA) == 75


@LINUX
def test_what_is_available_here_is_plausible():
    assert 2**27 < available_memory(CPU) < 2**60
