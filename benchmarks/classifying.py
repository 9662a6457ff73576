"""Times a saved classifier against loops of single calls: messages a second, of the same messages.

    python benchmarks/classifying.py --rows 1 16      # gpt2-small's size, random weights; minutes
    python benchmarks/classifying.py --table          # the table of docs/own_data.md

Three ways take turns in one process, each on the published test messages: the plain model on one
padded message at a time, as a reader of the book writes it; the classifier asked for one message at
a time; and the classifier asked for all. Each row leaves one record in `benchmarks/classifying/`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.shortcuts import load_records, save_record, seconds_of
from experiments.config.flags import parse_args
from experiments.model.bases import describe_saved
from experiments.model.prediction import Classifier
from experiments.runs.preparation import build_classifier, load_corpus, load_datasets
from experiments.system.devices import choose_kernels, device_name
from gpt_download import load_gpt2_tokenizer

RECORDS = Path(__file__).parent / "classifying"
CPU = torch.device("cpu")
BATCH_SIZE = 32  # the default of `classify.py`
LOOP = 60  # messages of a loop of single calls; the others take all
WAYS = {
    "plain": "the book's way, one by one",
    "single": "`classify`, one by one",
    "all": "`classify`, all at once",
}


@torch.no_grad()
def classify_one(classifier: Classifier, text: str) -> torch.Tensor:
    """Returns the probabilities (K,) of one message, by the plain model on all its padding."""
    dataset = classifier.dataset_of([text])
    logits = classifier.plain(*dataset.batch([0])[:2])
    return torch.softmax(logits, dim=-1)[0]


def ways_of(classifier: Classifier, texts: Sequence[str]) -> dict[str, tuple[int, Callable]]:
    """Returns by name how many messages each way takes, and what takes them."""
    few = texts[:LOOP]
    return {
        "plain": (len(few), lambda: [classify_one(classifier, text) for text in few]),
        "single": (len(few), lambda: [classifier.classify([text]) for text in few]),
        "all": (len(texts), lambda: classifier.classify(texts)),
    }


def measure_row(row: int, data_dir: str, rounds: int) -> dict[str, Any]:
    """Returns the messages a second of each way, the smallest, the median and the largest."""
    flags = ["--row", str(row), "--weights", "random", "--device", "cpu", "--data_dir", data_dir]
    settings = parse_args(flags)
    corpus = load_corpus(settings.reading, settings.own)
    config = settings.network.config
    length = load_datasets(corpus, settings.reading, config["context_length"]).train.max_length
    model = build_classifier(settings.network, settings.seed).eval()
    description = describe_saved(settings, model, length, corpus.class_names, record=None)
    classifier = Classifier(model, description, load_gpt2_tokenizer(), CPU, BATCH_SIZE)
    choose_kernels(CPU)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    ways = ways_of(classifier, corpus.splits["test"]["Text"].tolist())
    for _ in range(rounds):
        for name, (count, action) in ways.items():
            rates[name].append(count / seconds_of(action))
    return {
        "row": row,
        "messages_per_second": {
            name: [min(found), statistics.median(found), max(found)]
            for name, found in rates.items()
        },
        "rounds": rounds,
        "device": device_name(CPU),
        "threads": torch.get_num_threads(),
        "versions": f"torch {torch.__version__}",
        "date": time.strftime("%Y-%m-%d"),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Returns the records as a Markdown table."""
    lines = [
        f"| row | {' | '.join(WAYS.values())} | of all to one by one |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in records:
        rates = r["messages_per_second"]
        cells = [f"{middle:.1f} ({low:.1f}-{high:.1f})" for low, middle, high in rates.values()]
        ratio = rates["all"][1] / rates["plain"][1]
        lines.append(f"| {r['row']} | {' | '.join(cells)} | {ratio:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures rows, or prints the table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[])
    parser.add_argument("--data_dir", default="sms_spam_collection")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print the table of the records")
    arguments = parser.parse_args()
    for row in arguments.rows:
        record = measure_row(row, arguments.data_dir, arguments.rounds)
        save_record(RECORDS / f"row_{row:02d}.json", record)
        print(table([record]), flush=True)
    if arguments.table:
        print(table(load_records(RECORDS)))


if __name__ == "__main__":
    main()
