"""A trained classifier in one file: what is loaded is what was saved, or it is refused.

Its predictions are those of the reference implementation on texts that are read as in training.
"""

import json
from functools import reduce
from operator import getitem

import designs
import hypothesis
import pytest
import torch
from checkpoints import ANY_JSON
from helpers import assert_equal, randomise
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import read_or_refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from experiments.checkpoints.header import checkpoint_sha256
from experiments.config.parsing import resolve
from experiments.config.settings import default_values
from experiments.data.sms_spam import demo_tokenizer
from experiments.model.classifier import build_classifier
from experiments.model.prediction import Classifier
from experiments.model.saved import is_saved, load_classifier, read_saved, save_classifier
from experiments.shortcuts.model import OptimizedClassifier
from experiments.system.devices import dtype_of
from previous_chapters import GPTModel

KEY = "finetuned_classifier"
CONFIG = {
    "vocab_size": 50257, "context_length": 24, "drop_rate": 0.0, "qkv_bias": True, "emb_dim": 8,
    "n_layers": 3, "n_heads": 2,
}  # fmt: skip
CLASSES = ["no", "perhaps", "yes"]
MAX_LENGTH = 18
TEXTS = ["a", "", "abc", "the longest of all these texts is cut", "cab", "to be", "\tx\n", "abc"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spam.safetensors"


def settings_of(
    base, path, layers="last_block", position="last", average=False, no_mask=False, **flags
):
    """The settings of a run that finetunes the base and saves the classifier."""
    values = {
        "weights": str(base), "trainable_layers": layers, "trainable_token_pos": position,
        "average_embeddings": average, "disable_causal_mask": no_mask, "lora_rank": 3,
        "lora_alpha": 1.5, "demo": True,  # for its tokenizer
        "save_model": path, "seed": 5,
    }  # fmt: skip
    return resolve(default_values() | values | flags)


def save(settings):
    """Saves a classifier whose trained parameters are far from their initial values."""
    model = build_classifier(settings, len(CLASSES))
    randomise(nn.ParameterList(p for p in model.parameters() if p.requires_grad), std=0.1)
    save_classifier(settings, model, MAX_LENGTH, CLASSES, record="digest")
    return model


def predict(model, description, texts=TEXTS, batch_size=3):
    """The probabilities of texts by the optimised classifier, as `classify.py` loads it."""
    no_padding, dtype = description.no_padding, dtype_of(description.precision)
    optimised = OptimizedClassifier(model, no_padding=no_padding, dtype=dtype).eval()
    return with_tokenizer(optimised, description, batch_size).classify(texts)


def with_tokenizer(model, description, batch_size=2):
    return Classifier(model, description, demo_tokenizer(), torch.device("cpu"), batch_size)


@torch.no_grad()
def predict_one_by_one(model, settings):
    """The probabilities of `TEXTS` by the reference implementation, text by text."""
    no_padding = settings.data.no_padding
    max_length = CONFIG["context_length"] if no_padding else MAX_LENGTH
    logits = []
    for text in TEXTS:
        tokens = (demo_tokenizer().encode(text) or [50256])[:max_length]
        length = len(tokens)
        tokens += [] if no_padding else [50256] * (max_length - length)
        logits.append(model(torch.tensor([tokens]), torch.tensor([length])))
    return torch.softmax(torch.cat(logits), dim=-1)


def metadata_of(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()[KEY])


def edit_description(path, target=None, **changes):
    """Change parts of a saved description, by names with dots; ... removes one."""
    description = metadata_of(path)
    for name, value in changes.items():
        *parts, last = name.split(".")
        place = reduce(getitem, parts, description)
        place[last] = value
        if value is ...:
            del place[last]
    save_file(load_file(path), target or path, {KEY: json.dumps(description)})


# ------------------------------------------------------------------------------ saving and loading

DESIGNS = [*designs.covering(designs.CHOICES | {"save_whole": (False, True)})]


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: f"{d['layers']}-{d['position']}")
@pytest.mark.usefixtures("float64")
def test_the_loaded_classifier_predicts_what_the_saved_one_does_text_by_text(design, base, path):
    settings = settings_of(base, path, **design)
    trained = save(settings)
    expected = predict_one_by_one(trained, settings)
    model, description = load_classifier(path)
    assert_equal(predict_one_by_one(model, settings), expected)
    assert_equal(predict(model, description), expected)
    assert description.design == settings.design
    if not design["save_whole"]:
        names = {name for name, p in trained.named_parameters() if p.requires_grad}
        assert load_file(path).keys() == names
        return
    gpt = GPTModel(CONFIG, disable_causal_mask=design["no_mask"])  # as the code of the book
    gpt.out_head = nn.Linear(CONFIG["emb_dim"], len(CLASSES))
    gpt.load_state_dict(load_file(path))
    tokens = torch.randint(50257, (2, 9))
    assert_equal(gpt(tokens), GPTModel.forward(trained, tokens))
    with pytest.raises(ValueError, match="has all weights: leave out --weights"):
        load_classifier(path, base)


