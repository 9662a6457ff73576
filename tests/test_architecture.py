"""Arrows point one way: every module imports only what stands below it in the table here.

PYTHONPATH=. python tests/test_architecture.py     # writes the picture of docs/architecture.md
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
START, END = "<!-- modules: made by tests/test_architecture.py -->\n", "<!-- end of modules -->"

LAYERS = {  # from top to bottom; within a line, too, a module imports only those after it
    "scripts": "additional_experiments classify compare_experiments",
    "an answer": "comparison.report comparison.commands comparison.figures comparison.costs "
    "comparison.panels comparison.labels comparison.texts comparison.pairs comparison.tables "
    "comparison.export comparison.splits comparison.summaries comparison.sentences "
    "comparison.evidence comparison.crossed comparison.groups comparison.statistics "
    "comparison.flags",
    "runs": "sweep runs claims experiment",
    "a kept classifier": "keeping.answers keeping.classifying keeping.bases keeping.saved_models "
    "keeping.description keeping.flags",
    "a run": "planning baselines results memory.fitting preparation descriptions finetuning",
    "the way": "watching sharding shortcuts.switch shortcuts.hidden_states shortcuts.disk "
    "shortcuts.needed shortcuts.model shortcuts.casts shortcuts.layers training recipe",
    "the network": "classifier lora recomputing devices metrics",
    "the messages": "data.datasets data.demo data.messages data.streaming data.own data.corpus "
    "data.reading data.splitting",
    "the book's own": "gpt_download previous_chapters",
    "what is told and known": "memory.estimate memory.parameters memory.workload identity flags "
    "parser conflicts settings records sources rows published",
    "what all rests on": "checkpoint.weights checkpoint.header checkpoint.names checkpoint.files "
    "checkpoint.foreign checkpoint.config downloads sessions known_files verified hub files "
    "processes progress command_line hints torchrun data.sizes",
}
MODULES = [name for line in LAYERS.values() for name in line.split()]


def path_of(module):
    inside = ROOT / "experiments" / f"{module.replace('.', '/')}.py"
    return inside if inside.is_file() else ROOT / f"{module}.py"


def tree_of(module):
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def imports_of(module):
    """The modules of this project that one imports, and the names it takes from each."""
    found = {}
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for source, name in names:
            inside = f"{source}.{name}".removeprefix("experiments.")
            if inside in MODULES:  # a module taken from its package
                found.setdefault(inside, set())
            elif (source := source.removeprefix("experiments.")) in MODULES:
                found.setdefault(source, set()).add(name)
    return found


def defined_in(module):
    """The names that a module's own statements bind, imports left aside."""
    names = set()
    for node in tree_of(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        for target in targets:
            names |= (
                {n.id for n in ast.walk(target) if isinstance(n, ast.Name)} if target else set()
            )
    return names


def all_modules():
    package = (path.relative_to(ROOT / "experiments") for path in ROOT.glob("experiments/**/*.py"))
    inside = (".".join(path.with_suffix("").parts) for path in package)
    return {name for name in inside if not name.endswith("__init__")} | {
        path.stem for path in ROOT.glob("*.py")
    }


def test_the_table_names_every_module():
    assert sorted(MODULES) == sorted(all_modules())


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_below_it(module):
    below = MODULES[MODULES.index(module) + 1 :]
    assert not imports_of(module).keys() - set(below)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_takes_each_name_from_where_it_is_defined(module):
    for source, names in imports_of(module).items():
        assert not names - {None} - defined_in(source), source


@pytest.mark.parametrize("module", ["gpt_download", "previous_chapters"])
def test_the_books_own_modules_know_no_flags_and_not_each_other(module):
    assert not imports_of(module).keys() & {
        "flags", "settings", "gpt_download", "previous_chapters",
    }  # fmt: skip


# ------------------------------------------------------------------------------------ import time

SLOW = {
    "torch", "numpy", "pandas", "scipy", "matplotlib", "tiktoken", "requests", "jinja2",
    "tensorboard",
}  # fmt: skip


@pytest.mark.parametrize("flags", [["--help"], ["--no_such_flag"], ["--weights", __file__]])
@pytest.mark.parametrize("script", LAYERS["scripts"].split())
def test_help_and_wrong_flags_wait_for_no_slow_package(script, flags, tmp_path):
    command = [sys.executable, "-X", "importtime", ROOT / f"{script}.py", *flags]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == (0 if flags == ["--help"] else 2)
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & SLOW


# -------------------------------------------------------------------------------------- the picture


def first_line(module):
    return ast.get_docstring(tree_of(module)).partition("\n")[0].rstrip(".")


def picture():
    """Each layer with its modules and what they claim to hold, from top to bottom."""
    width = max(map(len, MODULES))
    lines = ["```text"]
    for title, line in LAYERS.items():
        lines += [f"── {title} ".ljust(width + 4, "─")]
        lines += [f"  {name:{width}}  {first_line(name)}" for name in line.split()]
    return "\n".join([*lines, "```", ""])


def test_the_picture_in_the_documentation_is_that_of_the_modules():
    assert START + picture() + END in DOCUMENT.read_text(encoding="utf-8")


if __name__ == "__main__":
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(START)
    after = rest[rest.index(END) :]
    DOCUMENT.write_text(before + START + picture() + after, encoding="utf-8")
