"""Holds the memory that runs are said to need against the peaks that they had, a process each.

    python benchmarks/memory.py --rows 1 4 5 11 13          # with random weights, a few minutes
    python benchmarks/memory.py --rows 5 --flags=--activation_checkpointing
    python benchmarks/memory.py --rows 9 --processes 2      # that share out the blocks
    python benchmarks/memory.py --table       # the table of docs/memory.md, from the records

Each run makes three steps on 48 made-up messages, padded as the row has it: so long that moments,
gradients and activations are there together. Random weights take the memory of pretrained ones.
The peak is the one of the run's record, which on Linux counts the pages of mapped files, too. Each
run leaves one record in `benchmarks/memory/`; run it where nothing else needs the memory.
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
from experiments.config.flags import parse_args
from experiments.config.sizes import LONGEST_MESSAGE
from experiments.data.demo import demo_messages
from experiments.training.memory_estimate import Need
from experiments.training.memory_workload import Place, known_messages

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "memory"
MIB = 2**20
STEPS = 3
MESSAGES = 48
PARTS = ("weights", "gradients", "optimiser", "activations", "hidden_states")


def flags_of(row: int, more: str) -> list[str]:
    """Returns the flags of a row's short run, but for its messages."""
    flags = ["--row", str(row), "--weights", "random", "--device", "cpu", *shlex.split(more)]
    flags += ["--max_steps", str(STEPS)]
    if parse_args(flags).reading.context_length == "longest_training_example":
        flags += ["--context_length", str(LONGEST_MESSAGE)]
    return flags


def estimate(row: int, more: str, processes: int = 1) -> Need:
    """Returns the memory that the same run is said to need in each process."""
    settings = parse_args(flags_of(row, more))
    messages = known_messages(settings.reading, settings.network.config["context_length"])
    messages = messages._replace(distinct=MESSAGES, tokens=MESSAGES * messages.length)
    place = Place(total=math.inf, processes=processes, sharded=processes > 1)
    return Need(settings.network, settings.training, settings.machine, messages, place)


def record_of(flags: list[str], messages: int, processes: int = 1) -> dict[str, Any]:
    """Returns the record that a run on made-up messages leaves.

    Args:
        flags: of the run, but for its messages.
        messages: how many are made up.
        processes: that share out the blocks.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "messages.csv"
        made_up = demo_messages(messages // 2, messages // 2)
        made_up["Text"] = [f"{i} {text}" for i, text in enumerate(made_up["Text"])]  # all distinct
        made_up.to_csv(data, index=False)
        flags = [*flags, "--data", str(data), "--text_column", "Text", "--label_column", "Label"]
        script = [ROOT / "additional_experiments.py", "--output_dir", folder]
        if processes > 1:
            torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
            script = [*torchrun, *script, "--parallel", "shard"]
        subprocess.run([sys.executable, *script, *flags], check=True)
        (record,) = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    return record


def measure(row: int, more: str, processes: int = 1) -> dict[str, Any]:
    """Returns what is measured of one run, in processes of its own."""
    record = record_of(flags_of(row, more), MESSAGES, processes)
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
    """Returns the records beside what is estimated of the same runs, as a Markdown table."""
    lines = [
        "| row | model | flags | weights | gradients | optimiser | activations | hidden states "
        "| estimated, MiB | measured | difference |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in sorted(records, key=lambda r: (r["processes"], r["flags"], r["row"])):
        need, measured = estimate(r["row"], r["flags"], r["processes"]), r["measured_mib"]
        model = need.network.model_size.partition(" ")[0]
        flags = f"`{r['flags']}`" if r["flags"] else ""
        if r["processes"] > 1:
            flags = f"{flags} `--parallel shard`, {r['processes']} processes".strip()
        parts = " | ".join(f"{getattr(need, part) / MIB:,.0f}" for part in PARTS)
        lines.append(
            f"| {r['row']} | {model} | {flags} | {parts} | {need.peak / MIB:,.0f} "
            f"| {measured:,.0f} | {need.peak / MIB / measured - 1:+.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures rows, or prints the table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[])
    parser.add_argument("--flags", default="", help="of each run, besides those of its row")
    parser.add_argument("--processes", type=int, default=1, help="that share out the blocks")
    parser.add_argument("--table", action="store_true", help="print the table of the records")
    arguments = parser.parse_args()
    for row in arguments.rows:
        record = measure(row, arguments.flags, arguments.processes)
        words = [f"row_{row:02d}", *arguments.flags.replace("--", "").split()]
        words += [f"{arguments.processes}_processes"] if arguments.processes > 1 else []
        name = "_".join(words)
        save_record(RECORDS / f"{name}.json", record)
        print(table([record]), flush=True)
    if arguments.table:
        print(table(load_records(RECORDS)))


if __name__ == "__main__":
    main()
