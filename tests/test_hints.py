import pytest

from experiments.comparison import flags as comparison_flags
from experiments.config.flags import parse_args
from experiments.config.parser import build_parser
from experiments.system import hints

KNOWN = [name for action in build_parser()._actions for name in action.option_strings]


def said_to(*words):
    return hints.hint(list(words), KNOWN, hints.OTHER_NAMES)


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--epochs", "--num_epochs"),
        ("--bs", "--batch_size"),
        ("--output", "--output_dir"),
        ("--rank", "--lora_rank"),
        ("--alpha=16", "--lora_alpha"),
        ("--model", "--model_size"),
        ("--no_cuda", "--device cpu"),
        ("--gpu", "--device cuda"),
        ("--bf16", "--precision bfloat16"),
        ("--max-length", "--context_length"),
        ("--pooling", "--average_embeddings"),
        ("--lr", "--learning_rate"),
        ("--save", "--save_model"),
        ("--gradient_accumulation_steps", "--accumulation_steps"),
    ],
)
def test_a_well_known_name_of_another_program_leads_to_the_flag_that_means_it(flag, meant):
    assert said_to(flag, "1") == f"did you mean {meant}?"


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--optimizer", "AdamW"),
        ("--dropout=0.1", "nothing is dropped out"),
        ("--fp16", "float16 is not offered"),
        ("--padding", "unless --no_padding"),
        ("--plot", "compare_experiments.py has that flag"),
    ],
)
def test_what_has_no_flag_is_said_plainly(flag, words):
    assert words in said_to(flag)
    assert "did you mean" not in said_to(flag)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--batch-size", "4"], "--batch_size"),
        (["--Batch_Size", "4"], "--batch_size"),
        (["--num_epoch", "4"], "--num_epochs"),
        (["--trainable_layer=all"], "--trainable_layers"),
        (["--average", "embeddings"], "--average_embeddings"),
        (["--no", "padding"], "--no_padding"),
        (["-demo"], "--demo"),
        (["--devcie", "cpu"], "--device"),
    ],
)
def test_a_slip_leads_to_the_flag_that_was_meant(words, meant):
    assert said_to(*words) == f"did you mean {meant}?"


@pytest.mark.parametrize(
    "flag",
    ["--sale", "--raw", "--now", "--bed", "--min_steps", "--num_beams", "--num_heads", "--log_file",
     "--top_k", "--temperature", "--wandb", "--beta1", "--eps", "--lora", "-x", "--", "-"],
)  # fmt: skip
def test_no_flag_is_guessed_from_a_few_common_letters(flag):
    known = [name for name in KNOWN if "lora" not in name]
    assert hints.hint([flag], known, {}) == hints.NO_HINT


def test_each_unknown_flag_has_its_hint_in_their_order():
    assert said_to("--fp16", "--epochs", "3", "--epoch", "4") == (
        "float16 is not offered: use --precision bfloat16; did you mean --num_epochs?"
    )


@pytest.mark.parametrize("meant", hints.MEANT)
def test_what_the_table_leads_to_is_taken(meant):
    flag, *value = meant.split()
    assert flag in KNOWN
    if value and value[0] not in ("cuda", "cuda:0", "mps"):
        parse_args([flag, *value])


def test_no_name_in_the_tables_is_a_flag_or_stands_there_twice():
    names = " ".join([*hints.MEANT.values(), *hints.ABSENT.values()]).split()
    assert len(names) == len(set(names)) == len(hints.OTHER_NAMES)
    assert not {hints.bare(flag) for flag in KNOWN} & set(names)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output_dir", "x"], "did you mean --results?"),
        (["--plots", "x"], "did you mean --plot?"),
        (["--row", "16"], "name two rows without a flag, such as 1 16"),
        (["--demo"], "additional_experiments.py has that flag"),
        (["--nonsense"], "unknown: --nonsense; --help lists the flags"),
        (["1"], "name two different rows"),
        (["--json"], "--json"),
    ],
)
def test_the_comparison_answers_wrong_flags_with_status_2_and_one_sentence(flags, words, capsys):
    with pytest.raises(SystemExit) as exit_:
        comparison_flags.parse_args(flags)
    message = capsys.readouterr().err
    assert exit_.value.code == 2
    assert words in message
    assert message.count("\n") == 1
