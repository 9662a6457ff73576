"""The processes that make one run together, which torchrun starts.

    torchrun --nproc_per_node=2 additional_experiments.py --row 5

    with process_group(device):
        loss = world.all_reduce_sum(loss)

All processes draw the same random numbers, and so the same batches in the same order. Example m of
a pass is computed by process m mod N. A process's loss is the sum over its own examples, divided by
the number of all in the batch; so losses and gradients add up to those of one process.
DistributedDataParallel would take more code: it averages as if all shares were equal, and expects a
backward pass of each process in every batch, which one without an example does not have.

For one process, each method of `world` returns what it is given.

Sources: Li et al. 2020, "PyTorch Distributed", arXiv 2006.15704; PyTorch's documentation of
torchrun, "Environment Variables".
"""

import atexit
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, distributed, nn

TIMEOUT = timedelta(days=1)  # one process downloads while the others wait
SMALL_GRADIENT = 2**18  # elements, up to which gradients are sent together
START_TIMEOUT = timedelta(minutes=1)  # to find the launcher, and for all to say what they run
EXIT_TIMEOUT = 10  # seconds in which a process that ends reports its status

# -------------------------------------------------------------------------------------- the world


def _number(variable: str, default: int) -> Any:
    """Return a property: a number in the environment of a process that torchrun started."""
    return property(lambda world: int(os.environ[variable]) if world.is_launched else default)


class World:
    """The processes of a run; what torchrun says of them in the environment needs no PyTorch."""

    rank = _number("RANK", 0)  # of this process among all, from 0
    size = _number("WORLD_SIZE", 1)  # number of processes
    local_rank = _number("LOCAL_RANK", 0)  # of this process on its machine, and of its GPU
    local_size = _number("LOCAL_WORLD_SIZE", 1)  # processes on this machine, which share its memory

    @property
    def is_launched(self) -> bool:
        """Whether torchrun started this process."""
        return "TORCHELASTIC_RUN_ID" in os.environ

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def gather(self, value: Any, timeout: timedelta | None = None) -> list[Any]:
        """Return the values of all processes, in every process."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        group = None if timeout is None else dist.new_group(timeout=timeout, backend="gloo")
        values = [None] * self.size
        dist.all_gather_object(values, value, group)
        if group:
            dist.destroy_process_group(group)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value in every process."""
        return self.gather(value)[0]

    def check_equal(self, facts: dict[str, Any], timeout: timedelta | None = None) -> None:
        """Raise ValueError in all processes if one has other facts than the main process."""
        main, *others = self.gather({name: repr(fact) for name, fact in facts.items()}, timeout)
        for rank, found in enumerate(others, start=1):
            for name in main | found:
                if main.get(name) != found.get(name):
                    raise ValueError(
                        f"all processes need the same flags and data: process {rank} has {name} "
                        f"{found.get(name)}, process 0 {main.get(name)}"
                    )

    def broadcast_(self, x: "Tensor") -> None:
        """Fill a tensor with the main process's values, in place."""
        if self.size > 1:
            import torch.distributed as dist

            dist.broadcast(x, src=0)

    def all_reduce_sum(self, x: "Tensor") -> "Tensor":
        """Return the sum of a tensor over all processes, in place."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(x)
        return x

    def sum_gradients(self, parameters: Iterable["nn.Parameter"]) -> None:
        """Give every process the sum of all gradients; sharded ones are summed already."""
        if self.size == 1:
            return
        import torch
        from torch.distributed.tensor import DTensor
        from torch.nn.utils import parameters_to_vector, vector_to_parameters

        small = []
        for parameter in (p for p in parameters if not isinstance(p, DTensor)):
            if parameter.grad is None:  # no example of this process was in the step
                parameter.grad = torch.zeros_like(parameter)
            if parameter.numel() > SMALL_GRADIENT:
                self.all_reduce_sum(parameter.grad)
            else:
                small.append(parameter.grad)
        if small:  # of one data type; each message between processes has a fixed cost
            vector_to_parameters(self.all_reduce_sum(parameters_to_vector(small)), small)

    def gather_rows(self, rows: "Tensor", total: int, device: "torch.device") -> "Tensor":
        """Return (total, ...), the rows of all processes in the order of the pass, on the CPU.

        `rows` are those of this process's examples; they are summed on the device.
        """
        if self.size == 1:
            return rows
        import torch

        whole = torch.zeros(total, *rows.shape[1:], dtype=rows.dtype, device=device)
        whole[self.rank :: self.size] = rows.to(device)
        return self.all_reduce_sum(whole).cpu()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do alone what the others then find done, such as a download."""
        if not self.is_main:
            self.broadcast(None)  # waits for the main process's
        yield
        if self.is_main:
            self.broadcast(None)


