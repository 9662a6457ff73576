from dataclasses import replace

import pytest
from records import make_baseline, make_run, make_substitute, some_runs

from experiments.checkpoints.published import CHECKPOINT_SHA256
from experiments.comparison.groups import (
    References,
    common_deviations,
    describe_excluded,
    find_names,
    find_pair,
    group_runs,
    inconsistent_runs,
    pair_up,
    substitutes_of,
)
from experiments.comparison.names import conditions_of, with_unique_names

A, B = "1a2b3c4d".ljust(64, "0"), "5e6f7a8b".ljust(64, "0")
TINY = "checkpoint tiny.safetensors"
TINY_A, TINY_B = f"{TINY} 1a2b3c4d", f"{TINY} 5e6f7a8b"
LATER = "2026-01-02T00:00:00+00:00"


def names_and_seeds(*runs):
    return {name: [run.seed for run in group] for name, group in group_runs(runs).items()}


def test_a_group_has_the_seeds_of_a_row_in_order():
    assert list(names_and_seeds(*some_runs()[::-1]).items()) == [
        ("row 1", [123, 124]),
        ("row 4", [123, 124]),
        ("row 16", [123, 124]),
        ("baseline majority", [123]),
    ]


def test_a_checkpoint_is_its_digest_and_has_its_last_name():
    old = make_substitute(1, A, name="old.safetensors")
    new = make_substitute(1, A, seed=124, date=LATER)
    other = make_substitute(1, B, seed=125)
    assert names_and_seeds(new, old, other, make_run()) == {
        "row 1": [123],
        f"row 1, {TINY_A}": [123, 124],
        f"row 1, {TINY_B}": [125],
    }


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"precision": "bfloat16"}, "row 1, bfloat16"),
        ({"data": B}, "row 1, data 5e6f7a8b"),
        ({"data": B, "precision": "bfloat16"}, "row 1, data 5e6f7a8b, bfloat16"),
    ],
)
def test_precisions_and_data_have_groups_of_their_own(change, name):
    assert names_and_seeds(make_run(seed=124, **change), make_run()) == {
        "row 1": [123],
        name: [124],
    }


def test_devices_share_a_group():
    cuda = make_run(seed=124, environment={"device": "NVIDIA A100", "device_type": "cuda"})
    assert names_and_seeds(make_run(), cuda) == {"row 1": [123, 124]}


@pytest.mark.parametrize("dates", [("2026-01-01", LATER), (LATER, "2026-01-01")])
def test_published_weights_in_another_network_are_not_a_published_model(dates):
    same = CHECKPOINT_SHA256["124M"]
    other = make_substitute(1, same, name="other heads", date=dates[1])
    assert names_and_seeds(make_run(date=dates[0]), other) == {
        "row 1": [123],
        "row 1, checkpoint other heads": [123],
    }


def test_published_models_come_first_and_substitutes_are_named_once():
    random = {"weights": "random", "model": "gpt2-small (124M), random weights"}
    tiny = random | {"stands_in": True, "model": "gpt2-tiny (7M), random weights", "date": LATER}
    runs = [make_baseline(), make_substitute(1, A), make_substitute(16, A)]
    groups = group_runs([*runs, make_run(10, **random), make_run(10, **tiny)])
    assert list(groups) == [
        "row 10",
        f"row 1, {TINY}",
        f"row 16, {TINY}",
        "row 10, gpt2-tiny (7M), random weights",
        "baseline majority",
    ]
    assert substitutes_of(groups) == [TINY, "gpt2-tiny (7M), random weights"]


def test_what_all_groups_have_in_common_is_in_no_name():
    runs = [make_substitute(row, A, precision="bfloat16") for row in (1, 16)]
    groups = group_runs([*runs, make_baseline()])
    assert list(groups) == ["row 1", "row 16", "baseline majority"]
    assert common_deviations(groups) == [TINY, "bfloat16"]


def test_of_two_records_of_a_seed_the_newest_counts_and_others_are_reported():
    old, new = make_run(wrong=[1, 2, 3], digest="b" * 64), make_run(digest="a" * 64, date=LATER)
    failed = make_run(status="failed", date="2026-01-03T00:00:00+00:00")
    runs = [new, failed, old]
    assert group_runs(runs) == {"row 1": [new]}
    assert describe_excluded(runs, group_runs(runs)) == [
        "1 record of a failed run",
        "1 record with a newer one of the same design and seed",
    ]
    assert describe_excluded(some_runs(), group_runs(some_runs())) == []


