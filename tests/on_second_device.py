"""The program on a second device, held against the CPU; `test_second_device.py` starts it.

pytest tests/on_second_device.py -m "slow or not slow"
"""

import itertools
from copy import deepcopy
from functools import partial

import pytest
import torch
from helpers import assert_equal
from second_device import counting, set_up
from test_shortcuts import LAYERS, POSITIONS, both_paths, classifier, datasets_of, trajectory

from experiments.config.flags import parse_args
from experiments.config.rows import ROWS
from experiments.data.datasets import create_loaders
from experiments.runs import experiment
from experiments.runs.experiment import run_experiment
from experiments.shortcuts import prefix as hidden_states
from experiments.shortcuts.switch import take_shortcuts
from experiments.training.loop import train_classifier_simple
from experiments.training.optimization import Recipe, create_optimizer, mean_cross_entropy

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICE = set_up()
QUICK = ("last_block", "all", "lora")
PARAMETERS = 2 + 2 * 16  # of the embeddings and of two blocks
PATHS = {"plain": ["--no_shortcuts"], "short": []}

# ------------------------------------------------------------------------------- the device itself


def test_what_is_computed_there_is_what_the_cpu_computes():
    x = torch.randn(3, 4)
    y = x.to(DEVICE)
    assert (y.device, y.is_cpu) == (DEVICE, False)
    assert_equal((y.T @ y).relu().cpu(), (x.T @ x).relu(), tolerance=0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x + y,
        lambda x, y: x @ y.T,
        lambda x, y: x.masked_fill(y > 0, 0),
        lambda x, y: torch.stack([x, y]),
        lambda x, y: x.add_(y),
        lambda x, y: x[y[:, 0].long()],
        lambda x, y: torch.nn.functional.layer_norm(x, [4], y[0]),
    ],
)
def test_operands_of_two_devices_are_refused(function):
    here = torch.ones(3, 4)
    function(here.clone(), here)
    function(here.to(DEVICE), here.to(DEVICE))
    for x, y in ((here.to(DEVICE), here), (here, here.to(DEVICE))):
        with pytest.raises(RuntimeError, match="operands of two devices"):
            function(x, y)


def test_a_number_of_the_cpus_is_an_operand_as_on_a_gpu():
    assert (torch.ones(3, device=DEVICE) + torch.tensor(2.0)).tolist() == [3, 3, 3]


def test_what_a_tensor_there_has_is_never_seen_without_a_copy():
    x = torch.ones(3, device=DEVICE)
    for look in (x.numpy, lambda: memoryview(x)):
        with pytest.raises((RuntimeError, TypeError)):
            look()


def test_copies_and_numbers_that_are_read_are_counted():
    with counting() as traffic:
        x = torch.arange(4).to(DEVICE)
        x + x
        assert traffic.reads == 0
        x.cpu(), x.tolist(), torch.empty(4).copy_(x)
        float(x.sum()), bool(x.any()), x.max().item()
        x[x > 1], x.nonzero()
        x[x], x[:2]
    assert (traffic.to_device, traffic.to_host, traffic.items, traffic.sizes) == (1, 3, 3, 2)


# ------------------------------------------------------------------------- every design, in float64


def designs():
    """All combinations, three of which are quick."""
    for design in itertools.product(LAYERS, POSITIONS, *[[False, True]] * 3):
        is_quick = design[0] in QUICK and design[1:] == ("flexible", False, False, False)
        yield pytest.param(*design, marks=[] if is_quick else pytest.mark.slow)


