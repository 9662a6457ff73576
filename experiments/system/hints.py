"""What is said to a flag that is not known: which one is meant, or that there is none, and why.

hint(["--epochs", "3"], ["--num_epochs", "--seed"], OTHER_NAMES)  # did you mean --num_epochs?

Names of other programs are looked up in a table. Spelling alone tells slips only: by it, `--lr` is
near `--row`.
"""

import difflib
from collections.abc import Iterable, Mapping

NEAR = 0.8  # of the likeness that difflib measures, 1 for the same word
NO_HINT = "--help lists the flags"
COMPARISON = "compare_experiments.py has that flag"

MEANT = {  # a flag, and what else it is called, with no dashes
    "--model_size": "model model_name model_name_or_path model_type size",
    "--weights": "checkpoint checkpoint_path ckpt ckpt_path load model_path pretrained "
    "weights_path",
    "--weights random": "from_scratch random random_weights",
    "--trainable_layers": "layers trainable train_layers finetune freeze unfreeze",
    "--trainable_layers all": "full full_finetuning train_all unfreeze_all",
    "--trainable_layers lora": "lora use_lora peft",
    "--trainable_token_pos": "token token_pos token_position pos position",
    "--average_embeddings": "average mean mean_pool mean_pooling pool pooling avg avg_pooling",
    "--context_length": "block_size context context_size ctx ctx_len max_len max_length "
    "max_seq_len max_seq_length n_ctx seq_len seq_length sequence_length truncate truncation",
    "--lora_rank": "rank r lora_r lora_dim",
    "--lora_alpha": "alpha",
    "--lora_scaling": "scaling scale",
    "--lora_scaling rslora": "rslora use_rslora",
    "--no_padding": "without_padding unpadded disable_padding",
    "--num_epochs": "epoch epochs n_epochs max_epochs num_train_epochs train_epochs",
    "--batch_size": "b bs batch train_batch_size per_device_train_batch_size micro_batch_size",
    "--accumulation_steps": "accumulate accumulation accum_steps grad_accum grad_accumulation "
    "gradient_accumulation gradient_accumulation_steps",
    "--disable_causal_mask": "bidirectional no_causal_mask no_mask disable_mask non_causal",
    "--ignore_index": "ignore ignore_label",
    "--row": "experiment exp rows number",
    "--demo": "example fast_dev_run quick smoke_test test toy",
    "--seed": "random_seed random_state rng_seed manual_seed",
    "--num_seeds": "seeds n_seeds n_runs num_runs repeats runs trials",
    "--device cpu": "cpu cpu_only no_cuda no_gpu use_cpu",
    "--device cuda": "cuda gpu use_cuda use_gpu",
    "--device cuda:0": "gpu_id gpus device_id",
    "--device mps": "metal mps use_mps",
    "--activation_checkpointing": "checkpoint_activations gradient_checkpointing "
    "grad_checkpointing use_gradient_checkpointing",
    "--ignore_memory": "skip_memory_check",
    "--dry_run": "dryrun plan what_if",
    "--data_dir": "data_path input_dir",
    "--data": "dataset dataset_path input train_file train_data csv_file",
    "--validation_data": "val_data validation_file val_file eval_data",
    "--test_data": "test_file",
    "--text_column": "text text_col text_field",
    "--label_column": "label label_col label_field target target_column",
    "--split": "test_size val_size validation_split",
    "--train_size": "max_train_samples num_train",
    "--class_weights": "class_weight weighted weighted_loss",
    "--learning_rate": "lr",
    "--schedule": "lr_scheduler lr_scheduler_type scheduler",
    "--warmup_steps": "warmup warmup_ratio",
    "--weight_decay": "decay wd",
    "--max_grad_norm": "clip grad_clip gradient_clipping",
    "--keep_best": "best load_best_model_at_end early_stopping",
    "--save_model": "save save_dir save_path save_steps checkpoint_dir export",
    "--precision": "dtype torch_dtype mixed_precision",
    "--precision bfloat16": "amp autocast bf16",
    "--precision float32": "fp32 float32",
    "--no_shortcuts": "no_cache plain slow disable_shortcuts",
    "--cache_dir": "cache hidden_states cache_path",
    "--output_dir": "out out_dir output output_path outdir results results_dir log_dir logging_dir",
    "--tensorboard": "tb tensorboard_dir",
    "--overwrite": "force overwrite_output_dir rerun",
    "--baseline": "baselines bag_of_words majority",
    "--max_steps": "max_iters max_train_steps n_steps num_steps steps",
    "--debug": "traceback verbose",
}
ABSENT = {  # what there is no flag for, and the names under which it is asked for
    "the classes are those of the labels in --data": "classes n_classes num_classes num_labels",
    "the optimiser is AdamW, as published": "optim optimizer optimiser",
    "nothing is dropped out, as published": "drop_rate dropout lora_dropout",
    "LoRA adapts every linear layer, as published": "lora_target_modules target_modules",
    "losses are looked at every 50 batches, as published": "eval_freq eval_iter eval_steps "
    "eval_interval log_interval logging_steps",
    "evaluations have the batches of --batch_size": "eval_batch_size val_batch_size "
    "per_device_eval_batch_size",
    "the same command goes on where it stopped": "resume resume_from_checkpoint",
    "float16 is not offered: use --precision bfloat16": "fp16 float16 half",
    "messages are padded unless --no_padding is given": "pad padding",
    "the mask is causal unless --disable_causal_mask is given": "causal causal_mask mask",
    "shortcuts are taken unless --no_shortcuts is given": "fast shortcuts use_cache",
    "all messages are in memory, and need no workers": "num_workers workers",
    "devices are not joined: --device names one": "distributed local_rank nproc_per_node "
    "num_gpus world_size",
    COMPARISON: "csv json plot published test_csv",
}


def by_name(table: Mapping[str, str]) -> dict[str, str]:
    """Returns what is meant by each name of a table such as `MEANT`."""
    return {name: meant for meant, names in table.items() for name in names.split()}


OTHER_NAMES = by_name(MEANT) | by_name(ABSENT)


def bare(flag: str) -> str:
    """Returns a flag's words, whatever dashes, capitals and value it came with."""
    return flag.partition("=")[0].strip("-").replace("-", "_").lower()


def hint_at(words: list[str], known: Mapping[str, str], others: Mapping[str, str]) -> str | None:
    """Returns what to say to one unknown flag with what stands after it, or None."""
    spellings = [bare("_".join(words)), bare(words[0])]  # a space may stand for an underscore
    for name in spellings:
        if meant := known.get(name) or others.get(name):
            return f"did you mean {meant}?" if meant.startswith("--") else meant
    near = [n for name in spellings for n in difflib.get_close_matches(name, known, 1, NEAR)]
    return f"did you mean {known[near[0]]}?" if near else None


def hint(unknown: list[str], flags: Iterable[str], others: Mapping[str, str]) -> str:
    """Returns what to say to unknown words of a command line.

    Args:
        unknown: the words, flags and what stands after them.
        flags: those that there are.
        others: what is meant by well-known names of other programs.
    """
    known = {bare(flag): flag for flag in flags if flag.startswith("--")}
    groups: list[list[str]] = []
    for word in unknown:
        if word.startswith("-") or not groups:
            groups.append([])
        groups[-1].append(word)
    hints = [hint_at(group, known, others) for group in groups if group[0].startswith("-")]
    return "; ".join(dict.fromkeys(filter(None, hints))) or NO_HINT
