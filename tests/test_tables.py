import csv
import json

import pytest
from records import make_run, make_seeds, make_substitute

from experiments.comparison.evidence import Verdict
from experiments.comparison.groups import group_runs
from experiments.comparison.metrics import METRICS
from experiments.comparison.summaries import summarise
from experiments.comparison.tables import class_rows, metric_rows, summary_rows, write_summaries

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
