"""Any flags and any messages: run, or refused in one sentence; never a traceback.

The checkpoint reader's mutations are in test_gpt_checkpoint.py.
"""

import contextlib
import io
from copy import deepcopy

import pandas as pd
import pytest
import torch
from helpers import assert_equal, randomise
from hypothesis import example, given, settings
from hypothesis import strategies as st

from additional_experiments import main
from experiments.config.flags import parse_args
from experiments.config.parser import build_parser
from experiments.config.rows import ROWS
from experiments.config.settings import BASELINES, MODEL_SIZES, TRAINABLE
from experiments.data.datasets import Splits, create_datasets, create_loaders
from experiments.data.demo import demo_tokenizer
from experiments.data.sms_spam import read_messages, to_csv
from experiments.model.classifier import GPTClassifier, make_trainable
from experiments.shortcuts.switch import take_shortcuts

# ----------------------------------------------------------------------------------- command line

VALUES = {  # of each flag that takes one, and can be run on the made-up messages
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
    """Flags that are right one by one, for one or two steps of the demo."""
    flags = ["--demo", "--max_steps", draw(st.sampled_from(["1", "2"]))]
    for name in draw(st.lists(st.sampled_from([*VALUES]), unique=True, max_size=6)):
        flags += [name, draw(VALUES[name])]
    return flags + draw(st.lists(st.sampled_from(SWITCHES), unique=True, max_size=3))


def outcome(flags):
    """The exit status of the script, and what it printed to the two streams."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(flags)
        except SystemExit as exit_:
            status = exit_.code
    return status, out.getvalue(), err.getvalue()


def check_command_line(flags):
    status, out, err = outcome(flags)
    if status == 0:
        assert out.count("Test accuracy: ") == parse_args(flags).num_seeds
    else:
        assert (status, out, err.count("\n")) == (2, "", 1)


DEMO = ["--demo", "--max_steps", "2"]


@given(command_lines())
@settings(max_examples=6)
@example([*DEMO, "--trainable_layers", "lora", "--precision", "bfloat16", "--no_shortcuts"])
@example([*DEMO, "--row", "15"])
@example([*DEMO, "--row", "19", "--trainable_token_pos", "flexible", "--disable_causal_mask"])
@example([*DEMO, "--context_length", "1", "--ignore_index", "0"])
@example([*DEMO, "--row", "6"])
def test_valid_flags_run_or_are_refused_with_status_2(flags):
    check_command_line(flags)


@pytest.mark.slow
@given(command_lines())
@settings(max_examples=100)
def test_more_valid_flags_run_or_are_refused_with_status_2(flags):
    check_command_line(flags)


FLAGS = [name for action in build_parser()._actions for name in action.option_strings]
WORDS = st.text(max_size=8) | st.sampled_from(FLAGS) | st.sampled_from(["1", "-1", "1e9", "lora"])


@given(st.lists(WORDS, max_size=5), st.sampled_from(FLAGS), st.text())
@example(["two\nlines"], "--demo", "--demo")
@example([], "--num_epochs", "9" * 5000)
@example([], "--context_length", "9" * 5000)
@example([], "--weights", "a" * 5000)
@example([], "--cache_dir", "a" * 5000)
@example([], "--data_dir", "\0")
@example([], "--output_dir", "\ud800")
def test_garbage_is_refused_or_is_no_garbage(words, flag, value):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            parse_args([*words, flag, value])
        except SystemExit as exit_:
            status = exit_.code
        else:
            return
    helped = out.getvalue().startswith("usage: ")
    assert (status, err.getvalue().count("\n")) == ((0, 0) if helped else (2, 1))


# --------------------------------------------------------------------------------------- messages

CONFIG = {
    "vocab_size": 50257, "context_length": 40, "emb_dim": 16, "n_heads": 2, "n_layers": 2,
    "drop_rate": 0.0, "qkv_bias": True,
}  # fmt: skip
TEXTS = (
    st.text()
    | st.sampled_from(["", " ", "NA", "\r\n", '"', "\0", "<|endoftext|>", "🐍" * 30, "x" * 3000])
    | st.text("\r\n\t ,;\"'\0\\", max_size=6)
)


def datasets_of(texts, no_padding):
    frame = pd.DataFrame({"Label": [i % 2 for i in range(len(texts))], "Text": texts})
    splits = {name: read_messages(io.StringIO(to_csv(frame))) for name in Splits._fields}
    limit = CONFIG["context_length"]
    return create_datasets(splits, demo_tokenizer(), limit, no_padding=no_padding)


@given(st.lists(TEXTS, min_size=1, max_size=5))
@example(["a\rb", "c"])
def test_any_text_is_the_text_it_is(texts):
    dataset, *_ = datasets_of(texts, no_padding=True)
    assert dataset.data["Text"].tolist() == texts
    for i, text in enumerate(texts):
        expected = list(text.encode())[: CONFIG["context_length"]] or [50256]
        assert dataset[i][0].tolist() == expected


@given(
    texts=st.lists(TEXTS, min_size=1, max_size=4),
    layers=st.sampled_from([*TRAINABLE]),
    choices=st.tuples(st.sampled_from(["first", "last", "flexible"]), st.booleans(), st.booleans()),
    no_padding=st.booleans(),
)
@settings(max_examples=40)
@pytest.mark.usefixtures("float64")
def test_both_paths_agree_on_any_messages(texts, layers, choices, no_padding):
    torch.manual_seed(0)
    plain = randomise(GPTClassifier(CONFIG, *choices)).requires_grad_(False)
    plain.out_head = randomise(torch.nn.Linear(CONFIG["emb_dim"], 2))
    make_trainable(plain, layers, lora_rank=3, lora_scaling=1.5)
    datasets = datasets_of(texts, no_padding)
    model, short, *_ = take_shortcuts(deepcopy(plain), datasets)
    batch_size = 1 if no_padding else 3
    loaders = create_loaders(datasets, batch_size), create_loaders(short, batch_size)
    with torch.no_grad():
        for batch, of_short in zip(loaders[0].test, loaders[1].test, strict=True):
            logits = plain(*batch[:2])
            assert logits.isfinite().all()
            assert_equal(model(*of_short[:2]), logits)
