"""Wrappers around a classifier: several processes, sharded parameters, bfloat16 products.

    model = wrap_distributed(model, num_classes=2, parallel="shard")  # before the optimiser
    ...  # train; with shards, all processes run every block together
    plain = gather_parameters(plain, num_classes=2)

PyTorch's `fully_shard` gathers a block's parameters before it runs, and scatters the sum of the
gradients. Frozen layers whose output is cached do not run in training, and stay whole.

Source: Zhao et al. 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", arXiv
2304.11277.
"""

import warnings

import torch
from torch import Tensor, nn

from experiments.model.classifier import GPTClassifier, create_classifier
from experiments.shortcuts.model import OptimizedClassifier
from experiments.system.distributed import world


class Autocast(nn.Module):
    """The reference implementation with matrix products of another data type."""

    def __init__(self, model: GPTClassifier, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return float32 logits (B, K) for tokens (B, T) and lengths (B,)."""
        with torch.autocast(tokens.device.type, self.dtype):
            return self.model(tokens, lengths).float()


class _OwnExamples(nn.Module):
    """A classifier that gives the logits of this process's examples only.

    A process without one skips the batch, unless all have to run it `in_step`, as with shards.
    """

    def __init__(self, model: nn.Module, num_classes: int, in_step: bool) -> None:
        super().__init__()
        self.model, self.num_classes, self.in_step = model, num_classes, in_step

    def forward(self, inputs: Tensor, lengths: Tensor, own: Tensor) -> Tensor:
        """Return logits (b, K) of the process's own examples (b,), by `DistributedBatches`."""
        if self.in_step or len(own):
            return self.model(inputs, lengths)[: len(own)]
        return torch.zeros(0, self.num_classes, device=inputs.device, requires_grad=True)


def wrap_distributed(model: nn.Module, num_classes: int, parallel: str) -> nn.Module:
    """Return a model for all processes together, from the same in each; for one, that model.

    To `replicate` keeps it whole in each process, to `shard` divides it among them.
    """
    if world.size == 1:
        return model
    if parallel == "shard":
        _shard(model.model if isinstance(model, Autocast) else model)
    return _OwnExamples(model, num_classes, in_step=parallel == "shard")


def _shard(model: GPTClassifier | OptimizedClassifier) -> None:
    from torch.distributed.fsdp import fully_shard  # takes a second

    # Warns of logits that are a view; nothing here changes them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    whole = model.frozen_prefix if isinstance(model, OptimizedClassifier) else []
    blocks = [block for block in model.trf_blocks if block not in whole]
    for block in blocks:
        fully_shard(block)
    fully_shard(model, ignored_params={p for module in whole for p in module.parameters()})
    for module in (*blocks, model):
        module.set_gradient_divide_factor(1)  # a process's loss is its part of the sum already
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def gather_parameters(model: GPTClassifier, num_classes: int) -> GPTClassifier:
    """Return a plain classifier with all parameters in each process; the same if not sharded."""
    if world.size == 1:
        return model
    from torch.distributed.tensor import DTensor  # takes a second

    tensors = model.state_dict()
    if not any(isinstance(tensor, DTensor) for tensor in tensors.values()):
        return model
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            tensors[name] = tensor.full_tensor()
    with torch.device("meta"):
        whole = create_classifier(model.design, None, seed=0, num_classes=num_classes)
    whole.load_state_dict(tensors, assign=True)
    return whole
