from records import make_baseline, make_run, make_substitute, some_runs

from experiments.comparison.groups import group_runs
from experiments.comparison.notes import notes_on
from experiments.comparison.sentences import FIXED
from experiments.comparison.summaries import summarise

SUBSTITUTE = "checkpoint tiny.safetensors"


def said(*runs):
    groups = group_runs(runs)
    return notes_on(groups, summarise(groups, 0.01))


def test_the_sentences_come_first_and_the_condition_on_the_split_once():
    sentences = [s.sentence for s in summarise(group_runs(some_runs()), 0.01) if s.evidence]
    notes = said(*some_runs())
    assert notes[:4] == [*sentences, FIXED]
    assert notes[4:] == [
        "Without duplicates: without the 2 test examples whose text is also that of a training "
        "example. Training: with the activations computed before it, without the final accuracies.",
        "One of 12 test examples is 8.33 points; two single runs differ significantly if one of "
        "them alone classifies 6 or more correctly, 50.0 points.",
        "Compared with row 1 of the same weights, test examples and precision over all shared "
        "seeds; from 3 seeds on, interval and p are over other seeds and other examples; for one "
        "seed, p is that of McNemar's exact test. Only one correct: at the first shared seed. "
        "Holm: corrected over the designs of the table. Detectable and needed: with a power of "
        "80 %.",
        "These records do not store which test examples have the same text, so that each counts as "
        "distinct: row 4; row 16; baseline majority.",
    ]


def test_substitutes_and_a_missing_row_1_are_reported():
    notes = said(make_substitute(4, "a" * 64, total=14, data="b" * 64), make_run(16))
    assert any(f"Substitutes for the published models: {SUBSTITUTE}." in note for note in notes)
    assert 'There is no record of row 1 to compare with: use --reference "row 16".' in notes
    assert sum("test examples is" in note for note in notes) == 2  # two sizes


def test_groups_that_are_not_compared_are_reported_with_the_reason():
    notes = said(
        make_run(1),
        make_run(1, precision="bfloat16"),
        make_run(4),
        make_run(16, seed=9),
        make_substitute(16, "a" * 64),
        make_baseline(),
    )
    assert [note for note in notes if note.startswith("Not compared")] == [
        "Not compared (no reference with the same conditions): row 1, bfloat16; row 16, "
        f"{SUBSTITUTE}.",
        "Not compared (no seed of the reference): row 16.",
        "Not compared (several references): baseline majority.",
    ]


def test_the_comparison_over_splits_comes_last():
    runs = [
        make_run(row, data=str(n) * 64, split={"of": "f" * 64, "seed": n}, wrong=range(row - n))
        for n in (1, 2, 3)
        for row in (1, 4)
    ]
    assert said(*runs)[-1].startswith("Over 3 splits of the same examples (--split_seed 1, 2, 3)")


def test_several_devices_are_reported():
    note = (
        "The runs were computed on cpu and cuda, which round differently; their times cannot be "
        "compared."
    )
    cuda = {"device": "NVIDIA A100", "device_type": "cuda"}
    assert note in said(make_run(1), make_run(4, environment=cuda))
    assert note not in said(make_run(1, environment=cuda), make_baseline())


def test_distinct_texts_and_row_8_have_their_notes():
    row_8 = "Row 8's published validation accuracy, 99.81 %, is not a count of 149 examples."
    assert row_8 in said(make_run(8))
    notes = said(make_run(1, test={"same_text": list(range(12))}), make_run(4))
    assert not [note for note in notes if note == row_8 or "same text, so" in note]
