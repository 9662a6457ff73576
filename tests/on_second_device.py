"""The program on a second device, compared with the CPU; `test_second_device.py` starts it."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from designs import CHOICES, assert_same, both_paths, classifier, covering, datasets_of, trajectory
from helpers import assert_equal
from second_device import set_up, traffic

import additional_experiments
from experiments.config.parsing import parse_args
from experiments.data.datasets import create_loaders
from experiments.shortcuts import prefix
from experiments.shortcuts.prefix import cache_frozen_prefix
from experiments.training.loop import train_classifier_simple
from experiments.training.optimization import create_optimizer, mean_cross_entropy

DEVICE = set_up()
PARAMETERS = 2 + 2 * 16  # of the embeddings and of two blocks
RUNS = [[1], [3], [5], [11], [17, "--no_shortcuts"], [19, "--no_shortcuts"]]


def test_operands_of_two_devices_are_refused_and_reads_are_counted():
    here, there = torch.ones(3, 4), torch.ones(3, 4).to(DEVICE)
    for function in (torch.add, lambda x, y: torch.stack([x, y]), lambda x, y: x.clone().add_(y)):
        assert_equal(function(there, there).cpu(), function(here, here), tolerance=0)
        for operands in ((there, here), (here, there)):
            with pytest.raises(RuntimeError, match="operands of two devices"):
                function(*operands)
    traffic.clear()
    x = torch.arange(4).to(DEVICE)
    assert (x[x] + torch.tensor(2.0)).tolist() == [2, 3, 4, 5]
    torch.empty(4).copy_(x), float(x.sum()), bool(x.any()), x[x > 1], x.nonzero()
    assert traffic == {"to_device": 1, "reads": 6}


@pytest.mark.parametrize("design", list(covering(CHOICES)), ids=str)
@pytest.mark.usefixtures("float64")
def test_two_steps_are_those_of_the_cpu(design):
    (plain, loaders), short = both_paths(**design, device=DEVICE)
    there = deepcopy(plain).to(DEVICE)
    expected = trajectory(plain, loaders, steps=2)
    for path in ((there, loaders), short):
        found = trajectory(*path, steps=2, device=DEVICE)
        assert {x.device for x in found} == {DEVICE}
        assert_same(expected, found)


@pytest.mark.parametrize("layers", ["last_layer", "all", "lora"])
@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "optimised"])
def test_a_step_does_not_wait_for_the_device(layers, is_plain):
    model, datasets = classifier(layers, "flexible").to(DEVICE), datasets_of()
    if not is_plain:
        model, datasets, *_ = cache_frozen_prefix(model, datasets)
    batches = list(create_loaders(datasets, batch_size=4).train)
    weights = torch.tensor([1.0, 2.0], device=DEVICE)
    criterion = partial(mean_cross_entropy, class_weights=weights, ignore_index=1)
    options, counts = {"criterion": criterion, "max_grad_norm": 1.0}, []
    for passes in (1, 3):
        optimizer = create_optimizer(model, learning_rate=1e-4, weight_decay=0.1, fused=True)
        traffic.clear()
        train_classifier_simple(
            model, batches * passes, batches[:1], optimizer, DEVICE, 1, 1000, 1, **options
        )
        counts.append(dict(traffic))
    few, many = counts
    assert many["reads"] == few["reads"] > 0  # at evaluations, and at the end
    added = 2 * len(batches)
    assert many["to_device"] - few["to_device"] <= 3 * added  # inputs, lengths and labels


@pytest.mark.parametrize("has_room", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_activations_stay_on_the_device_where_it_has_room(has_room, cached, monkeypatch, tmp_path):
    model = classifier().to(DEVICE)
    if not has_room:
        monkeypatch.setattr(prefix, "memory_of", lambda _: 0)
    traffic.clear()
    short = cache_frozen_prefix(model, datasets_of(), cache_dir=tmp_path if cached else None)
    assert traffic["reads"] == cached * PARAMETERS + (cached or not has_room)  # the key, one batch
    assert traffic["to_device"] == 1 + (cached and has_room)  # the tokens of that batch
    inputs, *_ = short.datasets.train.batch([0, 3])
    assert inputs.device.type == ("second" if has_room else "cpu")


@pytest.mark.parametrize("flags", RUNS, ids=str)
def test_a_run_is_that_of_the_cpu(flags, monkeypatch):
    flags = ["--row", *map(str, flags), "--demo", "--max_steps", "3", "--num_epochs", "1"]
    expected = additional_experiments.run_experiment(parse_args(flags))
    monkeypatch.setattr("experiments.system.devices.select_device", lambda _: DEVICE)
    traffic.clear()
    found = additional_experiments.run_experiment(parse_args(flags))
    assert traffic["to_device"] > 0
    assert found.correct == expected.correct
    for a, b in (
        (found.history.losses, expected.history.losses),
        (found.history.accuracies, expected.history.accuracies),
        (found.probabilities, expected.probabilities),
    ):
        assert_equal(torch.as_tensor(a), torch.as_tensor(b), tolerance=1e-6)
