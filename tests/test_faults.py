"""Faults from outside, caused in a process of its own: signals, full disks, closed output."""

import contextlib
import json
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

from experiments.runs.records import read_runs, write_record
from experiments.system.terminal import INTERRUPTED, RESUMABLE

FOLDER = Path(__file__).parents[1]
SCRIPT, COMPARISON = FOLDER / "additional_experiments.py", FOLDER / "compare_experiments.py"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="has no POSIX signals")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has no /sys and no /dev/full")
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
    process = start("-c", CALLBACK, cwd=tmp_path)
    assert ended(process) == (128 + signal.SIGINT, "", RESUMABLE)


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


def results_in(folder):
    """The results of the runs of a folder by the names of their records."""
    assert read_runs(folder)[1] == []
    records = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert {record["status"] for record in records.values()} <= {"finished"}
    return {
        name: {key: record[key] for key in ("losses", "accuracies", "correct", "test")}
        for name, record in records.items()
    }


@POSIX
@pytest.mark.parametrize(
    ("rows", "epochs"),
    [
        pytest.param("1,3", 1, marks=pytest.mark.slow),
        pytest.param("1-5,11,13-19", 2, marks=pytest.mark.by_hand),
    ],
)
def test_after_any_signal_the_same_command_resumes_and_has_the_bits_of_undisturbed_runs(
    rows, epochs, data, miniature, tmp_path
):
    command = [SCRIPT, "--row", rows, "--num_seeds", 2, "--num_epochs", epochs]
    command += ["--weights", miniature, "--data_dir", data]

    def started(folder):
        folders = ["--output_dir", folder, "--cache_dir", f"{folder}_cache"]
        return start(*command, *folders, cwd=tmp_path)

    for number, line in [
        (signal.SIGKILL, "Model"),  # before the cached activations
        (signal.SIGTERM, "Ep 1 "),
        (signal.SIGKILL, "Recorded"),
        (signal.SIGINT, "Recorded"),
    ]:
        process = started("stopped")
        wait_for(process, line)
        process.send_signal(number)
        assert ended(process)[0] == (-number if number == signal.SIGKILL else 128 + number)
        before = results_in(tmp_path / "stopped")
    printed = {name: ended(started(name))[1] for name in ("undisturbed", "stopped")}
    expected = results_in(tmp_path / "undisturbed")
    assert results_in(tmp_path / "stopped") == expected
    assert 0 < len(before) < len(expected)
    assert printed["stopped"].count("\nRecorded: ") == len(expected) - len(before)
    status, out, _ = ended(started("stopped"))
    assert (status, out.count("Recorded already")) == (0, len(expected))


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
def test_two_runs_at_once_in_an_empty_folder_download_once_and_share_one_prefix(
    real_data, miniature, tmp_path, server
):
    archive = zipped({"SMSSpamCollection": (real_data / "SMSSpamCollection").read_bytes()})
    address = server.serve("zip", Answer(archive))
    command = ["-c", DRIVER, address, sha256(archive), "--weights", miniature, "--max_steps", 2]

    def started(folder, *more):
        return start(*command, "--output_dir", folder, *more, cwd=tmp_path)

    both = [started(folder, "--cache_dir", "cache") for folder in ("one", "two")]
    for process in (*both, started("alone")):
        status, out, errors = ended(process)
        assert (status, errors) == (0, "")
        assert "Test accuracy: " in out
    assert len(server.asked) == 1
    assert not list((tmp_path / "cache").glob("*.part*"))
    (one,), (two,) = (read_runs(tmp_path / name)[0] for name in ("one", "two"))
    assert {one.prefix_reused, two.prefix_reused} == {False, True}
    found = [results_in(tmp_path / name) for name in ("one", "two", "alone")]
    assert found[0] == found[1] == found[2]


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
    for each in ([*flags, "--output_dir", tmp_path], ["--demo", "--max_steps", 1]):
        status, out, errors = ended(start("-W", "error", SCRIPT, *each, cwd="/sys"))
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
    assert ({run.status for run in runs} <= {"failed"}, problems) == (True, [])


@LINUX
@pytest.mark.process
def test_output_to_a_full_disk_is_an_error(tmp_path):
    with Path("/dev/full").open("w") as full:
        process = start(SCRIPT, "--demo", "--max_steps", 1, cwd=tmp_path, stdout=full)
        status, _, errors = ended(process)
    message = "No space left on device: free some space and run it again"
    assert (status, errors) == (1, f"additional_experiments.py: error: {message}\n")


@POSIX
@pytest.mark.process
def test_a_figure_or_table_without_room_leaves_the_earlier_one(tmp_path):
    write_record(tmp_path / "results", make_record(4))
    code = FULL.format(module="compare_experiments")
    for flags, name in (
        ("--csv t.csv", "t.csv"), ("--json t.json", "t.json"), ("--plot .", "test_accuracy.png")
    ):  # fmt: skip
        (tmp_path / name).write_text("earlier")
        status, _, errors = ended(start("-c", code, 50, *flags.split(), cwd=tmp_path))
        assert (status, "File too large" in errors, name in errors) == (1, True, True)
        assert (tmp_path / name).read_text() == "earlier"


@pytest.mark.process
def test_names_that_are_not_ascii_work_in_any_locale(data, miniature, tmp_path):
    folder = data.rename(tmp_path / "Größe und 空白")
    (folder / "gewichte ß.safetensors").symlink_to(miniature)
    flags = ["--data_dir", folder, "--weights", folder / "gewichte ß.safetensors"]
    flags += ["--cache_dir", folder / "zwei tausend", "--max_steps", 1]
    ascii = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    status, out, errors = ended(start(SCRIPT, *flags, cwd=folder, **ascii))
    assert (status, errors) == (0, "")
    assert "Test accuracy: " in out
    assert len(results_in(folder / "results")) == 1


# -------------------------------------------------------------------------------------- output


@pytest.mark.process
def test_characters_that_an_encoding_lacks_are_printed_as_escapes(tmp_path):
    for seed in (123, 124):
        write_record(tmp_path / "results", make_record(1, seed=seed))
    process = start(COMPARISON, "--wide", cwd=tmp_path, PYTHONIOENCODING="ascii")
    status, out, errors = ended(process)
    assert (status, errors) == (0, "")
    assert "mean \\xb1 sd" in out


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
