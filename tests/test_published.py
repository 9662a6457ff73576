import pytest

from experiments.comparison.published import (
    CONCLUSIONS,
    DEPENDS,
    SUPPORTED,
    UNSUPPORTED,
    judge_all,
    published_text,
    table_text,
)
from experiments.comparison.statistics import mcnemar
from experiments.config.rows import ROWS

WORSE = "worse, for every overlap"


def cells_of(table):
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if set("".join(row)) != {"-"}]


def test_the_published_table_has_every_row_with_its_interval_and_verdict():
    table, notes, *_ = published_text().split("\n\n")
    heading, first, *others = cells_of(table)
    assert heading[-3:] == ["correct of 300", "95 % interval", "compared with row 1"]
    assert first == ["1", "(none)", "95.00", "285", "91.9 to 96.9", ""]
    assert [row[:2] for row in others] == [[str(n), ROWS[n].flags] for n in ROWS if n > 1]
    rows = {words: {int(r[0]) for r in others if r[5] == words} for words in {r[5] for r in others}}
    assert rows == {
        WORSE: {2, 3, 6, 13},
        "inconclusive": {5, 7, 10, 11, 17, 18, 19},
        DEPENDS: {4, 8, 9, 12, 14, 15, 16},
    }
    assert notes == "Row 8's validation accuracy, 99.81 %, is not a count of 149 examples."


def test_four_conclusions_have_a_supported_part_and_four_have_none():
    found = judge_all()
    assert found == [
        [SUPPORTED],  # the last token is better than the first
        [SUPPORTED],  # the last block than the head
        [DEPENDS],
        [UNSUPPORTED],
        [SUPPORTED, UNSUPPORTED, DEPENDS],  # larger models
        [UNSUPPORTED, DEPENDS],
        [DEPENDS, DEPENDS],  # LoRA
        [SUPPORTED],  # padding
        [DEPENDS, DEPENDS],
        [UNSUPPORTED],
        [DEPENDS],  # equality of rows 1 and 18, which can have 0 or 30 discordant examples
        [UNSUPPORTED],
    ]
    conclusions = cells_of(published_text().split("\n\n")[2])[1:]
    assert [row[0] for row in conclusions] == [c.text for c in CONCLUSIONS]
    assert [row[2] for row in conclusions] == ["; ".join(words) for words in found]
    pairs = [pair for c in CONCLUSIONS if not c.alike for pair in c.pairs]
    assert all(ROWS[a].test_accuracy < ROWS[b].test_accuracy for a, b in pairs)


# ------------------------------------------------------------------------------------- any table


@pytest.fixture
def write(tmp_path):
    def of(text):
        (tmp_path / "figures.csv").write_text(text)
        return tmp_path / "figures.csv"

    return of


def test_a_hand_computed_example(write):
    """Of 100: 90 and 70, which differ on 20 to 40 examples: p = 2 / 2^20 to 0.0022 (30 and 10)."""
    assert mcnemar(30, 10) < 0.0025
    rows = cells_of(table_text(write("name,n,correct\na,100,90\nb,100,70\nc,100,97\nNA,100,91\n")))
    assert rows == [
        ["name", "accuracy, %", "correct of 100", "95 % interval", "compared with a"],
        ["a", "90.00", "90", "82.6 to 94.5", ""],
        ["b", "70.00", "70", "60.4 to 78.1", WORSE],
        ["c", "97.00", "97", "91.5 to 99.0", DEPENDS],  # 7 and 0, Holm: 2 x 0.0156; or 10 and 3
        ["NA", "91.00", "91", "83.8 to 95.2", "inconclusive"],
    ]


@pytest.mark.parametrize(
    ("text", "accuracies"),
    [
        ("name,n,correct\na,1000,900\nb,1000,700\n", "90.00 70.00"),
        ('Name, N, Correct\na,"1,000",900\nb,"1,000", 700.0\n', "90.00 70.00"),
        ("name,n,accuracy\na,1000,0.9\nb,1000,0.7\n", "90.00 70.00"),
        ("name,n,accuracy\na,1000,90.0 %\nb,1000,70.04%\n", "90.00 70.00"),
        ("accuracy,name,n\n90,a,1000\n70.04,b,1000\n", "90.00 70.00"),
        ("name,n,accuracy\na,1000,0.9%\nb,1000,0.5%\n", "0.90 0.50"),
        ("name,n,accuracy\na,1000,1\nb,1000,0.5\n", "100.00 50.00"),
        ('name,n,correct\n"a ""b"", c",10,9\n', "90.00"),
    ],
)
def test_counts_proportions_and_percentages_are_read(text, accuracies, write):
    heading, *rows = cells_of(table_text(write(text)))
    assert heading[2] in ("correct of 1,000", "correct of 10")
    assert [row[1] for row in rows] == accuracies.split()
    assert rows[0][0] in ("a", 'a "b", c')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "figures.csv"),
        ("name,n\na,10\n", "needs the columns name, n, and correct or accuracy"),
        ("name,n,correct\n", "needs the columns"),
        ("name,n,correct\na,0,0\n", "is not between 0 and n"),
        ("name,n,correct\na,10,11\n", "a count of correct examples is not between 0 and n"),
        ("name,n,correct\na,10,-1\n", "is not between 0 and n"),
        ("name,n,correct\na,10,9.5\n", "9.5 is not a whole number"),
        ("name,n,correct\na,10,inf\n", "figures.csv: "),
        ("name,n,accuracy\na,10,high\n", "figures.csv: could not convert string to float"),
        ("name,n,correct\na,10,9\nb,20,9\n", "n differs, so that the lines are not of the same"),
        ('name,n,correct\n"a,10,9\n', "figures.csv"),
    ],
)
def test_a_broken_table_is_an_error_of_one_line(text, problem, write):
    with pytest.raises(ValueError, match=problem) as error:
        table_text(write(text))
    assert "\n" not in str(error.value).strip()
