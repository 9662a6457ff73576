"""The fingerprint of a run, and the part of its record that is known before it starts."""

import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import torch
from records import make_record

import additional_experiments
from experiments.checkpoints.files import CHECKPOINT_SHA256
from experiments.config.arguments import MODEL_SIZES
from experiments.config.parsing import parse_args
from experiments.config.rows import DATA_SHA256, SPAM_CLASSES
from experiments.config.settings import GROUPS, flags_of
from experiments.data.corpus import Corpus, digest_of
from experiments.runs import fingerprint
from experiments.runs.fingerprint import begin_record, version_of
from experiments.runs.records import read_run, write_record

ROOT = Path(__file__).parents[1]
SMALL = "gpt2-small (124M)"
SPLITS = {"test": pd.DataFrame({"Label": [0], "Text": ["a"]})}


def begin(*flags, corpus=None):
    return begin_record(parse_args([*flags]), corpus)


def digest(*flags, corpus=None):
    return begin(*flags, corpus=corpus)["digest"]


@pytest.mark.parametrize(
    ("flags", "name", "model", "weights", "precision"),
    [
        ("--row 16 --seed 7", "row 16", f"{SMALL}, pretrained weights", CHECKPOINT_SHA256["124M"],
         "float32"),
        ("--row 10 --model_size 7M --precision bfloat16 --no_shortcuts", "row 10",
         "gpt2-tiny (7M), random weights", "random", "bfloat16"),
        ("--baseline majority", "baseline majority", "majority", None, "float32"),
    ],
)  # fmt: skip
def test_what_is_known_of_a_run_is_in_its_record(flags, name, model, weights, precision):
    record, row = begin(*flags.split()), name.partition("row ")[2]
    found = (record["name"], record["model"], record["weights"], record["precision"])
    assert found == (name, model, weights, precision)
    assert (record["row"], record["stands_in"]) == (int(row) if row else None, "7M" in flags)
    assert record["seed"] == (7 if "--seed" in flags else 123)
    assert (record["data"], record["classes"]) == (DATA_SHA256, list(SPAM_CLASSES))
    assert (record["prefix_reused"], record["split"]) == (False, None)
    assert row or record["settings"] == {"baseline": "majority"}
    environment = record["environment"]
    expected = {name: version(name) for name in ("torch", "numpy", "pandas", "tiktoken")}
    expected |= {"processes": 1, "device_type": "cpu", "shortcuts": "shortcuts" not in flags}
    assert expected.items() <= environment.items()
    more = environment.keys() - expected - fingerprint.list_versions().keys()
    assert more == {"platform", "device", "git_commit"}


@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")])
def test_the_same_command_on_the_same_machine_is_the_same_run_but_not_with_other_data(flags):
    assert digest(*flags) == digest(*flags, "--device", "cpu")
    corpora = [Corpus(SPLITS, SPAM_CLASSES, data) for data in ("one", "two")]
    assert len({digest(*flags, corpus=corpus) for corpus in (None, *corpora)}) == 3
    assert digest(*flags, corpus=Corpus(SPLITS, SPAM_CLASSES, DATA_SHA256)) == digest(*flags)


def test_every_flag_that_defines_a_run_changes_the_digest_and_no_other_does():
    settings = parse_args([])
    before = begin_record(settings, None)["digest"]
    for name, group in GROUPS.items():
        for f in flags_of(group):
            # The value need not be valid: what counts is that it is part of the digest.
            value = not f.default if isinstance(f.default, bool) else f"other than {f.default}"
            if f.name in ("device", "weights"):  # which count by their name and digest
                continue
            changed = replace(getattr(settings, name), **{f.name: value})
            other = begin_record(replace(settings, **{name: changed}), None)["digest"]
            is_other = f.metadata["defines_run"] or f.name == "no_shortcuts"
            assert (other != before) == is_other, f.name


