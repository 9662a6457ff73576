"""Baselines of a second, which show how much accuracy needs no finetuning of 124 million weights.

correct, probabilities, labels = evaluate_baseline("bag_of_words", corpus)
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

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

Texts = Sequence[str]


def _majority(texts: Texts, labels: np.ndarray, num_classes: int, groups: list[Texts]) -> list:
    """Return the fractions of the classes among `labels` (N, K) for each group of texts."""
    fractions = np.bincount(labels, minlength=num_classes) / len(labels)
    return [np.tile(fractions, (len(group), 1)) for group in groups]


def bag_of_words(texts: Texts, labels: np.ndarray, num_classes: int, groups: list[Texts]) -> list:
    """Return P(class) (N, K) for each group, by logistic regression on the words of a text.

    Words are runs of letters and digits in lower case, and single other characters. Only words of
    the training texts count, each once per text; every class occurs among their labels (N,).
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = CountVectorizer(binary=True, token_pattern=WORD, dtype=np.float64)
    try:
        features = vectorizer.fit_transform(texts)  # (N, words), sparse
    except ValueError:  # no word in any text: only the intercept is left
        return _majority(texts, labels, num_classes, groups)
    model = LogisticRegression(C=1 / PENALTY, solver="newton-cg", tol=1e-8, max_iter=1000)
    model.fit(features, labels)
    return [model.predict_proba(vectorizer.transform(group)) for group in groups]


BASELINES: dict[str, Callable[..., list]] = {"majority": _majority, "bag_of_words": bag_of_words}


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
    texts = [split["Text"].tolist() for split in corpus.splits.values()]
    labels = [split["Label"].to_numpy() for split in corpus.splits.values()]
    probabilities = BASELINES[name](texts[0], labels[0], len(corpus.class_names), texts)
    correct = {
        split: (int((p.argmax(axis=1) == y).sum()), len(y))
        for split, p, y in zip(corpus.splits, probabilities, labels, strict=True)
    }
    return correct, torch.from_numpy(probabilities[-1]), torch.from_numpy(labels[-1].copy())
