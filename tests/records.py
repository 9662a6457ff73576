"""Made-up records for tests."""

from experiments.checkpoints.files import CHECKPOINT_SHA256
from experiments.config.rows import DATA_SHA256
from experiments.runs.records import FINISHED, VERSION, run_of

CUDA = {"device": "NVIDIA A100", "device_type": "cuda"}
RECIPE = {"num_epochs": 5, "batch_size": 8}


def make_record(row=1, seed=123, wrong=(), total=12, test=None, **more):
    """A record whose run misclassifies the examples `wrong`; the odd ones are spam.

    `test` replaces lists of the test examples, `more` other fields.
    """
    labels = [i % 2 for i in range(total)]
    predictions = [1 - label if i in wrong else label for i, label in enumerate(labels)]
    correct = total - len(wrong)
    record = {
        "version": VERSION,
        "status": FINISHED,
        "digest": f"{row}-{seed}-".ljust(64, "0"),
        "name": f"row {row:02d}" if row else "run",
        "row": row,
        "stands_in": False,
        "model": "gpt2-small (124M), pretrained weights",
        "weights": CHECKPOINT_SHA256["124M"],
        "data": DATA_SHA256,
        "classes": ["ham", "spam"],
        "precision": "float32",
        "prefix_reused": False,
        "seed": seed,
        "settings": RECIPE,
        "environment": {"device": "cpu", "device_type": "cpu"},
        "date": "2026-01-01T00:00:00+00:00",
        "losses": [[0, 2.0, 2.1], [50, 1.0, 1.2]],
        "accuracies": [[1, 0.8, 0.7]],
        "correct": {"train": [9, 10], "validation": [4, 5], "test": [correct, total]},
        "test": {
            "labels": labels,
            "predictions": predictions,
            "probabilities": [[0.1, 0.9] if p else [0.9, 0.1] for p in predictions],
            "in_training": [i in (0, 3) for i in range(total)],
        }
        | (test or {}),
        "seconds": {"prefix": 1.0, "train": 2.0 + row if row else 2.0},
        "peak_memory_mib": 100.0,
        "trainable_parameters": 10,
        "parameters": 100,
    } | more
    labels, predictions = record["test"]["labels"], record["test"]["predictions"]
    if isinstance(labels, list) and labels:
        counts = [sum(x == y for x, y in zip(labels, predictions, strict=False)), len(labels)]
        record["correct"] = record["correct"] | {"test": counts}
    return record


def make_run(*args, **more):
    """The run of such a record."""
    return run_of(make_record(*args, **more))


def make_design(row=None, seed=123, **settings):
    """The run of a design with these flags in addition to the recipe."""
    return make_run(row, seed, settings=RECIPE | settings, digest=f"{settings}{seed}")


def make_baseline(name="majority", **more):
    return make_run(None, name=f"baseline {name}", model=name, weights=None, **more)


def make_substitute(row, weights, name="tiny.safetensors", **more):
    """A run with a local checkpoint in place of the published one."""
    return make_run(row, weights=weights, stands_in=True, model=f"checkpoint {name}", **more)


def make_seeds(row, wrong_of_each, total=300, **more):
    """Runs with the seeds 0, 1, ... that misclassify these examples."""
    return [
        make_run(row, seed=seed, wrong=wrong, total=total, **more)
        for seed, wrong in enumerate(wrong_of_each)
    ]


def some_records():
    """Records of row 1 with two errors, row 4 with none, row 16 with others; and a baseline."""
    wrong = [0, 2, 4, 6, 8, 10]
    return [
        make_record(1, wrong=[1, 2]),
        make_record(1, seed=124, wrong=[1]),
        make_record(4),
        make_record(4, seed=124, wrong=[5]),
        make_record(16, seed=124, wrong=[6]),
        make_record(16, wrong=[2, 7, 8]),
        make_record(None, wrong=wrong, name="baseline majority", model="m", weights=None),
    ]


def some_runs():
    return [run_of(record) for record in some_records()]
