"""Predictions of a saved classifier, which reads texts as in training.

    classifier = Classifier(model, description, tokenizer, device, batch_size=32)
    probabilities = classifier.classify(["You won a prize"])  # (N, K)

Padding on which the logits do not depend is left out; texts of similar lengths share a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from experiments.config.design import Design
from experiments.config.rows import PAD_TOKEN_ID
from experiments.data.datasets import TextDataset, Tokenizer, encode
from experiments.model.description import Description


def needed_lengths(design: Design, dataset: TextDataset) -> Tensor:
    """Return (N,): how many tokens of each text, from the first, its logits depend on."""
    needed, lengths = design.needed_tokens(dataset.no_padding), dataset.lengths
    if needed == "real":
        return lengths
    return torch.full_like(lengths, 1 if needed == "first" else dataset.max_length)


@dataclass
class Classifier:
    """A classifier with its tokenizer."""

    model: nn.Module  # of tokens (B, T) and lengths (B,), on the device and in evaluation mode
    description: Description
    tokenizer: Tokenizer  # of the training data
    device: torch.device
    batch_size: int  # at most
    num_cut: int = 0  # texts so far that were longer than those of training
    num_blank: int = 0  # texts so far without a visible character

    @torch.no_grad()
    def classify(self, texts: Sequence[str]) -> Tensor:
        """Return each class's probability (N, K) on the CPU; ValueError if not finite."""
        facts, design = self.description, self.description.design
        encoded = encode(texts, self.tokenizer, PAD_TOKEN_ID)
        frame = pd.DataFrame({"Label": 0, "Text": texts})
        dataset = TextDataset(frame, encoded, facts.max_length, no_padding=facts.no_padding)
        self.num_cut += dataset.num_cut
        self.num_blank += sum(not text.strip() for text in texts)
        needed = needed_lengths(design, dataset)  # (N,)
        probabilities = torch.empty(len(texts), len(facts.class_names))  # (N, K)
        # Without the mask, tokens attend to later ones, and so to the padding of shorter texts.
        for rows in _batches(needed, self.batch_size, only_equal=design.disable_causal_mask):
            tokens = dataset.tokens[rows, : int(needed[rows].max())]  # (B, T)
            logits = self.model(tokens.to(self.device), dataset.lengths[rows].to(self.device))
            probabilities[rows] = torch.softmax(logits, dim=-1).cpu()
        if not probabilities.isfinite().all():
            raise ValueError("a probability is not finite: the weights or activations overflow")
        return probabilities


def _batches(lengths: Tensor, batch_size: int, only_equal: bool) -> Iterator[Tensor]:
    """Yield the indices of texts from the shortest on, in batches."""
    order = lengths.argsort(stable=True)
    counts = lengths.unique(return_counts=True)[1].tolist() if only_equal else [len(order)]
    for group in order.split(counts):
        yield from group.split(batch_size)
