"""Where a run is computed: exact products, and how much memory is used and available."""

import errno
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from experiments.system import devices, hardware

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FEWER = "PyTorch's products, of fewer digits than float32 has"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="has no oneDNN")

# ------------------------------------------------------------------------------------- devices


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


NAMES = ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:2")


def test_each_gpu_that_exists_is_available(request):
    assert [*filter(devices.device_is_available, NAMES)] == ["auto", "cpu"]
    request.getfixturevalue("two_gpus")
    assert [*filter(devices.device_is_available, NAMES)] == [*NAMES[:-1]]


def test_each_process_on_a_machine_selects_its_own_gpu(request, monkeypatch):
    assert devices.select_device("auto") == CPU
    request.getfixturevalue("two_gpus")
    names = ("auto", "cuda", "cpu")
    assert [*map(devices.select_device, names)] == [CUDA, CUDA, CPU]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    second = torch.device("cuda:1")
    assert [*map(devices.select_device, names)] == [second, second, CPU]


def test_a_gpu_has_the_name_of_its_driver(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card of {device}")
    assert devices.device_name(CUDA) == "card of cuda"


# ------------------------------------------------------------------------------------- kernels


@pytest.fixture(autouse=True)
def kernels_of_a_new_process():
    matmul = torch.backends.mkldnn.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "none"
    yield
    matmul.fp32_precision = before


def with_tf32(a, b, _):
    """A product whose operands have ten bits of the mantissa, as TF32's do."""
    a, b = ((x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in (a, b))
    return a @ b


def test_the_chosen_kernels_have_the_digits_of_float32():
    devices.choose_kernels(CPU)
    a, b = torch.randn(300, 400), torch.randn(400, 500)
    exact = a.double() @ b.double()
    assert (a @ b - exact).norm() / exact.norm() < 1e-6


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_products_of_fewer_digits_are_reported_on_any_device(device, reference, monkeypatch):
    monkeypatch.setattr(devices, "_multiply", with_tf32)
    assert devices.choose_kernels(device, reference) == FEWER
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


@ONEDNN
def test_onednn_is_chosen_where_it_is_exact_except_for_the_reference(monkeypatch):
    monkeypatch.setattr(devices, "_is_exact", lambda _: True)
    assert devices.choose_kernels(CPU) == "oneDNN's float32 products"
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert (
        devices.choose_kernels(CPU, reference=True)
        == devices.choose_kernels(CUDA)
        == "PyTorch's products"
    )
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_the_choice_of_kernels_is_restored_also_after_an_error(monkeypatch):
    monkeypatch.setattr(devices, "_is_exact", lambda _: True)
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"

    @devices.kernels_restored()
    def fail():
        devices.choose_kernels(CPU)
        raise ValueError("after the kernels were chosen")

    for _ in range(2):
        with pytest.raises(ValueError, match="after the kernels"):
            fail()
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"


@pytest.mark.cuda
def test_a_gpus_products_are_compared_with_float64():
    assert devices.choose_kernels(CUDA) in ("PyTorch's products", FEWER)


# ------------------------------------------------------------------------------- peak of memory


@LINUX
def test_the_peak_of_memory_is_measured_from_its_start_on():
    devices.keep_freed_memory()
    devices.start_peak(CPU)
    earlier = [torch.ones(2**22) for _ in range(16)]  # 256 MiB
    before = devices.peak_memory_mib(CPU)
    del earlier
    assert devices.start_peak(CPU) == "run"
    assert devices.peak_memory_mib(CPU) < before - 100
    held = torch.ones(2**26)
    assert devices.peak_memory_mib(CPU) > before - 50
    del held


def test_a_peak_that_cannot_be_forgotten_is_that_of_the_process(monkeypatch):
    refuse = Mock(side_effect=OSError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr(Path, "write_text", refuse)
    assert devices.start_peak(CPU) == "process"


def test_the_peak_of_a_gpu_is_its_own_in_mib(monkeypatch):
    reset = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {CUDA: 3 * 2**20}.get)
    assert (devices.start_peak(CUDA), reset) == ("run", [CUDA])
    assert devices.peak_memory_mib(CUDA) == 3


@pytest.mark.parametrize(("platform", "units"), [("darwin", 2**20), ("freebsd", 2**10)])
def test_the_peak_elsewhere_is_that_of_the_systems_counter(platform, units, monkeypatch):
    usage = SimpleNamespace(ru_maxrss=3 * units)
    counter = SimpleNamespace(getrusage=lambda _: usage, RUSAGE_SELF=0)
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(devices, "resource", counter)
    assert devices.peak_memory_mib(CPU) == 3
    monkeypatch.setattr(devices, "resource", None)
    assert math.isnan(devices.peak_memory_mib(CPU))


@LINUX
def test_freed_memory_is_kept_by_two_settings_of_glibc(monkeypatch):
    calls = []
    library = SimpleNamespace(mallopt=lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda _: library)
    devices.keep_freed_memory()
    assert calls == [(-1, 2**31 - 1), (-3, 2**25)]  # as malloc.h numbers them
    del library.mallopt  # another C library
    devices.keep_freed_memory()


@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("CUDA out of memory. Tried")])
def test_an_error_of_full_memory_gets_a_hint_and_another_one_does_not(error):
    raised = pytest.raises(MemoryError, match=r"MiB at the peak: less \((no|CUDA out)")
    with raised, devices.explain_full_memory(CPU, "less"):
        raise error
    with pytest.raises(RuntimeError, match="another"), devices.explain_full_memory(CPU):
        raise RuntimeError("another")


