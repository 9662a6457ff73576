import math
from dataclasses import replace

import numpy as np
import pytest
from records import CUDA, make_baseline, make_design, make_run, make_seeds, make_substitute
from scipy import stats

from experiments.comparison.groups import group_runs
from experiments.comparison.notes import (
    describe_failures,
    notes_on_columns,
    notes_on_origin,
    notes_on_verdicts,
)
from experiments.comparison.summaries import summarise

SUBSTITUTE = "checkpoint tiny.safetensors"
ODD = range(1, 300, 2)


def on_columns(*runs):
    return notes_on_columns(summarise(group_runs(runs), 0.01))


def on_verdicts(*runs, reference=None):
    return " ".join(notes_on_verdicts(summarise(group_runs(runs), 0.02, reference), reference))


# ------------------------------------------------------------------------------------ the verdicts


FLEXIBLE = {"trainable_token_pos": "flexible"}
BASELINES = [make_baseline(), make_baseline("bag_of_words", wrong=[1])]
RATES = [make_design(None, learning_rate=1e-3, **more) for more in ({}, FLEXIBLE)]


@pytest.mark.parametrize(
    ("runs", "reference", "words"),
    [
        ([*make_seeds(1, [range(20)] * 3), *make_seeds(4, [[]] * 3), *make_seeds(16, [[]] * 3)],
         None,
         "Difference of test accuracy from row 1. Better, worse: p < 0.05 over seeds and "
         "examples, Holm-adjusted over 2 designs; equivalent: within 2 points; inconclusive: "
         "neither. All results are conditional on this train/test split."),
        ([make_run(1)], None, "Nothing to compare: row 1 is the only design."),
        ([make_run(4), make_run(16)], None, 'run row 1, or use --reference "row 4".'),
        ([make_run(1), make_run(4, seed=9)], None, "no other design has a seed, the weights"),
        ([make_run(1), make_substitute(4, "a" * 64)], "row 1", "the precision of row 1."),
        (BASELINES, None, "Nothing to compare with: run row 1"),
        (BASELINES, "majority", "accuracy from baseline majority."),
        ([make_run(1), make_run(4), *RATES], None,
         "row 1 with the same training recipe, or else row 1."),
        ([make_run(1), make_run(4, wrong=[1])], None,
         "One seed compares two models and supports no claim about the designs."),
    ],
)  # fmt: skip
def test_the_notes_say_what_is_compared_with_what_or_why_nothing_is(runs, reference, words):
    assert words in on_verdicts(*runs, reference=reference)


def test_seeds_that_predict_one_class_are_named_even_if_they_are_not_shared():
    runs = [*make_seeds(1, [[1], [2], [3], ODD]), *make_seeds(4, [[1], ODD, [2]])]
    assert (
        "row 1: 1 of 4 seeds predicted one class only (3). row 4: 1 of 3 seeds predicted one class "
        "only (1). 4 good seeds miss a failure of 1 seed in 10 with a probability of 66%; they "
        "exclude failures of more than 53% of the seeds."
    ) in on_verdicts(*runs)
    six = {f"row {row}": make_seeds(row, [ODD]) for row in range(1, 7)}
    words = "So did seeds of 3 other designs. 1 good seed misses a failure of 1 seed in 10"
    assert words in describe_failures(six)
    assert describe_failures({"majority": [make_baseline(wrong=ODD, total=300)]}) == ""


# -------------------------------------------------------------------------------------- the columns


def test_the_notes_say_how_columns_are_made():
    assert on_columns(make_run(1), make_run(4), make_run(16), make_baseline()) == [
        "Without duplicates: without the 2 test examples whose text is also that of a training "
        "example. Training: with the activations computed before it, without the final accuracies. "
        "p: from 3 seeds on, over other seeds and other examples; for one seed, of McNemar's exact "
        "test (a t test of other metrics). Only one correct: at the first shared seed. Detectable "
        "and needed: with a power of 80 %.",
        "One of 12 test examples is 8.33 points; two single runs differ significantly if one of "
        "them alone classifies 6 or more correctly, 50.0 points.",
        "These records do not store which test examples have the same text, so that each counts as "
        "distinct: row 4; row 16; baseline majority.",
    ]
    texts = {"same_text": list(range(12))}
    assert not any("same text" in note for note in on_columns(make_run(1, test=texts), make_run(4)))


