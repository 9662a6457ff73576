"""Seed one fault after the other, and print those that no quick test detects. Not a test itself.

    nice python tests/mutate.py                                # every module, about an hour
    nice python tests/mutate.py runs/records.py shortcuts/storage.py --sample 50 --seed 1

Each mutant is written into a copy of the working tree, never into the tree, and is tested in a
process of its own, forked after the slow packages are imported. Run it by hand after changes to
statistics, records, data splitting, shortcuts or checkpoints.
"""

import argparse
import ast
import gc
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "experiments"
SLOW = (
    "torch", "torch._dynamo", "pandas", "scipy.stats", "matplotlib.pyplot", "tqdm.auto", "tiktoken",
    "requests", "hypothesis.strategies", "sklearn.metrics",
)  # fmt: skip

TESTS = {  # of each module: the tests that detect its faults, the most likely first
    "comparison/statistics.py": "statistics evidence notes sentences",
    "comparison/power.py": "power sentences evidence",
    "comparison/evidence.py": "evidence sentences pairs tables",
    "comparison/groups.py": "groups tables pairs compare_experiments",
    "runs/records.py": "records groups compare_experiments",
    "runs/results.py": "runs results custom_runs",
    "runs/fingerprint.py": "fingerprint runs",
    "data/splitting.py": "splitting corpus",
    "shortcuts/layers.py": "layers shortcuts prefix",
    "shortcuts/model.py": "layers shortcuts prefix",
    "shortcuts/prefix.py": "prefix shortcuts layers runs",
    "shortcuts/storage.py": "storage prefix runs",
    "checkpoints/files.py": "checkpoints_files checkpoints_config checkpoints_header",
    "checkpoints/header.py": "checkpoints_header checkpoints_files checkpoints_weights",
    "checkpoints/weights.py": "checkpoints_weights checkpoints_header",
}

# --------------------------------------------------------------------------------- what is mutated

SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
REMOVED = (ast.Expr, ast.AugAssign, ast.Raise, ast.If, ast.For, ast.Continue, ast.Break)
SHORTENED = {  # the field of a node whose list is tried with one part left out
    ast.Call: "keywords", ast.comprehension: "ifs", ast.List: "elts", ast.Tuple: "elts",
    ast.JoinedStr: "values",
}  # fmt: skip
UNTOUCHED = ("annotation", "returns", "decorator_list")  # fields of nodes


class Mutant(NamedTuple):
    """A module with one fault, or with none."""

    module: str
    source: str
    change: str = ""  # line, function, before and after


class Place(NamedTuple):
    """Where a node stands: `holder[key]` is it."""

    holder: Any  # the fields of the parent, or a list among them
    key: Any
    parent: ast.AST
    function: ast.FunctionDef | None

    @property
    def makes_digest(self) -> bool:
        return self.function is not None and "sha256" in ast.unparse(self.function)


