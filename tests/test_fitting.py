"""A run that cannot fit is told so before anything is fetched, with what would fit."""

import re
from dataclasses import replace

import pytest
import torch

from additional_experiments import main
from experiments.config.flags import identities_of_rows, parse_args
from experiments.runs import loop as runs
from experiments.runs import preparation
from experiments.runs.preparation import load_corpus, load_datasets
from experiments.system.terminal import Refused
from experiments.training import memory_fitting as fitting
from experiments.training.memory_fitting import (
    GIB,
    check_memory,
    count_messages,
    need_of,
    smaller_batches,
    ways_out,
)
from experiments.training.memory_workload import known_messages

CPU = torch.device("cpu")
PLAIN = ("--row", "5", "--weights", "random", "--no_shortcuts")


def need(*flags):
    settings = parse_args(flags)
    messages = known_messages(settings.reading, settings.network.config["context_length"])
    return need_of(settings, messages, CPU)


class WordTokenizer:
    """One token a word."""

    def encode(self, text):
        return [sum(map(ord, word)) for word in text.split()]


@pytest.fixture
def with_memory(monkeypatch):
    """Gives a run so many GiB, and fails where it goes on to files."""

    def give(gib):
        for module in (fitting, runs):
            monkeypatch.setattr(module, "available_memory", lambda _: gib * GIB)
        monkeypatch.setattr(runs, "gather_files", lambda *_: 1 / 0)

    return give


def refusal(capsys, *flags):
    with pytest.raises(SystemExit) as exit_:
        main(flags)
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_a_run_that_does_not_fit_ends_with_status_2_before_anything_is_fetched(
    capsys, with_memory, tmp_path
):
    with_memory(3.5)
    told = refusal(capsys, *PLAIN, "--output_dir", str(tmp_path))
    assert re.fullmatch(
        r"additional_experiments\.py: error: the memory is too small: 4\.\d GiB needed \(weights "
        r"0\.5, gradients 0\.5, optimiser 0\.9, activations 2\.\d, hidden states 0\.0\), 3\.5 GiB "
        r"available; what fits is --activation_checkpointing \(3\.4 GiB\), or --batch_size 2 "
        r"--accumulation_steps 4 \(2\.\d GiB\), or --parallel shard on 3 processes with as much "
        r"memory each \(3\.\d GiB\); --ignore_memory goes on as it is\n",
        told,
    )
    assert not list(tmp_path.glob("*.json"))


def test_a_run_goes_on_where_it_fits_or_is_told_to(with_memory, tmp_path, capsys):
    for gib, flags in (5, []), (1, ["--ignore_memory"]):
        with_memory(gib)
        with pytest.raises(ZeroDivisionError):  # at its files
            main([*PLAIN, *flags, "--output_dir", str(tmp_path)])
        assert f", {gib}.0 GiB available\n" in capsys.readouterr().out


def test_what_is_offered_fits_and_the_next_larger_batch_and_fewer_processes_do_not():
    found = need(*PLAIN, "--batch_size", "32")
    available = 4.2 * GIB
    batch, shard = ways_out(found, available)[-2:]
    size = batch[1].training.batch_size
    assert size * batch[1].training.accumulation_steps == 32
    larger = [way.peak for _, way in smaller_batches(found) if way.training.batch_size > size]
    assert batch[1].peak <= available < min(larger)
    fewer = shard[1].place._replace(processes=shard[1].place.processes - 1)
    assert shard[1].peak <= available
    assert fewer.processes < 2 or replace(found, place=fewer).peak > available


def test_two_ways_out_together_are_named_where_neither_does_alone():
    found = need("--row", "11", "--context_length", "model_context_length")
    both = replace(found, machine=replace(found.machine, activation_checkpointing=True))
    flags, smallest = list(smaller_batches(both))[-1]
    assert ways_out(found, smallest.peak)[0][0] == f"--activation_checkpointing {flags}"


def test_where_nothing_helps_a_smaller_model_is_named():
    with pytest.raises(Refused, match=r"GiB available; use a smaller --model_size; --ignore"):
        check_memory(need(*PLAIN), 1.0, ignore=False)


