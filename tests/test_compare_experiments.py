import json
import os
import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from records import RECIPE, make_record, some_records

from compare_experiments import main, parse_args
from experiments.comparison import sentences
from experiments.comparison.metrics import METRICS
from experiments.runs.records import write_record

ROOT = Path(__file__).parents[1]


@pytest.fixture
def results(tmp_path):
    for record in some_records():
        write_record(tmp_path / "results", record)
    return tmp_path / "results"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """What `--row 16 --vary learning_rate 5e-5 1e-3 --vary lora_rank 8 16 --num_seeds 3` leaves."""
    folder = tmp_path_factory.mktemp("grid")
    for rate, rank, seed in product((5e-5, 1e-3), (8, 16), range(3)):
        flags = {"trainable_token_pos": "flexible", "learning_rate": rate, "lora_rank": rank}
        wrong = range(40 if rate == 1e-3 else seed)
        row = 16 if (rate, rank) == (5e-5, 8) else None
        digest = f"{rate}_{rank}_{seed}".ljust(64, "0")
        record = make_record(row, seed, wrong, 300, settings=RECIPE | flags, digest=digest)
        write_record(folder, record)
    return folder


def output_of(capsys, *flags):
    main([*map(str, flags)])
    return capsys.readouterr().out


def test_the_table_is_printed_with_its_notes_and_what_was_left_out(results, capsys):
    (results / "broken.json").write_text("{")
    write_record(results, make_record(4, seed=5, status="failed"))
    main(["--results", str(results)])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    names = ["design", "row 1", "row 4", "row 16", "baseline majority", ""]
    assert [line[:26].strip() for line in lines[:6]] == names
    assert " ".join(lines).count(sentences.FIXED) == 1
    assert "log loss" not in out
    assert max(map(len, lines)) <= 100
    assert f"Left out: {results / 'broken.json'} is not a record" in err
    assert err.endswith("\nLeft out: 1 record of a failed run\n")


def test_other_outputs_are_written_where_they_are_asked_for(results, tmp_path, capsys):
    folder = tmp_path / "new"
    names = {"csv": "t.csv", "json": "t.json", "html": "report.html", "plot": "figures"}
    files = [word for flag, name in names.items() for word in (f"--{flag}", folder / name)]
    metric = ["--metric", "brier", "--margin", "0.1"]
    out = output_of(capsys, "--results", results, "--metrics", *metric, *files)
    assert "| log loss difference" in out
    assert out.endswith(f"Written: {folder / 'report.html'}\n")
    assert out.count("Drawn: ") == 6
    pictures = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert set(pictures) == {
        "differences.png", "test_accuracy.png", "time_and_accuracy.png", "memory_and_accuracy.png",
        "calibration.png", "curves.png",
    }  # fmt: skip
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    assert "baseline majority" in (folder / "t.csv").read_text()
    row = json.loads((folder / "t.json").read_text())[2]
    assert (row["name"], row["metric"], row["margin"]) == ("row 16", "brier", 0.1)


def test_two_groups_are_compared_in_detail(results, tmp_path, capsys):
    rows = [f"{label},text {i}" for i, label in enumerate(make_record()["test"]["labels"])]
    texts = tmp_path / "test.csv"
    texts.write_text("\n".join(["Label,Text", *rows]))
    out = output_of(capsys, "row 1", "16", "--results", results, "--test_csv", texts)
    assert "P(spam) 0.900 and 0.100  text 7" in out


OUTPUTS = {
    "--effects --margin 3": [
        r"^Grid of 4 designs, 3 seeds: lora_rank \(8, 16\) x learning_rate \(5e-05, 0.001\); "
        "otherwise row 16$",
        "^lora_rank does not matter: all probabilities are the same.$",
        r"^learning_rate matters: -13.00 points \(95 % interval -",
        f"^{re.escape(sentences.FIXED)}$",
    ],
    "--effects --metric log_loss": [r"^learning_rate matters: \+0.286 \(95 % interval \+"],
    "16 '16, learning'": [
        "^row 16 or row 16, learning_rate 0.001?",
        "^Row 16, learning_rate 0.001 is worse than row 16: -13.00 points",
    ],
    "16 '16, learning' --metric brier": ["^Row 16, .* worse than row 16: .* of Brier score,"],
    "--reference 16": ["^row 16, learning_rate .* worse$", "from row 16[.]"],
    "--reference 16 --metric log_loss --sort difference": [
        r"\A.*\n.*\nrow 16, lora_rank 16 .* identical$"
    ],
    "--reference 16 --wide": [
        r"^\| run .{90,} p \(Holm\)", "^Row 16, learning_rate 0.001 is ",
        "^Difference of test accuracy", "^One of 300 test "
    ],
}  # fmt: skip


@pytest.mark.parametrize(("flags", "patterns"), OUTPUTS.items())
def test_a_grid_is_printed_as_asked_for(flags, patterns, grid, capsys):
    out = output_of(capsys, *shlex.split(flags), "--results", grid)
    for pattern in patterns:
        assert re.search(pattern, out, re.MULTILINE), pattern


