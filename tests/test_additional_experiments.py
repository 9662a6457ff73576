import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from checkpoints import write_checkpoint

from additional_experiments import main, run_experiment
from experiments.config.flags import design_of, parse_args, row_of, stands_in
from experiments.config.parser import build_parser
from experiments.config.rows import ROWS
from experiments.config.settings import TINY
from experiments.config.sizes import LONGEST_MESSAGE, sizes_of
from experiments.runs import loop as runs
from experiments.runs.preparation import build_classifier, load_corpus, load_datasets
from experiments.runs.printing import describe_result
from experiments.system.devices import peak_memory_mib

CPU = torch.device("cpu")
SHORT = {"n_vocab": 50257, "n_ctx": 32, "n_embd": 192, "n_head": 3, "n_layer": 2}

# ----------------------------------------------------------------------------------------- flags


def test_the_defaults_are_the_published_ones():
    settings = SimpleNamespace(**parse_args([]).flat)
    assert (settings.model_size, settings.weights) == ("gpt2-small (124M)", "pretrained")
    assert (settings.trainable_layers, settings.trainable_token_pos) == ("last_block", "last")
    assert (settings.context_length, settings.ignore_index) == ("longest_training_example", -100)
    assert (settings.lora_rank, settings.lora_alpha) == (8, 8)
    assert parse_args([]).network.scaling == 8
    assert (settings.num_epochs, settings.batch_size, settings.accumulation_steps) == (5, 8, 1)
    switches = ("average_embeddings", "no_padding", "disable_causal_mask", "demo", "debug")
    assert not any(getattr(settings, name) for name in switches)
    assert settings.seed == 123


@pytest.mark.parametrize("number", ROWS)
def test_a_row_is_known_by_its_settings(number):
    row = ["--row", str(number)]
    assert row_of(parse_args(row)) == number
    elsewhere = ["--seed", "7", "--device", "cpu", "--data_dir", "x"]
    assert row_of(parse_args([*row, *elsewhere])) == number
    assert row_of(parse_args([*row, "--max_steps", "3"])) is None
    assert row_of(parse_args([*row, "--num_epochs", "4"])) is None


def test_another_precision_asks_the_same_question_of_the_same_model():
    for row in (1, 10):
        settings = parse_args(["--row", str(row), "--precision", "bfloat16"])
        assert (row_of(settings), design_of(settings), stands_in(settings)) == (None, row, False)
    tiny = parse_args(["--row", "10", "--model_size", "gpt2-tiny (7M)"])
    assert (design_of(tiny), stands_in(tiny)) == (10, True)
    assert not stands_in(parse_args(["--num_epochs", "4"]))


def test_flags_beside_a_row_win():
    settings = parse_args(["--lora_rank", "4", "--row", "11"]).network
    assert (settings.trainable_layers, settings.lora_rank, settings.lora_alpha) == ("lora", 4, 16)


def test_every_flag_is_read_somewhere():
    folder = Path(__file__).parents[1]
    paths = [folder / "additional_experiments.py", *(folder / "experiments").rglob("*.py")]
    source = "".join(path.read_text() for path in paths)
    for name in parse_args([]).flat:
        assert re.search(rf"\w\.{name}\b", source), name


