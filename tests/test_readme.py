"""What the README says is what the code and the records say.

PYTHONPATH=. python tests/test_readme.py     # writes these and docs/faults.md again
"""

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import pytest
from faults import faults_table

import compare_experiments
from experiments.comparison.summaries import group_records, summarise
from experiments.flags import build_parser, parse_args
from experiments.records import read_records
from experiments.rows import ROWS, SIZES, published_count

README = Path(__file__).parents[1] / "README.md"
FAULTS = README.parent / "docs" / "faults.md"
RECORDS = README.parent / "docs" / "records"
TRAJECTORIES = (1, 2, 3, 4, 5, 10, 11, 13, 14, 15, 16, 17, 18, 19)  # as in test_golden.py


def published_table():
    lines = [
        "| row | command: `python additional_experiments.py` … | training | validation | test "
        "| A100, minutes | measured here |",
        "| ---: | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for number, row in ROWS.items():
        measured = "trajectory" if number in TRAJECTORIES else "smoke run"
        if number == 10:
            measured += ", full size"
        flags = f"`{row.flags}`" if row.flags else "(no flags)"
        lines.append(
            f"| {number} | {flags} | {row.train_accuracy:.2f} | {row.validation_accuracy:.2f} "
            f"| {row.test_accuracy:.2f} | {row.train_minutes:.2f} | {measured} |"
        )
    return "\n".join(lines) + "\n"


def benchmark_table():
    path = Path(__file__).parents[1] / "benchmarks" / "shortcuts.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_shortcuts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.table(module.load_records()) + "\n"


def records_table():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        compare_experiments.main(["--results", str(RECORDS)])
    return printed.getvalue()


MADE_BY = "made by PYTHONPATH=. python tests/test_readme.py from"
TABLES = {
    f"<!-- table: {MADE_BY} the published rows -->\n": published_table,
    "<!-- records: printed by python compare_experiments.py --results docs/records -->\n": (
        records_table
    ),
    f"<!-- benchmark: {MADE_BY} benchmarks/records -->\n": benchmark_table,
}


def replace_tables(text):
    """The README with its tables made anew; each ends before the next comment."""
    for start, make in TABLES.items():
        before, rest = text.split(start)
        text = before + start + make() + rest[rest.index("<!--") :]
    return text


def test_the_tables_of_the_readme_are_what_the_rows_and_the_records_make():
    text = README.read_text(encoding="utf-8")
    assert text == replace_tables(text)


def test_what_is_said_of_row_10_is_what_its_records_hold():
    text = " ".join(README.read_text(encoding="utf-8").split())
    runs = group_records(read_records(RECORDS)[0])["row 10"]
    (s,) = summarise({"row 10": runs})
    published = published_count(s.published_percent, s.total) / s.total
    assert s.seeds == 3
    assert all(run["model"] == "gpt2-small (124M), random weights" for run in runs)
    within = "lies within" if s.lowest <= published <= s.highest else "lies outside"
    assert (
        f"The published {s.published_percent:.2f} {within} what three seeds found, "
        f"{100 * s.lowest:.2f} to {100 * s.highest:.2f}" in text
    )
    for (split, published), in_words in zip(
        zip(SIZES, ROWS[10][1:4], strict=True), ("training", "validation", "test"), strict=True
    ):
        right, total = runs[0]["correct"][split]
        assert f"{in_words} {right:,} of {total:,} ({published_count(published, total):,})" in text


def test_what_is_said_of_row_10_on_the_plain_path_is_what_the_run_printed():
    printed = (README.parent / "docs" / "row_10_full_size.txt").read_text(encoding="utf-8")
    final = printed[printed.index("Training completed") :]
    minutes = re.search(r"in (\d+\.\d)\d minutes", final)[1]
    counts = [re.search(rf"{split} .*\(([\d,]+) of [\d,]+\)$", final, re.MULTILINE)[1] for split in
              ("Training", "Validation", "Test")]  # fmt: skip
    line = f"{counts[0]}, {counts[1]} and {counts[2]} in {minutes} minutes"
    assert line in " ".join(README.read_text(encoding="utf-8").split())


def test_the_rows_said_to_follow_their_trajectory_are_those_that_are_tested():
    from test_golden import GOLDEN

    assert tuple(int(row) for row in GOLDEN) == TRAJECTORIES


def commands():
    text = README.read_text(encoding="utf-8")
    return re.findall(r"python additional_experiments\.py( .*)?$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_parses(command):
    flags = command.partition("|")[0].replace("$row", "1")
    parse_args(shlex.split(flags))


def test_every_flag_is_in_the_readme_or_the_table():
    text = README.read_text(encoding="utf-8")
    ordinary = {"--help", "-h", "--num_epochs", "--lora_rank", "--lora_alpha"}
    flags = {flag for action in build_parser()._actions for flag in action.option_strings}
    assert not {flag for flag in flags - ordinary if flag not in text}


if __name__ == "__main__":
    README.write_text(replace_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
    before, _, _ = FAULTS.read_text(encoding="utf-8").partition("| fault |")
    FAULTS.write_text(before + faults_table(), encoding="utf-8")
