"""Command lines of runs: what flags mean, alone and together, and what is refused."""

import json
import re
import shlex

import pytest
import torch
from checkpoints import write_checkpoint

from experiments.checkpoints import header
from experiments.checkpoints.files import CHECKPOINT_SHA256
from experiments.config import checks
from experiments.config.arguments import MODEL_SIZES, TINY
from experiments.config.naming import name_of
from experiments.config.parsing import GPT2, parse_args, parse_runs, read_custom_values
from experiments.config.rows import ROWS
from experiments.config.settings import default_values
from experiments.system.files import sha256_of

SHORT = {"n_vocab": 50257, "n_ctx": 32, "n_embd": 192, "n_head": 3, "n_layer": 2}
SMALL = "gpt2-small (124M)"


def refused(capsys, flags):
    """The lines with which flags are refused."""
    with pytest.raises(SystemExit) as exit_:
        parse_runs(shlex.split(flags))
    assert exit_.value.code == 2
    return capsys.readouterr().err.splitlines()


# ----------------------------------------------------------------------------------- single flags


def test_the_defaults_are_the_published_ones():
    expected = {
        "model_size": SMALL, "weights": "pretrained", "trainable_layers": "last_block",
        "trainable_token_pos": "last", "context_length": "longest_training_example",
        "lora_rank": 8, "lora_alpha": 8, "num_epochs": 5, "batch_size": 8, "accumulation_steps": 1,
        "ignore_index": -100, "average_embeddings": False, "no_padding": False,
        "disable_causal_mask": False, "seed": 123, "learning_rate": 5e-5, "weight_decay": 0.1,
    }  # fmt: skip
    assert expected.items() <= default_values().items()
    assert parse_args(["--trainable_layers", "lora"]).design.lora_scaling == 8


NO_PADDING = "--no_padding requires --batch_size 1 .use --accumulation_steps for larger steps."
REFUSED = {  # flags, and what the sentence says
    "--no_padding": NO_PADDING,
    "--row all --batch_size 4": f"row 14; row 15: {NO_PADDING}",
    "--no_padding --batch_size 1 --context_length 9": "remove --context_length",
    "--context_length 1025": "--context_length 1025 exceeds the model's 1024: use 1024 or less",
    "--context_length 0": "--context_length: must be .* above 0",
    "--lora_rank 0": "--lora_rank: must be a whole number from 1 to",
    "--lora_rank 3073 --row 11": "--lora_rank 3073 .* use 3072 or less",
    "--lora_alpha nan": "--lora_alpha: must be a number above 0",
    "--num_epochs ²": "--num_epochs: must be a whole number",
    "--trainable_layers last_blok": "--trainable_layers: .*last_block",
    "--weights nowhere.safetensors": "--weights: must be pretrained, random",
    f"--weights {__file__}": "--weights: .* safetensors file",
    f"--model_size '{TINY}'": "no weights were published .*: add --weights random",
    "--model_size 'gpt2-xl (1558M)--trainable_layers' all":
        r"a space is missing between 'gpt2-xl \(1558M\)' and '--trainable_layers'",
    "--demo --weights pretrained": "--demo .* remove",
    "--demo --max_steps 156": "--max_steps 156 exceeds the 155 steps of --num_epochs 5",
    "--demo --data x.csv": "--demo .* remove --data",
    "--baseline majority --num_seeds 2": "--baseline .* remove --num_seeds",
    "--baseline majority --save_model m.safetensors": "--baseline has no model",
    "--baseline majority --tensorboard logs": "--baseline has no losses",
    "--no_shortcuts --cache_dir x": "--no_shortcuts .* remove --cache_dir",
    f"--cache_dir {__file__}": "--cache_dir .* is a file",
    f"--data_dir {'a' * 300}": "too long",
    "lora": "unknown: lora; --help",
    "--warmup_steps 651": "--warmup_steps 651 exceeds the 650 steps",
    "--batch_size 1046": "--batch_size 1046 exceeds the 1,045 training examples",
    "--save_model gpt2/124M/model.safetensors": "is an input of the run: name another file",
    "--save_model .": r"--save_model \. must end in \.safetensors",
    "--save_model m_{row}.safetensors": r"--save_model has no value for \{row\}: use \{seed\}",
    "--save_whole": "--save_whole requires --save_model",
    "--save_model m.safetensors --num_seeds 2": "needs {seed} in the file's name with --num_seeds",
    "--save_model m.safetensors --row 1,2": "needs {row} in the file's name with several rows",
    "--save_model m.safetensors --vary keep_best false true": "needs {design} .* with --vary",
    "--parallel shard": "torchrun --nproc_per_node=2",
    "--device tpu": "--device: must be auto, cpu, cuda",
    **{f"--row={word}": "must be a row from 1 to 19, several such as 1-5,10,16, or all"
       for word in ("0", "20", "1-20", "5-3", "''", "1,", "one", "1--3", "-1")},
    "--vary output_dir a b": "--vary output_dir: not a flag that defines a design",
    "--vary keep_best true": "--vary keep_best needs two or more different values",
    "--vary learning_rate 1e-3 0.001 1e-4": "needs two or more different values",
    "--vary trainable_layers lora none": "--vary trainable_layers: must be all or last_block",
    "--vary lora_rank 4 8": "--vary lora_rank has no effect without LoRA .--trainable_layers lora.",
    "--vary lora_rank 4 8 --lora_rank 4": "--vary lora_rank: the flag is given twice",
    "--vary keep_best false true --vary keep_best true false": "keep_best: the flag is given twice",
    "--vary keep_best false true --name x": "--name names one design",
    **{f"--name '{name}'": "--name: must be 1 to 60 printable .* neither a number nor a row"
       for name in ("12", "row 16", "Row 3, mine", "baseline x")},
    "--text_column a --balance": "--text_column and --balance requires --data",
    "--data - --test_data -": "only one file can be standard input",
    "--data x --validation_data y --test_data z --split 80/10/10": "--split has no effect",
    "--data x --split_column s --test_data y": "--split_column has all splits",
    "--data x --split 80/10/20": "--split: .* sum to 100",
    "--data x --encoding utf-9": "--encoding: must be an encoding",
    "--data x --encoding base64": "--encoding: must be an encoding",
    "--data x --separator ';;'": "--separator: must be one character",
    "--data x --quoting x": "--quoting: invalid choice",
    "--data x --min_class_size 0": "--min_class_size: must be a whole number",
}  # fmt: skip


