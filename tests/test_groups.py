import pytest
from records import make_old_record, make_record, make_stand_in, some_records

from experiments.comparison.groups import (
    bases_of,
    find_pair,
    group_records,
    left_out,
    pair_up,
    stand_ins_of,
)
from experiments.runs.records import upgrade

A, B = "1a2b3c4d".ljust(64, "0"), "5e6f7a8b".ljust(64, "0")
TINY_A = "checkpoint tiny.safetensors 1a2b3c4d"
TINY_B = "checkpoint tiny.safetensors 5e6f7a8b"
LATER = "2026-01-02T00:00:00+00:00"


def names_and_seeds(records):
    return {name: [r["seed"] for r in group] for name, group in group_records(records).items()}


# ---------------------------------------------------------------------------------- what a group is


def test_a_group_holds_the_seeds_of_a_row_in_their_order():
    assert list(names_and_seeds(some_records()[::-1]).items()) == [
        ("row 01", [123, 124]),
        ("row 04", [123, 124]),
        ("row 16", [123, 124]),
        ("baseline majority", [123]),
    ]


def test_checkpoints_are_not_averaged_as_if_they_were_seeds():
    found = names_and_seeds([make_stand_in(1, A), make_stand_in(1, B, seed=124), make_record()])
    assert found == {
        "row 01": [123],
        f"row 01, {TINY_A}": [123],
        f"row 01, {TINY_B}": [124],
    }


def test_a_checkpoint_is_its_digest_whatever_its_file_is_called():
    old = make_stand_in(1, A, name="old.safetensors")
    new = make_stand_in(1, A, seed=124, date=LATER)
    assert names_and_seeds([new, old]) == {f"row 01, {TINY_A}": [123, 124]}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"precision": "bfloat16"}, "row 01, bfloat16"),
        ({"data": B}, "row 01, data 5e6f7a8b"),
        ({"data": B, "precision": "bfloat16"}, "row 01, data 5e6f7a8b, bfloat16"),
    ],
)
def test_precision_and_data_have_groups_of_their_own(change, name):
    assert names_and_seeds([make_record(seed=124, **change), make_record()]) == {
        "row 01": [123],
        name: [124],
    }


def test_cpu_and_cuda_share_a_group():
    cuda = make_record(seed=124, environment={"device": "NVIDIA A100", "device_type": "cuda"})
    assert names_and_seeds([make_record(), cuda]) == {"row 01": [123, 124]}


def test_a_record_of_version_1_is_of_the_same_group():
    assert names_and_seeds([upgrade(make_old_record()), make_record(seed=124)]) == {
        "row 01": [123, 124]
    }


def test_the_published_numbers_in_another_network_are_no_published_model():
    same = make_record()["weights"]
    other = make_stand_in(1, same, name="other heads")
    for date, later in (("2026-01-01", LATER), (LATER, "2026-01-01")):
        assert names_and_seeds([make_record(date=date), other | {"date": later}]) == {
            "row 01": [123],
            f"row 01, checkpoint other heads {same[:8]}": [123],
        }
    assert group_records([make_record(), other])["row 01"] == [make_record()]


def test_no_stand_in_vanishes_beside_a_published_model():
    random = make_record(10, weights="random", model="gpt2-small (124M), random weights")
    tiny = random | {"stands_in": True, "model": "gpt2-tiny (7M), random weights"}
    records = [make_stand_in(1, A), make_stand_in(16, A), random, tiny | {"date": LATER}]
    groups = group_records(records)
    assert groups["row 10"] == [random]
    assert list(groups) == [
        "row 10",
        f"row 01, {TINY_A}",
        f"row 16, {TINY_A}",
        "row 10, gpt2-tiny (7M), random weights",
    ]


def test_of_two_records_of_a_seed_the_newest_counts_and_a_failed_one_never():
    old = make_record(1, wrong=[1, 2, 3], digest="b" * 64)
    new = make_record(1, digest="a" * 64, date=LATER)
    failed = make_record(1, status="failed", date="2026-01-03T00:00:00+00:00")
    assert group_records([new, failed, old]) == {"row 01": [new]}


def test_what_is_left_out_is_said():
    records = [make_record(), make_record(date=LATER), make_record(status="failed")]
    records += [make_record(None, seed=seed) for seed in (1, 2)]
    assert left_out(records, group_records(records)) == [
        "1 record of a failed run",
        "2 records of a run whose flags are no row's",
        "1 record with a newer one of the same run and seed",
    ]
    assert left_out(some_records(), group_records(some_records())) == []


