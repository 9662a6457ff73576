"""Chapter 6 of the book, as its readers write it, with our modules.

The five results of its training are compared with those of a loop written for this test.
"""

import inspect
import itertools
from types import SimpleNamespace

import pytest
import tiktoken
import torch
import torch.nn.functional as F
from checkpoints import write_checkpoint
from torch.utils.data import DataLoader

import additional_experiments
import previous_chapters
from additional_experiments import (
    BOOK_NAMES,
    SpamDataset,
    calc_accuracy_loader,
    calc_loss_loader,
    evaluate_model,
    replace_linear_with_lora,
    train_classifier_simple,
)
from experiments.checkpoints.weights import load_gpt2_checkpoint
from experiments.data.sms_spam import demo_splits, demo_tokenizer
from previous_chapters import (
    GPTModel,
    create_dataloader_v1,
    generate_text_simple,
    load_weights_into_gpt,
    text_to_token_ids,
    token_ids_to_text,
)

PAD = 50256
SIZES = {"train": 64, "validation": 20, "test": 20}
CONFIG = {
    "vocab_size": 50257, "context_length": 128, "drop_rate": 0.0, "qkv_bias": True, "emb_dim": 64,
    "n_layers": 2, "n_heads": 1,
}  # fmt: skip
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
    )


def classifier_of(params, **more):
    """The chapter's classifier: last block, final norm and a new head are trained."""
    model = GPTModel(CONFIG | more)
    load_weights_into_gpt(model, params)
    model.eval().requires_grad_(False)
    torch.manual_seed(123)
    model.out_head = torch.nn.Linear(in_features=CONFIG["emb_dim"], out_features=2)
    for module in (model.trf_blocks[-1], model.final_norm):
        module.requires_grad_(True)
    return model.to(DEVICE)


@pytest.mark.usefixtures("real_tokenizer_files")
def test_the_cells_of_the_chapter_run_in_their_order(params, data, tmp_path):
    tokenizer = tiktoken.get_encoding("gpt2")
    model = GPTModel(CONFIG)
    load_weights_into_gpt(model, params)
    model.eval()

    prompt = text_to_token_ids("Every effort moves you", tokenizer)  # are the weights loaded?
    generated = generate_text_simple(model, prompt, max_new_tokens=3, context_size=2)
    assert generated.shape == (1, prompt.shape[1] + 3)
    assert token_ids_to_text(generated, tokenizer).startswith("Every effort moves you")
    for end in range(prompt.shape[1], generated.shape[1]):
        assert generated[0, end] == model(generated[:, end - 2 : end])[0, -1].argmax()

    model = classifier_of(params)
    inputs = torch.tensor(tokenizer.encode("Do you have time")).unsqueeze(0)
    with torch.no_grad():
        outputs = model(inputs)
    assert outputs.shape == (1, 4, 2)
    assert outputs[:, -1, :].softmax(dim=-1).sum().item() == pytest.approx(1)

    torch.manual_seed(123)
    loaders = loaders_of(data)
    before = calc_accuracy_loader(loaders.train, model, DEVICE, num_batches=10)
    with torch.no_grad():
        assert calc_loss_loader(loaders.val, model, DEVICE, num_batches=5) > 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    train_losses, val_losses, train_accs, val_accs, examples_seen = train_classifier_simple(
        model, loaders.train, loaders.val, optimizer, DEVICE, num_epochs=3, eval_freq=5, eval_iter=5
    )
    assert len(torch.linspace(0, examples_seen, len(train_losses))) == len(val_losses) == 5
    assert len(train_accs) == len(val_accs) == 3
    assert calc_accuracy_loader(loaders.train, model, DEVICE) > before

    def classify_review(text, model, max_length):
        tokens = demo_tokenizer().encode(text)[: min(max_length, len(model.pos_emb.weight))]
        tokens += [PAD] * (max_length - len(tokens))
        with torch.no_grad():
            return model(torch.tensor(tokens).unsqueeze(0))[:, -1, :].argmax(dim=-1).item()

    texts = ["You are a winner, claim your prize", "See you at five"]
    answers = [classify_review(text, model, data.train.max_length) for text in texts]
    torch.save(model.state_dict(), tmp_path / "review_classifier.pth")
    again = classifier_of(params)
    again.load_state_dict(torch.load(tmp_path / "review_classifier.pth", weights_only=True))
    again.eval()
    assert [classify_review(text, again, data.train.max_length) for text in texts] == answers