@pytest.mark.parametrize("flags", REFUSED)
def test_flags_that_do_not_fit_end_with_status_2_and_one_sentence(flags, capsys):
    (message,) = refused(capsys, flags)
    assert re.search(REFUSED[flags], message)


@pytest.mark.parametrize("text", ["124M", "124m", "gpt2-small", SMALL])
def test_a_size_can_be_named_by_a_part(text):
    assert parse_args(["--model_size", text]).model.model_size == SMALL


def test_tensorboard_must_be_installed(monkeypatch, capsys):
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert "pip install tensorboard" in refused(capsys, "--tensorboard logs")[0]


def test_a_classifier_is_never_saved_over_the_checkpoint(miniature, tmp_path, capsys):
    base, link = tmp_path / "base124.safetensors", tmp_path / "link.safetensors"
    base.symlink_to(miniature)
    link.symlink_to(base)
    seeds = tmp_path / "base{seed}.safetensors --num_seeds 2"
    for target in (base, link, seeds, tmp_path / "x" / ".." / f"{base.name} --overwrite"):
        message = refused(capsys, f"--weights {base} --save_model {target}")[0]
        assert "is an input of the run: name another file" in message


def test_processes_are_started_by_torchrun_and_cannot_share_standard_input(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "use torchrun --nproc_per_node=2 additional_experiments.py"
    assert message in refused(capsys, "")[0]
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    assert "one process only" in refused(capsys, "--data -")[0]
    assert parse_args(["--parallel", "shard"]).runtime.parallel == "shard"


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_a_gpu_can_be_named_if_it_is_there(name, monkeypatch, capsys):
    assert f"--device {name} is not available here" in refused(capsys, f"--device {name}")[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert parse_args(["--device", name]).runtime.device == name
    assert "--device cuda:2 is not available" in refused(capsys, "--device cuda:2")[0]


@pytest.mark.parametrize(
    ("name", "scaling"), [("alpha", 12), ("alpha_over_rank", 12 / 9), ("rslora", 12 / 3)]
)
def test_lora_scaling_is_alpha_in_one_of_three_ways(name, scaling):
    flags = ["--row", "11", "--lora_rank", "9", "--lora_alpha", "12", "--lora_scaling", name]
    assert parse_args(flags).design.lora_scaling == pytest.approx(scaling)


# ------------------------------------------------------------------------------------ rows, seeds


@pytest.mark.parametrize("number", ROWS)
def test_a_row_is_recognised_by_its_flags(number):
    row = ["--row", str(number)]
    for settings in (parse_args(row), parse_args(shlex.split(ROWS[number].flags))):
        assert (settings.row, settings.is_substitute) == (number, False)
    elsewhere = ["--seed", "7", "--device", "cpu", "--data_dir", "x", "--precision", "bfloat16"]
    assert parse_args([*row, *elsewhere]).row == number
    for other in (["--max_steps", "3"], ["--num_epochs", "4"], ["--demo"]):
        assert parse_args([*row, *other]).row is None


def test_flags_override_those_of_the_row():
    settings = parse_args(["--lora_rank", "4", "--row", "11"])
    assert settings.model.trainable_layers == "lora"
    assert (settings.design.lora_rank, settings.design.lora_scaling) == (4, 16)


@pytest.mark.parametrize(
    ("words", "rows"),
    [("1-5,10,16", [1, 2, 3, 4, 5, 10, 16]), ("16,1,1", [1, 16]), ("all", [*ROWS])],
)
def test_rows_are_named_by_number_by_range_or_all(words, rows):
    assert [settings.row for settings in parse_runs(["--row", words])] == rows


def test_vary_makes_a_run_for_each_combination_row_and_seed():
    flags = "--row 1,16 --seed 7 --num_seeds 2 --vary learning_rate 5e-5 1e-4 "
    runs = parse_runs(f"{flags} --vary keep_best false true".split())
    found = [(r.row, r.training.learning_rate, r.training.keep_best, r.seed) for r in runs]
    assert found[:5] == [
        (1, 5e-5, False, 7), (1, 5e-5, False, 8), (None, 5e-5, True, 7), (None, 5e-5, True, 8),
        (None, 1e-4, False, 7),
    ]  # fmt: skip
    row, rate = "row 16", "row 16, learning_rate 0.0001"
    assert [name_of(r) for r in runs[8:16:2]] == [
        row,
        f"{row}, keep_best",
        rate,
        f"{rate}, keep_best",
    ]
    assert len(runs) == 16


def test_all_invalid_values_and_combinations_of_a_grid_are_named(capsys):
    assert refused(capsys, "--vary lora_rank 4 x --vary keep_best yes no --vary lr 1 2") == [
        "additional_experiments.py: error: --vary lora_rank: must be a whole number from 1 to "
        "9223372036854775807, got 'x'",
        "--vary keep_best: must be false or true, got 'yes'",
        "--vary keep_best: must be false or true, got 'no'",
        "--vary lr: not a flag that defines a design; did you mean --learning_rate?",
    ]
    grid = "--row 1,16 --vary no_padding true false --vary batch_size 1 2 9999"
    assert refused(capsys, grid) == [
        "additional_experiments.py: error: row 1, no_padding, batch_size 2; row 1, no_padding, "
        "batch_size 9999; row 16, no_padding, batch_size 2; row 16, no_padding, batch_size 9999: "
        "--no_padding requires --batch_size 1 (use --accumulation_steps for larger steps)",
        "row 1, no_padding False, batch_size 9999; row 16, no_padding False, batch_size 9999: "
        "--batch_size 9999 exceeds the 1,045 training examples",
    ]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("--vary learning_rate 1e-4 1e-3 --vary keep_best false true --save_model {design}",
         ["learning_rate_0.0001_keep_best_False", "learning_rate_0.0001_keep_best",
          "learning_rate_0.001_keep_best_False", "learning_rate_0.001_keep_best"]),
        ("--row 1,16 --save_model model_{row}", ["model_1", "model_16"]),
    ],
)  # fmt: skip
def test_saved_models_of_several_designs_have_names_of_their_own(flags, names):
    runs = parse_runs(f"{flags}.safetensors".split())
    assert [settings.output.save_model.stem for settings in runs] == names


