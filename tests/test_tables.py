import pytest
from records import make_old_record, make_record, make_stand_in, some_records

from experiments.comparison.groups import group_records
from experiments.comparison.summaries import summarise
from experiments.comparison.tables import (
    losses_table,
    metrics_of_summaries,
    metrics_table,
    notes,
    published_table,
    published_verdicts,
    summary_table,
    with_interval,
)
from experiments.config.rows import ROWS
from experiments.runs.records import upgrade

A = "a" * 64


def test_columns_that_no_run_fills_are_left_out():
    whole = summary_table(summarise(group_records(some_records())))
    alone = summary_table(summarise(group_records([make_record(4)])))
    heads = [
        [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
        for table in (whole, alone)
    ]
    gone = ["mean ± sd, %", "range, %", "only row 1 right", "only this right",
            "difference, points", "p", "p (Holm)", "against row 1", "could be seen, points",
            "to settle"]  # fmt: skip
    assert [head for head in heads[0] if head not in gone] == heads[1]
    assert "11 of 12" not in alone
    assert "12 of 12" in alone


def few_records():
    """A single seed of row 1; row 4 with another seed, row 8 with no common one; row 16 errs."""
    return [
        make_record(1, wrong=[1, 2], total=40),
        make_record(4, total=40),
        make_record(4, seed=124, wrong=[3], total=40),
        make_record(8, seed=7, wrong=[5], total=40),
        make_record(16, wrong=range(12), total=40),
    ]


def cells_of(table):
    """The cells of a Markdown table, its heading first."""
    lines = table.splitlines()
    assert set(lines[1]) == set("|- ")
    assert len({len(line) for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:1] + lines[2:]]


def test_the_table_of_few_records():
    assert cells_of(summary_table(summarise(group_records(few_records())))) == [
        ["run", "published, %", "first seed, %", "right", "95 % interval", "unseen, %", "seeds",
         "mean ± sd, %", "range, %", "only row 1 right", "only this right", "difference, points",
         "p", "p (Holm)", "against row 1", "could be seen, points", "to settle", "training, s",
         "device"],
        ["row 01", "95.00 (91.9 to 96.9)", "95.00", "38 of 40", "83.5 to 98.6", "94.74", "1",
         *[""] * 10, "4.0", "cpu"],
        ["row 04", "98.33 (96.2 to 99.3)", "100.00", "40 of 40", "91.2 to 100.0", "100.00", "2",
         "98.75 ± 1.77", "97.50 to 100.00", "0", "2", "+5.00", "0.5", "0.5", "not known", "10.0",
         "155 messages", "7.0", "cpu"],
        ["row 08", "98.33 (96.2 to 99.3)", "97.50", "39 of 40", "87.1 to 99.6", "97.37", "1",
         *[""] * 10, "11.0", "cpu"],
        ["row 16", "98.33 (96.2 to 99.3)", "70.00", "28 of 40", "54.6 to 81.9", "73.68", "1",
         "", "", "10", "0", "-25.00", "0.00195", "0.00391", "worse", "", "", "19.0", "cpu"],
    ]  # fmt: skip


def test_the_metrics_of_few_records():
    groups = group_records(few_records())
    heading = ["run", "accuracy, %", "macro F1", "AUROC", "log loss", "Brier", "calibration error"]
    of_each = {
        "row 01": ["95.00", "0.9500", "0.9500", "0.2152", "0.0500", "0.0500"],
        "row 04": ["100.00", "1.0000", "1.0000", "0.1054", "0.0100", "0.1000"],
        "row 08": ["97.50", "0.9750", "0.9750", "0.1603", "0.0300", "0.0750"],
        "row 16": ["70.00", "0.7000", "0.7000", "0.7645", "0.2500", "0.2000"],
    }
    of_classes = {
        "row 01": [["0.9500", "0.9500", "19 ham, 1 spam"], ["0.9500", "0.9500", "1 ham, 19 spam"]],
        "row 04": [["1.0000", "1.0000", "20 ham"], ["1.0000", "1.0000", "20 spam"]],
        "row 08": [["0.9524", "1.0000", "20 ham"], ["1.0000", "0.9500", "1 ham, 19 spam"]],
        "row 16": [["0.7000", "0.7000", "14 ham, 6 spam"], ["0.7000", "0.7000", "6 ham, 14 spam"]],
    }
    lines = []
    for name, found in of_each.items():
        ham, spam = of_classes[name]
        lines += [[name, *found, "ham", *ham], [*[""] * 7, "spam", *spam]]
    assert cells_of(metrics_table(groups)) == [
        [*heading, "class", "precision", "recall", "told as"], *lines
    ]  # fmt: skip

    means = of_each | {"row 04": ["98.75", "0.9875", "0.9875", "0.1328", "0.0200", "0.0875"]}
    against = {"row 04": ["-0.1099", "-0.0400"], "row 16": ["+0.5493", "+0.2000"]}
    assert metrics_of_summaries(summarise(groups)) == [
        [*heading, "log loss against row 1", "Brier score against row 1"],
        *([name, *found, *against.get(name, ["", ""])] for name, found in means.items()),
    ]


def test_the_notes_of_few_records():
    text = said_of(*few_records())
    for words in (
        "Row 8's published validation accuracy, 99.81 %, is no count of 149 messages.\n",
        "Unseen: without the 2 test messages that are exact copies of training messages. ",
        "Of 40 test messages one is 2.50 points; two single runs can be told apart if just one of "
        "them is right on 6 or more, 15.0 points.\n",
        "Against row 1 of the same weights, data and precision: over all seeds that both have, ",
        "Held against nothing, for no seed that row 1 has: row 08.\n",
        "each counts as one of its own: row 04; row 16.",
    ):
        assert words in text
    assert "Row 8" not in said_of(make_record(1), make_record(9))


def test_without_an_auroc_there_is_none():
    record = make_record(1)
    record["test"]["labels"] = record["test"]["predictions"] = [0] * 12
    (summary,) = summarise(group_records([record]))
    assert summary.auroc is None
    assert metrics_of_summaries([summary])[1][3] == "-"


def test_the_published_table_has_every_row_and_its_note():
    table, _, notes = published_table().partition("\n\n")
    heading, first, *others = cells_of(table)
    assert heading == ["row", "flags", "test, %", "right of 300", "95 % interval", "against row 1"]
    assert first == ["1", "(none)", "95.00", "285", "91.9 to 96.9", ""]
    assert [line[:2] for line in others] == [[str(n), ROWS[n].flags] for n in ROWS if n > 1]
    assert notes == "Row 8's validation accuracy, 99.81 %, is no count of 149 messages."


def said_of(*records):
    groups = group_records(records)
    return "\n".join(notes(groups, summarise(groups)))


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


def five_seeds(row, wrong_of_each, **more):
    return [
        make_record(row, seed=seed, wrong=wrong, total=300, **more)
        for seed, wrong in enumerate(wrong_of_each)
    ]


def cells(records, name):
    table = summary_table(summarise(group_records(records))).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return dict(zip(rows[0], next(row for row in rows if row[0] == name), strict=True))


def test_beside_what_is_not_known_stands_what_could_be_seen_and_what_settles_it():
    records = [
        *five_seeds(1, [range(10), *[range(3)] * 4]),
        *five_seeds(4, [[], *[range(15)] * 4]),
        *five_seeds(2, [range(200)] * 5),
    ]
    found = cells(records, "row 04")
    assert found["against row 1"] == "not known"
    assert found["difference, points"] == "-2.53 (-6.51 to +1.44)"
    assert (found["could be seen, points"], found["to settle"]) == ("5.4", "33 seeds")
    found = cells(records, "row 02")
    assert found["against row 1"] == "worse"
    assert (found["could be seen, points"], found["to settle"]) == ("", "")


def test_a_sentence_for_each_row_is_among_the_notes():
    records = some_records()
    sentences = [s.sentence for s in summarise(group_records(records)) if s.evidence]
    assert len(sentences) == 3
    assert said_of(*records).startswith("\n".join(sentences))


def test_records_that_do_not_tell_messages_of_one_text_are_named():
    words = "do not tell which test messages have the very same text"
    assert f"{words}, and each counts as one of its own: row 04; row 16" in said_of(*some_records())
    records = [make_record(1), make_record(4), make_record(16)]
    records[0]["test"]["same_text"] = list(range(12))
    assert words not in said_of(*records)


def test_losses_stand_against_row_1_with_the_same_interval():
    records = [*five_seeds(1, [[1, 2], [1], []] * 2), *five_seeds(4, [[3], [3, 1], []] * 2)]
    table = losses_table(summaries := summarise(group_records(records)))
    log_loss, brier = summaries[1].evidence.log_loss, summaries[1].evidence.brier_score
    assert f"| {with_interval(log_loss, 1)} | {with_interval(brier, 1)}" in table
    assert with_interval(log_loss, 1).startswith("+0.0000 (")  # as many errors
    assert losses_table(summarise(group_records([make_record(1)]))) == ""
