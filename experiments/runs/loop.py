"""The loop over runs: one run, several seeds, several rows.

    run_all(parse_runs(["--row", "1-5,16", "--num_seeds", "3"]), run_experiment)

Each run writes a record, and a run that is recorded already is skipped. Runs whose frozen layers
have the same inputs and outputs follow each other, so that these are computed once. A run is locked
while it is computed: several processes, also of several machines, can share a folder of records.
The system releases the lock when its owner ends, however that happens.
"""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.arguments import LENGTHS
from experiments.config.checks import find_training_conflict
from experiments.config.naming import name_of
from experiments.config.rows import LONGEST_EXAMPLE
from experiments.config.settings import Settings
from experiments.runs.fingerprint import begin_record
from experiments.runs.records import read_finished, record_path, rename_design
from experiments.system.distributed import START_TIMEOUT, world
from experiments.system.downloads import naming_missing
from experiments.system.files import check_writable, locked, naming
from experiments.system.terminal import UsageError, describe_error, printable

if TYPE_CHECKING:
    from experiments.data.corpus import Corpus
    from experiments.data.datasets import Splits
    from experiments.runs.results import Recorder, Result
    from experiments.shortcuts.prefix import CachedActivations

USUAL_EXAMPLE = 25  # tokens
LOCKS = ".locks"  # folder next to the records
RunExperiment = Callable[..., "Result | None"]


@dataclass
class RunCache:
    """What the runs of one process share: data, tokens, and the last cached activations."""

    corpora: "dict[Any, Corpus]" = field(default_factory=dict)
    tokenized: "dict[Any, Splits]" = field(default_factory=dict)
    activations: "dict[str, CachedActivations] | None" = None  # None: there is no later run
    results: dict[str, str] = field(default_factory=dict)  # accuracy of each recorded run

    def corpus(self, settings: Settings) -> "Corpus":
        """Return the examples of a run; read them if no run has done so."""
        key = settings.data.demo, settings.data.data_dir, settings.custom
        if key not in self.corpora:
            from experiments.data.corpus import load_corpus

            with world.main_first():  # it downloads and writes what the others read
                self.corpora[key] = load_corpus(settings.data, settings.custom)
        return self.corpora[key]

    def datasets(self, settings: Settings) -> "Splits":
        """Return the tokenized examples of a run; tokenize them if no run has done so."""
        corpus, length = self.corpus(settings), settings.design.config["context_length"]
        key = corpus.digest, settings.data, length
        if key not in self.tokenized:
            from experiments.data.datasets import tokenize

            with world.main_first():
                self.tokenized[key] = tokenize(corpus, settings.data, length)
        return self.tokenized[key]


class Outcome(Enum):
    """The outcome of a run."""

    DONE = "done"
    RECORDED = "recorded already"
    LOCKED = "locked by another process"


# ------------------------------------------------------------------------------------------- order


def shared_prefix(settings: Settings) -> tuple[Any, ...]:
    """Return what the activations of a run's frozen layers depend on, except seed and data."""
    design, data = settings.design, settings.data
    weights = settings.weights.description, settings.weights.sha256
    tokens = str(data.context_length), design.needed_tokens(data.no_padding)
    after = max(1, design.num_trained_blocks)  # all blocks frozen: the last one is computed anew
    return *weights, design.disable_causal_mask, *tokens, after


def order_runs(runs: Sequence[Settings]) -> list[Settings]:
    """Return the runs in the order that shares most: small models first, equal prefixes together.

    Within a prefix, all designs of one seed follow each other, since random weights have a seed.
    """
    groups: dict[tuple[Any, ...], list[Settings]] = {}
    for settings in sorted(runs, key=lambda s: s.design.config["n_layers"]):
        groups.setdefault(shared_prefix(settings), []).append(settings)
    return [s for group in groups.values() for s in sorted(group, key=lambda s: s.seed)]


def _name_of(settings: Settings) -> str:
    seed = "" if settings.baseline else f", seed {settings.seed}"
    return f"{name_of(settings)}{seed}"


def _without_repetitions(runs: Sequence[Settings]) -> list[Settings]:
    """Print notes, and return the runs without those that equal an earlier one."""
    for note in dict.fromkeys(note for settings in runs for note in settings.notes):
        print(note)
    found: dict[str, Settings] = {}
    for s in runs:
        found.setdefault(repr([s.identity, s.weights.sha256, s.custom, s.seed]), s)
    return list(found.values())


# -------------------------------------------------------------------------------------------- runs


