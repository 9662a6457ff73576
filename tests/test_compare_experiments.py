import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from records import make_record, some_records

import compare_experiments
from compare_experiments import main, parse_args
from experiments.comparison import sentences
from experiments.runs.records import write_record
from experiments.system.terminal import INTERRUPTED

ROOT = Path(__file__).parents[1]


@pytest.fixture
def results(tmp_path):
    for record in some_records():
        write_record(tmp_path / "results", record)
    return tmp_path / "results"


def test_the_table_is_printed_with_its_notes_and_what_was_left_out(results, capsys):
    (results / "broken.json").write_text("{")
    write_record(results, make_record(None, seed=5))
    main(["--results", str(results)])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:6]] == [
        "row 1", "row 4", "row 16", "baseline majority"
    ]  # fmt: skip
    assert "95.00 (91.9 to 96.9)" in lines[2]
    assert lines[6] == ""
    assert lines.count(sentences.FIXED) == 1
    assert "log loss" not in out
    assert f"Left out: {results / 'broken.json'} is not a record" in err
    assert err.endswith("\nLeft out: 1 record of a run whose flags match no row\n")


@pytest.mark.parametrize("field", ["test", "losses", "split", "seconds", "settings"])
def test_one_broken_record_never_ends_the_comparison(field, results, tmp_path, capsys):
    broken = {"test": [], "losses": [[1]], "split": {}, "seconds": {"train": -1}, "settings": {}}
    record = make_record(1, seed=9) | {field: broken[field]}
    (results / "broken.json").write_text(json.dumps(record))
    files = ["--plot", str(tmp_path), "--html", str(tmp_path / "report.html"), "--metrics"]
    main(["--results", str(results), *(files if field == "losses" else [])])
    assert capsys.readouterr().err.startswith(f"Left out: {results / 'broken.json'} is not a rec")


def test_other_outputs_are_written_where_they_are_asked_for(results, tmp_path, capsys):
    folder = tmp_path / "new"
    names = {"csv": "t.csv", "json": "t.json", "html": "report.html", "plot": "figures"}
    files = [word for flag, name in names.items() for word in (f"--{flag}", str(folder / name))]
    main(["--results", str(results), "--metrics", *files])
    out = capsys.readouterr().out
    assert "log loss compared with row 1" in out
    assert out.endswith(f"Written: {folder / 'report.html'}\n")
    assert out.count("Drawn: ") == 5 == len(list((folder / "figures").glob("*.png")))
    assert "baseline majority" in (folder / "t.csv").read_text()
    assert json.loads((folder / "t.json").read_text())[2]["name"] == "row 16"


def test_two_groups_are_compared_in_detail(results, tmp_path, capsys):
    write_record(results, make_record(1, precision="bfloat16", digest="2" * 64))
    rows = [f"{label},text {i}" for i, label in enumerate(make_record()["test"]["labels"])]
    (tmp_path / "test.csv").write_text("\n".join(["Label,Text", *rows]))
    main(["row 1", "16", "--results", str(results), "--test_csv", str(tmp_path / "test.csv")])
    assert "P(spam) 0.900 and 0.100  text 7" in capsys.readouterr().out
    main(["row 1", "row 1, bfloat16", "--results", str(results), "--margin", "70"])
    assert "They differ in precision" in capsys.readouterr().out


def test_the_margin_is_given_in_points(tmp_path, capsys):
    for row, seed in ((row, seed) for row in (1, 18) for seed in range(3)):
        write_record(tmp_path, make_record(row, seed=seed))
    for points, words in (
        ("30", "is equivalent to row 1 within 30 points"),
        ("1", "inconclusive"),
    ):
        main(["--results", str(tmp_path), "--margin", points])
        assert words in capsys.readouterr().out


def test_the_published_table_needs_no_records(capsys):
    main(["--published", "--results", "nowhere"])
    assert "Row 8's validation accuracy, 99.81 %, is not a count of" in capsys.readouterr().out


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


def test_an_interrupted_comparison_ends_with_one_line(results, monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_experiments, "read_runs", interrupt)
    with pytest.raises(SystemExit):
        main(["--results", str(results)])
    assert capsys.readouterr().err == INTERRUPTED


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["1", "19"], "no record of row 19"),
        (["1", "8"], "share no seed"),
        ([], "no finished record of a row in nowhere: run additional_experiments.py first"),
    ],
)
def test_a_comparison_that_is_impossible_ends_with_status_1(rows, problem, results):
    write_record(results, make_record(8, seed=9))
    folder = results if rows else "nowhere"
    with pytest.raises(SystemExit, match=f"^compare_experiments.py: error: .*{problem}"):
        main([*rows, "--results", str(folder)])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["1"], "name two different rows, such as 1 16, or none for the table"),
        (["1", "01"], "name two different rows"),
        (["1", "2", "3"], "name two different rows"),
        (["--margin", "0"], "argument --margin: must be a number above 0, got '0'"),
        (
            ["--published", "--plot", "x"],
            "leave out --published: --plot needs the table of all rows",
        ),
        (
            ["1", "16", "--metrics", "--csv", "x"],
            "leave out two rows: --metrics and --csv needs the table",
        ),
        (["--output_dir", "x"], "did you mean --results?"),
        (["--plots", "x"], "did you mean --plot?"),
        (["--row", "16"], "name two rows without a flag, such as 1 16"),
        (["--baseline", "x"], "name a baseline without a flag, such as 1 majority"),
        (["--demo"], "additional_experiments.py has that flag"),
        (["--nonsense"], "unknown: --nonsense; --help lists the flags"),
        (["--json"], "argument --json: expected one argument"),
    ],
)
def test_invalid_flags_end_with_status_2_and_one_sentence(flags, words, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_args(flags)
    message = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message.startswith("compare_experiments.py: error: ")
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.process
@pytest.mark.parametrize(("flags", "status"), [(["--help"], 0), (["--plots", "x"], 2)])
def test_help_and_invalid_flags_do_not_wait_for_libraries(flags, status):
    started = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "compare_experiments.py", *flags]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == status
    assert not {"numpy", "scipy", "pandas", "torch"} & {*run.stderr.replace("|", " ").split()}
    assert time.perf_counter() - started < 5  # far less than the libraries on a busy machine
