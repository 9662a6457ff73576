"""Training and evaluating a classifier: losses, accuracies, and the loop.

    history = train(model, loaders, train_labels, settings.training, device)
    correct, probabilities, labels = evaluate(model, loaders, device)

A batch is the inputs of the model and then the labels (B,): tokens (B, T) for the book's
`GPTModel`, or tokens or cached activations and lengths (B,) for a classifier.

Source: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6, for the names.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader

from experiments.config.settings import TrainingConfig
from experiments.data.datasets import Splits
from experiments.system.distributed import world
from experiments.system.terminal import counted, progress
from experiments.training import optimization
from experiments.training.optimization import Criterion, Watch, mean_cross_entropy
from experiments.training.resume import Resume

HINT = "try a smaller --learning_rate or --lora_alpha, another --seed or --precision float32"


@dataclass
class History:
    """What was measured during training; losses and accuracies are those of a few batches.

    Unpacks into the book's `train_losses, val_losses, train_accs, val_accs, examples_seen`.
    """

    losses: list[tuple[int, float, float]] = field(default_factory=list)  # batch, train, validation
    accuracies: list[tuple[int, float, float]] = field(default_factory=list)  # epoch, the same
    examples_seen: int = 0  # examples trained on, counted again in each epoch
    best: tuple[int, float] | None = None  # epoch whose parameters are used, its validation loss
    earlier_seconds: float = 0.0  # of training before it was resumed

    def __iter__(self) -> Iterator[Any]:
        """Yield the book's five results."""
        for lines in (self.losses, self.accuracies):
            yield [train for _, train, _ in lines]
            yield [validation for _, _, validation in lines]
        yield self.examples_seen


def compute_logits(
    model: nn.Module, inputs: Tensor | Sequence[Tensor], device: torch.device
) -> Tensor:
    """Return the logits (B, K) of examples, of the last token if the model gives (B, T, K)."""
    tensors = [inputs] if isinstance(inputs, Tensor) else inputs
    logits = model(*(x.to(device, non_blocking=device.type == "cuda") for x in tensors))
    return logits if logits.dim() == 2 else logits[:, -1]


def calc_loss_batch(
    input_batch: Tensor | Sequence[Tensor],
    target_batch: Tensor,
    model: nn.Module,
    device: torch.device,
    criterion: Criterion = mean_cross_entropy,
) -> Tensor:
    """Return the loss () of a batch, by default the mean cross-entropy."""
    labels = target_batch.to(device, non_blocking=device.type == "cuda")
    return criterion(compute_logits(model, input_batch, device), labels)


@torch.no_grad()
def calc_loss_loader(
    data_loader: DataLoader,
    model: nn.Module,
    device: torch.device,
    num_batches: int | None = None,
    criterion: Criterion = mean_cross_entropy,
) -> float:
    """Return the mean loss of the first or all batches, NaN of none; keeps the model's mode."""
    batches = itertools.islice(data_loader, num_batches)
    losses = [calc_loss_batch(x, labels, model, device, criterion) for *x, labels in batches]
    if not losses:
        return math.nan
    return sum(world.all_reduce_sum(torch.stack(losses)).tolist()) / len(losses)


@torch.no_grad()
def calc_overall_loss(
    data_loader: DataLoader, model: nn.Module, device: torch.device, criterion: Criterion
) -> float:
    """Return the loss of all examples together, however batched; sets evaluation mode."""
    model.eval()
    logits, own, others = [], [], []
    with torch.random.fork_rng(devices=[]):  # a new pass draws a number: keep later shuffles
        for *inputs, labels in data_loader:
            logits.append(compute_logits(model, inputs, device))
            own.append(labels[: len(logits[-1])])
            others.append(labels[len(logits[-1]) :])
    labels = torch.cat(own + others).to(device)
    return world.all_reduce_sum(criterion(torch.cat(logits), labels)).item()


