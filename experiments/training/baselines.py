"""Baselines of a second, which show how much accuracy needs no finetuning of 124 million weights.

correct, probabilities, labels = evaluate_baseline("bag_of_words", corpus)
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.data.corpus import Corpus
from experiments.system.hardware import available_memory
from experiments.system.terminal import UsageError
from experiments.training.memory import BASE, GIB, RECORD

SOLVER = 13  # numbers of newton-cg for each weight, as measured
PENALTY = 1.0  # on half the squared weights, compared with the summed loss
WORD = r"\w+|[^\w\s]"


def _majority(texts: Iterable[str], labels: np.ndarray) -> Any:
    """Return a model that gives each text the fractions of the classes among the labels (N,)."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior").fit(texts, labels)


def bag_of_words(texts: Iterable[str], labels: np.ndarray) -> Any:
    """Return a logistic regression on the words of the texts, for labels (N,).

    Words are runs of letters and digits in lower case, and single other characters. Each counts
    once per text, and only words of these texts count.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if not any(re.search(WORD, text) for text in texts):  # only the intercept is left
        return _majority(texts, labels)
    vectorizer = CountVectorizer(binary=True, token_pattern=WORD, dtype=np.float64)
    model = LogisticRegression(C=1 / PENALTY, solver="newton-cg", tol=1e-8, max_iter=1000)
    return make_pipeline(vectorizer, model).fit(texts, labels)


def check_baseline_memory(name: str, corpus: Corpus, ignore: bool = False) -> str:
    """Return a line on the memory that a baseline needs; raise UsageError if it is not enough."""
    from sklearn.feature_extraction.text import CountVectorizer

    num_classes, words = corpus.num_classes, 0
    if name == "bag_of_words":
        with suppress(ValueError):  # no word in any text
            vectorizer = CountVectorizer(token_pattern=WORD)
            words = len(vectorizer.fit(corpus.splits["train"]["Text"]).vocabulary_)
    probabilities = num_classes * sum(map(len, corpus.splits.values()))
    weights = SOLVER * num_classes * words
    in_record = RECORD * num_classes * len(corpus.splits["test"])
    needed = BASE + 8 * (weights + 2 * probabilities) + in_record
    available = available_memory()
    line = f"{needed / GIB:.1f} GiB needed, {available / GIB:.1f} GiB available"
    if needed > available and not ignore:
        raise UsageError(f"Not enough memory: {line}; --ignore_memory runs it anyway.")
    return f"Memory: {line}"


def evaluate_baseline(
    name: str, corpus: Corpus
) -> tuple[dict[str, tuple[int, int]], Tensor, Tensor]:
    """Fit a baseline to the training split, and return what `loop.evaluate` returns."""
    train, correct = corpus.splits["train"], {}
    fit = bag_of_words if name == "bag_of_words" else _majority
    model = fit(train["Text"], train["Label"].to_numpy())
    for split, examples in corpus.splits.items():
        labels = examples["Label"].to_numpy(copy=True)  # (N,)
        probabilities = model.predict_proba(examples["Text"])  # (N, K)
        correct[split] = int((probabilities.argmax(axis=1) == labels).sum()), len(labels)
    return correct, torch.from_numpy(probabilities), torch.from_numpy(labels)
