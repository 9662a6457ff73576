"""Time predictions: texts per second, one by one as in the book, and with a saved classifier.

    python benchmarks/classifying.py --rows 1 16      # gpt2-small, random weights; minutes
    python benchmarks/classifying.py --table          # the table of docs/custom_data.md

Three methods alternate in one process on the published test messages: the reference model on one
padded text at a time; the saved classifier on one text at a time; and on all texts at once. Each
row writes one record to `benchmarks/classifying/`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import classify
from benchmarks.shortcuts import CPU, NUM_CLASSES, load_records, save_record, seconds_of
from experiments.config.parsing import parse_args
from experiments.config.rows import PAD_TOKEN_ID
from experiments.data.corpus import load_corpus
from experiments.data.datasets import TextDataset, encode, tokenize
from experiments.model.classifier import GPTClassifier, build_classifier
from experiments.model.prediction import Classifier
from experiments.model.saved import save_classifier
from experiments.system.devices import device_name

RECORDS = Path(__file__).parent / "classifying"
LOOP = 60  # texts of a method that takes them one by one
METHODS = {
    "plain": "reference, one by one",
    "single": "`classify`, one by one",
    "all": "`classify`, all at once",
}


@torch.no_grad()
def classify_one(reference: GPTClassifier, classifier: Classifier, text: str) -> torch.Tensor:
    """Return the probabilities (K,) of a text by the reference model, with all its padding."""
    facts = classifier.description
    encoded = encode([text], classifier.tokenizer, PAD_TOKEN_ID)
    frame = pd.DataFrame({"Label": 0, "Text": [text]})
    dataset = TextDataset(frame, encoded, facts.max_length, no_padding=facts.no_padding)
    return torch.softmax(reference(dataset.tokens, dataset.lengths), dim=-1)[0]


def methods_of(
    reference: GPTClassifier, classifier: Classifier, texts: Sequence[str]
) -> dict[str, tuple[int, Callable]]:
    """Return by name how many texts each method classifies, and the function that does it."""
    few = texts[:LOOP]
    return {
        "plain": (len(few), lambda: [classify_one(reference, classifier, text) for text in few]),
        "single": (len(few), lambda: [classifier.classify([text]) for text in few]),
        "all": (len(texts), lambda: classifier.classify(texts)),
    }


def measure_row(row: int, data_dir: str, rounds: int) -> dict[str, Any]:
    """Return the texts per second of each method: the smallest, the median and the largest."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "classifier.safetensors")
        flags = ["--row", str(row), "--weights", "random", "--device", "cpu"]
        settings = parse_args([*flags, "--data_dir", data_dir, "--save_model", file])
        corpus = load_corpus(settings.data, settings.custom)
        context_length = settings.design.config["context_length"]
        length = tokenize(corpus, settings.data, context_length).train.max_length
        reference = build_classifier(settings, NUM_CLASSES).eval()
        save_classifier(settings, reference, length, corpus.class_names, record=None)
        classifier = classify.load(classify.parse_args([file, "text"]), CPU)
    rates: dict[str, list[float]] = {name: [] for name in METHODS}
    methods = methods_of(reference, classifier, corpus.splits["test"]["Text"].tolist())
    for _ in range(rounds):
        for name, (count, action) in methods.items():
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
    """Return the records as a Markdown table."""
    lines = [
        f"| row | {' | '.join(METHODS.values())} | all at once to reference |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in records:
        rates = r["messages_per_second"]
        cells = [f"{middle:.1f} ({low:.1f}-{high:.1f})" for low, middle, high in rates.values()]
        ratio = rates["all"][1] / rates["plain"][1]
        lines.append(f"| {r['row']} | {' | '.join(cells)} | {ratio:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure rows, or print the table of the records."""
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
