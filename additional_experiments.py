"""Finetune GPT-2 as a text classifier, and measure what each design decision changes.

    python additional_experiments.py --demo                    # ten seconds, nothing is downloaded
    python additional_experiments.py                           # row 1: the last block, last token
    python additional_experiments.py --trainable_layers lora   # another design
    python additional_experiments.py --row 16                  # the flags of a row by its number
    python additional_experiments.py --row 1-5,16              # several, one after the other

First or last token? One block, two, all, LoRA? A bigger model? Padding? The causal mask? Mean
pooling? Each row of the published table answers one of these questions. A run reproduces the
published procedure: the same order of steps and the same random numbers, so that its losses and
accuracies are those of the published script, batch by batch. Each run writes a JSON record;
`compare_experiments.py` reports which differences between runs are statistically significant.

Sources: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6 and its additional
experiments; Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from experiments.config.parsing import parse_runs
from experiments.config.settings import Settings
from experiments.runs.loop import RunCache, run_all
from experiments.system.distributed import process_group, world
from experiments.system.terminal import one_line_errors, printable, setup_terminal

if TYPE_CHECKING:
    from experiments.runs.results import Recorder, Result


def run_experiment(
    settings: Settings, cache: RunCache | None = None, record: Recorder | None = None
) -> Result | None:
    """Run an experiment from its data to its final accuracies, and print each step.

    Args:
        settings: of the run.
        cache: what the runs of this process share.
        record: what writes the run's record; None writes none.

    Returns:
        The result; None for a dry run, which ends before the weights are loaded.

    Raises:
        UsageError: if the memory is insufficient.
        OSError: if data, tokenizer or weights cannot be loaded, or a result cannot be written.
        ValueError: if they are not the expected ones, or if the loss becomes infinite or NaN.
    """
    # Imported here, so that help, wrong flags and recorded runs do not wait for PyTorch.
    import torch

    from experiments.data.datasets import create_loaders
    from experiments.model.classifier import build_classifier
    from experiments.model.saved import check_can_save, save_classifier
    from experiments.runs import results
    from experiments.shortcuts.prefix import cache_frozen_prefix
    from experiments.system import devices
    from experiments.training.loop import evaluate, train
    from experiments.training.memory import check_memory
    from experiments.training.parallel import Autocast, gather_parameters, wrap_distributed

    cache, clock, runtime = cache or RunCache(), results.Clock(), settings.runtime
    digest = record.digest if record else None
    if settings.output.save_model and not settings.output.dry_run:
        check_can_save(settings, digest)
    device, dtype = devices.select_device(runtime.device), devices.dtype_of(runtime.precision)
    with devices.kernels_restored(), devices.explain_full_memory(device):
        peak_since = devices.start_peak(device)
        corpus, datasets = cache.corpus(settings), cache.datasets(settings)
        plan = results.describe_run(settings, datasets, corpus.num_classes, device)
        print(f"{plan}; {check_memory(settings, datasets, corpus.num_classes, device)}")
        if settings.output.dry_run:
            return None
        reference = model = build_classifier(settings, corpus.num_classes).to(device)
        kernels = devices.choose_kernels(device, reference=runtime.no_shortcuts)
        clock.stop("load")

        prefix_seconds, prefix_reused = 0.0, False
        if runtime.no_shortcuts:
            model = Autocast(model, dtype) if dtype else model
        else:
            devices.keep_freed_memory()
            model, datasets, report, prefix_seconds, prefix_reused = cache_frozen_prefix(
                reference, datasets, cache_dir=runtime.cache_dir, activations=cache.activations,
                conditions=f"{runtime.precision} {kernels} {devices.device_name(device)}",
                dtype=dtype, cast_once=runtime.parallel != "shard",
            )  # fmt: skip
            print(printable(report))
            if not settings.output.save_model:
                reference = None  # in bfloat16, the model has other copies of the frozen weights
        clock.stop("prefix", prefix_seconds)

        model = wrap_distributed(model, corpus.num_classes, runtime.parallel)
        loaders = create_loaders(datasets, settings.training.batch_size)
        torch.manual_seed(settings.seed)
        with results.log_to_tensorboard(settings, digest) as watch:
            history = train(
                model, loaders, datasets.train.labels, settings.training, device,
                fused=not runtime.no_shortcuts, watch=watch,
                resume=record and record.create_resume(runtime),
            )  # fmt: skip
        clock.stop("train")
        clock.seconds["train"] += history.earlier_seconds
        minutes = (prefix_seconds + clock.seconds["train"]) / 60
        reused = f", with {prefix_seconds:.1f} s in which an earlier run cached the activations"
        print(f"Training completed in {minutes:.2f} minutes{reused if prefix_reused else ''}.")
        correct, probabilities, labels = evaluate(model, loaders, device)
        clock.stop("final_accuracies")
        peak = max(world.gather(devices.peak_memory_mib(device)))
        result = results.Result(
            corpus, history, correct, probabilities, labels, clock.seconds,
            settings.design.count_parameters(corpus.num_classes), kernels, prefix_reused, peak,
            peak_since,
        )  # fmt: skip
        print(results.describe_result(result, settings))
        try:
            if record:
                record.write(result)
        finally:  # neither file is lost because the other cannot be written
            if settings.output.save_model:
                reference = gather_parameters(reference, corpus.num_classes)
                length = cache.datasets(settings).train.max_length
                path = save_classifier(
                    settings, reference, length, corpus.class_names, digest, corpus.text_columns
                )
                print(printable(f"Saved: {path}"))
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run and record the experiments that a command line asks for."""
    runs = parse_runs(argv)
    debug = runs[0].output.debug
    with one_line_errors("additional_experiments.py", debug), process_group(runs[0].runtime.device):
        run_all(runs, run_experiment)


BOOK_NAMES = {  # that readers of the book import from here; loaded when they are used
    "LinearWithLoRA": "experiments.model.lora",
    "LinearWithLoRAMerged": "experiments.model.lora",
    "LoRALayer": "experiments.model.lora",
    "SpamDataset": "experiments.data.datasets",
    "calc_accuracy_loader": "experiments.training.loop",
    "calc_loss_batch": "experiments.training.loop",
    "calc_loss_loader": "experiments.training.loop",
    "evaluate_model": "experiments.training.loop",
    "replace_linear_with_lora": "experiments.model.lora",
    "train_classifier_simple": "experiments.training.loop",
}


def __getattr__(name: str) -> Any:
    if name in BOOK_NAMES:
        return getattr(import_module(BOOK_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    setup_terminal()
    main()
