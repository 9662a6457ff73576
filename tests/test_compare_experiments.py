import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from records import make_record, some_records

import compare_experiments
from compare_experiments import main, parse_args
from experiments.comparison import sentences
from experiments.comparison.metrics import METRICS
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
    write_record(results, make_record(4, seed=5, status="failed"))
    main(["--results", str(results)])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line[:26].strip() for line in lines[:6]] == [
        "design", "row 1", "row 4", "row 16", "baseline majority", ""
    ]  # fmt: skip
    assert " ".join(lines).count(sentences.FIXED) == 1
    assert "log loss" not in out
    assert max(map(len, lines)) <= 100
    assert f"Left out: {results / 'broken.json'} is not a record" in err
    assert err.endswith("\nLeft out: 1 record of a failed run\n")


def test_other_outputs_are_written_where_they_are_asked_for(results, tmp_path, capsys):
    folder = tmp_path / "new"
    names = {"csv": "t.csv", "json": "t.json", "html": "report.html", "plot": "figures"}
    files = [word for flag, name in names.items() for word in (f"--{flag}", str(folder / name))]
    main(["--results", str(results), "--metrics", *files])
    out = capsys.readouterr().out
    assert "| log loss difference" in out
    assert out.endswith(f"Written: {folder / 'report.html'}\n")
    assert out.count("Drawn: ") == len(list((folder / "figures").glob("*.png"))) >= 5
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


@pytest.fixture
def grid(tmp_path):
    """What `--row 16 --vary learning_rate 5e-5 1e-3 --vary lora_rank 8 16 --num_seeds 3` leaves."""
    for rate, rank, seed in product((5e-5, 1e-3), (8, 16), range(3)):
        flags = {"trainable_token_pos": "flexible", "learning_rate": rate, "lora_rank": rank}
        settings = {"num_epochs": 5, "batch_size": 8} | flags
        wrong = range(40 if rate == 1e-3 else seed)
        row = 16 if (rate, rank) == (5e-5, 8) else None
        digest = f"{rate} {rank} {seed}".replace(" ", "_").ljust(64, "0")
        record = make_record(row, seed, wrong, 300, settings=settings, digest=digest)
        write_record(tmp_path / "grid", record)
    return tmp_path / "grid"


def lines_of(capsys, *flags):
    main([*map(str, flags)])
    return capsys.readouterr().out.splitlines()


def test_the_effects_of_a_grid_are_printed(grid, capsys):
    lines = lines_of(capsys, "--results", grid, "--effects", "--margin", "3")
    assert lines[0] == (
        "Grid of 4 designs, 3 seeds: lora_rank (8, 16) x learning_rate (5e-05, 0.001); otherwise "
        "row 16"
    )
    assert lines[-4] == "lora_rank does not matter: all probabilities are the same."
    assert lines[-3].startswith("learning_rate matters: -13.00 points (95 % interval -")
    assert lines[-1] == sentences.FIXED
    of_loss = lines_of(capsys, "--results", grid, "--effects", "--metric", "log_loss")
    assert of_loss[-3].startswith("learning_rate matters: +0.286 (95 % interval +")


def test_a_pair_is_found_by_how_names_begin(grid, capsys):
    lines = lines_of(capsys, "16", "16, learning", "--results", grid)
    assert lines[0] == "row 16 or row 16, learning_rate 0.001?"
    assert lines[2].startswith("Row 16, learning_rate 0.001 is worse than row 16: -13.00 points")


def test_the_reference_is_the_one_named(grid, capsys):
    table = lines_of(capsys, "--results", grid, "--reference", "16")
    assert [line.split()[-1] for line in table if line.startswith("row 16")].count("worse") == 2
    assert any("from row 16." in line for line in table)
    write_record(grid, make_record(4, 0, data="b" * 64, digest="e" * 64))
    table = lines_of(capsys, "--results", grid, "--reference", "row 4")
    assert "Nothing to compare: no other design has a seed, the weights" in " ".join(table)


def test_the_best_design_comes_first_if_asked_for(grid, capsys):
    flags = ["--metric", "log_loss", "--sort", "difference"]
    table = lines_of(
        capsys, "--results", grid, "--reference", "row 16, learning_rate 0.001", *flags
    )
    assert table[1].endswith("better")


def test_all_columns_are_printed_if_asked_for(grid, capsys):
    table = lines_of(capsys, "--results", grid, "--reference", "16", "--wide")
    assert "p (Holm)" in table[0]
    assert len(table[0]) > 100
    starts = ("Row 16, learning_rate 0.001 is ", "Difference of test accuracy", "One of 300 test ")
    assert [sum(line.startswith(start) for line in table) for start in starts] == [1, 1, 1]