def test_every_flag_but_row_is_a_setting():
    flags = {action.dest for action in build_parser()._actions} - {"help", "row"}
    assert flags == set(parse_args([]).flat)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--no_padding"], ["--no_padding", "--batch_size 1"]),
        (["--no_padding", "--batch_size", "1", "--context_length", "9"], ["--context_length"]),
        (["--context_length", "1025"], ["--context_length 1025", "1024 or less"]),
        (["--context_length", "0"], ["--context_length", "above 0"]),
        (["--lora_rank", "0"], ["--lora_rank", "from 1 to"]),
        (["--lora_alpha", "nan"], ["--lora_alpha", "above 0"]),
        (["--num_epochs", "²"], ["--num_epochs", "whole number"]),
        (["--row", "20"], ["--row", "from 1 to 19"]),
        (["--trainable_layers", "last_blok"], ["--trainable_layers", "'last_block'"]),
        (["--weights", "nowhere.safetensors"], ["--weights", "pretrained, random"]),
        (["--weights", __file__], ["--weights", "no safetensors file"]),
        (["--model_size", TINY], [TINY, "--weights random"]),
        (["--demo", "--weights", "pretrained"], ["--demo", "leave out"]),
        (["--baseline", "majority", "--num_seeds", "2"], ["--baseline", "--num_seeds"]),
        (["--no_shortcuts", "--cache_dir", "x"], ["--no_shortcuts", "--cache_dir"]),
        (["--cache_dir", __file__], ["--cache_dir", "is a file"]),
        (["--average", "embeddings"], ["did you mean --average_embeddings?"]),
        (["--trainable_layer=all"], ["did you mean --trainable_layers?"]),
        (["lora"], ["unknown: lora", "--help"]),
        (["--demo", "--max_steps", "156"], ["--max_steps 156", "the 155 steps of --num_epochs 5"]),
        (["--batch_size", "1046"], ["--batch_size 1046 exceeds the 1,045 training messages"]),
        (["--lora_rank", "3073"], ["--lora_rank 3073", "use 3072 or less"]),
        (["--data_dir", "a" * 5000], ["too long"]),
        (
            ["--model_size", "gpt2-xl (1558M)--trainable_layers", "all"],
            ["a space is missing between 'gpt2-xl (1558M)' and '--trainable_layers'"],
        ),
    ],
)
def test_wrong_flags_end_with_status_2_and_one_sentence(flags, words, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_args(flags)
    message = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message.count("\n") == 1
    assert all(word in message for word in words), message


def test_a_checkpoint_brings_its_own_size(tmp_path, capsys):
    path = write_checkpoint(tmp_path / "some.safetensors", SHORT)
    short = ["--weights", str(path), "--context_length", "32"]
    config = parse_args(short).network.config
    assert config == {
        "vocab_size": 50257, "context_length": 32, "emb_dim": 192, "n_layers": 2, "n_heads": 3,
        "drop_rate": 0.0, "qkv_bias": True,
    }  # fmt: skip
    for more in (["--model_size", "gpt2-small (124M)"], ["--context_length", "33"]):
        with pytest.raises(SystemExit):
            parse_args(["--weights", str(path), *more])
        assert more[0] in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_args(["--weights", str(path)])
    assert "has 120 tokens, the model's context 32: add --context" in capsys.readouterr().err
    assert parse_args([*short, "--row", "6"]).network.config == config


def test_a_checkpoint_without_the_padding_token_is_refused(tmp_path, capsys):
    path = write_checkpoint(tmp_path / "some.safetensors", SHORT | {"n_vocab": 60})
    with pytest.raises(SystemExit) as exit_:
        parse_args(["--weights", str(path)])
    assert exit_.value.code == 2
    assert "knows 60 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "scaling"), [("alpha", 12), ("alpha_over_rank", 12 / 9), ("rslora", 12 / 3)]
)
def test_lora_scaling_is_alpha_in_one_of_three_ways(name, scaling):
    flags = ["--lora_rank", "9", "--lora_alpha", "12", "--lora_scaling", name]
    assert parse_args(flags).network.scaling == pytest.approx(scaling)


# ----------------------------------------------------------------------------------------- model


def tiny_settings(*flags):
    return parse_args(["--demo", *flags])


def datasets_of(settings):
    return load_datasets(load_corpus(settings.reading, settings.own), settings.reading, 1024)


def classifier_of(settings):
    return build_classifier(settings.network, settings.seed)


def test_random_weights_follow_the_seed_and_every_head_starts_alike(tmp_path):
    models = [classifier_of(tiny_settings("--seed", seed)) for seed in ("1", "1", "2")]
    same, other = (
        torch.equal(models[0].tok_emb.weight, model.tok_emb.weight) for model in models[1:]
    )
    assert same
    assert not other
    path = write_checkpoint(tmp_path / "some.safetensors", SHORT | {"n_embd": 128})
    loaded = classifier_of(
        parse_args(["--weights", str(path), "--seed", "1", "--context_length", "9"])
    )
    assert torch.equal(loaded.out_head.weight, models[0].out_head.weight)


def test_a_checkpoint_is_loaded_into_the_classifier(tmp_path):
    path = write_checkpoint(tmp_path / "some.safetensors", SHORT)
    model = classifier_of(parse_args(["--weights", str(path), "--context_length", "9"]))
    assert not any(p.is_meta for p in (*model.parameters(), *model.buffers()))
    assert model.tok_emb.weight.std() == pytest.approx(0.12, abs=0.01)
    assert model(torch.zeros(2, 5, dtype=torch.long), torch.tensor([5, 3])).shape == (2, 2)


