"""Several processes on one run: what each computes, and how that comes together.

    torchrun --nproc_per_node=2 additional_experiments.py --row 5

    with joined(device):
        ...  # the same program in every process

All processes draw the same random numbers, and so the same batches in the same order. Message m of
a pass is computed by process m mod N. A process's loss is its part of the batch's: the sum over its
own messages, divided by the count of all; so losses and gradients add up, and one all-reduce a step
makes them those of one process. DistributedDataParallel would do with more code: it takes the mean
over processes, as if their shares were equal, and waits for a backward pass of each in every batch,
of which a process without a message has none.

With one process every function here gives back what it was given.

Source: Li et al. 2020, "PyTorch Distributed", arXiv 2006.15704.
"""

import atexit
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiments.system.terminal import SIGNALS, say_stopped
from experiments.system.torchrun import count_processes, is_launched, rank

PATIENCE = timedelta(days=1)  # for a process that downloads what the others wait for
SMALL = 2**18  # numbers of a gradient that is sent along with others
FAREWELL = 10  # seconds, within which a process that ends leaves its last word
LAST_WORD = "last word of process "  # key of the common store
DONE, STOPPED, LOST = "is done", "was stopped", "lost the others"

# ------------------------------------------------------------------------------- coming together


def add_up(x: Tensor) -> Tensor:
    """Returns the sum of a tensor over all processes, in its place."""
    if count_processes() > 1:
        dist.all_reduce(x)
    return x


def largest(number: float, device: torch.device) -> float:
    """Returns the largest of a number that each process has."""
    if count_processes() == 1:
        return number
    x = torch.tensor(number, device=device, dtype=torch.float32)
    dist.all_reduce(x, dist.ReduceOp.MAX)
    return x.item()


def add_up_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Gives every process the sum of all processes' gradients; a sharded one is summed already."""
    if count_processes() == 1:
        return
    from torch.distributed.tensor import DTensor  # takes a second

    small = []
    for parameter in parameters:
        if isinstance(parameter, DTensor):
            continue
        if parameter.grad is None:  # no message of this process was in the step
            parameter.grad = torch.zeros_like(parameter)
        if parameter.numel() > SMALL:
            dist.all_reduce(parameter.grad)
        else:
            small.append(parameter.grad)
    if small:  # a message between processes has its price, however short
        together = add_up(torch.cat([gradient.flatten() for gradient in small]))
        for gradient, whole in zip(small, together.split([g.numel() for g in small]), strict=True):
            gradient.copy_(whole.view_as(gradient))


def interleave(rows: Tensor, total: int, device: torch.device) -> Tensor:
    """Returns (total, ...), the rows of all processes in the order of the pass, on the CPU.

    Args:
        rows: of this process's messages.
        total: messages of the pass.
        device: where the processes can add up.
    """
    if count_processes() == 1:
        return rows
    whole = torch.zeros(total, *rows.shape[1:], dtype=rows.dtype, device=device)
    whole[rank() :: count_processes()] = rows.to(device)
    return add_up(whole).cpu()


def agree(value: Any) -> Any:
    """Returns the first process's value in every process."""
    values = [value]
    if count_processes() > 1:
        dist.broadcast_object_list(values)
    return values[0]


