"""Faults from outside, done for real to a process of its own; and the table of all of them."""

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
from faults import FAULTS, faults_table, marked_tests
from records import make_record
from remote import zipped

from experiments.data.demo import demo_messages
from experiments.data.sms_spam import to_csv
from experiments.runs.records import FAILED, read_records, write_record
from experiments.system.terminal import JUST_STOPPED, STOPPED

FOLDER = Path(__file__).parents[1]
SCRIPT, COMPARISON = FOLDER / "additional_experiments.py", FOLDER / "compare_experiments.py"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="has no POSIX signals")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has no /sys and no /dev/full")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(autouse=True)
def interruptible():
    """Lets processes be interrupted even where these tests run as a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(*command, cwd, stdout=subprocess.PIPE, **environment):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=os.environ | {"PYTHONUNBUFFERED": ""} | environment,  # as most shells have it
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, timeout=120):
    """Exit status, output and errors of a process, once it ends."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def wait_for(process, line):
    """Reads a process's output up to a line that begins so."""
    for read in process.stdout:
        if read.startswith(line):
            return
    raise AssertionError(process.stderr.read())


# ------------------------------------------------------------------------------------- the table


def test_every_fault_has_a_test_and_every_mark_its_fault():
    assert marked_tests().keys() == FAULTS.keys()


def test_the_table_in_the_documentation_is_that_of_the_tests():
    text = (FOLDER / "docs" / "faults.md").read_text(encoding="utf-8")
    assert text.endswith(f"\n\n{faults_table()}")


# --------------------------------------------------------------------------------------- signals


def assert_stopped(process, number):
    status, _, errors = ended(process)
    assert (status, errors) == (128 + number, STOPPED)


def wait_until_taken(process):
    """Waits until the process has its own handler of SIGTERM, which comes after that of SIGINT."""
    status = Path(f"/proc/{process.pid}/status")
    while not int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) >> 14 & 1:
        time.sleep(0.001)


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0, 0.7])
def test_a_signal_while_modules_are_imported_ends_the_run_in_order(number, seconds, tmp_path):
    process = start(SCRIPT, "--demo", "--num_epochs", "1000", cwd=tmp_path)
    wait_until_taken(process)
    time.sleep(seconds)
    process.send_signal(number)
    assert_stopped(process, number)


@LINUX
def test_a_comparison_that_is_stopped_speaks_of_no_record(tmp_path):
    process = start(FOLDER / "compare_experiments.py", cwd=tmp_path)
    wait_until_taken(process)
    process.send_signal(signal.SIGINT)
    status, _, errors = ended(process)
    assert (status, errors) == (130, JUST_STOPPED)


CALLBACK = """
import os, time, weakref
from experiments.system.terminal import one_line_errors, take_over
def interrupt(_):
    os.kill(os.getpid(), 2)
    time.sleep(60)
take_over()
with one_line_errors("script"):
    thing = type("Thing", (), {})()
    reference = weakref.ref(thing, interrupt)
    del thing
    time.sleep(60)
"""


@POSIX
def test_a_signal_within_a_callback_whose_exceptions_python_drops_ends_the_run(tmp_path):
    assert_stopped(start("-c", CALLBACK, cwd=tmp_path, PYTHONPATH=str(FOLDER)), signal.SIGINT)