@pytest.mark.parametrize(
    ("layers", "position", "average", "no_mask", "no_padding"), list(designs())
)
@pytest.mark.usefixtures("float64")
def test_two_steps_are_the_cpus(layers, position, average, no_mask, no_padding):
    (plain, loaders), _ = both_paths(layers, position, average, no_mask, no_padding=no_padding)
    there = deepcopy(plain).to(DEVICE)
    short = take_shortcuts(deepcopy(plain).to(DEVICE), datasets_of(no_padding))
    expected = trajectory(plain, loaders, steps=2)
    batch_size = 1 if no_padding else 4
    for model, its_loaders in (
        (there, loaders),
        (short.model, create_loaders(short.datasets, batch_size)),
    ):
        found = trajectory(model, its_loaders, steps=2, device=DEVICE)
        assert {x.device for x in found} == {DEVICE}
        for a, b in zip(expected, found, strict=True):
            assert_equal(b.cpu(), a)


# ------------------------------------------------------------------- how often the device is read


def traffic_of_training(model, loaders, passes, recipe):
    """What goes between the devices while a model sees its training batches so often."""
    batches = list(loaders.train) * passes
    optimizer = create_optimizer(model, learning_rate=1e-4, weight_decay=0.1, fused=True)
    with counting() as traffic:
        train_classifier_simple(
            model, batches, batches[:1], optimizer, DEVICE, 1, 1000, 1, recipe=recipe
        )
    return traffic


@pytest.mark.parametrize("layers", ["last_layer", "all", "lora"])
@pytest.mark.parametrize("path", PATHS)
def test_a_step_reads_nothing_of_the_device(layers, path):
    model, datasets = classifier(layers, "flexible").to(DEVICE), datasets_of()
    if path == "short":
        model, datasets, *_ = take_shortcuts(model, datasets)
    loaders = create_loaders(datasets, batch_size=4)
    weights = torch.tensor([1.0, 2.0], device=DEVICE)
    criterion = partial(mean_cross_entropy, class_weights=weights, ignore_index=1)
    recipe = Recipe(criterion, max_grad_norm=1.0)
    few, many = (traffic_of_training(model, loaders, n, recipe) for n in (1, 3))
    assert few.reads > 0  # at evaluations, and at the end
    assert many.reads == few.reads
    added = (3 - 1) * len(loaders.train)
    assert many.to_device - few.to_device <= 3 * added  # inputs, lengths and labels


@pytest.mark.parametrize("has_room", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_hidden_states_stay_on_the_device_where_it_has_room(
    has_room, cached, monkeypatch, tmp_path
):
    model, cache = classifier("last_block", "last").to(DEVICE), tmp_path if cached else None
    if not has_room:
        monkeypatch.setattr(hidden_states, "memory_of", lambda _: 0)
    with counting() as traffic:
        taken = take_shortcuts(model, datasets_of(), cache)
    batches = 1  # of the prefix, whose tokens are copied there
    assert traffic.reads == (cached or not has_room) + cached * PARAMETERS  # the key's, of all
    assert traffic.to_device == batches + (cached and has_room)
    inputs, *_ = taken.datasets.train.batch([0, 3])
    assert inputs.device.type == ("second" if has_room else "cpu")


# -------------------------------------------------------------------------------- every row, a run


def rows():
    for row, path in itertools.product(ROWS, PATHS):
        is_quick = (row, path) == (1, "short")
        marks = [] if is_quick else pytest.mark.slow
        yield pytest.param(row, path, marks=marks, id=f"row{row}-{path}")


@pytest.mark.parametrize(("row", "path"), list(rows()))
def test_a_run_is_the_cpus(row, path, monkeypatch):
    flags = ["--row", str(row), "--demo", "--max_steps", "3", "--num_epochs", "1", *PATHS[path]]
    settings = parse_args(flags)
    expected = run_experiment(settings)
    monkeypatch.setattr(experiment, "pick_device", lambda _: DEVICE)
    with counting() as traffic:
        found = run_experiment(settings)
    assert traffic.to_device > 0
    assert found.correct == expected.correct
    for a, b in (
        (found.history.losses, expected.history.losses),
        (found.history.accuracies, expected.history.accuracies),
        (found.probabilities, expected.probabilities),
    ):
        assert_equal(torch.as_tensor(a), torch.as_tensor(b), tolerance=1e-6)
