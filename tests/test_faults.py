"""Faults from outside, caused in a process of its own: signals, full disks, closed output."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Answer
from records import make_record
from remote import sha256, zipped

from experiments.data.sms_spam import demo_messages, to_csv
from experiments.runs.records import read_runs, write_record
from experiments.system.terminal import INTERRUPTED, RESUMABLE

FOLDER = Path(__file__).parents[1]
SCRIPT, COMPARISON = FOLDER / "additional_experiments.py", FOLDER / "compare_experiments.py"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="has no POSIX signals")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has no /sys and no /dev/full")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENDLESS = (SCRIPT, "--demo", "--num_epochs", "1000")


@pytest.fixture(autouse=True)
def interruptible():
    """Processes can be interrupted even where these tests run as a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(*command, cwd, stdout=subprocess.PIPE, **environment):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=os.environ | {"PYTHONUNBUFFERED": "", "PYTHONPATH": str(FOLDER)} | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """Exit status, output and errors of a process when it ends."""
    with process:
        try:
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()  # one that hangs must not outlive its test
    return process.returncode, out, err


def wait_for(process, line):
    """Reads a process's output up to a line that begins so."""
    for read in process.stdout:
        if read.startswith(line):
            return
    raise AssertionError(process.stderr.read())


def wait_for_handlers(process):
    """Waits until the process handles SIGTERM, which it does after SIGINT."""
    status = Path(f"/proc/{process.pid}/status")
    while not int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) >> 14 & 1:
        time.sleep(0.001)


def stop(process, number, message=RESUMABLE):
    """Sends a signal, and checks that the process ends in order."""
    process.send_signal(number)
    status, _, errors = ended(process)
    assert (status, errors) == (128 + number, message)


# ------------------------------------------------------------------------------------- signals


@LINUX
def test_a_comparison_that_is_interrupted_promises_no_saved_runs(tmp_path):
    process = start(COMPARISON, cwd=tmp_path)
    wait_for_handlers(process)
    stop(process, signal.SIGINT, INTERRUPTED)


CALLBACK = """
import os, time, weakref
from experiments.system.terminal import one_line_errors, setup_terminal
def interrupt(_):
    os.kill(os.getpid(), 2)
    time.sleep(60)
setup_terminal()
with one_line_errors("script"):
    thing = type("Thing", (), {})()
    reference = weakref.ref(thing, interrupt)
    del thing
    time.sleep(60)
"""


@POSIX
def test_a_signal_in_a_callback_whose_exceptions_python_drops_ends_the_run(tmp_path):
    status, _, errors = ended(start("-c", CALLBACK, cwd=tmp_path))
    assert (status, errors) == (128 + signal.SIGINT, RESUMABLE)


@LINUX
@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 0.3), (signal.SIGINT, 0.7), (signal.SIGTERM, 1.2),
     (signal.SIGINT, 2), (signal.SIGTERM, 3.5)],
)  # fmt: skip
def test_a_signal_at_any_moment_ends_the_run_in_order(number, seconds, tmp_path):
    process = start(*ENDLESS, cwd=tmp_path)
    wait_for_handlers(process)
    time.sleep(seconds)
    stop(process, number)


@POSIX
@pytest.mark.process
def test_in_a_terminal_the_bar_is_closed_before_the_message_of_ctrl_c(tmp_path):
    termios = pytest.importorskip("termios")
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))
    with subprocess.Popen([sys.executable, *ENDLESS], cwd=tmp_path, stdout=end, stderr=end) as run:
        os.close(end)
        shown = b""
        while b"Ep 1 " not in shown:
            shown += os.read(terminal, 1 << 16)
        run.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # on Linux, once the other end is closed
            while piece := os.read(terminal, 1 << 16):
                shown += piece
    os.close(terminal)
    bar, rest = shown.decode().replace("\r\n", "\n").rsplit("\rTraining: ", 1)[1].split("\n", 1)
    assert "%|" in bar
    assert rest == RESUMABLE


@LINUX
@pytest.mark.process
def test_a_signal_after_the_reader_has_gone_has_its_status(tmp_path):
    process = start(*ENDLESS, cwd=tmp_path, stdout=subprocess.DEVNULL)
    process.stderr.close()
    wait_for_handlers(process)
    process.terminate()
    assert process.wait(120) == 143