@POSIX
def test_on_a_terminal_the_bar_is_closed_before_ctrl_c_is_answered(tmp_path):
    termios = pytest.importorskip("termios")
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))
    command = [sys.executable, SCRIPT, "--demo", "--num_epochs", "1000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=end, stderr=end) as process:
        os.close(end)
        shown = b""
        while b"Ep 1 " not in shown:
            shown += os.read(terminal, 1 << 16)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # so Linux says that the other end is closed
            while piece := os.read(terminal, 1 << 16):
                shown += piece
    os.close(terminal)
    bar, stopped = shown.decode().replace("\r\n", "\n").rsplit("\rTraining: ", 1)[1].split("\n", 1)
    assert "%|" in bar
    assert stopped == STOPPED


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_training_ends_the_run_in_order(number, tmp_path):
    process = start(SCRIPT, "--demo", "--num_epochs", "1000", cwd=tmp_path)
    wait_for(process, "Ep 1 ")
    process.send_signal(number)
    assert_stopped(process, number)


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_ends_the_run_in_order(number, tmp_path):
    for tenth in range(0, 40, 2):
        process = start(SCRIPT, "--demo", "--num_epochs", "1000", cwd=tmp_path)
        wait_until_taken(process)
        time.sleep(tenth / 10)
        process.send_signal(number)
        assert_stopped(process, number)


@pytest.mark.slow
@POSIX
@pytest.mark.usefixtures("real_tokenizer_files")
def test_after_any_signal_the_same_command_goes_on(real_data, miniature, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "SMSSpamCollection").symlink_to(real_data / "SMSSpamCollection")
    command = [SCRIPT, "--weights", miniature, "--data_dir", data, "--num_epochs", 1]
    command += ["--num_seeds", 3, "--cache_dir", tmp_path / "cache"]
    for number, line in [
        (signal.SIGKILL, "Model"),  # then come the hidden states
        (signal.SIGTERM, "Ep 1 "),
        (signal.SIGKILL, "Recorded"),
        (signal.SIGINT, "Recorded"),
    ]:
        process = start(*command, cwd=tmp_path)
        wait_for(process, line)
        process.send_signal(number)
        assert ended(process)[0] == (-number if number == signal.SIGKILL else 128 + number)
        records, problems = read_records(tmp_path / "results")
        assert not problems
        assert {record["status"] for record in records} <= {"finished"}
    assert ended(start(*command, cwd=tmp_path))[0] == 0
    records, _ = read_records(tmp_path / "results")
    assert [record["seed"] for record in records] == [123, 124, 125]
    status, out, _ = ended(start(*command, cwd=tmp_path))
    assert (status, out.count("Recorded already")) == (0, 3)


# ----------------------------------------------------------------------------------- two at once

DRIVER = """
import sys
from dataclasses import replace
import additional_experiments
from experiments.data import sms_spam as messages
address, *flags = sys.argv[1:]
messages.SMS_SPAM_COLLECTION = replace(messages.SMS_SPAM_COLLECTION, addresses=(address,))
additional_experiments.main(flags)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("real_tokenizer_files")
def test_two_runs_at_once_in_an_empty_folder_both_end_right(real_data, miniature, tmp_path, server):
    messages = (real_data / "SMSSpamCollection").read_bytes()
    address = server.serve("zip", Answer(zipped({"SMSSpamCollection": messages})))
    flags = ["--weights", miniature, "--max_steps", 2, "--cache_dir", "cache"]
    two = [
        start("-c", DRIVER, address, *flags, "--seed", seed, cwd=tmp_path,
              HF_ENDPOINT=server.url, PYTHONPATH=str(FOLDER), OMP_NUM_THREADS="1")
        for seed in (1, 2)
    ]  # fmt: skip
    for process in two:
        status, out, errors = ended(process)
        assert (status, errors) == (0, "")
        assert "Test accuracy: " in out
    assert len(server.asked) == 1
    records, problems = read_records(tmp_path / "results")
    assert (len(records), problems) == (2, [])


# ------------------------------------------------------------------------------ folders and disks


@LINUX
@pytest.mark.usefixtures("real_tokenizer_files")
def test_a_folder_that_cannot_be_written_to_is_told_before_the_run(miniature, real_data_dir):
    flags = ["--weights", miniature, "--data_dir", real_data_dir]
    status, out, errors = ended(start(SCRIPT, *flags, cwd="/sys"))
    assert (status, out) == (1, "")
    assert re.fullmatch(r".*: error: .*'results': (see to its|name a folder) .*\n", errors)


@LINUX
@pytest.mark.usefixtures("real_tokenizer_files")
def test_a_run_needs_its_own_folders_only(miniature, real_data_dir, tmp_path):
    flags = ["--weights", miniature, "--data_dir", real_data_dir, "--max_steps", 1]
    process = start(SCRIPT, *flags, "--output_dir", tmp_path / "results", cwd="/sys")
    status, out, errors = ended(process)
    assert (status, errors) == (0, "")
    assert "Recorded: " in out


@LINUX
def test_the_demo_runs_where_nothing_can_be_written():
    status, out, errors = ended(start(SCRIPT, "--demo", "--max_steps", 1, cwd="/sys"))
    assert (status, errors) == (0, "")
    assert "Test accuracy: " in out


FULL = """
import resource, sys
import {module}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
{module}.main(sys.argv[2:])
"""


@POSIX
@pytest.mark.parametrize("size", [0, 50_000, 500_000], ids=["record", "splits", "hidden states"])
@pytest.mark.usefixtures("real_tokenizer_files")
def test_a_full_disk_is_told_with_the_file(size, real_data, miniature, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "SMSSpamCollection").symlink_to(real_data / "SMSSpamCollection")
    flags = ["--weights", miniature, "--data_dir", "data", "--cache_dir", "cache"]
    process = start("-c", FULL.format(module="additional_experiments"), size, *flags,
                    cwd=tmp_path, PYTHONPATH=str(FOLDER))  # fmt: skip
    status, _, errors = ended(process)
    assert status == 1
    assert re.fullmatch(r".*: error: .*File too large: '.*': raise the limit.*\n", errors)
    assert not list(tmp_path.rglob("*.hidden"))
    records, problems = read_records(tmp_path / "results")
    assert all(record["status"] == FAILED for record in records)
    assert not problems


@LINUX
def test_output_to_a_full_disk_is_told(tmp_path):
    with Path("/dev/full").open("w") as full:
        process = start(SCRIPT, "--demo", "--max_steps", 1, cwd=tmp_path, stdout=full)
        status, _, errors = ended(process)
    assert status == 1
    assert errors == (
        "additional_experiments.py: error: [Errno 28] No space left on device: free some space, "
        "and start it again\n"
    )


@POSIX
def test_a_figure_or_a_table_for_which_there_is_no_room_leaves_the_earlier_one(tmp_path):
    write_record(tmp_path / "results", make_record(4))
    for flag, name in (("--csv", "t.csv"), ("--json", "t.json"), ("--plot", "test_accuracy.png")):
        (tmp_path / name).write_text("earlier")
        target = "." if flag == "--plot" else name
        process = start("-c", FULL.format(module="compare_experiments"), 50, flag, target,
                        cwd=tmp_path, PYTHONPATH=str(FOLDER))  # fmt: skip
        status, _, errors = ended(process)
        assert (status, "File too large" in errors, name in errors) == (1, True, True)
        assert (tmp_path / name).read_text() == "earlier"


@pytest.mark.parametrize("environment", [{}, ASCII], ids=["UTF-8", "ASCII"])
@pytest.mark.usefixtures("real_tokenizer_files")
def test_names_that_are_not_ascii_work_in_any_locale(environment, real_data, miniature, tmp_path):
    folder = tmp_path / "Größe und 空白"
    folder.mkdir()
    (folder / "gewichte ß.safetensors").symlink_to(miniature)
    (folder / "SMSSpamCollection").symlink_to(real_data / "SMSSpamCollection")
    flags = ["--data_dir", folder, "--weights", folder / "gewichte ß.safetensors"]
    flags += ["--cache_dir", folder / "zwei tausend", "--max_steps", 1]
    status, out, errors = ended(start(SCRIPT, *flags, cwd=folder, **environment))
    assert (status, errors) == (0, "")
    assert "Test accuracy: " in out
    records, problems = read_records(folder / "results")
    assert (len(records), problems) == (1, [])


# ----------------------------------------------------------------------------------------- output


def test_what_an_encoding_lacks_is_printed_as_an_escape(tmp_path):
    for seed in (123, 124):
        write_record(tmp_path / "results", make_record(1, seed=seed))
        write_record(tmp_path / "results", make_record(4, seed=seed, wrong=[1]))
    texts = demo_messages(6, 6).assign(Text="£ 空", Label=[i % 2 for i in range(12)])
    (tmp_path / "test.csv").write_text(to_csv(texts), encoding="utf-8")
    for flags, words in (([], "mean \\xb1 sd"), (["1", "4", "--test_csv", "test.csv"], "\\u7a7a")):
        process = start(COMPARISON, *flags, cwd=tmp_path, PYTHONIOENCODING="ascii")
        status, out, errors = ended(process)
        assert (status, errors) == (0, "")
        assert words in out


@POSIX
def test_a_reader_that_goes_away_ends_the_run_with_one_message(tmp_path):
    with start(SCRIPT, "--demo", cwd=tmp_path) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors == "additional_experiments.py: error: [Errno 32] Broken pipe\n"


@POSIX
def test_lines_are_there_for_a_pipe_at_once(tmp_path):
    flags = ["--context_length", "model_context_length", "--no_shortcuts"]  # a slow first step
    process = start(SCRIPT, "--demo", *flags, cwd=tmp_path)
    first = os.read(process.stdout.fileno(), 1 << 16)  # all that was written until then
    process.kill()
    process.communicate()
    assert first.startswith(b"Memory: ")
    assert b"Ep 1 " not in first


@POSIX
def test_a_run_without_any_output_does_its_work(tmp_path):
    command = f"exec {sys.executable} {SCRIPT} --demo --max_steps 1 >&- 2>&-"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, timeout=120, check=True)


@LINUX
def test_a_signal_after_the_reader_has_gone_keeps_its_status(tmp_path):
    with subprocess.Popen(
        [sys.executable, SCRIPT, "--demo", "--num_epochs", "1000"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stderr.close()
        wait_until_taken(process)
        process.terminate()
    assert process.returncode == 143


@POSIX
def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    command = f"trap '' INT; exec {sys.executable} {SCRIPT} --demo --max_steps 1"
    with subprocess.Popen(["sh", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert b"Test accuracy: " in process.stdout.read()
    assert process.returncode == 0
