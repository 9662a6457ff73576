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
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "experiments"
SKIPPED = "-m 'not slow and not process and not by_hand and not cuda'"
SLOW = (
    "torch", "torch._dynamo", "pandas", "scipy.stats", "matplotlib.pyplot", "tqdm.auto", "tiktoken",
    "requests", "hypothesis.strategies", "sklearn.metrics",
)  # fmt: skip

TESTS = {  # of each module: the tests that detect its faults, the most likely first
    "comparison/statistics.py": ("statistics.py", "evidence.py", "summaries.py", "pairs.py"),
    "comparison/evidence.py": ("evidence.py", "statistics.py", "pairs.py", "tables.py"),
    "comparison/groups.py": ("groups.py", "summaries.py", "pairs.py", "compare_experiments.py"),
    "runs/records.py": ("records.py", "groups.py", "compare_experiments.py"),
    "runs/results.py": ("runs.py", "results.py", "custom_runs.py"),
    "runs/fingerprint.py": ("fingerprint.py", "runs.py"),
    "data/splitting.py": ("splitting.py", "custom.py"),
    "shortcuts/layers.py": ("layers.py", "shortcuts.py", "prefix.py"),
    "shortcuts/model.py": ("layers.py", "shortcuts.py", "prefix.py"),
    "shortcuts/prefix.py": ("prefix.py", "shortcuts.py", "layers.py", "runs.py"),
    "shortcuts/storage.py": ("storage.py", "prefix.py", "runs.py"),
    "checkpoints/config.py": ("checkpoints_config.py", "checkpoints_header.py"),
    "checkpoints/files.py": ("checkpoints_files.py", "checkpoints_header.py"),
    "checkpoints/header.py": (
        "checkpoints_header.py",
        "checkpoints_files.py",
        "checkpoints_weights.py",
    ),
    "checkpoints/weights.py": ("checkpoints_weights.py", "checkpoints_header.py"),
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
UNTOUCHED = ("annotation", "returns", "decorator_list")  # fields of nodes


class Mutant(NamedTuple):
    """A module with one fault."""

    module: str
    line: int
    change: str  # within which function, before and after
    source: str


class Place(NamedTuple):
    """Where a node stands: `holder[key]` is it."""

    holder: Any  # the fields of the parent, or a list among them
    key: Any
    parent: ast.AST
    function: ast.FunctionDef | None


def mutants_of(module: str) -> Iterator[Mutant]:
    """Yields every mutant of a module."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    for place in places_in(tree):
        node = place.holder[place.key]
        where = f"{module} {place.function.name if place.function else ''}"
        for other in others_of(node, place):
            before = first_line(node if isinstance(node, ast.stmt) else place.parent)
            place.holder[place.key] = other
            after = first_line(other if isinstance(node, ast.stmt) else place.parent)
            line = getattr(node, "lineno", getattr(place.parent, "lineno", 0))
            change = " -> ".join(shortened(before, after))
            yield Mutant(module, line, f"{where}: {change}", ast.unparse(tree))
            place.holder[place.key] = node


def without_fault(module: str) -> Mutant:
    """Returns the module as it stands, which must survive."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    return Mutant(module, 0, "", ast.unparse(tree))


def first_line(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(node)).partition("\n")[0]


def shortened(before: str, after: str) -> tuple[str, str]:
    """Returns two texts from shortly before to shortly after where they differ."""
    start = alike(before, after)
    end = alike(before[start:][::-1], after[start:][::-1])
    start, end = max(start - 20, 0), max(end - 20, 0)
    return before[start : len(before) - end], after[start : len(after) - end]


def alike(one: str, other: str) -> int:
    """Returns how many characters of two texts, from the first on, are the same."""
    return sum(1 for _ in takewhile(bool, map(str.__eq__, one, other)))


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
    if type(node) in SWAPPED:
        yield SWAPPED[type(node)]()
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from other_constants(node.value, place)
    elif isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
        is_bool = place.function.returns and ast.unparse(place.function.returns) == "bool"
        yield ast.Return(negated(node.value) if is_bool else ast.Constant(None))
    elif isinstance(node, REMOVED) and not is_docstring(node):
        yield ast.Pass()
    if isinstance(node, ast.If | ast.IfExp) and isinstance(node.test, ast.Name | ast.Call):
        yield changed(node, test=negated(node.test))
    yield from shorter(node, place)


def other_constants(value: Any, place: Place) -> Iterator[ast.Constant]:
    is_key = isinstance(place.parent, ast.Dict | ast.Subscript)
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and is_key and makes_digest(place.function):
        yield ast.Constant(f"other {value}")


def shorter(node: ast.AST, place: Place) -> Iterator[ast.AST]:
    """Yields a call, a list, a condition or what a digest is made of with one part left out."""
    if isinstance(node, ast.Call):
        if len(node.args) > 1:
            yield changed(node, args=node.args[:-1])  # another lacks one that has no default
        yield from (changed(node, keywords=some) for some in all_but_one(node.keywords))
    elif isinstance(node, ast.comprehension):
        yield from (changed(node, ifs=some) for some in all_but_one(node.ifs))
    elif isinstance(node, ast.List | ast.Tuple):
        if isinstance(node.ctx, ast.Load) and not isinstance(place.parent, ast.Assign):
            yield from (changed(node, elts=some) for some in all_but_one(node.elts))
    elif isinstance(node, ast.Dict):
        for some in all_but_one(list(zip(node.keys, node.values, strict=True))):
            yield ast.Dict([key for key, _ in some], [value for _, value in some])
    elif isinstance(node, ast.JoinedStr) and makes_digest(place.function):
        for some in all_but_one(node.values):
            yield ast.JoinedStr(some)


def all_but_one(items: list[Any]) -> Iterator[list[Any]]:
    return (items[:i] + items[i + 1 :] for i in range(len(items)))


def makes_digest(function: ast.FunctionDef | None) -> bool:
    return function is not None and "sha256" in ast.unparse(function)


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def negated(node: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), node)


