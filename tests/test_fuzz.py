"""Any flags: a run, or one sentence that refuses them; never a traceback."""

import contextlib
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from additional_experiments import main
from experiments.config.arguments import MODEL_SIZES
from experiments.config.parsing import build_parser, parse_runs
from experiments.config.rows import ROWS
from experiments.config.settings import BASELINES, TRAINABLE

VALUES = {  # of each flag that has one, and can be used with the demo
    "--model_size": st.sampled_from([*MODEL_SIZES]),
    "--weights": st.sampled_from(["random", "pretrained"]),
    "--trainable_layers": st.sampled_from([*TRAINABLE]),
    "--trainable_token_pos": st.sampled_from(["first", "last", "flexible"]),
    "--context_length": st.sampled_from(["longest_training_example", "model_context_length"])
    | st.integers(1, 100).map(str)
    | st.integers(1, 2**64).map(str),
    "--lora_rank": st.integers(1, 40).map(str) | st.integers(1, 2**63 - 1).map(str),
    "--lora_alpha": st.floats(1e-30, 30).map(str),
    "--num_epochs": st.integers(1, 2**63 - 1).map(str),
    "--batch_size": st.integers(1, 16).map(str) | st.integers(1, 2**63 - 1).map(str),
    "--accumulation_steps": st.integers(1, 3).map(str) | st.integers(1, 2**63 - 1).map(str),
    "--ignore_index": st.sampled_from(["0", "1", "-100", "50256"])
    | st.integers(-(2**63), 2**63 - 1).map(str),
    "--row": st.sampled_from([*map(str, ROWS)]),
    "--lora_scaling": st.sampled_from(["alpha", "alpha_over_rank", "rslora"]),
    "--seed": st.integers(0, 2**63 - 1).map(str),
    "--device": st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    "--precision": st.sampled_from(["float32", "bfloat16"]),
    "--num_seeds": st.just("2"),
    "--baseline": st.sampled_from([*BASELINES]),
}
SWITCHES = (
    "--average_embeddings", "--no_padding", "--disable_causal_mask", "--no_shortcuts",
    "--overwrite", "--debug", "--verify",
)  # fmt: skip


@st.composite
def command_lines(draw):
    """Flags that are valid one by one, for one or two steps of the demo."""
    flags = ["--demo", "--max_steps", draw(st.sampled_from(["1", "2"]))]
    for name in draw(st.lists(st.sampled_from([*VALUES]), unique=True, max_size=6)):
        flags += [name, draw(VALUES[name])]
    return flags + draw(st.lists(st.sampled_from(SWITCHES), unique=True, max_size=3))


def outcome(function, flags):
    """The exit status of a function of a command line, its output and its errors."""
    out, err, status = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            function(flags)
        except SystemExit as exit_:
            status = exit_.code
    return status, out.getvalue(), err.getvalue()


def check_run(flags):
    status, out, err = outcome(main, flags)
    if status is None:
        assert out.count("Test accuracy: ") == len(parse_runs(flags))
    else:
        assert (status, out, err.count("\n")) == (2, "", 1)


DEMO = ["--demo", "--max_steps", "2"]


@given(command_lines())
@settings(max_examples=2)
@example([*DEMO, "--context_length", "1", "--ignore_index", "0"])
def test_valid_flags_run_or_are_refused_with_status_2(flags):
    check_run(flags)


@pytest.mark.slow
@given(command_lines())
@settings(max_examples=15)
@example([*DEMO, "--trainable_layers", "lora", "--precision", "bfloat16", "--no_shortcuts"])
@example([*DEMO, "--row", "6"])
@example([*DEMO, "--row", "15"])
@example([*DEMO, "--row", "19", "--trainable_token_pos", "flexible", "--disable_causal_mask"])
def test_more_valid_flags_run_or_are_refused_with_status_2(flags):
    check_run(flags)


FLAGS = [name for action in build_parser()._actions for name in action.option_strings]
WORDS = st.text(max_size=8) | st.sampled_from(FLAGS) | st.sampled_from(["1", "-1", "1e9", "lora"])


@given(st.lists(WORDS, max_size=5), st.sampled_from(FLAGS), st.text())
@settings(max_examples=30)
@example(["two\nlines"], "--demo", "--demo")
@example([], "--num_epochs", "9" * 5000)
@example([], "--context_length", "9" * 5000)
@example([], "--weights", "a" * 5000)
@example([], "--cache_dir", "a" * 5000)
@example([], "--data_dir", "\0")
@example([], "--output_dir", "\ud800")
@example([], "--device", "\x1b]0;title\a")
def test_garbage_is_refused_in_one_sentence_or_is_no_garbage(words, flag, value):
    status, out, err = outcome(parse_runs, [*words, flag, value])
    if status is not None:
        is_help = out.startswith("usage: ")
        assert (status, err.count("\n")) == ((0, 0) if is_help else (2, 1))
        assert "\x1b" not in err
