"""Made-up records for tests."""

from experiments.records import FINISHED, VERSION


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
        "seed": seed,
        "settings": {"num_epochs": 5, "batch_size": 8},
        "environment": {"device": "cpu"},
        "date": "2026-01-01T00:00:00+00:00",
        "losses": [[0, 2.0, 2.1], [50, 1.0, 1.2]],
        "accuracies": [[1, 0.8, 0.7]],
        "correct": {"train": [9, 10], "validation": [4, 5], "test": [right, total]},
        "test": {
            "labels": labels,
            "predictions": predictions,
            "p_spam": [0.9 if p else 0.1 for p in predictions],
            "in_training": [i in (0, 3) for i in range(total)],
        },
        "seconds": {"prefix": 1.0, "train": 2.0 + row if row else 2.0},
        "peak_memory_mib": 100.0,
        "trainable_parameters": 10,
        "parameters": 100,
    } | more