def changed(node: ast.AST, **fields: Any) -> ast.AST:
    return type(node)(**(dict(ast.iter_fields(node)) | fields))


# ----------------------------------------------------------------------------------- what survives


def judge(task: tuple[Mutant, Path, float]) -> tuple[bool, float]:
    """Returns whether a mutant survives its tests, and the seconds that they took.

    Args:
        task: the mutant, a folder for copies of the working tree, and the seconds it may take.
    """
    mutant, folder, limit = task
    tree = folder / str(os.getpid())  # one for each process
    if not tree.exists():
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".venv", "__pycache__", "*cache"))
    path = tree / "experiments" / mutant.module
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.source, encoding="utf-8")
    started = time.perf_counter()
    survives = all(passes(tree, test, limit) for test in TESTS[mutant.module])
    path.write_text(original, encoding="utf-8")
    return survives, time.perf_counter() - started


def passes(tree: Path, test: str, limit: float) -> bool:
    """Says whether a test file passes in a process of its own, before the time is over."""
    if (child := os.fork()) == 0:
        run_tests(tree, test, limit)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests have started
    return status == 0


def run_tests(tree: Path, test: str, limit: float) -> NoReturn:
    """Ends this process with the status of pytest, or by a signal when the time is over."""
    status = 1
    try:
        os.setsid()
        signal.setitimer(signal.ITIMER_REAL, limit)
        os.chdir(tree)
        sys.path[0] = str(tree)
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={tree}.tmp",
            "-o",
            f"addopts={SKIPPED}",
        ]
        status = int(pytest.main([*options, *shlex.split(f"tests/test_{test}")]))
    finally:
        os._exit(status)


def judge_all(modules: list[str], mutants: list[Mutant], processes: int) -> list[Mutant]:
    """Returns the survivors, each printed when it is found.

    Raises:
        SystemExit: when the tests of a module fail without a fault.
    """
    for package in SLOW:
        importlib.import_module(package)
    gc.freeze()  # what is imported here is no garbage of any test
    survivors = []
    with (
        tempfile.TemporaryDirectory() as name,
        multiprocessing.get_context("fork").Pool(processes) as pool,
    ):
        folder, limits = Path(name), {}
        for module in modules:
            survives, seconds = pool.apply(judge, [(without_fault(module), folder, 600)])
            if not survives:
                sys.exit(f"the tests of {module} fail without a fault")
            limits[module] = 10 + 3 * seconds
        tasks = [(mutant, folder, limits[mutant.module]) for mutant in mutants]
        for mutant, (survives, _) in zip(mutants, pool.imap(judge, tasks), strict=True):
            if survives:
                survivors.append(mutant)
                print(f"line {mutant.line}: {mutant.change}", flush=True)
    return survivors


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("modules", nargs="*", help="within experiments/, all by default")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.modules) - TESTS.keys()):
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(TESTS)}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Judges the mutants that the flags describe; ends with status 1 when one survives."""
    args = parse_args(argv)
    modules = args.modules or list(TESTS)
    found = [mutant for module in modules for mutant in mutants_of(module)]
    mutants = found
    if args.sample:
        mutants = random.Random(args.seed).sample(found, min(args.sample, len(found)))
    started = time.perf_counter()
    survivors = judge_all(modules, mutants, args.processes)
    print(
        f"{len(mutants)} mutants, {len(survivors)} survived; {time.perf_counter() - started:.0f} s"
    )
    sys.exit(bool(survivors))


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # its stamps are whole seconds and sizes, which mutants share
    os.environ |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # plugins would be imported by every mutant
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    main()
