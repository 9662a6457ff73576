"""From the settings of a training to a trained classifier, and to how it does on all messages.

torch.manual_seed(123)
history = finetune(model, loaders, train_labels, training, device)
correct, probabilities, labels = evaluate(model, loaders, device)
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from experiments.config.settings import Training
from experiments.data.datasets import Splits
from experiments.system.progress import counted, progress
from experiments.training.loop import History, count_correct, predict, train_classifier_simple
from experiments.training.optimization import (
    Recipe,
    Watch,
    create_optimizer,
    learning_rate_factor,
    mean_cross_entropy,
    nobody,
    weigh_classes,
)


def finetune(
    model: nn.Module,
    loaders: Splits,
    train_labels: Tensor,
    training: Training,
    device: torch.device,
    fused: bool = True,
    watch: Watch = nobody,
) -> History:
    """Trains a model as the settings have it, and returns what was seen.

    Args:
        model: the classifier, with what is to be trained unfrozen already.
        loaders: of the three splits.
        train_labels: (N,), of all training messages.
        training: how it is trained.
        device: where the model is.
        fused: as `create_optimizer` takes it.
        watch: as `Recipe` has it.

    Raises:
        ValueError: when the loss becomes infinite or no number.
    """
    optimizer = create_optimizer(model, training.learning_rate, training.weight_decay, fused)
    factor = partial(
        learning_rate_factor,
        schedule=training.schedule,
        warmup_steps=training.warmup_steps,
        total_steps=training.max_steps or training.count_steps(len(train_labels)),
    )
    criterion = partial(
        mean_cross_entropy,
        ignore_index=training.ignore_index,
        class_weights=weigh_classes(train_labels).to(device) if training.class_weights else None,
    )
    recipe = Recipe(
        criterion=criterion,
        accumulation_steps=training.accumulation_steps,
        max_steps=training.max_steps,
        scheduler=LambdaLR(optimizer, factor),
        max_grad_norm=training.max_grad_norm,
        keep_best=training.keep_best,
        watch=watch,
    )
    return train_classifier_simple(
        model, loaders.train, loaders.validation, optimizer, device, training.num_epochs,
        recipe=recipe,
    )  # fmt: skip


def evaluate(
    model: nn.Module, loaders: Splits, device: torch.device
) -> tuple[dict[str, tuple[int, int]], Tensor, Tensor]:
    """Returns the counts of each split, and the test's probabilities (N, K) and labels (N,)."""
    with progress("Final accuracies", sum(map(len, loaders)), "batches") as bar:
        correct = {
            "train": count_correct(counted(loaders.train, bar), model, device),
            "validation": count_correct(counted(loaders.validation, bar), model, device),
        }
        probabilities, labels = predict(counted(loaders.test, bar), model, device)
    correct["test"] = (int((probabilities.argmax(dim=-1) == labels).sum()), len(labels))
    return correct, probabilities, labels
