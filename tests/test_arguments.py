"""Command lines: types of values, errors of one sentence, and hints at what is meant."""

import argparse
from pathlib import Path

import pytest

from experiments.config import arguments
from experiments.config.arguments import OTHER_NAMES, Parser, hint
from experiments.config.parsing import build_parser

FLAGS = [name for action in build_parser()._actions for name in action.option_strings]


def hint_for(*words):
    return hint(words, FLAGS, OTHER_NAMES)


# --------------------------------------------------------------------------------------- hints


MEANT = {  # words of a command line, and the flag that is meant
    "--lr 1": "--learning_rate", "--epochs 3": "--num_epochs", "--model small": "--model_size",
    "--gpu": "--device cuda", "--no_cuda": "--device cpu", "--bf16": "--precision bfloat16",
    "--output=x": "--output_dir", "--dataset x": "--data", "--seeds 5": "--num_seeds",
    "--fsdp x": "--parallel shard", "--sep ;": "--separator", "--wandb": "--tensorboard",
    "--max-length 9": "--context_length", "--gradient_accumulation_steps 2": "--accumulation_steps",
    # spelling
    "--batch-size 4": "--batch_size", "--Batch_Size 4": "--batch_size", "-demo": "--demo",
    "--num_epoch 4": "--num_epochs", "--trainable_layer=all": "--trainable_layers",
    "--average embeddings": "--average_embeddings", "--no padding": "--no_padding",
    "--devcie cpu": "--device",
}  # fmt: skip


@pytest.mark.parametrize("words", MEANT)
def test_a_name_of_another_program_or_a_misspelt_flag_leads_to_the_one_that_is_meant(words):
    assert hint_for(*words.split()) == f"did you mean {MEANT[words]}?"


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--fp16", "float16 is not supported"),
        ("--resume", "run the same command"),
        ("--num_labels", "the labels in --data"),
        ("--eval_steps", "every 50 batches"),
        ("--num_gpus", "torchrun --nproc_per_node"),
        ("--nproc_per_node=2", "torchrun --nproc_per_node"),
        ("--local-rank=1", "torchrun --nproc_per_node"),
        ("--plot", "compare_experiments.py has that flag"),
    ],
)
def test_for_what_has_no_flag_the_hint_says_so(flag, words):
    assert words in hint_for(flag)
    assert "did you mean" not in hint_for(flag)


@pytest.mark.parametrize(
    "flag",
    ["--sale", "--raw", "--now", "--bed", "--min_steps", "--num_beams", "--num_heads", "--log_file",
     "--top_k", "--temperature", "--beta1", "--eps", "-x", "--", "-"],
)  # fmt: skip
def test_no_flag_is_guessed_from_a_few_common_letters(flag):
    assert hint_for(flag) == "--help lists the flags"


def test_each_unknown_flag_has_its_hint_once_and_in_order():
    assert hint_for("--fp16", "--epochs", "3", "--epoch", "4") == (
        "float16 is not supported: use --precision bfloat16; did you mean --num_epochs?"
    )


@pytest.mark.parametrize("meant", [m for m in OTHER_NAMES.values() if m.startswith("--")])
def test_the_flags_of_hints_exist(meant):
    flag, *value = meant.split()
    assert flag in FLAGS
    build_parser().parse_args([flag, *value] if value else [])


def test_no_other_name_is_a_flag():
    assert not {f"--{name}" for name in OTHER_NAMES} & {*FLAGS}


# -------------------------------------------------------------------------------------- errors


@pytest.fixture
def parser():
    parser = Parser(prog="script.py")
    parser.add_argument("--num_epochs", type=arguments.whole_number(1))
    return parser


def message_of(capsys, parse, *values):
    with pytest.raises(SystemExit) as exit_:
        parse(*values)
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (2, "")
    return err


def test_an_unknown_flag_ends_the_program_with_a_hint(parser, capsys):
    message = message_of(capsys, parser.parse_known, ["--epochs", "3"])
    assert message == "script.py: error: unknown: --epochs 3; did you mean --num_epochs?\n"


def test_an_abbreviated_flag_is_unknown(parser, capsys):
    assert "did you mean --num_epochs?" in message_of(capsys, parser.parse_known, ["--num_epoch=3"])


def test_an_error_is_one_line_without_control_characters(parser, capsys):
    message = message_of(capsys, parser.parse_known, ["--num_epochs", "\x1b[31m\n1"])
    assert message.count("\n") == 1
    assert message.isprintable() or message[:-1].isprintable()


def test_lines_of_code_may_follow_an_error(parser, capsys):
    message = message_of(capsys, parser.error, "convert it:", "import torch", "print(1)")
    assert message == "script.py: error: convert it:\nimport torch\nprint(1)\n"


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
    ("kind", "texts"),
    [
        (arguments.whole_number(1), ["0", "-1", "1.5", "1e3", "", "x", " 1", "9" * 5000]),
        (arguments.whole_number(0, 9), ["10", "-1"]),
        (arguments.positive_number, ["0", "-1", "inf", "nan", "", "x"]),
        (arguments.number_from_0, ["-1", "inf", "nan", "", "x", "."]),
        (arguments.probability, ["0", "1", "-1", "nan", "x"]),
        (arguments.device, ["cuda:", "cuda:-1", "cuda:01", "cuda:²", "cpu:1", "tpu", "CUDA", ""]),
    ],
)
def test_a_wrong_value_is_refused_and_shown(kind, texts):
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match="must be") as raised:
            kind(text)
        assert str(raised.value).endswith(f"got {text!r}")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (arguments.whole_number(1), {"1": 1, "+7": 7, str(2**63 - 1): 2**63 - 1}),
        (arguments.positive_number, {"1e-30": 1e-30, "2": 2.0}),
        (arguments.number_from_0, {"0": 0.0, "-0.0": 0.0, "0.1": 0.1}),
        (arguments.probability, {"1e-30": 1e-30, "0.5": 0.5}),
        (arguments.device, {name: name for name in ("auto", "cpu", "mps", "cuda", "cuda:10")}),
    ],
)
def test_a_right_value_is_converted(kind, values):
    assert repr({text: kind(text) for text in values}) == repr(values)  # 0.0 is not -0.0
