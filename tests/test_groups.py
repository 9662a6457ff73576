from dataclasses import replace

import pytest
from records import CUDA, make_baseline, make_design, make_run, make_substitute, some_runs

from experiments.checkpoints.files import CHECKPOINT_SHA256
from experiments.comparison.groups import (
    common_deviations,
    describe_excluded,
    find_names,
    find_pair,
    find_references,
    group_runs,
    inconsistent_runs,
)
from experiments.system.terminal import UsageError

A, B = "1a2b3c4d".ljust(64, "0"), "5e6f7a8b".ljust(64, "0")
TINY = "checkpoint tiny.safetensors"
TINY_A, TINY_B = f"{TINY} 1a2b3c4d", f"{TINY} 5e6f7a8b"
LATER = "2026-01-02T00:00:00+00:00"


def make_custom(row=1, file="questions.csv", train=412, data=A, test="t" * 64, **custom):
    split = {"of": "o", "seed": 123, "custom": {"data": file} | custom}
    split |= {"test": test, "sizes": {"train": train, "validation": 58, "test": 118}}
    return make_run(row, data=data, split=split)


def labelled(label, run=None, **more):
    run = run or make_design(keep_best=True)
    return replace(run, label=label, digest=f"{label}{more}", date=LATER, **more)


OTHER_HEADS = {"weights": CHECKPOINT_SHA256["124M"], "name": "other heads"}
RANDOM = {"weights": "random", "model": "gpt2-small (124M), random weights"}
TINY_RANDOM = {"stands_in": True, "model": "gpt2-tiny (7M), random weights", "date": LATER}
FLEXIBLE, RATE = {"trainable_token_pos": "flexible"}, {"learning_rate": 1e-3}
CUSTOM = "row 1, questions.csv, 412 for training"
GROUPS = {  # what is grouped: the runs, and the names of the groups with several seeds
    "seeds of a row": (
        some_runs()[::-1],
        ["row 1: 123, 124", "row 4: 123, 124", "row 16: 123, 124", "baseline majority"],
    ),
    "a checkpoint by its digest, with its last name": (
        [make_substitute(1, A, seed=124, date=LATER), make_substitute(1, A, name="old.safetensors"),
         make_substitute(1, B, seed=125), make_run()],
        ["row 1", f"row 1, {TINY_A}: 123, 124", f"row 1, {TINY_B}"],
    ),
    "other data and another precision": (
        [make_run(precision="bfloat16"), make_run(data=B),
         make_run(data=B, precision="bfloat16"), make_run()],
        ["row 1", "row 1, bfloat16", "row 1, data 5e6f7a8b", "row 1, data 5e6f7a8b, bfloat16"],
    ),
    "devices together": ([make_run(), make_run(seed=124, environment=CUDA)], ["row 1: 123, 124"]),
    "published weights in another, later network": (
        [make_run(), make_substitute(1, **OTHER_HEADS, date=LATER)],
        ["row 1", "row 1, checkpoint other heads"],
    ),
    "published weights in another, earlier network": (
        [make_run(date=LATER), make_substitute(1, **OTHER_HEADS)],
        ["row 1", "row 1, checkpoint other heads"],
    ),
    "published models first": (
        [make_baseline(), make_substitute(1, A), make_substitute(16, A), make_run(10, **RANDOM),
         make_run(10, **RANDOM | TINY_RANDOM)],
        ["row 10", f"row 1, {TINY}", f"row 16, {TINY}", "row 10, gpt2-tiny (7M), random weights",
         "baseline majority"],
    ),
    "flags of no row": (
        [make_run(1), make_design(**RATE), make_design(learning_rate=2e-5),
         make_design(**RATE, **FLEXIBLE)],
        ["row 1", "row 1, learning_rate 2e-05", "row 1, learning_rate 0.001",
         "row 16, learning_rate 0.001"],
    ),
    "a design by the label of its last run": (
        [make_design(keep_best=True), labelled("best", seed=1)], ["best: 1, 123"],
    ),
    "two designs of one label": (
        [labelled("best"), labelled("best", make_run(16))],
        ["best (row 1, keep_best)", "best (row 16)"],
    ),
    "labels that are names of others": (
        [labelled("baseline majority"), labelled("row 16", make_design(learning_rate=1)),
         make_run(16), make_baseline()],
        ["baseline majority (row 1, keep_best)", "row 16 (row 1, learning_rate 1)", "row 16",
         "baseline majority"],
    ),
    "a label that is another one with a condition": (
        [make_run(1), labelled("x, bfloat16", make_design(learning_rate=1)),
         labelled("x", make_design(learning_rate=2)),
         labelled("x", make_design(learning_rate=2), precision="bfloat16")],
        ["row 1", "x, bfloat16", "x", "x, bfloat16 (row 1, learning_rate 2)"],
    ),
    "what all have in common is in no name": (
        [*(make_substitute(row, A, precision="bfloat16") for row in (1, 16)), make_baseline()],
        ["row 1", "row 16", "baseline majority"],
    ),
    "custom data by their file and size": (
        [make_run(1), make_custom(file="folder/questions.csv")], ["row 1", CUSTOM],
    ),
    "two files of one name by their digest": (
        [make_run(1), make_custom(), make_custom(data=B, test=B)],
        ["row 1", f"{CUSTOM} 5e6f7a8b", f"{CUSTOM} tttttttt"],
    ),
    "standard input": (
        [make_run(1), make_custom(file="-")], ["row 1", "row 1, standard input, 412 for training"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("runs", "groups"), GROUPS.values(), ids=GROUPS)
def test_runs_are_grouped_by_design_and_conditions_in_order(runs, groups):
    seeds = {name: [str(run.seed) for run in group] for name, group in group_runs(runs).items()}
    assert [
        f"{name}: {', '.join(found)}" if len(found) > 1 else name for name, found in seeds.items()
    ] == groups


def test_the_newest_record_of_a_seed_counts_in_any_time_zone_and_others_are_reported():
    dates = ["2026-01-02T00:30:00+02:00", "2026-01-01T23:00:00+00:00", "2026-01-01T22:59:59+00:00"]
    runs = [make_run(1, date=date, digest=str(i) * 64) for i, date in enumerate(dates)]
    runs.append(make_run(status="failed", date="2026-01-03T00:00:00+00:00"))
    assert group_runs(runs) == {"row 1": [runs[1]]}
    assert describe_excluded(runs, group_runs(runs)) == [
        "1 record of a failed run",
        "2 records with a newer one of the same design and seed",
    ]


def test_training_sets_can_differ_if_the_test_examples_are_the_same():
    whole, fewer = make_custom(), make_custom(data=B, train=200, train_size=200)
    groups = group_runs([whole, fewer])
    assert list(groups) == ["row 1", "row 1, train_size 200"]
    common = common_deviations(group[0] for group in groups.values())
    assert common == ["questions.csv, 200 to 412 for training"]
    assert find_references(groups)["row 1, train_size 200"] == [groups["row 1"]]
    groups = group_runs([whole, make_custom(16, data=B, test="u" * 64)])
    assert list(find_references(groups).values()) == [[], []]


# ------------------------------------------------------------------------------- inconsistent runs

PAIRS = [i - i % 2 for i in range(12)]
INCONSISTENT = {  # with three good runs: fields of a fourth
    "fewer examples": {"total": 10},
    "more examples": {"total": 14},
    "other labels": {"test": {"labels": [1, 0] * 6}},
    "other classes": {"classes": list("abc"),
                      "test": {"probabilities": [[0.9, 0.1, 0], [0.1, 0.9, 0]] * 6}},
    "other texts": {"test": {"same_text": PAIRS[::-1]}},
    "other duplicates": {"test": {"in_training": [False] * 12}},
}  # fmt: skip


@pytest.mark.parametrize("change", INCONSISTENT.values(), ids=INCONSISTENT)
def test_a_run_with_other_test_examples_than_most_with_the_same_data_is_left_out(change):
    good = [make_run(row, test={"same_text": PAIRS}) for row in (1, 4, 2)]
    bad = make_run(16, **change)
    assert {run.name for run, _ in inconsistent_runs([*good, bad])} == {"row 16"}
    assert list(group_runs([*good, bad])) == ["row 1", "row 2", "row 4"]
    (words,) = describe_excluded([*good, bad], group_runs([*good, bad]))
    assert words.startswith("row_16_seed_123_")
    assert "than 3 records with the same data" in words
    assert len(inconsistent_runs([good[0], bad])) >= 2  # which one is right is not known
    assert inconsistent_runs([good[0], make_run(16, **change, data=B)]) == []
    assert inconsistent_runs([*good, make_run(16)]) == []  # which does not say which texts


def test_custom_data_with_the_same_test_examples_have_the_same_labels():
    runs = [make_custom(row, data=data) for row, data in ((1, A), (4, A), (16, B))]
    bad = replace(make_run(2, total=10, data=B), split=runs[2].split)
    assert [run.name for run, _ in inconsistent_runs([*runs, bad])] == ["row 02"]


def test_one_digest_under_several_seeds_is_left_out():
    runs = [make_run(1, seed=seed, digest="d" * 64) for seed in (1, 2)]
    found = inconsistent_runs([*runs, make_run(4)])
    assert [why for _, why in found] == ["has the digest of the seeds 1, 2"] * 2


# ---------------------------------------------------------------------------------- pairs of groups


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
    assert find_references(groups | {"it": [run]})["it"] == [groups[name] for name in names]


@pytest.mark.parametrize(
    ("reference", "names"),  # of the references of all designs, in their order
    [
        (None, ["", "first", "first", "row 1, learning_rate 0.001", "first"]),
        ("16", ["row 16", "row 16", "", "row 16", "row 16"]),
        ("row 1, learning_rate 0.001", ["row 1, learning_rate 0.001", "",
         *["row 1, learning_rate 0.001"] * 3]),
    ],
)  # fmt: skip
def test_the_reference_has_the_recipe_of_a_run_or_is_the_one_named(reference, names):
    runs = [labelled("first", make_run(1)), make_run(16), make_design(**RATE)]
    runs.append(make_design(**RATE, **FLEXIBLE))
    groups = group_runs([*runs, make_design(num_epochs=10, **FLEXIBLE)])
    found = list(find_references(groups, reference).values())
    assert found == [[groups[name]] if name else [] for name in names]


def test_only_flags_of_training_choose_another_reference():
    cut, two_blocks = {"context_length": 60}, {"trainable_layers": "last_two_blocks"}
    groups = group_runs([make_run(1), make_design(**cut), make_design(**cut, **two_blocks)])
    assert find_references(groups)["row 4, context_length 60"] == [groups["row 1"]]


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("1", ["row 1"]),
        ("row 01", ["row 1"]),
        ("4", ["row 4, num_epochs 2"]),
        ("row 16, l", ["row 16, learning_rate 0.0001", "row 16, learning_rate 0.001"]),
        ("row 16, learning_rate 0.001", ["row 16, learning_rate 0.001"]),
        ("maj", ["baseline majority"]),
        ("2", ["2 epochs, 'quoted'"]),
        ("row 2", ["2 epochs, 'quoted'"]),
        ("2 ep", ["2 epochs, 'quoted'"]),
        ("3", ["row 3"]),
    ],
)
def test_a_group_is_found_by_its_name_its_row_and_an_unambiguous_beginning(word, names):
    runs = [make_run(1), make_run(10), labelled("2 epochs, 'quoted'", make_run(2)), make_run(3)]
    runs += [make_design(num_epochs=2, trainable_layers="last_two_blocks"), labelled("row 3")]
    runs += [make_design(learning_rate=x, **FLEXIBLE) for x in (1e-3, 1e-4)]
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
        (["1", "4"],
         "1 and 4 differ in weights, test examples or precision; to compare two nevertheless, "
         f'name both in full, such as compare_experiments.py "row 1" "row 4, {TINY_B}"; the '
         f"groups are row 1; row 1, bfloat16; row 1, {TINY_A}; row 4, {TINY_B}$"),
        (["1", "row 1, bfloat16"], "differ in weights, test examples or precision"),
        (["1", "16"], '1 and 16 can mean several groups: name both .* "row 1" "row 16"; the gr'),
        (["1", "majority"], "no record of majority; the groups are row 1; row 16"),
        (["4", "04"], f"^4 and 04 are both row 4, {TINY_B}: name two"),
    ],
)  # fmt: skip
def test_groups_whose_conditions_differ_are_not_compared_unless_named(words, message, groups):
    with pytest.raises(UsageError, match=message):
        find_pair(groups, words)
