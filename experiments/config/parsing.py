"""From a command line to the settings of each run that it asks for.

    for settings in parse_runs(["--row", "1,16", "--num_seeds", "3"]):
        settings.row, settings.seed, settings.design

A row is a dictionary of changes to the defaults, and the flags that are given change both. Invalid
flags end the program with status 2 and one sentence, before anything slow is imported.
"""

import argparse
import re
from collections.abc import Collection, Sequence
from dataclasses import Field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from experiments.checkpoints.files import CHECKPOINT_SHA256
from experiments.config.arguments import (
    MODEL_SIZES,
    OTHER_NAMES,
    TINY,
    Parser,
    expected,
    hint,
    row_numbers,
)
from experiments.config.checks import find_conflict, flags_without_effect
from experiments.config.design import Design
from experiments.config.naming import DEFAULTS, design_of, format_flag, is_substitute, nearest_row
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
from experiments.system.terminal import describe_error

DEMO = {"model_size": TINY, "weights": "random"}
GPT2 = {"vocab_size": 50257, "context_length": 1024, "drop_rate": 0.0, "qkv_bias": True}
NAMES_OF_SIZES = {  # name in the book's dictionary: in a checkpoint's
    "vocab_size": "vocab_size", "context_length": "n_positions", "emb_dim": "n_embd",
    "n_layers": "n_layer", "n_heads": "n_head", "qkv_bias": "qkv_bias",
}  # fmt: skip
VARIABLE = (*DEFAULTS, "precision", "split_seed")  # flags of `--vary`
EPILOG = """examples:
  additional_experiments.py --demo                       a test of the installation
  additional_experiments.py --row 16                     the flags of a row
  additional_experiments.py --row 1,16 --num_seeds 5     several rows and seeds
  additional_experiments.py --vary learning_rate 5e-5 1e-4 --vary keep_best false true
                                                         all combinations
  compare_experiments.py                                 the next step: compare the recorded runs"""


