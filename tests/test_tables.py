import pytest
from records import make_old_record, make_record, make_stand_in, some_records

from experiments.comparison.groups import group_records
from experiments.comparison.summaries import summarise
from experiments.comparison.tables import notes, published_verdicts, summary_table
from experiments.records import upgrade

A = "a" * 64


def test_columns_that_no_run_fills_are_left_out():
    whole = summary_table(summarise(group_records(some_records())))
    alone = summary_table(summarise(group_records([make_record(4)])))
    heads = [
        [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
        for table in (whole, alone)
    ]
    gone = ["mean ± sd, %", "range, %", "only row 1 right", "only this right", "p", "p (Holm)",
            "against row 1"]  # fmt: skip
    assert [head for head in heads[0] if head not in gone] == heads[1]
    assert "11 of 12" not in alone
    assert "12 of 12" in alone


def said_of(*records):
    return "\n".join(notes(group_records(records)))


def test_stand_ins_and_a_missing_row_1_are_said():
    text = said_of(make_stand_in(4, A), make_record(16))
    assert "Stand-ins, no runs of the published models: checkpoint tiny.safetensors aaaaaa" in text
    assert "Row 1 is not among the records, so nothing is held against it." in text
    assert "Stand-ins" not in said_of(make_record(4))


def test_what_is_held_against_nothing_is_said_with_the_reason():
    text = said_of(
        make_record(1),
        make_record(1, precision="bfloat16"),
        make_record(4),
        make_record(16, seed=9),
        make_stand_in(16, A),
        make_record(None, name="baseline majority"),
    )
    assert "Held against nothing, for no seed that row 1 has: row 16." in text
    assert "for no row 1 like them: row 16, checkpoint tiny.safetensors aaaaaaaa." in text
    assert "for more than one row 1: baseline majority." in text
    assert "Held against nothing" not in said_of(*some_records())


def test_devices_that_stand_together_are_said():
    cuda = {"device": "NVIDIA A100", "device_type": "cuda"}
    assert "Runs on cpu and cuda stand together" in said_of(
        make_record(1), make_record(4, environment=cuda)
    )
    baseline = make_record(None, name="baseline majority")
    assert "stand together" not in said_of(make_record(1, environment=cuda), baseline)


@pytest.mark.parametrize(
    ("layers", "prefix", "said"),
    [("last_block", 0.01, True), ("last_block", 2.0, False), ("all", 0.01, False)],
)
def test_times_of_version_1_without_what_the_prefix_cost_are_said(layers, prefix, said):
    old = make_old_record(seconds={"prefix": prefix, "train": 3.0})
    new = upgrade(old | {"settings": {"trainable_layers": layers}})
    assert ("depend on who paid" in said_of(new)) == said
    assert "depend on who paid" not in said_of(new | {"prefix_reused": True})


def test_the_published_figures_carry_four_differences_and_exclude_seven():
    verdicts = published_verdicts()
    rows = {
        words: {row for row, found in verdicts.items() if words in found}
        for words in ("worse, whatever", "better, whatever", "not distinguishable", "depends")
    }
    assert rows == {
        "worse, whatever": {2, 3, 6, 13},
        "better, whatever": set(),
        "not distinguishable": {5, 7, 10, 11, 17, 18, 19},
        "depends": {4, 8, 9, 12, 14, 15, 16},
    }


def test_what_is_not_known_is_an_empty_cell():
    record = make_record(1)
    record["test"]["in_training"] = [True] * 12
    table = summary_table(summarise(group_records([record])))
    assert "nan" not in table
    assert "unseen" not in table
