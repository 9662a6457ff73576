"""Time training steps next to those of transformers' Trainer and of PEFT, on equal batches.

    python benchmarks/peers.py --rows 1 5 11   # ten minutes with gpt2-small
    python benchmarks/peers.py --table         # the table of docs/performance.md

The peers train `GPT2ForSequenceClassification`, with the same layers unfrozen, or with LoRA of the
same rank on the same layers. All have random weights, the same padded messages, batches of eight
and AdamW. Steps are timed in rounds that alternate between the three implementations; a run is the
median step times 650, plus the cached activations of ours. Evaluations, which differ between the
tools, are left out. Each row writes one record to `benchmarks/peers/`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.shortcuts import (
    CPU,
    NUM_CLASSES,
    Implementation,
    datasets_of,
    load_records,
    made_with,
    save_record,
)
from experiments.config.parsing import parse_args
from experiments.config.rows import PAD_TOKEN_ID
from experiments.config.settings import Settings
from experiments.data.datasets import TextDataset
from experiments.model.classifier import build_classifier
from experiments.shortcuts.prefix import cache_frozen_prefix
from experiments.system.devices import choose_kernels, keep_freed_memory

RECORDS = Path(__file__).parent / "peers"
LAYERS = ["c_attn", "c_proj", "c_fc", "score"]  # with LoRA, like every linear layer of ours
STEPS = 650  # of a run: five epochs of 130 batches


def peer_of(settings: Settings) -> nn.Module:
    """Return the model that the peers train for a row: its last block, all layers, or LoRA."""
    from transformers import GPT2Config, GPT2ForSequenceClassification  # take seconds

    config = settings.design.config
    model = GPT2ForSequenceClassification(
        GPT2Config(
            vocab_size=config["vocab_size"], n_positions=config["context_length"],
            n_embd=config["emb_dim"], n_layer=config["n_layers"], n_head=config["n_heads"],
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            num_labels=NUM_CLASSES, pad_token_id=PAD_TOKEN_ID,
        )
    )  # fmt: skip
    layers = settings.model.trainable_layers
    if layers == "last_block":
        model.requires_grad_(False)
        for module in (model.transformer.h[-1], model.transformer.ln_f, model.score):
            module.requires_grad_(True)
    elif layers == "lora":
        from peft import LoraConfig, get_peft_model

        rank = settings.model.lora_rank
        lora = LoraConfig(
            r=rank, lora_alpha=rank, target_modules=LAYERS, fan_in_fan_out=True,
            bias="none", lora_dropout=0.0,
        )  # fmt: skip
        model = get_peft_model(model, lora)
    return model


def peer_seconds(
    model: nn.Module, dataset: TextDataset, settings: Settings, count: int
) -> list[float]:
    """Return the seconds of some steps of transformers' Trainer, after one that does not count."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    seconds: list[float] = []

    class Stopwatch(TrainerCallback):
        """Store the seconds of each step."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            seconds.append(-time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds[-1] += time.perf_counter()

    items = [
        {"input_ids": tokens, "labels": label}
        for tokens, label in zip(dataset.tokens, dataset.labels, strict=True)
    ]
    training = settings.training
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, use_cpu=True, max_steps=count + 1, report_to="none",
            per_device_train_batch_size=training.batch_size, disable_tqdm=True,
            learning_rate=training.learning_rate, weight_decay=training.weight_decay,
            lr_scheduler_type="constant", max_grad_norm=0.0, save_strategy="no",
            logging_strategy="no",
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=items, callbacks=[Stopwatch()]).train()
    return seconds[1:]


def measure_row(row: int, flags: list[str], rounds: int, count: int) -> dict[str, Any]:
    """Return the record of one row."""
    flags = ["--row", str(row), "--weights", "random", "--seed", "1", *flags]
    settings, of_reference = parse_args(flags), parse_args([*flags, "--no_shortcuts"])
    datasets = datasets_of(settings)
    peer = peer_of(settings)
    model = build_classifier(of_reference, NUM_CLASSES)
    reference = Implementation(of_reference, model, datasets)
    choose_kernels(CPU)
    keep_freed_memory()
    started = time.perf_counter()
    model = build_classifier(settings, NUM_CLASSES)
    model, fast_datasets, *_ = cache_frozen_prefix(model, datasets)
    prefix_seconds = time.perf_counter() - started
    optimized = Implementation(settings, model, fast_datasets)
    seconds: list[float] = []
    for _ in range(rounds):
        choose_kernels(CPU, reference=True)
        seconds += peer_seconds(peer, datasets.train, settings, count)
        reference.measure(count)
        choose_kernels(CPU)
        optimized.measure(count)
    return {
        "row": row,
        "peer": "PEFT and Trainer" if settings.model.trainable_layers == "lora" else "Trainer",
        "peer_seconds": statistics.quantiles(seconds, n=4),  # of a step, as the next two
        "plain_seconds": statistics.quantiles(reference.seconds["train"], n=4),
        "fast_seconds": statistics.quantiles(optimized.seconds["train"], n=4),
        "prefix_seconds": prefix_seconds,
        "steps_timed": len(seconds),
        **made_with("transformers", "peft"),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| row | peer | step, s: peer | reference | optimised | run, s: peer | optimised | ratio |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in sorted(records, key=lambda r: r["row"]):
        steps = [r[f"{name}_seconds"] for name in ("peer", "plain", "fast")]
        cells = " | ".join(f"{mid:.3f} ({low:.3f}-{high:.3f})" for low, mid, high in steps)
        peer_run = STEPS * r["peer_seconds"][1]
        our_run = STEPS * r["fast_seconds"][1] + r["prefix_seconds"]
        lines.append(
            f"| {r['row']} | {r['peer']} | {cells} | {peer_run:,.0f} | {our_run:,.0f} "
            f"| {peer_run / our_run:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure rows, or print the table of the records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[], choices=(1, 5, 11))
    parser.add_argument("--rounds", type=int, default=3, help="of alternating measurements")
    parser.add_argument("--steps", type=int, default=4, help="timed in a round, of each")
    parser.add_argument("--table", action="store_true", help="print the table of the records")
    arguments, flags = parser.parse_known_args()
    for row in arguments.rows:
        record = measure_row(row, flags, arguments.rounds, arguments.steps)
        save_record(RECORDS / f"row_{row:02d}.json", record)
        print(table([record]), flush=True)
    if arguments.table:
        print(table(load_records(RECORDS)))


if __name__ == "__main__":
    main()
