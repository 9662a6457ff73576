import pytest
from three_classes import LABEL, TEXT, three_classes, write_three_classes

from experiments.config.settings import CustomData, DataConfig
from experiments.data.corpus import digest_of, load_corpus, same_texts


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_three_classes(tmp_path_factory.mktemp("three"))


def load(files, **options):
    return load_corpus(DataConfig(), CustomData(**({"data": files["csv"]} | options)))


def test_each_file_is_read_and_its_columns_are_noted(files):
    paths = {"validation_data": files["jsonl"], "test_data": files["json"]}
    corpus = load(files, **paths, text_column=(TEXT,), label_column=LABEL)
    assert corpus.class_names == ("order", "other", "return")
    assert corpus.num_classes == 3
    for split_ in corpus.splits.values():
        found = [
            (corpus.class_names[k], text)
            for k, text in zip(split_["Label"], split_["Text"], strict=True)
        ]
        assert found == three_classes()
    assert corpus.text_columns == (TEXT,)
    columns = f"texts {TEXT!r}, labels {LABEL!r}"
    assert corpus.notes[1::2][:3] == [
        f"{files['csv']}: {columns}, not used 'id'", f"{files['jsonl']}: {columns}",
        f"{files['json']}: {columns}",
    ]  # fmt: skip
    assert corpus.notes[0].startswith(
        f"{files['csv']}: CSV, UTF-8, separator comma, quoting double; 300 examples in "
    )
    assert any("also in the training data" in note for note in corpus.notes[6:])
    swapped = load(
        files, text_column=(LABEL,), label_column="id", **dict.fromkeys(paths, files["csv"])
    )
    assert (swapped.num_classes, len({*swapped.splits["train"]["Text"]})) == (300, 3)


def test_the_digest_identifies_the_splits(files, tmp_path):
    other = tmp_path / "other.csv"
    other.write_bytes(files["csv"].read_bytes().replace(b",other\r", b",others\r"))
    digests = [
        load(files, **options).digest
        for options in [
            {}, {"split_seed": 1}, {"balance": True}, {"train_size": 200}, {"split": (80, 10, 10)},
            {"data": other}, {"validation_data": files["csv"]}, {"test_data": files["csv"]},
        ]
    ]  # fmt: skip
    assert len({*digests}) == 8
    assert load(files, data=files["jsonl"]).digest == digests[0]


@pytest.mark.parametrize(
    ("options", "digest"),
    [({}, "c01101ead8e9b529"),
     ({"train_size": 50, "split_seed": 7, "split": (80, 10, 10)}, "ed66c3a4a10f6219"),
     ({"balance": True, "train_size": 50, "split_seed": 7, "split": (80, 10, 10)},
      "bdc39d68969d7fc5")],
)  # fmt: skip
def test_the_same_data_have_the_digest_that_records_contain(files, options, digest):
    assert load(files, **options).digest[:16] == digest


def test_the_digest_of_what_is_split_and_how_is_the_same_for_every_seed(files):
    one, other = load(files, split_seed=5), load(files, split_seed=6)
    assert (one.whole == other.whole, one.digest == other.digest) == (True, False)
    for options in ({"split": (80, 10, 10)}, {"balance": True}, {"train_size": 50},
                    {"test_data": files["csv"]}):  # fmt: skip
        assert load(files, split_seed=5, **options).whole != one.whole
    assert one.whole == "8d9ca6308cbf2abe0cd8905ee248fd215b3190aa296ccb858ac9f427760d3ba4"


def test_the_demo_has_a_digest_of_its_own_and_two_classes():
    corpus = load_corpus(DataConfig(demo=True), CustomData())
    assert corpus.class_names == ("ham", "spam")
    assert [len(split) for split in corpus.splits.values()] == [251, 36, 73]
    assert corpus.digest == digest_of(corpus.splits, corpus.class_names)
    assert corpus.digest[:16] == "fc9cf4bfcdf6dc9e"


def test_equal_texts_have_the_index_of_the_first():
    assert same_texts(["a", "b", "a", "c", "b", "A"]) == [0, 1, 0, 3, 1, 5]
