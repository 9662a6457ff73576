"""Baselines of a second, which show how much accuracy needs no finetuning of 124 million weights.

correct, probabilities, labels = evaluate_baseline("bag_of_words", corpus)
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from experiments.data.corpus import Corpus

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
