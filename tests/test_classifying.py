"""A saved classifier at work: it answers as the plain model does on messages as it was trained."""

import pytest
import saved
import torch
from helpers import assert_equal
from saved import CHOICES, TEXTS, ask, ask_plainly, describe, train

from experiments.data.demo import demo_tokenizer
from experiments.model.prediction import Classifier, batches_of_like_length

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    return saved.make_base(tmp_path_factory.mktemp("base"))[2]


def classifier_of(description, params, batch_size=3):
    model = train(description, params)
    return Classifier(model, description, demo_tokenizer(), torch.device("cpu"), batch_size)


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("layers", ["last_block", "lora"])
@pytest.mark.usefixtures("float64")
def test_each_answer_is_that_of_the_plain_model(layers, choices, params):
    description = describe(layers, *choices)
    model = train(description, params)
    assert_equal(ask(model, description), ask_plainly(model, description))


def test_a_model_that_was_trained_with_padding_is_given_padding(params):
    description = describe(position="last")
    model = train(description, params)
    answers = ask(model, description)
    assert_equal(answers, ask_plainly(model, description), tolerance=1e-5)
    unpadded = ask_plainly(model, description, no_padding=True)
    assert (answers - unpadded).abs().max() > 0.01


@pytest.mark.parametrize("batch_size", [1, 2, 100])
@pytest.mark.parametrize("no_mask", [False, True], ids=["mask", "no_mask"])
@pytest.mark.usefixtures("float64")
def test_the_batch_size_changes_no_answer(batch_size, no_mask, params):
    description = describe("last_block", "flexible", no_mask=no_mask, no_padding=True)
    model = train(description, params)
    assert_equal(ask(model, description, batch_size=batch_size), ask(model, description))


def test_texts_that_are_longer_than_the_trained_length_are_counted(params):
    classifier = classifier_of(describe(), params)
    classifier.classify(TEXTS)
    classifier.classify(["x" * 18, "x" * 19])
    assert classifier.num_cut == 2


def test_only_what_the_logits_depend_on_is_computed(params, monkeypatch):
    classifier = classifier_of(describe("last_block", "flexible"), params, batch_size=2)
    shapes, forward = [], classifier.model.forward
    monkeypatch.setattr(
        classifier.model, "forward", lambda t, n: shapes.append(t.shape) or forward(t, n)
    )
    classifier.classify(["abcdef", "a", "abc", "ab"])
    assert shapes == [(2, 2), (2, 6)]


def test_products_have_the_precision_of_training(params):
    exact, rounded = describe(), describe(precision="bfloat16")
    model = train(exact, params)
    difference = (ask(model, rounded) - ask(model, exact)).abs().max()
    assert 1e-5 < difference < 0.1


def test_a_probability_that_is_no_number_is_an_error(params):
    classifier = classifier_of(describe(), params)
    classifier.plain.out_head.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        classifier.classify(["a"])


def test_messages_of_like_length_share_a_batch():
    lengths = torch.tensor([5, 2, 5, 9, 2, 2])
    assert [rows.tolist() for rows in batches_of_like_length(lengths, 4)] == [[1, 4, 5, 0], [2, 3]]
    equal = batches_of_like_length(lengths, 2, only_equal=True)
    assert [rows.tolist() for rows in equal] == [[1, 4], [5], [0, 2], [3]]
