"""Notes below the table: what the verdicts mean, what limits them, and how the columns are made."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count

import numpy as np

from experiments.comparison.evidence import Evidence
from experiments.comparison.groups import BASE, common_deviations
from experiments.comparison.metrics import ACCURACY
from experiments.comparison.names import conditions_of, design_name, substitutes_of
from experiments.comparison.sentences import FIXED
from experiments.comparison.statistics import LEVEL, MIN_SEEDS, interval_over_splits, mcnemar
from experiments.comparison.summaries import Summary
from experiments.data.separated import list_some
from experiments.runs.records import Run

MIN_SPLITS = 3  # fewer say nothing about other splits
MOST_NAMED = 5  # seeds in a note
MOST_FAILURES = 3  # designs with failed seeds that are named

# ------------------------------------------------------------------------------------ the verdicts


def notes_on_verdicts(summaries: Sequence[Summary], reference: str | None = None) -> list[str]:
    """Return at most four notes: what the verdicts mean, and what limits them."""
    compared = [s.evidence for s in summaries if s.evidence]
    notes = []
    if common := common_deviations(s.first for s in summaries):
        notes.append(f"All runs: {'; '.join(common)}.")
    notes.append(_describe_differences(compared) if compared else _why_none(summaries, reference))
    if failed := describe_failures({s.name: s.runs for s in summaries}):
        notes.append(failed)
    largest = max(s.largest_class for s in summaries)
    if largest > 0.6:
        notes.append(f"The largest class has {largest:.0%} of the test examples.")
    return notes


def _describe_differences(compared: Sequence[Evidence]) -> str:
    """Return what is compared with what, and what the verdicts mean."""
    metric, references = compared[0].metric, {e.names[0] for e in compared}
    reference = "row 1 with the same training recipe, or else row 1"
    reference = reference if len(references) > 1 else references.pop()
    several = max(e.compared for e in compared)
    text = (
        f"Difference of {metric.title} from {reference}. Better, worse: p < {LEVEL} over seeds and "
        f"examples, Holm-adjusted over {several} design{'s' if several > 1 else ''}; equivalent: "
        f"within {metric.format_size(compared[0].margin)}; inconclusive: neither. {FIXED}"
    )
    if any(len(e.seeds) == 1 for e in compared):
        text += " One seed compares two models and supports no claim about the designs."
    return text


def _why_none(summaries: Sequence[Summary], reference: str | None) -> str:
    """Return why nothing is compared, and what to do."""
    first, *others = (s.name for s in summaries)
    if not others:
        return f"Nothing to compare: {first} is the only design. Run others with the same seeds."
    if reference or BASE in (first, *others):
        return (
            "Nothing to compare: no other design has a seed, the weights, the test examples and "
            f"the precision of {reference or BASE}."
        )
    return f'Nothing to compare with: run row 1, or use --reference "{first}".'


def describe_failures(groups: Mapping[str, Sequence[Run]]) -> str:
    """Return which seeds predict one class only, and what so many can miss; empty if none does."""
    failed = {name: seeds for name, runs in groups.items() if (seeds := _collapsed_seeds(runs))}
    if not failed:
        return ""
    words = [
        f"{name}: {len(seeds)} of {len(groups[name])} seed{'s' * (len(groups[name]) > 1)} "
        f"predicted one class only ({', '.join(map(str, seeds))})."
        for name, seeds in failed.items()
    ]
    if len(words) > MOST_FAILURES:
        words[MOST_FAILURES:] = [f"So did seeds of {len(words) - MOST_FAILURES} other designs."]
    total = max(len(groups[name]) for name in failed)
    seeds, miss, they = (
        ("seed", "misses", "it excludes") if total == 1 else ("seeds", "miss", "they exclude")
    )
    words.append(
        f"{total} good {seeds} {miss} a failure of 1 seed in 10 with a probability of "
        f"{0.9**total:.0%}; {they} failures of more than {1 - LEVEL ** (1 / total):.0%} of the "
        "seeds."
    )
    return " ".join(words)


def _collapsed_seeds(runs: Sequence[Run]) -> list[int]:
    """Return the seeds of networks that predict only one of several classes."""
    networks = [run for run in runs if not run.is_baseline and np.ptp(run.labels)]
    return [run.seed for run in networks if not np.ptp(run.predictions)]


def describe_devices(runs: Iterable[Run]) -> list[str]:
    """Return which devices were used, if there are several; of a baseline it does not matter."""
    devices = sorted({run.environment["device_type"] for run in runs if not run.is_baseline})
    text = f"The runs were computed on {' and '.join(devices)}, whose rounding and speed differ."
    return [text] if len(devices) > 1 else []


# -------------------------------------------------------------------------------------- the columns


def notes_on_columns(summaries: Sequence[Summary]) -> list[str]:
    """Return how the columns of the wide table are made, and what is not in it."""
    runs, notes = [run for s in summaries for run in s.runs], []
    if substitutes := substitutes_of(s.first for s in summaries):
        notes.append(
            f"Substitutes for the published models: {'; '.join(substitutes)}. The published "
            "figures are not those of these models."
        )
    duplicates = sorted({int(run.in_training.sum()) for run in runs})
    text = (
        f"Without duplicates: without the {' or '.join(map(str, duplicates))} test examples whose "
        "text is also that of a training example. Training: with the activations computed before "
        "it, without the final accuracies."
    )
    if any(s.evidence for s in summaries):
        text += (
            f" p: from {MIN_SEEDS} seeds on, over other seeds and other examples; for one seed, of "
            "McNemar's exact test (a t test of other metrics). Only one correct: at the first "
            "shared seed. Detectable and needed: with a power of 80 %."
        )
    notes.append(text)
    fewest = next(n for n in count(1) if mcnemar(n, 0) < LEVEL)
    notes += [
        f"One of {size:,} test examples is {100 / size:.2f} points; two single runs differ "
        f"significantly if one of them alone classifies {fewest} or more correctly, "
        f"{100 * fewest / size:.1f} points."
        for size in sorted({s.total for s in summaries})
    ]
    notes += _notes_on_missing(summaries)
    if silent := [s.name for s in summaries if s.evidence and s.evidence.distinct is None]:
        notes.append(
            "These records do not store which test examples have the same text, so that each "
            f"counts as distinct: {'; '.join(silent)}."
        )
    notes += describe_devices(runs)
    return [*notes, *notes_on_origin(runs), *_notes_on_splits(summaries)]


def _notes_on_missing(summaries: Sequence[Summary]) -> list[str]:
    """Return which groups are not compared, and why; a reference needs no reason."""
    references = {s.evidence.names[0] for s in summaries if s.evidence}
    reasons = {0: "no reference with the same conditions", 1: "no seed of the reference"}
    names = defaultdict(list)
    for s in summaries:
        if references and not s.evidence and s.name not in references:
            names[reasons.get(len(s.references), "several references")].append(s.name)
    return [f"Not compared ({why}): {'; '.join(of)}." for why, of in names.items()]


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


def _notes_on_splits(summaries: Sequence[Summary]) -> list[str]:
    """Return a sentence for each row that is compared on three or more splits of one file."""
    found: dict[tuple[str | None, ...], dict[int, Summary]] = defaultdict(dict)
    for s in summaries:
        if s.evidence and (split := s.first.split):
            weights, _, precision = conditions_of(s.first)
            found[s.first.name, weights, precision, split["of"]][split["seed"]] = s
    return [_describe_splits(same) for same in found.values() if len(same) >= MIN_SPLITS]


def _describe_splits(by_seed: dict[int, Summary]) -> str:
    some = next(iter(by_seed.values()))
    first, second = some.evidence.names
    means = [s.evidence.differences["accuracy"].mean for s in by_seed.values()]
    found = interval_over_splits(means, some.total, some.first.correct["train"][1])
    interval = f", 95 % confidence interval {ACCURACY.format_interval(found)}"
    return (
        f"Over {len(by_seed)} splits of the same examples (--split_seed "
        f"{', '.join(map(str, sorted(by_seed)))}), {second} minus {first}: "
        f"{ACCURACY.format_mean(float(np.mean(means)))} of test accuracy"
        f"{interval if found.low < found.high else ''}, over other splits."
    )