def test_records_of_the_same_data_have_the_same_test_messages():
    message = r"row_01_\S+ and row_16_\S+ .* \(12 test messages, 6 of them spam; 10 test"
    with pytest.raises(ValueError, match=message):
        group_records([make_record(1), make_record(16, total=10)])
    other = make_record(16)
    other["test"]["labels"] = other["test"]["labels"][::-1]
    with pytest.raises(ValueError, match="in another order"):
        group_records([make_record(1), other])
    group_records([make_record(1), make_record(16, total=10, data=B)])


def test_what_stands_in_is_named_once():
    records = [make_record(), make_stand_in(1, A), make_stand_in(16, A), make_stand_in(1, B)]
    assert stand_ins_of(group_records(records)) == [TINY_A, TINY_B]


# ------------------------------------------------------------------------ what may be held together


def test_pairs_are_of_one_seed_wherever_it_stands():
    first = [make_record(1, seed=seed) for seed in (123, 124, 125)]
    second = [make_record(16, seed=seed) for seed in (124, 125, 126)]
    assert [(x["seed"], y["seed"]) for x, y in pair_up(first, second)] == [(124, 124), (125, 125)]


def test_a_baseline_goes_with_every_seed():
    baseline = [make_record(None, seed=7, name="baseline majority")]
    rows = [make_record(1, seed=seed) for seed in (123, 124)]
    assert [y["seed"] for _, y in pair_up(rows, baseline)] == [7, 7]
    assert [x["seed"] for x, _ in pair_up(baseline, rows)] == [7, 7]


def base_names(records, record):
    groups = group_records([*records, record])
    return [name for name, group in groups.items() if group in bases_of(groups, record)]


def test_published_models_of_every_size_and_row_10_are_held_against_row_1():
    base = make_record(1)
    assert base_names([base], make_record(6, weights=make_old_medium()["weights"])) == ["row 01"]
    assert base_names([base], make_record(10, weights="random")) == ["row 01"]
    assert base_names([base], base) == []


def make_old_medium():
    return upgrade(make_old_record(6, model="gpt2-medium (355M), pretrained weights"))


def test_a_row_is_held_against_row_1_of_its_own_weights_data_and_precision():
    bases = [
        make_record(1),
        make_stand_in(1, A),
        make_stand_in(1, B),
        make_record(1, precision="bfloat16"),
    ]
    assert base_names(bases, make_record(16)) == ["row 01"]
    assert base_names(bases, make_stand_in(16, A)) == [f"row 01, {TINY_A}"]
    assert base_names(bases, make_record(16, precision="bfloat16")) == ["row 01, bfloat16"]
    assert base_names(bases, make_stand_in(16, A, precision="bfloat16")) == []
    assert base_names(bases, make_record(16, data=B)) == []
    assert len(base_names(bases, make_record(None, name="baseline majority"))) == 4
    assert base_names(bases, make_record(None, name="baseline majority", data=B)) == []


@pytest.fixture
def groups():
    records = [make_stand_in(row, A) for row in (1, 16)]
    records += [make_record(1), make_record(1, precision="bfloat16"), make_record(16)]
    return group_records([*records, make_stand_in(4, B), make_stand_in(16, B)])


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["row 01", "16"], ["row 01", "row 16"]),
        ([f"row 16, {TINY_A}", "1"], [f"row 16, {TINY_A}", f"row 01, {TINY_A}"]),
        (["4", "16"], [f"row {n}, {TINY_B}" for n in ("04", "16")]),
        (["row 01", "row 01, bfloat16"], ["row 01", "row 01, bfloat16"]),
        (["row 01", f"row 16, {TINY_A}"], ["row 01", f"row 16, {TINY_A}"]),
    ],
)
def test_a_number_stands_for_what_fits_and_a_name_for_itself(words, names, groups):
    assert find_pair(groups, words) == tuple(groups[name] for name in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["1", "4"],
            "1 and 4 differ in weights, data or precision; to compare two all the same, name both "
            f'in full, such as compare_experiments.py "row 01" "row 04, {TINY_B}"; there are '
            f"row 01; row 01, bfloat16; row 01, {TINY_A}; row 04, {TINY_B}$",
        ),
        (
            ["16", "row 01, bfloat16"],
            f'compare_experiments.py "row 16" "row 01, bfloat16"; there '
            f"are row 16; row 16, {TINY_A}; row 16, {TINY_B}; row 01, bfloat16$",
        ),
        (["1", "row 01, bfloat16"], "differ in weights, data or precision"),
        (["1", "16"], 'can be several: name both in full, such as .* "row 01" "row 16"; there are'),
        (["row 01", "row 19"], "no record of row 19; there are row 01, row 16"),
        (["19", "1"], "no record of row 19; there are row 01, row 16"),
        (["4", "04"], f"^4 and 04 are both row 04, {TINY_B}: name two"),
    ],
)
def test_what_differs_in_more_than_its_row_is_not_compared_unless_named(words, message, groups):
    with pytest.raises(ValueError, match=message):
        find_pair(groups, words)
