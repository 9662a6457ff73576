"""What the logits depend on: tokens, blocks, and distinct messages."""

import torch
from torch import Tensor

from experiments.data.datasets import MessageDataset, Splits
from experiments.model.classifier import GPTClassifier


def needed_lengths(model: GPTClassifier, dataset: MessageDataset) -> Tensor:
    """Returns (N,): how many tokens of each message its logits depend on, from the first on.

    Under the causal mask, those up to the position that is read; `flexible` never reads beyond
    the real tokens, averaging or not. Without the mask, or averaging over the padding, all.
    """
    is_causal = not model.trf_blocks[0].att.disable_causal_mask
    if is_causal and model.token_position == "flexible":
        return dataset.lengths
    if is_causal and model.token_position == "first" and not model.average_embeddings:
        return torch.ones_like(dataset.lengths)
    if dataset.no_padding:
        return dataset.lengths
    return torch.full_like(dataset.lengths, dataset.max_length)


def frozen_blocks(model: GPTClassifier) -> int:
    """Returns how many blocks, from the first on, give the same output throughout training."""
    if any(p.requires_grad for e in (model.tok_emb, model.pos_emb) for p in e.parameters()):
        return 0
    trained = [any(p.requires_grad for p in block.parameters()) for block in model.trf_blocks]
    return trained.index(True) if True in trained else len(trained)


def distinct_messages(lengths: Splits, datasets: Splits) -> tuple[list[Tensor], Splits]:
    """Returns the distinct messages, cut to their needed lengths, shortest first.

    Returns:
        The tokens of each, and for each split which of them its messages are, (N,).
    """
    cut = [
        [tokens[:n] for tokens, n in zip(dataset.tokens, needed, strict=True)]
        for dataset, needed in zip(datasets, lengths, strict=True)
    ]
    keys = [[tokens.numpy().tobytes() for tokens in split] for split in cut]
    by_key = {k: t for split in zip(keys, cut, strict=True) for k, t in zip(*split, strict=True)}
    by_key = dict(sorted(by_key.items(), key=lambda item: len(item[0])))
    number = {key: i for i, key in enumerate(by_key)}
    return list(by_key.values()), Splits(*(torch.tensor([number[k] for k in s]) for s in keys))
