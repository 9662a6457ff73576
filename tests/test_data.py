import errno
import io
import os
import shutil

import pandas as pd
import pytest
import tiktoken
import torch
from torch.utils.data import DataLoader

from experiments.data import sms_spam as spam_data
from experiments.data.datasets import SpamDataset, Splits, create_datasets, create_loaders
from experiments.data.demo import demo_messages, demo_splits, demo_tokenizer
from experiments.data.sms_spam import (
    SPLIT_SHA256,
    balance_messages,
    prepare_splits,
    read_messages,
    split_messages,
    to_csv,
)
from experiments.system.files import sha256_of

PAD = 50256


def csv_of(*texts, labels=None):
    frame = pd.DataFrame({"Label": labels or [0] * len(texts), "Text": texts})
    return io.StringIO(to_csv(frame))


def frames(files):
    return {name: read_messages(file) for name, file in files.items()}


def dataset_of(*texts, **more):
    return SpamDataset(csv_of(*texts), demo_tokenizer(), **more)


# ---------------------------------------------------------------------------------- real messages


def test_the_splits_are_the_published_ones_to_the_byte(real_data_dir):
    paths = prepare_splits(real_data_dir)
    assert {name: sha256_of(path) for name, path in paths.items()} == SPLIT_SHA256
    assert [len(pd.read_csv(path)) for path in paths.values()] == [1045, 149, 300]


def test_verified_splits_need_no_messages_and_are_not_written_again(real_data_dir, tmp_path):
    for name, path in prepare_splits(real_data_dir).items():
        (tmp_path / f"{name}.csv").write_bytes(path.read_bytes())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    prepare_splits(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_where_nothing_can_be_written_the_splits_are_made_in_memory(
    number, real_data, real_data_dir, tmp_path, monkeypatch
):
    def refuse(path, _):
        raise OSError(number, "no", str(path))

    written = prepare_splits(real_data_dir)
    shutil.copy(real_data / "SMSSpamCollection", tmp_path)
    shutil.copy(written["train"], tmp_path)
    monkeypatch.setattr(spam_data, "write_whole", refuse)
    made = prepare_splits(tmp_path)
    for name, path in written.items():
        pd.testing.assert_frame_equal(read_messages(made[name]), read_messages(path))
    assert {path.name for path in tmp_path.iterdir()} == {"SMSSpamCollection", "train.csv"}


def test_a_full_disk_is_not_taken_for_one_that_is_read_only(real_data, tmp_path, monkeypatch):
    def refuse(path, _):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    shutil.copy(real_data / "SMSSpamCollection", tmp_path)
    monkeypatch.setattr(spam_data, "write_whole", refuse)
    with pytest.raises(OSError, match="No space left"):
        prepare_splits(tmp_path)


@pytest.mark.parametrize("name", ["SMSSpamCollection", "train.csv"])
def test_messages_with_windows_line_ends_are_told_as_that(name, real_data_dir, tmp_path):
    prepare_splits(real_data_dir)
    content = (real_data_dir / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=rf"{name} is the expected file, but with the line ends"):
        prepare_splits(tmp_path)


def test_a_split_of_another_origin_is_refused_and_left_alone(real_data, tmp_path):
    (tmp_path / "SMSSpamCollection").write_bytes((real_data / "SMSSpamCollection").read_bytes())
    (tmp_path / "test.csv").write_text("Label,Text\n0,mine\n")
    with pytest.raises(ValueError, match=SPLIT_SHA256["test"]):
        prepare_splits(tmp_path)
    assert (tmp_path / "test.csv").read_text() == "Label,Text\n0,mine\n"
    assert not (tmp_path / "train.csv").exists()


def test_a_pandas_that_splits_otherwise_is_told_before_anything_is_written(
    real_data, tmp_path, monkeypatch
):
    (tmp_path / "SMSSpamCollection").write_bytes((real_data / "SMSSpamCollection").read_bytes())
    monkeypatch.setattr(spam_data, "SPLIT_SEED", 124)
    with pytest.raises(ValueError, match="makes another train split"):
        prepare_splits(tmp_path)
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_longest_training_message_has_120_tokens(real_data_dir):
    tokenizer = tiktoken.get_encoding("gpt2")
    datasets = create_datasets(
        frames(prepare_splits(real_data_dir)), tokenizer, 1024, is_longest=True
    )
    assert [dataset.max_length for dataset in datasets] == [120, 120, 120]
    assert [int(dataset.lengths.max()) for dataset in datasets] == [120, 90, 97]


# --------------------------------------------------------------------------------------- balance


def test_balancing_keeps_all_spam_and_as_many_ham():
    balanced = balance_messages(demo_messages(ham=30, spam=12))
    assert balanced["Label"].value_counts().to_dict() == {0: 12, 1: 12}
    assert balanced["Text"].str.contains("WINNER|Txt|URGENT|Last").sum() == 12


def test_the_splits_share_nothing_and_lose_nothing():
    messages = pd.DataFrame({"Label": 0, "Text": [f"message {i}" for i in range(101)]})
    splits = split_messages(messages)
    assert [len(split) for split in splits.values()] == [70, 10, 21]
    assert sorted(pd.concat(splits.values())["Text"]) == sorted(messages["Text"])


# --------------------------------------------------------------------------------------- dataset


def test_messages_are_cut_and_padded_to_the_limit():
    dataset = dataset_of("abc", "abcdefgh", max_length=5)
    expected = [[*b"abc", PAD, PAD], [*b"abcde"]]
    assert dataset.tokens.tolist() == expected
    assert dataset.lengths.tolist() == [3, 5]


def test_the_limit_is_the_longest_message_where_none_is_given():
    dataset = dataset_of("abc", "abcdefgh")
    assert dataset.max_length == 8
    assert dataset.tokens.shape == (2, 8)


def test_without_padding_every_message_has_its_own_length():
    dataset = dataset_of("abc", "abcdefgh", max_length=5, no_padding=True)
    assert [dataset[i][0].tolist() for i in range(2)] == [[*b"abc"], [*b"abcde"]]
    inputs, lengths, _ = dataset.batch([0])
    assert (inputs.tolist(), lengths.tolist()) == ([[*b"abc"]], [3])


def test_an_empty_message_is_one_padding_token():
    dataset = dataset_of("", "ab")
    assert dataset.tokens.tolist() == [[PAD, PAD], [*b"ab"]]
    assert dataset.lengths.tolist() == [1, 2]


@pytest.mark.parametrize(
    "text", ["NA", "null", "<|endoftext|>", 'a "quote', "1.5", "naïve 🐍", " "]
)
def test_any_text_is_read_back_as_the_text_it_is(text):
    dataset = dataset_of(text, "x")
    tokens = dataset.tokens[0, : dataset.lengths[0]].tolist()
    assert bytes(tokens).decode() == text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Label,Text\n0,a\n2,b\n", "has 2 in message 1, expected labels 0 and 1"),
        ("Label,Text\n0,a\neggs,b\n", "has eggs in message 1"),
        ("Label,Text\n0,a\n0.5,b\n", "has 0.5 in message 1"),
        ("Label,Text\n1,a\n,b\n", "has no label in message 1, expected labels 0 and 1"),
        ("Label,Text\n", "has no message"),
        ("Class,Text\n0,a\n", "lacks the column Label"),
    ],
)
def test_a_csv_of_something_else_is_told(content, words):
    with pytest.raises(ValueError, match=words):
        read_messages(io.StringIO(content))


