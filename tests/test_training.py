import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from experiments.training.loop import (
    History,
    calc_accuracy_loader,
    calc_loss_batch,
    calc_loss_loader,
    calc_loss_of_all,
    classify,
    count_correct,
    evaluate_model,
    predict,
    train_classifier_simple,
)
from experiments.training.optimization import Recipe, mean_cross_entropy

CPU = torch.device("cpu")


class Logits(nn.Module):
    """Gives each message the logits that its inputs are, times one trainable number."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, inputs, lengths):
        return self.factor * inputs


def batch_of(labels, seed=0):
    inputs = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(seed))
    return inputs, torch.ones(len(labels), dtype=torch.long), torch.tensor(labels)


def ignoring(label):
    return partial(mean_cross_entropy, ignore_index=label)


def test_the_loss_is_the_mean_cross_entropy_over_labels_that_count():
    inputs, lengths, labels = batch_of([0, 1, 1, 0])
    loss = calc_loss_batch((inputs, lengths), labels, Logits(), CPU)
    assert loss == F.cross_entropy(inputs, labels)
    ignored = calc_loss_batch((inputs, lengths), labels, Logits(), CPU, ignoring(0))
    assert ignored == F.cross_entropy(inputs[1:3], labels[1:3])


@pytest.mark.parametrize("label", [0, 1])
def test_a_batch_without_a_counted_label_has_zero_loss_and_zero_gradient(label):
    model = Logits()
    *inputs, labels = batch_of([label] * 3)
    loss = calc_loss_batch(inputs, labels, model, CPU, ignoring(label))
    loss.backward()
    assert (loss.item(), model.factor.grad.item()) == (0, 0)


def test_accuracy_counts_every_message_and_loss_averages_batches():
    batches = [batch_of([0, 1, 1, 0], seed=1), batch_of([1], seed=2), batch_of([0], seed=3)]
    right = sum((x.argmax(1) == y).sum().item() for x, _, y in batches)
    assert calc_accuracy_loader(batches, Logits(), CPU) == right / 6
    losses = [F.cross_entropy(x, y).item() for x, _, y in batches]
    assert calc_loss_loader(batches, Logits(), CPU) == pytest.approx(sum(losses) / 3)
    assert calc_loss_loader(batches, Logits(), CPU, num_batches=2) == pytest.approx(
        sum(losses[:2]) / 2
    )


def test_probabilities_that_are_no_numbers_are_told():
    batch = torch.full((2, 2), torch.nan), torch.ones(2, dtype=torch.long), torch.zeros(2)
    with pytest.raises(ValueError, match="no longer finite: try"):
        predict([batch], Logits(), CPU)


class Recorder(torch.optim.SGD):
    """Notes the gradient at each step, and moves nothing."""

    def __init__(self, model):
        super().__init__(model.parameters(), lr=0.0)
        self.gradients = []

    def step(self):
        self.gradients.append(self.param_groups[0]["params"][0].grad.item())


def gradient_of(batches, divisor):
    model = Logits()
    for *inputs, labels in batches:
        (calc_loss_batch(inputs, labels, model, CPU) / divisor).backward()
    return model.factor.grad.item()


def test_accumulated_batches_make_one_step_and_a_short_rest_is_divided_alike():
    batches = [batch_of([0, 1], seed=i) for i in range(5)]
    model = Logits()
    optimizer = Recorder(model)
    train_classifier_simple(
        model, batches, batches, optimizer, CPU, 2, recipe=Recipe(accumulation_steps=3)
    )
    an_epoch = [gradient_of(batches[:3], 3), gradient_of(batches[3:], 3)]
    assert optimizer.gradients == pytest.approx(an_epoch * 2)


def test_losses_are_seen_after_every_50_batches_counted_over_the_run():
    batches = [batch_of([0, 1], seed=i) for i in range(40)]
    model = Logits()
    history = train_classifier_simple(model, batches, batches, Recorder(model), CPU, num_epochs=3)
    assert [batch for batch, *_ in history.losses] == [0, 50, 100]
    assert [epoch for epoch, *_ in history.accuracies] == [1, 2, 3]


def test_a_loss_that_is_no_number_names_its_batch():
    batches = [batch_of([0, 1], seed=i) for i in range(7)]
    inputs, *rest = batches[5]
    spoiled = [*batches[:5], (inputs * torch.nan, *rest), batches[6]]
    model = Logits()
    with pytest.raises(ValueError, match=r"nan at batch 5, with a learning rate of 0\.0: try"):
        train_classifier_simple(model, spoiled, batches, Recorder(model), CPU, num_epochs=1)


def test_a_loss_that_is_no_number_stops_the_run_at_the_next_evaluation():
    batches = [batch_of([0, 1], seed=i) for i in range(200)]
    inputs, *rest = batches[53]
    spoiled = [*batches[:53], (inputs * torch.nan, *rest), *batches[54:]]
    model = Logits()
    optimizer = Recorder(model)
    with pytest.raises(ValueError, match="nan at batch 53,"):
        train_classifier_simple(model, spoiled, batches, optimizer, CPU, num_epochs=1)
    assert len(optimizer.gradients) == 101


def test_losses_of_batches_are_read_when_there_is_an_evaluation(monkeypatch):
    batches = [batch_of([0, 1], seed=i) for i in range(120)]
    model, asked = Logits(), []
    optimizer = torch.optim.SGD(model.parameters())
    item, tolist = torch.Tensor.item, torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "item", lambda x: asked.append(1) or item(x))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: asked.append(1) or tolist(x))
    train_classifier_simple(model, batches, batches[:1], optimizer, CPU, num_epochs=1)
    assert len(asked) < 20


@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_max_steps_are_optimiser_steps(accumulation_steps):
    batches = [batch_of([0, 1], seed=i) for i in range(7)]
    model = Logits()
    optimizer = Recorder(model)
    train_classifier_simple(
        model, batches, batches, optimizer, CPU, num_epochs=5,
        recipe=Recipe(accumulation_steps=accumulation_steps, max_steps=4),
    )  # fmt: skip
    assert len(optimizer.gradients) == 4


# ------------------------------------------------------------------------------ one or all tokens


def test_of_a_model_that_gives_all_tokens_logits_the_last_ones_count():
    all_logits = torch.randn(3, 5, 2)
    assert torch.equal(classify(nn.Identity(), all_logits, CPU), all_logits[:, -1])
    assert torch.equal(classify(nn.Identity(), [all_logits[:, -1]], CPU), all_logits[:, -1])


def test_pairs_and_triples_are_looked_at_alike():
    triples = [batch_of([0, 1, 1, 0], seed=1), batch_of([1], seed=2)]
    pairs = [(inputs, labels) for inputs, _, labels in triples]
    for look in (calc_loss_loader, calc_accuracy_loader, count_correct):
        assert look(pairs, nn.Identity(), CPU) == look(triples, Logits(), CPU)


# ------------------------------------------------------------------------ evaluation and training


class ModeRecorder(Logits):
    """Notes at each batch whether it is in training mode."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def forward(self, inputs, lengths):
        self.modes.append(self.training)
        return super().forward(inputs, lengths)


