import csv
import itertools
import json
import math
import os
import sys

import numpy as np
import pytest
from records import make_record

from compare_experiments import main
from experiments.comparison.pairs import QUESTIONS, compare_pair
from experiments.comparison.statistics import (
    bootstrap_interval,
    holm,
    mcnemar,
    pairing_limits,
    t_interval,
    verdict,
    wilson_interval,
)
from experiments.comparison.summaries import group_records, summarise
from experiments.comparison.tables import notes, published_verdicts, summary_table
from experiments.records import write_record

# ------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (15, 148, 0.0624, 0.1605),  # Newcombe 1998, Stat. Med. 17, table I: methods 3, 81/263 etc.
        (81, 263, 0.2553, 0.3662),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_one_of_newcombes_table(count, total, low, high):
    interval = wilson_interval(count, total)
    assert interval == pytest.approx((low, high), abs=5e-5)


def exact(only_first, only_second):
    """The two-sided exact p-value by counting all outcomes at least as far from the middle."""
    n = only_first + only_second
    far = abs(only_first - n / 2)
    return sum(math.comb(n, k) for k in range(n + 1) if abs(k - n / 2) >= far) / 2**n


def test_mcnemar_is_exact():
    for only_first, only_second in itertools.product(range(9), repeat=2):
        expected = exact(only_first, only_second)
        assert mcnemar(only_first, only_second) == pytest.approx(expected)
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 7) == pytest.approx(0.0703125)


def test_holm_steps_down_and_never_turns_around():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_t_interval_is_the_textbooks():
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert t_interval([1.0]) == (-math.inf, math.inf)


def test_the_bootstrap_agrees_with_the_normal_limit_and_with_itself():
    values = np.repeat([0.0, 1.0, -1.0], [250, 40, 10])
    interval = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval == pytest.approx((0.1 - half, 0.1 + half), abs=0.006)
    assert bootstrap_interval(values) == interval


def test_a_verdict_needs_both_a_small_p_and_a_difference():
    assert verdict(0.01, 1) == "better"
    assert verdict(0.01, -1) == "worse"
    assert verdict(0.05, 1) == verdict(0.01, 0) == "not distinguishable"


# ------------------------------------------------------------------------------ published figures


def test_pairing_limits_are_the_extremes_of_all_pairings():
    for first, second in ((9, 6), (6, 9), (8, 8), (12, 3), (12, 12)):
        possible = [
            mcnemar(first - both, second - both)
            for both in range(13)
            if both <= min(first, second) and first + second - both <= 12
        ]
        assert pairing_limits(first, second, 12) == pytest.approx((min(possible), max(possible)))


def test_the_published_figures_carry_four_differences_and_exclude_seven():
    verdicts = published_verdicts()
    rows = {
        words: {row for row, found in verdicts.items() if words in found}
        for words in ("worse, whatever", "better, whatever", "not distinguishable", "depends")
    }
    assert rows == {
        "worse, whatever": {2, 3, 6, 13},
        "better, whatever": set(),
        "not distinguishable": {5, 7, 10, 11, 17, 18, 19},
        "depends": {4, 8, 9, 12, 14, 15, 16},
    }


def test_the_published_table_has_its_note_on_row_8(capsys):
    main(["--published"])
    printed = capsys.readouterr().out
    assert "Row 8's validation accuracy, 99.81 %, is no count of 149 messages." in printed
    assert "91.9 to 96.9" in printed


# --------------------------------------------------------------------------------------- summaries


def some_records():
    """Row 1 errs twice, row 4 in none, row 16 in other ones; two seeds each, and a baseline."""
    majority = make_record(None, wrong=[0, 2, 4, 6, 8, 10], name="baseline majority", model="m")
    return [
        make_record(1, wrong=[1, 2]),
        make_record(1, seed=124, wrong=[1]),
        make_record(4),
        make_record(4, seed=124, wrong=[5]),
        make_record(16, seed=124, wrong=[6]),
        make_record(16, wrong=[2, 7, 8]),
        majority,
    ]


def by_name(records):
    return {s.name: s for s in summarise(group_records(records))}


