"""A trained classifier in one file: what comes back is what was saved, or it is refused."""

import errno
import json
from dataclasses import replace

import pytest
import saved
import torch
from helpers import assert_equal
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from saved import CHOICES, CONFIG, LAYERS, ask, ask_plainly, describe, train
from torch import nn

from experiments.config.flags import parse_args
from experiments.model import bases
from experiments.model.bases import describe_saved, keep_classifier, load_saved
from experiments.model.description import VERSION
from experiments.model.saved import (
    KEY,
    frozen_sha256,
    read_saved,
    restore,
    save_classifier,
    trained_tensors,
)
from experiments.runs.preparation import build_classifier
from experiments.system import files
from previous_chapters import GPTModel

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return saved.make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spam.safetensors"


def save(path, description, params):
    model = train(description, params)
    save_classifier(path, model, description)
    return model


def restored(path, params):
    description, tensors = read_saved(path)
    return restore(description, tensors, params), description


# --------------------------------------------------------------------------------- saving, loading


@pytest.mark.parametrize("is_whole", [False, True], ids=["trained", "whole"])
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.usefixtures("float64")
def test_what_comes_back_is_what_was_saved(layers, is_whole, base, path):
    description = describe(layers, "flexible", is_whole=is_whole)
    model = save(path, description, base[2])
    back, told = restored(path, base[2])
    assert told == description
    assert_equal(ask_plainly(back, told), ask_plainly(model, description))
    assert_equal(ask(back, told), ask_plainly(model, description))


@pytest.mark.slow
@pytest.mark.parametrize("is_whole", [False, True], ids=["trained", "whole"])
@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.usefixtures("float64")
def test_every_design_comes_back(layers, choices, is_whole, base, path):
    description = describe(layers, *choices, is_whole=is_whole)
    model = save(path, description, base[2])
    assert_equal(ask(*restored(path, base[2])), ask_plainly(model, description))


@pytest.mark.parametrize("layers", LAYERS)
def test_a_file_holds_just_what_was_trained(layers, base, path):
    model = save(path, describe(layers), base[2])
    assert load_file(path).keys() == trained_tensors(model).keys()


@pytest.mark.parametrize("no_mask", [False, True], ids=["mask", "no_mask"])
@pytest.mark.parametrize("layers", ["last_block", "lora", "lora_alternative"])
@pytest.mark.usefixtures("float64")
def test_a_whole_file_is_loaded_by_the_books_code(layers, no_mask, base, path):
    description = describe(layers, no_mask=no_mask, is_whole=True)
    expected = ask_plainly(save(path, description, base[2]), description)
    book = GPTModel(CONFIG, disable_causal_mask=no_mask)
    book.out_head = nn.Linear(CONFIG["emb_dim"], len(description.class_names))
    book.load_state_dict(load_file(path))
    book.eval()
    assert_equal(ask_plainly(lambda tokens, _: book(tokens)[:, -1, :], description), expected)


def test_saving_leaves_the_model_as_it_is(base, path):
    description = describe("lora", is_whole=True)
    model = train(description, base[2])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_classifier(path, model, description)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_a_classifier_is_written_whole_or_not_at_all(base, path, monkeypatch):
    path.write_bytes(b"earlier")

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*spam.safetensors'"):
        save(path, describe(), base[2])
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == [(path.name, b"earlier")]


# ---------------------------------------------------------------------------------------- refusals


def refusal_of(path):
    """The one sentence by which a file is refused, or nothing where it is read."""
    refusal = ""
    try:
        read_saved(path)
    except ValueError as error:
        refusal = str(error)
    assert not refusal or refusal.startswith(f"{path} is no saved classifier: ")
    assert "\n" not in refusal
    return refusal


