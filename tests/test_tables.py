import csv
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import make_baseline, make_design, make_run, make_seeds, make_substitute

from experiments.comparison.evidence import Verdict
from experiments.comparison.groups import group_runs
from experiments.comparison.metrics import METRICS
from experiments.comparison.summaries import summarise
from experiments.comparison.tables import (
    WIDTH,
    _columns,
    class_rows,
    metric_rows,
    overview,
    summary_rows,
    write_summaries,
)

# ------------------------------------------------------------------------------------- summaries


def test_devices_are_named_once_and_times_are_medians():
    cuda = {"device": "NVIDIA A100", "device_type": "cuda"}
    runs = [make_run(seed=seed, seconds={"train": seed}, environment=cuda) for seed in (2, 9)]
    runs.append(make_run(seed=1, seconds={"prefix": 2.0, "train": 3.0}))
    (s,) = summarise(group_runs(runs), 0.01)
    assert (s.device, s.train_seconds) == ("cpu; NVIDIA A100", 5)


@pytest.mark.parametrize("metric", METRICS.values())
def test_the_value_is_that_of_the_metric_over_the_seeds_that_are_compared(metric):
    runs = [*make_seeds(1, [[1], [2]]), *make_seeds(4, [range(9), range(1, 6, 2), range(99)])]
    one, other = summarise(group_runs(runs), 0.01, metric=metric)
    assert other.value - one.value == pytest.approx(other.evidence.difference.mean)
    assert (other.seeds, other.evidence.seeds, other.largest_class) == (3, [0, 1], 0.5)


# ----------------------------------------------------------------------------------- for a terminal


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


# -------------------------------------------------------------------------------------- all columns

HEADING = [
    "run", "published, %", "first seed, %", "correct", "95 % interval",
    "without duplicates of training examples, %", "seeds", "mean ± sd, %", "range, %",
    "only the reference correct", "only this correct", "difference", "p", "p (Holm)", "verdict",
    "minimum detectable difference", "seeds or examples needed",
    "training, s", "device",
]  # fmt: skip


@pytest.fixture(scope="module")
def few():
    """One seed of row 1, two of row 4, row 8 with another seed, and row 16 with errors."""
    return group_runs([
        make_run(1, wrong=[1, 2], total=40),
        make_run(4, total=40),
        make_run(4, seed=124, wrong=[3], total=40),
        make_run(8, seed=7, wrong=[5], total=40),
        make_run(16, wrong=range(12), total=40),
    ])  # fmt: skip


def test_the_table_of_summaries(few):
    rows, power = summary_rows(found := summarise(few, 0.01)), found[1].evidence.power
    detectable, needed = f"{100 * power.detectable:.1f} points", f"{power.examples} examples"
    assert rows == [
        HEADING,
        ["row 1", "95.00 (91.9 to 96.9)", "95.00", "38 of 40", "83.5 to 98.6", "94.74", "1",
         *[""] * 10, "4.0", "cpu"],
        ["row 4", "98.33 (96.2 to 99.3)", "100.00", "40 of 40", "91.2 to 100.0", "100.00", "2",
         "98.75 ± 1.77", "97.50 to 100.00", "0", "2", "+5.00", "0.5", "0.5",
         Verdict.MODELS_INCONCLUSIVE, detectable, needed, "7.0", "cpu"],
        ["row 8", "98.33 (96.2 to 99.3)", "97.50", "39 of 40", "87.1 to 99.6", "97.37", "1",
         *[""] * 10, "11.0", "cpu"],
        ["row 16", "98.33 (96.2 to 99.3)", "70.00", "28 of 40", "54.6 to 81.9", "73.68", "1",
         "", "", "10", "0", "-25.00", "0.002", "0.0039", Verdict.MODELS_DIFFER, "", "", "19.0",
         "cpu"],
    ]  # fmt: skip