@pytest.mark.usefixtures("real_tokenizer_files")
def test_a_text_for_pretraining_is_cut_into_windows():
    text = "one two three four five six seven eight nine ten"
    tokens = tiktoken.get_encoding("gpt2").encode(text)
    loader = create_dataloader_v1(text, batch_size=2, max_length=4, stride=2, shuffle=False)
    batches = list(loader)
    assert len(batches) == 1  # of three windows, the last one alone is dropped
    for windows, start in zip(batches[0], (0, 1), strict=True):
        assert windows.tolist() == [tokens[i + start : i + start + 4] for i in (0, 2)]
    assert len(create_dataloader_v1(text, 2, 4, 2, drop_last=False).dataset) == 3


# ------------------------------------------------------------------- compared with the chapter's


@torch.no_grad()
def measure(model, loader, batches):
    """The mean loss of some batches, and the accuracy."""
    losses, correct = [], []
    for tokens, labels in itertools.islice(loader, batches):
        logits = model(tokens)[:, -1, :]
        losses.append(F.cross_entropy(logits, labels).item())
        correct.append(logits.argmax(dim=-1) == labels)
    return sum(losses) / len(losses), torch.cat(correct).double().mean().item()


def train_by_the_book(model, train, val, optimizer, device, num_epochs, eval_freq, eval_iter):
    """The five results of a loop that follows the chapter's text."""
    losses, accuracies, examples_seen, step = ([], []), ([], []), 0, 0
    for _ in range(num_epochs):
        for tokens, labels in train:
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(tokens)[:, -1, :], labels).backward()
            optimizer.step()
            examples_seen += len(tokens)
            if step % eval_freq == 0:
                model.eval()
                for values, loader in zip(losses, (train, val), strict=True):
                    values.append(measure(model, loader, eval_iter)[0])
            step += 1
        model.eval()
        for values, loader in zip(accuracies, (train, val), strict=True):
            values.append(measure(model, loader, eval_iter)[1])
    return *losses, *accuracies, examples_seen


@pytest.mark.parametrize("drop_rate", [0.0, 0.1])
@pytest.mark.parametrize("with_lora", [False, True])
def test_the_five_results_are_those_of_the_chapters_loop(with_lora, drop_rate, params, data):
    found = []
    for is_ours in (False, True):
        model, loaders = classifier_of(params, drop_rate=drop_rate), loaders_of(data)
        if with_lora:
            replace_linear_with_lora(model.requires_grad_(False), rank=4, alpha=4)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        torch.manual_seed(123)
        train = train_classifier_simple if is_ours else train_by_the_book
        found.append(train(model, loaders.train, loaders.val, optimizer, DEVICE, 2, 5, 3))
    for values, expected in zip(*found, strict=True):
        assert values == pytest.approx(expected, rel=1e-5)
    loss, _ = measure(model.eval(), loaders.val, 3)
    evaluated = evaluate_model(model, loaders.val, loaders.val, DEVICE, eval_iter=3)
    assert evaluated == pytest.approx((loss, loss))


SIGNATURES = {
    "generate_text_simple": "model idx max_new_tokens context_size",
    "text_to_token_ids": "text tokenizer",
    "token_ids_to_text": "token_ids tokenizer",
    "create_dataloader_v1": "txt batch_size max_length stride shuffle drop_last num_workers",
    "calc_loss_batch": "input_batch target_batch model device",
    "calc_loss_loader": "data_loader model device num_batches",
    "calc_accuracy_loader": "data_loader model device num_batches",
    "evaluate_model": "model train_loader val_loader device eval_iter",
    "train_classifier_simple": "model train_loader val_loader optimizer device num_epochs "
    "eval_freq eval_iter",
    "SpamDataset": "csv_file tokenizer max_length pad_token_id",
    "replace_linear_with_lora": "model rank alpha",
}


@pytest.mark.parametrize(("name", "books"), SIGNATURES.items())
def test_the_names_of_the_book_have_its_parameters_first_and_require_no_others(name, books):
    function = getattr(additional_experiments if name in BOOK_NAMES else previous_chapters, name)
    count, parameters = len(books.split()), inspect.signature(function).parameters
    assert [*parameters][:count] == books.split()
    others = [*parameters.values()][count:]
    assert all(parameter.default is not inspect.Parameter.empty for parameter in others)
