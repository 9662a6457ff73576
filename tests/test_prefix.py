"""Activations of the frozen prefix: which are computed, how often, and where they are stored."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from designs import classifier, datasets_of
from helpers import assert_equal

from experiments.shortcuts import prefix
from experiments.shortcuts.prefix import cache_frozen_prefix, distinct_examples

BF16 = torch.bfloat16


@pytest.fixture
def runs(monkeypatch):
    """Counts how often the prefix is run."""
    counted, run_prefix = [], prefix.run_prefix
    monkeypatch.setattr(prefix, "run_prefix", lambda *a: counted.append(1) or run_prefix(*a))
    return counted


def activations_of(layers="last_block", **options):
    """The activations of a design, and what replaces its model and data sets."""
    options.setdefault("activations", {})
    plain = options.pop("plain", None) or classifier(layers, "flexible")
    short = cache_frozen_prefix(plain, datasets_of(), **options)
    return *options["activations"].values(), short


def test_equal_examples_are_computed_once_the_shortest_first():
    datasets = datasets_of()
    examples, numbers = distinct_examples(classifier(position="flexible").design, datasets)
    texts = [tuple(tokens.tolist()) for tokens in examples]
    assert len(texts) == len(set(texts))
    assert [*map(len, texts)] == sorted(map(len, texts))
    for dataset, of_split in zip(datasets, numbers, strict=True):
        for tokens, length, number in zip(dataset.tokens, dataset.lengths, of_split, strict=True):
            assert texts[number] == tuple(tokens[:length].tolist())


@pytest.mark.parametrize(("is_causal", "expected"), [(True, [3, 1]), (False, [1, 2, 1])])
def test_a_batch_has_a_number_of_tokens_and_without_the_mask_one_length(
    is_causal, expected, monkeypatch
):
    monkeypatch.setattr(prefix, "PREFIX_TOKENS", 6)
    examples = [torch.zeros(n) for n in (1, 2, 2, 3)]
    assert [len(batch) for batch in prefix._batches(examples, is_causal)] == expected


@pytest.mark.parametrize("place", ["memory", "cache", "temporary file"])
def test_activations_are_the_same_in_each_place_and_half_as_large_in_bfloat16(
    place, tmp_path, monkeypatch
):
    expected, _ = activations_of()
    options = {"cache_dir": tmp_path} if place == "cache" else {}
    memory = 8 * expected.values.nbytes - (place == "temporary file")
    monkeypatch.setattr(prefix, "total_memory", lambda: memory)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    exact, short = activations_of(**options)
    assert torch.equal(exact.values, expected.values)
    where = {"memory": "in memory", "cache": f"in {tmp_path}/"}
    where = where.get(place, f"in a temporary file in {tmp_path}")
    assert f"17 distinct examples, 2 frozen blocks computed once, 0 MiB {where}" in short.report
    assert len(list(tmp_path.iterdir())) == (3 if place == "cache" else 0)
    rounded, again = (activations_of(**options, dtype=BF16)[0] for _ in range(2))
    assert (rounded.values.dtype, 2 * rounded.values.nbytes) == (BF16, exact.values.nbytes)
    assert torch.equal(rounded.values, again.values)
    assert again.is_reused == (place == "cache")
    assert 1e-5 < (rounded.values - exact.values).norm() / exact.values.norm() < 2e-2


@pytest.mark.parametrize("place", ["cache_dir", "activations"])
def test_activations_are_reused_with_the_seconds_that_they_took(place, runs, tmp_path):
    options = {"cache_dir": tmp_path} if place == "cache_dir" else {"activations": {}}
    first, short = activations_of(**options)
    assert (short.prefix_reused, "earlier run" in short.report) == (False, False)
    again, reused = activations_of("last_layer", **options)  # shares those of the last block
    assert reused.prefix_reused
    assert f"an earlier run that computed them in {first.seconds:.1f} s" in reused.report
    assert torch.equal(first.values, again.values)
    assert reused.prefix_seconds > again.seconds == first.seconds
    assert 0 < first.seconds < short.prefix_seconds < 60
    assert len(runs) == 1
    assert not activations_of(**options, conditions="other kernels")[1].prefix_reused
    assert len(runs) == 2
    assert len(list(tmp_path.glob("*.npy"))) == 2 * (place == "cache_dir")


class TwoProcesses(threading.local):
    """A `world` of two processes, each of which is a thread."""

    size, barrier, values = 2, threading.Barrier(2, timeout=30), [None, None]
    is_main = property(lambda self: self.rank == 0)

    def run(self, function):
        def run_one(rank):
            self.rank = rank
            return function()

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(run_one, range(2)))

    def exchange(self, value):
        self.values[self.rank] = value
        self.barrier.wait()
        found = [x.clone() if isinstance(x, torch.Tensor) else x for x in self.values]
        self.barrier.wait()
        return found

    def broadcast(self, value):
        return self.exchange(value)[0]

    def broadcast_(self, x):
        x.copy_(self.broadcast(x))

    def all_reduce_sum(self, x):
        x.copy_(sum(self.exchange(x)))


@pytest.mark.parametrize("cached", [False, True])
def test_processes_share_the_batches_or_receive_what_the_main_one_has(
    cached, runs, monkeypatch, tmp_path
):
    options = {"plain": classifier("last_block", "flexible")}
    expected, _ = activations_of(**options)
    options |= {"cache_dir": tmp_path} if cached else {}
    monkeypatch.setattr(prefix, "PREFIX_TOKENS", 20)
    monkeypatch.setattr(prefix, "world", TwoProcesses())
    memory = 8 * 2 * expected.values.nbytes - 1
    monkeypatch.setattr(prefix, "total_memory", lambda: memory)
    for count in (2, 0 if cached else 2):
        runs.clear()
        found = prefix.world.run(lambda: activations_of(**options)[0])
        assert len(runs) == count
        for of_process in found:
            assert_equal(of_process.values, expected.values, 1e-6)
        assert [x.is_reused for x in found] == [count == 0, False]
        assert ["temporary file" in x.place for x in found] == [not cached, True]