def test_probabilities_and_accuracies_are_those_of_evaluation_mode():
    for look in (predict, count_correct, calc_accuracy_loader):
        model = ModeRecorder()
        look([batch_of([0, 1])], model, CPU)
        assert model.modes == [False]
        assert not model.training


def test_losses_of_loaders_are_looked_at_in_evaluation_mode_and_training_goes_on():
    model = ModeRecorder()
    train, val = [batch_of([0, 1])], [batch_of([0, 1], seed=1)]
    losses = evaluate_model(model, train, val, CPU, eval_iter=5)
    assert model.modes == [False, False]
    assert model.training
    assert losses == (calc_loss_loader(train, model, CPU), calc_loss_loader(val, model, CPU))


def test_only_what_is_trained_on_is_seen_in_training_mode():
    batches = [batch_of([0, 1], seed=i) for i in range(3)]
    model = ModeRecorder()
    train_classifier_simple(
        model, batches, batches, Recorder(model), CPU, num_epochs=2, eval_freq=2, eval_iter=1
    )
    looked_at = [False, False]  # in each of the two loaders
    first = [True, *looked_at, True, True, *looked_at, *looked_at]  # after batches 0 and 2
    second = [True, True, *looked_at, True, *looked_at]  # after batch 4
    assert model.modes == first + second


def test_the_mean_loss_of_no_batches_is_no_number_as_in_the_book():
    assert math.isnan(calc_loss_loader([], Logits(), CPU))


def test_a_history_unpacks_into_the_books_five_results():
    history = History([(0, 0.7, 0.8), (50, 0.5, 0.6)], [(1, 0.9, 0.85)], examples_seen=420)
    train_losses, val_losses, train_accs, val_accs, examples_seen = history
    assert (train_losses, val_losses) == ([0.7, 0.5], [0.8, 0.6])
    assert (train_accs, val_accs, examples_seen) == ([0.9], [0.85], 420)