def hand_out(x: Tensor) -> None:
    """Gives a tensor the first process's values in every process."""
    if count_processes() > 1:
        dist.broadcast(x, src=0)


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Lets the first process do alone what the others then find done, say a download."""
    if count_processes() > 1 and rank() > 0:
        dist.barrier()
    yield
    if count_processes() > 1 and rank() == 0:
        dist.barrier()


# ---------------------------------------------------------------------------------- joint shares


class SharedBatches:
    """A loader's batches, with inputs of this process's messages only.

    Yields (inputs, lengths, own, labels): the inputs of its own messages (b,), or of one that does
    not count where it has none; `own`, (b,), which of the batch's they are; and the labels (B,) of
    all, its own first.

    Args:
        loader: of lists of indices.
        dataset: whose `batch` makes inputs, lengths and labels of them.
    """

    def __init__(self, loader: Iterable[list[int]], dataset: Any) -> None:
        self.loader = loader
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        seen = 0
        for indices in self.loader:
            first = (rank() - seen) % count_processes()
            own = list(range(first, len(indices), count_processes()))
            others = [i for i in range(len(indices)) if i not in own]
            *inputs, _ = self.dataset.batch([indices[i] for i in own or [0]])
            labels = self.dataset.labels[[indices[i] for i in own + others]]
            yield *inputs, torch.tensor(own, dtype=torch.long), labels
            seen += len(indices)


class OwnMessages(nn.Module):
    """A classifier that gives logits of this process's messages only, as `SharedBatches` has them.

    Args:
        model: the classifier.
        num_classes: what it tells apart.
        in_step: whether processes have to run it together, as where each holds a shard of it;
            else a batch without a message of its own costs a process nothing.
    """

    def __init__(self, model: nn.Module, num_classes: int, in_step: bool) -> None:
        super().__init__()
        self.model = model
        self.num_classes = num_classes
        self.in_step = in_step

    def forward(self, inputs: Tensor, lengths: Tensor, own: Tensor) -> Tensor:
        """Returns logits (b, K) of the process's own messages."""
        if self.in_step or len(own):
            return self.model(inputs, lengths)[: len(own)]
        return torch.zeros(0, self.num_classes, device=inputs.device, requires_grad=True)


# -------------------------------------------------------------------------------- joining, ending


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Connects the processes that torchrun started, and ends all of them when one ends early.

    Args:
        device: where this process computes.

    Raises:
        ChildProcessError: in the first process, when another one failed; says how.
    """
    if not is_launched():
        yield
        return
    store, number, total = next(dist.rendezvous("env://", timeout=PATIENCE))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=number, world_size=total)
    try:
        yield
        store.set(f"{LAST_WORD}{number}", DONE)
        wait_for_all(store, total)  # who leaves earlier may cut off what another still receives
    except BaseException as error:
        for each in SIGNALS:  # torchrun sends one when a process fails; this one is ending anyway
            signal.signal(each, signal.SIG_IGN)
        store.set(f"{LAST_WORD}{number}", last_word(error))
        dist.destroy_process_group()  # first, so that who waits for this process goes on
        was_stopped = isinstance(error, SystemExit)
        if number == 0 and (was_stopped or is_of_connection(error)):
            failures = failures_of_others(store, total, silent=STOPPED if was_stopped else LOST)
            if failures or not was_stopped:
                atexit.unregister(say_stopped)
                told = "; ".join(failures) or "the other processes are out of reach"
                raise ChildProcessError(told) from error
        raise
    dist.destroy_process_group()


def wait_for_all(store: dist.Store, total: int) -> None:
    """Waits until all processes have left a last word; a signal ends the wait."""
    while not store.check([f"{LAST_WORD}{number}" for number in range(total)]):
        time.sleep(0.01)


def is_of_connection(error: BaseException) -> bool:
    """Says whether an error is that other processes cannot be reached, say because they ended."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)  # which has no type of its own


def last_word(error: BaseException) -> str:
    """Returns what a process that ends says of itself to the others."""
    if isinstance(error, SystemExit):
        return STOPPED
    if is_of_connection(error):
        return LOST
    is_told = isinstance(error, OSError | ValueError | MemoryError)
    return str(error) if is_told else f"{type(error).__name__}: {error}"


def failures_of_others(store: dist.Store, total: int, silent: str) -> list[str]:
    """Returns how the first of the other processes failed, or which ended without a word.

    Args:
        store: where they leave their last words.
        total: number of processes.
        silent: a word that tells of no failure, beside those of who is done or lost others.
    """
    keys = {number: f"{LAST_WORD}{number}" for number in range(1, total)}
    until, quiet = time.monotonic() + FAREWELL, (DONE, LOST, silent)
    while time.monotonic() < until:
        words = {n: store.get(key).decode() for n, key in keys.items() if store.check([key])}
        if told := [f"process {n}: {w}" for n, w in words.items() if w not in quiet]:
            return told
        if len(words) == len(keys):
            return []
        time.sleep(0.05)
    return [f"process {n}: ended without a word (killed?)" for n in keys if n not in words]