# ------------------------------------------------------------------------------------------ designs


def make_design(row=None, **settings):
    return make_run(row, settings={"num_epochs": 5, "batch_size": 8} | settings)


def test_a_run_whose_flags_are_of_no_row_has_the_name_of_its_design():
    runs = [make_run(1), make_design(learning_rate=1e-3), make_design(learning_rate=2e-5)]
    flexible = {"trainable_token_pos": "flexible", "learning_rate": 1e-3}
    assert list(group_runs([*runs, make_design(**flexible)])) == [
        "row 1",
        "row 1, learning_rate 2e-05",
        "row 1, learning_rate 0.001",
        "row 16, learning_rate 0.001",
    ]


def test_a_label_names_a_design_and_two_designs_of_a_label_are_told_apart():
    mine = make_design(keep_best=True)
    labelled = replace(mine, seed=1, label="best epoch", date=LATER)
    labelled = replace(labelled, digest="1" * 64)
    assert names_and_seeds(mine, labelled) == {"best epoch": [1, 123]}
    other = replace(make_run(16), label="best epoch")
    assert list(group_runs([labelled, other])) == [
        "best epoch (row 1, keep_best)", "best epoch (row 16)"
    ]  # fmt: skip


def test_a_label_may_equal_another_design_with_its_condition():
    designs = [replace(make_design(learning_rate=x), label="x", digest=str(x) * 20) for x in (1, 2)]
    designs[0] = replace(designs[0], label="x, bfloat16")
    designs.append(replace(designs[1], precision="bfloat16", digest="3" * 64))
    names = ["x", "x, bfloat16", "x, bfloat16 (row 1, learning_rate 2)"]
    assert sorted(group_runs([make_run(1), *designs])) == ["row 1", *names]


def test_a_label_is_not_taken_for_the_name_of_another_design():
    mine = replace(make_design(keep_best=True), label="row 16")
    groups = group_runs([mine, make_run(16), make_baseline()])
    assert list(groups) == ["row 16 (row 1, keep_best)", "row 16", "baseline majority"]
    assert find_names(groups, "16") == ["row 16"]
    mine = replace(mine, label="baseline majority")
    names = list(group_runs([mine, make_baseline()]))
    assert names == ["baseline majority (row 1, keep_best)", "baseline majority"]


def test_a_labelled_row_is_found_by_its_number_and_by_how_its_label_begins():
    run = replace(make_run(1), label="2 epochs, 'quoted'")
    groups = group_runs([run, make_run(16)])
    for word in ("1", "row 1", "2 ep", "2 epochs, 'quoted'"):
        assert find_names(groups, word) == ["2 epochs, 'quoted'"]
    assert References(groups).of(make_run(16)) == [groups["2 epochs, 'quoted'"]]


def test_runs_with_the_same_test_examples_have_the_same_labels():
    runs = [make_custom(row, data=data) for row, data in ((1, A), (4, A), (16, B))]
    bad = replace(make_run(2, total=10, data=B), split=runs[2].split)
    assert [run.name for run, _ in inconsistent_runs([*runs, bad])] == ["row 02"]


def test_data_from_standard_input_says_so():
    assert conditions_of(with_unique_names([make_custom(file="-")])[0]).data == (
        "standard input, 412 for training"
    )


def make_custom(row=1, file="questions.csv", train=412, data=A, test="t" * 64, **custom):
    split = {"of": "o", "seed": 123, "custom": {"data": file} | custom}
    split |= {"test": test, "sizes": {"train": train, "validation": 58, "test": 118}}
    return make_run(row, data=data, split=split)


def test_data_is_named_by_its_file_and_size_and_by_a_digest_only_if_two_are_alike():
    mine = make_custom(file="folder/questions.csv")
    assert list(group_runs([make_run(1), mine])) == [
        "row 1",
        "row 1, questions.csv, 412 for training",
    ]
    other = make_custom(file="questions.csv", data=B, test="5e6f7a8b".ljust(64, "0"))
    assert list(group_runs([make_run(1), mine, other]))[1:] == [
        "row 1, questions.csv, 412 for training 5e6f7a8b",
        "row 1, questions.csv, 412 for training tttttttt",
    ]


