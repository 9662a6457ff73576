"""Made-up records for tests."""

import torch

from experiments.config.published import CHECKPOINT_SHA256, DATA_SHA256, SPAM_CLASSES
from experiments.data.corpus import Corpus
from experiments.runs import results
from experiments.runs.records import FINISHED, SINCE_2, VERSION

CPU = torch.device("cpu")


def begin_record(settings, device=CPU, data=DATA_SHA256):
    """What a run on the published messages records before it is made."""
    return results.begin_record(settings, Corpus({}, SPAM_CLASSES, data), device)


def make_record(row=1, seed=123, wrong=(), total=12, **more):
    """A record whose run gets the messages `wrong` wrong; the odd ones are spam."""
    labels = [i % 2 for i in range(total)]
    predictions = [1 - label if i in wrong else label for i, label in enumerate(labels)]
    right = total - len(wrong)
    return {
        "version": VERSION,
        "status": FINISHED,
        "digest": f"{row}{seed}".ljust(64, "0"),
        "name": f"row {row:02d}" if row else "run",
        "row": row,
        "stands_in": False,
        "model": "gpt2-small (124M), pretrained weights",
        "weights": CHECKPOINT_SHA256["124M"] if row else None,
        "data": DATA_SHA256,
        "classes": ["ham", "spam"],
        "precision": "float32",
        "prefix_reused": False,
        "seed": seed,
        "settings": {"num_epochs": 5, "batch_size": 8},
        "environment": {"device": "cpu", "device_type": "cpu"},
        "date": "2026-01-01T00:00:00+00:00",
        "losses": [[0, 2.0, 2.1], [50, 1.0, 1.2]],
        "accuracies": [[1, 0.8, 0.7]],
        "correct": {"train": [9, 10], "validation": [4, 5], "test": [right, total]},
        "test": {
            "labels": labels,
            "predictions": predictions,
            "probabilities": [[0.1, 0.9] if p else [0.9, 0.1] for p in predictions],
            "in_training": [i in (0, 3) for i in range(total)],
        },
        "seconds": {"prefix": 1.0, "train": 2.0 + row if row else 2.0},
        "peak_memory_mib": 100.0,
        "trainable_parameters": 10,
        "parameters": 100,
    } | more


def make_stand_in(row, weights, name="tiny.safetensors", **more):
    """The record of a run on a local checkpoint, which stands in for the published one."""
    model = f"checkpoint {name}"
    return make_record(row, weights=weights, stands_in=True, model=model, **more)


def make_old_record(row=1, **more):
    """A record as version 1 had it."""
    record = make_record(row, **more) | {"version": 1}
    record["environment"] = {"device": record["environment"]["device"]}
    test = dict(record["test"])
    p_spam = [p for _, p in test.pop("probabilities")]
    record["test"] = test | {"p_spam": p_spam}
    return {name: value for name, value in record.items() if name not in SINCE_2}


def some_records():
    """Row 1 errs twice, row 4 in none, row 16 in other ones; two seeds each, and a baseline."""
    majority = make_record(None, wrong=[0, 2, 4, 6, 8, 10], name="baseline majority", model="m")
    return [
        make_record(1, wrong=[1, 2]),
        make_record(1, seed=124, wrong=[1]),
        make_record(4),
        make_record(4, seed=124, wrong=[5]),
        make_record(16, seed=124, wrong=[6]),
        make_record(16, wrong=[2, 7, 8]),
        majority,
    ]
