"""What a run starts from, and what it says when that cannot be had."""

import pytest

from additional_experiments import main
from experiments.config.flags import parse_args
from experiments.runs import fingerprint as identity
from experiments.runs import loop as runs
from experiments.runs import preparation
from experiments.runs.preparation import gather_files

pytestmark = pytest.mark.usefixtures("quick_and_alone")


def lines_of(capsys, monkeypatch, tmp_path, *flags):
    """What a run in an empty folder without a network ends with, line by line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as exit_:
        main([*flags])
    return str(exit_.value.code).splitlines()


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ([], ["sms_spam_collection/SMSSpamCollection", "gpt2/tokenizer/vocab.json",
              "gpt2/tokenizer/merges.txt", "gpt2/124M/model.safetensors"]),
        (["--row", "8"], ["sms_spam_collection/SMSSpamCollection", "gpt2/tokenizer/vocab.json",
                          "gpt2/tokenizer/merges.txt", "gpt2/1558M/model.safetensors"]),
        (["--row", "10"], ["sms_spam_collection/SMSSpamCollection", "gpt2/tokenizer/vocab.json",
                           "gpt2/tokenizer/merges.txt"]),
        (["--baseline", "majority"], ["sms_spam_collection/SMSSpamCollection"]),
    ],
    ids=["row 1", "row 8", "random weights", "baseline"],
)  # fmt: skip
def test_offline_a_run_names_all_that_it_lacks_at_once(
    flags, missing, capsys, monkeypatch, tmp_path
):
    lines = lines_of(capsys, monkeypatch, tmp_path, *flags)
    assert len(lines) == len(missing)
    for line, path in zip(lines, missing, strict=True):
        assert f" as {path} (SHA-256 " in line


def test_an_endpoint_without_a_scheme_ends_a_run_with_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "mirror.invalid")
    (line,) = lines_of(capsys, monkeypatch, tmp_path)
    assert line.startswith("additional_experiments.py: error: HF_ENDPOINT must begin with https://")


@pytest.mark.parametrize("flags", [[], ["--verify"]])
def test_verify_reaches_every_file_of_a_run(flags, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(preparation, "fetch_all", lambda needed, verify: asked.append(verify))
    monkeypatch.setattr(runs, "run_experiment", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([*flags, "--output_dir", str(tmp_path)])
    assert asked == [bool(flags)]


@pytest.mark.parametrize("flags", [[], ["--verify"]])
def test_verify_reaches_a_local_checkpoint(flags, miniature, monkeypatch):
    asked = []
    monkeypatch.setattr(
        identity, "known_sha256", lambda path, verify: asked.append((path, verify)) or "0" * 64
    )
    settings = parse_args(["--weights", str(miniature), *flags])
    identity.describe_subject(settings)
    assert asked == [(miniature, bool(flags))]


def test_verify_makes_no_other_run():
    plain, verifying = (parse_args(flags) for flags in ([], ["--verify"]))
    assert verifying.machine.verify
    assert not plain.machine.verify
    assert plain.identity == verifying.identity


def test_the_demo_needs_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = parse_args(["--demo", "--data_dir", str(tmp_path)])
    gather_files(settings.reading, settings.own, settings.network, verify=True)
