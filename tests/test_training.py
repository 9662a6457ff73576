"""The training loop, and what it measures."""

import gc
import math
import weakref
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from experiments.config.parsing import parse_args
from experiments.data.datasets import Splits
from experiments.training import loop
from experiments.training.optimization import (
    balanced_class_weights,
    learning_rate_factor,
    mean_cross_entropy,
)

CPU = torch.device("cpu")
WEIGHTED = partial(mean_cross_entropy, class_weights=torch.tensor([1.0, 9.0]))


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
    return inputs, torch.ones(len(labels), dtype=torch.long), torch.tensor(labels)


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


# -------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("has_lengths", [True, False])
def test_accuracy_counts_every_example_and_the_loss_averages_batches(has_lengths):
    batches = [batch_of([0, 1, 1, 0], seed=1), batch_of([1], seed=2), batch_of([0], seed=3)]
    correct = sum((x.argmax(1) == y).sum().item() for x, _, y in batches)
    losses = [F.cross_entropy(x, y).item() for x, _, y in batches]
    if not has_lengths:  # as the book's
        batches = [(inputs, labels) for inputs, _, labels in batches]
    assert loop.calc_accuracy_loader(batches, Logits(), CPU) == correct / 6
    assert loop.calc_loss_loader(batches, Logits(), CPU) == pytest.approx(sum(losses) / 3)
    first = loop.calc_loss_loader(batches, Logits(), CPU, num_batches=2)
    assert first == pytest.approx(sum(losses[:2]) / 2)
    assert math.isnan(loop.calc_loss_loader([], Logits(), CPU))  # as in the book


def test_the_last_tokens_logits_are_used_if_a_model_gives_those_of_all():
    logits = torch.randn(3, 5, 2)
    assert torch.equal(loop.compute_logits(nn.Identity(), logits, CPU), logits[:, -1])
    assert torch.equal(loop.compute_logits(nn.Identity(), [logits[:, -1]], CPU), logits[:, -1])


def test_probabilities_that_are_not_finite_are_an_error_with_a_hint():
    with pytest.raises(ValueError, match="the logits are not finite: try"):
        loop.predict(with_nan(batches_of(2), 1), Logits(), CPU)


@pytest.mark.parametrize("name", ["predict", "calc_accuracy_loader", "calc_overall_loss"])
def test_predictions_are_made_in_evaluation_mode(name):
    model, more = Logits(), [WEIGHTED] if name == "calc_overall_loss" else []
    getattr(loop, name)([batch_of([0, 1])], model, CPU, *more)
    assert (model.modes, model.training) == ([False], False)


def test_the_final_evaluation_counts_all_splits_and_predicts_the_test_split():
    loaders, model = Splits(*([batch_of([0, 1, 1], seed)] for seed in range(3))), Logits()
    correct, probabilities, labels = loop.evaluate(model, loaders, CPU)
    accuracies = {split: count / total for split, (count, total) in correct.items()}
    expected = [loop.calc_accuracy_loader(loader, model, CPU) for loader in loaders]
    assert accuracies == dict(zip(Splits._fields, expected, strict=True))
    assert {total for _, total in correct.values()} == {3}
    assert torch.equal(probabilities, torch.softmax(loaders.test[0][0], dim=1))
    assert labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("criterion", [mean_cross_entropy, WEIGHTED], ids=["", "weighted"])
def test_the_overall_loss_does_not_depend_on_the_batches(criterion):
    inputs, lengths, labels = batch_of([0, 1, 1, 0, 1, 1, 0])
    for size in (1, 2, 3, 7):
        batches = zip(*(x.split(size) for x in (inputs, lengths, labels)), strict=True)
        loss = loop.calc_overall_loss(batches, Logits(), CPU, criterion)
        assert loss == pytest.approx(criterion(inputs, labels).item(), rel=1e-6)


# ---------------------------------------------------------------------------------------- the loop


