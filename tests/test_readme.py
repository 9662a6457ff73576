"""Commands, links and tables of the documentation agree with the code and the records.

PYTHONPATH=. python tests/test_readme.py     # updates the tables
"""

import importlib.util
import re
import shlex
import subprocess
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkpoints import write_checkpoint
from runs import SMALL, use_demo_data
from three_classes import write_three_classes

import classify
import compare_experiments
from experiments.comparison import groups, summaries, tables
from experiments.comparison.pairs import QUESTIONS
from experiments.config import parsing
from experiments.config.rows import DATA_SHA256, LONGEST_EXAMPLE, ROWS
from experiments.data.sms_spam import demo_tokenizer
from experiments.runs.records import read_run, read_runs
from experiments.runs.results import describe_result
from experiments.training import memory

ROOT = Path(__file__).parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [
    README, *sorted(DOCS.glob("*.md")), ROOT / "tests" / "golden_trajectories.md",
    ROOT / "benchmarks" / "coverage.md",
]  # fmt: skip
PARSERS = {
    "additional_experiments.py": parsing,
    "compare_experiments.py": compare_experiments,
    "classify.py": classify,
}
(RECORD,) = DOCS.glob("records/row_10_seed_123_*.json")
GIB = 2**30
DISTINCT_MESSAGES, THEIR_TOKENS = 1388, 41_358  # of the published data


def read(page):
    return page.read_text(encoding="utf-8")


def result():
    """What row 10 prints at its end, from the record of its first seed."""
    run, corpus = read_run(RECORD), SimpleNamespace(digest=DATA_SHA256)
    found = SimpleNamespace(correct=run.correct, peak_memory_mib=run.peak_memory_mib, corpus=corpus)
    lines = describe_result(found, parsing.parse_args(["--row", "10"])).splitlines()
    return "\n    ".join(["    $ python additional_experiments.py --row 10", *lines])


def markdown(*rows):
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def rows_table():
    questions = {1: "The design of the chapter: the last block, the last token"} | QUESTIONS
    lines = [
        (n, row.flags and f"`{row.flags}`", f"{row.test_accuracy:.2f}", questions[n])
        for n, row in ROWS.items()
    ]
    return markdown(("row", "flags", "test, %", "question"), *lines)


def published_table():
    lines = [(n, *(f"{x:.2f}" for x in row[1:5])) for n, row in ROWS.items()]
    return markdown(("row", "training", "validation", "test", "minutes"), *lines)


def flags_table(script):
    """The flags of a script, with the help of its parser."""
    lines = [
        (f"`{action.option_strings[0]}{value and ' ' + value}`", action.help.replace("%%", "%"))
        for action in PARSERS[script].build_parser()._actions
        if action.option_strings and action.dest != "help"
        for value in ["" if action.nargs == 0 else action.metavar or "/".join(action.choices)]
    ]
    return markdown(("flag", "effect"), *lines)


def records_table():
    runs, problems = read_runs(DOCS / "records")
    assert not problems
    found = summaries.summarise(groups.group_runs(runs), margin=0.02)
    return tables.markdown(tables.summary_rows(found))


def benchmark_table(name, folder=".", other=None):
    """The table of a benchmark's records, except the rows that another folder has."""
    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "benchmarks" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    others = module.load_records(module.RECORDS / other) if other else []
    known = [(record["row"], record["precision"]) for record in others]
    records = module.load_records(module.RECORDS / folder)
    return module.table([r for r in records if (r["row"], r.get("precision")) not in known])


def estimates():
    """How far estimates are from measured peaks."""
    lines = benchmark_table("memory.py").splitlines()[2:]
    differences = [int(line.strip("| ").rpartition(" ")[2].rstrip("%")) for line in lines]
    return f"{len(lines)} runs: {min(differences):+d} % to {max(differences):+d} %."


def memory_table():
    """The rows by the smallest machine on which a tenth of the memory stays free."""
    machines = {size: {} for size in (8, 16, 24, 40, 80)}  # GB
    for row in ROWS:
        peaks = {size: estimate_row(row, size * GIB).peak / GIB for size in machines}
        size = next(size for size, peak in peaks.items() if peak <= 0.9 * size)
        machines[size][row] = peaks[size]
    lines = [
        (f"{size} GB", ", ".join(map(str, peaks)), " to ".join(f"{p:.1f}" for p in sorted(ends)))
        for size, peaks in machines.items()
        if peaks
        for ends in [{min(peaks.values()), max(peaks.values())}]
    ]
    return markdown(("machine", "rows", "estimated peaks, GiB"), *lines)


def estimate_row(row, size):
    settings = parsing.parse_args(["--row", str(row), "--weights", "random", "--device", "cpu"])
    needed, data = settings.design.needed_tokens(settings.data.no_padding), settings.data
    length = 1024 if data.context_length == "model_context_length" else LONGEST_EXAMPLE
    tokens = {"first": DISTINCT_MESSAGES, "real": THEIR_TOKENS, "all": DISTINCT_MESSAGES * length}
    length = 1 if needed == "first" else length
    examples = memory.Examples(length, tokens[needed], 2)
    return memory.estimate_memory(settings, examples, memory.Hardware(size, size))


