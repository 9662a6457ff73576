"""What the documentation says is what the code and the records say.

PYTHONPATH=. python tests/test_readme.py     # writes its tables and docs/faults.md again
"""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import subprocess
from functools import partial
from pathlib import Path

import pytest
from faults import faults_table

import compare_experiments
from experiments.comparison import flags as comparison_flags
from experiments.comparison.groups import group_records
from experiments.comparison.summaries import summarise
from experiments.config.flags import parse_args, parse_rows
from experiments.config.parser import build_parser
from experiments.config.rows import ROWS, SIZES, published_count
from experiments.runs.records import read_records
from experiments.training.memory_estimate import Need
from experiments.training.memory_workload import Place, known_messages

ROOT = Path(__file__).parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs"
FAULTS, RECORDS = DOCS / "faults.md", DOCS / "records"
PAGES = [README, *sorted(DOCS.glob("*.md")), ROOT / "tests" / "golden_trajectories.md"]
TRAJECTORIES = (1, 2, 3, 4, 5, 10, 11, 13, 14, 15, 16, 17, 18, 19)  # as in test_golden.py
MOST_LINES = 200  # of the README, which is for strangers


def read(path):
    return path.read_text(encoding="utf-8")


def words(path):
    """A page's text with its lines joined, so that a sentence is found wherever it breaks."""
    return " ".join(read(path).split())


# ---------------------------------------------------------------------------------------- tables


