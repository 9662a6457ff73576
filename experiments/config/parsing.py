"""From a command line to the settings of each run that it asks for.

    for settings in parse_runs(["--row", "1,16", "--num_seeds", "3"]):
        settings.row, settings.seed, settings.design

A row is a dictionary of changes to the defaults, and the flags that are given change both. Invalid
flags end the program with status 2 and one sentence, before anything slow is imported.
"""

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from experiments.checkpoints.published import CHECKPOINT_SHA256
from experiments.config import values as value_types
from experiments.config.checks import find_conflict, flags_without_effect
from experiments.config.design import Design
from experiments.config.rows import ROWS
from experiments.config.settings import (
    GROUPS,
    CustomData,
    ModelConfig,
    Settings,
    Weights,
    default_values,
    flags_of,
)
from experiments.config.values import MODEL_SIZES, TINY
from experiments.system.arguments import Parser

DEMO = {"model_size": TINY, "weights": "random"}
GPT2 = {"vocab_size": 50257, "context_length": 1024, "drop_rate": 0.0, "qkv_bias": True}
NAMES_OF_SIZES = {  # name in the book's dictionary: in a checkpoint's
    "vocab_size": "vocab_size", "context_length": "n_positions", "emb_dim": "n_embd",
    "n_layers": "n_layer", "n_heads": "n_head", "qkv_bias": "qkv_bias",
}  # fmt: skip
EPILOG = """examples:
  additional_experiments.py --demo                       a test of the installation
  additional_experiments.py --row 16                     the flags of a row
  additional_experiments.py --row 1,16 --num_seeds 5     several rows and seeds
  compare_experiments.py                                 the next step: compare the recorded runs"""


def build_parser() -> Parser:
    """Return the parser of the flags; those that are not given are not in its namespace."""
    parser = Parser(
        prog="additional_experiments.py",
        description="Finetune GPT-2 as a text classifier; without flags, row 1 of the table.",
        usage="%(prog)s [--flag VALUE ...]",
        epilog=EPILOG,
    )
    published = parser.add_argument_group("published flags")
    for title, group in ({"runs": Settings} | GROUPS).items():
        section = parser.add_argument_group(title)
        if group is Settings:
            section.add_argument(
                "--row", type=value_types.row_numbers, default=argparse.SUPPRESS, metavar="N",
                help="the flags of a row of the table, or of several, such as 1-5,10,16 or all; "
                "other flags override them",
            )  # fmt: skip
        for f in flags_of(group):
            options = {"default": argparse.SUPPRESS} | f.metadata["options"]
            if f.default is False:
                options["action"] = "store_true"
            shown = "/".join(map(str, f.default)) if isinstance(f.default, tuple) else f.default
            default = "" if f.default in (None, False) else f" (default: {shown})"
            target = published if f.metadata["published"] else section
            text = f"{f.metadata['help']}{default}".replace("%", "%%")
            target.add_argument(f"--{f.name}", help=text, **options)
    return parser


def parse_args(argv: Sequence[str] | None = None) -> Settings:
    """Return the settings of the first run that a command line asks for."""
    return parse_runs(argv)[0]


def parse_runs(argv: Sequence[str] | None = None) -> list[Settings]:
    """Return the settings of each run, row by row and seed by seed.

    Ends the program with status 2 if flags are invalid for any of them.
    """
    parser, runs = build_parser(), []
    given = vars(parser.parse_known(argv))
    rows = given.pop("row", [None])
    for row in rows:
        where = f"row {row}: " if len(rows) > 1 else ""
        flags = default_values() | (ROWS[row].changes if row else {})
        flags |= (DEMO if given.get("demo") else {}) | given  # a later one of these counts
        if row and (file := flags["save_model"]):
            flags["save_model"] = file.with_name(file.name.replace("{row}", str(row)))
        try:
            settings = resolve(flags)
            problem = find_conflict(settings, given, several_rows=len(rows) > 1)
        except OSError as error:  # a name too long, a folder without permission
            parser.error(f"{where}{error}")
        except ValueError as error:  # of the checkpoint; its notes are lines that convert it
            parser.error(f"--weights: {error}", *getattr(error, "__notes__", ()))
        if problem:
            parser.error(f"{where}{problem}")
        settings = replace(settings, notes=_notes_on(settings, flags, given, row))
        seeds = range(settings.seed, settings.seed + settings.num_seeds)
        runs += [replace(settings, seed=seed) for seed in seeds]
    return runs


