"""Several rows in one process: their order, what is told, and failures that are passed over."""

import pytest

from additional_experiments import main
from experiments.config.flags import parse_args, parse_rows
from experiments.config.rows import ROWS
from experiments.runs import experiment, preparation
from experiments.runs import sweep as module
from experiments.runs.loop import Outcome
from experiments.runs.sweep import order_runs, shared_by, sweep
from experiments.system.terminal import one_line_errors


@pytest.fixture
def made(monkeypatch):
    """The runs that were asked for; row 4 fails, and row 5 is another worker's the first time."""
    asked = []

    def run_and_record(settings, memo, corpus, waits):
        row = next(n for n in ROWS if parse_args(["--row", str(n)]).identity == settings.identity)
        asked.append((row, settings.seed, waits))
        if row == 4:
            raise OSError("no weights")
        return Outcome.CLAIMED if row == 5 and not waits else Outcome.MADE

    monkeypatch.setattr(module, "run_and_record", run_and_record)
    return asked


# -------------------------------------------------------------------------------------- its flags


@pytest.mark.parametrize(
    ("words", "rows"),
    [("7", [7]), ("1-5,10,16", [1, 2, 3, 4, 5, 10, 16]), ("16,1,1", [1, 16]),
     ("all", list(range(1, 20)))],
)  # fmt: skip
def test_rows_are_named_by_number_by_range_or_all(words, rows):
    assert list(parse_rows(["--row", words])) == rows


def test_each_row_has_its_own_flags_and_those_beside_it():
    found = parse_rows(["--row", "3,11", "--seed", "7", "--lora_rank", "4"])
    assert [s.network.trainable_layers for s in found.values()] == ["last_layer", "lora"]
    assert [s.seed for s in found.values()] == [7, 7]
    assert found[11].network.lora_rank == 4


def test_without_a_row_there_is_one_run():
    assert list(parse_rows([])) == [None]


@pytest.mark.parametrize("words", ["0", "20", "1-20", "5-3", "", "1,", "one", "1--3", "-1"])
def test_what_is_no_row_is_told(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_rows([f"--row={words}"])
    assert exit_.value.code == 2
    assert (
        "must be a row from 1 to 19, several such as 1-5,10,16, or all" in capsys.readouterr().err
    )


def test_a_misfit_names_its_row_before_anything_is_run(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--row", "all", "--batch_size", "4"])
    assert exit_.value.code == 2
    assert "error: row 14: --no_padding gives messages" in capsys.readouterr().err


def test_saved_models_of_several_rows_need_names_of_their_own(capsys, tmp_path):
    with pytest.raises(SystemExit):
        parse_rows(["--row", "1,2", "--save_model", "model.safetensors"])
    assert "--save_model needs {row}" in capsys.readouterr().err
    found = parse_rows(["--row", "1,16", "--save_model", "model_{row}.safetensors"])
    names = [settings.output.save_model.name for settings in found.values()]
    assert names == ["model_1.safetensors", "model_16.safetensors"]


def test_a_saved_model_without_a_name_is_told_as_before(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_rows(["--row", "1", "--save_model", "."])
    assert exit_.value.code == 2
    assert "--save_model . is a .safetensors file: name it so" in capsys.readouterr().err


# -------------------------------------------------------------------------------------- its order


def test_rows_that_share_hidden_states_follow_each_other():
    runs = order_runs(parse_rows(["--row", "all"]))
    assert [run.row for run in runs] == [
        1, 3, 18, 19, 2, 4, 5, 11, 10, 13, 14, 15, 16, 17, 6, 7, 8, 9, 12,
    ]  # fmt: skip


def test_without_the_mask_the_first_token_needs_all_and_shares_with_the_last():
    runs = order_runs(parse_rows(["--row", "1,2,16", "--disable_causal_mask"]))
    assert len({shared_by(run.settings) for run in runs}) == 1


def test_seeds_stand_within_what_is_shared():
    runs = order_runs(parse_rows(["--row", "1,3,16", "--num_seeds", "2"]))
    assert [(run.row, run.settings.seed) for run in runs] == [
        (1, 123), (3, 123), (1, 124), (3, 124), (16, 123), (16, 124),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ what is told


def test_a_failed_run_is_told_and_passed_over(made, capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors("script"):
        sweep(parse_rows(["--row", "1,4,16"]), None)
    assert exit_.value.code == "script: error: 1 of 3 runs failed: row 04, seed 123"
    assert [row for row, *_ in made] == [1, 4, 16]
    assert "Failed: row 04, seed 123: no weights" in capsys.readouterr().err


def test_a_failure_ends_processes_that_go_in_step(made, monkeypatch):
    monkeypatch.setattr(module, "count_processes", lambda: 2)
    with pytest.raises(OSError, match="no weights"):
        sweep(parse_rows(["--row", "1,4,16"]), None)
    assert [row for row, *_ in made] == [1, 4]


def test_a_run_that_others_have_claimed_is_looked_at_again_in_the_end(made, capsys):
    sweep(parse_rows(["--row", "5,16"]), None)
    assert made == [(5, 123, False), (16, 123, False), (5, 123, True)]
    assert "Back to 1 that other processes had claimed" in capsys.readouterr().out


def test_hidden_states_are_let_go_before_another_model_is_loaded(monkeypatch):
    seen = []

    def run_and_record(settings, memo, *_):
        seen.append(len(memo.hidden_states))
        memo.hidden_states["key"] = True
        return Outcome.MADE

    monkeypatch.setattr(module, "run_and_record", run_and_record)
    sweep(parse_rows(["--row", "1,3,6,16"]), None)
    assert seen == [0, 1, 0, 0]


def test_a_sweep_tells_what_is_done_and_what_remains(made, capsys, monkeypatch):
    clock = iter(range(0, 1000, 100))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    sweep(parse_rows(["--row", "1,3,16"]), None)
    told = [line for line in capsys.readouterr().out.splitlines() if line]
    assert told == [
        "Run 1 of 3: row 01, seed 123; 0 done",
        "Run 2 of 3: row 03, seed 123; 1 done, 1 of them made in 100 s, some 3 minutes remain",
        "Run 3 of 3: row 16, seed 123; 2 done, 2 of them made in 3 minutes, some 100 s remain",
    ]


def test_what_was_recorded_already_sets_no_pace(monkeypatch, capsys):
    monkeypatch.setattr(module, "run_and_record", lambda *_: Outcome.RECORDED)
    sweep(parse_rows(["--row", "1,3"]), None)
    assert "row 03, seed 123; 1 done\n" in capsys.readouterr().out


@pytest.mark.usefixtures("real_tokenizer_files")
def test_a_sweep_leaves_the_records_of_single_runs(real_data_dir, tmp_path, capsys, monkeypatch):
    flags = [
        "--model_size", "gpt2-tiny (7M)", "--weights", "random", "--max_steps", "2",
        "--data_dir", str(real_data_dir), "--output_dir", str(tmp_path),
    ]  # fmt: skip
    asked = []

    def load_datasets(corpus, reading, context):
        asked.append(reading.no_padding)
        return preparation.load_datasets(corpus, reading, context)

    monkeypatch.setattr(experiment, "load_datasets", load_datasets)
    main(["--row", "2,10,14,16", *flags])
    assert asked == [False, True]  # once what is padded, once what is not
    for row in (2, 10, 14, 16):
        main(["--row", str(row), *flags])
    assert capsys.readouterr().out.count("Recorded already") == 4
