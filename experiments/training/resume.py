"""The state of unfinished training in a file, from which the same run resumes.

A resumed run has the bits of an uninterrupted one: parameters, moments, schedule, random numbers,
measurements and best epoch are restored, and the epoch's earlier batches are skipped in their
order. The state is saved after epochs and, of one process, after the next step on a signal. Nothing
in a file can run code.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from experiments.system.distributed import world
from experiments.system.files import open_whole
from experiments.system.terminal import DeferredSignals

LONG_EPOCH = 30  # seconds, above which the state is saved after each epoch
_SPEED = 200e6  # bytes per second of saving, until it is measured
_ERRORS = (OSError, RuntimeError, ValueError, LookupError, EOFError, TypeError, UnpicklingError)


@dataclass
class Position:
    """How far training is."""

    epoch: int = 1
    index: int = 0  # batches of this epoch
    batches: int = 0  # of all epochs
    steps: int = 0  # of the optimiser
    unread: list[Tensor] = field(default_factory=list)  # losses since the last evaluation
    order: Tensor | None = None  # random state from which the epoch's batches are drawn


class Resume:
    """Saves and restores the state of one run's training; without a path it does nothing."""

    def __init__(
        self, path: Path | None = None, key: Any = None, save_every: int | None = None
    ) -> None:
        self.path, self.key, self.save_every = path, key, save_every
        self.does_save = path is not None and save_every != 0
        self.signals = DeferredSignals()

    def start(
        self, model: nn.Module, optimizer: Any, scheduler: Any, history: Any, best: Any
    ) -> Position:
        """Restore a saved state in place, if there is one, and return the position."""
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer, self.scheduler = optimizer, scheduler
        self.history, self.best = history, best
        self.position, self.started = Position(), time.monotonic()
        self.save_seconds = 3 * sum(p.numel() * p.element_size() for p in self.parameters) / _SPEED
        self.signals.seconds_needed = self.save_seconds
        self.last_step, state = self.started, self._read() if self.path else None
        if not any(world.gather(state is None)):  # all have read it
            self._restore(state)
        return self.position

    @contextmanager
    def saving(self, bar: tqdm) -> Iterator[None]:
        """Let a signal within a `with` wait for the next step, whose state is saved."""
        self.bar = bar
        if not self.does_save or world.size > 1:  # several processes would be out of step
            yield
            return
        with self.signals.deferred():
            yield

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of an epoch that are left."""
        at, state = self.position, torch.get_rng_state()
        at.order = at.order if at.index else state
        torch.set_rng_state(at.order)
        batches = iter(loader)
        for _ in range(at.index):
            next(batches)
        if at.index:
            torch.set_rng_state(state)
        self.epoch_started = time.monotonic()
        for batch in batches:
            at.index += 1
            yield batch

    def after_step(self) -> None:
        """Save the state if a signal waits, and let it end the run."""
        now = time.monotonic()
        self.signals.seconds_needed = self.save_seconds + now - self.last_step
        self.last_step = now
        if self.signals.pending:
            self._save("at")
            self.signals.handle()

    def after_epoch(self) -> None:
        """Save the state if it is due."""
        at, is_due = self.position, time.monotonic() - self.epoch_started > LONG_EPOCH
        is_due = at.epoch % self.save_every == 0 if self.save_every else is_due
        at.epoch, at.index = at.epoch + 1, 0
        if self.does_save and world.broadcast(is_due or self.signals.pending is not None):
            self._save(f"after epoch {at.epoch - 1},")
        self.signals.handle()

    def _save(self, when: str) -> None:
        started, at, best, history = time.monotonic(), self.position, self.best, self.history
        optimizer = self.optimizer.state_dict()
        moments = {i: _whole(values) for i, values in optimizer["state"].items()}
        state = {
            "key": self.key,
            "position": asdict(at) | {"unread": [loss.cpu() for loss in at.unread]},
            "random": torch.get_rng_state(),
            "parameters": _whole(dict(enumerate(self.parameters))),
            "optimizer": optimizer | {"state": moments},
            "scheduler": self.scheduler and self.scheduler.state_dict(),
            "history": [history.losses, history.accuracies, history.examples_seen],
            "best": best and [best.epoch, best.loss, _whole(dict(enumerate(best.values)))],
            "seconds": history.earlier_seconds + started - self.started,
        }
        if world.is_main:
            with open_whole(self.path) as file:
                torch.save(state, file)
            self.save_seconds = time.monotonic() - started
            size = f"{self.path.stat().st_size / 2**20:,.0f} MiB in {self.save_seconds:.1f} s"
            self.bar.write(f"State saved {when} batch {at.batches:,} of {self.bar.total:,}: {size}")

    def _read(self) -> dict[str, Any] | None:
        name = self.path.stem.rpartition("_")[0]  # without the digest
        for path in sorted({*self.path.parent.glob(f"{name}_*{self.path.suffix}")} - {self.path}):
            print(f"Not resumed, of other settings, data, precision or code: {path}")
        if not self.path.is_file():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["key"] == self.key:
                return state
            reason = "of other processes"
        except _ERRORS as error:
            reason = f"damaged ({type(error).__name__})"
        print(f"Not resumed, {reason}: {self.path}")
        return None

    @torch.no_grad()
    def _restore(self, state: dict[str, Any]) -> None:
        history, optimizer = self.history, state["optimizer"]
        _fill(self.parameters, state["parameters"])
        for i, values in optimizer["state"].items():
            for name in ("exp_avg", "exp_avg_sq"):  # in one order in all processes
                values[name] = _divided_like(values[name], self.parameters[i])
        self.optimizer.load_state_dict(optimizer)
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.best:
            self.best.epoch, self.best.loss, values = state["best"]
            _fill(self.best.values, values)
        history.losses, history.accuracies, history.examples_seen = state["history"]
        history.earlier_seconds = state["seconds"]
        self.position = at = Position(**state["position"])
        at.unread = [loss.to(self.parameters[0].device) for loss in at.unread]
        torch.set_rng_state(state["random"])
        print(f"Resumed in epoch {at.epoch} after {at.batches:,} batches: {self.path}")


def _whole(tensors: dict[Any, Tensor]) -> dict[Any, Tensor | None]:
    """Return tensors on the CPU of the main process, whole even if they are sharded."""
    whole = {k: t.full_tensor() if hasattr(t, "full_tensor") else t for k, t in tensors.items()}
    return {k: t.detach().cpu() if world.is_main else None for k, t in whole.items()}


def _divided_like(whole: Tensor, like: Tensor) -> Tensor:
    if not hasattr(like, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor  # takes a second

    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)


def _fill(tensors: list[Tensor], whole: dict[int, Tensor]) -> None:
    for i, tensor in enumerate(tensors):
        tensor.copy_(_divided_like(whole[i], tensor))
