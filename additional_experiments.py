"""Finetunes GPT-2 as a spam classifier, once for each design question of the published table.

    python additional_experiments.py --demo                    # ten seconds, nothing is downloaded
    python additional_experiments.py                           # row 1: the last block, last token
    python additional_experiments.py --trainable_layers lora   # another design
    python additional_experiments.py --row 16                  # the flags of a row by its number
    python additional_experiments.py --row 1-5,16              # several, one after the other

First or last token? One block, two, all, LoRA? A bigger model? Padding? The causal mask? Mean
pooling? Each row of the published table is one answer. A run prepares the SMS Spam Collection,
builds the GPT of the book, adapts it, trains it, reports, and leaves a record, in the published
order and with the published random numbers: its losses and accuracies are those of the published
script, batch by batch.

Sources: Raschka 2024, "Build a Large Language Model (From Scratch)", chapter 6 and its additional
experiments; Almeida & Hidalgo 2011, "SMS Spam Collection", doi 10.24432/C5CC84.
"""

if __name__ == "__main__":  # what is wrong or recorded ends here: the imports below take seconds
    import sys

    from experiments.config import flags
    from experiments.runs import fingerprint
    from experiments.system import terminal

    terminal.take_over()
    if fingerprint.tell_recorded(flags.parse_rows()):
        sys.exit()

from collections.abc import Sequence

from experiments.config.flags import parse_rows
from experiments.data.datasets import SpamDataset as SpamDataset
from experiments.model.lora import LinearWithLoRA as LinearWithLoRA
from experiments.model.lora import LinearWithLoRAMerged as LinearWithLoRAMerged
from experiments.model.lora import LoRALayer as LoRALayer
from experiments.model.lora import replace_linear_with_lora as replace_linear_with_lora
from experiments.runs.experiment import run_experiment as run_experiment
from experiments.runs.loop import device_of, plan, run_seeds
from experiments.runs.preparation import read_own
from experiments.runs.sweep import sweep
from experiments.system.distributed import joined
from experiments.system.terminal import one_line_errors
from experiments.training.loop import calc_accuracy_loader as calc_accuracy_loader
from experiments.training.loop import calc_loss_batch as calc_loss_batch
from experiments.training.loop import calc_loss_loader as calc_loss_loader
from experiments.training.loop import evaluate_model as evaluate_model
from experiments.training.loop import train_classifier_simple as train_classifier_simple

PROGRAM = "additional_experiments.py"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiments that the flags describe; ends with status 1 on what goes wrong."""
    rows = parse_rows(argv)
    first = next(iter(rows.values()))  # which has what is the same for all
    with one_line_errors(PROGRAM, first.output.debug, status=2):
        corpus = read_own(first.own, [settings.training for settings in rows.values()])
    with one_line_errors(PROGRAM, first.output.debug), joined(device_of(first)):
        if first.output.dry_run:
            print("\n\n".join(plan(settings, corpus) for settings in rows.values()))
        elif len(rows) > 1:
            sweep(rows, corpus)
        else:
            run_seeds(first, corpus)


if __name__ == "__main__":
    main()
