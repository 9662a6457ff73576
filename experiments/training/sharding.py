"""A model in shards: each process holds a part of every block's numbers, gradients and moments.

    model = spread(model, 2, "shard")  # before the optimiser is made
    ...  # train; all processes run every block in step
    plain = gather_shards(plain, design, 2)

PyTorch's `fully_shard` gathers a block's parameters before it runs, forward and backward, and adds
up the gradients while it scatters them. What training does not run stays as it is.

Source: Zhao et al. 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", arXiv
2304.11277.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from experiments.model.classifier import Design, GPTClassifier, create_classifier
from experiments.shortcuts.model import ShortcutClassifier
from experiments.system.distributed import OwnMessages
from experiments.system.torchrun import count_processes


def spread(model: GPTClassifier | ShortcutClassifier, num_classes: int, parallel: str) -> nn.Module:
    """Returns a model for all processes of the run together; the same for one.

    Args:
        model: the same in every process.
        num_classes: what it tells apart.
        parallel: `replicate` leaves it whole, `shard` leaves each process a part.
    """
    if count_processes() == 1:
        return model
    is_sharded = parallel == "shard"
    if isinstance(model, ShortcutClassifier):
        model.gradient = None  # knows the rows of this process's tokens, and a sum has others too
    if is_sharded and isinstance(model, ShortcutClassifier):
        shard_shortcuts(model)
    elif is_sharded:
        shard(model, model.trf_blocks, skipped=[])
    return OwnMessages(model, num_classes, in_step=is_sharded)


def shard_shortcuts(model: ShortcutClassifier) -> None:
    """Shards the blocks behind the inputs, and lets them be gathered where they are run."""
    from torch.distributed.fsdp import register_fsdp_forward_method  # takes a second

    first = len(model.trf_blocks) if model.pooled else model.depth or 0
    skipped = [*model.trf_blocks[:first]]
    skipped += [] if model.depth is None else [model.tok_emb, model.pos_emb]
    shard(model, model.trf_blocks[first:], skipped)
    for block in model.trf_blocks[first:]:
        block.run_gathered = partial(run_block_of, block)
        register_fsdp_forward_method(block, "run_gathered")
    run = model.run
    model.run = lambda function, block, *inputs: block.run_gathered(run, function, *inputs)


def run_block_of(
    block: nn.Module, run: Callable[..., Tensor], function: Callable[..., Tensor], *inputs: Tensor
) -> Tensor:
    """Returns what `run` gives of a function of a block and its inputs."""
    return run(function, block, *inputs)


def shard(model: nn.Module, blocks: nn.Sequential, skipped: list[nn.Module]) -> None:
    """Leaves each process its part of the blocks and of the rest, but for what is skipped."""
    from torch.distributed.fsdp import fully_shard  # takes a second

    # Warns of logits that are a view; nothing here changes them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    for block in blocks:
        fully_shard(block)
    fully_shard(model, ignored_params={p for module in skipped for p in module.parameters()})
    for module in (*blocks, model):
        module.set_gradient_divide_factor(1)  # a process's loss is its part of the whole already
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def gather_shards(model: GPTClassifier, design: Design, num_classes: int) -> GPTClassifier:
    """Returns a plain classifier with all its numbers; the very one where it was not sharded.

    Every process takes part, and gets a copy.

    Args:
        model: the plain classifier.
        design: what it is.
        num_classes: what it tells apart.
    """
    if count_processes() == 1:
        return model
    from torch.distributed.tensor import DTensor  # takes a second

    tensors = model.state_dict()
    if not any(isinstance(tensor, DTensor) for tensor in tensors.values()):
        return model
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            tensors[name] = tensor.full_tensor()
    with torch.device("meta"):
        whole = create_classifier(design, None, seed=0, num_classes=num_classes)
    whole.load_state_dict(tensors, assign=True)
    return whole