def test_training_sets_can_differ_if_the_test_examples_are_the_same():
    whole, fewer = make_custom(), make_custom(data=B, train=200, train_size=200)
    groups = group_runs([whole, fewer])
    assert list(groups) == ["row 1", "row 1, train_size 200"]
    assert References(groups).of(groups["row 1, train_size 200"][0]) == [groups["row 1"]]
    other = make_custom(16, data=B, test="u" * 64)
    groups = group_runs([whole, other])
    assert References(groups).of(groups[list(groups)[1]][0]) == []


@pytest.mark.parametrize(
    "change",
    [{"total": 10}, {"total": 14}, {"test": {"labels": [1, 0] * 6}}, {"classes": list("abc")}],
)
def test_runs_with_the_same_data_have_the_same_test_examples(change):
    if "classes" in change:
        change |= {"test": {"probabilities": [[0.9, 0.1, 0], [0.1, 0.9, 0]] * 6}}
    good, bad = [make_run(1), make_run(4), make_run(2)], make_run(16, **change)
    assert {run.name for run, _ in inconsistent_runs([*good, bad])} == {"row 16"}
    assert list(group_runs([*good, bad])) == ["row 1", "row 2", "row 4"]
    (words,) = describe_excluded([*good, bad], group_runs([*good, bad]))
    assert words.startswith("row_16_seed_123_")
    assert "than 3 records with the same data" in words
    assert len(inconsistent_runs([make_run(1), bad])) >= 2  # which one is right is not known
    assert inconsistent_runs([make_run(1), make_run(16, **change, data=B)]) == []


def test_examples_in_another_order_are_left_out():
    texts = [i - i % 2 for i in range(12)]
    good = [make_run(row, test={"same_text": texts}) for row in (1, 4, 2)]
    for test in ({"same_text": texts[::-1]}, {"in_training": [False] * 12}):
        bad = make_run(16, test=test)
        assert [run.name for run, _ in inconsistent_runs([*good, bad])] == ["row 16"]
    assert inconsistent_runs([*good, make_run(16)]) == []  # which does not say


def test_one_digest_under_several_seeds_is_left_out():
    runs = [make_run(1, seed=seed, digest="d" * 64) for seed in (1, 2)]
    found = inconsistent_runs([*runs, make_run(4)])
    assert [why for _, why in found] == ["has the digest of the seeds 1, 2"] * 2


def test_the_newest_record_is_that_of_the_last_moment_in_any_time_zone():
    dates = ["2026-01-02T00:30:00+02:00", "2026-01-01T23:00:00+00:00", "2026-01-01T22:59:59+00:00"]
    runs = [make_run(1, date=date, digest=str(i) * 64) for i, date in enumerate(dates)]
    (found,) = group_runs(runs)["row 1"]
    assert found.date == dates[1]


# ---------------------------------------------------------------------------------- pairs of groups