def test_a_recorded_run_is_not_held_against_the_memory(with_memory, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "is_finished", lambda _: True)
    with_memory(1)
    main([*PLAIN, "--output_dir", str(tmp_path)])
    assert "Recorded already" in capsys.readouterr().out


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file of messages of one's own, each word of which is a token."""
    file = tmp_path / "mine.csv"
    texts = [f"{kind} {'word ' * n}" for n in (88, 89, 90) for kind in ("yes", "no")] * 5
    lines = [f"{text},{text.partition(' ')[0]}" for text in texts]
    file.write_text("\n".join(["text,label", *lines]))
    monkeypatch.setattr(preparation, "load_gpt2_tokenizer", WordTokenizer)
    return file


def test_own_messages_are_measured_by_their_tokens(own):
    settings = parse_args(["--data", str(own), "--weights", "random"])
    corpus = load_corpus(settings.reading, settings.own)
    found = count_messages(load_datasets(corpus, settings.reading, 1024), 2)
    assert 89 <= found.length <= 91
    assert found.distinct <= 6
    assert found.tokens <= found.distinct * found.length
    assert sum(found.sizes.values()) == 30


def test_own_messages_that_need_too_much_end_with_status_2(own, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fitting, "available_memory", lambda _: GIB)
    monkeypatch.setattr(runs, "gather_files", lambda *_: None)
    flags = ["--data", str(own), "--weights", "random", "--output_dir", str(tmp_path / "results")]
    assert "the memory is too small: " in refusal(capsys, *flags, "--row", "5", "--batch_size", "4")


def test_the_new_flags_make_no_other_run():
    flags = ["--dry_run", "--ignore_memory", "--activation_checkpointing"]
    assert parse_args(flags).identity == parse_args([]).identity == identities_of_rows()[1]


# ------------------------------------------------------------------------------------------ plans


def plan(capsys, *flags):
    main([*flags, "--dry_run"])
    return capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--trainable_layers", "all"], ["--no_shortcuts"]])
def test_a_plan_says_what_the_run_then_says(flags, capsys):
    planned = plan(capsys, "--demo", *flags).splitlines()
    main(["--demo", "--max_steps", "1", *flags])
    ran = capsys.readouterr().out.splitlines()
    for start in ("Model: ", "Trainable: ", "Data: ", "Device: ", "Shortcuts: Hidden states: "):
        lines = [[line for line in lines if line.startswith(start)] for lines in (planned, ran)]
        assert lines[0] == lines[1], start
    assert any(line.startswith("Memory: ") for line in planned)


def test_a_plan_tells_steps_and_who_shares_hidden_states(capsys):
    told = plan(capsys, "--row", "15", "--num_seeds", "3")
    assert "Steps: 655, each of 8 batches; 5 epochs of 1,045 batches of 1; 3 seeds\n" in told
    assert "11 blocks computed once, 121 MiB in memory, which the seeds share\n" in told
    told = plan(capsys, "--cache_dir", "kept", "--max_steps", "7")
    assert "Steps: 7, each of 1 batches; 5 epochs of 130 batches of 8\n" in told
    assert "488 MiB in kept, for every run with the same frozen blocks\n" in told


def test_a_plan_fetches_and_leaves_nothing_and_says_what_does_not_fit(
    capsys, with_memory, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with_memory(3)
    told = plan(capsys, *PLAIN)
    assert "the memory is too small: " in told
    assert told.endswith("nothing was trained or recorded.\n")
    assert not list(tmp_path.iterdir())


def test_a_plan_of_a_baseline_has_no_network(capsys):
    told = plan(capsys, "--baseline", "majority")
    assert told == "Baseline: majority, which loads no network\n"


def test_of_several_rows_those_that_do_not_fit_are_passed_over_and_named(
    capsys, with_memory, tmp_path
):
    with_memory(0.1)
    with pytest.raises(SystemExit) as exit_:
        main(["--row", "1,5", "--weights", "random", "--output_dir", str(tmp_path)])
    assert exit_.value.code not in (0, None)
    told = capsys.readouterr().err
    assert told.count("the memory is too small: ") == 2


def test_a_plan_of_several_rows_is_one_of_each(capsys):
    told = plan(capsys, "--row", "1,5", "--weights", "random")
    assert told.count("Memory: ") == told.count("Dry run: ") == 2
