"""Training a classifier and looking at how it does: losses, accuracies, and the loop.

    history = train_classifier_simple(model, train_loader, val_loader, optimizer, device, 5)
    probabilities, labels = predict(test_loader, model, device)

A batch is what the model takes, and after it the labels (B,). Nothing here knows what that is:
tokens (B, T), as the book's loaders have them for its `GPTModel`, or tokens or hidden states and
lengths (B,), as ours have them for a classifier.

Source: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6, whose names these
are.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from experiments.system.distributed import add_up, interleave
from experiments.system.progress import progress
from experiments.training.optimization import (
    THE_BOOKS,
    BestEpoch,
    Criterion,
    Recipe,
    make_step,
    mean_cross_entropy,
)

ADVICE = "try a smaller --learning_rate or --lora_alpha, another --seed or --precision float32"


@dataclass
class History:
    """What was seen while training; losses and accuracies are those of a few batches.

    Unpacks into the book's `train_losses, val_losses, train_accs, val_accs, examples_seen`.
    """

    losses: list[tuple[int, float, float]] = field(default_factory=list)  # batch, train, validation
    accuracies: list[tuple[int, float, float]] = field(default_factory=list)  # epoch, the same
    examples_seen: int = 0  # messages trained on, counted again in each epoch
    best: tuple[int, float] | None = None  # epoch that was kept, loss of all validation messages

    def __iter__(self) -> Iterator[Any]:
        """Yields the book's five results."""
        for lines in (self.losses, self.accuracies):
            yield [train for _, train, _ in lines]
            yield [validation for _, _, validation in lines]
        yield self.examples_seen


def classify(model: nn.Module, inputs: Tensor | Sequence[Tensor], device: torch.device) -> Tensor:
    """Returns the logits (B, K) of messages; those of the last token where a model gives all.

    Args:
        model: gives logits (B, K) or, as the book's GPT does, (B, T, K).
        inputs: what it takes, one tensor or several.
        device: where it is.
    """
    tensors = [inputs] if isinstance(inputs, Tensor) else inputs
    logits = model(*(moved(tensor, device) for tensor in tensors))  # (B, K) or (B, T, K)
    return logits if logits.dim() == 2 else logits[:, -1]