# --------------------------------------------------------------------------------- one experiment


def test_what_the_flags_know_of_the_training_messages_is_so():
    datasets = datasets_of(tiny_settings())
    assert list(sizes_of(demo=True).values()) == [len(dataset) for dataset in datasets]


@pytest.mark.usefixtures("real_tokenizer_files")
def test_what_the_flags_know_of_the_real_training_messages_is_so(real_data_dir):
    datasets = datasets_of(parse_args(["--data_dir", str(real_data_dir)]))
    assert list(sizes_of(demo=False).values()) == [len(dataset) for dataset in datasets]
    assert datasets.train.max_length == LONGEST_MESSAGE


def test_a_run_says_what_it_does_and_what_it_found(capsys):
    main(["--demo", "--max_steps", "2"])
    printed = capsys.readouterr().out
    for line in (
        r"Demo: .* mean nothing about GPT-2\.",
        r"Model: gpt2-tiny \(7M\), random weights; 3 blocks of width 128, 2 heads",
        r"Trainable: the last block, the final norm and the head; 198,786 of 7,159,298 parameters",
        r"Data: 251 training, 36 validation, 73 test messages, cut and padded to \d+ tokens",
        r"Device: cpu, \d+ threads",
        r"Versions: Python .*, torch .*, tiktoken .*, pandas .*",
        r"Ep 1 \(Step 000000\): Train loss \d\.\d{3}, Val loss \d\.\d{3}",
        r"Training accuracy: \d+\.\d\d% \| Validation accuracy: \d+\.\d\d%",
        r"Training completed in \d+\.\d\d minutes\.",
        r"Training accuracy: \d+\.\d\d%",
        r"Validation accuracy: \d+\.\d\d%",
        r"Test accuracy: \d+\.\d\d%",
        r"Peak memory: \d+(,\d+)* MiB",
    ):
        assert re.search(f"^{line}$", printed, flags=re.MULTILINE), line


def test_training_accuracy_is_over_whole_batches_and_the_others_over_all():
    result = run_experiment(tiny_settings("--max_steps", "1"))
    totals = {name: total for name, (_, total) in result.correct.items()}
    assert totals == {"train": 248, "validation": 36, "test": 73}
    assert len(result.probabilities) == len(result.labels) == len(result.in_training) == 73


def test_where_the_settings_equal_a_row_the_published_accuracies_stand_beside():
    correct = {"train": (1005, 1040), "validation": (148, 149), "test": (285, 300)}
    text = describe_result(correct, 100, row_of(parse_args([])), demo=False)
    assert "Row 1 as published, and here:" in text
    assert re.search(r"Test\s+95\.00% \(285 of 300\)\s+95\.00% \(285 of 300\)", text)


def test_an_error_is_one_message_and_status_1_unless_the_traceback_is_wanted(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(SystemExit) as exit_:
        main(["--data_dir", str(tmp_path)])
    assert "train.csv is not the expected file" in str(exit_.value.code)
    with pytest.raises(ValueError, match=r"train\.csv"):
        main(["--data_dir", str(tmp_path), "--debug"])


def run_out_on_the_gpu(*_):
    raise torch.OutOfMemoryError("CUDA out of memory")


def run_out_on_the_cpu(*_):
    torch.empty(2**45)


@pytest.mark.parametrize("run_out", [run_out_on_the_gpu, run_out_on_the_cpu])
def test_full_memory_is_told_with_the_peak_and_what_to_lower(run_out, monkeypatch):
    monkeypatch.setattr(runs, "run_experiment", run_out)
    with pytest.raises(SystemExit) as exit_:
        main(["--demo"])
    assert re.search(
        r"memory of the device is full, [\d,]+ MiB at the peak: lower --batch_size or "
        r"--context_length, or take a smaller --model_size \(.*memory",
        str(exit_.value.code),
    )


def test_a_mistake_in_the_code_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(runs, "run_experiment", lambda *_: torch.ones(2).item())
    with pytest.raises(RuntimeError, match="cannot be converted to Scalar"):
        main(["--demo"])


def test_the_peak_of_memory_is_a_plausible_figure():
    peak = peak_memory_mib(CPU)
    assert math.isnan(peak) or 50 < peak < 100_000
