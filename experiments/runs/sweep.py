"""Several rows in one process: in the order that shares most, with what is done and what remains.

    sweep(parse_rows(["--row", "1-5,10,16"]), corpus)

Rows with the same weights, mask and needed tokens follow each other, so that the hidden states of
their frozen layers are computed once. A run that fails is told and passed over; one that another
worker on the same folder has claimed is passed over too, and looked at again in the end.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from experiments.config.rows import name_of_row
from experiments.config.settings import Settings
from experiments.data.corpus import Corpus
from experiments.runs.experiment import Memo
from experiments.runs.loop import Outcome, run_and_record
from experiments.system.terminal import Refused
from experiments.system.torchrun import count_processes
from experiments.training.memory_parameters import blocks_trained_through


def shared_by(settings: Settings) -> tuple[Any, ...]:
    """Returns what the hidden states of a run's frozen layers depend on, but for seed and data."""
    network, reading = settings.network, settings.reading
    if network.reads_first_alone:
        tokens = "the first"
    elif network.reads_to_last_real or reading.no_padding:
        tokens = "their own"
    else:
        tokens = "all"
    blocks = blocks_trained_through(network.trainable_layers, network.config["n_layers"])
    behind = max(1, blocks)  # of the hidden states; rows that freeze all blocks share one block's
    length = str(reading.context_length)
    return network.model_size, network.weights, network.disable_causal_mask, length, tokens, behind


class Run(NamedTuple):
    """A run of a sweep."""

    row: int
    settings: Settings  # of one seed

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{name_of_row(self.row)}, seed {self.settings.seed}"


def order_runs(rows: Mapping[int, Settings]) -> list[Run]:
    """Returns a run for each row and seed, in the order that shares most.

    Args:
        rows: settings by the number of the row.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row in sorted(rows, key=lambda row: (rows[row].network.config["n_layers"], row)):
        groups.setdefault(shared_by(rows[row]), []).append(row)
    first = next(iter(rows.values()))
    return [
        Run(row, replace(rows[row], seed=seed))
        for group in groups.values()
        for seed in range(first.seed, first.seed + first.num_seeds)
        for row in group
    ]


def sweep(rows: Mapping[int, Settings], corpus: Corpus | None) -> None:
    """Makes the runs of several rows, unless they are recorded already.

    Args:
        rows: settings by the number of the row.
        corpus: the user's own messages, if there are any.

    Raises:
        ValueError: in the end, when runs failed; names them.
        OSError: with several processes, which a failure puts out of step, like the others; at once.
    """
    runs, failed = order_runs(rows), []
    memo = Memo()
    passed_over = make_runs(runs, memo, corpus, failed, waits=False)
    if passed_over:
        print(f"Back to {len(passed_over)} that other processes had claimed")
        make_runs(passed_over, memo, corpus, failed, waits=True)
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")


def make_runs(
    runs: Sequence[Run],
    memo: Memo,
    corpus: Corpus | None,
    failed: list[str],
    waits: bool,
) -> list[Run]:
    """Makes runs one after the other, and returns those that were passed over.

    Args:
        runs: in their order.
        memo: keeps what the next run can share.
        corpus: the user's own messages, if there are any.
        failed: gets the names of those that fail.
        waits: for other processes that have claimed a run.
    """
    passed_over, shared = [], None
    pace: list[float] = []  # seconds of each run that was made
    for done, run in enumerate(runs):
        if shared_by(run.settings) != shared:
            memo.hidden_states.clear()  # first, so that it never stands beside the next model
            shared = shared_by(run.settings)
        print(f"\nRun {done + 1} of {len(runs)}: {run.name}; {left(pace, done, len(runs))}")
        started = time.monotonic()
        try:
            outcome = run_and_record(run.settings, memo, corpus, waits)
        except (OSError, ValueError, MemoryError, Refused) as error:
            if count_processes() > 1:
                raise
            print(f"Failed: {run.name}: {error}", file=sys.stderr)
            failed.append(run.name)
            continue
        if outcome == Outcome.MADE:
            pace.append(time.monotonic() - started)
        elif outcome == Outcome.CLAIMED:
            passed_over.append(run)
    return passed_over


def left(pace: Sequence[float], done: int, total: int) -> str:
    """Returns in words what is done, and how long the rest takes at the pace of the runs made.

    Args:
        pace: seconds of each run that was made; others were recorded, failed or passed over.
        done: how many runs are behind.
        total: how many there are.
    """
    if not pace:
        return f"{done} done"
    rest = sum(pace) / len(pace) * (total - done)
    made = f"{len(pace)} of them made in {in_words(sum(pace))}"
    return f"{done} done, {made}, some {in_words(rest)} remain"


def in_words(seconds: float) -> str:
    """Returns a time in seconds, or in minutes where it is longer than two."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
