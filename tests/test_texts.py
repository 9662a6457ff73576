import re

import pytest
from records import make_record
from three_classes import write_three_classes

from experiments.comparison.pairs import compare_pair
from experiments.comparison.texts import find_texts
from experiments.config.flags import parse_args
from experiments.data.custom import load_own
from experiments.runs.results import describe_split


@pytest.fixture
def mine(tmp_path):
    return write_three_classes(tmp_path)["csv"]


def record_of(*flags, row=1, **more):
    """A record of a run on one's own messages that these flags name."""
    own = parse_args(["--data", *map(str, flags)]).own
    corpus = load_own(own)
    split = describe_split(own, corpus)
    record = make_record(row, data=corpus.digest, split=split, total=len(corpus.splits["test"]))
    return record | more, corpus.splits["test"]["Text"].tolist()


def test_own_texts_are_read_again_with_the_split_of_the_record(mine, tmp_path):
    flags = [mine, "--split", "60/20/20", "--split_seed", "5", "--balance", "--train_size", "60"]
    first, texts = record_of(*flags)
    other, others = record_of(mine)
    assert texts != others
    found = find_texts([first, other], tmp_path / "none.csv")
    assert found == {first["data"]: texts, other["data"]: others}


def test_a_pair_shows_a_text_on_one_line(mine):
    first, texts = record_of(mine)
    texts[0] = "two\r\nlines"
    pair = [first], [record_of(mine, row=16)[0]]
    pair[1][0]["test"]["predictions"][0] ^= 1
    assert re.search(r" and 0\.100  in training  two lines$", compare_pair(*pair, 0.01, texts))


def test_texts_that_are_no_longer_there_are_not_shown_and_told(mine, tmp_path, capsys):
    record, _ = record_of(mine)
    unread = record | {"split": record["split"] | {"flags": ["--data", "-"]}, "data": "b" * 64}
    mine.write_text(mine.read_text(encoding="utf-8") + "300,one more,order\r\n", encoding="utf-8")
    assert find_texts([record, unread], tmp_path / "none.csv") == {}
    told = capsys.readouterr().err.splitlines()
    assert f"{mine} holds other messages than when it was trained on" in told[0]
    assert "standard input, which cannot be read again" in told[1]
    mine.unlink()
    assert find_texts([record], tmp_path / "none.csv") == {}
    assert str(mine) in capsys.readouterr().err


def test_an_older_record_of_own_messages_has_no_texts(tmp_path, capsys):
    record = make_record(1, data="a" * 64, split={"of": "b" * 64, "seed": 5})
    assert find_texts([record, make_record(1)], tmp_path / "none.csv") == {}
    assert capsys.readouterr().err == ""


def test_a_csv_holds_for_records_with_its_labels(tmp_path):
    record = make_record(1)
    rows = [f"{label},text {i}" for i, label in enumerate(record["test"]["labels"])]
    file = tmp_path / "test.csv"
    file.write_text("\n".join(["Label,Text", *rows]))
    assert find_texts([record], file)[record["data"]][7] == "text 7"
    file.write_text("\n".join(["Label,Text", *reversed(rows)]))
    assert find_texts([record], file) == {}
