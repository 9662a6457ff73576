"""Where a run is computed: exact products, and how much memory is used and available."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from experiments.system import devices, hardware

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
OWN = "PyTorch's products"
FEWER = f"{OWN}, of fewer digits than float32 has"
MATMUL = torch.backends.mkldnn.matmul
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="has no oneDNN")

# ------------------------------------------------------------------------------------- devices


def test_each_process_on_a_machine_selects_its_own_of_the_gpus_that_exist(monkeypatch):
    names = ("auto", "cuda", "cpu", "cuda:0", "cuda:1", "cuda:2")
    assert [*filter(devices.device_is_available, names)] == ["auto", "cpu"]
    assert devices.select_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [*filter(devices.device_is_available, names)] == [*names[:-1]]
    assert [*map(devices.select_device, names[:3])] == [CUDA, CUDA, CPU]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    second = torch.device("cuda:1")
    assert [*map(devices.select_device, names[:3])] == [second, second, CPU]


def test_name_memory_and_peak_of_a_gpu_are_those_of_its_driver(monkeypatch):
    reset, capability = [], (7, 5)
    driver = {
        "get_device_name": lambda device: f"card of {device}",
        "reset_peak_memory_stats": reset.append,
        "max_memory_allocated": {CUDA: 3 * 2**20}.get,
        "mem_get_info": lambda _: (70, 80),
        "memory_reserved": lambda _: 5,
        "get_device_properties": lambda _: SimpleNamespace(total_memory=80),
        "get_device_capability": lambda _: capability,
    }
    for name, function in driver.items():
        monkeypatch.setattr(torch.cuda, name, function)
    assert devices.device_name(CUDA) == "card of cuda"
    assert (devices.start_peak(CUDA), reset) == ("run", [CUDA])
    assert devices.peak_memory_mib(CUDA) == 3
    assert (devices.available_memory(CUDA), devices.memory_of(CUDA)) == (75, 80)
    assert devices.lacks_bfloat16(CUDA)
    capability = (8, 0)  # of Ampere
    assert not devices.lacks_bfloat16(CUDA)
    assert not devices.lacks_bfloat16(CPU)


# ------------------------------------------------------------------------------------- kernels


@pytest.fixture(autouse=True)
def kernels_of_a_new_process():
    before, MATMUL.fp32_precision = MATMUL.fp32_precision, "none"
    yield
    MATMUL.fp32_precision = before


def with_tf32(a, b, _):
    """A product whose operands have ten bits of the mantissa, as TF32's do."""
    a, b = ((x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in (a, b))
    return a @ b


def test_the_chosen_kernels_have_the_digits_of_float32():
    devices.choose_kernels(CPU)
    a, b = torch.randn(300, 400), torch.randn(400, 500)
    exact = a.double() @ b.double()
    assert (a @ b - exact).norm() / exact.norm() < 1e-6


@pytest.mark.parametrize(
    ("is_exact", "device", "reference", "kernels", "setting"),
    [
        pytest.param(True, CPU, False, "oneDNN's float32 products", "bf16", marks=ONEDNN),
        (True, CPU, True, OWN, "none"),
        (True, CUDA, False, OWN, "none"),
        (False, CPU, False, FEWER, "none"),
        (False, CPU, True, FEWER, "none"),
        (False, CUDA, False, FEWER, "none"),
    ],
)
def test_onednn_is_chosen_where_it_is_exact_and_products_of_fewer_digits_are_reported(
    is_exact, device, reference, kernels, setting, monkeypatch
):
    product = (lambda a, b, _: a @ b) if is_exact else with_tf32
    monkeypatch.setattr(devices, "_multiply", product)
    found = devices.choose_kernels(device, reference)
    assert (found, MATMUL.fp32_precision) == (kernels, setting)


@pytest.mark.cuda
def test_a_gpus_products_are_compared_with_float64():
    assert devices.choose_kernels(CUDA) in (OWN, FEWER)


def test_the_choice_of_kernels_is_restored_also_after_an_error():
    MATMUL.fp32_precision = "ieee"

    @devices.kernels_restored()
    def fail():
        MATMUL.fp32_precision = "bf16"
        raise ValueError("after the kernels were chosen")

    for _ in range(2):
        with pytest.raises(ValueError, match="after the kernels"):
            fail()
        assert MATMUL.fp32_precision == "ieee"


# ------------------------------------------------------------------------------- peak of memory


@LINUX
def test_the_peak_of_memory_is_measured_from_its_start_on(monkeypatch):
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
    monkeypatch.setattr(Path, "write_text", Mock(side_effect=OSError("Permission denied")))
    assert devices.start_peak(CPU) == "process"


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
    library = SimpleNamespace(mallopt=Mock())
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda _: library)
    devices.keep_freed_memory()
    settings = [call.args for call in library.mallopt.call_args_list]
    assert settings == [(-1, 2**31 - 1), (-3, 2**25)]  # as malloc.h numbers them
    del library.mallopt  # another C library
    devices.keep_freed_memory()