def test_colours_are_for_terminals_without_no_color(grid, monkeypatch, capsys):
    flags = ["--results", grid, "--reference", "16"]
    assert "\x1b[" not in output_of(capsys, *flags)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mworse" in output_of(capsys, *flags)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in output_of(capsys, *flags)


def test_a_margin_is_in_points_or_units_of_a_loss():
    margins = [parse_args(["--metric", m, "--margin", "1"]).margin for m in METRICS]
    assert margins == [0.01, 0.01, 1, 1]


@pytest.mark.parametrize("flags", [[], ["--wide"], ["--effects"], ["--metrics"]])
def test_one_design_is_no_error(flags, tmp_path, capsys):
    write_record(tmp_path, make_record(1, label="a 'b' \"c\" $d"))
    words = "a 'b' \"c\" $d is the only design."
    if flags == ["--effects"]:
        words = "--vary learning_rate 5e-5 1e-4 --num_seeds 5"
    assert words in output_of(capsys, "--results", tmp_path, *flags)


def test_the_published_table_needs_no_records(capsys):
    out = output_of(capsys, "--published", "--results", "nowhere")
    assert "Row 8's validation accuracy, 99.81 %, is not a count of" in out


@pytest.mark.skipif(sys.platform == "win32", reason="has no /dev")
def test_a_table_can_be_written_to_a_pipe(results):
    reader, writer = os.pipe()
    main(["--results", str(results), "--json", f"/dev/fd/{writer}"])
    assert b'"name": "row 16"' in os.read(reader, 1 << 16)
    os.close(reader)
    os.close(writer)


def test_a_comparison_that_is_impossible_ends_with_status_1(results, tmp_path, capsys):
    write_record(results, make_record(8, seed=9))
    failed = tmp_path / "failed"
    write_record(failed, make_record(1, status="failed"))
    for words, problem in (
        (["1", "8", "--results", results], "row 1 and row 8 share no seed"),
        (["--results", "nowhere"], "no finished record in nowhere: run additional_experiments.py"),
        (["--results", failed], f"no finished record in {failed}"),
    ):
        with pytest.raises(SystemExit, match=f"^compare_experiments.py: error: {problem}"):
            main([*map(str, words)])
    assert capsys.readouterr().err == "Left out: 1 record of a failed run\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["1"], "name two different designs, such as 1 16, or none for the table"),
        (["1", "01"], "name two different designs"),
        (["--margin", "0"], "argument --margin: must be a number above 0, got '0'"),
        (["--published", "--plot", "x"], "leave out --published: --plot needs the table of all"),
        (["1", "16", "--metrics", "--csv", "x"], "two designs: --metrics and --csv need the table"),
        (["1", "16", "--metrics", "--csv", "x"], "leave out the two designs: --metrics and --csv"),
        (["--output_dir", "x"], "did you mean --results?"),
        (["--plots", "x"], "did you mean --plot?"),
        (["--row", "16"], "name two rows without a flag, such as 1 16"),
        (["--baseline", "x"], "name a baseline without a flag, such as 1 majority"),
        (["--demo"], "additional_experiments.py has that flag"),
        (["--nonsense"], "unknown: --nonsense; --help lists the flags"),
        (["--texts"], "--texts requires --html FILE"),
        (["16", "19"], "no record of row 19; the groups are row 16; row 16, "),
        (["16", "row 16, lora"], "can mean several groups: name both in full"),
        (["--reference", "row"], "--reference row can mean several designs: row 16; row 16, "),
        (["--reference", "3"], "no record of row 3; the groups are row 16; row 16, "),
    ],
)
def test_wrong_arguments_end_with_status_2_and_one_sentence(flags, words, grid, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--results", str(grid), *flags])
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


@pytest.mark.skipif(sys.platform == "win32", reason="has no resource module")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("designs", "seeds", "total", "most_seconds"),
    [(10, 200, 300, 15), (2, 5, 100_000, 60)],  # the first takes some 4 on an idle core
)
def test_many_records_or_examples_take_seconds_and_less_than_a_gigabyte(
    designs, seeds, total, most_seconds, tmp_path
):
    generator, test = np.random.default_rng(0), {"same_text": list(range(total))}
    for design, seed in product(range(designs), range(seeds)):
        wrong = set(generator.choice(total, total // 20, replace=False).tolist())
        settings = RECIPE | {"num_epochs": 5 + design}
        digest = f"{design}-{seed}-".ljust(64, "0")
        record = make_record(None, seed, wrong, total, test, settings=settings, digest=digest)
        write_record(tmp_path, record)
    command = [sys.executable, "-c", LARGE, "--results", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, _, peak, _ = run.stdout.splitlines()[-1].split()
    assert float(seconds) < most_seconds
    assert float(peak) < 1024