def build_parser() -> Parser:
    """Return the parser of the flags; those that are not given are not in its namespace."""
    parser = Parser(
        prog="additional_experiments.py",
        description="Finetune GPT-2 as a text classifier; without flags, row 1 of the table.",
        usage="%(prog)s [--flag VALUE ...]",
        epilog=EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    titles = ("published flags", "runs", *GROUPS)
    sections = {title: parser.add_argument_group(title) for title in titles}
    sections["runs"].add_argument(
        "--row", type=row_numbers, metavar="N",
        help="the flags of a row of the table, or of several, such as 1-5,10,16 or all; other "
        "flags override them",
    )  # fmt: skip
    sections["runs"].add_argument(
        "--vary", action="append", nargs="+", metavar="FLAG",
        help="FLAG VALUE VALUE ...: a run for each value of a flag; repeated, for each "
        "combination of values (true and false for a flag without a value)",
    )  # fmt: skip
    for title, group in ({"runs": Settings} | GROUPS).items():
        for f in flags_of(group):
            options = dict(f.metadata["options"])
            if f.default is False:
                options["action"] = "store_true"
            shown = "/".join(map(str, f.default)) if isinstance(f.default, tuple) else f.default
            default = "" if f.default in (None, False, ()) else f" (default: {shown})"
            text = f"{f.metadata['help']}{default}".replace("%", "%%")
            section = sections["published flags" if f.metadata["published"] else title]
            section.add_argument(f"--{f.name}", help=text, **options)
    return parser


def parse_args(argv: Sequence[str] | None = None) -> Settings:
    """Return the settings of the first run that a command line asks for."""
    return parse_runs(argv)[0]


def parse_runs(argv: Sequence[str] | None = None) -> list[Settings]:
    """Return the settings of each run, row by row, design by design and seed by seed.

    Ends the program with status 2 if flags are invalid for any of them, and names all of these.
    """
    parser, runs, problems, all_idle = build_parser(), [], {}, []
    given = vars(parser.parse_known(argv))
    rows, varied = given.pop("row", [None]), given.pop("vary", [])
    several = {"{row}": "several rows"} if len(rows) > 1 else {}
    several |= {"{design}": "--vary"} if varied else {}
    for row, values in product(rows, _combine(parser, varied, given)):
        changes, design = given | values, ", ".join(format_flag(*item) for item in values.items())
        flags = default_values() | (ROWS[row].changes if row else {})
        flags |= (DEMO if given.get("demo") else {}) | changes  # a later one of these counts
        all_idle.append(flags_without_effect(flags))
        if (file := flags["save_model"]) and file.name:
            name = file.name.replace("{row}", str(row)) if row else file.name
            name = name.replace("{design}", re.sub(r"[^\w.+-]+", "_", design)) if design else name
            flags["save_model"] = file.with_name(name)
        try:
            settings = resolve(flags)
            problem = find_conflict(settings, changes, several)
        except OSError as error:  # a name too long, a folder without permission
            problem = describe_error(error)
        except ValueError as error:  # of the checkpoint; its notes are lines that convert it
            parser.error(f"--weights: {error}", *getattr(error, "__notes__", ()))
        if problem:
            where = [f"row {row}"] * (len(rows) > 1) + [design] * bool(design)
            problems.setdefault(problem, []).append(", ".join(where))
            continue
        idle = {name: why for name, why in all_idle[-1].items() if name in changes}
        settings = replace(settings, notes=_notes_on(settings, row, idle))
        seeds = range(settings.seed, settings.seed + settings.num_seeds)
        runs += [replace(settings, seed=seed) for seed in seeds]
    for name in values:  # the names are those of all designs
        if all(name in idle for idle in all_idle):
            problems[f"--vary {name} has no effect {all_idle[0][name]}"] = []
    if problems:
        found = [f"{'; '.join(of)}: {what}".removeprefix(": ") for what, of in problems.items()]
        parser.error(*found)
    return runs


def _notes_on(settings: Settings, row: int | None, idle: dict[str, str]) -> tuple[str, ...]:
    """Return notes on given flags without effect, and on a row that becomes another."""
    names: dict[str, list[str]] = {}
    for name, why in idle.items():
        names.setdefault(why, []).append(f"--{name}")
    notes = [f"Note: no effect {why}: {' and '.join(of)}" for why, of in names.items()]
    if row and settings.row not in (row, None):
        notes.append(f"Note: with these flags, row {row} becomes row {settings.row}")
    return tuple(notes)


def _combine(
    parser: Parser, varied: Sequence[Sequence[str]], given: Collection[str]
) -> list[dict[str, Any]]:
    """Return each combination of the values of `--vary`; without it, an empty one."""
    known = {f.name: f for g in GROUPS.values() for f in flags_of(g) if f.name in VARIABLE}
    values: dict[str, list[Any]] = {}
    problems = []
    for flag, *texts in varied:
        name, found, before = flag.lstrip("-"), [], len(problems)
        if name not in known:
            meant = hint([f"--{name}"], [f"--{f}" for f in known], OTHER_NAMES)
            problems.append(f"--vary {flag}: not a flag that defines a design; {meant}")
            continue
        if name in values or name in given:
            problems.append(f"--vary {name}: the flag is given twice")
        for text in texts:
            try:
                found.append(_value_of(known[name], text))
            except argparse.ArgumentTypeError as error:
                problems.append(f"--vary {name}: {error}")
        if len(problems) == before and len(set(found)) < max(2, len(found)):
            problems.append(f"--vary {name} needs two or more different values")
        values[name] = found
    if problems:
        parser.error(*problems)
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def _value_of(f: Field, text: str) -> Any:
    """Return the value of a flag that a text of the command line has."""
    options = f.metadata["options"]
    choices = ("false", "true") if f.default is False else options.get("choices", (text,))
    if text not in choices:
        raise expected(" or ".join(choices), text)
    return text == "true" if f.default is False else options.get("type", str)(text)


def resolve(flags: dict[str, Any]) -> Settings:
    """Return the settings of the value of each flag, with what follows from them.

    A flag without effect has its default, so that it makes no other run; but `--baseline` needs
    the size and the weights that `--demo` asks for.

    Raises:
        OSError: if the local checkpoint cannot be read.
        ValueError: if it is not a GPT-2 checkpoint.
    """
    flags = {name: tuple(v) if isinstance(v, list) else v for name, v in flags.items()}
    idle = flags_without_effect(flags).keys() - {"model_size", "weights"}
    flags |= {name: default_values()[name] for name in idle}
    groups = {
        name: group(**{f.name: flags[f.name] for f in fields(group)})
        for name, group in GROUPS.items()
    }
    model, weights, config = _resolve_weights(groups["model"], flags["verify"])
    design = Design(
        config, model.trainable_token_pos, model.average_embeddings, model.disable_causal_mask,
        model.trainable_layers, model.lora_rank, model.scaling,
    )  # fmt: skip
    others = {f.name: flags[f.name] for f in flags_of(Settings)}
    settings = Settings(**groups | others | {"model": model}, design=design, weights=weights)
    if flags["demo"] or flags["baseline"]:
        return settings
    row, changes = nearest_row(design_of(settings.identity))
    return replace(
        settings, row=None if changes else row, is_substitute=is_substitute(settings.identity)
    )


def _resolve_weights(
    model: ModelConfig, verify: bool
) -> tuple[ModelConfig, Weights, dict[str, Any]]:
    """Return where the weights come from, and the book's dictionary for `GPTModel`.

    A local file that is a published checkpoint is recognised by its digest, and named as that.
    """
    names = {size: size.partition("(")[2].rstrip(")") for size in MODEL_SIZES}  # "124M"
    name, config = names[model.model_size], GPT2 | MODEL_SIZES[model.model_size]
    if model.weights in ("pretrained", "random"):
        sha256 = "random" if model.weights == "random" else CHECKPOINT_SHA256.get(name, "")
        description = f"{model.model_size}, {model.weights} weights"
        return model, Weights(model.weights, sha256, description, name), config
    from experiments.checkpoints.files import INDEX
    from experiments.checkpoints.header import checkpoint_sha256, read_checkpoint

    path = Path(model.weights)
    checkpoint = read_checkpoint(path)
    sha256 = checkpoint_sha256(path, verify)
    config = GPT2 | {name: checkpoint.sizes[its_name] for name, its_name in NAMES_OF_SIZES.items()}
    place = path.parent if path.name.endswith(INDEX) else path
    description = f"checkpoint {place.resolve().name if place.is_dir() else place.name}"
    for size, name in names.items():
        if CHECKPOINT_SHA256.get(name) == sha256 and config == GPT2 | MODEL_SIZES[size]:
            model = replace(model, model_size=size, weights="pretrained")
            description = f"{size}, pretrained weights"
            break
    return model, Weights("checkpoint", sha256, description, name, path, checkpoint.note), config


def read_custom_values(stored: dict[str, Any]) -> CustomData:
    """Return the flags of custom data that a record stores as plain values."""
    plain = {f.name: f.default for f in fields(CustomData)} | stored
    for name in ("data", "validation_data", "test_data"):
        plain[name] = plain[name] and Path(plain[name])
    if isinstance(plain["text_column"], str):  # of earlier records
        plain["text_column"] = [plain["text_column"]]
    names = ("split", "text_column", "drop_label")
    return CustomData(**plain | {name: tuple(plain[name]) for name in names})
