"""Baselines that cost nothing: what no network is needed for.

    result = run_baseline("bag_of_words", corpus)
    probabilities = bag_of_words(train_texts, train_labels, 2, [validation_texts, test_texts])

Whoever finetunes 124 million parameters ought to know what counting words does in a second.
"""

import re
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.data.corpus import Corpus, same_texts
from experiments.runs.results import Clock, Result
from experiments.training.loop import History

PENALTY = 1.0  # on half the squared weights, against the summed loss
WORD = re.compile(r"\w+|[^\w\s]")


def majority(
    train_texts: Sequence[str],
    train_labels: Sequence[int],
    num_classes: int,
    texts: Sequence[Sequence[str]],
) -> list[Tensor]:
    """Returns the shares of classes in training (N, K) for each list of texts."""
    counts = torch.bincount(torch.tensor(train_labels), minlength=num_classes).double()
    return [(counts / counts.sum()).expand(len(group), -1) for group in texts]


def bag_of_words(
    train_texts: Sequence[str],
    train_labels: Sequence[int],
    num_classes: int,
    texts: Sequence[Sequence[str]],
) -> list[Tensor]:
    """Returns for each list of texts P(class) (N, K), by logistic regression on the words in them.

    Words are runs of letters and digits, in lower case, and single signs. Only those of the
    training texts count, each once a text. The first class has the logit 0.
    """
    words = sorted({word for text in train_texts for word in words_of(text)})
    column = {word: i for i, word in enumerate(words)}

    def features(group: Sequence[str]) -> Tensor:
        x = torch.zeros(len(group), len(words), dtype=torch.float64)
        for row, text in zip(x, group, strict=True):
            row[[column[word] for word in words_of(text) if word in column]] = 1
        return x

    def logits(x: Tensor) -> Tensor:
        return F.pad(x @ weight + bias, (1, 0))  # (N, K)

    x, y = features(train_texts), torch.tensor(train_labels)
    weight = torch.zeros(len(words), num_classes - 1, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes - 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = F.cross_entropy(logits(x), y, reduction="sum")
        total = total + PENALTY / 2 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        return [torch.softmax(logits(features(group)), dim=-1) for group in texts]


def words_of(text: str) -> set[str]:
    """Returns the distinct words and signs of a text."""
    return set(WORD.findall(text.lower()))


PREDICTORS: dict[str, Callable[..., list[Tensor]]] = {
    "majority": majority,
    "bag_of_words": bag_of_words,
}


def run_baseline(name: str, corpus: Corpus) -> Result:
    """Runs a baseline on the same splits as a network."""
    clock = Clock()
    texts = [split["Text"].tolist() for split in corpus.splits.values()]
    labels = [torch.tensor(split["Label"].to_numpy()) for split in corpus.splits.values()]
    clock.stop("load")
    predicted = PREDICTORS[name](texts[0], labels[0].tolist(), len(corpus.class_names), texts)
    clock.stop("train")
    correct = {
        split: (int((p.argmax(dim=-1) == y).sum()), len(y))
        for split, p, y in zip(corpus.splits, predicted, labels, strict=True)
    }
    in_training = corpus.splits["test"]["Text"].isin(texts[0]).tolist()
    return Result(
        History(), correct, predicted[-1], labels[-1], in_training, same_texts(texts[-1]),
        clock.seconds,
    )  # fmt: skip