def test_the_tables_of_metrics(few):
    summaries = summarise(few, 0.01)
    assert metric_rows(summaries) == [
        ["run", "accuracy, %", "macro F1", "AUROC", "log loss", "Brier", "calibration error",
         "log loss difference", "Brier score difference"],
        ["row 1", "95.00", "0.9500", "0.9500", "0.2152", "0.0500", "0.0500", "", ""],
        ["row 4", "98.75", "0.9875", "0.9875", "0.1328", "0.0200", "0.0875", "-0.110", "-0.040"],
        ["row 8", "97.50", "0.9750", "0.9750", "0.1603", "0.0300", "0.0750", "", ""],
        ["row 16", "70.00", "0.7000", "0.7000", "0.7645", "0.2500", "0.2000", "+0.549", "+0.200"],
    ]  # fmt: skip
    assert class_rows(summaries[::2]) == [
        ["run", "class", "precision", "recall", "predicted as"],
        ["row 1", "ham", "0.9500", "0.9500", "19 ham, 1 spam"],
        ["row 1", "spam", "0.9500", "0.9500", "1 ham, 19 spam"],
        ["row 8", "ham", "0.9524", "1.0000", "20 ham"],
        ["row 8", "spam", "1.0000", "0.9500", "1 ham, 19 spam"],
    ]


def test_what_is_not_defined_is_left_out_or_a_dash():
    test = {"labels": [0] * 12, "predictions": [0] * 12, "probabilities": [[0.9, 0.1]] * 12,
            "in_training": [True] * 12}  # fmt: skip
    found = summarise(group_runs([make_run(1, test=test, data="a" * 64)]), 0.01)
    columns = "run", "first seed, %", "correct", "95 % interval", "seeds", "training, s", "device"
    assert summary_rows(found)[0] == [*columns]
    assert metric_rows(found)[1][3] == "-"
    assert [row[2] for row in class_rows(found)] == ["precision", "1.0000", "-"]


# ------------------------------------------------------------------------------------- CSV and JSON


def written(runs, folder, **more):
    summaries = summarise(group_runs(runs), 0.02, **more)
    write_summaries(summaries, folder / "t.csv", folder / "t.json")
    return summaries, json.loads((folder / "t.json").read_text())


def test_csv_and_json_have_the_same_columns_and_values(few, tmp_path):
    _, rows = written([run for group in few.values() for run in group], tmp_path)
    with (tmp_path / "t.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(few)
    as_text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    assert as_text == table
    assert [list(row) for row in rows] == [list(line) for line in table]


@pytest.mark.parametrize("metric", METRICS.values())
def test_json_has_the_comparison_with_row_1(metric, tmp_path):
    test = {"same_text": [0, *range(299)]}
    runs = make_seeds(1, [[1, 2], [1], [5]], test=test)
    runs += make_seeds(4, [range(9), [3, 1, 7], []], test=test)
    (_, summary), (base, row) = written(runs, tmp_path, metric=metric)
    evidence, crossed = summary.evidence, summary.evidence.difference.crossed
    expected = {
        "verdict": summary.verdict,
        "sentence": summary.sentence,
        "shared_seeds": 3,
        "distinct_examples": 299,
        "only_base": 7,
        "only_this": 0,
        "margin": 0.02,
        "p_value": evidence.p_value,
        "corrected_p_value": evidence.corrected_p_value,
        "metric": metric.name,
        "equivalence_low": crossed.equivalence.low,
        "equivalence_high": crossed.equivalence.high,
        "variance_seeds": crossed.components.seeds,
        "variance_examples": crossed.components.examples,
        "variance_rest": crossed.components.rest,
        "minimum_detectable_difference": evidence.power.detectable,
        "seeds_needed": evidence.power.seeds,
        "examples_needed": evidence.power.examples,
    }
    columns = {f"{name}_difference": found for name, found in evidence.differences.items()}
    columns["brier_score_difference"] = columns.pop("brier_difference")
    for name, found in (columns | {"difference": evidence.difference}).items():
        low, high = found.crossed.interval
        expected |= {name: found.mean, f"{name}_low": low, f"{name}_high": high}
    assert {name: row[name] for name in expected} == expected
    assert {base[name] for name in list(expected)[2:]} == {None}
    assert (row["low"], row["high"]) == summary.interval


def test_json_has_weights_data_and_precision(tmp_path):
    run = make_substitute(1, "a" * 64, precision="bfloat16", data="b" * 64)
    _, (row,) = written([run], tmp_path)
    expected = {
        "name": "row 1",  # all groups share the rest
        "weights": "a" * 64,
        "data": "b" * 64,
        "precision": "bfloat16",
        "substitute": "checkpoint tiny.safetensors",
        "published_percent": None,
        "deviation": None,
    }
    assert {name: row[name] for name in expected} == expected