def moved(x: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor on a device; a GPU is not waited for."""
    return x.to(device, non_blocking=device.type == "cuda")


def calc_loss_batch(
    input_batch: Tensor | Sequence[Tensor],
    target_batch: Tensor,
    model: nn.Module,
    device: torch.device,
    criterion: Criterion = mean_cross_entropy,
) -> Tensor:
    """Returns the loss () of a batch, by default the mean cross-entropy."""
    return criterion(classify(model, input_batch, device), moved(target_batch, device))


@torch.no_grad()
def calc_loss_loader(
    data_loader: DataLoader,
    model: nn.Module,
    device: torch.device,
    num_batches: int | None = None,
    criterion: Criterion = mean_cross_entropy,
) -> float:
    """Returns the mean loss over the first batches of a new pass, or over all; NaN over none.

    As in the book, the model is in whichever mode it was.
    """
    losses = [
        calc_loss_batch(inputs, labels, model, device, criterion)
        for *inputs, labels in itertools.islice(data_loader, num_batches)
    ]
    return sum(add_up(torch.stack(losses)).tolist()) / len(losses) if losses else math.nan


@torch.no_grad()
def calc_loss_of_all(
    data_loader: DataLoader, model: nn.Module, device: torch.device, criterion: Criterion
) -> float:
    """Returns the loss of all messages together, however they are batched.

    The model goes into evaluation mode, and stays there. No random number is drawn from PyTorch's
    own generator, so that later shuffles are what they would be without.
    """
    model.eval()
    logits, own, others = [], [], []
    with torch.random.fork_rng(devices=[]):  # each new pass of a `DataLoader` draws one
        for *inputs, labels in data_loader:
            logits.append(classify(model, inputs, device))
            own.append(labels[: len(logits[-1])])
            others.append(labels[len(logits[-1]) :])
    labels = torch.cat(own + others).to(device)
    return add_up(criterion(torch.cat(logits), labels)).item()


@torch.no_grad()
def predict(
    data_loader: DataLoader, model: nn.Module, device: torch.device, num_batches: int | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the probabilities (N, K) and labels (N,) of messages, in a new pass, on the CPU.

    The model goes into evaluation mode, and stays there.

    Raises:
        ValueError: when a probability is no number.
    """
    model.eval()
    probabilities, own_labels, total = [], [], 0
    for *inputs, labels in itertools.islice(data_loader, num_batches):
        logits = classify(model, inputs, device)  # (B, K), or those of this process's messages
        probabilities.append(torch.softmax(logits, dim=-1).cpu())
        own_labels.append(labels[: len(logits)].cpu())
        total += len(labels)
        if not probabilities[-1].isfinite().all():
            raise ValueError(f"the logits are no longer finite: {ADVICE}")
    return (
        interleave(torch.cat(probabilities), total, device),
        interleave(torch.cat(own_labels), total, device),
    )


def count_correct(
    data_loader: DataLoader, model: nn.Module, device: torch.device, num_batches: int | None = None
) -> tuple[int, int]:
    """Returns how many messages are told right, and of how many, in a new pass."""
    probabilities, labels = predict(data_loader, model, device, num_batches)
    return int((probabilities.argmax(dim=-1) == labels).sum()), len(labels)


def calc_accuracy_loader(
    data_loader: DataLoader, model: nn.Module, device: torch.device, num_batches: int | None = None
) -> float:
    """Returns the share of messages told right, as `count_correct` counts them."""
    correct, total = count_correct(data_loader, model, device, num_batches)
    return correct / total


def evaluate_model(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    device: torch.device,
    eval_iter: int,
    criterion: Criterion = mean_cross_entropy,
) -> tuple[float, float]:
    """Returns the mean loss over the first `eval_iter` batches of each; training mode is back."""
    model.eval()
    train_loss, val_loss = (
        calc_loss_loader(loader, model, device, eval_iter, criterion)
        for loader in (train_loader, val_loader)
    )
    model.train()
    return train_loss, val_loss


def check_finite(loss: float, batch: int, optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError where a loss is infinite or no number."""
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss became {loss} at batch {batch}, with a learning rate of "
            f"{optimizer.param_groups[0]['lr']}: {ADVICE}"
        )


def read_losses(unread: list[Tensor], last: int, optimizer: torch.optim.Optimizer) -> float:
    """Returns the loss of the last batch, after a look at all since the last look; forgets them.

    A look waits for the device, and for other processes, which a step need not do.

    Args:
        unread: losses () of batches up to the last.
        last: the number of the last batch.
        optimizer: of which a message tells the learning rate.

    Raises:
        ValueError: when one is infinite or no number; names the first such batch.
    """
    losses = add_up(torch.stack(unread)).tolist()
    for batch, loss in enumerate(losses, start=last - len(losses) + 1):
        check_finite(loss, batch, optimizer)
    unread.clear()
    return losses[-1]


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
    recipe: Recipe = THE_BOOKS,
) -> History:
    """Trains a model, prints how it goes, and returns what was seen.

    Every evaluation is a new pass through both loaders, and so draws random numbers: one more or
    less would change the order of all later batches. The losses of batches are looked at when
    there is an evaluation, and not in each step.

    Args:
        model: gives logits as `classify` takes them.
        train_loader: batches to train on.
        val_loader: batches that are only looked at.
        optimizer: of the trainable parameters.
        device: where the model is.
        num_epochs: passes through `train_loader`.
        eval_freq: batches from one evaluation of the losses to the next.
        eval_iter: batches that an evaluation looks at in each loader.
        recipe: what is done beyond the book's loop; the last step of an epoch may have fewer
            batches than the others, and divides by as many all the same.

    Raises:
        ValueError: when the loss becomes infinite or no number.
    """
    history = History()
    loaders = (train_loader, val_loader)
    best = BestEpoch(model) if recipe.keep_best else None
    seen = steps = 0  # batches, optimiser steps
    unread: list[Tensor] = []  # losses of batches
    with progress("Training", num_epochs * len(train_loader), "batches") as bar:
        for epoch in range(1, num_epochs + 1):
            model.train()
            for index, (*inputs, labels) in enumerate(train_loader, start=1):
                loss = calc_loss_batch(inputs, labels, model, device, recipe.criterion)
                (loss / recipe.accumulation_steps).backward()
                unread.append(loss.detach())
                if index % recipe.accumulation_steps == 0 or index == len(train_loader):
                    make_step(optimizer, recipe)
                    steps += 1
                if seen % eval_freq == 0:
                    bar.set_postfix(loss=f"{read_losses(unread, seen, optimizer):.3f}")
                    losses = evaluate_model(model, *loaders, device, eval_iter, recipe.criterion)
                    check_finite(sum(losses), seen, optimizer)
                    history.losses.append((seen, *losses))
                    recipe.watch("loss", seen, *losses)
                    bar.write(
                        f"Ep {epoch} (Step {seen:06d}): "
                        f"Train loss {losses[0]:.3f}, Val loss {losses[1]:.3f}"
                    )
                seen += 1
                history.examples_seen += len(labels)
                bar.update()
                if steps == recipe.max_steps:
                    break
            if unread:
                read_losses(unread, seen - 1, optimizer)
            accuracies = [
                calc_accuracy_loader(loader, model, device, eval_iter) for loader in loaders
            ]
            history.accuracies.append((epoch, *accuracies))
            recipe.watch("accuracy", epoch, *accuracies)
            bar.write(
                f"Training accuracy: {accuracies[0]:.2%} | Validation accuracy: {accuracies[1]:.2%}"
            )
            if best:
                val_loss = calc_loss_of_all(val_loader, model, device, recipe.criterion)
                check_finite(val_loss, seen - 1, optimizer)
                best.see(epoch, val_loss)
            if steps == recipe.max_steps:
                break
    if best:
        history.best = best.restore()
        print(
            f"Kept epoch {best.epoch}, after which all validation messages together had the "
            f"smallest loss: {best.loss:.3f}"
        )
    return history
