"""Metrics of a classifier from its probabilities: right or wrong, ranking, and calibration.

    metrics = measure(probabilities, labels)  # (N, K) and (N,)
    metrics.macro_f1, metrics.recalls

The class told is the most probable, at a tie the one with the smallest number. What is not defined
is None: the precision of a class that is never told, the recall of one that the labels lack.

Sources: Hanley & McNeil 1982, Radiology 143 (AUROC as a rank statistic); Brier 1950, Mon. Weather
Rev. 78; Guo et al. 2017, "On Calibration of Modern Neural Networks" (calibration error and bins).
"""

from typing import NamedTuple

import numpy as np

BINS = 15  # of confidence, of equal width; each holds its upper end, not its lower one
SLACK = 1e-4  # by which probabilities may miss the sum of one, as float32 and rounding do


class Bin(NamedTuple):
    """Messages of about one confidence: as probable as that, and how many are right."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean probability of the class told
    accuracy: float | None


class Metrics(NamedTuple):
    """What the probabilities of some messages are worth; JSON can hold it."""

    accuracy: float
    macro_f1: float  # mean over the classes that occur among labels or told classes
    precisions: list[float | None]  # K
    recalls: list[float | None]  # K
    confusion: list[list[int]]  # K labels, of each how often the K classes were told
    auroc: float | None
    log_loss: float
    brier_score: float
    calibration_error: float
    bins: list[Bin]


def measure(probabilities: np.ndarray, labels: np.ndarray) -> Metrics:
    """Returns all metrics of some messages.

    Args:
        probabilities: (N, K), of each class.
        labels: (N,), from 0 to K - 1.

    Raises:
        ValueError: when there is no message, or these are no probabilities or labels of one.
    """
    p, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    check(p, labels)
    labels = labels.astype(np.int64)
    confusion = confusion_matrix(p.argmax(axis=1), labels, p.shape[1])
    hits, told, true = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)  # (K,)
    bins = reliability_bins(p, labels)
    return Metrics(
        accuracy=float(hits.sum() / len(labels)),
        macro_f1=float(np.nanmean(divide(2 * hits, told + true))),
        precisions=or_none(divide(hits, told)),
        recalls=or_none(divide(hits, true)),
        confusion=confusion.tolist(),
        auroc=auroc(p, labels),
        log_loss=float(log_losses(p, labels).mean()),
        brier_score=float(brier_scores(p, labels).mean()),
        calibration_error=calibration_error(bins),
        bins=bins,
    )


def check(p: np.ndarray, labels: np.ndarray) -> None:
    """Raises ValueError unless these are probabilities (N, K), K > 1, and labels (N,) of them."""
    if p.ndim != 2 or p.shape[1] < 2 or labels.shape != (len(p),) or not len(p):
        raise ValueError(
            f"probabilities of shape {p.shape} and labels of shape {labels.shape}, expected (N, K) "
            "and (N,) with N > 0 and K > 1"
        )
    if not np.isin(labels, np.arange(p.shape[1])).all():
        raise ValueError(f"labels {np.unique(labels)}, expected 0 to {p.shape[1] - 1}")
    sums = p.sum(axis=1)
    if not (np.all((p >= 0) & (p <= 1)) and np.all(np.abs(sums - 1) <= SLACK)):
        raise ValueError(
            f"probabilities from {p.min():.6g} to {p.max():.6g} with sums from {sums.min():.6g} to "
            f"{sums.max():.6g}, expected 0 to 1 with sums of 1"
        )


# ------------------------------------------------------------------------------- right and wrong


def confusion_matrix(told: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns (K, K): how many messages of each label, down, were told each class, across."""
    cells = np.bincount(labels * num_classes + told, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def divide(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Returns the shares of totals, NaN of a total of zero."""
    return np.divide(counts, totals, out=np.full(len(totals), np.nan), where=totals > 0)


def or_none(values: np.ndarray) -> list[float | None]:
    """Returns numbers with None for NaN, which JSON lacks."""
    return [None if np.isnan(value) else float(value) for value in values]


# -------------------------------------------------------------------------------------- ranking


def auroc(p: np.ndarray, labels: np.ndarray) -> float | None:
    """Returns how probably a message of a class is ranked above one of another; ties count half.

    With two classes that of class 1; with more, the mean over those that occur, each against the
    rest. None, where only one class occurs.
    """
    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    areas = [area_above(p[:, k], labels == k) for k in classes if 0 < np.sum(labels == k) < len(p)]
    return float(np.mean(areas)) if areas else None


def area_above(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Returns the share of pairs of a positive and a negative that the scores (N,) order right."""
    positives, negatives = scores[is_positive], np.sort(scores[~is_positive])
    below, up_to = (np.searchsorted(negatives, positives, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(negatives)))


# ---------------------------------------------------------------------------------- probabilities


def log_losses(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns (N,): -log of the probability of each message's label, in nats.

    A probability below float64's epsilon counts as that: a certain error costs 36, not infinity.
    """
    of_label = p[np.arange(len(p)), labels]  # (N,)
    return -np.log(np.maximum(of_label, np.finfo(np.float64).eps))


def brier_scores(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns (N,): half the squared distance between probabilities and truth, 0 to 1.

    With two classes that is the usual (p - y)^2; Brier's own score is twice as large.
    """
    truth = np.eye(p.shape[1])[labels]  # (N, K)
    return np.square(p - truth).sum(axis=1) / 2


def reliability_bins(p: np.ndarray, labels: np.ndarray) -> list[Bin]:
    """Returns the messages by the probability of the class that they are told."""
    confidence, is_right = p.max(axis=1), p.argmax(axis=1) == labels  # (N,)
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], confidence)  # (N,)
    counts = np.bincount(place, minlength=BINS)
    means = or_none(divide(np.bincount(place, confidence, BINS), counts))
    shares = or_none(divide(np.bincount(place, is_right, BINS), counts))
    lows, highs = edges[:-1].tolist(), edges[1:].tolist()
    return list(map(Bin, lows, highs, counts.tolist(), means, shares))


def calibration_error(bins: list[Bin]) -> float:
    """Returns the expected calibration error: |confidence - accuracy|, weighed by messages."""
    filled = [b for b in bins if b.count]
    gaps = sum(b.count * abs(b.confidence - b.accuracy) for b in filled)
    return gaps / sum(b.count for b in filled)
