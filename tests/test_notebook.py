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
DEMO = f"%run {SCRIPT} --demo --max_steps 1 --context_length 8"
INTERRUPT = f"""
import os, signal, sys, time
sys.path.insert(0, {str(FOLDER)!r})
from experiments.training import loop as training
training.evaluate_model = lambda *_: os.kill(os.getpid(), signal.SIGINT) or time.sleep(60)
"""  # as the notebook's button does, in the first step
STATE = """
import signal, sys, torch
(*map(signal.getsignal, (2, 15)), id(sys.stdout), id(sys.stderr),
 torch.backends.mkldnn.matmul.fp32_precision)
"""
CELLS = {
    "before": f"import torch\ntorch.backends.mkldnn.matmul.fp32_precision = 'ieee'\n{STATE}",
    "demo": DEMO,
    "wrong flag": f"{DEMO} --lr 1",
    "demo again": DEMO,
    "interrupted": f"{INTERRUPT}{DEMO}",
    "comparison": f"%run {COMPARISON} --plot figures",
    "after": STATE,
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """By cell: what was written to each stream, and its last output."""
    folder = tmp_path_factory.mktemp("notebook")
    cells = [nbformat.v4.new_code_cell(code) for code in CELLS.values()]
    document = nbformat.v4.new_notebook(cells=cells)
    write_record(folder / "results", make_record(1))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(folder / name))  # not in the home folder
        options = {"kernel_name": "python3", "allow_errors": True, "timeout": 120}
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(document, resources=resources, **options).execute()

    def written(cell, stream):
        return "".join(output.text for output in cell.outputs if output.get("name") == stream)

    return {
        name: (written(cell, "stdout"), written(cell, "stderr"), cell.outputs[-1])
        for name, cell in zip(CELLS, document.cells, strict=True)
    }


def test_the_demo_runs_with_progress_and_once_more_in_the_same_kernel(outputs):
    (first, errors, _), (second, _, last) = outputs["demo"], outputs["demo again"]
    accuracy = re.search(r"^Test accuracy: .*%$", first, flags=re.MULTILINE)[0]
    assert accuracy in second
    assert last.output_type == "stream"
    for title in ("Frozen prefix", "Training", "Final accuracies"):
        assert f"\r{title}: " in errors
    assert "arning" not in errors


def test_a_wrong_flag_and_an_interrupt_are_one_message_and_the_kernel_stays_alive(outputs):
    _, message, wrong = outputs["wrong flag"]
    assert message == (
        "additional_experiments.py: error: unknown: --lr 1; did you mean --learning_rate?\n"
    )
    _, message, interrupted = outputs["interrupted"]
    assert message.endswith(f"\n{RESUMABLE}")  # after the bar is closed
    assert [(end.ename, end.evalue) for end in (wrong, interrupted)] == [
        ("SystemExit", "2"), ("SystemExit", "130")
    ]  # fmt: skip


def test_signal_handlers_streams_and_product_precision_of_the_notebook_are_unchanged(outputs):
    before, after = (outputs[cell][2].data["text/plain"] for cell in ("before", "after"))
    assert before == after
    assert "default_int_handler" in after
    assert "'ieee'" in after


def test_figures_are_drawn_to_files(outputs):
    printed, errors, _ = outputs["comparison"]
    assert errors == ""
    assert len(re.findall(r"^Drawn: .*\.png$", printed, flags=re.MULTILINE)) == 5
