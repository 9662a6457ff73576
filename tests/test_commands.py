import shlex
from dataclasses import replace

import pytest
from records import begin_record, make_record

from experiments.comparison.commands import commands_of, environments_of
from experiments.config.flags import parse_args
from experiments.data.corpus import Corpus
from experiments.runs.results import describe_split


def recorded(*flags, seed=123, **more):
    """What is recorded of a run with these flags."""
    settings = replace(parse_args(flags), seed=seed)
    return begin_record(settings) | more


def flags_of(command):
    program, script, *flags = shlex.split(command)
    assert (program, script) == ("python", "additional_experiments.py")
    return flags


@pytest.mark.parametrize("flags", [
    [], ["--row", "16"], ["--row", "8"], ["--row", "10", "--model_size", "gpt2-tiny (7M)"],
    ["--row", "18", "--precision", "bfloat16"], ["--row", "11", "--no_shortcuts"],
    ["--row", "1", "--weights", "{checkpoint}"], ["--baseline", "majority"],
])  # fmt: skip
def test_the_command_of_a_record_makes_it_anew(flags, miniature):
    flags = [str(miniature) if flag == "{checkpoint}" else flag for flag in flags]
    (command,) = commands_of([recorded(*flags)])
    assert recorded(*flags_of(command)) == recorded(*flags)


def test_seeds_that_follow_each_other_are_one_command():
    records = [recorded(seed=seed) for seed in (123, 124, 125, 7)]
    assert [flags_of(command) for command in commands_of(records)] == [
        ["--row", "1", "--seed", "7"],
        ["--row", "1", "--num_seeds", "3"],
    ]


def test_the_command_of_own_messages_names_them_as_they_were_named():
    flags = ["--data", "my messages.csv", "--split", "80/10/10", "--balance", "--train_size", "9"]
    own = parse_args([*flags, "--split_seed", "7"]).own
    record = make_record(16, data="a" * 64, split=describe_split(own, Corpus({}, (), "")))
    told = flags_of(*commands_of([record]))
    assert parse_args(told[2:]).own == own
    assert told[:2] == ["--row", "16"]


def test_own_messages_of_an_older_record_are_a_file_whose_name_it_does_not_tell():
    record = make_record(1, data="a" * 64, split={"of": "b" * 64, "seed": 5})
    assert flags_of(*commands_of([record]))[2:] == ["--data", "FILE", "--split_seed", "5"]


def test_environments_are_told_once_each():
    records = [make_record(1), make_record(1, seed=124)]
    records[1]["environment"] = {"device": "cuda, H100", "device_type": "cpu"}
    found = environments_of({"row 01": records})
    assert found == {"device": ["cpu", "cuda, H100"], "device type": ["cpu"]}
