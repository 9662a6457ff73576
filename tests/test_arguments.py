"""Command lines: types of values, errors of one sentence, and hints at what is meant."""

import argparse
from pathlib import Path

import pytest

from experiments.config import arguments
from experiments.config.arguments import OTHER_NAMES, Parser, hint
from experiments.config.parsing import build_parser

FLAGS = [name for action in build_parser()._actions for name in action.option_strings]

# --------------------------------------------------------------------------------------- hints


@pytest.mark.parametrize(("name", "meant"), OTHER_NAMES.items())
def test_a_name_of_another_program_leads_to_a_flag_that_exists_or_to_why_there_is_none(name, meant):
    flag, *value = meant.split()
    assert f"--{name}" not in FLAGS
    if is_flag := flag in FLAGS:
        build_parser().parse_args([flag, *value] if value else [])
    expected = f"did you mean {meant}?" if is_flag else meant
    for words in ([f"--{name}"], [f"--{name}=x"], [f"--{name.replace('_', '-')}", "3"]):
        assert hint(words, FLAGS, OTHER_NAMES) == expected


MEANT = {  # words of a command line, and the flag that is meant
    "--lr 1": "--learning_rate", "--gpu": "--device cuda", "--num_gpus": "torchrun --nproc",
    "--batch-size 4": "--batch_size", "--Batch_Size 4": "--batch_size", "-demo": "--demo",
    "--num_epoch 4": "--num_epochs", "--trainable_layer=all": "--trainable_layers",
    "--average embeddings": "--average_embeddings", "--no padding": "--no_padding",
    "--devcie cpu": "--device", "--gradient_accumulation_steps 2": "--accumulation_steps",
}  # fmt: skip


@pytest.mark.parametrize("words", MEANT)
def test_a_misspelt_flag_leads_to_the_one_that_is_meant(words):
    assert MEANT[words] in hint(words.split(), FLAGS, OTHER_NAMES)


def test_each_unknown_flag_has_its_hint_once_and_in_order():
    assert hint(["--fp16", "--epochs", "3", "--epoch", "4"], FLAGS, OTHER_NAMES) == (
        "float16 is not supported: use --precision bfloat16; did you mean --num_epochs?"
    )


@pytest.mark.parametrize(
    "flag",
    ["--sale", "--raw", "--now", "--bed", "--min_steps", "--num_beams", "--num_heads", "--log_file",
     "--top_k", "--temperature", "--beta1", "--eps", "-x", "--", "-"],
)  # fmt: skip
def test_no_flag_is_guessed_from_a_few_common_letters(flag):
    assert hint([flag], FLAGS, OTHER_NAMES) == "--help lists the flags"


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "3"], "unknown: --epochs 3; did you mean --num_epochs?"),
        (["--num_epoch=3"], "unknown: --num_epoch=3; did you mean --num_epochs?"),
        (["--num_epochs", "\x1b[31m\n1"],
         r"argument --num_epochs: must be a whole number from 1 to 9223372036854775807, got "
         r"'\x1b[31m\n1'"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_without_control_characters(words, message, capsys):
    parser = Parser(prog="script.py")
    parser.add_argument("--num_epochs", type=arguments.whole_number(1))
    with pytest.raises(SystemExit) as exit_:
        parser.parse_known(words)
    assert (exit_.value.code, *capsys.readouterr()) == (2, "", f"script.py: error: {message}\n")


def test_lines_of_code_may_follow_an_error(capsys):
    with pytest.raises(SystemExit):
        Parser(prog="script.py").error("convert it:", "import torch", "print(1)")
    assert capsys.readouterr().err == "script.py: error: convert it:\nimport torch\nprint(1)\n"


# -------------------------------------------------------------------------------------- values


def test_the_home_folder_in_a_path_is_expanded(monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, "/home/reader")
    assert arguments.path("~/x") == Path("/home/reader/x")
    assert arguments.path("x/~") == Path("x/~")
    assert arguments.path("./~t.csv") == Path("~t.csv")
    expected = r"no home folder ~no_such_reader: .* write \./~no_such_reader/x"
    with pytest.raises(argparse.ArgumentTypeError, match=expected):
        arguments.path("~no_such_reader/x")


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (arguments.whole_number(1), {"1": 1, "+7": 7, str(2**63 - 1): 2**63 - 1},
         ["0", "-1", "1.5", "1e3", "", "x", " 1", "9" * 5000]),
        (arguments.whole_number(0, 9), {"0": 0, "9": 9}, ["10", "-1"]),
        (arguments.positive_number, {"1e-30": 1e-30, "2": 2.0}, ["0", "-1", "inf", "nan", "", "x"]),
        (arguments.number_from_0, {"0": 0.0, "-0.0": 0.0, "0.1": 0.1},
         ["-1", "inf", "nan", "", "x", "."]),
        (arguments.probability, {"1e-30": 1e-30, "0.5": 0.5}, ["0", "1", "-1", "nan", "x"]),
        (arguments.device, {name: name for name in ("auto", "cpu", "mps", "cuda", "cuda:10")},
         ["cuda:", "cuda:-1", "cuda:01", "cuda:²", "cpu:1", "tpu", "CUDA", ""]),
    ],
)  # fmt: skip
def test_a_right_value_is_converted_and_a_wrong_one_is_refused_and_shown(kind, right, wrong):
    assert repr({text: kind(text) for text in right}) == repr(right)  # 0.0 is not -0.0
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match="must be") as raised:
            kind(text)
        assert str(raised.value).endswith(f"got {text!r}")