def test_pairs_have_the_same_seed_and_a_baseline_is_paired_with_all():
    first = [make_run(1, seed=seed) for seed in (123, 124, 125)]
    second = [make_run(16, seed=seed) for seed in (126, 125, 124)]
    assert [(x.seed, y.seed) for x, y in pair_up(first, second)] == [(124, 124), (125, 125)]
    baseline = [make_baseline(seed=7)]
    assert [(x.seed, y.seed) for x, y in pair_up(first[:2], baseline)] == [(123, 7), (124, 7)]
    assert [(x.seed, y.seed) for x, y in pair_up(baseline, first[:2])] == [(7, 123), (7, 124)]


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (make_run(16), ["row 1"]),
        (make_run(6, weights=CHECKPOINT_SHA256["355M"]), ["row 1"]),
        (make_run(10, weights="random"), ["row 1"]),
        (make_run(1, seed=9), []),
        (make_substitute(16, A), [f"row 1, {TINY}"]),
        (make_run(16, precision="bfloat16"), ["row 1, bfloat16"]),
        (make_substitute(16, A, precision="bfloat16"), []),
        (make_run(16, data=B), []),
        (make_baseline(), ["row 1", "row 1, bfloat16", f"row 1, {TINY}"]),
        (make_baseline(data=B), []),
    ],
)
def test_a_run_is_compared_with_row_1_of_the_same_weights_data_and_precision(run, names):
    bases = [make_run(1), make_substitute(1, A), make_run(1, precision="bfloat16")]
    groups = group_runs([*bases, make_run(4)])
    assert References(groups).of(run) == [groups[name] for name in names]


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        (None, ["row 1", "row 1", "row 1, learning_rate 0.001", "row 1"]),
        ("16", ["row 16", "row 16", "row 16", "row 16"]),
        ("row 1, learning_rate 0.001", ["row 1, learning_rate 0.001"] * 4),
    ],
)
def test_the_reference_has_the_recipe_of_a_run_or_is_the_one_named(reference, names):
    flexible = {"trainable_token_pos": "flexible"}
    runs = [
        make_run(1), make_run(16), make_design(learning_rate=1e-3),
        make_design(learning_rate=1e-3, **flexible), make_design(num_epochs=10, **flexible),
    ]  # fmt: skip
    groups = group_runs(runs)
    found = {name: References(groups, reference).of(group[0]) for name, group in groups.items()}
    designs = (
        "row 16", "row 1, learning_rate 0.001", "row 16, learning_rate 0.001",
        "row 16, num_epochs 10",
    )  # fmt: skip
    for design, name in zip(designs, names, strict=True):
        assert found[design] == ([] if design == name else [groups[name]]) or design == "row 16"
    assert found["row 1"] == ([groups[names[0]]] if reference else [])


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("1", ["row 1"]),
        ("row 01", ["row 1"]),
        ("4", ["row 4, num_epochs 2"]),
        ("row 16, l", ["row 16, learning_rate 0.0001", "row 16, learning_rate 0.001"]),
        ("row 16, learning_rate 0.001", ["row 16, learning_rate 0.001"]),
        ("maj", ["baseline majority"]),
    ],
)
def test_a_group_is_found_by_its_name_its_row_and_an_unambiguous_beginning(word, names):
    flexible, two = {"trainable_token_pos": "flexible"}, {"trainable_layers": "last_two_blocks"}
    runs = [make_run(row) for row in (1, 10)] + [make_design(num_epochs=2, **two)]
    runs += [make_design(learning_rate=x, **flexible) for x in (1e-3, 1e-4)]
    assert find_names(group_runs([*runs, make_baseline()]), word) == names


@pytest.fixture
def groups():
    runs = [make_run(1), make_run(1, precision="bfloat16"), make_run(16)]
    runs += [make_substitute(row, A) for row in (1, 16)]
    return group_runs([*runs, make_substitute(4, B), make_substitute(16, B)])


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["row 1", "16"], ["row 1", "row 16"]),
        ([f"row 16, {TINY_A}", "1"], [f"row 16, {TINY_A}", f"row 1, {TINY_A}"]),
        (["4", "16"], [f"row {n}, {TINY_B}" for n in (4, 16)]),
        (["row 1", "row 1, bfloat16"], ["row 1", "row 1, bfloat16"]),
        (["row 1", f"row 16, {TINY_A}"], ["row 1", f"row 16, {TINY_A}"]),
    ],
)
def test_a_number_means_the_group_that_fits_and_a_name_that_group(words, names, groups):
    assert find_pair(groups, words) == tuple(groups[name] for name in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["1", "4"],
            "1 and 4 differ in weights, test examples or precision; to compare two nevertheless, "
            f'name both in full, such as compare_experiments.py "row 1" "row 4, {TINY_B}"; the '
            f"groups are row 1; row 1, bfloat16; row 1, {TINY_A}; row 4, {TINY_B}$",
        ),
        (
            ["16", "row 1, bfloat16"],
            f'"row 16" "row 1, bfloat16"; the groups are row 16; row 16, {TINY_A}; row 16, '
            f"{TINY_B}; row 1, bfloat16$",
        ),
        (["1", "row 1, bfloat16"], "differ in weights, test examples or precision"),
        (["1", "16"], '1 and 16 can mean several groups: name both .* "row 1" "row 16"; the gr'),
        (["row 1", "row 19"], "no record of row 19; the groups are row 1; row 16"),
        (["19", "1"], "no record of row 19; the groups are row 1; row 16"),
        (["1", "majority"], "no record of majority; the groups are row 1; row 16"),
        (["4", "04"], f"^4 and 04 are both row 4, {TINY_B}: name two"),
    ],
)
def test_groups_whose_conditions_differ_are_not_compared_unless_named(words, message, groups):
    with pytest.raises(ValueError, match=message):
        find_pair(groups, words)