def published_table():
    lines = [
        "| row | command: `python additional_experiments.py` … | training | validation | test "
        "| A100, minutes | measured here |",
        "| ---: | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for number, row in ROWS.items():
        measured = "trajectory" if number in TRAJECTORIES else "smoke run"
        if number == 10:
            measured += ", full size"
        flags = f"`{row.flags}`" if row.flags else "(no flags)"
        lines.append(
            f"| {number} | {flags} | {row.train_accuracy:.2f} | {row.validation_accuracy:.2f} "
            f"| {row.test_accuracy:.2f} | {row.train_minutes:.2f} | {measured} |"
        )
    return "\n".join(lines) + "\n"


def load_benchmark(name):
    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "benchmarks" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def benchmark_table(name, folder="."):
    """The table of a benchmark's records."""
    module = load_benchmark(name)
    return module.table(module.load_records(module.RECORDS / folder)) + "\n"


def growth_table():
    module = load_benchmark("growth.py")
    return module.table(json.loads(read(module.RECORD))) + "\n"


MEMORIES = (8, 16, 24, 40, 80)  # GB
GIB = 2**30
FREE = 0.9  # of a machine's memory; the system has the rest


def needs(row, memory):
    """What a row needs on a machine of so many GB."""
    settings = parse_args(["--row", str(row), "--weights", "random", "--device", "cpu"])
    messages = known_messages(settings.reading, settings.network.config["context_length"])
    place = Place(total=memory * GIB)
    return Need(settings.network, settings.training, settings.machine, messages, place)


def fits(row, memory):
    return needs(row, memory).peak <= FREE * memory * GIB


def smallest_memory(row):
    return next(memory for memory in MEMORIES if fits(row, memory))


def memory_table():
    sizes = " | ".join(f"{memory} GB" for memory in MEMORIES)
    lines = [
        "| row | weights | gradients | optimiser | activations | hidden states | at the peak, GiB "
        f"| {sizes} |",
        "| ---: " * 7 + "| :---: " * len(MEMORIES) + "|",
    ]
    for row in ROWS:
        need = needs(row, smallest_memory(row))
        parts = (need.weights, need.gradients, need.optimiser, need.activations, need.hidden_states)
        cells = " | ".join(f"{part / GIB:.2f}" for part in (*parts, need.peak))
        yes = " | ".join("yes" if fits(row, memory) else "" for memory in MEMORIES)
        lines.append(f"| {row} | {cells} | {yes} |")
    return "\n".join(lines) + "\n"


def spans(rows):
    """Numbers in words: 1 to 7, 10, 11."""
    words = []
    for row in rows:
        if words and row == words[-1][1] + 1:
            words[-1][1] = row
        else:
            words.append([row, row])
    return ", ".join(
        f"{a} to {b}" if b > a + 1 else f"{a}, {b}" if b > a else f"{a}" for a, b in words
    )


def short_memory_table():
    lines = ["| a machine with | fits rows | which need, GiB |", "| ---: | --- | --- |"]
    for memory in MEMORIES:
        if rows := [row for row in ROWS if smallest_memory(row) == memory]:
            peaks = sorted(needs(row, memory).peak / GIB for row in rows)
            span = f"{peaks[0]:.1f}" + (f" to {peaks[-1]:.1f}" if len(rows) > 1 else "")
            lines.append(f"| {memory} GB | {spans(rows)} | {span} |")
    return "\n".join(lines) + "\n"


def records_table():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        compare_experiments.main(["--results", str(RECORDS)])
    return printed.getvalue()


MADE_BY = "made by PYTHONPATH=. python tests/test_readme.py from"
PRINTED_BY = "printed by python compare_experiments.py --results docs/records"
TABLES = {  # by page: the comment before each table, and what makes it
    README: {
        f"<!-- table: {MADE_BY} the published rows -->\n": published_table,
        f"<!-- memory: {MADE_BY} experiments/memory -->\n": short_memory_table,
    },
    DOCS / "measured.md": {f"<!-- records: {PRINTED_BY} -->\n": records_table},
    DOCS / "speed.md": {
        **{
            f"<!-- benchmark: {MADE_BY} benchmarks/records/{machine} -->\n": partial(
                benchmark_table, "shortcuts.py", machine
            )
            for machine in ("amd_epyc", "intel_xeon")
        },
        f"<!-- benchmark: {MADE_BY} benchmarks/peers -->\n": partial(benchmark_table, "peers.py"),
        f"<!-- benchmark: {MADE_BY} benchmarks/growth.json -->\n": growth_table,
    },
    DOCS / "own_data.md": {
        f"<!-- benchmark: {MADE_BY} benchmarks/classifying -->\n": partial(
            benchmark_table, "classifying.py"
        )
    },
    DOCS / "memory.md": {
        f"<!-- rows: {MADE_BY} experiments/memory -->\n": memory_table,
        f"<!-- benchmark: {MADE_BY} benchmarks/memory -->\n": partial(benchmark_table, "memory.py"),
    },
}


def replace_tables(text, tables):
    """The page with its tables made anew; each ends before the next comment."""
    for start, make in tables.items():
        before, rest = text.split(start)
        text = before + start + make() + rest[rest.index("<!--") :]
    return text


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_what_the_rows_and_the_records_make(page):
    assert read(page) == replace_tables(read(page), TABLES[page])


def test_the_rows_said_to_follow_their_trajectory_are_those_that_are_tested():
    from test_golden import GOLDEN

    assert tuple(int(row) for row in GOLDEN) == TRAJECTORIES


# --------------------------------------------------------------------------------------- figures


def test_what_is_said_of_row_10_is_what_its_records_hold():
    runs = group_records(read_records(RECORDS)[0])["row 10"]
    (s,) = summarise({"row 10": runs})
    published = published_count(s.published_percent, s.total) / s.total
    assert s.seeds == 3
    assert all(run["model"] == "gpt2-small (124M), random weights" for run in runs)
    within = "lies within" if s.lowest <= published <= s.highest else "lies outside"
    assert (
        f"the published {s.published_percent:.2f} {within} what three seeds found, "
        f"{100 * s.lowest:.2f} to {100 * s.highest:.2f}" in words(README)
    )
    for (split, published), in_words in zip(
        zip(SIZES, ROWS[10][1:4], strict=True), ("training", "validation", "test"), strict=True
    ):
        right, total = runs[0]["correct"][split]
        counts = f"{in_words} {right:,} of {total:,} ({published_count(published, total):,})"
        assert counts in words(DOCS / "measured.md")


def test_what_is_said_of_row_10_on_the_plain_path_is_what_the_run_printed():
    printed = read(DOCS / "row_10_full_size.txt")
    final = printed[printed.index("Training completed") :]
    minutes = re.search(r"in (\d+\.\d)\d minutes", final)[1]
    counts = [re.search(rf"{split} .*\(([\d,]+) of [\d,]+\)$", final, re.MULTILINE)[1] for split in
              ("Training", "Validation", "Test")]  # fmt: skip
    line = f"{counts[0]}, {counts[1]} and {counts[2]} in {minutes} minutes"
    assert line in words(DOCS / "measured.md")


def test_how_long_row_1_is_said_to_train_is_what_its_benchmark_found():
    folder = ROOT / "benchmarks" / "records" / "amd_epyc"
    record = json.loads(read(folder / "row_01_float32.json"))
    plain, fast = record["plain_seconds"][1], record["fast_seconds"][1]  # medians
    assert record["machine"] == "cpu, AMD EPYC, 2 threads"
    assert (
        f"trains in {fast:.0f} s on two cores of an AMD EPYC, and in {plain:,.0f} s without"
        in words(README)
    )


def test_what_is_said_of_other_tools_is_what_was_measured_beside_them():
    module = load_benchmark("peers.py")
    lines = module.table(module.load_records(module.RECORDS)).splitlines()[2:]
    ratios = [line.strip("| ").rpartition(" ")[2] for line in lines]
    assert (
        f"takes {ratios[0]} times as long for its steps, {ratios[1]} times for row 5's, and with "
        f"PEFT {ratios[2]} times for row 11's"
    ) in words(README)


def test_row_11_under_the_later_scaling_is_row_11_as_the_procedure_says():
    flags = "--row 11 --lora_alpha 256"
    assert f"`{flags}`, alpha times the rank, is row 11 again" in words(DOCS / "procedure.md")
    later = parse_args([*flags.split(), "--lora_scaling", "alpha_over_rank"]).network
    assert later.scaling == parse_args(["--row", "11"]).network.scaling


# ----------------------------------------------------------------------------- commands and links


def test_a_stranger_has_no_more_to_read_than_fits():
    assert len(read(README).splitlines()) <= MOST_LINES


def blocks(page):
    """The page's fenced blocks of shell commands."""
    return re.findall(r"^```bash\n(.*?)^```", read(page), flags=re.DOTALL | re.MULTILINE)


def test_the_first_two_blocks_are_one_line_each_that_sets_up_and_runs():
    demo, tests, *_ = blocks(README)
    for block, last in ((demo, "python additional_experiments.py --demo"), (tests, "pytest")):
        assert block.count("\n") == 1
        steps = block.strip().split(" && ")
        assert steps[:2] == ["python3 -m venv .venv", ". .venv/bin/activate"]
        assert steps[-1] == last


def test_ci_runs_the_test_command_of_the_readme_as_it_is():
    program = re.search(r"awk '(.*?)' README.md", read(ROOT / ".ci" / "run"))[1]
    command = ["awk", program, README]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == blocks(README)[1]


def commands(script):
    """The flags of each line that runs a script, up to what the shell does with its status."""
    runs = rf"python {script}\.py([^|&\n]*)"
    return [
        pytest.param(flags, id=f"{page.stem}:{flags.partition('#')[0].rstrip()}")
        for page in PAGES
        for flags in re.findall(runs, "".join(blocks(page)))
    ]


@pytest.mark.parametrize("flags", commands("additional_experiments"))
def test_every_command_of_the_documentation_parses(flags, tmp_path, monkeypatch, miniature):
    monkeypatch.chdir(tmp_path)
    Path("tiny.safetensors").symlink_to(miniature)  # as docs/comparison.md has it made
    flags = re.sub(r"\$row|\$SLURM_ARRAY_TASK_ID|{}", "1", flags)
    parse_rows(shlex.split(flags, comments=True))


@pytest.mark.parametrize("flags", commands("compare_experiments"))
def test_every_comparison_of_the_documentation_parses(flags):
    comparison_flags.parse_args(shlex.split(flags, comments=True))


def test_every_flag_is_in_the_readme_or_the_table():
    ordinary = {"--help", "-h", "--num_epochs", "--lora_rank", "--lora_alpha"}
    flags = {flag for action in build_parser()._actions for flag in action.option_strings}
    text = "".join(map(read, (README, DOCS / "own_data.md", DOCS / "memory.md")))
    assert not {flag for flag in flags - ordinary if flag not in text}


def headings(path):
    """The anchors that a page's headings have on the web."""
    titles = re.findall(r"^#+ (.*)$", read(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", read(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_the_readme_leads_to_every_page():
    linked = re.findall(r"\]\((docs/\w+\.md)\)", read(README))
    assert {README.parent / link for link in linked} == set(DOCS.glob("*.md"))


if __name__ == "__main__":
    for page, tables in TABLES.items():
        page.write_text(replace_tables(read(page), tables), encoding="utf-8")
    before, _, _ = read(FAULTS).partition("| fault |")
    FAULTS.write_text(before + faults_table(), encoding="utf-8")