def run_all(runs: Sequence[Settings], run_experiment: RunExperiment) -> None:
    """Run each experiment that is not recorded already, and record it.

    Of several runs, one that another process has locked is skipped, and looked at again in the end;
    one that fails does not end the others, except with several processes, which are then out of
    step.

    Raises:
        ValueError: in the end, if some of several runs failed; names them.
        UsageError: if custom data cannot be used.
    """
    runs = order_runs(_without_repetitions(runs))
    if runs[0].output.dry_run and len(runs) > 1:  # seeds have the same plan
        plans = [settings for settings in runs if settings.seed == runs[0].seed]
        designs = f"{len(plans)} designs, each" if len(plans) > 1 else "one design,"
        print(f"{len(runs)} runs: {designs} printed once")
        runs = plans
    cache = RunCache(activations={} if len(runs) > 1 else None)
    world.check_equal(_shared_facts(runs), START_TIMEOUT)
    _check_custom_data(runs, cache)
    pending, prefix = [(settings, False) for settings in runs], None
    seconds, failed = [], []  # cost and seconds of the runs that were made, and names of others
    for number, (settings, wait) in enumerate(pending, start=1):
        if shared_prefix(settings) != prefix:
            if cache.activations:
                cache.activations.clear()  # before the next model is built
            prefix = shared_prefix(settings)
        name, left = printable(_name_of(settings)), _time_left(seconds, pending[number - 1 :])
        several = f"\nRun {number} of {len(pending)}: {name}{left}"
        print(several if len(runs) > 1 else f"Run: {name}")
        started = time.monotonic()
        try:
            outcome = _run_and_record(settings, cache, run_experiment, wait)
        except (OSError, ValueError, MemoryError, UsageError) as error:
            if len(runs) == 1 or world.size > 1:
                raise
            print(printable(f"Failed: {name}: {describe_error(error)}"), file=sys.stderr)
            failed.append(name)
            continue
        if outcome == Outcome.DONE and not settings.output.dry_run:
            seconds.append((_cost(settings), time.monotonic() - started))
        elif outcome == Outcome.LOCKED and len(runs) > 1 and not wait:
            pending.append((settings, True))
    _print_summary(runs, cache.results)
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")


def _shared_facts(runs: Sequence[Settings]) -> dict[str, Any]:
    """Return what all processes need to have in common: all but paths, devices and versions."""
    facts: dict[str, Any] = {"number of runs": len(runs)}
    for number, s in enumerate(runs, start=1):
        own = s.identity | {
            "seed": s.seed, "row": s.row, "network": s.design.config, "weights": s.weights.sha256,
            "no_shortcuts": s.runtime.no_shortcuts, "parallel": s.runtime.parallel,
            "activation_checkpointing": s.runtime.activation_checkpointing,
            "save_model": bool(s.output.save_model), "save_whole": s.output.save_whole,
            "dry_run": s.output.dry_run, "data": bool(s.custom.data),
            "cache_dir": bool(s.runtime.cache_dir),
        }  # fmt: skip
        facts |= {f"{name} (run {number})": value for name, value in own.items()}
    return facts


def _run_and_record(
    settings: Settings, cache: RunCache, run_experiment: RunExperiment, wait: bool
) -> Outcome:
    """Run an experiment and write its record, unless there is one already."""
    output = settings.output
    if settings.baseline:
        run_experiment = _run_baseline
    if output.dry_run or settings.data.demo:  # printed, not recorded
        with naming_missing(partial(_missing_files, settings)):
            run_experiment(settings, cache)
        return Outcome.DONE
    if world.is_main:
        for folder in filter(None, (output.output_dir, output.tensorboard)):
            check_writable(folder)  # now, and not after hours
    corpus = cache.corpus(settings) if settings.custom.data else None
    record = begin_record(settings, corpus)
    path = record_path(output.output_dir, record)
    with _lock(path, wait) as is_locked:
        if not is_locked:
            return Outcome.LOCKED
        run = None if output.overwrite else read_finished(path)
        is_recorded = run and _is_saved(settings, record["digest"])
        if accuracy := world.broadcast(_describe(run.correct) if is_recorded else None):
            cache.results[_name_of(settings)] = accuracy
            print(printable(f"Recorded already, {accuracy} (--overwrite repeats it): {path}"))
            if output.name and world.is_main:
                rename_design(path, output.name)
            return Outcome.RECORDED
        from experiments.runs.results import Recorder

        recorder = Recorder(output.output_dir, record, path.parent / LOCKS / f"{path.stem}.state")
        try:
            with naming_missing(partial(_missing_files, settings)):
                result = run_experiment(settings, cache, recorder)
        except (ValueError, RuntimeError, MemoryError) as error:  # not OSError: of the machine
            recorder.write_failure(error)
            raise
        cache.results[_name_of(settings)] = _describe(result.correct)
    return Outcome.DONE


def _describe(correct: Mapping[str, Sequence[int]]) -> str:
    count, total = correct["test"]
    return f"test accuracy {count / total:.2%}"


