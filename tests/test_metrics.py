import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from experiments.training.metrics import BINS, measure


@st.composite
def predictions(draw, smallest=2):
    """Probabilities with ties, zeros and ones, and labels that may lack classes."""
    n, k = draw(st.integers(1, 40)), draw(st.integers(smallest, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = rng.multinomial(draw(st.sampled_from([1, 4, 10, 1000])), np.ones(k) / k, size=n)
    return counts / counts.sum(axis=1, keepdims=True), rng.integers(draw(st.integers(1, k)), size=n)


def or_nan(values):
    return [math.nan if value is None else value for value in values]


@given(predictions())
def test_right_and_wrong_are_those_of_scikit_learn(given_):
    p, labels = given_
    found, told, classes = measure(p, labels), p.argmax(axis=1), np.arange(p.shape[1])
    precisions, recalls, _, _ = oracle.precision_recall_fscore_support(
        labels, told, labels=classes, zero_division=np.nan
    )
    assert found.accuracy == pytest.approx(oracle.accuracy_score(labels, told))
    assert found.macro_f1 == pytest.approx(oracle.f1_score(labels, told, average="macro"))
    assert or_nan(found.precisions) == pytest.approx(precisions, nan_ok=True)
    assert or_nan(found.recalls) == pytest.approx(recalls, nan_ok=True)
    assert found.confusion == oracle.confusion_matrix(labels, told, labels=classes).tolist()


@given(predictions())
def test_the_auroc_is_that_of_scikit_learn(given_):
    p, labels = given_
    occurring = np.unique(labels)
    if len(occurring) < 2:
        assert measure(p, labels).auroc is None
        return
    classes = [1] if p.shape[1] == 2 else occurring
    areas = [oracle.roc_auc_score(labels == k, p[:, k]) for k in classes]
    assert measure(p, labels).auroc == pytest.approx(np.mean(areas))


def test_with_every_class_the_auroc_is_scikit_learns_macro_one_versus_rest():
    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet(np.ones(4), size=60), np.arange(60) % 4
    expected = oracle.roc_auc_score(labels, p, multi_class="ovr", average="macro")
    assert measure(p, labels).auroc == pytest.approx(expected)


@given(predictions())
def test_log_loss_and_brier_score_are_those_of_scikit_learn(given_):
    p, labels = given_
    classes = np.arange(p.shape[1])
    found = measure(p, labels)
    assert found.log_loss == pytest.approx(oracle.log_loss(labels, p, labels=classes), abs=1e-12)
    expected = oracle.brier_score_loss(labels, p, labels=classes, scale_by_half=True)
    assert found.brier_score == pytest.approx(expected, abs=1e-12)


@given(predictions())
def test_the_bins_are_those_of_scikit_learns_calibration_curve(given_):
    p, labels = given_
    found = measure(p, labels)
    is_right = p.argmax(axis=1) == labels
    shares, means = calibration_curve(is_right, p.max(axis=1), n_bins=BINS)
    filled = [b for b in found.bins if b.count]
    assert [b.accuracy for b in filled] == pytest.approx(shares)
    assert [b.confidence for b in filled] == pytest.approx(means)
    assert sum(b.count for b in found.bins) == len(p)
    weights = np.array([b.count for b in filled]) / len(p)
    assert found.calibration_error == pytest.approx(weights @ np.abs(shares - means))


def test_with_two_classes_the_brier_score_is_the_usual_one():
    assert measure([[0.3, 0.7], [0.9, 0.1]], [1, 1]).brier_score == pytest.approx(
        (0.3**2 + 0.9**2) / 2
    )


def test_bins_hold_their_upper_end_and_empty_ones_have_no_mean():
    bins = measure([[0.4, 0.6], [0.0, 1.0]], [1, 0]).bins
    assert len(bins) == BINS == 15
    assert bins[8] == pytest.approx((8 / 15, 9 / 15, 1, 0.6, 1.0))
    assert bins[14] == pytest.approx((14 / 15, 1.0, 1, 1.0, 0.0))
    assert bins[0] == pytest.approx((0.0, 1 / 15, 0, None, None))


def test_at_a_tie_the_class_with_the_smallest_number_is_told():
    assert measure([[0.5, 0.5], [0.5, 0.5]], [0, 1]).confusion == [[1, 0], [1, 0]]


def test_what_is_not_defined_is_none():
    found = measure([[0.8, 0.2, 0.0], [0.7, 0.3, 0.0]], [0, 1])
    assert found.precisions == [0.5, None, None]  # told once right, once wrong; never; never
    assert found.recalls == [1.0, 0.0, None]
    assert found.macro_f1 == pytest.approx((2 / 3 + 0) / 2)  # class 2 does not occur
    assert measure([[0.8, 0.2]], [0]).auroc is None


def test_a_certain_error_costs_much_and_not_infinity():
    found = measure([[1.0, 0.0], [1.0, 0.0]], [1, 0])
    assert found.log_loss == pytest.approx(-math.log(np.finfo(float).eps) / 2)
    assert (found.brier_score, found.calibration_error, found.auroc) == (0.5, 0.5, 0.5)


def test_json_holds_the_metrics():
    found = measure(np.float32([[0.8, 0.2, 0.0], [0.7, 0.3, 0.0]]), np.float32([0, 1]))
    assert json.loads(json.dumps(found._asdict(), allow_nan=False))["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.zeros((0, 2)), [], r"shape \(0, 2\) and labels of shape \(0,\), expected"),
        ([0.5, 0.5], [0, 1], r"shape \(2,\) and labels of shape \(2,\), expected"),
        ([[1.0]], [0], r"shape \(1, 1\) and labels of shape \(1,\), expected"),
        ([[0.5, 0.5]], [0, 1], r"shape \(1, 2\) and labels of shape \(2,\), expected"),
        ([[0.5, 0.5]], [0.5], r"labels \[0.5\], expected 0 to 1"),
        ([[0.5, 0.5]], [2], r"labels \[2\], expected 0 to 1"),
        ([[0.5, 0.6]], [0], "from 0.5 to 0.6 with sums from 1.1 to 1.1, expected 0 to 1"),
        ([[1.5, -0.5]], [0], "from -0.5 to 1.5 with sums from 1 to 1, expected 0 to 1"),
        ([[np.nan, 0.5]], [0], "from nan to nan with sums from nan to nan, expected 0 to 1"),
    ],
)
def test_what_are_no_probabilities_or_labels_is_refused(p, labels, message):
    with pytest.raises(ValueError, match=message):
        measure(p, labels)
