import pytest
import torch

from experiments.config.flags import parse_args
from experiments.config.settings import BASELINES
from experiments.runs.preparation import load_corpus
from experiments.training.baselines import (
    PENALTY,
    PREDICTORS,
    bag_of_words,
    majority,
    run_baseline,
    words_of,
)

TEXTS = ["win a prize now", "free prize", "see you at five", "are you home", "call to win"]
LABELS = [1, 1, 0, 0, 1]


def corpus_of(*flags):
    settings = parse_args(flags)
    return load_corpus(settings.reading, settings.own)


def test_a_third_class_is_told_by_its_own_words():
    texts = [*TEXTS, "where is my order", "my order is late"]
    (p,) = bag_of_words(texts, [*LABELS, 2, 2], 3, [["my order", "free prize"]])
    assert p.argmax(dim=1).tolist() == [2, 1]
    assert torch.allclose(p.sum(dim=1), torch.ones(2).double())


def test_the_majority_says_the_same_of_every_message():
    first, second = majority(TEXTS, LABELS, 2, [TEXTS, ["anything"]])
    assert first.tolist() == [[0.4, 0.6]] * 5
    assert second.tolist() == [[0.4, 0.6]]


def test_words_count_once_a_text_in_lower_case():
    assert words_of("Win, WIN £5!") == {"win", ",", "£", "5", "!"}


def test_bag_of_words_tells_its_training_texts_and_ignores_words_it_never_saw():
    train, new = (
        p[:, 1] for p in bag_of_words(TEXTS, LABELS, 2, [TEXTS, ["a prize", "unknown", "you"]])
    )
    assert ((train > 0.5).long().tolist()) == LABELS
    assert new[0] > new[1] > new[2]


def test_bag_of_words_is_at_the_minimum_of_its_loss():
    """The gradient of the penalised loss is zero there, by its own formula."""
    words = sorted({word for text in TEXTS for word in words_of(text)})
    x = torch.tensor([[float(w in words_of(t)) for w in words] for t in TEXTS]).double()
    p = bag_of_words(TEXTS, LABELS, 2, [TEXTS])[0][:, 1]
    single = bag_of_words(TEXTS, LABELS, 2, [["", *words]])[0][
        :, 1
    ].logit()  # bias, then each word's sum
    weight = single[1:] - single[0]
    residual = p - torch.tensor(LABELS).double()
    assert residual.sum().abs() < 1e-6
    assert torch.allclose(
        x.T @ residual + PENALTY * weight, torch.zeros(len(words)).double(), atol=1e-6
    )


@pytest.mark.parametrize("baseline", ["majority", "bag_of_words"])
def test_a_baseline_runs_on_the_demos_messages(baseline):
    result = run_baseline(baseline, corpus_of("--demo"))
    correct, total = result.correct["test"]
    assert len(result.probabilities) == len(result.labels) == len(result.in_training) == total
    assert correct == (result.probabilities.argmax(dim=1) == result.labels).sum()


def test_words_alone_tell_most_of_the_real_messages(real_data_dir):
    flags = ["--data_dir", str(real_data_dir)]
    result = run_baseline("bag_of_words", corpus_of(*flags))
    assert result.correct["test"] == (287, 300)  # as the README has it
    assert sum(result.in_training) == 36


def test_the_flag_knows_each_baseline():
    assert tuple(PREDICTORS) == BASELINES