def _print_summary(runs: Sequence[Settings], results: dict[str, str]) -> None:
    """Print the accuracies of several recorded runs, and what to do next."""
    if len(runs) > 1 and results:
        print("\nSummary:")
        for name in map(_name_of, runs):
            print(f"  {printable(name)}: {results.get(name, 'not recorded')}")
    if results and world.is_main:
        output = runs[0].output
        folder = "" if output.output_dir == Path("results") else f" --results {output.output_dir}"
        path = runs[0].model_path
        other = f'python classify.py {path} "A text"' if path else "--save_model saves a classifier"
        other = "" if runs[0].baseline else f"; {other}"
        print(printable(f"Next: python compare_experiments.py{folder}{other}"))


def _run_baseline(
    settings: Settings, cache: RunCache, record: "Recorder | None" = None
) -> "Result | None":
    """Run a non-neural baseline on the splits of the networks."""
    from experiments.runs.results import Clock, Result, describe_result
    from experiments.training.baselines import check_baseline_memory, evaluate_baseline
    from experiments.training.loop import History

    name, clock, corpus = settings.baseline, Clock(), cache.corpus(settings)
    print(check_baseline_memory(name, corpus, settings.runtime.ignore_memory))
    if settings.output.dry_run:
        print(f"Baseline: {name}")
        return None
    clock.stop("load")
    evaluation = evaluate_baseline(name, corpus)
    clock.stop("train")
    result = Result(corpus, History(), *evaluation, clock.seconds)
    print(describe_result(result, settings))
    if record:
        record.write(result)
    return result


@contextmanager
def _lock(record: Path, wait: bool) -> Iterator[bool]:
    """Yield whether the run of a record is locked for this process and those that share it.

    With `wait`, wait for another process that has locked the run.
    """
    if not world.is_main:
        yield world.broadcast(None)
        return
    folder = record.parent / LOCKS
    holder = folder / f"{record.stem}.holder"
    with locked(folder / f"{record.stem}.lock", wait) as is_locked:
        if is_locked:
            moment = datetime.now().astimezone().isoformat(" ", "minutes")
            with naming(holder):
                holder.write_text(f"process {os.getpid()} on {platform.node()} since {moment}")
        else:
            who = holder.read_text() if holder.is_file() else "another process"
            print(printable(f"Skipped: {who} is running it: {record}"))
        try:
            yield world.broadcast(is_locked)
        finally:
            if is_locked:
                holder.unlink(missing_ok=True)


def _missing_files(settings: Settings) -> list[str]:
    """Return how to place by hand each file of a run that is not on this machine."""
    from experiments.data import sms_spam
    from gpt_download import missing_files

    if settings.data.demo:
        return []
    missing = [] if settings.custom.data else sms_spam.missing_files(settings.data.data_dir)
    if not settings.baseline:
        size = settings.weights.model_size if settings.weights.kind == "pretrained" else None
        missing += missing_files(size)
    return missing


def _is_saved(settings: Settings, digest: str) -> bool:
    if not settings.output.save_model:
        return True
    from experiments.model.saved import is_saved

    return is_saved(settings, digest)


def _check_custom_data(runs: Sequence[Settings], cache: RunCache) -> None:
    """Print what custom data are; raise UsageError if they do not fit, or are too few for a run."""
    if not runs[0].custom.data:
        return
    from experiments.runs.results import describe_corpus

    try:
        corpus = cache.corpus(runs[0])
    except (OSError, ValueError) as error:
        found = "\n".join([str(error), *getattr(error, "__notes__", ())])
        raise UsageError(found) from error
    world.check_equal({"data of SHA-256": corpus.digest})
    print(describe_corpus(corpus))
    for settings in runs:
        problem = find_training_conflict(settings.training, len(corpus.splits["train"]))
        if problem and not settings.baseline:
            raise UsageError(problem)


def _time_left(done: Sequence[tuple[float, float]], pending: Sequence[Any]) -> str:
    """Return the time left, from costs and seconds of the runs that were made."""
    if not done:
        return ""
    costs, seconds = map(sum, zip(*done, strict=True))
    left = seconds / costs * sum(_cost(settings) for settings, _ in pending)
    return f" (about {left:.0f} s left)" if left < 120 else f" (about {left / 60:.0f} minutes left)"


def _cost(settings: Settings) -> float:
    """Return about how much a run computes, in any unit: tokens times weights times passes."""
    design, data = settings.design, settings.data
    length = {"model_context_length": design.config["context_length"], LENGTHS[0]: LONGEST_EXAMPLE}
    tokens = {"first": 1, "real": USUAL_EXAMPLE, "all": None}[design.needed_tokens(data.no_padding)]
    tokens = tokens or length.get(data.context_length, data.context_length)
    passes = 3 * settings.training.num_epochs * max(design.num_trained_blocks, 0.1)  # and backward
    return tokens * design.config["emb_dim"] ** 2 * (design.num_frozen_blocks + passes)
