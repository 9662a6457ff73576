"""The short way is the plain way: logits, gradients and whole steps, in float64 at 1e-9."""

import errno
import itertools
import os
import sys
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import assert_equal, randomise
from torch import nn

from experiments.config.settings import TRAINABLE
from experiments.data.datasets import Splits, create_datasets, create_loaders
from experiments.model.classifier import GPTClassifier, make_trainable
from experiments.model.lora import LinearWithLoRAMerged, LoRALayer
from experiments.shortcuts import layers
from experiments.shortcuts import needed as what_is_needed
from experiments.shortcuts import prefix as hidden_states_of
from experiments.shortcuts import storage as disk
from experiments.shortcuts.model import ShortcutClassifier
from experiments.shortcuts.switch import take_shortcuts
from experiments.training.loop import calc_loss_batch
from experiments.training.optimization import THE_BOOKS, Recipe, make_step

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="has no devices by number")
PAD = 96
CONFIG = {
    "vocab_size": 97, "context_length": 24, "emb_dim": 32, "n_heads": 4, "n_layers": 3,
    "drop_rate": 0.0, "qkv_bias": True,
}  # fmt: skip
LAYERS = ("last_layer", "last_block", "last_two_blocks", "all", "lora", "lora_alternative")
POSITIONS = ("first", "last", "flexible")


class CharacterTokenizer:
    """One token a character."""

    def encode_ordinary(self, text):
        return [ord(character) % CONFIG["vocab_size"] for character in text]


def messages():
    """Texts of one token, none, more than the limit, twins, and a real token that looks like PAD.

    The training texts end in a short batch.
    """
    texts = ["a", "", "abc", "abcdefghijklmnopqrstuvwxyz", "abc", chr(PAD), "bc" + chr(PAD), "bca",
             "the longer one", "hello", "b", "abcd", "zyxw vuts", "to be", "abcdefghijklmnop",
             "abcdefghijklmnoq", "ham", "spam", "eggs"]  # fmt: skip
    frame = pd.DataFrame({"Label": [i % 2 for i in range(len(texts))], "Text": texts})
    csvs = (frame[:11], frame[8:15], frame[12:])
    return dict(zip(Splits._fields, csvs, strict=True))


def datasets_of(no_padding=False, max_length=18):
    splits = create_datasets(messages(), CharacterTokenizer(), max_length, no_padding=no_padding)
    for dataset in splits:  # the small vocabulary has another padding token
        dataset.tokens[dataset.tokens == 50256] = PAD
    return splits


def classifier(layers, *choices, config=CONFIG):
    torch.manual_seed(3)
    model = randomise(GPTClassifier(config, *choices)).requires_grad_(False)
    model.out_head = randomise(nn.Linear(config["emb_dim"], 2))
    make_trainable(model, layers, lora_rank=3, lora_scaling=1.5)
    for module in model.modules():
        if isinstance(module, LoRALayer):
            randomise(module)
    return model


def both_paths(layers, *choices, no_padding=False, config=CONFIG):
    plain = classifier(layers, *choices, config=config)
    datasets = datasets_of(no_padding)
    short = take_shortcuts(deepcopy(plain), datasets)
    batch_size = 1 if no_padding else 4
    return (
        (plain, create_loaders(datasets, batch_size)),
        (short.model, create_loaders(short.datasets, batch_size)),
    )


def trajectory(model, loaders, steps=10, accumulation_steps=1, device=CPU, recipe=THE_BOOKS):
    """Returns logits, gradients and parameters of a few steps with what is seen meanwhile."""
    torch.manual_seed(5)
    seen = []
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, weight_decay=0.1)
    batches = itertools.chain.from_iterable(itertools.repeat(loaders.train))
    for step in range(1, steps + 1):
        model.train()
        for *inputs, labels in itertools.islice(batches, accumulation_steps):
            (calc_loss_batch(inputs, labels, model, device) / accumulation_steps).backward()
        seen += [p.grad.clone() for p in parameters.values()]
        make_step(optimizer, recipe)
        if step in (1, steps):
            model.eval()
            with torch.no_grad():
                seen += [
                    model(inputs.to(device), n.to(device))
                    for loader in loaders
                    for inputs, n, _ in loader
                ]
    return seen + list(model.state_dict().values())