TABLES = {
    README: {"result": result, "rows": rows_table},
    DOCS / "experiments.md": {"published": published_table, "records": records_table},
    DOCS / "usage.md": {
        "flags": partial(flags_table, "additional_experiments.py"),
        "comparison": partial(flags_table, "compare_experiments.py"),
        "classify": partial(flags_table, "classify.py"),
    },
    DOCS / "custom_data.md": {"classifying": partial(benchmark_table, "classifying.py")},
    DOCS / "performance.md": {
        "amd_epyc": partial(benchmark_table, "shortcuts.py", "amd_epyc"),
        "intel_xeon": partial(benchmark_table, "shortcuts.py", "intel_xeon", "amd_epyc"),
        "peers": partial(benchmark_table, "peers.py"),
        "memory": memory_table,
        "estimates": estimates,
    },
}


def with_tables(page):
    """The text of a page with its tables made again; each ends at an empty line."""
    text = read(page)
    for name, make in TABLES[page].items():
        marker = f"<!-- {name}: made by tests/test_readme.py -->\n"
        assert text.count(marker) == 1, f"{page.name} needs one marker for {name}"
        text = re.sub(rf"(?<={marker})(.+\n)*", lambda _, make=make: f"{make()}\n", text)
    return text


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_those_of_the_code_and_the_records(page):
    assert read(page) == with_tables(page)


def blocks(page):
    """The fenced blocks of shell commands of a page."""
    return re.findall(r"^```bash\n(.*?)^```", read(page), flags=re.DOTALL | re.MULTILINE)


def commands(page, folders=r"(?<![/\w])"):
    """The words of each command that runs a script of some folders, from its name on."""
    pattern = re.compile(rf"(?:python|torchrun) [^|]*?((?:{folders})\w+\.py(?: [^|&>]*)?)")
    inline = re.findall(r"`(python [^`]*)`", re.sub("(?ms)^```.*?^```", "", read(page)))
    lines = [*"".join(blocks(page)).splitlines(), *(" ".join(code.split()) for code in inline)]
    return [shlex.split(m[1], comments=True) for m in map(pattern.search, lines) if m]


def params(*folders):
    return [
        pytest.param(words, id=f"{page.stem}: {' '.join(words)}")
        for page in PAGES
        for words in commands(page, *folders)
    ]


@pytest.mark.parametrize("words", params())
def test_the_flags_of_a_command_are_accepted(words, tmp_path, monkeypatch, miniature):
    script, *flags = words
    monkeypatch.chdir(tmp_path)
    Path("tiny.safetensors").symlink_to(miniature)
    for name in re.findall(r"questions\w*\.\w+", " ".join(flags)):
        Path(name).touch()
    if "shard" in flags:  # which needs several processes
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
        monkeypatch.setenv("WORLD_SIZE", "2")
    flags = ["1" if word in ("{}", "$SLURM_ARRAY_TASK_ID") else word for word in flags]
    PARSERS[script].parse_args(flags)


@pytest.mark.parametrize("words", params("benchmarks/|tests/"))
def test_the_flags_of_a_benchmark_are_its_own_or_those_of_a_run(words):
    script, *flags = words
    known = read(ROOT / script) + parsing.build_parser().format_help()
    assert not [word for word in flags if word.startswith("--") and word.split("=")[0] not in known]


def test_the_first_two_blocks_are_one_line_each_and_ci_runs_the_second():
    demo, tests, *_ = blocks(README)
    assert demo.endswith(" && python additional_experiments.py --demo\n")
    assert tests.endswith((" && pytest\n", " && pytest -n 2\n"))
    assert demo.count("\n") == tests.count("\n") == 1
    program = re.search(r"awk '(.*?)' README.md", read(ROOT / ".ci" / "run"))[1]
    assert subprocess.check_output(["awk", program, README], text=True) == tests


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, DOCS / "custom_data.md"], ids=lambda page: page.stem)
def test_the_commands_for_custom_data_run(page, tmp_path, monkeypatch, capsys):
    use_demo_data(monkeypatch)
    monkeypatch.setattr("gpt_download.load_gpt2_tokenizer", demo_tokenizer)
    monkeypatch.chdir(tmp_path)
    small = write_checkpoint(tmp_path / "small.safetensors", SMALL)
    write_three_classes(tmp_path)
    of_page = commands(page)
    start = next(i for i, words in enumerate(of_page) if "questions.csv" in words)
    for script, *flags in of_page[start:]:
        if "questions" in str(flags) or {"--metrics", "--effects"} & set(flags):
            first = ["--weights", str(small)] if script == "additional_experiments.py" else []
            fewer = ["3" if word == "5" else word for word in flags]  # seeds
            import_module(script[:-3]).main(first + fewer)
    printed = capsys.readouterr().out
    assert re.search(r"^(row 16 |learning_rate .*matters: )", printed, flags=re.MULTILINE)
    assert "label\tP(order)\tP(other)\tP(return)\ttext\n" in printed
    assert "I would like to order two lamps\n" in printed
    has_figures = (tmp_path / "figures" / "calibration.png").is_file()
    assert has_figures == (page != README)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_an_existing_file_and_heading(page):
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", read(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        titles = re.findall(r"^#+ (.*)$", read(target), flags=re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles]
        assert not anchor or anchor in anchors, link


def test_the_readme_is_short_and_links_to_every_page_and_every_picture_is_shown():
    assert len(read(README).splitlines()) <= 130
    linked = set(re.findall(r"\]\((docs/\w+\.md)", read(README)))
    assert linked == {f"docs/{page.name}" for page in DOCS.glob("*.md")}
    assert all(path.name in "".join(map(read, PAGES)) for path in DOCS.glob("*.png"))


if __name__ == "__main__":
    for page in TABLES:
        page.write_text(with_tables(page), encoding="utf-8")
