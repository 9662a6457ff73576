"""Several processes make the run of one: the same trajectory, one record, one end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import assert_equal
from safetensors.torch import load_file
from shared_runs import RUNS, all_runs
from test_golden import assert_same_trajectory, flags_of

from experiments.config.flags import parse_args
from experiments.model.classifier import GPTClassifier
from experiments.runs.results import Result
from experiments.system import distributed as processes
from experiments.system.distributed import OwnMessages, SharedBatches
from experiments.training.loop import History
from experiments.training.optimization import mean_cross_entropy

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
SHARED_ROWS = ("1", "5", "10", "11", "15", "16")


def torchrun(count, script, *arguments, more=()):
    """Starts processes on one run, each with a thread."""
    command = [*TORCHRUN, f"--nproc_per_node={count}", *more, str(script), *map(str, arguments)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}tests",
    }  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(started, seconds=600):
    """The status, output and errors of processes that come to their end."""
    output, errors = started.communicate(timeout=seconds)
    return started.returncode, output, errors


# ------------------------------------------------------------------------------------ their shares


class Numbers:
    """A data set of numbers; odd ones are of class 1."""

    labels = torch.arange(20) % 2

    def batch(self, indices):
        return torch.tensor(indices), torch.ones(len(indices)), self.labels[indices]


def shares(monkeypatch, count, batches):
    """What each of several processes gets of some batches."""
    monkeypatch.setattr(processes, "count_processes", lambda: count)
    found = []
    for number in range(count):
        monkeypatch.setattr(processes, "rank", lambda number=number: number)
        found.append(list(SharedBatches(batches, Numbers())))
    return found


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_each_message_of_a_pass_falls_to_one_process(count, size, monkeypatch):
    order = torch.randperm(20).tolist()
    batches = [order[i : i + size] for i in range(0, 20, size)]
    found = [[] for _ in range(20)]
    for number, share in enumerate(shares(monkeypatch, count, batches)):
        for k, (inputs, _, own, labels) in enumerate(share):
            assert sorted(labels.tolist()) == sorted(i % 2 for i in batches[k])
            assert labels[: len(own)].tolist() == [i % 2 for i in inputs[: len(own)].tolist()]
            for position, message in zip(own.tolist(), inputs.tolist(), strict=False):
                assert message == batches[k][position]
                found[size * k + position].append(number)
    assert found == [[m % count] for m in range(20)]


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0])], ids=["alike", "weighed"])
@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_the_parts_of_a_loss_add_up_to_it(weights, ignore_index):
    logits, labels = torch.randn(7, 2), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    whole = mean_cross_entropy(logits, labels, ignore_index, weights)
    parts = [
        mean_cross_entropy(logits[own], labels[own + others], ignore_index, weights)
        for own, others in (([0, 3, 6], [1, 2, 4, 5]), ([1, 4], [0, 2, 3, 5, 6]), ([], [*range(7)]),
                            ([2, 5], [0, 1, 3, 4, 6]))
    ]  # fmt: skip
    assert_equal(sum(parts), whole, tolerance=1e-6)


@pytest.mark.parametrize("in_step", [False, True])
def test_a_process_without_a_message_adds_nothing(in_step, small_config):
    model = GPTClassifier(small_config)
    asked = []
    model.register_forward_hook(lambda *_: asked.append(1))
    tokens, none = torch.zeros(1, 4, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    logits = OwnMessages(model, small_config["vocab_size"], in_step)(
        tokens, torch.tensor([4]), none
    )
    assert logits.shape == (0, small_config["vocab_size"])
    mean_cross_entropy(logits, torch.tensor([1])).backward()
    assert len(asked) == in_step
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# ------------------------------------------------------------------------------ the same trajectory


@pytest.fixture(scope="module")
def alone():
    return all_runs("replicate")


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_make_the_run_of_one(count, alone, tmp_path):
    file = tmp_path / "results"
    status, _, errors = ended(
        torchrun(count, ROOT / "tests/shared_runs.py", file, "replicate", "shard")
    )
    assert status == 0, errors
    results = torch.load(file)
    names = [(run, way) for run in RUNS for way in ("plain", "short")]
    for parallel in ("replicate", "shard"):
        for name, shared, expected in zip(names, results[parallel], alone, strict=True):
            for actual, value in zip(shared, expected, strict=True):
                assert (actual.double() - value.double()).abs().max() < 1e-9, (parallel, *name)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("row", SHARED_ROWS)
@pytest.mark.usefixtures("real_tokenizer_files")
def test_several_processes_follow_the_published_trajectory(
    row, count, miniature, real_data_dir, tmp_path
):
    flags = [*flags_of(row, miniature, real_data_dir), "--output_dir", tmp_path]
    status, output, errors = ended(torchrun(count, "additional_experiments.py", *flags))
    assert status == 0, errors
    assert output.count("Recorded:") == 1
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    assert record["environment"]["processes"] == count
    history = History(record["losses"], record["accuracies"])
    result = Result(history, record["correct"], None, None, [], [], {})
    assert_same_trajectory(row, result, tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "tolerance"),
    [
        (["--trainable_layers", "all"], 1e-5),
        (["--trainable_layers", "lora"], 1e-5),
        (["--trainable_layers", "lora", "--precision", "bfloat16"], 1e-2),
        (["--precision", "bfloat16"], 1e-2),  # whose hidden states are shared out
    ],
)
def test_shards_are_saved_as_one_whole_file(flags, tolerance, tmp_path):
    files = [tmp_path / "alone.safetensors", tmp_path / "shards.safetensors"]
    flags = ["--demo", "--max_steps", "3", *flags, "--save_model"]
    alone = [sys.executable, "additional_experiments.py", *flags, str(files[0])]
    subprocess.run(alone, cwd=ROOT, check=True, capture_output=True)
    shared = torchrun(2, "additional_experiments.py", "--parallel", "shard", *flags, files[1])
    status, _, errors = ended(shared)
    assert status == 0, errors
    tensors = [load_file(file) for file in files]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert_equal(tensors[1][name], tensor, tolerance)
    assert not list(tmp_path.glob(".*"))


# ------------------------------------------------------------------------------------------ one end

SLOW_RUN = ["--demo", "--num_epochs", "2000"]
FAILING = """
import experiments.training.loop
from experiments.system import terminal as command_line
from experiments.system.torchrun import rank
import additional_experiments