def test_each_seed_has_a_file_of_its_own_that_the_main_process_writes_for_everybody(
    base, tmp_path, monkeypatch
):
    settings = settings_of(base, tmp_path / "new" / "a{seed}.safetensors", seed=7)
    path, model = tmp_path / "new" / "a7.safetensors", build_classifier(settings, len(CLASSES))
    for rank in ("1", "0"):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        monkeypatch.setenv("RANK", rank)
        assert not is_saved(settings, None)
        assert save_classifier(settings, model, MAX_LENGTH, CLASSES, None) == path
        assert path.exists() == is_saved(settings, None) == (rank == "0")
    (tmp_path / "other").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


# -------------------------------------------------------------------------------- the description


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ({}, {}),
        ({"demo": False, "precision": "bfloat16"}, {"tokenizer": "gpt2", "precision": "bfloat16"}),
        ({"no_padding": True}, {"no_padding": True, "max_length": CONFIG["context_length"]}),
        ({"save_whole": True}, {"base": None, "is_whole": True}),
    ],
)
def test_the_metadata_are_json_in_the_format_of_version_1(flags, changes, base, path):
    lora = {"lora_rank": 4, "lora_scaling": "rslora"}
    settings = settings_of(base, path, "lora", "first", **lora, **flags)
    save(settings)
    assert metadata_of(path) == {
        "version": 1,
        "design": {
            "config": CONFIG,
            "token_position": "first",
            "average_embeddings": False,
            "disable_causal_mask": False,
            "trainable_layers": "lora",
            "lora_rank": 4,
            "lora_scaling": 0.75,
        },
        "class_names": CLASSES,
        "text_columns": [],
        "max_length": MAX_LENGTH,
        "no_padding": False,
        "tokenizer": "bytes",
        "precision": "float32",
        "seed": 5,
        "is_whole": False,
        "base": checkpoint_sha256(base),
        "base_path": str(base.resolve()),
        "record": "digest",
        "settings": json.loads(json.dumps(settings.identity, default=str)),
    } | changes  # fmt: skip
    assert read_saved(path)[0].design == settings.design


# ---------------------------------------------------------------------------------------- refusals