def test_columns_that_no_run_fills_are_left_out():
    whole = summary_table(summarise(group_records(some_records())))
    alone = summary_table(summarise(group_records([make_record(4)])))
    heads = [
        [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
        for table in (whole, alone)
    ]
    gone = ["mean ± sd, %", "range, %", "only row 1 right", "only this right", "p", "p (Holm)",
            "against row 1"]  # fmt: skip
    assert [head for head in heads[0] if head not in gone] == heads[1]
    assert "11 of 12" not in alone
    assert "12 of 12" in alone


def test_a_summary_is_of_the_first_seed_and_of_all():
    s = by_name(some_records())["row 16"]
    assert (s.right, s.total, s.seeds, s.seed) == (9, 12, 2, 123)
    assert s.mean == pytest.approx((9 + 11) / 24)
    assert s.deviation == pytest.approx(np.std([9 / 12, 11 / 12], ddof=1))
    assert (s.lowest, s.highest) == (9 / 12, 11 / 12)
    assert s.unseen_accuracy == pytest.approx(7 / 10)  # 0 and 3 occur in training
    assert s.train_seconds == 1 + 2 + 16
    assert s.interval == wilson_interval(9, 12)


def test_each_row_is_tested_against_row_1_on_the_messages_that_just_one_gets_right():
    found = by_name(some_records())
    assert (found["row 01"].p_value, found["row 01"].verdict) == (None, "")
    assert (found["row 16"].only_base, found["row 16"].only_this) == (2, 1)
    assert found["row 16"].p_value == 1
    assert (found["row 04"].only_base, found["row 04"].only_this) == (0, 2)
    tested = [s for s in found.values() if s.p_value is not None]
    assert [s.corrected_p_value for s in tested] == holm([s.p_value for s in tested])


def test_a_difference_that_holds_is_put_in_words():
    records = [make_record(1, wrong=range(10), total=40), make_record(4, total=40)]
    assert by_name(records)["row 04"].verdict == "better"
    records = [make_record(1, total=40), make_record(4, wrong=range(10), total=40)]
    assert by_name(records)["row 04"].verdict == "worse"


def test_of_two_records_of_a_seed_the_newest_counts_and_a_failed_one_never():
    old = make_record(1, wrong=[1, 2, 3], digest="a" * 64)
    new = make_record(1, digest="b" * 64, date="2026-01-02T00:00:00+00:00")
    failed = make_record(1, status="failed", date="2026-01-03T00:00:00+00:00")
    assert by_name([new, failed, old])["row 01"].right == 12


def test_stand_ins_are_never_mixed_with_published_models():
    real, stand_in = make_record(1, wrong=[1]), make_record(4, stands_in=True)
    assert list(group_records([real, stand_in])) == ["row 01"]
    assert list(group_records([stand_in])) == ["row 04"]


def test_stand_ins_and_a_missing_row_1_are_said():
    records = [make_record(4, stands_in=True, model="checkpoint tiny.safetensors")]
    text = "\n".join(notes(group_records(records)))
    assert "no runs of the published models" in text
    assert "checkpoint tiny.safetensors" in text
    assert "Row 1 is not among the records" in text


# --------------------------------------------------------------------------------------- two rows


def test_a_pair_shows_its_question_its_test_and_the_messages_that_differ():
    groups = group_records(some_records())
    text = compare_pair(groups["row 01"], groups["row 16"], [f"text {i}" for i in range(12)])
    assert text.startswith(QUESTIONS[16])
    assert "Only row 01 right: 2; only row 16 right: 1; exact McNemar p = 1" in text
    assert "mean -4.17" in text  # (9 - 10 + 11 - 11) / 24
    listed = [line for line in text.splitlines() if "P(spam)" in line]
    assert [line.split()[0] for line in listed] == ["1", "7", "8"]
    assert "text 7" in listed[1]


def test_the_two_spreads_of_a_pair_are_kept_apart():
    groups = group_records(some_records())
    text = compare_pair(groups["row 01"], groups["row 04"])
    assert "other seeds, these messages" in text
    assert "other messages, these seeds" in text


def test_rows_without_a_common_seed_are_refused(tmp_path, capsys):
    for record in (make_record(1), make_record(4, seed=9)):
        write_record(tmp_path, record)
    with pytest.raises(SystemExit) as exit_:
        main(["1", "4", "--results", str(tmp_path)])
    assert "share no seed" in str(exit_.value.code)


# -------------------------------------------------------------------------------------- the script


@pytest.fixture
def results(tmp_path):
    for record in some_records():
        write_record(tmp_path / "results", record)
    return tmp_path / "results"


@pytest.mark.fault("broken record")
def test_the_table_names_what_it_left_out(results, capsys):
    (results / "broken.json").write_text("{")
    (results / "nested.json").write_text("[" * 200_000)
    main(["--results", str(results)])
    captured = capsys.readouterr()
    assert "broken.json is no record" in captured.err
    assert "nested.json is no record" in captured.err
    assert "row 16" in captured.out
    assert "95.00 (91.9 to 96.9)" in captured.out
    assert "baseline majority" in captured.out


def test_the_table_is_there_for_other_programs(results, tmp_path):
    files = ["--csv", str(tmp_path / "t.csv"), "--json", str(tmp_path / "t.json")]
    main(["--results", str(results), *files])
    rows = json.loads((tmp_path / "t.json").read_text())
    assert [row["name"] for row in rows] == ["row 01", "row 04", "row 16", "baseline majority"]
    with (tmp_path / "t.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in table] == [row["mean"] for row in rows]


def test_the_figures_are_drawn(results, tmp_path):
    main(["--results", str(results), "--plot", str(tmp_path / "figures")])
    for name in ("curves", "test_accuracy", "time_and_accuracy"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(sys.platform == "win32", reason="has no /dev")
def test_a_table_can_be_written_to_a_pipe_and_through_a_link(results, tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("earlier")
    reader, writer = os.pipe()
    pipe = f"/dev/fd/{writer}"
    main(["--results", str(results), "--json", pipe, "--csv", str(tmp_path / "link.csv")])
    assert b'"name": "row 16"' in os.read(reader, 1 << 16)
    os.close(reader)
    os.close(writer)
    assert (tmp_path / "link.csv").is_symlink()
    assert "row 16" in (tmp_path / "t.csv").read_text()


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["1"], 2, "name two different rows"),
        (["1", "1"], 2, "name two different rows"),
        (["--published", "--plot", "x"], 2, "are of the table"),
        (["1", "19"], 1, "no record of row 19"),
        (["--results", "nowhere"], 1, "run additional_experiments.py first"),
    ],
)
def test_what_the_records_do_not_hold_is_said(argv, status, words, results, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*argv, *([] if "--results" in argv else ["--results", str(results)])])
    code = exit_.value.code
    assert words in (capsys.readouterr().err if status == 2 else str(code))
    assert (code == 2) == (status == 2)