def fail(*_):
    if rank() == 1:
        raise OSError("the disk is gone")
    return 1.0, 1.0

experiments.training.loop.evaluate_model = fail
command_line.take_over()
additional_experiments.main(["--demo"])
"""


def workers_of(started):
    """The process numbers of what torchrun started, the first process first."""
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    return sorted(map(int, children))


def training(started):
    """Waits until processes are at work, and returns their numbers."""
    for line in started.stdout:
        if line.startswith("Ep 1"):
            return workers_of(started)
    raise AssertionError(started.stderr.read())


def last_of_ours(errors):
    """The last line that is not torchrun's."""
    ours = [line for line in errors.splitlines() if re.match(r"additional_exp.*error|Stop", line)]
    return ours[-1] if ours else errors


@pytest.mark.slow
def test_the_first_process_tells_how_another_failed(tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    started = time.monotonic()
    status, _, errors = ended(torchrun(2, script), seconds=60)
    assert status == 1
    assert last_of_ours(errors) == (
        "additional_experiments.py: error: process 1: the disk is gone"
    ), errors
    assert time.monotonic() - started < 45


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are found by /proc")
@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGKILL, "ended without a word (killed?)"), (signal.SIGTERM, "was stopped")],
)
def test_a_process_that_dies_ends_all_within_half_a_minute(number, word):
    started = torchrun(2, "additional_experiments.py", *SLOW_RUN)
    _, second = training(started)
    os.kill(second, number)
    status, _, errors = ended(started, seconds=30)
    assert status == 1
    assert last_of_ours(errors) == f"additional_experiments.py: error: process 1: {word}"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are found by /proc")
def test_an_interrupt_ends_all_in_order():
    started = torchrun(2, "additional_experiments.py", *SLOW_RUN)
    workers = training(started)
    for pid in (started.pid, *workers):  # as a terminal does
        os.kill(pid, signal.SIGINT)
    status, _, errors = ended(started, seconds=30)
    assert status != 0
    assert last_of_ours(errors).startswith("Stopped."), errors
    assert "additional_experiments.py: error" not in errors


@pytest.mark.slow
def test_two_machines_make_one_run(tmp_path):
    meeting = ["--nnodes=2", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:29531"]
    agents = [torchrun(1, "additional_experiments.py", "--demo", more=meeting) for _ in range(2)]
    outputs = [ended(agent, seconds=120) for agent in agents]
    assert [status for status, *_ in outputs] == [0, 0]
    alone = subprocess.run(
        [sys.executable, "additional_experiments.py", "--demo"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = [accuracies_of(text) for text in (alone.stdout, *(output for _, output, _ in outputs))]
    assert sorted(told[1:]) == ["", told[0]]


def accuracies_of(output):
    return "\n".join(line for line in output.splitlines() if " accuracy: " in line)


# ---------------------------------------------------------------------------------------- its flags


def test_a_wrong_flag_is_told_once():
    status, _, errors = ended(torchrun(2, "additional_experiments.py", "--rwo", 3), seconds=60)
    assert status == 1
    assert errors.count("additional_experiments.py: error: unknown: --rwo 3") == 1


def test_a_shard_needs_several_processes(capsys):
    with pytest.raises(SystemExit):
        parse_args(["--parallel", "shard"])
    assert "--parallel shard needs several processes" in capsys.readouterr().err
