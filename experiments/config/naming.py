"""The name of a design: the nearest row of the table, and what differs from it.

    name_design({"trainable_token_pos": "flexible", "learning_rate": 1e-3, ...})
    # "row 16, learning_rate 0.001"

Precision and a local checkpoint are not part of a design: they are conditions under which designs
are compared.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from experiments.config.arguments import TINY
from experiments.config.rows import ROWS
from experiments.config.settings import GROUPS, Settings, TrainingConfig, default_values, flags_of

CONDITIONS = ("precision", "demo")  # flags that define a run, but no design
OF_TRAINING_SET = ("train_size", "balance")  # flags of custom data that define a design
RECIPE = (*(f.name for f in fields(TrainingConfig)), *OF_TRAINING_SET)
_DEFINING = [f.name for g in GROUPS.values() for f in flags_of(g) if f.metadata["defines_run"]]
DEFAULTS = {
    name: default_values()[name]
    for name in (*_DEFINING, *OF_TRAINING_SET)
    if name not in CONDITIONS
}


def design_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of a design, with the published model in place of a substitute.

    Args:
        flags: value by name; those that are missing have their default.
    """
    design = {name: flags.get(name, default) for name, default in DEFAULTS.items()}
    if design["weights"] != "random":
        design["weights"] = "pretrained"
    if design["model_size"] == TINY:
        design["model_size"] = DEFAULTS["model_size"]
    return design


def is_substitute(flags: Mapping[str, Any]) -> bool:
    """Return whether the model is a substitute for a published one: a checkpoint, or tiny."""
    is_local = flags.get("weights", "random") not in ("pretrained", "random")
    return is_local or flags.get("model_size") == TINY


def nearest_row(design: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the row from which the fewest flags differ, the first of several, and these flags."""
    changes = {
        number: {k: v for k, v in design.items() if v != row.changes.get(k, DEFAULTS[k])}
        for number, row in ROWS.items()
    }
    nearest = min(changes, key=lambda number: (len(changes[number]), number))
    return nearest, changes[nearest]


def name_design(design: Mapping[str, Any]) -> str:
    """Return the name of a design of `design_of`; two designs have two names."""
    row, changes = nearest_row(design)
    return ", ".join([f"row {row}", *(format_flag(*item) for item in changes.items())])


def format_flag(name: str, value: Any) -> str:
    """Return a flag and its value as text: `learning_rate 0.001`, `keep_best`."""
    return name if value is True else f"{name} {format_value(value)}"


def format_value(value: Any) -> str:
    """Return the value of a flag as text, a number without needless digits."""
    is_short = isinstance(value, float) and float(f"{value:g}") == value
    return f"{value:g}" if is_short else str(value)


def name_of(settings: Settings) -> str:
    """Return the name of a run's design, and conditions that can vary with it."""
    if settings.baseline:
        return f"baseline {settings.baseline}"
    if settings.data.demo:
        return "demo"
    flags = settings.identity | settings.custom_values
    names = [settings.output.name or name_design(design_of(flags))]
    varied = {name: flags[name] for name in ("precision", "split_seed") if name in flags}
    names += [format_flag(k, v) for k, v in varied.items() if v != default_values()[k]]
    return ", ".join(names)