@POSIX
@pytest.mark.process
def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    command = f"trap '' INT; exec {sys.executable} {SCRIPT} --demo --max_steps 1"
    with subprocess.Popen(["sh", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert b"Test accuracy: " in process.stdout.read()
    assert process.returncode == 0


@pytest.fixture
def data(real_data, tmp_path, real_tokenizer_files):
    """A folder with the real messages, in which the splits can be written."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "SMSSpamCollection").symlink_to(real_data / "SMSSpamCollection")
    return folder


@POSIX
@pytest.mark.slow
def test_after_any_signal_the_same_command_resumes(data, miniature, tmp_path):
    command = [SCRIPT, "--weights", miniature, "--data_dir", data, "--num_epochs", 1]
    command += ["--num_seeds", 3, "--cache_dir", tmp_path / "cache"]
    for number, line in [
        (signal.SIGKILL, "Model"),  # before the cached activations
        (signal.SIGTERM, "Ep 1 "),
        (signal.SIGKILL, "Recorded"),
        (signal.SIGINT, "Recorded"),
    ]:
        process = start(*command, cwd=tmp_path)
        wait_for(process, line)
        process.send_signal(number)
        assert ended(process)[0] == (-number if number == signal.SIGKILL else 128 + number)
        runs, problems = read_runs(tmp_path / "results")
        assert not problems
        assert {run.status for run in runs} <= {"finished"}
    assert ended(start(*command, cwd=tmp_path))[0] == 0
    assert [run.seed for run in read_runs(tmp_path / "results")[0]] == [123, 124, 125]
    status, out, _ = ended(start(*command, cwd=tmp_path))
    assert (status, out.count("Recorded already")) == (0, 3)


DRIVER = """
import sys
from dataclasses import replace
import additional_experiments
from experiments.data import sms_spam
address, digest, *flags = sys.argv[1:]
changes = {"addresses": (address,)}
sms_spam.SMS_SPAM_COLLECTION = replace(sms_spam.SMS_SPAM_COLLECTION, **changes)
additional_experiments.main(flags)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("real_tokenizer_files")
def test_two_runs_at_once_in_an_empty_folder_download_once(real_data, miniature, tmp_path, server):
    archive = zipped({"SMSSpamCollection": (real_data / "SMSSpamCollection").read_bytes()})
    address = server.serve("zip", Answer(archive))
    flags = ["--weights", miniature, "--max_steps", 2, "--cache_dir", "cache"]
    two = [
        start("-c", DRIVER, address, sha256(archive), *flags, "--seed", seed, cwd=tmp_path)
        for seed in (1, 2)
    ]
    for process in two:
        status, out, errors = ended(process)
        assert (status, errors) == (0, "")
        assert "Test accuracy: " in out
    assert len(server.asked) == 1
    runs, problems = read_runs(tmp_path / "results")
    assert (len(runs), problems) == (2, [])


# --------------------------------------------------------------------------- folders and disks


@LINUX
@pytest.mark.process
@pytest.mark.usefixtures("real_tokenizer_files")
def test_a_run_needs_its_own_folders_only_and_names_one_without_permission(
    miniature, real_data_dir, tmp_path
):
    flags = ["--weights", miniature, "--data_dir", real_data_dir, "--max_steps", 1]
    status, _, errors = ended(start(SCRIPT, *flags, cwd="/sys"))
    assert status == 1
    assert re.fullmatch(r".*: error: .*'results': (check its|name a folder) .*\n", errors)
    flags += ["--output_dir", tmp_path / "results"]
    for each in (flags, ["--demo", "--max_steps", 1]):
        status, out, errors = ended(start(SCRIPT, *each, cwd="/sys"))
        assert (status, errors) == (0, "")
        assert "Test accuracy: " in out


FULL = """
import resource, sys
import {module}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
{module}.main(sys.argv[2:])
"""


@POSIX
@pytest.mark.process
@pytest.mark.parametrize("size", [0, 50_000, 500_000], ids=["record", "splits", "activations"])
def test_an_error_of_a_full_disk_names_the_file(size, data, miniature, tmp_path):
    flags = ["--weights", miniature, "--data_dir", data, "--cache_dir", "cache"]
    process = start("-c", FULL.format(module="additional_experiments"), size, *flags, cwd=tmp_path)
    status, _, errors = ended(process)
    assert status == 1
    assert re.fullmatch(r".*: error: .*File too large: '.*': raise the limit.*\n", errors)
    assert not list(tmp_path.rglob("*.npy"))
    runs, problems = read_runs(tmp_path / "results")
    assert all(run.status == "failed" for run in runs)
    assert not problems


@LINUX
@pytest.mark.process
def test_output_to_a_full_disk_is_an_error(tmp_path):
    with Path("/dev/full").open("w") as full:
        status, _, errors = ended(
            start(SCRIPT, "--demo", "--max_steps", 1, cwd=tmp_path, stdout=full)
        )
    assert status == 1
    assert errors == (
        "additional_experiments.py: error: No space left on device: free some space "
        "and run it again\n"
    )


@POSIX
@pytest.mark.process
def test_a_figure_or_table_without_room_leaves_the_earlier_one(tmp_path):
    write_record(tmp_path / "results", make_record(4))
    code = FULL.format(module="compare_experiments")
    for flag, name in (("--csv", "t.csv"), ("--json", "t.json"), ("--plot", "test_accuracy.png")):
        (tmp_path / name).write_text("earlier")
        target = "." if flag == "--plot" else name
        status, _, errors = ended(start("-c", code, 50, flag, target, cwd=tmp_path))
        assert (status, "File too large" in errors, name in errors) == (1, True, True)
        assert (tmp_path / name).read_text() == "earlier"


@pytest.mark.process
@pytest.mark.parametrize("environment", [{}, ASCII], ids=["UTF-8", "ASCII"])
def test_names_that_are_not_ascii_work_in_any_locale(environment, data, miniature, tmp_path):
    folder = data.rename(tmp_path / "Größe und 空白")
    (folder / "gewichte ß.safetensors").symlink_to(miniature)
    flags = ["--data_dir", folder, "--weights", folder / "gewichte ß.safetensors"]
    flags += ["--cache_dir", folder / "zwei tausend", "--max_steps", 1]
    status, out, errors = ended(start(SCRIPT, *flags, cwd=folder, **environment))
    assert (status, errors) == (0, "")
    assert "Test accuracy: " in out
    runs, problems = read_runs(folder / "results")
    assert (len(runs), problems) == (1, [])


# -------------------------------------------------------------------------------------- output


@pytest.mark.process
def test_characters_that_an_encoding_lacks_are_printed_as_escapes(tmp_path):
    for seed in (123, 124):
        write_record(tmp_path / "results", make_record(1, seed=seed))
        write_record(tmp_path / "results", make_record(4, seed=seed, wrong=[1]))
    texts = demo_messages(6, 6).assign(Text="£ 空", Label=[i % 2 for i in range(12)])
    (tmp_path / "test.csv").write_text(to_csv(texts), encoding="utf-8")
    for flags, words in (
        (["--wide"], "mean \\xb1 sd"),
        (["1", "4", "--test_csv", "test.csv"], "\\u7a7a"),
    ):
        process = start(COMPARISON, *flags, cwd=tmp_path, PYTHONIOENCODING="ascii")
        status, out, errors = ended(process)
        assert (status, errors) == (0, "")
        assert words in out


@POSIX
@pytest.mark.process
def test_lines_reach_a_pipe_at_once_and_a_reader_that_goes_away_ends_the_run(tmp_path):
    with start(*ENDLESS, cwd=tmp_path) as process:
        first = os.read(process.stdout.fileno(), 1 << 16)  # all that was written until then
        process.stdout.close()
        errors = process.stderr.read()
    assert b"Ep 1 " not in first
    assert process.returncode == 1
    assert errors == "additional_experiments.py: error: Broken pipe\n"


@POSIX
@pytest.mark.process
def test_a_run_without_any_output_does_its_work(tmp_path):
    command = f"exec {sys.executable} {SCRIPT} --demo --max_steps 1 >&- 2>&-"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, timeout=120, check=True)