# ----------------------------------------------------------------------------- available memory


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Returns a function that makes /proc and /sys; 100 bytes are free, 3 used by the process."""
    fields = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=3))
    free = SimpleNamespace(total=1000, available=100)
    monkeypatch.setattr(hardware.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(hardware.psutil, "Process", lambda: fields)
    monkeypatch.setattr(hardware, "_ROOT", tmp_path)

    def make(groups, files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for name, text in files.items():
            file = tmp_path / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")

    return make


@pytest.mark.parametrize(
    ("groups", "limits", "least"),
    [
        ("0::/\n", {"memory.max": 7}, 7),
        ("0::/\n", {"memory.max": "max"}, 1000),
        ("0::/\n", {"memory.max": 2000}, 1000),
        ("0::/a/b\n", {"a/memory.max": 5, "a/b/memory.max": "max"}, 5),
        ("0::/a\n", {"b/memory.max": 5}, 1000),
        ("4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": 6}, 6),
        ("5:cpu,memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": 6, "memory.max": 4}, 4),
        ("0::/a:b\n", {"a:b/memory.max": 3}, 3),
        ("3:cpu:/\n", {"memory/memory.limit_in_bytes": 6}, 1000),
    ],
)
def test_a_containers_limit_is_the_total_memory(groups, limits, least, system):
    system(groups, limits)
    assert devices.total_memory() == devices.memory_of(CPU) == least


@pytest.mark.usefixtures("system")
def test_without_control_groups_all_memory_counts():
    assert devices.total_memory() == 1000
    assert devices.available_memory(CPU) == 103


STAT = "anon 7\ninactive_file 5\nactive_file 3"


OLDER = {
    "memory/memory.limit_in_bytes": 50, "memory/memory.usage_in_bytes": 20,
    "memory/memory.stat": "inactive_file 0\ntotal_inactive_file 1\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, 103),
        ({"memory.max": 50, "memory.current": 20}, 33),
        ({"memory.max": 50}, 50),  # never more than the limit, as the last but one
        ({"memory.max": "max", "memory.current": 20}, 103),
        ({"memory.max": 50, "memory.current": 20, "memory.stat": STAT}, 38),
        ({"memory.max": 50, "memory.current": 3, "memory.stat": STAT}, 50),
        (OLDER, 34),
    ],
)
def test_available_is_what_system_and_container_have_left_and_the_process_holds(
    files, available, system
):
    system("4:memory:/\n" if files is OLDER else "0::/\n", files)
    assert devices.available_memory(CPU) == available


@pytest.mark.skipif(hardware.resource is None, reason="has no such limits")
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_available_is_never_more_than_a_limit_of_the_process(name, system, monkeypatch):
    limited = getattr(hardware.resource, name)
    limits = {limited: (40, 50)}
    monkeypatch.setattr(hardware.resource, "getrlimit", lambda n: limits.get(n, (-1, -1)))
    assert devices.available_memory(CPU) == 40


def test_the_processes_of_a_run_on_a_machine_divide_what_is_left(system, monkeypatch):
    system("0::/\n", {"memory.max": 50, "memory.current": 20})
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert devices.available_memory(CPU) == 13


def test_a_gpus_memory_is_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5)
    properties = SimpleNamespace(total_memory=80)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert (devices.available_memory(CUDA), devices.memory_of(CUDA)) == (75, 80)


def test_the_memory_of_this_machine_is_plausible():
    assert 2**27 < devices.available_memory(CPU) < 2**60


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        ("4:memory:/x\n", {}, 64),
    ],
)
def test_threads_are_limited_to_the_quota_of_a_container(system, monkeypatch, groups, files, cpus):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: range(64), raising=False)
    system(groups, files)
    assert hardware.usable_cpus() == cpus
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert hardware.usable_cpus() > 10_000


def test_only_gpus_before_ampere_lack_units_for_bfloat16(monkeypatch):
    for capability, lacks in (((7, 5), True), ((8, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert devices.lacks_bfloat16(CUDA) == lacks
    assert not devices.lacks_bfloat16(CPU)
