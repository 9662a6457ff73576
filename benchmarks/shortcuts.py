"""Time training with the reference and with the optimised implementation, row by row.

    python benchmarks/shortcuts.py --rows 1 2 3 --weights random
    python benchmarks/shortcuts.py --table        # the tables of docs/performance.md

Whole reference runs take hours. So training and evaluation batches are timed, in rounds that
alternate between both implementations in one process, and the median is multiplied by the number of
batches in a run; the frozen prefix is computed as a whole. Random weights take the same time as
pretrained ones. Each row writes one record to `benchmarks/records/`, by the name of the machine.

The allocator's setting of the optimised implementation cannot be undone, so the reference has it
too from its second batch on, and is slightly faster than `--no_shortcuts`.

Memory is the peak of the process's own pages (RssAnon; Linux), without mapped files.
"""

import argparse
import ctypes
import json
import math
import platform
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from experiments.config.parsing import parse_args
from experiments.config.settings import Settings
from experiments.data.corpus import load_corpus
from experiments.data.datasets import Splits, create_loaders, tokenize
from experiments.model.classifier import build_classifier
from experiments.runs.fingerprint import version_of
from experiments.shortcuts.model import OptimizedClassifier
from experiments.shortcuts.prefix import cache_frozen_prefix, distinct_examples, run_prefix
from experiments.system.devices import (
    choose_kernels,
    device_name,
    dtype_of,
    keep_freed_memory,
)
from experiments.training.loop import calc_loss_batch
from experiments.training.optimization import create_optimizer

RECORDS = Path(__file__).parent / "records"
CPU = torch.device("cpu")
NUM_CLASSES = 2
EVAL_FREQ, EVAL_BATCHES = 50, 10  # of a run: batches between evaluations, and of each


def seconds_of(action: Callable[[], Any]) -> float:
    """Return the seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def own_memory() -> float:
    """Return the size of the process's own pages now, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yield a list to which the size of the process's own pages is added repeatedly, in MiB."""
    seen, stop = [own_memory()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            seen.append(own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()


def best_product(precision: str) -> float:
    """Return the speed of the fastest matrix product of a layer's size, in GFLOP/s."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    x, weight = torch.randn(4096, 768).to(dtype), torch.randn(3072, 768).to(dtype)
    times = [seconds_of(lambda: nn.functional.linear(x, weight)) for _ in range(20)]
    return 2 * x.numel() * len(weight) / min(times) / 1e9


def batches_of(loader: DataLoader) -> Iterator[Any]:
    """Yield batches endlessly."""
    while True:
        yield from loader


class Implementation:
    """The reference or the optimised implementation, with the times of its batches."""

    def __init__(self, settings: Settings, model: nn.Module, datasets: Splits) -> None:
        self.model = model
        loaders = create_loaders(datasets, settings.training.batch_size)
        self.batches = {"train": batches_of(loaders.train), "eval": batches_of(loaders.validation)}
        training, fused = settings.training, not settings.runtime.no_shortcuts
        self.optimizer = create_optimizer(
            model, training.learning_rate, training.weight_decay, fused
        )
        self.accumulation_steps = settings.training.accumulation_steps
        self.seconds: dict[str, list[float]] = {"train": [], "eval": []}

    def train(self) -> None:
        """Make one optimiser step."""
        self.model.train()
        for _ in range(self.accumulation_steps):
            *inputs, labels = next(self.batches["train"])
            (calc_loss_batch(inputs, labels, self.model, CPU) / self.accumulation_steps).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def eval(self) -> None:
        """Evaluate one batch."""
        self.model.eval()
        *inputs, labels = next(self.batches["eval"])
        calc_loss_batch(inputs, labels, self.model, CPU)

    def measure(self, count: int) -> None:
        """Time some batches of both kinds, after one of each that does not count."""
        self.train()
        self.eval()
        for _ in range(count):
            self.seconds["train"].append(seconds_of(self.train) / self.accumulation_steps)
            self.seconds["eval"].append(seconds_of(self.eval))

    def total(self, batches: dict[str, int], prefix_seconds: float = 0.0) -> list[float]:
        """Return the seconds of a whole run, from the quartiles of its batches' times."""
        quartiles = {kind: statistics.quantiles(s, n=4) for kind, s in self.seconds.items()}
        return [
            prefix_seconds + sum(batches[k] * quartiles[k][i] for k in batches) for i in range(3)
        ]

    def flop(self, batches: dict[str, int]) -> float:
        """Return the operations of a whole run's batches, as PyTorch counts them."""
        with FlopCounterMode(display=False) as train:
            self.train()
        with FlopCounterMode(display=False) as evaluation:
            self.eval()
        each = train.get_total_flops() / self.accumulation_steps
        return batches["train"] * each + batches["eval"] * evaluation.get_total_flops()


def datasets_of(settings: Settings) -> Splits:
    """Return the data sets of a run."""
    corpus = load_corpus(settings.data, settings.custom)
    return tokenize(corpus, settings.data, settings.design.config["context_length"])