def assert_same(paths, **more):
    plain, short = (trajectory(*path, **more) for path in paths)
    assert len(plain) == len(short)
    for expected, actual in zip(plain, short, strict=True):
        assert_equal(actual, expected)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("average", [False, True], ids=["", "average"])
@pytest.mark.parametrize("no_mask", [False, True], ids=["", "no_mask"])
@pytest.mark.parametrize("no_padding", [False, True], ids=["", "no_padding"])
@pytest.mark.usefixtures("float64")
def test_ten_steps_are_the_same(layers, position, average, no_mask, no_padding):
    assert_same(both_paths(layers, position, average, no_mask, no_padding=no_padding))


@pytest.mark.usefixtures("float64")
def test_accumulated_steps_are_the_same():
    assert_same(both_paths("last_block", "flexible"), accumulation_steps=3)


@pytest.mark.parametrize("layers", ["all", "last_block", "lora"])
@pytest.mark.parametrize("max_grad_norm", [1e-3, 1.0])
@pytest.mark.usefixtures("float64")
def test_steps_with_cut_gradients_are_the_same(layers, max_grad_norm):
    recipe = Recipe(max_grad_norm=max_grad_norm)
    assert_same(both_paths(layers, "flexible"), accumulation_steps=2, recipe=recipe)


@pytest.mark.parametrize("layers", LAYERS[:2] + LAYERS[3:])
@pytest.mark.usefixtures("float64")
def test_a_single_block_is_enough(layers):
    assert_same(both_paths(layers, "flexible", config=CONFIG | {"n_layers": 1}))


@pytest.mark.usefixtures("float64")
def test_a_model_without_attention_biases_is_the_same():
    assert_same(both_paths("last_two_blocks", "last", config=CONFIG | {"qkv_bias": False}))


def test_lora_is_merged_on_the_plain_path_only_as_a_run_says(monkeypatch):
    merged = []
    forward = LinearWithLoRAMerged.forward
    monkeypatch.setattr(
        LinearWithLoRAMerged, "forward", lambda self, x: merged.append(x) or forward(self, x)
    )
    counts = []
    for model, loaders in both_paths("lora_alternative", "last"):
        *inputs, _ = next(iter(loaders.test))
        model(*inputs)
        counts.append(len(merged))
    assert counts == [19, 19]  # six layers in each of three blocks, and the head
    assert TRAINABLE["lora_alternative"] == "LoRA (merged by --no_shortcuts only) and the head"


@pytest.mark.cuda
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.usefixtures("float64")
def test_ten_steps_are_the_same_on_cuda(layers, position):
    plain, loaders = both_paths(layers, position)[0]
    cuda = torch.device("cuda")
    short = take_shortcuts(deepcopy(plain).to(cuda), datasets_of())
    expected = trajectory(plain, loaders)
    found = trajectory(short.model, create_loaders(short.datasets, 4), device=cuda)
    for a, b in zip(expected, found, strict=True):
        assert_equal(b.cpu(), a)


def test_both_paths_share_parameters_and_keys():
    plain = classifier("last_block", "last")
    short = take_shortcuts(plain, datasets_of()).model
    assert list(short.state_dict()) == list(plain.state_dict())
    assert [id(p) for p in short.parameters()] == [id(p) for p in plain.parameters()]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_trained_embeddings_gradient_is_the_plain_one_step_after_step(set_to_none):
    plain, short = (torch.nn.Parameter(torch.randn(9, 4)) for _ in range(2))
    lasting = layers.LastingGradient(short)
    for tokens in torch.tensor([[[1, 2], [2, 2]], [[3, 1], [8, 0]], [[2, 7], [7, 7]]]):
        factor = torch.randn(2, 2, 4)
        for _ in range(2):  # accumulated
            (factor * torch.nn.functional.embedding(tokens, plain)).sum().backward()
            (factor * layers.LookUp.apply(short, tokens, lasting)).sum().backward()
        assert_equal(short.grad, plain.grad, tolerance=1e-6)
        for parameter in (plain, short):
            if set_to_none:
                parameter.grad = None
            else:
                parameter.grad.zero_()


