"""What the training loop does beyond the book's: loss, optimiser, schedule, best epoch.

    optimizer = create_optimizer(model, learning_rate=5e-5, weight_decay=0.1, fused=True)
    make_step(optimizer, max_grad_norm=1.0)  # after the backward pass

Sources: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", for AdamW. The schedules
are those of Hugging Face's transformers.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from experiments.system.distributed import world

Criterion = Callable[[Tensor, Tensor], Tensor]  # logits (B, K) and labels (B,) to a loss ()
Watch = Callable[[str, int, float, float], None]  # what, batch or epoch, training, validation


def mean_cross_entropy(
    logits: Tensor, labels: Tensor, ignore_index: int = -100, class_weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy () over labels that are not ignored, 0 if all are.

    Takes logits (B, K), labels (B,) and class weights (K,). With several processes, the logits are
    of the first labels only, and the results of all processes sum to the mean.
    """
    own = labels[: len(logits)]
    total = F.cross_entropy(logits, own, class_weights, ignore_index=ignore_index, reduction="sum")
    counts = is_counted = labels != ignore_index  # (B,)
    if class_weights is not None:  # not `labels[is_counted]`, whose size a GPU has to report first
        counts = is_counted * class_weights[torch.where(is_counted, labels, 0)]
    weight = counts.sum()
    return total / torch.where(weight > 0, weight, 1)


def balanced_class_weights(labels: Tensor) -> Tensor:
    """Return class weights (K,) for labels (N,), so that all classes weigh the same."""
    counts = torch.bincount(labels)  # (K,)
    return len(labels) / (len(counts) * counts)


def create_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, fused: bool
) -> torch.optim.AdamW:
    """Return AdamW for the trainable parameters; fused, it is one kernel for all of them."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay, fused=fused)


def learning_rate_factor(step: int, schedule: str, warmup_steps: int, total_steps: int) -> float:
    """Return the factor of the learning rate after some optimiser steps.

    It rises linearly from 0 to 1, so that the first step of a warmup changes nothing. Then it is
    constant, or falls to 0 after the last step: linear, or as half a cosine wave.
    """
    if step < warmup_steps:
        return step / warmup_steps
    left = (total_steps - step) / max(1, total_steps - warmup_steps)  # from 1 to 0
    return {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[schedule]


def no_op(what: str, when: int, training: float, validation: float) -> None:
    """Do nothing with a value that was measured."""


def make_step(
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None = None,
    max_grad_norm: float | None = None,
) -> None:
    """Make one optimiser step, and clear the gradients."""
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    world.sum_gradients(trained)
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(trained, max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    if scheduler is not None:
        scheduler.step()


class BestEpoch:
    """A copy of the trained parameters as they were after the epoch with the smallest loss."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.values = [torch.empty_like(p) for p in self.parameters]
        self.epoch, self.loss = 0, math.inf

    @torch.no_grad()
    def update(self, epoch: int, loss: float) -> None:
        """Copy the parameters if the loss after an epoch is smaller than all before."""
        if loss < self.loss:
            self.epoch, self.loss = epoch, loss
            for value, parameter in zip(self.values, self.parameters, strict=True):
                value.copy_(parameter)

    @torch.no_grad()
    def restore(self) -> tuple[int, float]:
        """Give the model its parameters of the best epoch; return the epoch and its loss."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            parameter.copy_(value)
        return self.epoch, self.loss
