"""Loss, optimiser, schedule and best epoch."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_equal
from torch import nn

from experiments.config.settings import SCHEDULES
from experiments.training.optimization import (
    BestEpoch,
    balanced_class_weights,
    learning_rate_factor,
    make_step,
    mean_cross_entropy,
)

WEIGHTS = torch.tensor([0.2, 3.0, 1.5])
BY_WEIGHTS = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
BY_IGNORED = pytest.mark.parametrize("ignore_index", [-100, 1])


def draw(batch_size=64):
    return torch.randn(batch_size, 3), torch.randint(3, (batch_size,))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_without_weights_the_loss_is_the_mean_to_the_last_bit(batch_size):
    logits, labels = draw(batch_size)
    total = F.cross_entropy(logits, labels, reduction="sum")
    assert mean_cross_entropy(logits, labels) == total / batch_size


@BY_IGNORED
@pytest.mark.usefixtures("float64")
def test_the_weighted_mean_is_that_of_pytorchs_criterion(ignore_index):
    (logits, labels), weights = draw(), WEIGHTS.double()
    oracle = nn.CrossEntropyLoss(weights, ignore_index=ignore_index)
    loss = mean_cross_entropy(logits, labels, ignore_index, weights)
    assert_equal(loss, oracle(logits, labels), tolerance=1e-14)


@BY_WEIGHTS
@BY_IGNORED
def test_the_losses_of_several_processes_sum_to_the_loss_of_the_batch(weights, ignore_index):
    logits, labels = draw(7)
    whole = mean_cross_entropy(logits, labels, ignore_index, weights)
    parts = [
        mean_cross_entropy(logits[own], labels[own + others], ignore_index, weights)
        for own, others in (([0, 3, 6], [1, 2, 4, 5]), ([1, 2, 4, 5], [0, 3, 6]), ([], [*range(7)]))
    ]
    assert_equal(sum(parts), whole, tolerance=1e-6)
    ignored = torch.full((7,), 50256)  # the loss of a batch without a counted label is 0
    assert mean_cross_entropy(logits, ignored, 50256, weights) == 0


def test_balanced_class_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 5)
    oracle = compute_class_weight("balanced", classes=labels.unique().numpy(), y=labels.numpy())
    assert_equal(balanced_class_weights(labels).double(), torch.tensor(oracle), tolerance=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 20), (1, 20), (7, 20), (20, 20)])
def test_the_schedules_are_those_of_transformers(schedule, warmup, total):
    from transformers import optimization

    make_scheduler = getattr(optimization, f"get_{schedule}_schedule_with_warmup")
    steps = [warmup] if schedule == "constant" else [warmup, total]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    (oracle,) = make_scheduler(optimizer, *steps).lr_lambdas
    for step in range(total):
        factor = learning_rate_factor(step, schedule, warmup, total)
        assert factor == pytest.approx(oracle(step), rel=1e-12, abs=1e-20)


@pytest.mark.parametrize(("limit", "factor"), [(None, 1), (2, 1), (1 / 4, 1 / 4)])
def test_only_large_gradients_are_clipped_all_by_one_factor(limit, factor):
    model, gradients = nn.Linear(3, 2), [torch.randn(2, 3), torch.randn(2)]
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    before = [p.detach().clone() for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    make_step(optimizer, max_grad_norm=limit and limit * norm)
    for old, parameter, gradient in zip(before, model.parameters(), gradients, strict=True):
        assert_equal(parameter.detach(), old - factor * gradient, 0 if factor == 1 else 1e-5)
        assert parameter.grad is None


def test_the_first_epoch_with_the_smallest_loss_is_restored():
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 3))
    best, states = BestEpoch(model), []
    for epoch, loss in enumerate([0.7, 0.3, 0.5, 0.3], start=1):
        for parameter in model.parameters():
            nn.init.constant_(parameter, epoch)
        states.append(copy.deepcopy(model.state_dict()))
        best.update(epoch, loss)
    assert best.restore() == (2, 0.3)
    for name, value in model.state_dict().items():  # only what is trained is restored
        assert torch.equal(value, states[3 if name.startswith("0") else 1][name])
