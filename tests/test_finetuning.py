import gc
import weakref
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from experiments.config.flags import parse_args
from experiments.data.datasets import Splits
from experiments.training.finetuning import finetune
from experiments.training.loop import calc_loss_batch, evaluate_model, train_classifier_simple
from experiments.training.optimization import (
    learning_rate_factor,
    mean_cross_entropy,
    weigh_classes,
)

CPU = torch.device("cpu")
SEED = 3


class Network(nn.Module):
    """Two linear layers, of which the first is frozen."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(SEED)
        self.frozen = nn.Linear(4, 8).requires_grad_(False)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs, lengths):
        return self.head(torch.tanh(self.frozen(inputs)))


def examples(count, seed):
    """Inputs, lengths and labels of which a quarter is 1."""
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.randn(count, 4, generator=generator), torch.arange(count) % 4 // 3
    return [(x, torch.tensor(1), y) for x, y in zip(inputs, labels, strict=True)]


def loaders():
    return Splits(
        DataLoader(examples(40, seed=1), 8, shuffle=True, drop_last=True),
        DataLoader(examples(18, seed=2), 8),
        DataLoader(examples(18, seed=3), 8),
    )


def run(*flags):
    """Returns a network that was trained as flags have it, its history, and all learning rates."""
    training, rates = parse_args(flags).training, []
    labels = torch.stack([label for *_, label in examples(40, seed=1)])
    model = Network()
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    history = finetune(model, loaders(), labels, training, CPU)
    hook.remove()
    return model, history, rates


def test_by_default_training_is_the_published_one_bit_by_bit():
    model, history, rates = run()
    expected = Network()
    trained = expected.head.parameters()
    optimizer = torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.1, fused=True)
    train, validation, _ = loaders()
    seen = train_classifier_simple(expected, train, validation, optimizer, CPU, 5)
    assert history == seen
    assert all(
        torch.equal(value, expected.state_dict()[name])
        for name, value in model.state_dict().items()
    )
    assert rates == [5e-5] * 25


@pytest.mark.parametrize(
    ("flags", "total"),
    [([], 15), (["--accumulation_steps", "2"], 9), (["--max_steps", "7"], 7)],
    ids=["batches", "accumulated", "max_steps"],
)
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_schedule_ends_with_the_last_optimiser_step_of_the_run(flags, total, schedule):
    more = ["--num_epochs", "3", "--learning_rate", "0.5", "--warmup_steps", "4"]
    *_, rates = run(*flags, *more, "--schedule", schedule)
    factors = [learning_rate_factor(step, schedule, 4, total) for step in range(total)]
    assert rates == [0.5 * factor for factor in factors]


@pytest.mark.parametrize(
    "flags",
    [
        ["--learning_rate", "1e-3"],
        ["--weight_decay", "0"],
        ["--warmup_steps", "9"],
        ["--schedule", "linear"],
        ["--schedule", "cosine"],
        ["--max_grad_norm", "1e-8"],  # AdamW's eps is not small beside gradients that are
        ["--class_weights"],
        ["--ignore_index", "0"],
        ["--keep_best", "--learning_rate", "30"],
    ],
    ids=" ".join,
)
def test_each_setting_of_the_training_makes_another_classifier(flags):
    unlike = [flag for flag in flags if flag != "--keep_best"] if len(flags) > 2 else []
    model, other = run(*flags)[0], run(*unlike)[0]
    assert not torch.equal(model.head.weight, other.head.weight)
    assert torch.equal(model.frozen.weight, other.frozen.weight)


def test_class_weights_count_in_all_losses():
    labels = torch.stack([label for *_, label in examples(40, seed=1)])
    criterion = partial(mean_cross_entropy, class_weights=weigh_classes(labels))
    _, history, _ = run("--class_weights", "--max_steps", "1", "--learning_rate", "1e-30")
    torch.manual_seed(SEED)
    model, (train, validation, _) = Network(), loaders()
    *inputs, some_labels = next(iter(train))
    calc_loss_batch(inputs, some_labels, model, CPU, criterion)
    expected = evaluate_model(model, train, validation, CPU, 5, criterion)
    assert history.losses == [(0, *expected)]
    assert expected != pytest.approx(evaluate_model(model, train, validation, CPU, 5), abs=1e-3)


def test_the_optimiser_does_not_outlive_the_training():
    alive = []
    hook = register_optimizer_step_pre_hook(lambda o, *_: alive.append(weakref.ref(o)))
    gc.disable()
    try:
        finetune(Network(), loaders(), torch.tensor([0, 1]), parse_args([]).training, CPU)
        assert alive[0]() is None
    finally:
        gc.enable()
        hook.remove()
