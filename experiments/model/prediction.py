"""Predictions of a saved classifier, which reads texts as in training.

    classifier = Classifier(model, description, tokenizer, device, batch_size=32)
    probabilities = classifier.classify(["You won a prize"])  # (N, K)

Texts are cut and padded as in training. Padding on which the logits do not depend is left out, and
texts of similar lengths share a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from experiments.config.rows import PAD_TOKEN_ID
from experiments.data.datasets import TextDataset, Tokenizer, encode
from experiments.model.description import Description


@dataclass
class Classifier:
    """A classifier with its tokenizer."""

    model: nn.Module  # of tokens (B, T) and lengths (B,), on the device and in evaluation mode
    description: Description
    tokenizer: Tokenizer  # of the training data
    device: torch.device
    batch_size: int  # at most
    num_cut: int = 0  # texts so far that were longer than those of training

    @torch.no_grad()
    def classify(self, texts: Sequence[str]) -> Tensor:
        """Return the probability of each class (N, K) for some texts, on the CPU.

        Raises:
            ValueError: when one is not finite.
        """
        facts, design = self.description, self.description.design
        encoded = encode(texts, self.tokenizer, PAD_TOKEN_ID)
        frame = pd.DataFrame({"Label": 0, "Text": texts})
        dataset = TextDataset(frame, encoded, facts.max_length, no_padding=facts.no_padding)
        self.num_cut += dataset.num_cut
        needed = {
            "first": torch.ones_like(dataset.lengths),
            "real": dataset.lengths,
            "all": torch.full_like(dataset.lengths, dataset.max_length),
        }[design.needed_tokens(facts.no_padding)]  # (N,)
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
    groups = [order]
    if only_equal:
        _, counts = lengths.unique(return_counts=True)
        groups = order.split(counts.tolist())
    for group in groups:
        yield from group.split(batch_size)