@given(content=st.binary())
@example(content=b"")
@example(content=b"\2\0\0\0\0\0\0\0{}")
@example(content=b"\x80\2}q\0.")
def test_any_bytes_are_refused_in_one_sentence(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("x") / "any.safetensors"
    path.write_bytes(content)
    assert refusal_of(path)


@pytest.fixture(scope="module")
def small_file(base, tmp_path_factory):
    """The bytes of a file whose header is its better part."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save(path, describe("last_layer"), base[2])
    return path.read_bytes()


@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_one_sentence(small_file, data, tmp_path_factory):
    content = bytearray(small_file)
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("x") / "damaged.safetensors"
    path.write_bytes(content[: data.draw(places) + 1 if data.draw(st.booleans()) else None])
    refusal_of(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=3,
)


@given(data=st.data())
def test_a_description_with_another_value_is_read_or_refused(small_file, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("x") / "other.safetensors"
    path.write_bytes(small_file)
    told = json.loads(describe("last_layer").to_json())
    part = data.draw(st.sampled_from([told, told["design"], told["design"]["config"]]))
    part[data.draw(st.sampled_from([*part, "more"]))] = data.draw(VALUES)
    save_file(load_file(path), path, {KEY: json.dumps(told)})
    refusal_of(path)


def with_metadata(**changes):
    told = json.loads(describe("last_layer").to_json()) | changes
    return {KEY: json.dumps(told)}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "its metadata have no finetuned_classifier, which --save_model writes"),
        ({KEY: "{"}, "Expecting property name .*"),
        ({KEY: "[" * 100_000}, "its description is nested too deeply"),
        ({KEY: "7"}, "its description is 7, expected an object"),
        (with_metadata(version=2), f"it is of version 2, expected {VERSION}"),
        (with_metadata(more=1), '"more" is unknown'),
        (with_metadata(seed="x"), 'seed is "x", expected int'),
        (with_metadata(tokenizer="words"), 'tokenizer is "words", expected gpt2 or bytes'),
        (with_metadata(max_length=25), "max_length is 25, expected 1 to 24"),
        (with_metadata(class_names=["yes"]), r'class_names is \["yes"\], expected two names .*'),
        (with_metadata(base=None), "base is null, expected the SHA-256 of its base"),
        (with_metadata(class_names=["a", "b"]),
         r"out_head.bias is torch.float32 of shape \(3,\), expected torch.float32 of shape \(2,\)"),
        (with_metadata(is_whole=True, base=None), "final_norm.scale is not there, expected .*"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(small_file, path, metadata, message):
    path.write_bytes(small_file)
    save_file(load_file(path), path, metadata)
    with pytest.raises(ValueError, match=f"^{path} is no saved classifier: {message}$"):
        read_saved(path)


def test_numbers_that_are_not_finite_are_refused(small_file, path):
    path.write_bytes(small_file)
    tensors = load_file(path)
    tensors["out_head.bias"][1] = torch.nan
    save_file(tensors, path, with_metadata())
    with pytest.raises(ValueError, match=r"out_head\.bias holds values that are not finite"):
        read_saved(path)


# -------------------------------------------------------------------------------------- its base


@pytest.fixture
def kept(base, path):
    """The path of a saved classifier that knows where its base lies, and its answers."""
    description = describe(base=base[1], base_path=str(base[0]))
    return path, ask(save(path, description, base[2]), description)


def test_the_base_is_found_where_it_was(kept):
    path, expected = kept
    assert torch.equal(ask(*load_saved(path)), expected)


def test_a_base_that_was_moved_is_named_by_the_user(base, path, tmp_path):
    moved = tmp_path / "moved.safetensors"
    moved.symlink_to(base[0])
    description = describe(base=base[1], base_path=str(tmp_path / "gone.safetensors"))
    expected = ask(save(path, description, base[2]), description)
    with pytest.raises(ValueError, match=rf"^the base, SHA-256 {base[1]}, is not found \(.*gone"):
        load_saved(path)
    assert torch.equal(ask(*load_saved(path, moved)), expected)


def test_another_base_is_refused_with_expected_and_actual_digest(kept, base, miniature):
    message = f"{miniature} is another base: SHA-256 {bases.checkpoint_sha256(miniature)}, expected"
    with pytest.raises(ValueError, match=f"^{message} {base[1]}$"):
        load_saved(kept[0], miniature)


def test_another_base_in_the_old_place_is_refused_likewise(base, path, miniature):
    save(path, describe(base=base[1], base_path=str(miniature)), base[2])
    found = f"{miniature} is another, SHA-256 {bases.checkpoint_sha256(miniature)}"
    with pytest.raises(ValueError, match=rf"{base[1]}, is not found \({found}\): .*--weights$"):
        load_saved(path)


@pytest.mark.parametrize("base_path", ["pretrained", "gone.safetensors"])
def test_a_published_base_is_taken_from_where_it_is_known(base, path, base_path, monkeypatch):
    monkeypatch.setattr(bases, "CHECKPOINT_SHA256", {"355M": "b" * 64, "124M": base[1]})
    monkeypatch.setattr(bases, "needed_for_weights", lambda size: [size])
    monkeypatch.setattr(bases, "fetch_all", lambda needed: [base[0]] if needed == ["124M"] else 0)
    description = describe(base=base[1], base_path=base_path)
    expected = ask(save(path, description, base[2]), description)
    assert torch.equal(ask(*load_saved(path)), expected)


@pytest.mark.parametrize("layers", ["last_block", "lora"])
def test_random_weights_are_drawn_again(layers, path):
    description = describe(layers, base_path="random")
    model = train(description, None)
    description = replace(description, base=frozen_sha256(model))
    save_classifier(path, model, description)
    assert torch.equal(ask(*load_saved(path)), ask(model, description))


def test_other_random_weights_are_refused(path):
    save(path, describe(base_path="random"), None)
    with pytest.raises(ValueError, match=rf"^seed 5 draws other weights .* expected {'a' * 64}\)"):
        load_saved(path)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"is_whole": True}, "holds all that it needs"), ({"base_path": "random"}, "draws its base")],
)
def test_a_base_that_is_not_needed_is_not_taken(more, message, base, path):
    save(path, describe(**more), base[2])
    with pytest.raises(ValueError, match=f"{message}.*: leave out --weights"):
        load_saved(path, base[0])


# ------------------------------------------------------------------------------- describing a run


def describe_flags(*flags):
    settings = parse_args([*flags, "--save_model", "a.safetensors"])
    model = build_classifier(settings.network, settings.seed)
    return describe_saved(settings, model, 37, ("ham", "spam"), "digest"), model


def test_a_run_is_described_by_what_it_was_told(base):
    flags = ["--weights", str(base[0]), "--context_length", "20", "--trainable_layers", "lora",
             "--lora_rank", "4", "--lora_scaling", "rslora", "--seed", "7"]  # fmt: skip
    told, _ = describe_flags(*flags)
    assert told.design.config == CONFIG
    assert (told.design.lora_rank, told.design.lora_scaling) == (4, 4.0)
    assert (told.base, told.base_path) == (base[1], str(base[0]))
    assert (told.class_names, told.max_length, told.tokenizer) == (["ham", "spam"], 37, "gpt2")
    assert (told.seed, told.record, told.settings["lora_rank"]) == (7, "digest", 4)
    assert not told.is_whole


def test_the_demo_is_described_by_what_it_drew():
    told, model = describe_flags("--demo")
    assert (told.base, told.base_path) == (frozen_sha256(model), "random")
    assert told.tokenizer == "bytes"


def test_each_seed_has_a_file_of_its_own(tmp_path):
    settings = parse_args(["--demo", "--save_model", str(tmp_path / "new" / "a{seed}.safetensors")])
    model = build_classifier(settings.network, settings.seed)
    path = keep_classifier(settings, model, 80, ("ham", "spam"), None)
    assert path == tmp_path / "new" / "a123.safetensors"
    assert read_saved(path)[0].seed == 123


@pytest.mark.parametrize("flags", [["--save_whole"], ["--trainable_layers", "all"]])
def test_what_is_kept_as_a_whole_has_no_base(flags, base):
    told, _ = describe_flags("--weights", str(base[0]), "--context_length", "20", *flags)
    assert told.base is None


def test_without_padding_messages_are_cut_to_the_models_context(base):
    flags = ["--weights", str(base[0]), "--no_padding", "--batch_size", "1"]
    assert describe_flags(*flags)[0].max_length == CONFIG["context_length"]


def test_the_metadata_are_json_that_other_programs_can_read(kept):
    with safe_open(kept[0], framework="np") as file:
        told = json.loads(file.metadata()[KEY])
    assert told["class_names"] == ["no", "perhaps", "yes"]
    assert told["settings"] == {"batch_size": 8}
