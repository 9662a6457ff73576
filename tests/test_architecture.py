"""The layout of the code: imports go one way, few names are public, help and errors are quick."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "experiments"
SCRIPTS = ["additional_experiments", "compare_experiments", "classify"]
LAYERS = [  # from top to bottom; each imports from lower ones and, in a folder, from itself
    SCRIPTS, ["comparison"], ["runs"], ["training"], ["shortcuts"], ["model"], ["data"],
    ["gpt_download", "previous_chapters"], ["config"], ["checkpoints"], ["system"],
]  # fmt: skip
BOOK = {"gpt_download": {"checkpoints", "system"}, "previous_chapters": {"checkpoints", "system"}}
HEAVY = {
    "torch", "numpy", "pandas", "matplotlib", "scipy", "sklearn", "requests", "tiktoken",
    "huggingface_hub", "jinja2", "pooch", "tensorboard", "transformers",
}  # fmt: skip
PATHS = {  # by name: "config.rows", "classify"
    ".".join(path.relative_to(folder).with_suffix("").parts): path
    for folder, pattern in ((PACKAGE, "**/*.py"), (ROOT, "*.py"))
    for path in folder.glob(pattern)
    if path.name != "__init__.py"
}


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(module):
    """The modules that one imports, also in its functions."""
    found = set()
    for node in ast.walk(tree_of(PATHS[module])):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("experiments.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = re.sub(r"^experiments(\.|$)", "", node.module)
            inside = {f"{source}.{alias.name}".lstrip(".") for alias in node.names}
            found |= inside & PATHS.keys() or {source}
    return found


def unit_of(module):
    return module.partition(".")[0]


def test_all_modules_are_in_nine_folders_and_their_number_and_length_is_limited():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert len(folders) == 9
    assert {unit_of(module) for module in PATHS} == {unit for layer in LAYERS for unit in layer}
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]
    sources = [*ROOT.glob("*.py"), *PACKAGE.rglob("*.py")]
    assert len(PATHS) <= 65
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in sources) <= 12_620
    assert len(LAYERS) <= 12


@pytest.mark.parametrize("module", PATHS)
def test_a_module_imports_from_lower_layers_and_its_own_folder_only(module):
    own = next(i for i, layer in enumerate(LAYERS) if unit_of(module) in layer)
    allowed = BOOK.get(module) or {unit for layer in LAYERS[own + 1 :] for unit in layer}
    allowed |= {unit_of(module)} if "." in module else set()
    assert not {unit_of(source) for source in imports_of(module) & PATHS.keys()} - allowed


@cache
def names_used_in(path):
    nodes = list(ast.walk(tree_of(path)))
    imported = {alias.name for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
    return imported | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("module", [module for module in PATHS if module not in SCRIPTS])
def test_a_function_that_no_other_file_uses_starts_with_an_underscore(module):
    others = {*PATHS.values(), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("tests/*.py")}
    used = set().union(*map(names_used_in, others - {PATHS[module]}))
    names = {n.name for n in tree_of(PATHS[module]).body if isinstance(n, ast.FunctionDef)}
    exceptions = {"flag", "option"}  # declarations
    assert not {name for name in names if not name.startswith("_")} - used - exceptions


@pytest.mark.process
@pytest.mark.parametrize("flags", [["--help"], ["--no_such_flag"]])
@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_wrong_flags_load_no_heavy_package(script, flags, tmp_path):
    command = [sys.executable, "-X", "importtime", ROOT / f"{script}.py", *flags]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == (0 if flags == ["--help"] else 2)
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & HEAVY
