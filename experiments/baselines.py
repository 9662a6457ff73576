"""Baselines that cost nothing: what no network is needed for.

    result = run_baseline("bag_of_words", reading)
    p_spam = bag_of_words(train_texts, train_labels, [validation_texts, test_texts])

Whoever finetunes 124 million parameters ought to know what counting words does in a second.
"""

import re
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.data.messages import read_messages
from experiments.preparation import find_files
from experiments.results import Clock, Result
from experiments.settings import Reading
from experiments.training import History

PENALTY = 1.0  # on half the squared weights, against the summed loss
WORD = re.compile(r"\w+|[^\w\s]")


def majority(
    train_texts: Sequence[str], train_labels: Sequence[int], texts: Sequence[Sequence[str]]
) -> list[Tensor]:
    """Returns for each list of texts the share of spam in training, (N,), whatever they say."""
    share = sum(train_labels) / len(train_labels)
    return [torch.full((len(group),), share, dtype=torch.float64) for group in texts]


def bag_of_words(
    train_texts: Sequence[str], train_labels: Sequence[int], texts: Sequence[Sequence[str]]
) -> list[Tensor]:
    """Returns for each list of texts P(spam), (N,), by logistic regression on the words they hold.

    Words are runs of letters and digits, in lower case, and single signs. Only those of the
    training texts count, each once a text.
    """
    words = sorted({word for text in train_texts for word in words_of(text)})
    column = {word: i for i, word in enumerate(words)}

    def features(group: Sequence[str]) -> Tensor:
        x = torch.zeros(len(group), len(words), dtype=torch.float64)
        for row, text in zip(x, group, strict=True):
            row[[column[word] for word in words_of(text) if word in column]] = 1
        return x

    x, y = features(train_texts), torch.tensor(train_labels, dtype=torch.float64)
    weight = torch.zeros(len(words), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = F.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="sum")
        total = total + PENALTY / 2 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        return [torch.sigmoid(features(group) @ weight + bias) for group in texts]


def words_of(text: str) -> set[str]:
    """Returns the distinct words and signs of a text."""
    return set(WORD.findall(text.lower()))


PREDICTORS: dict[str, Callable[..., list[Tensor]]] = {
    "majority": majority,
    "bag_of_words": bag_of_words,
}


def run_baseline(name: str, reading: Reading) -> Result:
    """Runs a baseline on the same splits as a network."""
    clock = Clock()
    frames = {split: read_messages(file) for split, file in find_files(reading).items()}
    texts = [frame["Text"].tolist() for frame in frames.values()]
    labels = [torch.tensor(frame["Label"].to_numpy()) for frame in frames.values()]
    clock.stop("load")
    predicted = PREDICTORS[name](texts[0], labels[0].tolist(), texts)
    clock.stop("train")
    correct = {
        split: (int(((p > 0.5).long() == y).sum()), len(y))
        for split, p, y in zip(frames, predicted, labels, strict=True)
    }
    in_training = frames["test"]["Text"].isin(frames["train"]["Text"]).tolist()
    return Result(History(), correct, predicted[-1], labels[-1], in_training, clock.seconds)