def _notes_on(
    settings: Settings, flags: dict[str, Any], given: dict[str, Any], row: int | None
) -> tuple[str, ...]:
    idle = {name: why for name, why in flags_without_effect(flags).items() if name in given}
    notes = []
    for why in dict.fromkeys(idle.values()):
        names = " and ".join(f"--{name}" for name in idle if idle[name] == why)
        notes.append(f"Note: no effect {why}: {names}")
    if row and settings.row not in (row, None):
        notes.append(f"Note: with these flags, row {row} becomes row {settings.row}")
    return tuple(notes)


def resolve(flags: dict[str, Any]) -> Settings:
    """Return the settings of the value of each flag, with what follows from them.

    A flag without effect has its default, so that it makes no other run; but `--baseline` needs
    the size and the weights that `--demo` asks for.

    Raises:
        OSError: if the local checkpoint cannot be read.
        ValueError: if it is not a GPT-2 checkpoint.
    """
    idle = flags_without_effect(flags).keys() - {"model_size", "weights"}
    flags = flags | {name: default_values()[name] for name in idle}
    groups = {
        name: group(**{f.name: flags[f.name] for f in fields(group)})
        for name, group in GROUPS.items()
    }
    model, weights, config = _resolve_weights(groups["model"], flags["verify"])
    design = Design(
        config=config,
        token_position=model.trainable_token_pos,
        average_embeddings=model.average_embeddings,
        disable_causal_mask=model.disable_causal_mask,
        trainable_layers=model.trainable_layers,
        lora_rank=model.lora_rank,
        lora_scaling=model.scaling,
    )
    fixed = {"model": model, "design": design, "weights": weights, "row": None}
    others = {name: flags[name] for name in ("seed", "num_seeds", "baseline")}
    settings = Settings(**groups | fixed | others, is_substitute=False)
    row, is_substitute = _find_row(settings)
    return replace(settings, row=row, is_substitute=is_substitute)


def _resolve_weights(
    model: ModelConfig, verify: bool
) -> tuple[ModelConfig, Weights, dict[str, Any]]:
    """Return where the weights come from, and the book's dictionary for `GPTModel`.

    A local file that is a published checkpoint is recognised by its digest, and named as that.
    """
    size = model.model_size.partition("(")[2].rstrip(")")
    config = GPT2 | MODEL_SIZES[model.model_size]
    if model.weights in ("pretrained", "random"):
        sha256 = "random" if model.weights == "random" else CHECKPOINT_SHA256.get(size, "")
        description = f"{model.model_size}, {model.weights} weights"
        return model, Weights(model.weights, sha256, description, size), config
    from experiments.checkpoints.files import INDEX
    from experiments.checkpoints.header import checkpoint_sha256, read_checkpoint

    path = Path(model.weights)
    checkpoint = read_checkpoint(path)
    sha256 = checkpoint_sha256(path, verify)
    config = GPT2 | {name: checkpoint.sizes[its_name] for name, its_name in NAMES_OF_SIZES.items()}
    place = path.parent if path.name.endswith(INDEX) else path
    description = f"checkpoint {place.resolve().name if place.is_dir() else place.name}"
    for name, shape in MODEL_SIZES.items():
        size = name.partition("(")[2].rstrip(")")
        if CHECKPOINT_SHA256.get(size) == sha256 and config == GPT2 | shape:
            model = replace(model, model_size=name, weights="pretrained")
            description = f"{name}, pretrained weights"
            break
    return model, Weights("checkpoint", sha256, description, size, path, checkpoint.note), config


def _find_row(settings: Settings) -> tuple[int | None, bool]:
    """Return the row whose design a run has, and whether another model is a substitute for its own.

    A local checkpoint is a substitute for the published one of the size, and the tiny model, which
    has random weights, for the small one of row 10. The precision is no part of the design.
    """
    if settings.data.demo or settings.baseline:
        return None, False
    identity = settings.identity | {"precision": "float32"}
    model = dict(identity)
    if settings.model.weights not in ("pretrained", "random"):
        model["weights"] = "pretrained"
    if settings.model.model_size == TINY:
        model["model_size"] = "gpt2-small (124M)"
    defaults = default_values()
    rows = {n: {name: (defaults | row.changes)[name] for name in model} for n, row in ROWS.items()}
    row = next((number for number, expected in rows.items() if expected == model), None)
    return row, row is not None and rows[row] != identity


def read_custom_values(stored: dict[str, Any]) -> CustomData:
    """Return the flags of custom data that a record stores as plain values."""
    plain = {f.name: f.default for f in fields(CustomData)} | stored
    for name in ("data", "validation_data", "test_data"):
        plain[name] = plain[name] and Path(plain[name])
    return CustomData(**plain | {"split": tuple(plain["split"])})