def test_colours_are_for_terminals_without_no_color(grid, monkeypatch, capsys):
    flags = ["--results", grid, "--reference", "16"]
    assert "\x1b[" not in "".join(lines_of(capsys, *flags))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mworse" in "".join(lines_of(capsys, *flags))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in "".join(lines_of(capsys, *flags))


def test_json_names_the_metric_and_its_margin(grid, tmp_path, capsys):
    flags = ["--results", grid, "--reference", "16", "--metric", "brier", "--json"]
    lines_of(capsys, *flags, tmp_path / "t.json", "--margin", "0.1")
    rows = json.loads((tmp_path / "t.json").read_text())
    compared = [row for row in rows if row["verdict"]]
    assert len(compared) == 3
    assert {(row["metric"], row["margin"]) for row in compared} == {("brier", 0.1)}


def test_a_margin_is_in_points_or_units_of_a_loss():
    margins = [parse_args(["--metric", m, "--margin", "1"]).margin for m in METRICS]
    assert margins == [0.01, 0.01, 1, 1]


@pytest.mark.parametrize("flags", [[], ["--wide"], ["--effects"], ["--metrics"]])
def test_one_design_is_no_error(flags, tmp_path, capsys):
    write_record(tmp_path, make_record(1, label="a 'b' \"c\" $d"))
    lines = lines_of(capsys, "--results", tmp_path, *flags)
    words = "No complete grid" if flags == ["--effects"] else "a 'b' \"c\" $d is the only design."
    assert words in " ".join(lines)


def test_a_folder_of_failed_runs_has_nothing_to_compare(tmp_path, capsys):
    write_record(tmp_path, make_record(1, status="failed"))
    with pytest.raises(SystemExit, match="no finished record in"):
        main(["--results", str(tmp_path)])
    assert capsys.readouterr().err == "Left out: 1 record of a failed run\n"


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
        (["1", "8"], "share no seed"),
        ([], "no finished record in nowhere: run additional_experiments.py first"),
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
        (["16", "19"], "no record of row 19; the groups are row 16; row 16, "),
        (["16", "row 16, lora"], "can mean several groups: name both in full"),
        (["--reference", "3"], "no record of row 3; the groups are row 16; row 16, "),
    ],
)
def test_an_unknown_or_ambiguous_design_is_a_wrong_argument(flags, words, grid, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*flags, "--results", str(grid)])
    message = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message.startswith("compare_experiments.py: error: ")
    assert words in message


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["1"], "name two different designs, such as 1 16, or none for the table"),
        (["1", "01"], "name two different designs"),
        (["1", "2", "3"], "name two different designs"),
        (["--margin", "0"], "argument --margin: must be a number above 0, got '0'"),
        (
            ["--published", "--plot", "x"],
            "leave out --published: --plot needs the table of all designs",
        ),
        (
            ["1", "16", "--metrics", "--csv", "x"],
            "leave out the two designs: --metrics and --csv needs the table",
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


LARGE = """
import resource, sys, time
import compare_experiments
started = time.perf_counter()
compare_experiments.main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
peak /= 1024**2 if sys.platform == "darwin" else 1024
print(f"{time.perf_counter() - started:.1f} seconds, {peak:.0f} MiB")
"""


def measure(folder, *flags):
    """Seconds and peak memory in MiB of a comparison in its own process."""
    command = [sys.executable, "-c", LARGE, "--results", str(folder), *flags]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, _, peak, _ = run.stdout.splitlines()[-1].split()
    return float(seconds), float(peak)


def write_many(folder, designs, seeds, total):
    generator = np.random.default_rng(0)
    folder.mkdir()
    for design, seed in product(range(designs), range(seeds)):
        wrong = set(generator.choice(total, total // 20, replace=False).tolist())
        settings = {"num_epochs": 5 + design, "batch_size": 8}
        digest = f"{design}-{seed}-".ljust(64, "0")
        test = {"same_text": list(range(total))}
        record = make_record(None, seed, wrong, total, test, settings=settings, digest=digest)
        write_record(folder, record)


needs_resource = pytest.mark.skipif(sys.platform == "win32", reason="has no resource module")


@needs_resource
@pytest.mark.slow
def test_two_thousand_records_take_some_seconds(tmp_path):
    write_many(tmp_path / "many", 10, 200, 300)
    seconds, _ = measure(tmp_path / "many")
    assert seconds < 15  # some 4 on an idle core


@needs_resource
@pytest.mark.slow
def test_a_hundred_thousand_examples_take_less_than_a_minute_and_a_gigabyte(tmp_path):
    write_many(tmp_path / "large", 2, 5, 100_000)
    seconds, peak = measure(tmp_path / "large")
    assert seconds < 60
    assert peak < 1024
