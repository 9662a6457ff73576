"""How a classifier is trained beyond the book: the loss, the steps, and which epoch is kept.

    optimizer = create_optimizer(model, learning_rate=5e-5, weight_decay=0.1, fused=True)
    history = train_classifier_simple(..., optimizer, ..., recipe=Recipe(max_grad_norm=1.0))

Sources: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", for AdamW. The schedules
are those of Hugging Face's transformers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from experiments.system.distributed import add_up_gradients

Criterion = Callable[[Tensor, Tensor], Tensor]  # logits (B, K) and labels (B,) to a loss ()
Watch = Callable[[str, int, float, float], None]  # what, when, of training, of validation

# --------------------------------------------------------------------------------------- the loss


def mean_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = -100,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Returns the mean cross-entropy () over the labels that count, 0 if none does.

    Args:
        logits: (B, K), or fewer: what is left out is the part of other processes, so that all
            processes' results add up to the mean.
        labels: (B,).
        ignore_index: label whose messages do not count.
        class_weights: (K,), how much a message of each class counts; if None, all do alike.
    """
    total = F.cross_entropy(
        logits,
        labels[: len(logits)],
        class_weights,
        ignore_index=ignore_index,
        reduction="sum",
    )
    is_counted = labels != ignore_index  # (B,)
    counts = is_counted
    if class_weights is not None:  # not `labels[is_counted]`, for whose size a GPU is waited for
        counts = is_counted * class_weights[torch.where(is_counted, labels, 0)]
    weight = counts.sum()
    return total / torch.where(weight > 0, weight, 1)


def weigh_classes(labels: Tensor) -> Tensor:
    """Returns how much a message of each class counts (K,), so that all classes count alike.

    Args:
        labels: (N,), of the training messages, among which every class is.
    """
    counts = torch.bincount(labels)  # (K,)
    return len(labels) / (len(counts) * counts)


# ---------------------------------------------------------------------------- optimiser and steps


def create_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, fused: bool
) -> torch.optim.AdamW:
    """Returns AdamW for the trainable parameters; fused, it is one kernel for all of them."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay, fused=fused)


def learning_rate_factor(step: int, schedule: str, warmup_steps: int, total_steps: int) -> float:
    """Returns what the learning rate is multiplied by at a step.

    It rises from 0 to 1 in a straight line, so that the very first step of a warmup moves nothing;
    then it stays, or falls to 0 after the last step: in a straight line, or as half a wave.

    Args:
        step: optimiser steps made before.
        schedule: constant, linear or cosine.
        warmup_steps: steps over which it rises.
        total_steps: steps of the whole run.
    """
    if step < warmup_steps:
        return step / warmup_steps
    left = (total_steps - step) / max(1, total_steps - warmup_steps)  # from 1 to 0
    return {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[schedule]


def nobody(what: str, when: int, training: float, validation: float) -> None:
    """Watches nothing."""


@dataclass(frozen=True)
class Recipe:
    """What the loop does beyond the book's."""

    criterion: Criterion = mean_cross_entropy
    accumulation_steps: int = 1  # batches in an optimiser step
    max_steps: int | None = None  # optimiser steps after which training stops early
    scheduler: LRScheduler | None = None  # of the optimizer, moved on after each of its steps
    max_grad_norm: float | None = None  # to which the norm of all gradients together is cut
    keep_best: bool = False  # epoch, by the loss of all validation messages; else the last
    watch: Watch = nobody  # is told each loss by batch, each accuracy by epoch


THE_BOOKS = Recipe()


def make_step(optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
    """Makes an optimiser step as a recipe has it, and empties the gradients."""
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    add_up_gradients(trained)
    if recipe.max_grad_norm is not None:
        nn.utils.clip_grad_norm_(trained, recipe.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    if recipe.scheduler is not None:
        recipe.scheduler.step()


# ------------------------------------------------------------------------------------- best epoch


class BestEpoch:
    """A copy of a model's trained parameters, as they were after the epoch of the smallest loss."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.values = [torch.empty_like(p) for p in self.parameters]
        self.epoch, self.loss = 0, math.inf

    def see(self, epoch: int, loss: float) -> None:
        """Copies the parameters if the loss after an epoch is smaller than all before."""
        if loss < self.loss:
            self.epoch, self.loss = epoch, loss
            copy_all(self.parameters, self.values)

    def restore(self) -> tuple[int, float]:
        """Gives the model its parameters of the best epoch; returns the epoch and its loss."""
        copy_all(self.values, self.parameters)
        return self.epoch, self.loss


@torch.no_grad()
def copy_all(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Gives tensors the values of others."""
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
