import csv
import json
import os
import sys

import pytest
from records import make_record, make_stand_in, some_records

import compare_experiments
from compare_experiments import main
from experiments.comparison.groups import group_records
from experiments.comparison.summaries import summarise
from experiments.config.published import CHECKPOINT_SHA256, DATA_SHA256
from experiments.runs.records import read_records, write_record
from experiments.system.terminal import JUST_STOPPED


@pytest.fixture
def results(tmp_path):
    for record in some_records():
        write_record(tmp_path / "results", record)
    return tmp_path / "results"


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
    assert table[0].keys() == rows[0].keys()


def test_the_table_for_other_programs_has_the_evidence_against_row_1(tmp_path):
    wrong = {1: [[1, 2], [1], [5]], 4: [[3], [3, 1, 7], []]}
    for row, of_seeds in wrong.items():
        for seed, numbers in enumerate(of_seeds):
            record = make_record(row, seed=seed, wrong=numbers)
            record["test"]["same_text"] = [0, *range(11)]
            write_record(tmp_path, record)
    main(["--results", str(tmp_path), "--json", str(tmp_path / "rows.out"), "--margin", "2"])
    base, row = json.loads((tmp_path / "rows.out").read_text())
    (summary,) = summarise(group_records(read_records(tmp_path)[0]), 0.02)[1:]
    evidence, crossed = summary.evidence, summary.evidence.accuracy.crossed
    assert (row["verdict"], row["sentence"]) == (summary.verdict, summary.sentence)
    assert (row["shared_seeds"], row["distinct_messages"], row["margin"]) == (3, 11, 0.02)
    assert [row["difference"], row["difference_low"], row["difference_high"]] == pytest.approx(
        [crossed.mean, *crossed.interval]
    )
    assert [row["equivalence_low"], row["equivalence_high"]] == list(crossed.equivalence)
    parts = [row[f"variance_{part}"] for part in ("seeds", "messages", "rest")]
    assert parts == list(crossed.components)
    settle = [row["smallest_seen"], row["seeds_to_settle"], row["messages_to_settle"]]
    assert settle == list(evidence.outlook)
    assert row["log_loss_difference_low"] == evidence.log_loss.crossed.interval.low
    assert row["brier_score_difference"] == evidence.brier_score.mean
    assert row["brier_score_difference_high"] == evidence.brier_score.crossed.interval.high
    assert {base[name] for name in row.keys() - base.keys() | {"difference", "margin"}} == {None}


def test_losses_against_row_1_are_shown_with_the_metrics(results, capsys):
    main(["--results", str(results)])
    assert "log loss against row 1" not in capsys.readouterr().out
    main(["--results", str(results), "--metrics"])
    assert "log loss against row 1" in capsys.readouterr().out


def test_the_table_for_other_programs_tells_weights_data_and_precision(tmp_path):
    write_record(tmp_path, make_record(1))
    write_record(tmp_path, make_stand_in(1, "a" * 64, precision="bfloat16", digest="2" * 64))
    main(["--results", str(tmp_path), "--json", str(tmp_path / "rows.out")])
    columns = ("name", "weights", "data", "precision", "stand_in")
    rows = json.loads((tmp_path / "rows.out").read_text())
    name = "checkpoint tiny.safetensors aaaaaaaa"
    assert [[row[column] for column in columns] for row in rows] == [
        ["row 01", CHECKPOINT_SHA256["124M"], DATA_SHA256, "float32", None],
        [f"row 01, {name}, bfloat16", "a" * 64, DATA_SHA256, "bfloat16", name],
    ]


def test_what_is_compared_by_name_and_left_out_is_said(tmp_path, capsys):
    write_record(tmp_path, make_record(1))
    write_record(tmp_path, make_record(1, precision="bfloat16", digest="2" * 64))
    write_record(tmp_path, make_record(None))
    main(["row 01", "row 01, bfloat16", "--results", str(tmp_path)])
    captured = capsys.readouterr()
    assert "They differ in precision" in captured.out
    assert captured.err == "Left out: 1 record of a run whose flags are no row's\n"


@pytest.mark.parametrize("rows", [[], ["1", "16"]])
def test_records_of_other_test_messages_end_in_one_sentence(rows, tmp_path):
    write_record(tmp_path, make_record(1))
    write_record(tmp_path, make_record(16, total=10))
    with pytest.raises(SystemExit, match="take the wrong one out of the folder"):
        main([*rows, "--results", str(tmp_path)])


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


def test_an_interrupted_comparison_speaks_of_no_record(results, monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_experiments, "read_records", interrupt)
    with pytest.raises(SystemExit):
        main(["--results", str(results)])
    assert capsys.readouterr().err == JUST_STOPPED


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["1"], 2, "name two different rows"),
        (["1", "1"], 2, "name two different rows"),
        (["1", "01"], 2, "name two different rows"),
        (["--margin", "0"], 2, "must be a number above 0"),
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


def test_the_published_table_has_its_note_on_row_8(capsys):
    main(["--published"])
    printed = capsys.readouterr().out
    assert "Row 8's validation accuracy, 99.81 %, is no count of 149 messages." in printed
    assert "91.9 to 96.9" in printed


def test_rows_without_a_common_seed_are_refused(tmp_path, capsys):
    for record in (make_record(1), make_record(4, seed=9)):
        write_record(tmp_path, record)
    with pytest.raises(SystemExit) as exit_:
        main(["1", "4", "--results", str(tmp_path)])
    assert "share no seed" in str(exit_.value.code)
