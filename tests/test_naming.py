from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.arguments import LENGTHS, MODEL_SIZES, TINY
from experiments.config.naming import (
    DEFAULTS,
    design_of,
    is_substitute,
    name_design,
    name_of,
    nearest_row,
)
from experiments.config.parsing import parse_args
from experiments.config.rows import ROWS
from experiments.config.settings import GROUPS

FIELDS = {f.name: f for group in GROUPS.values() for f in fields(group)}
WORDS = {"model_size": tuple(MODEL_SIZES)[1:], "weights": ("pretrained", "random")}
NUMBERS = st.floats(1e-9, 1e9) | st.sampled_from([5e-5, 1e-3, 8.0, 16.0])


def values_of(name):
    """Values of a flag that a design can have."""
    default, options = DEFAULTS[name], FIELDS[name].metadata["options"]
    if name == "context_length":
        return st.sampled_from(LENGTHS) | st.integers(1, 1024)
    if name in WORDS:
        return st.sampled_from(WORDS[name])
    if "choices" in options:
        return st.sampled_from(options["choices"])
    if isinstance(default, bool):
        return st.booleans()
    found = st.integers(1, 2**31) if "WORD N LABEL".find(options["metavar"]) >= 0 else NUMBERS
    return found | st.none() if default is None else found


DESIGNS = st.fixed_dictionaries({}, optional={name: values_of(name) for name in DEFAULTS})


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("--row 16 --learning_rate 1e-3", "row 16, learning_rate 0.001"),
        ("--keep_best", "row 1, keep_best"),
        ("--no_padding --batch_size 1 --accumulation_steps 4", "row 14, accumulation_steps 4"),
        ("--trainable_layers lora --lora_rank 16 --lora_alpha 4", "row 11, lora_alpha 4"),
        ("--model_size 7M --weights random", "row 1, weights random"),
        ("--data x.csv --split_seed 7 --precision bfloat16 --seed 7",
         "row 1, precision bfloat16, split_seed 7"),
        *((f"--row {row}", f"row {row}") for row in ROWS),
    ],
)  # fmt: skip
def test_a_run_is_named_by_the_nearest_row_and_what_differs(flags, name):
    settings = parse_args(flags.split())
    assert name_of(settings) == name
    assert name_design(design_of(settings.identity)) == name.partition(", precision")[0]


@given(DESIGNS, DESIGNS)
def test_the_name_determines_the_design_which_is_the_nearest_row_with_what_differs(one, other):
    one, other = design_of(one), design_of(other)
    assert (name_design(one) == name_design(other)) == (one == other)
    row, changes = nearest_row(one)
    assert DEFAULTS | ROWS[row].changes | changes == one


def test_a_substitute_has_the_design_of_the_published_model():
    local, tiny = {"weights": "x/tiny.safetensors"}, {"model_size": TINY} | ROWS[10].changes
    for flags, row, is_other in (
        (local, 1, True), (tiny, 10, True), ({}, 1, False), (ROWS[10].changes, 10, False)
    ):  # fmt: skip
        assert (name_design(design_of(flags)), is_substitute(flags)) == (f"row {row}", is_other)
