import io
from types import SimpleNamespace

import pandas as pd
import pytest
import tiktoken
import torch
from torch.utils.data import DataLoader

from experiments.config.settings import CustomData, DataConfig
from experiments.data import datasets as module
from experiments.data.corpus import load_corpus
from experiments.data.datasets import (
    SpamDataset,
    Splits,
    TextDataset,
    create_loaders,
    encode,
    tokenize,
)
from experiments.data.sms_spam import demo_tokenizer, to_csv

PAD = 50256


def csv_of(*texts, labels=None):
    return io.StringIO(to_csv(pd.DataFrame({"Label": labels or [0] * len(texts), "Text": texts})))


def dataset_of(*texts, labels=None, **options):
    return SpamDataset(csv_of(*texts, labels=labels), demo_tokenizer(), **options)


# ---------------------------------------------------------------------------------------- datasets


def test_texts_are_cut_and_padded_to_the_limit_or_the_longest():
    dataset = dataset_of("abc", "abcdefgh", max_length=5)
    assert dataset.tokens.tolist() == [[*b"abc", PAD, PAD], [*b"abcde"]]
    assert dataset.lengths.tolist() == [3, 5]
    assert (dataset.max_length, dataset.num_cut) == (5, 1)
    dataset = dataset_of("abc", "abcdefgh")
    assert (dataset.max_length, dataset.num_cut) == (8, 0)
    assert dataset.tokens.shape == (2, 8)
    assert TextDataset(dataset.data, [[1], [2, 3]], 3)[0][0].tolist() == [1, PAD, PAD]
    dataset = dataset_of("abc", "abcdefgh", max_length=5, no_padding=True)
    assert [dataset[i][0].tolist() for i in range(2)] == [[*b"abc"], [*b"abcde"]]
    inputs, lengths, _ = dataset.batch([0])
    assert (inputs.tolist(), lengths.tolist()) == ([[*b"abc"]], [3])


def test_an_empty_text_is_one_padding_token_and_the_name_of_one_is_ordinary_text():
    dataset = dataset_of("", "ab", pad_token_id=7)
    assert dataset.tokens.tolist() == [[7, 7], [*b"ab"]]
    assert dataset.lengths.tolist() == [1, 2]
    assert dataset_of("<|endoftext|>").tokens.tolist() == [[*b"<|endoftext|>"]]
    only_encode = SimpleNamespace(encode=lambda text: [*text.encode()])
    assert SpamDataset(csv_of("abc", ""), only_encode).tokens.tolist() == [[*b"abc"], [PAD] * 3]


def test_an_item_is_the_pair_of_the_book_and_a_batch_also_has_lengths():
    dataset = dataset_of("abc", "d", labels=[1, 0])
    tokens, label = dataset[0]
    assert (tokens.tolist(), label.item(), len(dataset)) == ([*b"abc"], 1, 2)
    book_tokens, book_labels = next(iter(DataLoader(dataset, batch_size=2)))
    inputs, lengths, labels = dataset.batch([0, 1])
    assert torch.equal(book_tokens, inputs)
    assert torch.equal(book_labels, labels)
    assert lengths.tolist() == [3, 1]
    assert dataset.labels.tolist() == dataset.data["Label"].tolist() == [1, 0]
    assert dataset.labels.dtype == torch.long


@pytest.mark.parametrize(
    ("length", "no_padding", "context", "expected"),
    [
        ("longest_training_example", False, 100, [80, 80, 80]),
        ("longest_training_example", False, 9, [9, 9, 9]),
        ("model_context_length", False, 100, [100, 100, 100]),
        (7, False, 100, [7, 7, 7]),
        ("longest_training_example", True, 100, [80, 76, 80]),
        ("model_context_length", True, 100, [80, 76, 80]),
    ],
)
def test_texts_are_padded_to_what_context_length_says(length, no_padding, context, expected):
    data = DataConfig(demo=True, context_length=length, no_padding=no_padding)
    datasets = tokenize(load_corpus(data, CustomData()), data, context)
    assert [dataset.max_length for dataset in datasets] == expected
    assert all(dataset.no_padding == no_padding for dataset in datasets)


# ---------------------------------------------------------------------------------------- loaders


def loaders_of(count, batch_size):
    texts, labels = [chr(ord("a") + i) for i in range(count)], [i % 3 % 2 for i in range(count)]
    train, other = dataset_of(*texts, labels=labels), dataset_of(*texts, labels=labels)
    return create_loaders(Splits(train, other, other), batch_size)


def test_training_draws_as_a_plain_loader_without_a_remainder_and_the_others_are_in_order():
    loaders = loaders_of(count=10, batch_size=4)
    plain = DataLoader([*b"abcdefghij"], batch_size=4, shuffle=True, drop_last=True)
    torch.manual_seed(5)
    ours = [inputs.flatten().tolist() for _ in range(2) for inputs, *_ in loaders.train]
    torch.manual_seed(5)
    assert ours == [batch.tolist() for _ in range(2) for batch in plain]
    for loader in (loaders.validation, loaders.test):
        assert torch.cat([inputs for inputs, *_ in loader]).flatten().tolist() == [*b"abcdefghij"]


@pytest.mark.parametrize("size", [2, 5])
def test_processes_share_each_batch(size, monkeypatch):
    expected = [inputs for inputs, *_ in loaders_of(9, 4).validation]
    found = [torch.full_like(inputs, -1) for inputs in expected]
    for rank in range(size):
        monkeypatch.setattr(module, "world", SimpleNamespace(size=size, rank=rank))
        shared = loaders_of(9, 4).validation
        assert len(shared) == len(expected)
        for batch, (inputs, lengths, own, _) in zip(found, shared, strict=True):
            assert len(inputs) == len(lengths) == max(1, len(own))
            batch[own] += 1 + inputs[: len(own)]
    assert all(map(torch.equal, found, expected))


def test_a_million_blanks_do_not_end_the_program():
    pattern = r" ?\p{L}+|\s+(?!\S)|\s+"  # of GPT-2's tokenizer, which fails on them
    ranks = {bytes([i]): i for i in range(256)}
    tokenizer = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    with pytest.raises(BaseException, match=r"StackOverflow|too many|imit"):
        tokenizer.encode_ordinary(" " * 1_100_000 + "a")
    (tokens,) = encode([" " * 1_100_000 + "a"], tokenizer, 0)
    assert len(tokens) >= 100_000