@torch.no_grad()
def predict(
    data_loader: DataLoader, model: nn.Module, device: torch.device, num_batches: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, K), all finite or ValueError, and labels (N,); sets eval mode."""
    model.eval()
    probabilities, own_labels, total = [], [], 0
    for *inputs, labels in itertools.islice(data_loader, num_batches):
        logits = compute_logits(model, inputs, device)  # (B, K), or of this process's examples
        probabilities.append(torch.softmax(logits, dim=-1).cpu())
        own_labels.append(labels[: len(logits)].cpu())
        total += len(labels)
        if not probabilities[-1].isfinite().all():
            raise ValueError(f"the logits are not finite: {HINT}")
    parts = torch.cat(probabilities), torch.cat(own_labels)
    return tuple(world.gather_rows(part, total, device) for part in parts)


def calc_accuracy_loader(
    data_loader: DataLoader, model: nn.Module, device: torch.device, num_batches: int | None = None
) -> float:
    """Return the fraction of correct predictions of a new pass."""
    probabilities, labels = predict(data_loader, model, device, num_batches)
    return _count_correct(probabilities, labels) / len(labels)


def _count_correct(probabilities: Tensor, labels: Tensor) -> int:
    return int((probabilities.argmax(dim=-1) == labels).sum())


def evaluate_model(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    device: torch.device,
    eval_iter: int,
    criterion: Criterion = mean_cross_entropy,
) -> tuple[float, float]:
    """Return the mean losses over the first `eval_iter` batches; sets training mode after."""
    model.eval()
    train_loss = calc_loss_loader(train_loader, model, device, eval_iter, criterion)
    val_loss = calc_loss_loader(val_loader, model, device, eval_iter, criterion)
    model.train()
    return train_loss, val_loss


def evaluate(
    model: nn.Module, loaders: Splits, device: torch.device
) -> tuple[dict[str, tuple[int, int]], Tensor, Tensor]:
    """Return (correct, all) examples by split, and the test's probabilities (N, K), labels (N,)."""
    correct = {}
    with progress("Final accuracies", sum(map(len, loaders)), "batches") as bar:
        for split, loader in loaders._asdict().items():
            probabilities, labels = predict(counted(loader, bar), model, device)
            correct[split] = _count_correct(probabilities, labels), len(labels)
    return correct, probabilities, labels


def train(
    model: nn.Module,
    loaders: Splits,
    train_labels: Tensor,
    training: TrainingConfig,
    device: torch.device,
    fused: bool = True,
    watch: Watch = optimization.no_op,
    resume: Resume | None = None,
) -> History:
    """Train by the settings, with all training labels (N,); a loss not finite is a ValueError."""
    rate, decay = training.learning_rate, training.weight_decay
    optimizer = optimization.create_optimizer(model, rate, decay, fused)
    factor = partial(
        optimization.learning_rate_factor,
        schedule=training.schedule,
        warmup_steps=training.warmup_steps,
        total_steps=training.max_steps or training.count_steps(len(train_labels)),
    )
    weights = None
    if training.class_weights:
        weights = optimization.balanced_class_weights(train_labels).to(device)
    criterion = partial(
        mean_cross_entropy, ignore_index=training.ignore_index, class_weights=weights
    )
    return train_classifier_simple(
        model, *loaders[:2], optimizer, device, training.num_epochs, criterion=criterion,
        accumulation_steps=training.accumulation_steps, max_steps=training.max_steps,
        scheduler=LambdaLR(optimizer, factor), max_grad_norm=training.max_grad_norm,
        keep_best=training.keep_best, watch=watch, resume=resume,
    )  # fmt: skip