@pytest.mark.parametrize("layers", LAYERS)
def test_what_the_head_reads_is_computed_once_where_only_the_head_is_trained(layers):
    short = take_shortcuts(classifier(layers), datasets_of())
    assert short.model.pooled == (layers == "last_layer")
    assert short.model.train() is short.model.eval() is short.model


@pytest.mark.parametrize(("is_causal", "expected"), [(True, [3, 1]), (False, [1, 2, 1])])
def test_messages_share_a_batch_up_to_its_tokens_and_of_one_length_without_the_mask(
    is_causal, expected, monkeypatch
):
    monkeypatch.setattr(hidden_states_of, "PREFIX_TOKENS", 6)
    of_lengths = [torch.zeros(n) for n in (1, 2, 2, 3)]
    assert [len(b) for b in hidden_states_of.prefix_batches(of_lengths, is_causal)] == expected


@pytest.mark.parametrize("name", ["tok_emb", "pos_emb", "trf_blocks"])
def test_nothing_before_the_hidden_states_may_be_trained(name):
    short = take_shortcuts(classifier("last_block"), datasets_of())
    next(getattr(short.model, name).parameters()).requires_grad_(True)
    with pytest.raises(RuntimeError, match="frozen prefix"):
        short.model.train()


def test_hidden_states_are_told_in_mib():
    short = take_shortcuts(classifier("last_block"), datasets_of())
    assert "2 blocks computed once, 0 MiB in memory" in short.report


def test_a_model_with_dropout_is_refused():
    plain = classifier("last_block", "last", config=CONFIG | {"drop_rate": 0.1})
    with pytest.raises(ValueError, match="drop_rate 0"):
        take_shortcuts(plain, datasets_of())


def test_a_prefix_that_is_trained_after_all_is_told():
    plain = classifier("last_block", "last")
    short = take_shortcuts(plain, datasets_of()).model
    plain.trf_blocks[0].requires_grad_(True)
    with pytest.raises(RuntimeError, match="frozen"):
        short.train()


# --------------------------------------------------------------------------------- what is needed


@pytest.mark.parametrize(
    ("position", "average", "no_mask", "expected"),
    [
        ("first", False, False, [1, 1, 1]),
        ("flexible", False, False, [3, 1, 18]),
        ("flexible", True, False, [3, 1, 18]),
        ("last", False, False, [18, 18, 18]),
        ("first", True, False, [18, 18, 18]),
        ("flexible", False, True, [18, 18, 18]),
    ],
)
def test_only_what_the_logits_depend_on_is_needed(position, average, no_mask, expected):
    dataset = datasets_of().train
    needed = what_is_needed.needed_lengths(
        classifier("last_block", position, average, no_mask), dataset
    )
    assert needed[[2, 1, 3]].tolist() == expected


def test_equal_messages_are_computed_once():
    datasets = datasets_of()
    lengths = Splits(*(dataset.lengths for dataset in datasets))
    messages, which = what_is_needed.distinct_messages(lengths, datasets)
    texts = [tuple(tokens.tolist()) for tokens in messages]
    assert len(texts) == len(set(texts))
    assert [len(text) for text in texts] == sorted(len(text) for text in texts)
    for dataset, numbers in zip(datasets, which, strict=True):
        for tokens, length, number in zip(dataset.tokens, dataset.lengths, numbers, strict=True):
            assert texts[number] == tuple(tokens[:length].tolist())


# ---------------------------------------------------------------------------------- hidden states


def hidden_states(cache_dir=None, layers="last_block", conditions=""):
    """Returns the hidden states of the test's messages, and how often the prefix was run."""
    hidden, runs = compute(cache_dir, layers, conditions)
    return hidden.values.clone(), runs


