"""The scripts in a notebook: run by `%run` in a kernel of its own."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from records import make_record

from experiments.runs.records import write_record
from experiments.system.terminal import RESUMABLE

pytestmark = pytest.mark.process

FOLDER = Path(__file__).parents[1]
SCRIPT, COMPARISON = FOLDER / "additional_experiments.py", FOLDER / "compare_experiments.py"
INTERRUPT = f"""
import os, signal, sys, time
sys.path.insert(0, {str(FOLDER)!r})
from experiments.training import loop as training
training.evaluate_model = lambda *_: os.kill(os.getpid(), signal.SIGINT) or time.sleep(60)
"""  # as the notebook's button does, in the first step
SETTING = "import torch\ntorch.backends.mkldnn.matmul.fp32_precision = 'ieee'\n"
HANDLERS = "import signal, sys\n(*map(signal.getsignal, (2, 15)), id(sys.stdout), id(sys.stderr))"


class Notebook:
    def __init__(self, folder, cells):
        document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        resources = {"metadata": {"path": str(folder)}}
        options = {"kernel_name": "python3", "allow_errors": True, "timeout": 120}
        NotebookClient(document, resources=resources, **options).execute()
        self.cells, self.folder = document.cells, folder

    def written(self, cell, stream):
        outputs = self.cells[cell].outputs
        return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == stream)

    def errors(self, cell):
        outputs = self.cells[cell].outputs
        return [(o.ename, o.evalue) for o in outputs if o.output_type == "error"]

    def value(self, cell):
        return self.cells[cell].outputs[-1].data["text/plain"]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The demo twice, with a wrong flag between, then an interrupted demo and a comparison."""
    folder = tmp_path_factory.mktemp("notebook")
    demo = f"%run {SCRIPT} --demo --max_steps 1 --context_length 8"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(folder / name))  # not in the home folder
        write_record(folder / "results", make_record(1))
        cells = [SETTING + HANDLERS, demo, f"{demo} --lr 1", demo, INTERRUPT, demo, HANDLERS]
        figures = f"%run {COMPARISON} --plot figures"
        yield Notebook(folder, [*cells, figures, "torch.backends.mkldnn.matmul.fp32_precision"])


def test_the_demo_runs_in_a_notebook_and_once_more_in_the_same_kernel(notebook):
    first, second = (notebook.written(cell, "stdout") for cell in (1, 3))
    accuracy = re.search(r"^Test accuracy: .*%$", first, flags=re.MULTILINE)[0]
    assert accuracy in second
    assert notebook.errors(1) == notebook.errors(3) == []


def test_a_notebook_shows_progress_and_no_warning(notebook):
    written = notebook.written(1, "stderr")
    titles = ("Frozen prefix", "Training", "Final accuracies")
    assert all(f"\r{title}: " in written for title in titles)
    assert "arning" not in written


def test_a_wrong_flag_in_a_notebook_is_one_sentence_and_the_kernel_stays_alive(notebook):
    assert notebook.written(2, "stderr") == (
        "additional_experiments.py: error: unknown: --lr 1; did you mean --learning_rate?\n"
    )
    assert notebook.errors(2) == [("SystemExit", "2")]


def test_an_interrupted_cell_closes_its_bar_and_says_so(notebook):
    assert notebook.written(5, "stderr").endswith(f"\n{RESUMABLE}")
    assert notebook.errors(5) == [("SystemExit", "130")]


def test_signal_handlers_streams_and_product_precision_of_the_notebook_are_unchanged(notebook):
    assert notebook.value(0) == notebook.value(6)
    assert "default_int_handler" in notebook.value(6)
    assert notebook.value(8) == "'ieee'"


def test_figures_are_drawn_to_files_in_a_notebook(notebook):
    assert notebook.errors(7) == []
    assert notebook.written(7, "stderr") == ""
    drawn = re.findall(r"^Drawn: (.*)$", notebook.written(7, "stdout"), flags=re.MULTILINE)
    assert len(drawn) == 5
    assert all((notebook.folder / name).stat().st_size for name in drawn)