@pytest.mark.parametrize(
    "labels",
    [
        ["1", "0"], ["1.0", "0.0"], ["1.00", "0."], ["True", "False"], ["TRUE", "false"],
        ["spam", "ham"], ["Spam", " ham "], ["spam", "0"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_labels_are_read_however_they_are_written(labels):
    content = "Label,Text\n" + "".join(f"{label},a\n" for label in labels)
    dataset = SpamDataset(io.StringIO(content), demo_tokenizer())
    assert dataset.labels.tolist() == dataset.data["Label"].tolist() == [1, 0]
    assert dataset.labels.dtype == torch.long


class OnlyEncode:
    """Has what transformers' tokenizers and a reader's own have, and not more."""

    def encode(self, text):
        return [ord(character) for character in text]


def test_a_tokenizer_needs_no_more_than_encode():
    dataset = SpamDataset(csv_of("abc", ""), OnlyEncode(), max_length=2)
    assert dataset.tokens.tolist() == [[*b"ab"], [PAD, PAD]]
    assert dataset.lengths.tolist() == [2, 1]


@pytest.mark.parametrize("linesep", ["\n", "\r\n", "\r"])
def test_lines_of_a_csv_end_alike_on_every_system(linesep, monkeypatch):
    monkeypatch.setattr(os, "linesep", linesep)
    assert to_csv(pd.DataFrame({"Label": [0, 1], "Text": ["a", "b"]})) == "Label,Text\n0,a\n1,b\n"


def test_an_item_is_the_pair_of_the_book_and_a_batch_has_lengths_too():
    dataset = SpamDataset(csv_of("abc", "d", labels=[1, 0]), demo_tokenizer())
    tokens, label = dataset[0]
    assert (tokens.tolist(), label.item()) == ([*b"abc"], 1)
    book_tokens, book_labels = next(iter(DataLoader(dataset, batch_size=2)))
    inputs, lengths, labels = dataset.batch([0, 1])
    assert torch.equal(book_tokens, inputs)
    assert torch.equal(book_labels, labels)
    assert lengths.tolist() == [3, 1]


# --------------------------------------------------------------------------------------- loaders


def loaders_of(count, batch_size):
    dataset = dataset_of(*[chr(ord("a") + i) for i in range(count)])
    other = dataset_of(*[chr(ord("a") + i) for i in range(count)])
    return create_loaders(Splits(dataset, other, other), batch_size)


def test_training_is_shuffled_and_drops_the_rest_while_the_others_stay_whole():
    loaders = loaders_of(count=10, batch_size=4)
    torch.manual_seed(0)
    train = torch.cat([inputs for inputs, *_ in loaders.train]).flatten().tolist()
    test = torch.cat([inputs for inputs, *_ in loaders.test]).flatten().tolist()
    assert len(train) == 8
    assert train != sorted(train)
    assert test == [*b"abcdefghij"]


def test_a_pass_draws_the_random_numbers_that_a_plain_loader_draws():
    loader = loaders_of(count=10, batch_size=4).train
    plain = DataLoader(list(range(10)), batch_size=4, shuffle=True, drop_last=True)
    torch.manual_seed(5)
    ours = [inputs.flatten().tolist() for _ in range(2) for inputs, *_ in loader]
    torch.manual_seed(5)
    expected = [[ord("a") + i for i in batch.tolist()] for _ in range(2) for batch in plain]
    assert ours == expected


# ------------------------------------------------------------------------------------------ demo


def test_the_made_up_messages_are_the_same_every_time():
    assert demo_messages().equals(demo_messages())
    assert not demo_messages(seed=1).equals(demo_messages())


def test_the_demo_has_the_form_of_the_real_data():
    datasets = create_datasets(frames(demo_splits()), demo_tokenizer(), 1024, is_longest=True)
    assert all(set(dataset.labels.tolist()) == {0, 1} for dataset in datasets)
    assert len({dataset.max_length for dataset in datasets}) == 1
    assert datasets.train.tokens[0, -1] in (PAD, *range(256))