def compute(cache_dir=None, layers="last_block", conditions="", memo=None):
    model, datasets = classifier(layers, "flexible"), datasets_of()
    lengths = Splits(*(dataset.lengths for dataset in datasets))
    messages, _ = what_is_needed.distinct_messages(lengths, datasets)
    short = ShortcutClassifier(model, 2)
    runs = []
    run_prefix = hidden_states_of.run_prefix
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hidden_states_of, "run_prefix", lambda *a: runs.append(1) or run_prefix(*a))
        hidden = hidden_states_of.compute_hidden_states(
            short, messages, 2, cache_dir, conditions, memo
        )
    return hidden, len(runs)


def test_hidden_states_are_taken_from_the_cache_by_the_next_run(tmp_path):
    first, runs = hidden_states(tmp_path)
    again, no_runs = hidden_states(tmp_path)
    assert (runs, no_runs) == (1, 0)
    assert torch.equal(first, again)
    assert torch.equal(first, hidden_states()[0])
    assert not list(tmp_path.glob("*.part"))


def test_hidden_states_of_other_conditions_are_not_taken(tmp_path):
    hidden_states(tmp_path)
    assert hidden_states(tmp_path, conditions="bfloat16")[1] == 1
    assert len(list(tmp_path.glob("*.hidden"))) == 2


@pytest.mark.parametrize(
    "change",
    ["weights", "vocabulary", "positions", "type", "shape", "tokens", "depth", "heads", "mask"],
)
def test_the_key_covers_what_the_hidden_states_depend_on(change):
    messages = [torch.tensor([1, 2]), torch.tensor([3])]
    model = ShortcutClassifier(classifier("last_block"), 2)
    before = disk.prefix_key(model, messages, 2, "")
    assert disk.prefix_key(deepcopy(model), messages, 2, "") == before
    depth = 2
    if change == "weights":
        model.trf_blocks[1].att.W_key.bias.data[0] += 1e-3
    elif change == "vocabulary":
        model.tok_emb.weight.data[0, 0] += 1e-3
    elif change == "positions":
        model.pos_emb.weight.data[0, 0] += 1e-3
    elif change == "type":  # the same bytes, read as other numbers
        model.pos_emb.weight = nn.Parameter(model.pos_emb.weight.view(torch.int32), False)
    elif change == "shape":
        model.pos_emb.weight = nn.Parameter(model.pos_emb.weight.view(-1, 16))
    elif change == "tokens":
        messages = [torch.tensor([1]), torch.tensor([2, 3])]
    elif change == "depth":
        depth = 1
    elif change == "heads":
        model.trf_blocks[0].att.num_heads = 2
    else:
        model.trf_blocks[0].att.disable_causal_mask = True
    assert disk.prefix_key(model, messages, depth, "") != before


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)


def change_the_seconds(path):
    content = bytearray(path.read_bytes())
    content[-disk.END.size] ^= 1
    path.write_bytes(content)


def take_from_another(path):
    hidden_states(path.parent, conditions="other")
    other = next(p for p in path.parent.glob("*.hidden") if p != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, change_the_seconds, take_from_another])
def test_a_damaged_file_of_hidden_states_is_computed_again(damage, tmp_path):
    expected, _ = hidden_states(tmp_path)
    damage(next(tmp_path.glob("*.hidden")))
    found, runs = hidden_states(tmp_path)
    assert runs == 1
    assert torch.equal(found, expected)
    assert hidden_states(tmp_path)[1] == 0


