"""Baselines, compared with their definitions and with a record."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.config.parsing import parse_args
from experiments.data.corpus import Corpus, load_corpus
from experiments.system.terminal import UsageError
from experiments.training import baselines
from experiments.training.baselines import bag_of_words, evaluate_baseline

TEXTS = ["win a PRIZE, now, now", "free prize", "see you at five", "are you home", "call to win £5"]
LABELS = np.array([1, 1, 0, 0, 1])
SEPARATED = ["win a prize , now", *TEXTS[1:4], "call to win £ 5"]
WORDS = sorted(set(" ".join(SEPARATED).split()))


def test_bag_of_words_minimises_the_summed_loss_and_half_the_squared_weights():
    model = bag_of_words(TEXTS, LABELS)
    train, single = model.predict_proba(TEXTS), model.predict_proba(["", *WORDS])
    logits = np.log(single[:, 1] / single[:, 0])
    weights = logits[1:] - logits[0]  # one word added to the intercept
    x = np.array([[float(word in text.split()) for word in WORDS] for text in SEPARATED])
    residual = train[:, 1] - LABELS
    assert abs(residual.sum()) < 1e-6  # the intercept has no penalty
    assert np.abs(x.T @ residual + weights).max() < 1e-6  # the gradient, by its formula


def test_words_are_known_without_case_or_number_and_without_any_the_classes_fractions_remain():
    texts = ["Prize PRIZE unknown", "prize", "a prize", "you"]
    p = bag_of_words(TEXTS, LABELS).predict_proba(texts)
    assert p[0].tolist() == p[1].tolist()
    assert p[2, 1] > p[1, 1] > 0.5 > p[3, 1]
    p = bag_of_words(["", " ", "\n"], np.array([0, 1, 1])).predict_proba(["anything"])
    assert p[0] == pytest.approx([1 / 3, 2 / 3])


def test_a_third_class_is_predicted_from_its_own_words():
    texts, labels = [*TEXTS, "where is my order", "my order is late"], [*LABELS, 2, 2]
    p = bag_of_words(texts, np.array(labels)).predict_proba(["my order", "free prize"])
    assert p.argmax(axis=1).tolist() == [2, 1]
    assert p.sum(axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("name", "correct"), [("majority", (3, 2, 1)), ("bag_of_words", (5, 4, 3))]
)
def test_a_baseline_counts_correct_predictions_of_all_splits(name, correct):
    frame, names = pd.DataFrame({"Text": TEXTS, "Label": LABELS}), ("train", "validation", "test")
    corpus = Corpus({split: frame[i:] for i, split in enumerate(names)}, ("ham", "spam"), "")
    counts, probabilities, labels = evaluate_baseline(name, corpus)
    assert counts == dict(zip(names, zip(correct, (5, 4, 3), strict=True), strict=True))
    assert labels.tolist() == LABELS[2:].tolist()
    if name == "majority":  # the same for every text
        assert probabilities.tolist() == [[0.4, 0.6]] * 3


def test_the_real_data_give_the_recorded_predictions(real_data_dir):
    (path,) = (Path(__file__).parents[1] / "docs" / "records").glob("baseline_bag_of_words_*")
    record = json.loads(path.read_text())
    settings = parse_args(["--data_dir", str(real_data_dir)])
    corpus = load_corpus(settings.data, settings.custom)
    correct, probabilities, labels = evaluate_baseline("bag_of_words", corpus)
    assert {name: list(counts) for name, counts in correct.items()} == record["correct"]
    assert labels.tolist() == record["test"]["labels"]
    of_spam = record["test"].get("p_spam") or [p for _, p in record["test"]["probabilities"]]
    assert np.abs(probabilities[:, 1].numpy() - of_spam).max() < 1e-5


def test_the_words_of_many_texts_need_little_memory():
    tracemalloc.start()
    texts = [f"w{i} w{i // 2} w{i % 7}" for i in range(4000)]
    bag_of_words(texts, np.arange(4000) % 2).predict_proba(texts[:5])
    assert tracemalloc.get_traced_memory()[1] < 50e6  # 4,000 x 4,000 numbers would be 128 MB
    tracemalloc.stop()


def test_a_baseline_needs_memory_for_each_word_and_class(monkeypatch):
    texts = pd.DataFrame({"Text": [f"word{i}" for i in range(1000)], "Label": range(1000)})
    splits = dict.fromkeys(("train", "validation", "test"), texts)
    corpus = Corpus(splits, tuple(map(str, range(1000))), "digest")
    monkeypatch.setattr(baselines, "available_memory", lambda: 2**30 * 0.66)
    check = baselines.check_baseline_memory
    assert check("bag_of_words", corpus, ignore=True) == "Memory: 0.7 GiB needed, 0.7 GiB available"
    with pytest.raises(UsageError, match=r"^Not enough memory: .*--ignore_memory runs it anyway.$"):
        check("bag_of_words", corpus)
    assert check("majority", corpus).startswith("Memory: 0.6 GiB")
