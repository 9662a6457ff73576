"""Metrics, compared with their definitions."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from experiments.training.metrics import BINS, measure


@st.composite
def predictions(draw):
    """Probabilities with ties, zeros and ones, and labels that may lack classes."""
    n, k = draw(st.integers(1, 40)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = rng.multinomial(draw(st.sampled_from([1, 4, 10, 1000])), np.ones(k) / k, size=n)
    return counts / counts.sum(axis=1, keepdims=True), rng.integers(draw(st.integers(1, k)), size=n)


@given(predictions())
@settings(max_examples=40)
def test_all_metrics_are_those_of_their_definitions(p_and_labels):
    p, labels = p_and_labels
    found, predicted, classes = measure(p, labels), p.argmax(axis=1), range(p.shape[1])
    confusion = [[int(((labels == i) & (predicted == j)).sum()) for j in classes] for i in classes]
    assert found.confusion == confusion
    assert found.accuracy == pytest.approx(np.trace(confusion) / len(p))
    scores = []
    for k, row, column in zip(classes, confusion, zip(*confusion, strict=True), strict=True):
        for ratio, total in ((found.precisions[k], sum(column)), (found.recalls[k], sum(row))):
            assert ratio == (pytest.approx(row[k] / total) if total else None)
        if sum(row) + sum(column):
            scores.append(2 * row[k] / (sum(row) + sum(column)))
    assert found.macro_f1 == pytest.approx(np.mean(scores))
    areas = [area(p[:, k], labels == k) for k in ([1] if p.shape[1] == 2 else np.unique(labels))]
    is_defined = len(np.unique(labels)) > 1
    assert found.auroc == (pytest.approx(np.mean(areas)) if is_defined else None)
    assert found.log_loss == pytest.approx(log_loss(labels, p, labels=classes), abs=1e-12)
    brier = brier_score_loss(labels, p, labels=classes, scale_by_half=True)
    assert found.brier_score == pytest.approx(brier, abs=1e-12)
    shares, means = calibration_curve(predicted == labels, p.max(axis=1), n_bins=BINS)
    filled = [b for b in found.bins if b.count]
    assert [b.accuracy for b in filled] == pytest.approx(shares)
    assert [b.confidence for b in filled] == pytest.approx(means)
    weights = np.array([b.count for b in filled]) / len(p)
    assert found.calibration_error == pytest.approx(weights @ np.abs(shares - means))
    assert sum(weights) == pytest.approx(1)


def area(scores, is_positive):
    """The fraction of pairs of a positive and a negative that are ranked correctly."""
    differences = scores[is_positive][:, None] - scores[~is_positive]
    return np.mean((differences > 0) + (differences == 0) / 2) if differences.size else math.nan


def test_bins_include_their_upper_end_and_empty_ones_have_no_mean():
    bins = measure([[0.4, 0.6], [0.0, 1.0]], [1, 0]).bins
    assert len(bins) == BINS == 15
    assert bins[8] == pytest.approx((8 / 15, 9 / 15, 1, 0.6, 1.0))
    assert bins[14] == pytest.approx((14 / 15, 1.0, 1, 1.0, 0.0))
    assert bins[0] == pytest.approx((0.0, 1 / 15, 0, None, None))


def test_rounded_probabilities_are_accepted_and_json_holds_the_metrics():
    found = measure(np.float32([[0.80005, 0.2, 0.0], [0.7, 0.3, 0.0]]), np.float32([0, 1]))
    assert json.loads(json.dumps(found._asdict(), allow_nan=False))["accuracy"] == 0.5
