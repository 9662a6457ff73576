"""What the README says is what the code and the records say.

PYTHONPATH=. python tests/test_readme.py     # writes the tables into the README again
"""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from experiment_flags import build_parser, parse_args
from experiment_records import ROWS

README = Path(__file__).parents[1] / "README.md"
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


MADE_BY = "made by PYTHONPATH=. python tests/test_readme.py from"
TABLES = {
    f"<!-- table: {MADE_BY} the published rows -->\n": published_table,
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


def test_row_10_at_full_size_is_what_the_run_printed():
    printed = (README.parent / "docs" / "row_10_full_size.txt").read_text(encoding="utf-8")
    final = printed[printed.index("Training completed") :]
    minutes = re.search(r"in (\d+\.\d)\d minutes", final)[1]
    shares = [re.search(rf"^{w} accuracy: (.*)%$", final, re.MULTILINE)[1] for w in
              ("Training", "Validation", "Test")]  # fmt: skip
    line = f"| here, CPU, plain path | {' | '.join(shares)} | {minutes} min |"
    assert line in README.read_text(encoding="utf-8")


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
