"""Names of runs in a comparison: of their design, and of the conditions under which they ran.

    runs = with_unique_names(runs)
    design_name(runs[0])           # "row 16, learning_rate 0.001"
    conditions_of(runs[0]).data    # "questions.csv, 412 for training"

The difference of two runs is that of their designs only if weights, test examples and precision are
the same. The published models of all sizes, and the random weights of row 10, count as the same
weights, because their differences are what the rows are about.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from experiments.checkpoints.files import CHECKPOINT_SHA256
from experiments.config.naming import design_of, is_substitute, name_design
from experiments.config.rows import DATA_SHA256, ROWS
from experiments.runs.records import Run
from experiments.system.terminal import printable

PUBLISHED = "published models"


class Conditions(NamedTuple):
    """What two runs need to have in common to be compared."""

    weights: str | None  # PUBLISHED, or the name of a substitute; None for baselines
    data: str | None  # name of custom data; None if published
    precision: str

    def allow(self, other: "Conditions") -> bool:
        """Return whether two runs can be compared; a baseline needs the same data only."""
        is_baseline = self.weights is None or other.weights is None
        return self == other or (is_baseline and self.data == other.data)

    @property
    def substitute(self) -> str | None:
        """The substitute for the published models, if there is one."""
        return self.weights if self.weights != PUBLISHED else None

    @property
    def deviations(self) -> list[str]:
        """What differs from the published runs."""
        precision = self.precision if self.precision != "float32" else None
        return [name for name in (self.substitute, self.data, precision) if name]


def conditions_of(run: Run) -> Conditions:
    """Return the conditions of a run."""
    weights = run.weights and (run.model if _has_substitute(run) else PUBLISHED)
    name = (run.split or {}).get("name", f"data {run.data[:8]}")
    return Conditions(weights, None if run.data == DATA_SHA256 else name, run.precision)


def substitutes_of(runs: Iterable[Run]) -> list[str]:
    """Return the substitutes for the published models, without duplicates."""
    found = dict.fromkeys(conditions_of(run).substitute for run in runs)
    return [name for name in found if name]


def flags_of_design(run: Run) -> dict[str, Any]:
    """Return the flags of a run's design, as `design_of` does."""
    row = ROWS[run.row].changes if run.row else {}
    return design_of(row | run.settings | (run.split or {}).get("custom", {}))


def design_name(run: Run) -> str:
    """Return the name of a run's design: its label, or the nearest row and what differs."""
    if run.is_baseline:
        return run.name
    return run.label or design_without_label(run)


def design_without_label(run: Run) -> str:
    """Return the nearest row and what differs from it."""
    return _cached_name(tuple(flags_of_design(run).items()))


@cache
def _cached_name(design: tuple[tuple[str, Any], ...]) -> str:
    return name_design(dict(design))


def with_unique_names(runs: Sequence[Run]) -> list[Run]:
    """Return runs with one name for each checkpoint, data set and design, by order of date.

    Of several names of the same the last one counts; two that have the same name get the start of
    their digest, or the flags of their design, in addition.
    """
    models = _unique({run.weights: _clean(run.model) for run in runs if _has_checkpoint(run)})
    sizes: dict[str, set[int]] = defaultdict(set)  # of training sets, by test set
    for run in runs:
        size = (run.split or {}).get("sizes", {}).get("train", run.correct["train"][1])
        sizes[test_set_of(run)].add(size)
    trained = {
        key: " to ".join(f"{size:,}" for size in sorted({min(found), max(found)}))
        for key, found in sizes.items()
    }
    files = {
        test_set_of(run): "standard input" if file == "-" else _clean(Path(file).name)
        for run in runs
        if (file := _file_of(run))
    }
    data = _unique({key: f"{name}, {trained[key]} for training" for key, name in files.items()})
    designs = {design_without_label(run): _clean(run.label) for run in runs if run.label}
    several = Counter(designs.values())
    several.update({design_name(run) for run in runs if design_without_label(run) not in designs})
    labels = {
        design: label if several[label] == 1 else f"{label} ({design})"
        for design, label in designs.items()
    }
    return [
        replace(
            run,
            model=models[run.weights] if _has_checkpoint(run) else run.model,
            split=run.split | {"name": data[test_set_of(run)]} if _file_of(run) else run.split,
            label=None if run.is_baseline else labels.get(design_without_label(run)),
        )
        for run in runs
    ]


def _clean(name: str) -> str:
    return " ".join(printable(name).split())


def _unique(names: Mapping[str, str]) -> dict[str, str]:
    """Return a name for each digest."""
    several = Counter(names.values())
    return {
        digest: name if several[name] == 1 else f"{name} {digest[:8]}"
        for digest, name in names.items()
    }


def _has_substitute(run: Run) -> bool:
    is_published = run.weights in ("random", *CHECKPOINT_SHA256.values())
    return not is_published or run.stands_in or is_substitute(run.settings)


def _has_checkpoint(run: Run) -> bool:
    return not run.is_baseline and _has_substitute(run) and run.weights != "random"


def _file_of(run: Run) -> str | None:
    return (run.split or {}).get("custom", {}).get("data")


def test_set_of(run: Run) -> str:
    """Return a digest of a run's test examples; earlier records have that of all examples."""
    return (run.split or {}).get("test", run.data)
