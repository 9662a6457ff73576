"""Predictions: those of the reference implementation on texts that are read as in training."""

import pytest
import torch
from helpers import assert_equal
from saved import CHOICES, TEXTS, classifier_of, predict, predict_one_by_one, save, settings_of

from experiments.data.sms_spam import demo_tokenizer
from experiments.model.prediction import Classifier
from experiments.model.saved import read_saved


@pytest.fixture
def trained(base, tmp_path):
    """Trains and saves a classifier of some settings; returns it with both."""

    def make(*choices, **flags):
        settings = settings_of(base, tmp_path / "a.safetensors", *choices, **flags)
        model = save(settings)
        return model, read_saved(tmp_path / "a.safetensors")[0], settings

    return make


def inputs_of(texts, description, logits=(0.0, 0.0, 0.0)):
    """The tokens and lengths of each batch that a model gets, which returns the same logits."""
    inputs, cpu = [], torch.device("cpu")

    def model(tokens, lengths):
        inputs.append((tokens.tolist(), lengths.tolist()))
        return torch.tensor(logits).expand(len(tokens), -1)

    Classifier(model, description, demo_tokenizer(), cpu, batch_size=2).classify(texts)
    return inputs


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.usefixtures("float64")
def test_each_prediction_is_that_of_the_reference_implementation(choices, trained):
    layers = "lora" if CHOICES.index(choices) % 3 == 1 else "last_block"
    model, description, settings = trained(layers, *choices)
    assert_equal(predict(model, description), predict_one_by_one(model, settings))


def test_texts_longer_than_those_of_training_are_counted(trained):
    model, description, _ = trained()
    classifier = classifier_of(model, description)
    classifier.classify(TEXTS)
    classifier.classify(["x" * 18, "x" * 19])
    assert classifier.num_cut == 2


def test_texts_of_similar_lengths_share_a_batch_without_needless_padding(trained):
    texts = ["abcdef", "a", "abc", "ab"]
    a, b, c, pad = ord("a"), ord("b"), ord("c"), 50256
    found = inputs_of(texts, trained("last_block", "flexible")[1])
    assert found == [([[a, pad], [a, b]], [1, 2]), ([[a, b, c, *3 * [pad]],
                      [*range(a, a + 6)]], [3, 6])]  # fmt: skip
    assert [len(tokens[0]) for tokens, _ in inputs_of(texts, trained()[1])] == [18, 18]
    assert [len(tokens[0]) for tokens, _ in inputs_of(texts, trained("all", "first")[1])] == [1, 1]


def test_matrix_products_have_the_precision_of_training(trained):
    model, exact, _ = trained()
    rounded = trained(precision="bfloat16")[1]
    difference = (predict(model, rounded) - predict(model, exact)).abs().max()
    assert 1e-6 < difference < 0.1


def test_a_probability_that_is_not_finite_is_an_error(trained):
    with pytest.raises(ValueError, match="not finite"):
        inputs_of(["a"], trained()[1], logits=(0.0, torch.nan, 0.0))
