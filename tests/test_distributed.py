"""The processes of a run start and end together."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_parallel import ROOT, finish, torchrun

pytestmark = [pytest.mark.process, pytest.mark.slow]
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="lacks /proc")
SCRIPT = "additional_experiments.py"
SLOW_RUN = ["--demo", "--num_epochs", "2000"]
FAILING = """
import additional_experiments
import experiments.training.loop
from experiments.system.distributed import world

def fail(*_):
    if world.rank == 1:
        raise OSError("the disk is gone")
    return 1.0, 1.0

experiments.training.loop.evaluate_model = fail
additional_experiments.main(["--demo"])
"""


def run_script(folder, code, *arguments):
    """Status, output and errors of two processes that run this code."""
    script = folder / "script.py"
    script.write_text(code)
    return finish(torchrun(2, script, *arguments), seconds=60)


def wait_for_training(started):
    """Wait until processes train, and return their numbers, the main process first."""
    for line in started.stdout:
        if line.startswith("Ep 1"):
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text()
            return sorted(map(int, children.split()))
    raise AssertionError(started.stderr.read())


def last_error(errors):
    """The last line of the script, not of torchrun."""
    ours = [x for x in errors.splitlines() if re.match(rf"{SCRIPT}: error|Interrupted", x)]
    return ours[-1] if ours else errors


def test_the_main_process_reports_how_another_failed(tmp_path):
    started = time.monotonic()
    status, _, errors = run_script(tmp_path, FAILING)
    assert status == 1
    assert last_error(errors) == f"{SCRIPT}: error: process 1: the disk is gone", errors
    assert time.monotonic() - started < 45


@NEEDS_PROC
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGKILL, "ended without a status (killed?)"), (signal.SIGTERM, "interrupted")],
)
def test_a_process_that_ends_early_ends_all_within_a_minute(number, status):
    started = torchrun(2, SCRIPT, *SLOW_RUN)
    _, second = wait_for_training(started)
    os.kill(second, number)
    code, _, errors = finish(started, seconds=60)
    assert code == 1
    assert last_error(errors) == f"{SCRIPT}: error: process 1: {status}"


@NEEDS_PROC
def test_an_interrupt_ends_all_in_order():
    started = torchrun(2, SCRIPT, *SLOW_RUN)
    workers = wait_for_training(started)
    for pid in (started.pid, *workers):  # as a terminal does
        os.kill(pid, signal.SIGINT)
    status, _, errors = finish(started, seconds=60)
    assert status != 0
    assert last_error(errors).startswith("Interrupted."), errors
    assert f"{SCRIPT}: error" not in errors


def test_processes_on_two_machines_make_one_run():
    meeting = ["--nnodes=2", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:29531"]
    agents = [torchrun(1, SCRIPT, "--demo", more=meeting) for _ in range(2)]
    outputs = [finish(agent, seconds=120) for agent in agents]
    assert [status for status, *_ in outputs] == [0, 0]
    command = [sys.executable, SCRIPT, "--demo"]
    alone = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    accuracies = [re.findall(r".* accuracy: .*", x) for x in (alone, *(o for _, o, _ in outputs))]
    assert sorted(accuracies[1:]) == [[], accuracies[0]]


MAIN_IS_LATE = """
import os, sys, time
import additional_experiments
time.sleep(2 * (os.environ["RANK"] == "0"))
additional_experiments.setup_terminal()
additional_experiments.main(sys.argv[1:])
"""


def test_an_invalid_flag_is_reported_once_even_if_the_main_process_is_late(tmp_path):
    status, _, errors = run_script(tmp_path, MAIN_IS_LATE, "--rwo", 3)
    assert (status, errors.count(f"{SCRIPT}: error: unknown: --rwo 3")) == (1, 1)


DIFFERENT = """
import os, sys
import additional_experiments
folder, *flags = sys.argv[1:]
os.chdir(folder + os.environ["RANK"])  # with other data
data = "--weights random --dry_run --data data.csv".split()
flags = ["--demo", *flags] if os.environ["RANK"] == "1" else ["--demo"]
additional_experiments.main(flags if sys.argv[2:] else data)
"""


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--learning_rate 0.1", "learning_rate (run 1) 0.1"),
     ("--batch_size 2", "batch_size (run 1) 2"),
     ("--seed 5", "seed (run 1) 5"), ("--num_seeds 2", "number of runs 2"),
     ("", "data of SHA-256")],
)  # fmt: skip
def test_processes_with_other_flags_or_data_are_refused_before_the_first_step(flag, name, tmp_path):
    lines = [f"text {i} of class {i % 2},{i % 2}" for i in range(100)]
    for rank, first in enumerate([lines[0], lines[0][:-1] + "1"]):  # has another label
        folder = tmp_path / f"rank_{rank}"
        folder.mkdir()
        (folder / "data.csv").write_text("\n".join(["Text,Label", first, *lines[1:]]))
    status, output, errors = run_script(tmp_path, DIFFERENT, tmp_path / "rank_", *flag.split())
    assert status == 1
    assert f"all processes need the same flags and data: process 1 has {name}" in errors
    assert "Ep 1" not in output


@NEEDS_PROC
def test_processes_without_their_launcher_end_when_they_are_asked_to():
    code = "from experiments.system.distributed import process_group\n"
    code += "with process_group('cpu'): pass"
    variables = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29532",
                 "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip
    started = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | variables, stderr=subprocess.PIPE
    )
    time.sleep(6)  # imports, and then waits for a launcher that is gone
    assert started.poll() is None
    started.terminate()
    started.communicate(timeout=5)
    assert started.returncode == -signal.SIGTERM
