import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import make_baseline, make_run, make_seeds, make_substitute

from experiments.comparison.groups import group_runs
from experiments.comparison.metrics import METRICS
from experiments.comparison.summaries import summarise
from experiments.comparison.tables import WIDTH, _columns, overview


def lines_of(*runs, metric="accuracy", reference=None, **more):
    found = summarise(group_runs(runs), 0.02, reference, METRICS[metric])
    return overview(found, reference, **more).splitlines()


def table_of(*runs, **more):
    lines = lines_of(*runs, **more)
    return lines[: lines.index("")]


def some_designs():
    return [
        *make_seeds(1, [range(20), range(21), range(20)]),
        *make_seeds(4, [range(2), range(3), range(2)]),
        *make_seeds(16, [range(60), range(61), range(63)]),
        *make_seeds(18, [range(20), range(21), range(20)]),
        make_baseline(wrong=range(140), total=300),
    ]


def test_a_design_is_a_line_of_numbers_an_interval_and_a_verdict():
    heading, *lines = table_of(*some_designs())
    assert heading.split()[:6] == ["design", "seeds", "accuracy", "difference", "(95", "%"]
    assert re.search(r"  -\d+(\.\d)? *0 *\+\d+(\.\d)?  verdict$", heading)
    assert [line.split()[-1] for line in lines[1:]] == ["better", "worse", "identical", "worse"]
    assert lines[0].split() == ["row", "1", "3", "93.22"]
    assert re.match(r"row 4 +3 +99.22  \+6.00 \(\+\d.\d\d to \+\d.\d\d\) ", lines[1])
    assert lines[3][lines[2].index("│")] == "●"  # no difference


def test_designs_are_sorted_by_row_or_with_the_best_first():
    names = [line.split("  ")[0] for line in table_of(*some_designs())[1:]]
    assert names == ["row 1", "row 4", "row 16", "row 18", "baseline majority"]
    best = ["row 4", "row 1", "row 18", "row 16", "baseline majority"]
    for metric in ("accuracy", "balanced_accuracy", "log_loss", "brier"):
        lines = table_of(*some_designs(), sort="difference", metric=metric)
        assert [line.split("  ")[0] for line in lines[1:]] == best


def test_intervals_are_drawn_in_unicode_or_ascii():
    unicode, ascii_ = (lines_of(*some_designs(), unicode=x) for x in (True, False))
    assert {*"─●"} <= set("".join(unicode))
    assert "".join(ascii_).isascii()
    assert any("o" in line and "|" in line for line in ascii_[1:4])


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_losses_have_three_digits_and_no_points(metric):
    lines = lines_of(*some_designs(), metric=metric)
    assert re.match(r"row 4 +3 +0.\d{3}  -0.\d{3} \(-0.\d{3} to -0.\d{3}\) ", lines[2])
    assert lines[2].endswith("better")
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


def test_long_names_are_wrapped_and_their_numbers_stay_whole():
    long = make_run(None, total=40, settings={"learning_rate": 5e-6, "weight_decay": 1e-05,
                    "batch_size": 16, "num_epochs": 50})  # fmt: skip
    lines = table_of(make_run(1, total=40), long)
    name = " ".join(line[:26].strip() for line in lines[2:])
    assert "learning_rate 5e-06, weight_decay 1e-05" in name
    assert all(number in " ".join(lines).split() for number in ("5e-06,", "1e-05"))


def test_large_differences_have_fewer_digits():
    lines = table_of(*make_seeds(1, [[]] * 3, 6), *make_seeds(4, [range(6), [], range(6)], 6))
    assert len(lines[2]) <= WIDTH
    assert re.search(r"-66.7 \(-\d+.\d to \+\d+.\d\)", lines[2])


# ------------------------------------------------------------------------------------------- notes


def test_there_are_five_notes_at_most():
    test = {"labels": [0] * 200 + [1] * 100, "predictions": [0] * 300,
            "probabilities": [[0.9, 0.1]] * 300}  # fmt: skip
    seeds = [(1, 0), (1, 1), (1, 2), (4, 0)]
    runs = [make_substitute(row, "a" * 64, seed=s, test=test, total=300) for row, s in seeds]
    text = overview(summarise(group_runs(runs), 0.02)).partition("\n\n")[2]
    starts = ("All runs: ", "Difference of", "row 1: 3 of 3 seeds", "The largest class", "More: ")
    assert [line.startswith(starts) for line in text.splitlines()].count(True) == 5
    assert text.endswith("--html report.html; docs/comparing.md.")


def test_one_seed_has_a_verdict_about_models():
    assert table_of(*make_seeds(1, [[]]), *make_seeds(4, [range(20)]))[2].endswith("models differ")
