"""What the README says of the rows is what the code says.

python tests/test_readme.py     # writes the table into the README again
"""

import re
import shlex
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
START = "<!-- table: made from ROWS; tests/test_readme.py holds them together -->\n"
END = "<!-- end of table -->"
TRAJECTORIES = (1, 2, 3, 4, 5, 10, 11, 13, 14, 15, 16, 17, 18, 19)  # as in test_golden.py


def published_table():
    from experiment_records import ROWS

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


def parts(text):
    before, rest = text.split(START)
    table, after = rest.split(END)
    return before, table, after


def test_the_readme_shows_the_published_table():
    assert parts(README.read_text(encoding="utf-8"))[1] == published_table()


def test_the_rows_said_to_follow_their_trajectory_are_those_that_are_tested():
    from test_golden import GOLDEN

    assert tuple(int(row) for row in GOLDEN) == TRAJECTORIES


def commands():
    text = README.read_text(encoding="utf-8")
    return re.findall(r"python additional_experiments\.py( .*)?$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_parses(command):
    from experiment_flags import parse_args

    flags = command.partition("|")[0].replace("$row", "1")
    parse_args(shlex.split(flags))


def test_every_flag_is_in_the_readme_or_the_table():
    from experiment_flags import build_parser

    text = README.read_text(encoding="utf-8")
    ordinary = {"--help", "-h", "--num_epochs", "--lora_rank", "--lora_alpha"}
    flags = {flag for action in build_parser()._actions for flag in action.option_strings}
    assert not {flag for flag in flags - ordinary if flag not in text}


if __name__ == "__main__":
    before, _, after = parts(README.read_text(encoding="utf-8"))
    README.write_text(before + START + published_table() + END + after, encoding="utf-8")