@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("CUDA out of memory. Tried")])
def test_an_error_of_full_memory_gets_a_hint_and_another_one_does_not(error):
    raised = pytest.raises(MemoryError, match=r"MiB at the peak: less \((no|CUDA out)")
    with raised, devices.explain_full_memory(CPU, "less"):
        raise error
    with pytest.raises(RuntimeError, match="another"), devices.explain_full_memory(CPU):
        raise RuntimeError("another")


# ------------------------------------------------------- what system and container have available


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Returns a function that makes /proc and /sys; 100 bytes are free, 3 used by the process."""
    free = SimpleNamespace(total=1000, available=100)
    monkeypatch.setattr(hardware.psutil, "virtual_memory", lambda: free)
    used = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=3))
    monkeypatch.setattr(hardware.psutil, "Process", lambda: used)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr(hardware, "_ROOT", tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def make(groups, files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for name, text in files.items():
            file = tmp_path / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")

    return make


STAT = "anon 7\ninactive_file 5\nactive_file 3"
OLD_STAT = "inactive_file 0\ntotal_inactive_file 1\n"
OLD, OLD_USE = "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {}, (1000, 103, 64)),
        ("0::/", {"memory.max": 2000, "cpu.max": "max 100000"}, (1000, 103, 64)),
        ("0::/", {"memory.max": "max", "memory.current": 20}, (1000, 103, 64)),
        ("0::/", {"memory.max": 50}, (50, 50, 64)),  # never more than the limit
        ("0::/", {"memory.max": 50, "memory.current": 20}, (50, 33, 64)),
        ("0::/", {"memory.max": 50, "memory.current": 20, "memory.stat": STAT}, (50, 38, 64)),
        ("0::/", {"memory.max": 50, "memory.current": 3, "memory.stat": STAT}, (50, 50, 64)),
        ("0::/a/b", {"a/memory.max": 5, "a/b/memory.max": "max"}, (5, 5, 64)),
        ("0::/a", {"b/memory.max": 5}, (1000, 103, 64)),
        ("0::/a:b", {"a:b/memory.max": 3}, (3, 3, 64)),
        ("4:memory:/docker/x", {OLD: 6}, (6, 6, 64)),
        ("3:cpu:/", {OLD: 6}, (1000, 103, 64)),
        ("4:memory:/", {OLD: 50, OLD_USE: 20, "memory/memory.stat": OLD_STAT}, (50, 34, 64)),
        ("5:cpu,memory:/x\n0::/",
         {"memory/x/memory.limit_in_bytes": 6, "memory.max": 4}, (4, 4, 64)),
        ("0::/", {"cpu.max": "200000 100000"}, (1000, 103, 2)),
        ("0::/", {"cpu.max": "1000 100000"}, (1000, 103, 1)),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, (1000, 103, 2)),
    ],
)  # fmt: skip
def test_memory_and_threads_are_limited_to_those_of_a_container(
    groups, files, expected, system, monkeypatch
):
    system(f"{groups}\n", files)
    found = devices.total_memory(), devices.available_memory(CPU), hardware.usable_cpus()
    assert found == expected
    assert devices.memory_of(CPU) == expected[0]
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert hardware.usable_cpus() > 10_000


@pytest.mark.usefixtures("system")
@pytest.mark.skipif(hardware.resource is None, reason="has no such limits")
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_available_is_never_more_than_a_limit_of_the_process(name, monkeypatch):
    assert devices.available_memory(CPU) == 103  # where no control groups exist
    limits = {getattr(hardware.resource, name): (40, 50)}
    monkeypatch.setattr(hardware.resource, "getrlimit", lambda n: limits.get(n, (-1, -1)))
    assert devices.available_memory(CPU) == 40


def test_the_processes_of_a_run_on_a_machine_divide_what_is_left(system, monkeypatch):
    system("0::/\n", {"memory.max": 50, "memory.current": 20})
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert devices.available_memory(CPU) == 13
