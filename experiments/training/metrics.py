"""Metrics of a classifier from its probabilities: accuracy, F1, ranking and calibration.

    metrics = measure(probabilities, labels)  # (N, K) and (N,)
    metrics.macro_f1, metrics.recalls

The prediction is the most probable class, in a tie the one with the smallest number. What is
undefined is None, such as the recall of a class without an example. Losses and Brier scores are per
example, as records are compared; they accept rounded probabilities, of which scikit-learn's warn.

Sources: Brier 1950, Mon. Weather Rev. 78; Guo et al. 2017, "On Calibration of Modern Neural
Networks" (calibration error and bins).
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

BINS = 15  # of confidence, of equal width; each includes its upper end, not its lower one


class Bin(NamedTuple):
    """Examples of similar confidence."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean probability of the predictions
    accuracy: float | None


class Metrics(NamedTuple):
    """Metrics of the predictions of some examples, as JSON has them."""

    accuracy: float
    macro_f1: float  # mean over the classes that occur among labels or predictions
    precisions: list[float | None]  # K
    recalls: list[float | None]  # K
    confusion: list[list[int]]  # rows are the K labels, columns the K predictions
    auroc: float | None
    log_loss: float
    brier_score: float
    calibration_error: float
    bins: list[Bin]


def measure(probabilities: np.ndarray, labels: np.ndarray) -> Metrics:
    """Return all metrics of probabilities (N, K) and labels (N,)."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    p, labels = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    predictions, classes = p.argmax(axis=1), range(p.shape[1])
    precisions, recalls, f1, _ = precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=np.nan
    )
    bins = _reliability_bins(p, labels)
    gaps = sum(b.count * abs(b.confidence - b.accuracy) for b in bins if b.count)
    return Metrics(
        accuracy=float((predictions == labels).mean()),
        macro_f1=float(np.nanmean(f1)),
        precisions=_or_none(precisions),
        recalls=_or_none(recalls),
        confusion=confusion_matrix(labels, predictions, labels=classes).tolist(),
        auroc=_auroc(p, labels),
        log_loss=float(log_losses(p, labels).mean()),
        brier_score=float(brier_scores(p, labels).mean()),
        calibration_error=gaps / len(p),
        bins=bins,
    )


def log_losses(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (N,): -log of the probability of each example's label, in nats.

    A probability below float64's epsilon counts as epsilon: an error at probability 1 costs 36.
    """
    of_label = p[np.arange(len(p)), labels]  # (N,)
    return -np.log(np.maximum(of_label, np.finfo(np.float64).eps))


def brier_scores(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (N,): half the squared distance of the probabilities from the label, 0 to 1.

    With two classes that is the usual (p - y)^2; Brier's own score is twice as large.
    """
    truth = np.eye(p.shape[1])[labels]  # (N, K)
    return np.square(p - truth).sum(axis=1) / 2


def _auroc(p: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the area under the ROC curve of class 1; None if only one class occurs.

    Of more than two classes, it is the mean over those that occur, each against the rest.
    """
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    if len(present) == 1:
        return None
    classes = [1] if p.shape[1] == 2 else present
    return float(np.mean([roc_auc_score(labels == k, p[:, k]) for k in classes]))


def _reliability_bins(p: np.ndarray, labels: np.ndarray) -> list[Bin]:
    confidence, is_correct = p.max(axis=1), p.argmax(axis=1) == labels  # (N,)
    edges = np.linspace(0, 1, BINS + 1)
    number = np.searchsorted(edges[1:-1], confidence)  # (N,), of the bin
    counts = np.bincount(number, minlength=BINS)
    with np.errstate(invalid="ignore"):  # empty bins
        means = _or_none(np.bincount(number, confidence, BINS) / counts)
        fractions = _or_none(np.bincount(number, is_correct, BINS) / counts)
    edges = edges.tolist()
    return list(map(Bin, edges[:-1], edges[1:], counts.tolist(), means, fractions))


def _or_none(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
