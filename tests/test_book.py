"""Chapter 6 of the book, as its readers write it, on our modules.

The five results of its training are held against a loop of its own, number by number.
"""

import inspect
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from checkpoints import write_checkpoint
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

import additional_experiments
from additional_experiments import (
    SpamDataset,
    calc_accuracy_loader,
    calc_loss_batch,
    calc_loss_loader,
    evaluate_model,
    replace_linear_with_lora,
    train_classifier_simple,
)
from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.data.demo import demo_splits, demo_tokenizer
from previous_chapters import GPTModel, load_weights_into_gpt

pytestmark = pytest.mark.usefixtures("one_thread")

PAD = 50256
SIZES = {"train": 64, "validation": 20, "test": 20}
BASE_CONFIG = {"vocab_size": 50257, "context_length": 128, "drop_rate": 0.0, "qkv_bias": True}
MODEL_CONFIGS = {"gpt2-mini": {"emb_dim": 64, "n_layers": 2, "n_heads": 1}}
DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """Weights as `download_and_load_gpt2` returns them, of a small random GPT-2."""
    shape = {"n_vocab": 50257, "n_ctx": 128, "n_embd": 64, "n_head": 1, "n_layer": 2}
    path = write_checkpoint(tmp_path_factory.mktemp("book") / "model.safetensors", shape)
    return load_gpt2_checkpoint(path)[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The chapter's data sets, each of a CSV file."""
    folder, limit, datasets = tmp_path_factory.mktemp("csv"), None, {}
    for name, split in demo_splits().items():
        lines = split.getvalue().splitlines(keepends=True)[: 1 + SIZES[name]]
        (folder / f"{name}.csv").write_text("".join(lines), encoding="utf-8")
        datasets[name] = SpamDataset(folder / f"{name}.csv", demo_tokenizer(), max_length=limit)
        limit = datasets["train"].max_length
    return SimpleNamespace(**datasets)


def loaders_of(data):
    return SimpleNamespace(
        train=DataLoader(data.train, batch_size=8, shuffle=True, num_workers=0, drop_last=True),
        val=DataLoader(data.validation, batch_size=8, num_workers=0, drop_last=False),
        test=DataLoader(data.test, batch_size=8, num_workers=0, drop_last=False),
    )


def classifier_of(params, **more):
    """Returns the chapter's classifier: last block, final norm and a new head can be trained."""
    config = BASE_CONFIG | MODEL_CONFIGS["gpt2-mini"] | more
    model = GPTModel(config)
    load_weights_into_gpt(model, params)
    model.eval()
    for param in model.parameters():
        param.requires_grad = False
    torch.manual_seed(123)
    model.out_head = torch.nn.Linear(in_features=config["emb_dim"], out_features=2)
    for module in (model.trf_blocks[-1], model.final_norm):
        for param in module.parameters():
            param.requires_grad = True
    return model.to(DEVICE)


def optimizer_of(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)


def classify_review(text, model, max_length):
    """Returns the label of a text, one message at a time, as the chapter's last section does."""
    tokens = demo_tokenizer().encode(text)[: min(max_length, model.pos_emb.weight.shape[0])]
    tokens += [PAD] * (max_length - len(tokens))
    model.eval()
    with torch.no_grad():
        return model(torch.tensor([tokens]))[:, -1, :].argmax(dim=-1).item()


# -------------------------------------------------------------------------------------- the flow


def test_the_chapter_runs_from_its_settings_to_its_curves(params, data, tmp_path):
    assert data.train.max_length <= BASE_CONFIG["context_length"]
    torch.manual_seed(123)
    loaders, model = loaders_of(data), classifier_of(params)
    input_batch, target_batch = next(iter(loaders.train))
    assert input_batch.shape == (8, data.train.max_length)
    assert target_batch.shape == (8,)
    assert model(input_batch).shape == (8, data.train.max_length, 2)

    accuracies = [calc_accuracy_loader(each, model, DEVICE, num_batches=10)
                  for each in (loaders.train, loaders.val, loaders.test)]  # fmt: skip
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    with torch.no_grad():
        before = calc_loss_loader(loaders.train, model, DEVICE, num_batches=5)

    train_losses, val_losses, train_accs, val_accs, examples_seen = train_classifier_simple(
        model, loaders.train, loaders.val, optimizer_of(model), DEVICE,
        num_epochs=2, eval_freq=5, eval_iter=5,
    )  # fmt: skip
    assert train_losses[-1] < before
    assert len(train_accs) == len(val_accs) == 2
    assert examples_seen == 2 * SIZES["train"]

    for name, train_values, val_values in (
        ("loss", train_losses, val_losses),
        ("accuracy", train_accs, val_accs),
    ):
        axes = Figure().subplots()
        for values in (train_values, val_values):
            axes.plot(torch.linspace(0, 2, len(train_values)), values)
        axes.twiny().plot(torch.linspace(0, examples_seen, len(train_values)), train_values)
        axes.figure.savefig(tmp_path / f"{name}-plot.pdf")


def test_one_message_at_a_time_is_told_as_the_accuracy_counts_it(params, data):
    model, frame = classifier_of(params), data.test.data
    told = [classify_review(text, model, data.train.max_length) for text in frame["Text"]]
    right = sum(label == expected for label, expected in zip(told, frame["Label"], strict=True))
    assert calc_accuracy_loader(loaders_of(data).test, model, DEVICE) == right / len(frame)


def test_a_saved_classifier_is_loaded_again(params, data, tmp_path):
    model, other = classifier_of(params), classifier_of(params)
    train_classifier_simple(
        model, loaders_of(data).train, loaders_of(data).val, optimizer_of(model), DEVICE,
        num_epochs=1, eval_freq=50, eval_iter=1,
    )  # fmt: skip
    torch.save(model.state_dict(), tmp_path / "review_classifier.pth")
    other.load_state_dict(torch.load(tmp_path / "review_classifier.pth", map_location=DEVICE))
    tokens = data.test[0][0][None]
    assert torch.equal(other.eval()(tokens), model.eval()(tokens))


def test_the_books_lora_trains_a_plain_gpt(params, data):
    model = classifier_of(params)
    for param in model.parameters():
        param.requires_grad = False
    replace_linear_with_lora(model, rank=4, alpha=4)
    loaders = loaders_of(data)
    train_losses, *_ = train_classifier_simple(
        model, loaders.train, loaders.val, optimizer_of(model), DEVICE,
        num_epochs=2, eval_freq=12, eval_iter=5,
    )  # fmt: skip
    assert train_losses[-1] < train_losses[0]


# -------------------------------------------------------------------------- against the chapter's


def mean_loss(model, loader, batches):
    losses = [
        F.cross_entropy(model(tokens)[:, -1, :], labels).item()
        for (tokens, labels), _ in zip(loader, range(batches), strict=False)
    ]
    return sum(losses) / len(losses)


def share_right(model, loader, batches):
    right = [
        model(tokens)[:, -1, :].argmax(dim=-1) == labels
        for (tokens, labels), _ in zip(loader, range(batches), strict=False)
    ]
    return torch.cat(right).double().mean().item()


def train_by_the_book(model, loaders, optimizer, num_epochs, eval_freq, eval_iter):
    """Returns the five results of a loop that does what the chapter says, in its order."""
    losses, accuracies, examples_seen, step = ([], []), ([], []), 0, 0
    both = (loaders.train, loaders.val)
    for _ in range(num_epochs):
        model.train()
        for tokens, labels in loaders.train:
            optimizer.zero_grad()
            F.cross_entropy(model(tokens)[:, -1, :], labels).backward()
            optimizer.step()
            examples_seen += len(tokens)
            if step % eval_freq == 0:
                model.eval()
                with torch.no_grad():
                    for values, loader in zip(losses, both, strict=True):
                        values.append(mean_loss(model, loader, eval_iter))
                model.train()
            step += 1
        model.eval()
        with torch.no_grad():
            for values, loader in zip(accuracies, both, strict=True):
                values.append(share_right(model, loader, eval_iter))
    return *losses, *accuracies, examples_seen


@pytest.mark.parametrize("drop_rate", [0.0, 0.1])
def test_the_five_results_are_those_of_the_chapters_loop(drop_rate, params, data):
    ours, theirs = (classifier_of(params, drop_rate=drop_rate) for _ in range(2))
    torch.manual_seed(123)
    expected = train_by_the_book(theirs, loaders_of(data), optimizer_of(theirs), 2, 5, 3)
    torch.manual_seed(123)
    loaders = loaders_of(data)
    found = train_classifier_simple(
        ours, loaders.train, loaders.val, optimizer_of(ours), DEVICE, 2, 5, 3
    )
    for values, expected_values in zip(found, expected, strict=True):
        assert values == pytest.approx(expected_values, rel=1e-5)


@pytest.mark.parametrize("drop_rate", [0.0, 0.1])
def test_losses_and_accuracies_are_those_of_the_chapter(drop_rate, params, data):
    model, loaders = classifier_of(params, drop_rate=drop_rate), loaders_of(data)
    model.train()
    tokens, labels = next(iter(loaders.val))
    torch.manual_seed(1)
    expected = F.cross_entropy(model(tokens)[:, -1, :], labels)
    torch.manual_seed(1)
    assert calc_loss_batch(tokens, labels, model, DEVICE).item() == pytest.approx(expected.item())

    accuracy = calc_accuracy_loader(loaders.val, model, DEVICE, num_batches=3)
    assert accuracy == calc_accuracy_loader(loaders.val, model, DEVICE, num_batches=3)
    with torch.no_grad():
        assert accuracy == pytest.approx(share_right(model.eval(), loaders.val, 3))
        loss = mean_loss(model, loaders.val, 3)
    assert calc_loss_loader(loaders.val, model, DEVICE, num_batches=3) == pytest.approx(loss)
    assert evaluate_model(model, loaders.val, loaders.val, DEVICE, eval_iter=3) == pytest.approx(
        (loss, loss)
    )


SIGNATURES = {
    "calc_loss_batch": "input_batch target_batch model device",
    "calc_loss_loader": "data_loader model device num_batches",
    "calc_accuracy_loader": "data_loader model device num_batches",
    "evaluate_model": "model train_loader val_loader device eval_iter",
    "train_classifier_simple": (
        "model train_loader val_loader optimizer device num_epochs eval_freq eval_iter"
    ),
    "SpamDataset": "csv_file tokenizer max_length pad_token_id",
    "replace_linear_with_lora": "model rank alpha",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_books_names_take_what_they_take_there_and_need_no_more(name):
    parameters = list(inspect.signature(getattr(additional_experiments, name)).parameters.values())
    books = SIGNATURES[name].split()
    assert [parameter.name for parameter in parameters[: len(books)]] == books
    assert all(p.default is not inspect.Parameter.empty for p in parameters[len(books) :])
