import pytest

from experiments.comparison.published import (
    ALIKE,
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

WORSE, BETTER = "worse, for every overlap", "better, for every overlap"


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
        [DEPENDS],
        [UNSUPPORTED],
    ]
    conclusions = cells_of(published_text().split("\n\n")[2])[1:]
    assert [row[0] for row in conclusions] == [c.text for c in CONCLUSIONS]
    assert [row[2] for row in conclusions] == ["; ".join(words) for words in found]


def test_the_better_row_of_a_conclusion_has_the_higher_accuracy():
    pairs = [pair for c in CONCLUSIONS if not c.alike for pair in c.pairs]
    assert all(ROWS[a].test_accuracy < ROWS[b].test_accuracy for a, b in pairs)


def test_equality_needs_few_discordant_examples():
    """Rows 1 and 18: 285 correct each. All errors shared, or none: 0 or 30 discordant of 300."""
    half = [1.645 * ((2 * p) / 302) ** 0.5 for p in (1 / 302, 16 / 302)]  # with 1 added to each
    assert (100 * half[0] < ALIKE, 100 * half[1] < ALIKE) == (True, False)
    place = [c.pairs for c in CONCLUSIONS].index(((1, 18),))
    assert judge_all()[place] == [DEPENDS]


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
    rows = cells_of(table_text(write("name,n,correct\na,100,90\nb,100,70\nc,100,97\nd,100,91\n")))
    assert rows == [
        ["name", "accuracy, %", "correct of 100", "95 % interval", "compared with a"],
        ["a", "90.00", "90", "82.6 to 94.5", ""],
        ["b", "70.00", "70", "60.4 to 78.1", WORSE],
        ["c", "97.00", "97", "91.5 to 99.0", DEPENDS],  # 7 and 0, Holm: 2 x 0.0156; or 10 and 3
        ["d", "91.00", "91", "83.8 to 95.2", "inconclusive"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "name,n,correct\na,1000,900\nb,1000,700\n",
        "Name, N, Correct\na, 1000, 900\nb, 1000, 700\n",
        'name,n,correct\na,"1,000",900\nb,"1,000",700.0\n',
        "name,n,accuracy\na,1000,0.9\nb,1000,0.7\n",
        "name,n,accuracy\na,1000,90\nb,1000,70.04\n",
        "name,n,accuracy\na,1000,90.0 %\nb,1000,70%\n",
        "accuracy,name,n\n0.9,a,1000\n0.7,b,1000\n",
    ],
)
def test_counts_proportions_and_percentages_are_read(text, write):
    rows = cells_of(table_text(write(text)))
    assert [row[2] for row in rows] == ["correct of 1,000", "900", "700"]
    assert rows[2][4] == WORSE


@pytest.mark.parametrize(
    ("text", "accuracies"),
    [("0.9%,0.5%", ["0.90", "0.50"]), ("1,0.5", ["100.00", "50.00"]), ("1.0,1.0", ["100.00"] * 2)],
)
def test_small_percentages_are_not_proportions(text, accuracies, write):
    one, other = text.split(",")
    rows = cells_of(table_text(write(f"name,n,accuracy\na,1000,{one}\nb,1000,{other}\n")))
    assert [row[1] for row in rows[1:]] == [f"{float(a):.2f}" for a in accuracies]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "figures.csv"),
        ("name,n\na,10\n", "needs the columns name, n, and correct or accuracy"),
        ("name,n,correct\n", "needs the columns"),
        ("name,n,correct\na,10,11\n", "a count of correct examples is not between 0 and n"),
        ("name,n,correct\na,10,-1\n", "is not between 0 and n"),
        ("name,n,correct\na,0,0\n", "is not between 0 and n"),
        ("name,n,correct\na,10,9.5\n", "9.5 is not a whole number"),
        ("name,n,correct\na,10,\n", "figures.csv: "),
        ("name,n,correct\na,10,inf\n", "figures.csv: "),
        ("name,n,accuracy\na,10,high\n", "figures.csv: could not convert string to float"),
        ("name,n,accuracy\na,10,\nb,10,0.5\n", "figures.csv: "),
        ("name,n,correct\na,10,9\nb,20,9\n", "n differs, so that the lines are not of the same"),
        ('name,n,correct\n"a,10,9\n', "figures.csv"),
    ],
)
def test_a_broken_table_is_an_error_of_one_line(text, problem, write):
    with pytest.raises(ValueError, match=problem) as error:
        table_text(write(text))
    assert "\n" not in str(error.value).strip()


def test_names_are_text_and_one_line_is_enough(write):
    rows = cells_of(table_text(write('name,n,correct\n"a ""b"", c",10,9\n')))
    assert [row[0] for row in rows] == ["name", 'a "b", c']
    assert cells_of(table_text(write("name,n,correct\nNA,10,9\n7,10,8\n")))[1][0] == "NA"
