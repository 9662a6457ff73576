"""Compare the memory estimates of runs with their measured peaks.

    python benchmarks/memory.py --rows 1 4 5 11 13          # with random weights, a few minutes
    python benchmarks/memory.py --rows 5 --flags=--activation_checkpointing
    python benchmarks/memory.py --rows 9 --processes 2      # sharded
    python benchmarks/memory.py --table                     # all records, as a Markdown table

Each run is a process of its own and makes three steps on 48 generated messages, so long that
moments, gradients and activations are there together. Random weights take the memory of pretrained
ones. The peak is that of the run's record, which on Linux includes pages of mapped files. Each run
writes a record to `benchmarks/memory/`; run it when nothing else needs the memory.
"""

import argparse
import json
import math
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.shortcuts import load_records, save_record
from experiments.config.parsing import parse_args
from experiments.config.rows import LONGEST_EXAMPLE
from experiments.data.sms_spam import demo_messages
from experiments.training.memory import Examples, Hardware, MemoryEstimate, estimate_memory

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "memory"
MIB = 2**20
STEPS, EXAMPLES = 3, 48


def flags_of(row: int, more: str) -> list[str]:
    """Return the flags of a row's short run, except for its data."""
    flags = ["--row", str(row), "--weights", "random", "--device", "cpu", *shlex.split(more)]
    flags += ["--max_steps", str(STEPS)]
    if parse_args(flags).data.context_length == "longest_training_example":
        flags += ["--context_length", str(LONGEST_EXAMPLE)]
    return flags


def estimate(row: int, more: str, processes: int = 1) -> MemoryEstimate:
    """Return the estimate of the same run, whose examples are padded and all different."""
    settings = parse_args(flags_of(row, more))
    length = settings.data.context_length
    if not isinstance(length, int):
        length = settings.design.config["context_length"]
    examples = Examples(length, EXAMPLES * length, num_classes=2)
    hardware = Hardware(math.inf, math.inf, processes=processes, shards=processes)
    return estimate_memory(settings, examples, hardware)


def record_of(flags: list[str], count: int, processes: int = 1) -> dict[str, Any]:
    """Return the record of a run on generated messages.

    Args:
        flags: of the run, except for its data.
        count: number of messages.
        processes: number of shards.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "messages.csv"
        messages = demo_messages(count // 2, count // 2)
        messages["Text"] = [f"{i} {text}" for i, text in enumerate(messages["Text"])]
        messages.to_csv(data, index=False)
        flags = [*flags, "--data", str(data), "--text_column", "Text", "--label_column", "Label"]
        script = [ROOT / "additional_experiments.py", "--output_dir", folder]
        if processes > 1:
            torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
            script = [*torchrun, *script, "--parallel", "shard"]
        subprocess.run([sys.executable, *script, *flags], check=True)
        (path,) = Path(folder).glob("*.json")
        return json.loads(path.read_text())


def measure(row: int, more: str, processes: int = 1) -> dict[str, Any]:
    """Return what is measured of one run."""
    record = record_of(flags_of(row, more), EXAMPLES, processes)
    return {
        "row": row,
        "flags": more,
        "processes": processes,
        "measured_mib": record["peak_memory_mib"],
        "train_seconds": record["seconds"]["train"],
        "versions": f"Python {record['environment']['python']}, torch {torch.__version__}",
        "date": time.strftime("%Y-%m-%d"),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Return records and today's estimates of the same runs as a Markdown table."""
    *parts, _ = MemoryEstimate._fields
    names = " | ".join(part.replace("_", " ") for part in parts)
    lines = [
        f"| row | model | flags | {names} | estimate, MiB | measured | difference |",
        f"| ---: | --- | --- |{' ---: |' * (len(parts) + 3)}",
    ]
    for r in sorted(records, key=lambda r: (r["processes"], r["flags"], r["row"])):
        found, measured = estimate(r["row"], r["flags"], r["processes"]), r["measured_mib"]
        model = parse_args(flags_of(r["row"], r["flags"])).model.model_size.partition(" ")[0]
        flags = f"`{r['flags']}`" if r["flags"] else ""
        if r["processes"] > 1:
            flags = f"{flags} `--parallel shard`, {r['processes']} processes".strip()
        sizes = " | ".join(f"{size / MIB:,.0f}" for size in found)
        difference = found.peak / MIB / measured - 1
        lines.append(f"| {r['row']} | {model} | {flags} | {sizes} | {measured:,.0f} "
                     f"| {difference:+.0%} |")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Measure rows, or print the table of the records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[])
    parser.add_argument("--flags", default="", help="of each run, in addition to those of its row")
    parser.add_argument("--processes", type=int, default=1, help="number of shards")
    parser.add_argument("--table", action="store_true", help="print the table of the records")
    arguments = parser.parse_args()
    for row in arguments.rows:
        record = measure(row, arguments.flags, arguments.processes)
        words = [f"row_{row:02d}", *arguments.flags.replace("--", "").split()]
        words += [f"{arguments.processes}_processes"] if arguments.processes > 1 else []
        save_record(RECORDS / f"{'_'.join(words)}.json", record)
        print(table([record]), flush=True)
    if arguments.table:
        print(table(load_records(RECORDS)))


if __name__ == "__main__":
    main()
