"""A few short runs of several processes; torchrun starts it in a test.

torchrun --nproc_per_node=2 tests/shared_runs.py FILE replicate shard
"""

import sys
from itertools import chain, product

import torch
from designs import CPU, classifier, datasets_of

from experiments.config.parsing import parse_args
from experiments.data.datasets import create_loaders
from experiments.shortcuts.prefix import cache_frozen_prefix
from experiments.system.distributed import process_group, world
from experiments.training.loop import evaluate, train
from experiments.training.parallel import gather_parameters, wrap_distributed

RUNS = {  # what is trained, token position, and how
    "a batch that is not divisible": ("last_block", "flexible", "--batch_size 5"),
    "all layers": ("all", "last", "--batch_size 3 --accumulation_steps 2"),
    "LoRA": ("lora", "first", "--batch_size 2 --max_grad_norm 0.1"),
    "the head": ("last_layer", "last", "--batch_size 4 --keep_best"),
    "a batch of one": ("all", "flexible", "--batch_size 1 --accumulation_steps 4 --no_padding"),
    "ignored labels": ("last_block", "last", "--batch_size 3 --ignore_index 1"),
    "recomputed blocks": ("all", "last", "--batch_size 3 --activation_checkpointing"),
    "class weights": ("last_two_blocks", "flexible", "--batch_size 4 --class_weights"),
}


def one_run(layers, position, flags, parallel, path):
    """Losses, accuracies, counts, probabilities and parameters of a run."""
    settings = parse_args(["--num_epochs", "2", "--learning_rate", "0.01", *flags.split()])
    datasets = datasets_of(settings.data.no_padding)
    checkpointing = settings.runtime.activation_checkpointing
    whole = model = classifier(layers, position, checkpointing=checkpointing)
    if path == "optimised":
        model, datasets, *_ = cache_frozen_prefix(whole, datasets)
    model = wrap_distributed(model, 2, parallel)
    trained = [p for p in model.parameters() if p.requires_grad]
    is_sharded = parallel == "shard" and world.size > 1
    assert all(("DTensor" in type(p.data).__name__) == is_sharded for p in trained)
    torch.manual_seed(2)
    loaders = create_loaders(datasets, settings.training.batch_size)
    history = train(model, loaders, datasets.train.labels, settings.training, CPU)
    correct, probabilities, labels = evaluate(model, loaders, CPU)
    whole = gather_parameters(whole, 2)
    numbers = [*chain(*history.losses), *chain(*history.accuracies), *chain(*correct.values())]
    numbers = torch.tensor([*numbers, *(history.best or ())])
    return [numbers, probabilities, labels, *whole.state_dict().values()]


def all_runs(parallel):
    """Each run by the reference implementation and by the optimised one, in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        names = product(RUNS, ("reference", "optimised"))
        return {(run, path): one_run(*RUNS[run], parallel, path) for run, path in names}
    finally:
        torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    with process_group("cpu"):
        results = {parallel: all_runs(parallel) for parallel in sys.argv[2:]}
        if world.is_main:
            torch.save(results, sys.argv[1])