world = World()
_PARENT = os.getppid()  # before slow imports

# ------------------------------------------------------------------------------- start and end

_STATUS = "status of process "  # key in the common store
_DONE, _INTERRUPTED, _DISCONNECTED = "done", "interrupted", "disconnected"


@contextmanager
def process_group(device_name: str) -> Iterator[None]:
    """Connect the processes that torchrun started, and end all of them when one ends early.

    Raises:
        ChildProcessError: in the main process, when another one failed; says how.
    """
    if not world.is_launched:
        yield
        return
    import torch.distributed as dist

    from experiments.system.devices import select_device
    from experiments.system.terminal import SIGNALS, print_interrupted

    handlers = {each: signal.signal(each, signal.SIG_DFL) for each in SIGNALS}
    if os.getppid() != _PARENT:
        raise ConnectionError("torchrun, which started this process, has ended")
    # Waits outside Python, where no handler of Python's runs.
    store, rank, size = next(dist.rendezvous("env://", timeout=START_TIMEOUT))
    store.set_timeout(TIMEOUT)
    for each, handler in handlers.items():
        signal.signal(each, handler)
    backend = "cpu:gloo,cuda:nccl" if select_device(device_name).type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank, world_size=size)
    try:
        yield
        store.set(f"{_STATUS}{rank}", _DONE)
        while not store.check([f"{_STATUS}{number}" for number in range(size)]):
            time.sleep(0.01)  # leaving earlier could cut off what another process still receives
    except BaseException as error:
        for each in SIGNALS:  # torchrun sends one when a process fails; this one is ending anyway
            signal.signal(each, signal.SIG_IGN)
        store.set(f"{_STATUS}{rank}", _status_of(error))
        dist.destroy_process_group()  # first, so that processes that wait for this one continue
        is_interrupted = isinstance(error, SystemExit)
        # A terminal sends Ctrl-C to all processes, torchrun again: some end without a status.
        is_for_all = is_interrupted and error.code == 128 + signal.SIGINT
        if rank == 0 and not is_for_all and (is_interrupted or _is_disconnected(error)):
            failures = _failures_of_others(store, size, _status_of(error))
            if failures or not is_interrupted:
                atexit.unregister(print_interrupted)
                reason = "; ".join(failures) or "the other processes cannot be reached"
                raise ChildProcessError(reason) from error
        raise
    dist.destroy_process_group()


def _is_disconnected(error: BaseException) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error)  # which has no type of its own


def _status_of(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return _INTERRUPTED
    if _is_disconnected(error):
        return _DISCONNECTED
    is_expected = isinstance(error, OSError | ValueError | MemoryError)
    return str(error) if is_expected else f"{type(error).__name__}: {error}"


def _failures_of_others(store: "distributed.Store", size: int, expected: str) -> list[str]:
    """Return how the first of the other processes failed, or which ended without a status."""
    keys = {number: f"{_STATUS}{number}" for number in range(1, size)}
    until, no_failure = time.monotonic() + EXIT_TIMEOUT, (_DONE, _DISCONNECTED, expected)
    while time.monotonic() < until:
        found = {n: store.get(key).decode() for n, key in keys.items() if store.check([key])}
        if failed := [f"process {n}: {s}" for n, s in found.items() if s not in no_failure]:
            return failed
        if len(found) == len(keys):
            return []
        time.sleep(0.05)
    return [f"process {n}: ended without a status (killed?)" for n in keys if n not in found]
