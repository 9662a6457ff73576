"""The training loop and what it measures; loss, optimiser, schedule and best epoch."""

import copy
import gc
import math
import weakref
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_equal
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from experiments.config.parsing import parse_args
from experiments.config.settings import SCHEDULES
from experiments.data.datasets import Splits
from experiments.training import loop
from experiments.training.optimization import (
    BestEpoch,
    balanced_class_weights,
    learning_rate_factor,
    make_step,
    mean_cross_entropy,
)

CPU = torch.device("cpu")
WEIGHTED = partial(mean_cross_entropy, class_weights=torch.tensor([1.0, 9.0]))
LABELS = torch.tensor([0, 1, 1] * 8)


class Logits(nn.Module):
    """The logits are the inputs times one trainable number. Records whether it is training."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))
        self.modes = []

    def forward(self, inputs, *_):
        self.modes.append(self.training)
        return self.factor * inputs


class Recorder(torch.optim.SGD):
    """Records the gradient of each step, and changes nothing."""

    def __init__(self, model):
        super().__init__(model.parameters(), lr=0.0)
        self.gradients = []

    def step(self):
        self.gradients.append(self.param_groups[0]["params"][0].grad.item())


def batch_of(labels, seed=0):
    inputs = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(seed))
    return inputs, torch.ones(len(labels), dtype=torch.long), torch.as_tensor(labels)


def batches_of(count):
    return [batch_of([0, 1], seed) for seed in range(count)]


def with_nan(batches, index):
    """Batches of which one has no finite loss."""
    inputs, *rest = batches[index]
    return [*batches[:index], (inputs * torch.nan, *rest), *batches[index + 1 :]]


def train_simple(batches, epochs=1, val=None, **options):
    """Train on batches with an optimiser that changes nothing."""
    model = Logits()
    optimizer, val = Recorder(model), val or batches
    history = loop.train_classifier_simple(model, batches, val, optimizer, CPU, epochs, **options)
    return model, optimizer, history


def loaders_of(val_seed):
    def loader(seed, batch_size, drop_last=False):
        examples = list(zip(*batch_of(LABELS, seed), strict=True))
        return DataLoader(examples, batch_size, shuffle=True, drop_last=drop_last)

    return Splits(loader(1, 7, drop_last=True), loader(val_seed, 5), [])


def run(flags="", val_seed=2):
    """A model trained with flags, its history, and all learning rates.

    The validation loss falls with seed 1, that of the training data, and rises again with seed 2.
    """
    torch.manual_seed(7)
    rates, model, training = [], Logits(), parse_args(flags.split()).training
    hook = register_optimizer_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    history = loop.train(model, loaders_of(val_seed), LABELS, training, CPU)
    hook.remove()
    return model, history, rates


# -------------------------------------------------------------------------------------- evaluation


def test_accuracy_counts_every_example_and_the_loss_averages_batches():
    batches = [batch_of([0, 1, 1, 0], seed=1), batch_of([1], seed=2), batch_of([0], seed=3)]
    correct = sum((x.argmax(1) == y).sum().item() for x, _, y in batches)
    losses = [F.cross_entropy(x, y).item() for x, _, y in batches]
    assert loop.calc_accuracy_loader(batches, Logits(), CPU) == correct / 6
    assert loop.calc_loss_loader(batches, Logits(), CPU) == pytest.approx(sum(losses) / 3)
    first = loop.calc_loss_loader(batches, Logits(), CPU, num_batches=2)
    assert first == pytest.approx(sum(losses[:2]) / 2)
    assert math.isnan(loop.calc_loss_loader([], Logits(), CPU))  # as in the book


def test_the_last_tokens_logits_are_used_if_a_model_gives_those_of_all():
    logits = torch.randn(3, 5, 2)
    assert torch.equal(loop.compute_logits(nn.Identity(), logits, CPU), logits[:, -1])
    assert torch.equal(loop.compute_logits(nn.Identity(), [logits[:, -1]], CPU), logits[:, -1])


@pytest.mark.parametrize("name", ["predict", "calc_accuracy_loader", "calc_overall_loss"])
def test_predictions_are_made_in_evaluation_mode(name):
    model, more = Logits(), [WEIGHTED] if name == "calc_overall_loss" else []
    getattr(loop, name)([batch_of([0, 1])], model, CPU, *more)
    assert (model.modes, model.training) == ([False], False)


def test_the_final_evaluation_counts_all_splits_and_predicts_the_test_split():
    loaders, model = Splits(*([batch_of([0, 1, 1], seed)] for seed in range(3))), Logits()
    correct, probabilities, labels = loop.evaluate(model, loaders, CPU)
    accuracies = [loop.calc_accuracy_loader(loader, model, CPU) for loader in loaders]
    counts = [(round(3 * accuracy), 3) for accuracy in accuracies]
    assert correct == dict(zip(Splits._fields, counts, strict=True))
    assert torch.equal(probabilities, torch.softmax(loaders.test[0][0], dim=1))
    assert labels.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="the logits are not finite: try"):
        loop.predict(with_nan(batches_of(2), 1), Logits(), CPU)


@pytest.mark.parametrize("criterion", [mean_cross_entropy, WEIGHTED], ids=["", "weighted"])
def test_the_overall_loss_does_not_depend_on_the_batches(criterion):
    inputs, lengths, labels = batch_of([0, 1, 1, 0, 1, 1, 0])
    for size in (1, 2, 3, 7):
        batches = zip(*(x.split(size) for x in (inputs, lengths, labels)), strict=True)
        loss = loop.calc_overall_loss(batches, Logits(), CPU, criterion)
        assert loss == pytest.approx(criterion(inputs, labels).item(), rel=1e-6)


# ---------------------------------------------------------------------------------------- the loop


def test_a_short_last_step_of_an_epoch_is_divided_by_the_same_number():
    batches, epoch = batches_of(5), []
    _, optimizer, _ = train_simple(batches, 2, accumulation_steps=3)
    for step in (batches[:3], batches[3:]):
        model = Logits()
        for *inputs, labels in step:
            (loop.calc_loss_batch(inputs, labels, model, CPU) / 3).backward()
        epoch.append(model.factor.grad.item())
    assert optimizer.gradients == pytest.approx(epoch * 2)


def test_training_mode_is_on_only_for_training_batches():
    batches = batches_of(3)
    model, _, history = train_simple(batches, 2, eval_freq=2, eval_iter=1)
    evaluation = [False, False]  # both loaders
    first = [True, *evaluation, True, True, *evaluation, *evaluation]  # after batches 0 and 2
    second = [True, True, *evaluation, True, *evaluation]  # after batch 4
    assert model.modes == first + second
    loss = loop.calc_loss_loader(batches, model, CPU, num_batches=1)
    assert history.losses == [(batch, loss, loss) for batch in (0, 2, 4)]


@pytest.mark.parametrize(("batch", "batches", "steps"), [(5, 7, 7), (53, 200, 101)])
def test_a_loss_that_is_not_finite_stops_the_run_at_the_next_evaluation(batch, batches, steps):
    made = []
    hook = register_optimizer_step_pre_hook(lambda *_: made.append(1))
    message = rf"nan at batch {batch}, with a learning rate of 0\.0: try"
    with pytest.raises(ValueError, match=message):
        train_simple(with_nan(batches_of(batches), batch), val=batches_of(2))
    hook.remove()
    assert len(made) == steps


def test_the_criterion_of_training_counts_in_all_losses():
    batches = [batch_of([0, 1, 1])]
    model, optimizer, history = train_simple(batches, 2, criterion=WEIGHTED, keep_best=True)
    loss = loop.calc_loss_batch(*batches[0][::2], model, CPU, WEIGHTED)
    loss.backward()
    assert history.losses == [(0, loss.item(), loss.item())]
    assert history.best == (1, loss.item())  # the first of equals
    assert optimizer.gradients == [model.factor.grad.item()] * 2


# ------------------------------------------------------------------------------------- best epoch

BEST = "--num_epochs 4 --learning_rate 0.1"


@pytest.mark.parametrize(("val_seed", "best"), [(2, 2), (1, 4)])
def test_the_model_ends_as_it_was_after_the_best_epoch_and_nothing_else_changes(
    val_seed, best, capsys
):
    last, plain_history, _ = run(BEST, val_seed)
    plain_state = torch.get_rng_state()
    model, history, _ = run(f"{BEST} --keep_best", val_seed)
    assert torch.equal(torch.get_rng_state(), plain_state)
    assert (history.losses, history.accuracies) == (plain_history.losses, plain_history.accuracies)
    loss = loop.calc_overall_loss(loaders_of(val_seed)[1], model, CPU, mean_cross_entropy)
    assert (plain_history.best, history.best) == (None, (best, pytest.approx(loss)))
    assert capsys.readouterr().out.count(f"Best epoch: {best}, with a validation loss of ") == 1
    earlier, *_ = run(f"{BEST} --num_epochs {best}", val_seed)
    assert torch.equal(model.factor, earlier.factor)
    assert torch.equal(model.factor, last.factor) == (best == 4)


def test_an_overall_loss_that_is_not_finite_names_the_last_batch():
    batches = batches_of(7)
    val = with_nan(batches, 6)
    train_simple(batches, val=val, eval_iter=2)
    with pytest.raises(ValueError, match="nan at batch 6"):
        train_simple(batches, val=val, eval_iter=2, keep_best=True)


# ------------------------------------------------------------------------------- from the settings


def test_by_default_training_is_the_published_one_bit_by_bit():
    model, history, rates = run()
    torch.manual_seed(7)
    expected, (train, val, _) = Logits(), loaders_of(2)
    optimizer = torch.optim.AdamW(expected.parameters(), lr=5e-5, weight_decay=0.1, fused=True)
    assert history == loop.train_classifier_simple(expected, train, val, optimizer, CPU, 5)
    assert torch.equal(model.factor, expected.factor)
    assert rates == [5e-5] * 15


@pytest.mark.parametrize(
    ("flags", "total"),
    [
        ("", 9),
        ("--accumulation_steps 2", 6),
        ("--max_steps 7", 7),
        ("--accumulation_steps 2 --max_steps 1", 1),
    ],
)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_ends_with_the_last_optimiser_step(flags, total, schedule):
    warmup = min(4, total)
    more = f"--num_epochs 3 --learning_rate 0.5 --warmup_steps {warmup} --schedule {schedule}"
    *_, rates = run(f"{flags} {more}")
    factors = [learning_rate_factor(step, schedule, warmup, total) for step in range(total)]
    assert rates == [0.5 * factor for factor in factors]


@pytest.mark.parametrize(
    "flags",
    [
        "--learning_rate 1e-3",
        "--weight_decay 0",
        "--warmup_steps 9",
        "--schedule linear",
        "--schedule cosine",
        "--max_grad_norm 1e-8",  # compared with which AdamW's epsilon is not small
        "--class_weights",
        "--ignore_index 0",
    ],
)
def test_each_setting_changes_the_trained_classifier(flags):
    assert not torch.equal(run(flags)[0].factor, run()[0].factor)


def test_the_optimiser_does_not_outlive_the_training():
    alive = []
    hook = register_optimizer_step_pre_hook(lambda o, *_: alive.append(weakref.ref(o)))
    gc.disable()
    try:
        run("--max_steps 1")
        assert alive[0]() is None
    finally:
        gc.enable()
        hook.remove()


# ------------------------------------------------------------ loss, optimiser, schedule, best epoch

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
