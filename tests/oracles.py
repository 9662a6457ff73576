"""transformers' GPT-2 as the oracle of checkpoints: the book's GPT has its hidden states."""

import pytest
import torch
from helpers import assert_equal, randomise
from torch import nn
from transformers import GPT2Config, GPT2Model

from experiments.checkpoints.header import read_checkpoint
from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.config.parsing import resolve
from experiments.config.settings import default_values
from previous_chapters import GPTModel, load_weights_into_gpt

SIZES = {"vocab_size": 97, "n_positions": 24, "n_embd": 64, "n_head": 1, "n_layer": 2}


def oracle_of(kind=GPT2Model, **config):
    """One of transformers' models, drawn so wide that another function shows."""
    config = {"attn_implementation": "eager", "bos_token_id": 0, "eos_token_id": 0} | config
    return randomise(kind(GPT2Config(**SIZES | config)).float()).eval()


def settings_of(path):
    return resolve(default_values() | {"weights": str(path)})


def load_gpt(path):
    """The book's GPT of a checkpoint, as a run builds it."""
    gpt = GPTModel(settings_of(path).design.config)
    load_weights_into_gpt(gpt, load_gpt2_checkpoint(path)[1])
    return gpt.double()


def draw_tokens():
    return torch.randint(SIZES["vocab_size"], (3, SIZES["n_positions"]))


def assert_same_function(oracle, path):
    """The hidden states before any head are the oracle's."""
    gpt, tokens = load_gpt(path), draw_tokens()
    gpt.out_head = nn.Identity()
    assert_equal(gpt(tokens), oracle.double().base_model(tokens).last_hidden_state)


def refusal_of(path):
    with pytest.raises(ValueError, match=r".") as error:
        read_checkpoint(path)
    return error.value


def read_or_refused(read, path, folder, in_one_line=True):
    """What a path is read as, or None if it is refused with an error that names the file."""
    try:
        return read(path)
    except ValueError as error:
        message = str(error)
    assert message.startswith(str(folder))
    assert "\n" not in message or not in_one_line
    return None