@pytest.fixture(scope="module")
def small_file(base, tmp_path_factory):
    """The path of a file that is mostly header."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save(settings_of(base, path, "last_layer"))
    return path


@given(content=st.binary(), data=st.data())
@example(content=b"", data=None)
@example(content=b"\2\0\0\0\0\0\0\0{}", data=None)
@example(content=b"\x80\2}q\0.", data=None)
def test_any_bytes_are_refused_and_a_damaged_file_is_read_or_refused(content, data, small_file):
    path = small_file.with_name("any.safetensors")
    path.write_bytes(content)
    assert not read_or_refused(read_saved, path, f"{path} is not a saved classifier: ")
    content = bytearray(small_file.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=3)) if data else ():
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(places | st.none()) if data else None])
    read_or_refused(read_saved, path, f"{path} is not a saved classifier: ")


@given(data=st.data())
@hypothesis.settings(max_examples=50)
def test_a_description_with_another_value_is_read_or_refused(small_file, data):
    path, described = small_file.with_name("other.safetensors"), metadata_of(small_file)
    part = data.draw(st.sampled_from(["", "design.", "design.config."]))
    names = reduce(getitem, part.split(".")[:-1], described)
    name = part + data.draw(st.sampled_from([*names, "more"]))
    edit_description(small_file, path, **{name: data.draw(ANY_JSON)})
    read_or_refused(read_saved, path, f"{path} is not a saved classifier: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "its metadata have no finetuned_classifier, which --save_model writes"),
        ("{", "Expecting property name .*"),
        ("[" * 100_000, "its description is nested too deeply"),
        ("7", "its description is 7, expected an object"),
        ({"version": 2}, "its version is 2, expected 1"),
        ({"version": ...}, "its version is null, expected 1"),
        ({"more": 1}, '"more" is unknown'),
        ({"design.trainable_layers": "some"}, 'trainable_layers is "some", expected all or .*'),
        ({"design": 7}, '"average_embeddings" is missing'),
        ({"seed": "x"}, 'seed is "x", expected int'),
        ({"seed": -1}, "seed is -1, expected 0 to 9223372036854775807"),
        ({"design.lora_scaling": "x"}, 'lora_scaling is "x", expected int | float'),
        ({"design.lora_rank": 0}, "lora_rank is 0, expected 1 to 10000000"),
        ({"design.config.vocab_size": 50256}, "vocab_size is 50256, expected 50257 to 10000000"),
        ({"design.config.n_layers": 1001}, "n_layers is 1001, expected 1 to 1000"),
        ({"design.config.n_heads": True}, "n_heads is true, expected 1 to 10000000"),
        ({"design.config.n_heads": 3}, "d_out must be a multiple of num_heads, got 8 and 3"),
        ({"design.config.drop_rate": 0.1}, "its config needs a drop_rate of 0, and .*"),
        ({"design.config.qkv_bias": 1}, "its config needs .* a qkv_bias of true or false"),
        ({"tokenizer": "words"}, 'tokenizer is "words", expected gpt2 or bytes'),
        ({"text_columns": [1]}, r"text_columns is \[1\], expected names"),
        ({"max_length": 25}, "max_length is 25, expected 1 to 24"),
        ({"max_length": 0}, "max_length is 0, expected 1 to 24"),
        ({"class_names": ["yes"]}, r'class_names is \["yes"\], expected two names or more'),
        ({"class_names": ["a", "b", 1]}, r"class_names is .*, expected two names or more"),
        ({"base": None}, "base is null, expected the SHA-256 of its base"),
        ({"is_whole": True}, 'base is ".*, expected null'),
        ({"class_names": ["a", "b"]},
         r"out_head.bias is torch.float32 of shape \(3,\), expected torch.float32 of shape \(2,\)"),
        ({"is_whole": True, "base": None}, "final_norm.scale is missing, expected .*"),
    ],
)  # fmt: skip
def test_an_invalid_description_is_refused_with_what_is_expected(
    small_file, path, changes, message
):
    if isinstance(changes, dict):
        edit_description(small_file, path, **changes)
    else:
        save_file(load_file(small_file), path, {KEY: changes} if changes else None)
    with pytest.raises(ValueError, match=f"^{path} is not a saved classifier: {message}$"):
        read_saved(path)


def test_values_that_are_not_finite_and_pickles_are_refused_and_earlier_files_are_read(
    small_file, path
):
    edit_description(small_file, path, text_columns=...)
    assert read_saved(path)[0].text_columns == []
    tensors = load_file(small_file)
    tensors["out_head.bias"][1] = torch.nan
    save_file(tensors, path, {KEY: json.dumps(metadata_of(small_file))})
    with pytest.raises(ValueError, match=r"out_head\.bias has values that are not finite"):
        read_saved(path)
    torch.save({"out_head.weight": torch.zeros(2, 2)}, path)  # as the book saves it
    with pytest.raises(ValueError, match="classifier: it is a PyTorch pickle") as error:
        read_saved(path)
    assert "save_file(" in "".join(error.value.__notes__)


# -------------------------------------------------------------------------------------- its base


def test_a_base_is_found_where_it_was_or_is_given_and_another_one_is_refused(
    base, path, tmp_path, miniature
):
    old, new = tmp_path / "old", tmp_path / "new"
    old.symlink_to(base)
    model = save(settings_of(base, path))
    edit_description(path, base_path=str(old))
    expected = predict(model, read_saved(path)[0])
    assert torch.equal(predict(*load_classifier(path)), expected)
    old.rename(new)
    digest, other = checkpoint_sha256(base), checkpoint_sha256(miniature)
    with pytest.raises(ValueError, match=rf"^no base with SHA-256 {digest} found \(.*/old.*\): g"):
        load_classifier(path)
    assert torch.equal(predict(*load_classifier(path, new)), expected)
    message = f"^{miniature} is another base: SHA-256 {other}, expected {digest}$"
    with pytest.raises(ValueError, match=message):
        load_classifier(path, miniature)
    edit_description(path, base_path=str(miniature))
    message = rf"{digest} found \({miniature} has changed, SHA-256 {other}\): .*--weights$"
    with pytest.raises(ValueError, match=message):
        load_classifier(path)


@pytest.mark.parametrize("base_path", ["pretrained", "gone.safetensors"])
def test_a_published_base_is_downloaded_or_found(base, path, base_path, monkeypatch):
    published = {"355M": "b" * 64, "124M": checkpoint_sha256(base)}
    monkeypatch.setattr("experiments.model.saved.CHECKPOINT_SHA256", published)
    monkeypatch.setattr("experiments.model.saved.fetch_weights", {"124M": base}.__getitem__)
    model = save(settings_of(base, path))
    edit_description(path, base_path=base_path)
    assert torch.equal(predict(*load_classifier(path)), predict(model, read_saved(path)[0]))


@pytest.mark.parametrize("layers", ["last_block", "lora"])
def test_random_weights_are_drawn_again(layers, path):
    model = save(settings_of("random", path, layers, model_size="gpt2-tiny (7M)"))
    loaded, description = load_classifier(path)
    assert description.base_path == "random"
    assert torch.equal(predict(loaded, description), predict(model, description))
    with pytest.raises(ValueError, match="has a base with random weights: leave out --weights"):
        load_classifier(path, path)
    edit_description(path, seed=6)
    message = rf"other random weights from seed 6 .*, expected {description.base}\)"
    with pytest.raises(ValueError, match=message):
        load_classifier(path)


# ------------------------------------------------------------------------------------- predictions


def test_batches_have_similar_lengths_without_needless_padding_and_cut_texts_are_counted(
    base, path
):
    def inputs_of(texts, logits=(0.0, 0.0, 0.0), **design):
        """The tokens and lengths of each batch that a model gets, and the classifier."""
        save(settings_of(base, path, **design))
        inputs = []

        def model(tokens, lengths):
            inputs.append((tokens.tolist(), lengths.tolist()))
            return torch.tensor(logits).expand(len(tokens), -1)

        classifier = with_tokenizer(model, read_saved(path)[0])
        classifier.classify(texts)
        return inputs, classifier

    texts, (a, b, c, pad) = ["abcdef", "a", "abc", "ab"], (*b"abc", 50256)
    assert inputs_of(texts, position="flexible")[0] == [
        ([[a, pad], [a, b]], [1, 2]), ([[a, b, c, *3 * [pad]], [*range(a, a + 6)]], [3, 6])
    ]  # fmt: skip
    for position, length in (("last", 18), ("first", 1)):
        inputs, _ = inputs_of(texts, layers="all", position=position)
        assert [len(tokens[0]) for tokens, _ in inputs] == [length, length]
    classifier = inputs_of(TEXTS)[1]
    classifier.classify(["x" * 18, "x" * 19])
    assert classifier.num_cut == 2
    with pytest.raises(ValueError, match="not finite"):
        inputs_of(["a"], logits=(0.0, torch.nan, 0.0))


def test_matrix_products_have_the_precision_of_training(base, path):
    model = save(settings_of(base, path))
    exact = predict(model, read_saved(path)[0])
    edit_description(path, precision="bfloat16")
    rounded = predict(model, read_saved(path)[0])
    assert 1e-6 < (rounded - exact).abs().max() < 0.1