def gradient_of(batches, divisor):
    model = Logits()
    for *inputs, labels in batches:
        (loop.calc_loss_batch(inputs, labels, model, CPU) / divisor).backward()
    return model.factor.grad.item()


def test_a_short_last_step_of_an_epoch_is_divided_by_the_same_number():
    batches = batches_of(5)
    _, optimizer, _ = train_simple(batches, 2, accumulation_steps=3)
    epoch = [gradient_of(batches[:3], 3), gradient_of(batches[3:], 3)]
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


@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_max_steps_are_optimiser_steps(accumulation_steps):
    options = {"accumulation_steps": accumulation_steps, "max_steps": 4}
    assert len(train_simple(batches_of(7), 5, **options)[1].gradients) == 4


@pytest.mark.parametrize(("batch", "batches", "steps"), [(5, 7, 7), (53, 200, 101)])
def test_a_loss_that_is_not_finite_stops_the_run_at_the_next_evaluation(batch, batches, steps):
    made = []
    hook = register_optimizer_step_pre_hook(lambda *_: made.append(1))
    message = rf"nan at batch {batch}, with a learning rate of 0\.0: try"
    with pytest.raises(ValueError, match=message):
        train_simple(with_nan(batches_of(batches), batch), val=batches_of(2))
    hook.remove()
    assert len(made) == steps


def test_losses_of_batches_are_read_only_at_evaluations(monkeypatch):
    reads = []
    for name in ("item", "tolist"):  # which wait for the device
        read = getattr(torch.Tensor, name)
        counted = lambda x, read=read: reads.append(x.numel()) or read(x)  # noqa: E731
        monkeypatch.setattr(torch.Tensor, name, counted)
    model, batches = Logits(), batches_of(120)
    optimizer = torch.optim.SGD(model.parameters())
    loop.train_classifier_simple(model, batches, batches[:1], optimizer, CPU, num_epochs=1)
    assert len(reads) < 20
    assert sum(reads) < 150  # each loss once, and those of evaluations


# ------------------------------------------------------------------------------------- best epoch


def loader_of(seed, batch_size, drop_last=False):
    examples = list(zip(*batch_of([0, 1, 1] * 8, seed), strict=True))
    return DataLoader(examples, batch_size, shuffle=True, drop_last=drop_last)


def train_best(keep_best, val_seed=3, epochs=4):
    """Model, history, validation loader and random state after a training.

    The validation loss falls with seed 1, that of the training data, and rises again with seed 3.
    """
    torch.manual_seed(7)
    val, model = loader_of(val_seed, 5), Logits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    history = loop.train_classifier_simple(
        model, loader_of(1, 4, drop_last=True), val, optimizer, CPU, epochs, 1, keep_best=keep_best
    )
    return model, history, val, torch.get_rng_state()


def test_choosing_the_best_epoch_changes_nothing_that_is_measured():
    _, plain, _, plain_state = train_best(keep_best=False)
    _, history, _, state = train_best(keep_best=True)
    assert (history.losses, history.accuracies) == (plain.losses, plain.accuracies)
    assert torch.equal(state, plain_state)


@pytest.mark.parametrize(("val_seed", "best"), [(3, 2), (1, 4)])
def test_the_model_ends_as_it_was_after_the_best_epoch(val_seed, best, capsys):
    model, history, val, _ = train_best(True, val_seed)
    loss = loop.calc_overall_loss(val, model, CPU, mean_cross_entropy)
    assert history.best == (best, pytest.approx(loss))
    assert capsys.readouterr().out.count(f"Best epoch: {best}, with a validation loss of ") == 1
    plain, plain_history, *_ = train_best(False, val_seed, epochs=best)
    assert torch.equal(model.factor, plain.factor)
    assert plain_history.best is None
    assert torch.equal(model.factor, train_best(False, val_seed)[0].factor) == (best == 4)


