from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.arguments import LENGTHS, MODEL_SIZES
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
PUBLISHED_SIZES = tuple(MODEL_SIZES)[1:]
NUMBERS = st.floats(1e-9, 1e9) | st.sampled_from([5e-5, 1e-3, 8.0, 16.0])


def values_of(name):
    """Values of a flag that a design can have."""
    default, options = DEFAULTS[name], FIELDS[name].metadata["options"]
    if name in ("model_size", "weights", "context_length"):
        words = {"model_size": PUBLISHED_SIZES, "weights": ("pretrained", "random")}
        some = st.sampled_from(words.get(name, LENGTHS))
        return some | st.integers(1, 1024) if name == "context_length" else some
    if "choices" in options:
        return st.sampled_from(options["choices"])
    if isinstance(default, bool):
        return st.booleans()
    found = st.integers(1, 2**31) if "WORD N LABEL".find(options["metavar"]) >= 0 else NUMBERS
    return found | st.none() if default is None else found


DESIGNS = st.fixed_dictionaries({}, optional={name: values_of(name) for name in DEFAULTS})


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_named_by_its_number(row):
    assert name_design(design_of(ROWS[row].changes)) == f"row {row}"


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("--row 16 --learning_rate 1e-3", "row 16, learning_rate 0.001"),
        ("--keep_best", "row 1, keep_best"),
        ("--no_padding --batch_size 1 --accumulation_steps 4", "row 14, accumulation_steps 4"),
        ("--trainable_layers lora --lora_rank 16 --lora_alpha 4", "row 11, lora_alpha 4"),
        ('--model_size "gpt2-tiny (7M)" --weights random', "row 1, weights random"),
        ("--precision bfloat16 --seed 7", "row 1"),
    ],
)
def test_a_design_is_named_by_the_nearest_row_and_what_differs(flags, name):
    import shlex

    assert name_design(design_of(parse_args(shlex.split(flags)).identity)) == name


def test_runs_of_two_precisions_and_splits_have_two_names():
    flags = ["--data", "x.csv", "--split_seed", "7", "--precision", "bfloat16"]
    assert name_of(parse_args(flags)) == "row 1, precision bfloat16, split_seed 7"


@given(DESIGNS, DESIGNS)
def test_the_name_determines_the_design(one, other):
    one, other = design_of(one), design_of(other)
    assert (name_design(one) == name_design(other)) == (one == other)


@given(DESIGNS)
def test_what_differs_from_the_nearest_row_gives_the_design_again(flags):
    design = design_of(flags)
    row, changes = nearest_row(design)
    assert DEFAULTS | ROWS[row].changes | changes == design


def test_a_substitute_has_the_design_of_the_published_model():
    local, tiny = {"weights": "x/tiny.safetensors"}, {"model_size": "gpt2-tiny (7M)"}
    assert name_design(design_of(local)) == "row 1"
    assert name_design(design_of(tiny | ROWS[10].changes)) == "row 10"
    assert [is_substitute(flags) for flags in (local, tiny, {}, ROWS[10].changes)] == [
        True, True, False, False
    ]  # fmt: skip