def test_an_interrupted_run_leaves_nothing_that_the_next_trips_over(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "digest_of", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hidden_states(tmp_path)
    assert not list(tmp_path.glob("*.hidden"))
    assert hidden_states(tmp_path)[1] == 1
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("place", ["cache", "memo"])
def test_what_hidden_states_cost_is_kept_with_them(place, tmp_path):
    kept = {"cache_dir": tmp_path} if place == "cache" else {"memo": {}}
    (first, _), (again, runs) = compute(**kept), compute(**kept)
    assert (first.is_reused, again.is_reused, runs) == (False, True, 0)
    assert again.seconds == first.seconds > 0


def test_what_exceeds_its_share_of_memory_lies_in_a_file_without_a_name(monkeypatch, tmp_path):
    expected, _ = hidden_states()
    monkeypatch.setattr(hidden_states_of, "MEMORY_SHARE", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = classifier("last_block", "flexible")
    taken = take_shortcuts(model, datasets_of())
    assert f"in a file in {tmp_path} that goes with the run" in taken.report
    assert not list(tmp_path.iterdir())
    assert torch.equal(hidden_states()[0], expected)


def is_full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@POSIX
def test_a_full_disk_under_a_file_without_a_name_is_told_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(hidden_states_of, "MEMORY_SHARE", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", is_full, raising=False)
    with pytest.raises(OSError, match="No space left on device for 0 MiB of hidden states") as told:
        hidden_states()
    assert (told.value.errno, told.value.filename) == (errno.ENOSPC, str(tmp_path))
    assert "name another folder by TMPDIR or --cache_dir" in str(told.value)
    with pytest.raises(OSError, match="for 8 MiB of hidden states"):
        disk.nameless_values((2**18, 8), torch.float32)


def test_a_file_without_a_name_lies_in_the_folder_that_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(disk, "temporary_folder", lambda: tmp_path)
    values, folder = disk.nameless_values((3, 2), torch.float32)
    assert (values.shape, folder) == ((3, 2), tmp_path)
    monkeypatch.setattr(disk, "temporary_folder", lambda: tmp_path / "none")
    with pytest.raises(OSError, match="No such file or directory for 0 MiB"):
        disk.nameless_values((3, 2), torch.float32)


def test_a_temporary_folder_in_memory_gives_way_to_that_of_large_files(monkeypatch, tmp_path):
    first, large = tmp_path / "tmp", tmp_path / "large"
    first.mkdir()
    large.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(first))
    monkeypatch.setattr(disk, "LARGE_FILES", large)
    assert disk.temporary_folder() == first
    monkeypatch.setattr(disk, "lies_in_memory", lambda folder: folder == first)
    assert disk.temporary_folder() == large
    monkeypatch.setattr(disk, "lies_in_memory", lambda _: True)
    with pytest.raises(OSError, match=r"tmp lies in memory.*TMPDIR or --cache_dir"):
        disk.temporary_folder()


@POSIX
@pytest.mark.parametrize(("kind", "is_memory"), [("tmpfs", True), ("ramfs", True), ("ext4", False)])
def test_a_folder_in_memory_is_known_by_its_file_system(kind, is_memory, tmp_path):
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 20 0:0 / /other rw - tmpfs tmpfs rw\n"
        f"22 20 {os.major(device)}:{os.minor(device)} / /a\\040b rw master:1 - {kind} x rw\n"
    )
    assert disk.lies_in_memory(tmp_path, mounts) == is_memory
    assert not disk.lies_in_memory(tmp_path, tmp_path / "none")


def test_a_system_that_cannot_reserve_room_writes_it(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(disk, "CHUNK", 4096)
    with (tmp_path / "file").open("w+b") as file:
        disk.take_room(file, 10_000)
    content = (tmp_path / "file").read_bytes()
    assert content == bytes(10_000)
    if hasattr(os.stat_result, "st_blocks"):
        assert (tmp_path / "file").stat().st_blocks * 512 >= 10_000
    expected, _ = hidden_states()
    assert torch.equal(hidden_states(tmp_path)[0], expected)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_room_that_cannot_be_written_is_told(monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with (
        pytest.raises(OSError, match="No space left"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        disk.take_room(full, 10)


@pytest.mark.parametrize("layers", LAYERS)
def test_a_cached_run_has_the_trajectory_of_one_without(layers, tmp_path):
    def run(cache_dir):
        taken = take_shortcuts(classifier(layers, "last"), datasets_of(), cache_dir)
        return trajectory(taken.model, create_loaders(taken.datasets, 4), steps=3)

    without, first, second = (run(folder) for folder in (None, tmp_path, tmp_path))
    for expected, *actual in zip(without, first, second, strict=True):
        assert all(torch.equal(expected, tensor) for tensor in actual)
