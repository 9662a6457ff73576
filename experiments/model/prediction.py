"""A saved classifier at work: texts in, probabilities out, read as it was trained to read them.

    classifier = Classifier(*load_saved(path), tokenizer, device, batch_size=32)
    probabilities = classifier.classify(["You won a prize"])  # (N, K)

Messages are cut and padded to the trained length. Where the logits cannot depend on the padding it
is left out, and messages of like length are computed together.
"""

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor

from experiments.config.sizes import PAD_TOKEN_ID
from experiments.data.datasets import MessageDataset, Tokenizer, encode
from experiments.model.classifier import GPTClassifier
from experiments.model.description import Description
from experiments.shortcuts.model import ShortcutClassifier
from experiments.shortcuts.needed import needed_lengths
from experiments.system.devices import dtype_of


class Classifier:
    """A classifier with all that it takes to ask it.

    Args:
        plain: the model, with its trained numbers.
        description: of the classifier.
        tokenizer: what it was trained with.
        device: where it is computed.
        batch_size: messages in one pass, at the most.
    """

    def __init__(
        self,
        plain: GPTClassifier,
        description: Description,
        tokenizer: Tokenizer,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.plain = plain.requires_grad_(False).to(device)
        self.model = ShortcutClassifier(
            self.plain,
            None,
            no_padding=description.no_padding,
            dtype=dtype_of(description.precision),
        ).eval()
        self.description = description
        self.tokenizer = tokenizer
        self.device = device
        self.batch_size = batch_size
        self.num_cut = 0  # texts so far that were longer than the classifier takes

    @torch.no_grad()
    def classify(self, texts: Sequence[str]) -> Tensor:
        """Returns the probability of each class (N, K) for some texts, on the CPU.

        Raises:
            ValueError: when one is no number.
        """
        dataset = self.dataset_of(texts)
        self.num_cut += dataset.num_cut
        needed = needed_lengths(self.plain, dataset)  # (N,)
        # Without the mask a token sees those after it, and so the filling of a shorter message.
        is_causal = not self.description.design.disable_causal_mask
        probabilities = torch.empty(len(texts), len(self.description.class_names))  # (N, K)
        for rows in batches_of_like_length(needed, self.batch_size, only_equal=not is_causal):
            tokens = dataset.tokens[rows, : int(needed[rows].max())]  # (B, T)
            logits = self.model(tokens.to(self.device), dataset.lengths[rows].to(self.device))
            probabilities[rows] = torch.softmax(logits, dim=-1).cpu()
        if not probabilities.isfinite().all():
            raise ValueError("a probability is no number: the logits are not finite")
        return probabilities

    def dataset_of(self, texts: Sequence[str]) -> MessageDataset:
        """Returns the messages as the classifier was trained to read them; all labels are 0."""
        messages = pd.DataFrame({"Label": 0, "Text": texts})
        encoded = encode(texts, self.tokenizer, PAD_TOKEN_ID)
        told = self.description
        return MessageDataset(messages, encoded, told.max_length, no_padding=told.no_padding)


def batches_of_like_length(
    lengths: Tensor, batch_size: int, only_equal: bool = False
) -> Iterator[Tensor]:
    """Yields the numbers of messages by length, so many at once.

    Args:
        lengths: (N,), of the messages.
        batch_size: at the most.
        only_equal: lets no two lengths share a batch.
    """
    order = lengths.argsort(stable=True)
    if not only_equal:
        yield from order.split(batch_size)
        return
    _, counts = lengths.unique(return_counts=True)  # from the shortest on
    for some in order.split(counts.tolist()):
        yield from some.split(batch_size)