def tree_of(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def mutants_of(module: str) -> Iterator[Mutant]:
    """Yields every mutant of a module."""
    tree = tree_of(module)
    for place in places_in(tree):
        node = place.holder[place.key]
        line = getattr(node, "lineno", getattr(place.parent, "lineno", 0))
        where = f"{module}:{line} {place.function.name if place.function else ''}"
        for other in (*others_of(node, place), *variants_of(node, place)):
            before = first_line(node, place)
            place.holder[place.key] = other
            change = f"{where}\n    {before}\n    {first_line(other, place)}"
            yield Mutant(module, ast.unparse(tree), change)
            place.holder[place.key] = node


def first_line(node: ast.AST, place: Place) -> str:
    shown = node if isinstance(node, ast.stmt) else place.parent
    return ast.unparse(ast.fix_missing_locations(shown)).partition("\n")[0]


def places_in(node: ast.AST, function: ast.FunctionDef | None = None) -> Iterator[Place]:
    """Yields the places of all nodes below one, but for types and other decorations."""
    function = node if isinstance(node, ast.FunctionDef) else function
    if isinstance(node, ast.Subscript) and function is None:  # the name of a type
        return
    for field, value in ast.iter_fields(node):
        is_list = isinstance(value, list)
        holder = value if is_list else vars(node)
        for key, child in list(enumerate(value)) if is_list else [(field, value)]:
            if isinstance(child, ast.AST) and field not in UNTOUCHED:
                yield Place(holder, key, node, function)
                yield from places_in(child, function)


def others_of(node: ast.AST, place: Place) -> Iterator[ast.AST]:
    """Yields what may stand in place of a node."""
    match node:
        case ast.UnaryOp():
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.Constant(value=str()):
            if isinstance(place.parent, ast.Dict | ast.Subscript) and place.makes_digest:
                yield ast.Constant(f"other {node.value}")
        case ast.Return(value=ast.AST()) if ast.unparse(node.value) != "None":
            returns = place.function.returns
            is_bool = returns and ast.unparse(returns) == "bool"
            yield ast.Return(ast.UnaryOp(ast.Not(), node.value) if is_bool else ast.Constant(None))
        case ast.Expr(value=ast.Constant()):  # a docstring
            pass
        case _ if type(node) in SWAPPED:
            yield SWAPPED[type(node)]()
        case _ if isinstance(node, REMOVED):
            yield ast.Pass()


def variants_of(node: ast.AST, place: Place) -> Iterator[ast.AST]:
    """Yields a node with its condition negated, or without one of its parts."""
    if isinstance(node, ast.If | ast.IfExp) and isinstance(node.test, ast.Name | ast.Call):
        yield changed(node, test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Call) and len(node.args) > 1:
        yield changed(node, args=node.args[:-1])  # another lacks one that has no default
    if isinstance(node, ast.Dict):
        for i in range(len(node.keys)):
            yield ast.Dict(without(node.keys, i), without(node.values, i))
    is_target = not isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
    is_target |= isinstance(node, ast.List | ast.Tuple) and isinstance(place.parent, ast.Assign)
    if is_target or (isinstance(node, ast.JoinedStr) and not place.makes_digest):
        return
    if field := SHORTENED.get(type(node)):
        parts = getattr(node, field)
        for i in range(len(parts)):
            yield changed(node, **{field: without(parts, i)})


def without(items: list[Any], i: int) -> list[Any]:
    return items[:i] + items[i + 1 :]


def changed(node: ast.AST, **fields: Any) -> ast.AST:
    return type(node)(**(dict(ast.iter_fields(node)) | fields))


# ----------------------------------------------------------------------------------- what survives


def survives(mutant: Mutant, tree: Path, limit: float) -> bool:
    """Returns whether the tests of a module pass on a mutant in a copy of the working tree."""
    path = tree / "experiments" / mutant.module
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.source, encoding="utf-8")
    if (child := os.fork()) == 0:
        run_tests(tree, mutant.module, limit)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests have started
    path.write_text(original, encoding="utf-8")
    return status == 0


def run_tests(tree: Path, module: str, limit: float) -> NoReturn:
    """Ends this process with the status of pytest, or by a signal after so many seconds."""
    status = 1
    try:
        os.setsid()
        signal.setitimer(signal.ITIMER_REAL, limit)
        os.chdir(tree)
        sys.path[0] = str(tree)
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        tests = [f"tests/test_{name}.py" for name in TESTS[module].split()]
        status = pytest.main(["-xq", "-p", "no:cacheprovider", f"--basetemp={tree}.tmp", *tests])
    finally:
        os._exit(int(status))


def survivors_among(mutants: list[Mutant]) -> Iterator[Mutant]:
    """Yields each mutant that its tests do not detect, as soon as that is known.

    Raises:
        SystemExit: when the tests of a module fail without a fault.
    """
    for package in SLOW:
        importlib.import_module(package)
    gc.freeze()  # what is imported here is no garbage of any test
    with tempfile.TemporaryDirectory() as name:
        tree, limits = Path(name, "tree"), {}
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".venv", "__pycache__", "*cache"))
        for module in dict.fromkeys(mutant.module for mutant in mutants):
            started = time.perf_counter()
            if not survives(Mutant(module, ast.unparse(tree_of(module))), tree, 600):
                sys.exit(f"the tests of {module} fail without a fault")
            limits[module] = 10 + 3 * (time.perf_counter() - started)
        yield from (m for m in mutants if survives(m, tree, limits[m.module]))


def main() -> None:
    """Judges the mutants that the flags describe; ends with status 1 when one survives."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("modules", nargs="*", help="within experiments/, all by default")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    args = parser.parse_args()
    if unknown := sorted(set(args.modules) - TESTS.keys()):
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(TESTS)}")
    mutants = [mutant for module in args.modules or TESTS for mutant in mutants_of(module)]
    if args.sample:
        mutants = random.Random(args.seed).sample(mutants, min(args.sample, len(mutants)))
    started, survived = time.perf_counter(), 0
    for mutant in survivors_among(mutants):
        survived += 1
        print(mutant.change, flush=True)
    print(f"{len(mutants)} mutants, {survived} survived; {time.perf_counter() - started:.0f} s")
    sys.exit(bool(survived))


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # its stamps are whole seconds and sizes, which mutants share
    os.environ |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # plugins would be imported by every mutant
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    main()
