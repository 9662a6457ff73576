"""What is known of a run before PyTorch is imported."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import tiktoken
import torch
from records import begin_record, make_record

from experiments.config.flags import parse_args, parse_rows
from experiments.runs import fingerprint as identity
from experiments.runs.fingerprint import is_on_cpu, list_versions, tell_recorded, version_of
from experiments.runs.records import write_record

ROOT = Path(__file__).parents[1]


def leave_record(folder, *flags, seed=123, **more):
    """Leaves a finished record of a run, as the run itself would."""
    settings = replace(parse_args([*flags, "--output_dir", str(folder)]), seed=seed)
    begun = begin_record(settings)
    found = make_record(16, seed=seed)
    return write_record(folder, found | {"row": begun["row"], **begun} | more)


def told(folder, *flags, capsys):
    is_recorded = tell_recorded(parse_rows([*flags, "--output_dir", str(folder)]))
    return is_recorded, capsys.readouterr().out


FLAGS = ("--row", "16", "--weights", "random")


def test_a_run_that_is_recorded_is_told_with_its_path(tmp_path, capsys):
    path = leave_record(tmp_path, *FLAGS)
    expected = f"Recorded already, and not run again (--overwrite does): {path}\n"
    assert told(tmp_path, *FLAGS, capsys=capsys) == (True, expected)


def test_all_seeds_have_to_be_recorded(tmp_path, capsys):
    leave_record(tmp_path, *FLAGS)
    assert told(tmp_path, *FLAGS, "--num_seeds", "2", capsys=capsys) == (False, "")
    leave_record(tmp_path, *FLAGS, seed=124)
    is_recorded, words = told(tmp_path, *FLAGS, "--num_seeds", "2", capsys=capsys)
    assert (is_recorded, words.count("\n")) == (True, 2)


@pytest.mark.parametrize(
    "flags",
    [
        ["--overwrite"], ["--save_model", "x.safetensors"], ["--seed", "7"], ["--dry_run"],
        ["--num_epochs", "1"], ["--precision", "bfloat16"], ["--no_shortcuts"],
    ],
)  # fmt: skip
def test_another_run_and_one_that_leaves_more_are_made(flags, tmp_path, capsys):
    leave_record(tmp_path, *FLAGS)
    assert told(tmp_path, *FLAGS, *flags, capsys=capsys) == (False, "")


def test_a_failed_run_and_edited_code_are_made_anew(tmp_path, capsys, monkeypatch):
    leave_record(tmp_path, *FLAGS, status="failed")
    assert told(tmp_path, *FLAGS, capsys=capsys) == (False, "")
    leave_record(tmp_path, *FLAGS)
    monkeypatch.setattr(identity, "source_digest", lambda: "edited")
    assert told(tmp_path, *FLAGS, capsys=capsys) == (False, "")


def test_what_only_a_run_can_tell_is_left_to_it(tmp_path, capsys, monkeypatch):
    leave_record(tmp_path, *FLAGS)
    assert told(tmp_path, *FLAGS, "--row", "16,17", capsys=capsys) == (False, "")
    for name, answer in (("is_on_cpu", lambda _: False), ("is_launched", lambda: True)):
        with monkeypatch.context() as patch:
            patch.setattr(identity, name, answer)
            assert told(tmp_path, *FLAGS, capsys=capsys) == (False, "")
    assert told(tmp_path, *FLAGS, capsys=capsys)[0]


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("no checkpoint")])
def test_what_is_wrong_is_told_by_the_run(error, tmp_path, capsys, monkeypatch):
    def fail(_):
        raise error

    monkeypatch.setattr(identity, "describe_subject", fail)
    assert told(tmp_path, *FLAGS, capsys=capsys) == (False, "")


@pytest.mark.parametrize(
    ("version", "platform", "on_cpu"),
    [
        ("2.13.0+cpu", "linux", {"cpu", "auto"}),
        ("2.13.0", "darwin", {"cpu", "auto"}),
        ("2.13.0", "linux", {"cpu"}),
    ],
)
def test_only_a_build_without_cuda_is_surely_on_the_cpu(version, platform, on_cpu, monkeypatch):
    monkeypatch.setattr(identity, "version_of", lambda _: version)
    monkeypatch.setattr(sys, "platform", platform)
    settings = parse_args(FLAGS)
    for device in ("cpu", "auto", "cuda", "mps"):
        there = replace(settings, machine=replace(settings.machine, device=device))
        assert is_on_cpu(there) == (device in on_cpu)
        assert is_on_cpu(replace(there, baseline="majority"))


def test_a_recorded_run_waits_for_no_pytorch(tmp_path):
    leave_record(tmp_path, *FLAGS)
    code = (
        "import sys; from experiments.config.flags import parse_rows;"
        "from experiments.runs.fingerprint import tell_recorded;"
        f"assert tell_recorded(parse_rows({[*FLAGS, '--output_dir', str(tmp_path)]!r}));"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    script = [sys.executable, "-X", "importtime", "additional_experiments.py", *FLAGS]
    script += ["--output_dir", str(tmp_path)]
    run = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("Recorded already")
    assert " torch\n" not in run.stderr


def test_versions_are_those_that_the_libraries_say():
    expected = {"torch": torch.__version__, "pandas": pd.__version__}
    assert expected.items() <= list_versions().items()
    assert version_of("tiktoken") == tiktoken.__version__


def test_a_library_that_pip_does_not_know_says_its_version_itself(monkeypatch):
    def unknown(name):
        raise identity.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(identity.metadata, "version", unknown)
    assert version_of("torch") == torch.__version__
