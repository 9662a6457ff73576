"""Growth of time and memory with the number of messages, their tokens, and the model's size.

    python benchmarks/growth.py            # a quarter of an hour; writes benchmarks/growth.json
    python benchmarks/growth.py --table    # the table of docs/performance.md

Each run is a process of its own, on generated messages with random weights. The exponent of growth
since the previous size is 1 where twice the size takes twice as long.
"""

import argparse
import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.memory import record_of
from benchmarks.shortcuts import made_with, save_record

RECORD = Path(__file__).parent / "growth.json"
RANDOM = ["--weights", "random", "--device", "cpu", "--num_epochs", "1"]


class Run(NamedTuple):
    """A run, and its size."""

    size: float
    flags: str
    messages: int = 48


GROWTHS = {  # by what grows
    "messages (row 1)": [
        Run(n, "--row 1 --context_length 120", n) for n in (120, 480, 1920)
    ],
    "tokens (row 5, three steps)": [
        Run(n, f"--row 5 --context_length {n} --max_steps 3") for n in (120, 480, 1024)
    ],
    "tokens (row 1)": [Run(n, f"--row 1 --context_length {n}") for n in (120, 480, 1024)],
    "weights of the blocks, millions (row 5, three steps)": [
        Run(n, f"--row 5 --context_length 120 --max_steps 3 --model_size {name!r}")
        for n, name in (
            (85, "gpt2-small (124M)"), (302, "gpt2-medium (355M)"), (708, "gpt2-large (774M)"),
        )
    ],
}  # fmt: skip


def measure(run: Run) -> dict[str, Any]:
    """Return the seconds and the peak memory of a run."""
    record = record_of([*RANDOM, *shlex.split(run.flags)], run.messages)
    seconds = record["seconds"]
    return {
        "size": run.size,
        "seconds": seconds["prefix"] + seconds["train"],
        "peak_mib": record["peak_memory_mib"],
    }


def exponent(first: dict[str, Any], second: dict[str, Any], name: str) -> float:
    """Return the exponent of a figure's growth from one run to the next."""
    return math.log(second[name] / first[name]) / math.log(second["size"] / first["size"])


def table(record: dict[str, Any]) -> str:
    """Return the record as a Markdown table."""
    lines = [
        "| variable | size | training, s | exponent | peak memory, MiB | exponent |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for what, runs in record["growths"].items():
        for i, run in enumerate(runs):
            grown = ["", ""]
            if i:
                grown = [f"{exponent(runs[i - 1], run, n):.2f}" for n in ("seconds", "peak_mib")]
            lines.append(
                f"| {what if i == 0 else ''} | {run['size']:,} | {run['seconds']:,.1f} "
                f"| {grown[0]} | {run['peak_mib']:,.0f} | {grown[1]} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure everything, or print the table of the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--table", action="store_true", help="print the table of the record")
    if not parser.parse_args().table:
        record = {
            "growths": {what: [measure(run) for run in runs] for what, runs in GROWTHS.items()},
            **made_with(),
        }
        save_record(RECORD, record)
    print(table(json.loads(RECORD.read_text())))


if __name__ == "__main__":
    main()