def test_another_seed_baseline_or_model_is_another_run():
    flags = ("--seed 5", "--baseline majority", "--baseline bag_of_words", "--row 6", "--row 10",
             "--row 16", "")  # fmt: skip
    assert len({digest(*words.split()) for words in flags}) == len(flags)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (fingerprint, "cpu_name", lambda: "another"),
        (fingerprint, "_device_of", lambda _: ("cuda", "one")),
        (fingerprint, "_device_of", lambda _: ("mps", "one")),
        (fingerprint, "source_digest", lambda: "edited"),
        (fingerprint, "list_versions", lambda: {"torch": "other"}),
        (CHECKPOINT_SHA256, "124M", "5" * 64),
        (MODEL_SIZES, SMALL, MODEL_SIZES[SMALL] | {"n_heads": 6}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_machine_code_or_model_is_another_run(place, name, value, monkeypatch):
    before, baseline = digest(), digest("--baseline", "majority")
    if isinstance(place, dict):
        monkeypatch.setitem(place, name, value)
    else:
        monkeypatch.setattr(place, name, value)
        assert digest("--baseline", "majority") != baseline
    assert digest() != before


def test_a_record_of_custom_data_has_its_split_as_plain_values():
    corpus = Corpus(SPLITS, ("a", "b"), "digest", whole="of all")
    record = begin("--data", "x.csv", "--split_seed", "5", corpus=corpus)
    expected = {"of": "of all", "seed": 5, "custom": {"data": "x.csv", "split_seed": 5}}
    expected |= {"test": digest_of(SPLITS, ("a", "b")), "sizes": {"test": 1}}
    assert (record["split"], record["classes"]) == (expected, ["a", "b"])


@pytest.mark.parametrize(
    ("torch_version", "platform", "on_cpu"),
    [
        ("2.13.0+cpu", "linux", {"cpu", "auto"}),
        ("2.13.0", "darwin", {"cpu", "auto"}),
        ("2.13.0", "linux", {"cpu"}),
    ],
)
def test_only_a_build_without_cuda_is_known_to_use_the_cpu(
    torch_version, platform, on_cpu, monkeypatch
):
    from experiments.system import devices

    monkeypatch.setattr(fingerprint, "version_of", lambda _: torch_version)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(devices, "select_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(devices, "device_name", lambda _: "a GPU")
    settings = parse_args([])
    for device in ("cpu", "auto", "cuda", "mps"):
        there = replace(settings, runtime=replace(settings.runtime, device=device))
        found = fingerprint._device_of(there)
        assert found[0] == "cpu" if device in on_cpu else found == ("cuda", "a GPU")
        assert fingerprint._device_of(replace(there, baseline="majority"))[0] == "cpu"


def test_the_version_of_a_library_that_was_built_by_hand_is_its_own(monkeypatch):
    def unknown(name):
        raise fingerprint.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(fingerprint.metadata, "version", unknown)
    assert version_of.__wrapped__("torch") == torch.__version__


def test_the_source_digest_covers_every_module_that_a_run_imports():
    covered = set(fingerprint.source_files())
    package = set((ROOT / "experiments").rglob("*.py"))
    assert package - covered == set((ROOT / "experiments" / "comparison").glob("*.py"))
    for name in ("additional_experiments", "gpt_download", "previous_chapters"):
        assert ROOT / f"{name}.py" in covered
    assert fingerprint.source_digest().count(" ") == len(covered) - 1


def test_the_commit_is_marked_if_a_tracked_file_is_edited_and_branches_have_any_name(
    tmp_path, monkeypatch
):
    def git(*words):
        user = ["-c", "user.name=A", "-c", "user.email=a@b"]
        subprocess.run(["git", *user, *words], cwd=tmp_path, check=True)

    monkeypatch.setattr(fingerprint, "_FOLDER", tmp_path)
    find_commit, file = fingerprint.git_commit.__wrapped__, tmp_path / "script.py"
    file.touch()
    git("init", "-q", b"--initial-branch=b\xe4d")
    git("add", "script.py")
    assert find_commit() is None
    git("commit", "-qm", "x")
    commit = find_commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (tmp_path / "untracked.py").touch()
    assert find_commit() == commit
    file.write_text("edited")
    assert find_commit() == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "")
    assert find_commit() is None


# ------------------------------------------------------------------------- runs recorded already

FLAGS = ("--row", "16", "--weights", "random")


@pytest.fixture
def recorded(tmp_path):
    """The record of a run, written as the run itself would."""
    record = make_record(16) | begin(*FLAGS)
    return write_record(tmp_path, record)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the script without computing anything; return the runs that it would make."""

    def run_(*flags):
        made = []

        def run_experiment(settings, *_):
            made.append(settings)
            raise ValueError("not computed here")

        monkeypatch.setattr(additional_experiments, "run_experiment", run_experiment)
        with suppress(SystemExit):
            additional_experiments.main([*FLAGS, *flags, "--output_dir", str(tmp_path)])
        return made

    return run_


def test_a_run_that_is_recorded_is_skipped(run, recorded, tmp_path, capsys):
    assert run() == []
    assert capsys.readouterr().out == (
        "Run: row 16, weights random, seed 123\n"
        f"Recorded already, test accuracy 100.00% (--overwrite repeats it): {recorded}\n"
        f"Next: python compare_experiments.py --results {tmp_path}; "
        "--save_model saves a classifier\n"
    )
    assert [settings.seed for settings in run("--num_seeds", "2")] == [124]
    before = read_run(recorded)
    assert run("--name", "mine") == []
    assert vars(read_run(recorded)) == vars(before) | {"label": "mine"}


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    "flags",
    ["--overwrite", "--save_model x.safetensors", "--seed 7", "--dry_run", "--num_epochs 1",
     "--precision bfloat16", "--no_shortcuts"],
)  # fmt: skip
def test_another_run_or_one_that_writes_more_is_made(flags, run):
    assert len(run(*flags.split())) == 1


@pytest.mark.process
@pytest.mark.usefixtures("recorded")
def test_a_recorded_run_does_not_wait_for_pytorch(tmp_path):
    script = [sys.executable, "-X", "importtime", "additional_experiments.py", *FLAGS]
    script += ["--output_dir", str(tmp_path)]
    run = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Recorded already" in run.stdout
    assert not any(f" {name}\n" in run.stderr for name in ("torch", "pandas", "numpy"))