def test_the_best_epoch_is_chosen_by_the_criterion_of_training():
    batches = [batch_of([0, 1, 1])]
    model, _, history = train_simple(batches, 2, criterion=WEIGHTED, keep_best=True)
    assert history.best == (1, loop.calc_overall_loss(batches, model, CPU, WEIGHTED))


def test_an_overall_loss_that_is_not_finite_names_the_last_batch():
    batches = batches_of(7)
    val = with_nan(batches, 6)
    train_simple(batches, val=val, eval_iter=2)
    with pytest.raises(ValueError, match="nan at batch 6"):
        train_simple(batches, val=val, eval_iter=2, keep_best=True)


# ------------------------------------------------------------------------------- from the settings

LABELS = torch.arange(40) % 4 // 3  # a quarter is 1


class Network(nn.Module):
    """Two linear layers, of which the first is frozen."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.frozen = nn.Linear(4, 8).requires_grad_(False)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs, lengths):
        return self.head(torch.tanh(self.frozen(inputs)))


def create_loaders():
    def examples(count, seed):
        inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
        return [(x, torch.tensor(1), y) for x, y in zip(inputs, LABELS, strict=False)]

    train = DataLoader(examples(40, seed=1), 8, shuffle=True, drop_last=True)
    return Splits(train, *(DataLoader(examples(18, seed), 8) for seed in (2, 3)))


def run(*flags):
    """A network trained with flags, its history, and all learning rates."""
    rates, model = [], Network()
    hook = register_optimizer_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    history = loop.train(model, create_loaders(), LABELS, parse_args(flags).training, CPU)
    hook.remove()
    return model, history, rates


def test_by_default_training_is_the_published_one_bit_by_bit():
    model, history, rates = run()
    expected, (train, val, _) = Network(), create_loaders()
    head = expected.head.parameters()
    optimizer = torch.optim.AdamW(head, lr=5e-5, weight_decay=0.1, fused=True)
    assert history == loop.train_classifier_simple(expected, train, val, optimizer, CPU, 5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    assert rates == [5e-5] * 25


@pytest.mark.parametrize(
    ("flags", "total"),
    [([], 15), (["--accumulation_steps", "2"], 9), (["--max_steps", "7"], 7)],
    ids=["batches", "accumulated", "max_steps"],
)
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_schedule_ends_with_the_last_optimiser_step(flags, total, schedule):
    more = ["--num_epochs", "3", "--learning_rate", "0.5", "--warmup_steps", "4"]
    *_, rates = run(*flags, *more, "--schedule", schedule)
    factors = [learning_rate_factor(step, schedule, 4, total) for step in range(total)]
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
        "--learning_rate 30 --keep_best",
    ],
)
def test_each_setting_changes_the_trained_classifier(flags):
    without = ["--learning_rate", "30"] if "--keep_best" in flags else []
    model, other = run(*flags.split())[0], run(*without)[0]
    assert not torch.equal(model.head.weight, other.head.weight)
    assert torch.equal(model.frozen.weight, other.frozen.weight)


def test_class_weights_count_in_all_losses():
    criterion = partial(mean_cross_entropy, class_weights=balanced_class_weights(LABELS))
    _, history, _ = run("--class_weights", "--max_steps", "1", "--learning_rate", "1e-30")
    model, (train, val, _) = Network(), create_loaders()
    next(iter(train))  # the pass of training
    expected = loop.evaluate_model(model, train, val, CPU, 5, criterion)
    assert history.losses == [(0, *expected)]
    unweighted = loop.evaluate_model(model, train, val, CPU, 5)
    assert expected != pytest.approx(unweighted, abs=1e-3)


def test_the_optimiser_does_not_outlive_the_training():
    alive = []
    hook = register_optimizer_step_pre_hook(lambda o, *_: alive.append(weakref.ref(o)))
    gc.disable()
    try:
        run("--max_steps", "1")
        assert alive[0]() is None
    finally:
        gc.enable()
        hook.remove()