def train_classifier_simple(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    num_epochs: int,
    eval_freq: int = 50,
    eval_iter: int = 5,
    *,
    criterion: Criterion = mean_cross_entropy,
    accumulation_steps: int = 1,  # batches in an optimiser step
    max_steps: int | None = None,  # optimiser steps after which training stops early
    scheduler: LRScheduler | None = None,  # stepped after each step of the optimizer
    max_grad_norm: float | None = None,  # to which the norm of all gradients together is clipped
    keep_best: bool = False,  # the epoch with the smallest validation loss, not the last one
    watch: Watch = optimization.no_op,  # called with each loss by batch, each accuracy by epoch
    resume: Resume | None = None,  # saves and restores the state of training
) -> History:
    """Train a model, print losses and accuracies, and return what was measured.

    Every `eval_freq` batches, `eval_iter` batches of each loader are evaluated. This is a new pass
    that draws random numbers: one more or less would change the order of all later batches. The
    last step of an epoch may have fewer batches than the others, but divides by the same number.
    A loss that becomes infinite or NaN is a ValueError. What follows the * is not in the book.
    """
    history, loaders = History(), (train_loader, val_loader)
    best = optimization.BestEpoch(model) if keep_best else None
    resume = resume or Resume()
    at = resume.start(model, optimizer, scheduler, history, best)
    _watch_again(history, watch)
    steps = math.ceil(len(train_loader) / accumulation_steps)  # of an epoch
    epochs, rest = divmod(max_steps or num_epochs * steps, steps)
    total = epochs * len(train_loader) + rest * accumulation_steps
    with progress("Training", total, "batches", at.batches) as bar, resume.saving(bar):
        while at.epoch <= num_epochs:
            model.train()
            for *inputs, labels in resume.batches(train_loader):
                loss = calc_loss_batch(inputs, labels, model, device, criterion)
                (loss / accumulation_steps).backward()
                at.unread.append(loss.detach())
                is_step = at.index % accumulation_steps == 0 or at.index == len(train_loader)
                if is_step:
                    optimization.make_step(optimizer, scheduler, max_grad_norm)
                    at.steps += 1
                if at.batches % eval_freq == 0:
                    bar.set_postfix(loss=f"{_read_losses(at.unread, at.batches, optimizer):.3f}")
                    losses = evaluate_model(model, *loaders, device, eval_iter, criterion)
                    _check_finite(sum(losses), at.batches, optimizer)
                    history.losses.append((at.batches, *losses))
                    watch("loss", at.batches, *losses)
                    bar.write(
                        f"Ep {at.epoch} (Step {at.batches:06d}): "
                        f"Train loss {losses[0]:.3f}, Val loss {losses[1]:.3f}"
                    )
                at.batches += 1
                history.examples_seen += len(labels)
                bar.update()
                if at.steps == max_steps:
                    break
                if is_step:
                    resume.after_step()
            _read_losses(at.unread, at.batches - 1, optimizer)
            accuracies = [calc_accuracy_loader(x, model, device, eval_iter) for x in loaders]
            history.accuracies.append((at.epoch, *accuracies))
            watch("accuracy", at.epoch, *accuracies)
            bar.write("Training accuracy: {:.2%} | Validation accuracy: {:.2%}".format(*accuracies))
            if best:
                val_loss = calc_overall_loss(val_loader, model, device, criterion)
                _check_finite(val_loss, at.batches - 1, optimizer)
                best.update(at.epoch, val_loss)
            if at.steps == max_steps:
                break
            resume.after_epoch()
    if best:
        history.best = best.restore()
        print(f"Best epoch: {best.epoch}, with a validation loss of {best.loss:.3f}")
    return history


def _watch_again(history: History, watch: Watch) -> None:
    for what, lines in (("loss", history.losses), ("accuracy", history.accuracies)):
        for line in lines:  # of before the run was interrupted
            watch(what, *line)


def _read_losses(unread: list[Tensor], last: int, optimizer: torch.optim.Optimizer) -> float:
    # Waits for the device and for other processes, which single steps need not do.
    if not unread:
        return math.nan
    losses = world.all_reduce_sum(torch.stack(unread)).tolist()
    for batch, loss in enumerate(losses, start=last - len(losses) + 1):
        _check_finite(loss, batch, optimizer)
    unread.clear()
    return losses[-1]


def _check_finite(loss: float, batch: int, optimizer: torch.optim.Optimizer) -> None:
    if not math.isfinite(loss):
        where = f"at batch {batch}, with a learning rate of {optimizer.param_groups[0]['lr']}"
        raise ValueError(f"the loss became {loss} {where}: {HINT}")