def test_messages_are_seen_again_in_each_epoch():
    batches = [batch_of([0, 1]), batch_of([0, 1, 1])]
    model = Logits()
    history = train_classifier_simple(model, batches, batches, Recorder(model), CPU, num_epochs=3)
    assert history.examples_seen == 15


# ------------------------------------------------------------------------------------- best epoch


def messages(count, seed):
    inputs, lengths, labels = batch_of([0, 1, 1] * count, seed)
    return list(zip(inputs, lengths, labels, strict=True))


def train_and_look(keep_best, val_seed=3, epochs=4):
    """Returns model, history, validation loader and random state after a training.

    The loss on its own messages, of seed 1, falls; on those of seed 3 it soon grows again.
    """
    torch.manual_seed(7)
    train = DataLoader(messages(8, seed=1), 4, shuffle=True, drop_last=True)
    val = DataLoader(messages(8, seed=val_seed), 5, shuffle=True)
    model = Logits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    recipe = Recipe(keep_best=keep_best)
    history = train_classifier_simple(model, train, val, optimizer, CPU, epochs, 1, recipe=recipe)
    return model, history, val, torch.get_rng_state()


def test_the_loss_of_all_messages_does_not_depend_on_their_batches():
    inputs, lengths, labels = batch_of([0, 1, 1, 0, 1, 1, 0])
    weights = torch.tensor([1.0, 4.0])
    for criterion in (mean_cross_entropy, partial(mean_cross_entropy, class_weights=weights)):
        expected = criterion(inputs, labels).item()
        for size in (1, 2, 3, 7):
            parts = (x.split(size) for x in (inputs, lengths, labels))
            batches = list(zip(*parts, strict=True))
            loss = calc_loss_of_all(batches, Logits(), CPU, criterion)
            assert loss == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_all_messages_is_that_of_evaluation_mode():
    model = ModeRecorder()
    calc_loss_of_all([batch_of([0, 1])], model, CPU, mean_cross_entropy)
    assert model.modes == [False]
    assert not model.training


def test_the_best_epoch_is_that_of_the_loss_which_is_trained_on():
    batches, model = [batch_of([0, 1, 1])], Logits()
    weighted = partial(mean_cross_entropy, class_weights=torch.tensor([1.0, 9.0]))
    recipe = Recipe(weighted, keep_best=True)
    history = train_classifier_simple(
        model, batches, batches, Recorder(model), CPU, 2, recipe=recipe
    )
    assert history.best == (1, pytest.approx(calc_loss_of_all(batches, model, CPU, weighted)))


def test_the_loss_of_all_messages_draws_no_random_number():
    loader = DataLoader(messages(8, seed=1), 4, shuffle=True)
    before = torch.get_rng_state()
    calc_loss_of_all(loader, Logits(), CPU, mean_cross_entropy)
    assert torch.equal(torch.get_rng_state(), before)


def test_looking_for_the_best_epoch_changes_nothing_that_is_seen():
    _, plain, _, plain_state = train_and_look(keep_best=False)
    _, history, _, state = train_and_look(keep_best=True)
    assert (history.losses, history.accuracies) == (plain.losses, plain.accuracies)
    assert torch.equal(state, plain_state)


def test_the_model_ends_as_it_was_after_the_best_epoch(capsys):
    model, history, val, _ = train_and_look(keep_best=True)
    epoch, loss = history.best
    assert epoch == 2
    assert calc_loss_of_all(val, model, CPU, mean_cross_entropy) == pytest.approx(loss)
    assert torch.equal(model.factor, train_and_look(keep_best=False, epochs=2)[0].factor)
    assert not torch.equal(model.factor, train_and_look(keep_best=False)[0].factor)
    assert capsys.readouterr().out.count("Kept epoch 2, after which") == 1


def test_where_the_loss_falls_the_last_epoch_is_kept():
    model, history, *_ = train_and_look(keep_best=True, val_seed=1)
    assert history.best[0] == 4
    plain = train_and_look(keep_best=False, val_seed=1)
    assert torch.equal(model.factor, plain[0].factor)
    assert plain[1].best is None


def test_a_loss_of_all_messages_that_is_no_number_names_the_last_batch():
    batches = [batch_of([0, 1], seed=i) for i in range(7)]
    inputs, *rest = batches[6]
    spoiled = [*batches[:6], (inputs * torch.nan, *rest)]
    model = Logits()
    train_classifier_simple(model, batches, spoiled[:6], Recorder(model), CPU, 1, 50, 2)
    with pytest.raises(ValueError, match="nan at batch 6"):
        train_classifier_simple(
            model, batches, spoiled, Recorder(model), CPU, 1, 50, 2, recipe=Recipe(keep_best=True)
        )
