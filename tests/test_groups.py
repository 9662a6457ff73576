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
    pair_up,
)
from experiments.system.terminal import UsageError

A, B = "1a2b3c4d".ljust(64, "0"), "5e6f7a8b".ljust(64, "0")
TINY = "checkpoint tiny.safetensors"
TINY_A, TINY_B = f"{TINY} 1a2b3c4d", f"{TINY} 5e6f7a8b"
LATER = "2026-01-02T00:00:00+00:00"


def references_of(groups, run, name=None):
    return find_references(groups | {"it": [run]}, name)["it"]


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
FLEXIBLE = {"trainable_token_pos": "flexible"}
GROUPS = {  # what is grouped: the runs, and the seeds of each group
    "seeds of a row": (
        some_runs()[::-1],
        {"row 1": [123, 124], "row 4": [123, 124], "row 16": [123, 124],
         "baseline majority": [123]},
    ),
    "a checkpoint by its digest, with its last name": (
        [make_substitute(1, A, seed=124, date=LATER), make_substitute(1, A, name="old.safetensors"),
         make_substitute(1, B, seed=125), make_run()],
        {"row 1": [123], f"row 1, {TINY_A}": [123, 124], f"row 1, {TINY_B}": [125]},
    ),
    "another precision": (
        [make_run(seed=124, precision="bfloat16"), make_run()],
        {"row 1": [123], "row 1, bfloat16": [124]},
    ),
    "other data in another precision": (
        [make_run(seed=124, data=B), make_run(seed=125, data=B, precision="bfloat16"), make_run()],
        {"row 1": [123], "row 1, data 5e6f7a8b": [124], "row 1, data 5e6f7a8b, bfloat16": [125]},
    ),
    "devices together": ([make_run(), make_run(seed=124, environment=CUDA)], {"row 1": [123, 124]}),
    "published weights in another, later network": (
        [make_run(date="2026-01-01"), make_substitute(1, **OTHER_HEADS, date=LATER)],
        {"row 1": [123], "row 1, checkpoint other heads": [123]},
    ),
    "published weights in another, earlier network": (
        [make_run(date=LATER), make_substitute(1, **OTHER_HEADS, date="2026-01-01")],
        {"row 1": [123], "row 1, checkpoint other heads": [123]},
    ),
    "published models first": (
        [make_baseline(), make_substitute(1, A), make_substitute(16, A), make_run(10, **RANDOM),
         make_run(10, **RANDOM | TINY_RANDOM)],
        {"row 10": [123], f"row 1, {TINY}": [123], f"row 16, {TINY}": [123],
         "row 10, gpt2-tiny (7M), random weights": [123], "baseline majority": [123]},
    ),
    "flags of no row": (
        [make_run(1), make_design(learning_rate=1e-3), make_design(learning_rate=2e-5),
         make_design(learning_rate=1e-3, **FLEXIBLE)],
        {"row 1": [123], "row 1, learning_rate 2e-05": [123], "row 1, learning_rate 0.001": [123],
         "row 16, learning_rate 0.001": [123]},
    ),
    "a design by the label of its last run": (
        [make_design(keep_best=True), labelled("best epoch", seed=1)],
        {"best epoch": [1, 123]},
    ),
    "two designs of one label": (
        [labelled("best epoch"), labelled("best epoch", make_run(16))],
        {"best epoch (row 1, keep_best)": [123], "best epoch (row 16)": [123]},
    ),
    "labels that are names of others": (
        [labelled("baseline majority"), labelled("row 16", make_design(learning_rate=1)),
         make_run(16), make_baseline()],
        {"baseline majority (row 1, keep_best)": [123], "row 16 (row 1, learning_rate 1)": [123],
         "row 16": [123], "baseline majority": [123]},
    ),
    "a label that is another one with a condition": (
        [make_run(1), labelled("x, bfloat16", make_design(learning_rate=1)),
         labelled("x", make_design(learning_rate=2)),
         labelled("x", make_design(learning_rate=2), precision="bfloat16")],
        {"row 1": [123], "x, bfloat16": [123], "x": [123],
         "x, bfloat16 (row 1, learning_rate 2)": [123]},
    ),
    "what all have in common is in no name": (
        [*(make_substitute(row, A, precision="bfloat16") for row in (1, 16)), make_baseline()],
        {"row 1": [123], "row 16": [123], "baseline majority": [123]},
    ),
    "custom data by their file and size": (
        [make_run(1), make_custom(file="folder/questions.csv")],
        {"row 1": [123], "row 1, questions.csv, 412 for training": [123]},
    ),
    "two files of one name by their digest": (
        [make_run(1), make_custom(), make_custom(data=B, test=B)],
        {"row 1": [123], "row 1, questions.csv, 412 for training 5e6f7a8b": [123],
         "row 1, questions.csv, 412 for training tttttttt": [123]},
    ),
    "standard input": (
        [make_run(1), make_custom(file="-")],
        {"row 1": [123], "row 1, standard input, 412 for training": [123]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("runs", "groups"), GROUPS.values(), ids=GROUPS)
def test_runs_are_grouped_by_design_and_conditions_in_order(runs, groups):
    found = {name: [run.seed for run in group] for name, group in group_runs(runs).items()}
    assert list(found.items()) == list(groups.items())


def test_the_newest_record_of_a_seed_counts_in_any_time_zone_and_others_are_reported():
    dates = ["2026-01-02T00:30:00+02:00", "2026-01-01T23:00:00+00:00", "2026-01-01T22:59:59+00:00"]
    runs = [make_run(1, date=date, digest=str(i) * 64) for i, date in enumerate(dates)]
    runs.append(make_run(status="failed", date="2026-01-03T00:00:00+00:00"))
    assert group_runs(runs) == {"row 1": [runs[1]]}
    assert describe_excluded(runs, group_runs(runs)) == [
        "1 record of a failed run",
        "2 records with a newer one of the same design and seed",
    ]
    assert describe_excluded(some_runs(), group_runs(some_runs())) == []


def test_a_labelled_row_is_found_by_its_number_and_by_how_its_label_begins():
    groups = group_runs([labelled("2 epochs, 'quoted'", make_run(1)), make_run(16)])
    for word in ("1", "row 1", "2 ep", "2 epochs, 'quoted'"):
        assert find_names(groups, word) == ["2 epochs, 'quoted'"]
    assert references_of(groups, make_run(16)) == [groups["2 epochs, 'quoted'"]]
    groups = group_runs([labelled("row 16"), make_run(16)])
    assert find_names(groups, "16") == ["row 16"]


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
    assert references_of(groups, run) == [groups[name] for name in names]


RATE = {"learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("reference", "names"),  # of the references of all designs
    [
        (None, {"row 16": "row 1", "row 16, learning_rate 0.001": "row 1, learning_rate 0.001",
                "row 1, learning_rate 0.001": "row 1", "row 16, num_epochs 10": "row 1"}),
        ("16", dict.fromkeys(["row 1", "row 1, learning_rate 0.001", "row 16, num_epochs 10",
                              "row 16, learning_rate 0.001"], "row 16")),
        ("row 1, learning_rate 0.001", dict.fromkeys(
            ["row 1", "row 16", "row 16, num_epochs 10", "row 16, learning_rate 0.001"],
            "row 1, learning_rate 0.001")),
    ],
)  # fmt: skip
def test_the_reference_has_the_recipe_of_a_run_or_is_the_one_named(reference, names):
    groups = group_runs(
        [make_run(1), make_run(16), make_design(**RATE), make_design(**RATE, **FLEXIBLE),
         make_design(num_epochs=10, **FLEXIBLE)]
    )  # fmt: skip
    found = find_references(groups, reference).items()
    assert {name: of for name, of in found if of} == {k: [groups[v]] for k, v in names.items()}


def test_a_reference_that_can_mean_several_designs_is_refused():
    groups = group_runs([make_run(1), make_run(16), make_run(17)])
    message = "--reference row can mean several designs: row 1; row 16; row 17"
    with pytest.raises(UsageError, match=message):
        find_references(groups, "row")


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
    two = make_design(num_epochs=2, trainable_layers="last_two_blocks")
    runs = [make_run(1), make_run(10), two]
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
    with pytest.raises(UsageError, match=message):
        find_pair(groups, words)
