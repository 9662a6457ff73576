"""The fingerprint of a run, and the part of its record that is known before it starts."""

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import torch

from additional_experiments import main
from experiments.checkpoints.files import CHECKPOINT_SHA256
from experiments.config.arguments import MODEL_SIZES
from experiments.config.parsing import parse_args
from experiments.config.rows import DATA_SHA256, SPAM_CLASSES
from experiments.config.settings import GROUPS, flags_of
from experiments.data.corpus import Corpus, digest_of
from experiments.runs import fingerprint
from experiments.runs.fingerprint import begin_record, list_versions, version_of
from experiments.runs.records import read_run, write_record

ROOT = Path(__file__).parents[1]

SPLITS = {"test": pd.DataFrame({"Label": [0], "Text": ["a"]})}


def begin(*flags, corpus=None):
    return begin_record(parse_args([*flags]), corpus)


def digest(*flags, corpus=None):
    return begin(*flags, corpus=corpus)["digest"]


SMALL, XL = "gpt2-small (124M)", "gpt2-xl (1558M)"


@pytest.mark.parametrize(
    ("flags", "name", "model", "weights", "precision"),
    [
        ("--row 16 --seed 7", "row 16", f"{SMALL}, pretrained weights", CHECKPOINT_SHA256["124M"],
         "float32"),
        ("--row 8", "row 08", f"{XL}, pretrained weights", CHECKPOINT_SHA256["1558M"], "float32"),
        ("--row 10 --precision bfloat16", "row 10", f"{SMALL}, random weights", "random",
         "bfloat16"),
        ("--baseline majority", "baseline majority", "majority", None, "float32"),
    ],
)  # fmt: skip
def test_what_is_known_of_a_run_is_in_its_record(flags, name, model, weights, precision):
    record, row = begin(*flags.split()), name.partition("row ")[2]
    found = (record["name"], record["model"], record["weights"], record["precision"])
    assert found == (name, model, weights, precision)
    assert (record["row"], record["stands_in"]) == (int(row) if row else None, False)
    assert record["seed"] == (7 if "--seed" in flags else 123)
    assert (record["data"], record["classes"]) == (DATA_SHA256, list(SPAM_CLASSES))
    assert (record["environment"]["device_type"], record["prefix_reused"]) == ("cpu", False)
    assert row or record["settings"] == {"baseline": "majority"}


def test_a_record_has_versions_and_whether_shortcuts_were_used(monkeypatch):
    names = {"torch", "numpy", "pandas", "tiktoken"}
    for flags in ([], ["--no_shortcuts"]):
        environment = begin(*flags)["environment"]
        assert {name: environment[name] for name in names} == {n: version(n) for n in names}
        assert environment["shortcuts"] == (not flags)
        assert environment["processes"] == 1
        more = {"python", "platform", "device", "device_type", "shortcuts", "git_commit"}
        assert environment.keys() == names | more | {"processes"}


@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")])
def test_the_same_command_on_the_same_machine_is_the_same_run(flags):
    assert digest(*flags) == digest(*flags) == digest(*flags, "--device", "cpu")


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


@pytest.mark.parametrize(
    "flags", [["--seed", "5"], ["--baseline", "majority"], ["--baseline", "bag_of_words"],
              ["--row", "6"], ["--row", "10"], ["--row", "16"]]
)  # fmt: skip
def test_another_seed_baseline_or_model_is_another_run(flags):
    assert digest(*flags) != digest()
    assert digest("--baseline", "majority") != digest("--baseline", "bag_of_words")


@pytest.mark.parametrize("flags", [(), ("--baseline", "majority")])
def test_other_data_are_another_run(flags):
    corpora = [Corpus(SPLITS, SPAM_CLASSES, data) for data in ("one", "two")]
    assert len({digest(*flags, corpus=corpus) for corpus in (None, *corpora)}) == 3
    assert digest(*flags, corpus=Corpus(SPLITS, SPAM_CLASSES, DATA_SHA256)) == digest(*flags)


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
    assert record["split"] == expected
    assert record["classes"] == ["a", "b"]
    assert begin()["split"] is None


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


def test_versions_are_those_of_the_libraries(monkeypatch):
    expected = {"torch": torch.__version__, "pandas": pd.__version__}
    assert expected.items() <= list_versions().items()

    def unknown(name):
        raise fingerprint.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(fingerprint.metadata, "version", unknown)
    version_of.cache_clear()
    assert version_of("torch") == torch.__version__  # as the library itself says
    version_of.cache_clear()


