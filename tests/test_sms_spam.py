import errno
import io
import os
import re
import shutil
from unittest.mock import Mock

import pandas as pd
import pytest

from experiments.config.rows import SPLIT_SHA256
from experiments.config.settings import CustomData, DataConfig
from experiments.data import sms_spam
from experiments.data.corpus import load_corpus
from experiments.data.datasets import tokenize
from experiments.data.sms_spam import missing_files, prepare_splits, read_messages, to_csv
from experiments.system.files import sha256_of


@pytest.fixture
def folder(real_data, tmp_path):
    """A folder with the collection, and without the splits."""
    shutil.copy(real_data / "SMSSpamCollection", tmp_path)
    return tmp_path


# ---------------------------------------------------------------------------- the published splits


def test_the_splits_are_the_published_ones_to_the_byte(real_data_dir, tmp_path):
    paths = prepare_splits(real_data_dir)
    assert {name: sha256_of(path) for name, path in paths.items()} == SPLIT_SHA256
    assert [len(pd.read_csv(path)) for path in paths.values()] == [1045, 149, 300]
    for path in paths.values():
        shutil.copy(path, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    prepare_splits(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert missing_files(tmp_path) == []


def test_missing_messages_are_named_with_how_to_place_them(folder):
    (folder / "SMSSpamCollection").rename(folder / "SMSSpamCollection.tsv")
    assert missing_files(folder) == []
    (folder / "SMSSpamCollection.tsv").unlink()
    (sentence,) = missing_files(folder)
    assert re.fullmatch(
        r"Save the member SMSSpamCollection of the zip at https://archive\.ics\.uci\.edu/\S+ or "
        rf"https://\S+ as {folder / 'SMSSpamCollection'} \(SHA-256 7d039a24.*\)\.", sentence
    )  # fmt: skip


def test_in_a_read_only_folder_splits_stay_in_memory(real_data_dir, folder, monkeypatch):
    written, write = prepare_splits(real_data_dir), Mock()
    shutil.copy(written["train"], folder)
    monkeypatch.setattr(sms_spam, "write_whole", write)
    for number in (errno.EACCES, errno.EPERM, errno.EROFS):
        write.side_effect = OSError(number, os.strerror(number))
        made = prepare_splits(folder)
        for name, path in written.items():
            pd.testing.assert_frame_equal(read_messages(made[name]), read_messages(path))
    write.side_effect = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        prepare_splits(folder)
    assert {path.name for path in folder.iterdir()} == {"SMSSpamCollection", "train.csv"}


@pytest.mark.parametrize("name", ["SMSSpamCollection", "train.csv"])
def test_files_with_windows_line_endings_are_an_error_that_says_so(name, real_data_dir, tmp_path):
    prepare_splits(real_data_dir)
    content = (real_data_dir / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=f"{name} is the expected file, but with Windows"):
        prepare_splits(tmp_path)


def test_other_splits_than_the_published_ones_are_refused(folder, monkeypatch):
    (folder / "test.csv").write_text("Label,Text\n0,mine\n")
    with pytest.raises(ValueError, match=SPLIT_SHA256["test"]):
        prepare_splits(folder)
    assert (folder / "test.csv").read_text() == "Label,Text\n0,mine\n"
    (folder / "test.csv").unlink()
    monkeypatch.setattr(sms_spam, "_SEED", 124)
    with pytest.raises(ValueError, match="makes another train split"):
        prepare_splits(folder)
    assert [path.name for path in folder.iterdir()] == ["SMSSpamCollection"]


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_longest_training_message_has_120_tokens(real_data_dir):
    data = DataConfig(data_dir=real_data_dir)
    datasets = tokenize(load_corpus(data, CustomData()), data, 1024)
    assert [dataset.max_length for dataset in datasets] == [120, 120, 120]
    assert [int(dataset.lengths.max()) for dataset in datasets] == [120, 90, 97]


# --------------------------------------------------------------------------------------------- CSV


@pytest.mark.parametrize("linesep", ["\n", "\r\n", "\r"])
def test_lines_of_a_csv_end_alike_on_every_system(linesep, monkeypatch):
    monkeypatch.setattr(os, "linesep", linesep)
    assert to_csv(pd.DataFrame({"Label": [0, 1], "Text": ["a", "b"]})) == "Label,Text\n0,a\n1,b\n"


def test_any_text_is_read_back_unchanged():
    texts = ["NA", "null", "<|endoftext|>", 'a "quote', "1.5", "naïve 🐍", " ", ""]
    for some in (texts, [*texts, "a\rb", "a\r\nb"], ["007"]):
        frame = pd.DataFrame({"Label": 0, "Text": some})
        assert read_messages(io.StringIO(to_csv(frame)))["Text"].tolist() == some


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Label,Text\n0,a\n2,b\n", "has 2 in message 1, expected labels 0 and 1"),
        ("Label,Text\n0,a\neggs,b\n", "has eggs in message 1"),
        ("Label,Text\n0,a\n0.5,b\n", "has 0.5 in message 1"),
        ("Label,Text\n1,a\n,b\n", "has no label in message 1, expected labels 0 and 1"),
        ("Label,Text\n", "has no messages"),
        ("Class,Text\n0,a\n", "lacks the column Label"),
    ],
)
def test_a_csv_of_something_else_is_an_error(content, words):
    with pytest.raises(ValueError, match=words):
        read_messages(io.StringIO(content))


@pytest.mark.parametrize("labels", ["1 0", "1.0 0.0", "1.00 0.", "TRUE false", "Spam ham"])
def test_labels_may_be_written_in_several_ways(labels):
    content = "Label,Text\n" + "".join(f" {label},a\n" for label in labels.split())
    found = read_messages(io.StringIO(content))["Label"]
    assert found.tolist() == [1, 0]
    assert found.dtype == "int64"