def flop_of_prefix(model: OptimizedClassifier, settings: Settings) -> float:
    """Return the operations of the whole frozen prefix, from those per token of its last batch."""
    if model.depth is None:
        return 0.0
    examples, _ = distinct_examples(settings.design, datasets_of(settings))
    some = examples[-8:]
    values = torch.empty(sum(map(len, some)), model.pos_emb.weight.shape[1])
    with FlopCounterMode(display=False) as counter:
        run_prefix(model, some, values)
    return counter.get_total_flops() / len(values) * sum(map(len, examples))


def measure_row(row: int, flags: list[str], rounds: int, count: int) -> dict[str, Any]:
    """Return the record of one row."""
    settings = parse_args(["--row", str(row), *flags])
    runtime = replace(settings.runtime, no_shortcuts=True, precision="float32")
    of_reference = replace(settings, runtime=runtime)
    datasets = datasets_of(settings)
    empty = own_memory()
    torch.backends.mkldnn.matmul.fp32_precision = "none"
    with peak_memory() as reference_memory:
        model = build_classifier(of_reference, NUM_CLASSES)
        reference = Implementation(of_reference, model, datasets)
        reference.measure(1)
        del model

    ctypes.CDLL(None).malloc_trim(0)  # returns to the system what the reference has freed
    before = own_memory()
    kernels = choose_kernels(CPU)
    keep_freed_memory()
    with peak_memory() as optimized_memory:
        model = build_classifier(settings, NUM_CLASSES)
        started = time.perf_counter()
        dtype = dtype_of(settings.runtime.precision)
        model, fast_datasets, *_ = cache_frozen_prefix(model, datasets, dtype=dtype)
        prefix_seconds = time.perf_counter() - started
        optimized = Implementation(settings, model, fast_datasets)
        optimized.measure(1)
    for _ in range(rounds):
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        reference.measure(count)
        choose_kernels(CPU)
        optimized.measure(count)

    train_batches = settings.training.num_epochs * (
        len(datasets.train) // settings.training.batch_size
    )
    evaluations = math.ceil(train_batches / EVAL_FREQ) + settings.training.num_epochs
    batches = {"train": train_batches, "eval": EVAL_BATCHES * evaluations}
    reference_seconds = reference.total(batches)
    optimized_seconds = optimized.total(batches, prefix_seconds)
    flop = optimized.flop(batches) + flop_of_prefix(model, settings)
    best = best_product(settings.runtime.precision)
    return {
        "row": row,
        "precision": settings.runtime.precision,
        "kernels": kernels,
        "plain_seconds": reference_seconds,  # lower quartile, median, upper quartile, like the next
        "fast_seconds": optimized_seconds,
        "ratio": reference_seconds[1] / optimized_seconds[1],
        "prefix_seconds": prefix_seconds,
        "plain_memory_mib": max(reference_memory),
        "fast_memory_mib": max(optimized_memory) - before + empty,
        "gflop": flop / 1e9,
        "best_gflop_per_second": best,
        "batches_timed": len(reference.seconds["train"]),
        **made_with(),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| row | precision | reference, s | optimised, s | ratio | prefix | floor, s "
        "| GFLOP/s, of best | memory: reference, MiB | optimised |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in sorted(records, key=lambda r: (r["precision"] != "float32", r["row"])):
        (p_low, plain, p_high), (f_low, fast, f_high) = r["plain_seconds"], r["fast_seconds"]
        lines.append(
            f"| {r['row']} | {r['precision']} | {plain:,.0f} ({p_low:,.0f}-{p_high:,.0f}) "
            f"| {fast:,.0f} ({f_low:,.0f}-{f_high:,.0f}) | {r['ratio']:.1f} "
            f"| {r['prefix_seconds'] / fast:.0%} | {r['gflop'] / r['best_gflop_per_second']:,.0f} "
            f"| {r['gflop'] / fast:,.0f} of {r['best_gflop_per_second']:,.0f} "
            f"| {r['plain_memory_mib']:,.0f} | {r['fast_memory_mib']:,.0f} |"
        )
    return "\n".join(lines)


def made_with(*libraries: str) -> dict[str, str]:
    """Return the machine, the versions and the day for a record."""
    versions = [f"{name} {version_of(name)}" for name in ("torch", *libraries)]
    return {
        "machine": f"{device_name(CPU)}, {torch.get_num_threads()} threads",
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "date": time.strftime("%Y-%m-%d"),
    }


def slug_of(machine: str) -> str:
    """Return the name of a machine's folder, such as `amd_epyc`."""
    words = re.sub(r"\(\w+\)", " ", machine.partition(", ")[2].rpartition(", ")[0]).split()
    return "_".join(words[:2]).lower()


def save_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def load_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def main() -> None:
    """Measure rows, or print the tables of the records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=3, help="of alternating measurements")
    parser.add_argument("--batches", type=int, default=4, help="timed in a round, of each kind")
    parser.add_argument("--table", action="store_true", help="print the table of the records")
    arguments, flags = parser.parse_known_args()
    for row in arguments.rows:
        record = measure_row(row, flags, arguments.rounds, arguments.batches)
        folder = RECORDS / slug_of(record["machine"])
        save_record(folder / f"row_{row:02d}_{record['precision']}.json", record)
        print(table([record]), flush=True)
    if arguments.table:
        for folder in sorted(path for path in RECORDS.iterdir() if path.is_dir()):
            print(table(load_records(folder)), end="\n\n")


if __name__ == "__main__":
    main()
