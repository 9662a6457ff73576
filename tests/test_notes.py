import math
from dataclasses import replace

import numpy as np
import pytest
from records import make_baseline, make_run, make_seeds, make_substitute, some_runs
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


def test_the_notes_say_what_is_compared_and_what_verdicts_mean():
    runs = [*make_seeds(1, [range(20)] * 3), *make_seeds(4, [range(2)] * 3)]
    assert on_verdicts(*runs, *make_seeds(16, [range(60)] * 3)) == (
        "Difference of test accuracy from row 1. Better, worse: p < 0.05 over seeds and examples, "
        "Holm-adjusted over 2 designs; equivalent: within 2 points; inconclusive: neither. All "
        "results are conditional on this train/test split."
    )
    assert on_verdicts(*make_seeds(1, [[]]), *make_seeds(4, [range(20)])).endswith(
        "One seed compares two models and supports no claim about the designs."
    )


@pytest.mark.parametrize(
    ("runs", "reference", "words"),
    [
        ([make_run(1)], None, "Nothing to compare: row 1 is the only design."),
        ([make_run(4), make_run(16)], None, 'run row 1, or use --reference "row 4".'),
        ([make_run(1), make_run(4, seed=9)], None, "no other design has a seed, the weights"),
        ([make_run(1), make_substitute(4, "a" * 64)], "row 1", "the precision of row 1."),
        ([make_baseline(), make_baseline("bag_of_words")], None, "Nothing to compare with: run"),
    ],
)
def test_nothing_to_compare_says_why(runs, reference, words):
    assert words in on_verdicts(*runs, reference=reference)


def test_baselines_can_be_compared_with_a_named_one_and_different_references_are_described_once():
    runs = [make_baseline(), make_baseline("bag_of_words", wrong=[1])]
    assert "accuracy from baseline majority." in on_verdicts(*runs, reference="majority")
    settings = {"num_epochs": 5, "batch_size": 8, "learning_rate": 1e-3}
    rates = [make_run(None, seed=s, settings=settings | more, digest=f"{s}{more}")
             for s in (123, 124) for more in ({}, {"trainable_token_pos": "flexible"})]  # fmt: skip
    words = "row 1 with the same training recipe, or else row 1."
    assert words in on_verdicts(*some_runs(), *rates)


def test_seeds_that_predict_one_class_are_named_even_if_they_are_not_shared():
    runs = [*make_seeds(1, [[1], [2], [3], ODD]), *make_seeds(4, [[1], ODD, [2]])]
    assert (
        "row 1: 1 of 4 seeds predict one class only (3). row 4: 1 of 3 seeds predict one class "
        "only (1). 4 good seeds miss a failure of 1 seed in 10 with a probability of 66%; they "
        "exclude failures of more than 53% of the seeds."
    ) in on_verdicts(*runs)
    assert "So do seeds of 3 other designs." in describe_failures(
        {f"row {row}": make_seeds(row, [ODD, [1], [2]]) for row in range(1, 7)}
    )
    one = describe_failures({"row 1": make_seeds(1, [ODD])})
    assert "1 good seed misses a failure of 1 seed in 10" in one
    assert describe_failures({"majority": [make_baseline(wrong=ODD, total=300)]}) == ""


# -------------------------------------------------------------------------------------- the columns


def test_the_notes_say_how_columns_are_made():
    assert on_columns(*some_runs()) == [
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


def test_substitutes_and_several_sizes_are_reported():
    notes = on_columns(make_substitute(4, "a" * 64, total=14, data="b" * 64), make_run(16))
    assert any(f"Substitutes for the published models: {SUBSTITUTE}." in note for note in notes)
    assert sum("test examples is" in note for note in notes) == 2


def test_groups_that_are_not_compared_are_reported_with_the_reason():
    notes = on_columns(
        make_run(1),
        make_run(1, precision="bfloat16"),
        make_run(4),
        make_run(16, seed=9),
        make_substitute(16, "a" * 64),
        make_baseline(),
    )
    assert [note for note in notes if note.startswith("Not compared")] == [
        "Not compared (no seed of the reference): row 16.",
        "Not compared (no reference with the same conditions): row 1, bfloat16; row 16, "
        f"{SUBSTITUTE}.",
        "Not compared (several references): baseline majority.",
    ]


def test_several_devices_are_reported():
    note = "The runs were computed on cpu and cuda, whose rounding and speed differ."
    cuda = {"device": "NVIDIA A100", "device_type": "cuda"}
    assert note in on_columns(make_run(1), make_run(4, environment=cuda))
    assert note not in on_columns(make_run(1, environment=cuda), make_baseline())


def test_other_versions_and_dates_in_the_future_are_reported():
    cpu = {"device": "cpu", "device_type": "cpu"}
    runs = [make_run(row, environment=cpu | {"torch": "2"}) for row in (1, 2)]
    runs.append(make_run(16, environment=cpu | {"torch": "1"}, date="9999-01-01T00:00:00+00:00"))
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


@pytest.mark.parametrize(
    "change",
    [{"split": {"of": "e" * 64, "seed": 3}}, {"split": None}, {"weights": "a" * 64},
     {"precision": "bfloat16"}, {"name": "row 5", "row": 5}],
)  # fmt: skip
def test_splits_of_other_examples_or_designs_are_not_combined(change):
    runs = some_splits()
    changed = [
        replace(run, **change)
        if run.data[0] == "3" and (run.row == 4 or "row" not in change)
        else run
        for run in runs
    ]
    assert on_splits(*changed) == []


def test_splits_that_do_not_differ_have_no_interval():
    bases = [run for run in some_splits() if run.row == 1]
    (text,) = on_splits(*bases, *(replace(run, row=18, name="row 18") for run in bases))
    assert "row 18 minus row 1: +0.00 points of test accuracy, over other splits." in text