# ---------------------------------------------------------------------------------------- weights


def test_a_checkpoint_determines_its_size(tmp_path, capsys, monkeypatch):
    path = write_checkpoint(tmp_path / "some.safetensors", SHORT)
    short = ["--weights", str(path), "--context_length", "32"]
    settings = parse_args(short)
    config = GPT2 | {"context_length": 32, "emb_dim": 192, "n_layers": 2, "n_heads": 3}
    assert settings.design.config == config
    weights = settings.weights
    assert (weights.kind, weights.path, weights.sha256) == ("checkpoint", path, sha256_of(path))
    assert weights.description == "checkpoint some.safetensors"
    assert parse_args([*short, "--row", "6"]).design.config == config
    for more in ("--model_size '124M'", "--context_length 33"):
        assert more.split()[0] in refused(capsys, f"--weights {path} {more}")[0]
    assert "add --context_length 32" in refused(capsys, f"--weights {path}")[0]
    (tmp_path / "config.json").write_text('{"n_head": 6}')
    path.rename(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    settings = parse_args(["--weights", ".", *short[2:]])
    assert settings.design.config == config | {"n_heads": 6}
    assert settings.weights.description == f"checkpoint {tmp_path.name}"
    path = write_checkpoint(tmp_path / "some.safetensors", SHORT | {"n_vocab": 60})
    assert "has 60 tokens" in refused(capsys, f"--weights {path}")[0]


def test_a_checkpoint_is_a_substitute_for_the_published_one(miniature):
    weights = ["--weights", str(miniature)]
    for flags, row in (
        ([*weights, "--trainable_layers", "all"], 5), ([*weights, "--row", "6"], 6),
        (["--row", "10", "--model_size", TINY], 10),
    ):  # fmt: skip
        settings = parse_args(flags)
        assert (settings.row, settings.is_substitute) == (row, True)
    assert parse_args([*weights, "--num_epochs", "9"]).row is None


def test_a_local_file_with_a_published_digest_and_heads_is_the_published_model(
    miniature, monkeypatch
):
    sizes = {"emb_dim": 128, "n_layers": 3, "n_heads": 2}
    monkeypatch.setitem(CHECKPOINT_SHA256, "124M", sha256_of(miniature))
    monkeypatch.setitem(MODEL_SIZES, SMALL, sizes)
    local = parse_args(["--row", "2", "--weights", str(miniature)])
    assert (local.row, local.is_substitute) == (2, False)
    assert local.weights.description == "gpt2-small (124M), pretrained weights"
    assert local.weights.path == miniature  # which is read, and not downloaded again
    assert local.identity == parse_args(["--row", "2"]).identity
    monkeypatch.setitem(MODEL_SIZES, SMALL, sizes | {"n_heads": 1})
    assert parse_args(["--row", "2", "--weights", str(miniature)]).is_substitute


@pytest.mark.parametrize("flags", [[], ["--verify"]])
def test_verify_reaches_a_local_checkpoint(flags, miniature, monkeypatch):
    asked = []
    monkeypatch.setattr(header, "checkpoint_sha256", lambda *given: asked.append(given) or "0" * 64)
    parse_args(["--weights", str(miniature), *flags])
    assert asked == [(miniature, bool(flags))]


# -------------------------------------------------------------------------------------- identity


@pytest.mark.parametrize(
    ("flags", "same_as", "note"),
    [
        ("--lora_rank 4 --lora_alpha 2", "", "LoRA .*: --lora_rank and --lora_alpha"),
        ("--row 11 --trainable_layers last_block", "", "row 11 becomes row 1"),
        ("--average_embeddings --trainable_token_pos first", "--row 19",
         "with --average_embeddings, unless it is flexible: --trainable_token_pos"),
        ("--row 14 --context_length model_context_length", "--row 14",
         "no effect with --no_padding: --context_length"),
        ("--baseline majority --num_epochs 3 --seed 5", "--baseline majority",
         "with --baseline: --num_epochs and --seed"),
        ("--demo --overwrite", "--demo", "with --demo, which is not recorded: --overwrite"),
        ("--data x.csv --data_dir y", "--data x.csv", "on --data: --data_dir"),
    ],
)  # fmt: skip
def test_flags_without_effect_are_noted_and_make_no_other_run(flags, same_as, note):
    settings, expected = parse_args(flags.split()), parse_args(same_as.split())
    assert settings.identity == expected.identity
    assert (settings.row, settings.seed) == (expected.row, expected.seed)
    assert settings.design == expected.design
    (found,) = settings.notes
    assert re.search(f"^Note: .*{note}$", found)
    assert not expected.notes


def test_custom_data_is_stored_as_plain_values_and_read_back():
    flags = "--data x.csv --split 80/10/10 --balance --text_column a b --text_column c"
    settings = parse_args(flags.split())
    assert settings.custom_values == {
        "data": "x.csv", "text_column": ("a", "b", "c"), "split": (80, 10, 10), "balance": True,
    }  # fmt: skip
    stored = json.loads(json.dumps(settings.custom_values))
    assert read_custom_values(stored) == settings.custom
    assert parse_args([]).custom_values == {}
    assert read_custom_values({"data": "x.csv", "text_column": "body"}).text_column == ("body",)


@pytest.mark.parametrize("text", ["\t", "tab", "\\t"])
def test_a_tab_has_several_names(text):
    assert parse_args(["--data", "x.csv", "--separator", text]).custom.separator == "\t"
