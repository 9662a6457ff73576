"""Notes below the table: the result for each row, and what a reader needs to know about it."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count

from experiments.comparison.groups import BASE, Groups, References, pair_up, substitutes_of
from experiments.comparison.names import design_name
from experiments.comparison.sentences import FIXED
from experiments.comparison.statistics import LEVEL, MIN_SEEDS, mcnemar
from experiments.comparison.summaries import Summary, compare_over_splits
from experiments.data.separated import list_some
from experiments.runs.records import Run

MOST_NAMED = 5  # seeds in a note


def notes_on(
    groups: Groups, summaries: Sequence[Summary], reference: str | None = None
) -> list[str]:
    """Return the notes on the table of summaries."""
    runs = [run for group in groups.values() for run in group]
    notes = [s.sentence for s in summaries if s.sentence]
    notes.append(FIXED)
    if substitutes := substitutes_of(groups):
        notes.append(
            f"Substitutes for the published models: {'; '.join(substitutes)}. The published "
            "figures are not those of these models."
        )
    if any(run.row == 8 for run in runs):
        notes.append(
            "Row 8's published validation accuracy, 99.81 %, is not a count of 149 examples."
        )
    duplicates = sorted({int(run.in_training.sum()) for run in runs})
    notes.append(
        f"Without duplicates: without the {' or '.join(map(str, duplicates))} test examples whose "
        "text is also that of a training example. Training: with the activations computed before "
        "it, without the final accuracies."
    )
    fewest = next(n for n in count(1) if mcnemar(n, 0) < LEVEL)
    notes += [
        f"One of {size:,} test examples is {100 / size:.2f} points; two single runs differ "
        f"significantly if one of them alone classifies {fewest} or more correctly, "
        f"{100 * fewest / size:.1f} points."
        for size in sorted({len(run.labels) for run in runs})
    ]
    notes += _notes_on_tests(groups, reference)
    if silent := [s.name for s in summaries if s.evidence and s.evidence.distinct is None]:
        notes.append(
            "These records do not store which test examples have the same text, so that each "
            f"counts as distinct: {'; '.join(silent)}."
        )
    devices = sorted({run.environment["device_type"] for run in runs if not run.is_baseline})
    if len(devices) > 1:
        notes.append(
            f"The runs were computed on {' and '.join(devices)}, which round differently; their "
            "times cannot be compared."
        )
    return [*notes, *notes_on_origin(runs), *compare_over_splits(groups, summaries)]


def notes_on_origin(runs: Sequence[Run]) -> list[str]:
    """Return which seeds were made by other versions than most, or have a date in the future."""
    found, now = [], datetime.now(UTC)
    for what in ("torch", "python"):
        versions = Counter(run.environment.get(what) for run in runs)
        others = [run for run in runs if run.environment.get(what) != versions.most_common(1)[0][0]]
        if others:
            found.append(f"Made with another version of {what}: {_list_seeds(others)}.")
    if later := [run for run in runs if datetime.fromisoformat(run.date).astimezone() > now]:
        found.append(f"Dated in the future: {_list_seeds(later)}.")
    return found


def _list_seeds(runs: Sequence[Run]) -> str:
    return list_some((f"{design_name(run)} seed {run.seed}" for run in runs), MOST_NAMED)


def _notes_on_tests(groups: Groups, reference: str | None) -> list[str]:
    without: dict[str, list[str]] = {}
    used, references = [], References(groups, reference)
    for name, group in groups.items():
        found = references.of(group[0])
        if len(found) == 1 and pair_up(found[0], group):
            used.append(design_name(found[0][0]))
        else:
            reasons = {0: "no reference with the same conditions", 1: "no seed of the reference"}
            without.setdefault(reasons.get(len(found), "several references"), []).append(name)
    if not used:
        return [
            f'There is no record of {BASE} to compare with: use --reference "{next(iter(groups))}".'
        ]
    without = {why: [n for n in names if n not in used] for why, names in without.items()}
    return [
        f"Compared with {' or '.join(dict.fromkeys(used))} of the same weights, test examples and "
        f"precision over all shared seeds; from {MIN_SEEDS} seeds on, interval and p are over "
        "other seeds and other examples; for one seed, p is that of McNemar's exact test. Only one "
        "correct: at the first shared seed. Holm: corrected over the designs of the table. "
        "Detectable and needed: with a power of 80 %.",
        *(f"Not compared ({why}): {'; '.join(names)}." for why, names in without.items() if names),
    ]
