import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import make_baseline, make_design, make_seeds, make_substitute

from experiments.comparison.groups import group_runs
from experiments.comparison.metrics import METRICS
from experiments.comparison.summaries import summarise
from experiments.comparison.tables import WIDTH, _columns, overview


def lines_of(*runs, metric="accuracy", **more):
    return overview(summarise(group_runs(runs), 0.02, metric=METRICS[metric]), **more).splitlines()


SOME = [
    *make_seeds(1, [range(20), range(21), range(20)]),
    *make_seeds(4, [range(2), range(3), range(2)]),
    *make_seeds(16, [range(60), range(61), range(63)]),
    *make_seeds(18, [range(20), range(21), range(20)]),
    make_baseline(wrong=range(140), total=300),
]


TABLE = """
design                      seeds  accuracy  difference (95 % CI)       -45.5 0 +45.5  verdict
row 1                           3     93.22
row 4                           3     99.22  +6.00 (+3.07 to +8.93)           ┼●       better
row 16                          3     79.56  -13.67 (-17.79 to -9.55)       ●─│        worse
row 18                          3     93.22  +0.00 (-1.25 to +1.25)           ●        identical
baseline majority               1     53.33  -39.89 (-45.51 to -34.27)  ─●    │        worse
"""


def test_a_design_is_a_line_of_numbers_an_interval_and_a_verdict():
    assert lines_of(*SOME[::-1])[:6] == TABLE.split("\n")[1:-1]
    ascii_ = TABLE.translate(str.maketrans("─│┼●", "-||o"))
    assert lines_of(*SOME, unicode=False)[:6] == ascii_.split("\n")[1:-1]


@pytest.mark.parametrize("metric", METRICS)
def test_designs_are_sorted_with_the_best_first_and_losses_have_no_points(metric):
    lines = lines_of(*SOME, sort="difference", metric=metric)
    names = [line[:26].strip() for line in lines[1:6]]
    assert names == ["row 4", "row 1", "row 18", "row 16", "baseline majority"]
    if METRICS[metric].is_loss:
        assert re.match(
            r"row 4 +3 +0.\d{3}  -0.\d{3} \(-0.\d{3} to -0.\d{3}\) .* better$", lines[1]
        )
        assert "within 0.02;" in " ".join(lines)
        assert "point" not in " ".join(lines)


NAMES = st.text(st.characters(codec="utf-8"), max_size=60)
WRONG = st.lists(st.integers(0, 39), max_size=40, unique=True)


@settings(max_examples=8)
@given(
    st.lists(NAMES, min_size=2, max_size=2),
    st.lists(st.lists(WRONG, min_size=3, max_size=3), min_size=3, max_size=3),
    st.sampled_from(["accuracy", "log_loss"]),
    st.booleans(),
)
def test_no_line_is_wider_than_the_terminal_whatever_names_and_numbers(names, wrong, metric, flat):
    runs = make_seeds(1, wrong[0], 40)
    for row, label, of_row in zip((4, 16), names, wrong[1:], strict=True):
        runs += make_seeds(row, of_row, 40, label=label or None)
    lines = lines_of(*runs, metric=metric, unicode=not flat)
    assert all(_columns(line) <= WIDTH for line in lines)
    numbers = [line for line in lines[1 : lines.index("")] if re.search(r" 3 +\d", line)]
    assert len(numbers) >= 3  # one line for each design


def test_long_names_are_wrapped_and_large_differences_have_fewer_digits():
    long = make_design(None, 0, learning_rate=5e-6, weight_decay=1e-5, num_epochs=50)
    runs = [*make_seeds(1, [[]] * 3, 12), *make_seeds(4, [range(12), [], range(12)], 12), long]
    lines = lines_of(*runs)
    (row_4,) = (line for line in lines if line.startswith("row 4"))
    assert re.search(r"-66.7 \(-\d+.\d to \+\d+.\d\)", row_4)
    name = " ".join(line[:26].strip() for line in lines[: lines.index("")])
    assert "learning_rate 5e-06, weight_decay 1e-05" in name


def test_there_are_five_notes_at_most():
    test = {"labels": [0] * 200 + [1] * 100, "predictions": [0] * 300,
            "probabilities": [[0.9, 0.1]] * 300}  # fmt: skip
    seeds = [(1, 0), (1, 1), (1, 2), (4, 0)]
    runs = [make_substitute(row, "a" * 64, seed=s, test=test, total=300) for row, s in seeds]
    lines = lines_of(*runs)
    starts = ("All runs: ", "Difference of", "row 1: 3 of 3 seeds", "The largest class", "More: ")
    assert [line.startswith(starts) for line in lines[lines.index("") :]].count(True) == 5
    assert lines[-1].endswith("--html report.html; docs/comparing.md.")


def test_one_seed_has_a_verdict_about_models():
    assert lines_of(*make_seeds(1, [[]]), *make_seeds(4, [range(20)]))[2].endswith("models differ")