def test_substitutes_several_sizes_and_several_devices_are_reported():
    devices = "The runs were computed on cpu and cuda, whose rounding and speed differ."
    random = make_run(
        10, weights="random", stands_in=True, model="gpt2-tiny (7M), random weights", total=14,
        data="b" * 64, environment=CUDA,
    )  # fmt: skip
    notes = on_columns(make_substitute(4, "a" * 64, total=14, data="b" * 64), random, make_run(16))
    start = f"Substitutes for the published models: {SUBSTITUTE}; gpt2-tiny (7M), random weights. "
    assert any(note.startswith(start) for note in notes)
    assert sum("test examples is" in note for note in notes) == 2
    assert devices in notes
    assert devices not in on_columns(make_run(1, environment=CUDA), make_baseline())


def test_groups_that_are_not_compared_are_reported_with_the_reason():
    runs = [
        make_run(1), make_run(1, precision="bfloat16"), make_run(4), make_run(16, seed=9),
        make_substitute(16, "a" * 64), make_baseline(),
    ]  # fmt: skip
    assert [note for note in on_columns(*runs) if note.startswith("Not compared")] == [
        "Not compared (no seed of the reference): row 16.",
        "Not compared (no reference with the same conditions): row 1, bfloat16; row 16, "
        f"{SUBSTITUTE}.",
        "Not compared (several references): baseline majority.",
    ]


def test_other_versions_and_dates_in_the_future_are_reported():
    runs = [make_run(row, environment=CUDA | {"torch": "2"}) for row in (1, 2)]
    runs.append(make_run(16, environment=CUDA | {"torch": "1"}, date="9999-01-01T00:00:00+00:00"))
    assert notes_on_origin(runs) == [
        "Made with another version of torch: row 16 seed 123.",
        "Dated in the future: row 16 seed 123.",
    ]


# ------------------------------------------------------------------------------------------ splits


def on_splits(*runs):
    return [note for note in on_columns(*runs) if note.startswith("Over ")]


def some_splits(count=3):
    """Three seeds of rows 1 and 4 on each split; row 4 misclassifies 1, 2, 3, ... examples."""
    return [
        make_run(
            row, seed=seed, wrong=wrong, total=40, data=str(number) * 64,
            split={"of": "f" * 64, "seed": number},
            correct={"train": [90, 100], "validation": [1, 2], "test": [1, 2]},
        )
        for number in range(1, count + 1)
        for seed in (1, 2, 3)
        for row, wrong in ((1, range(8)), (4, range(number)))
    ]  # fmt: skip


def test_three_splits_have_an_interval_over_other_splits():
    (text,) = on_splits(*some_splits())
    mean = np.mean([7, 6, 5]) / 40
    half = stats.t.ppf(0.975, 2) / 40 * math.sqrt(1 / 3 + 40 / 100)
    assert text == (
        "Over 3 splits of the same examples (--split_seed 1, 2, 3), row 4 minus row 1: "
        f"{100 * mean:+.2f} points of test accuracy, 95 % confidence interval "
        f"{100 * (mean - half):+.2f} to {100 * (mean + half):+.2f}, over other splits."
    )
    assert on_splits(*some_splits(2)) == []
    bases = [run for run in some_splits() if run.row == 1]  # which do not differ from row 18
    (text,) = on_splits(*bases, *(replace(run, row=18, name="row 18") for run in bases))
    assert "row 18 minus row 1: +0.00 points of test accuracy, over other splits." in text


@pytest.mark.parametrize(
    "change",
    [{"split": {"of": "e" * 64, "seed": 3}}, {"split": None}, {"weights": "a" * 64},
     {"precision": "bfloat16"}, {"name": "row 5", "row": 5}],
)  # fmt: skip
def test_splits_of_other_examples_or_designs_are_not_combined(change):
    unchanged = 1 if "row" in change else None
    changed = [
        replace(run, **change) if run.data[0] == "3" and run.row != unchanged else run
        for run in some_splits()
    ]
    assert on_splits(*changed) == []