def test_the_source_digest_covers_every_module_that_a_run_imports():
    covered = set(fingerprint.source_files())
    package = set((ROOT / "experiments").rglob("*.py"))
    assert package - covered == set((ROOT / "experiments" / "comparison").glob("*.py"))
    for name in ("additional_experiments", "gpt_download", "previous_chapters"):
        assert ROOT / f"{name}.py" in covered
    assert fingerprint.source_digest().count(" ") == len(covered) - 1


def test_the_commit_of_a_branch_whose_name_is_not_utf_8_is_known(tmp_path, monkeypatch):
    for command in (
        ["init", "-q", b"--initial-branch=b\xe4d"],
        ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(fingerprint, "_FOLDER", tmp_path)
    assert len(fingerprint.git_commit.__wrapped__()) == 40


def test_the_commit_is_marked_if_a_tracked_file_is_edited(monkeypatch):
    unchanged = "# branch.oid abc\n# branch.head main\n"
    edited = unchanged + "1 .M N... 100644 100644 100644 5 5 script.py\n"
    for status, expected in (
        (unchanged, "abc"), (edited, "abc-dirty"), ("# branch.oid (initial)\n", None)
    ):  # fmt: skip
        monkeypatch.setattr(subprocess, "check_output", lambda *_, found=status, **__: found)
        assert fingerprint.git_commit.__wrapped__() == expected

    def no_git(*_, **__):
        raise OSError("no git")

    monkeypatch.setattr(subprocess, "check_output", no_git)
    assert fingerprint.git_commit.__wrapped__() is None


# ------------------------------------------------------------------------- runs recorded already


@pytest.fixture
def leave_record(tmp_path):
    """Write the record of a run, as the run itself would."""
    from records import make_record

    def write(*flags, **more):
        settings = parse_args([*flags, "--output_dir", str(tmp_path)])
        begun = begin_record(settings, None)
        return write_record(tmp_path, make_record(16) | begun | more)

    return write


FLAGS = ("--row", "16", "--weights", "random")


def run(tmp_path, monkeypatch, *flags):
    """Run the script without computing anything; return the runs that it would make."""
    import additional_experiments

    made = []

    def run_experiment(settings, cache, record=None):
        made.append(settings)
        raise ValueError("not computed here")

    monkeypatch.setattr(additional_experiments, "run_experiment", run_experiment)
    with suppress(SystemExit):
        main([*flags, "--output_dir", str(tmp_path)])
    return made


def test_a_run_that_is_recorded_is_skipped(tmp_path, monkeypatch, leave_record, capsys):
    path = leave_record(*FLAGS)
    assert run(tmp_path, monkeypatch, *FLAGS) == []
    accuracy = "test accuracy 100.00%"
    assert capsys.readouterr().out == (
        "Run: row 16, weights random, seed 123\n"
        f"Recorded already, {accuracy} (--overwrite repeats it): {path}\n"
        f"Next: python compare_experiments.py --results {tmp_path}; "
        "--save_model saves a classifier\n"
    )
    assert [s.seed for s in run(tmp_path, monkeypatch, *FLAGS, "--num_seeds", "2")] == [124]
    before = read_run(path)
    assert run(tmp_path, monkeypatch, *FLAGS, "--name", "mine") == []
    assert vars(read_run(path)) == vars(before) | {"label": "mine"}


@pytest.mark.parametrize(
    "flags",
    [["--overwrite"], ["--save_model", "x.safetensors"], ["--seed", "7"], ["--dry_run"],
     ["--num_epochs", "1"], ["--precision", "bfloat16"], ["--no_shortcuts"]],
)  # fmt: skip
def test_another_run_or_one_that_writes_more_is_made(flags, tmp_path, monkeypatch, leave_record):
    leave_record(*FLAGS)
    assert len(run(tmp_path, monkeypatch, *FLAGS, *flags)) == 1


@pytest.mark.process
def test_a_recorded_run_does_not_wait_for_pytorch(tmp_path, leave_record):
    leave_record(*FLAGS)
    script = [sys.executable, "-X", "importtime", "additional_experiments.py", *FLAGS]
    script += ["--output_dir", str(tmp_path)]
    run = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Recorded already" in run.stdout
    assert not any(f" {name}\n" in run.stderr for name in ("torch", "pandas", "numpy"))
