"""Classify texts with a classifier that a run has saved.

    python additional_experiments.py --row 16 --save_model spam.safetensors
    python classify.py spam.safetensors "You won a prize" "See you at five"
    python classify.py spam.safetensors --file messages.csv --text_column body > answers.tsv
    tail -f messages.txt | python classify.py spam.safetensors - --json

Texts are read as in training, with the same token, mask and length; the number of texts that were
cut is printed at the end. Files are streamed: a million texts need no more memory than a thousand.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.model.answers import Form, json_lines, tab_separated, table
from experiments.system.arguments import Parser, device, hint, path, whole_number
from experiments.system.terminal import INTERRUPTED, one_line_errors, setup_terminal

if TYPE_CHECKING:
    import torch

    from experiments.model.prediction import Classifier

TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")  # files with columns


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags; end the program with status 2 if they are invalid.

    Either `texts` are the texts, or `file` is a path or `-`; the other is empty or None.
    """
    parser = build_parser()
    arguments, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        flags = [name for action in parser._actions for name in action.option_strings]
        hints = f"{hint(unknown, flags, {})}; put -- before a TEXT that begins with -"
        parser.error(f"unknown: {' '.join(unknown)}; {hints}")
    if arguments.texts == ["-"]:
        arguments.texts, arguments.file = [], arguments.file or "-"
    try:
        problem = find_conflict(arguments)
    except OSError as error:  # a name that is too long, a folder without permission
        problem = str(error)
    if problem:
        parser.error(problem)
    return arguments


def build_parser() -> Parser:
    """Return the parser of the flags."""
    parser = Parser(prog="classify.py", description="Classify texts with a saved classifier.")
    add = parser.add_argument
    # fmt: off
    add("model", type=path, metavar="MODEL", help="the .safetensors file of the classifier")
    add("texts", nargs="*", metavar="TEXT", help="texts to classify; - means --file -")
    add("--file", metavar="FILE", help="a file with one text per line, or, if its name ends in "
        f"{', '.join(TABLES)}, with a column of texts; - is standard input, one text per line")
    add("--text_column", metavar="NAME", help="name of the text column (default: detected)")
    add("--weights", type=path, metavar="PATH", help="the checkpoint that was finetuned "
        "(default: where it was in training, or downloaded if it is a published one)")
    add("--batch_size", type=whole_number(1), default=32, metavar="N",
        help="maximum number of texts in a batch (default: 32)")
    add("--device", type=device, default="auto", metavar="NAME",
        help="auto is cuda if available, else cpu (default: auto)")
    add("--json", action="store_true", help="print one JSON object per line")
    add("--debug", action="store_true", help="show the traceback of an error")
    # fmt: on
    return parser


def find_conflict(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with the flags together, with a hint, or None."""
    model, texts, file = arguments.model, arguments.texts, arguments.file
    if not model.is_file():
        return f"MODEL must be a file, got '{model}'"
    if arguments.weights and not arguments.weights.exists():
        return f"--weights must be the path of a checkpoint, got '{arguments.weights}'"
    if not texts and not file:
        return "expected a TEXT, --file FILE, or - for standard input"
    if texts and file:
        return f"expected TEXT or --file {file}, not both"
    if file not in (None, "-") and (Path(file).is_dir() or not Path(file).exists()):
        return f"--file must be a file, got {file!r}"
    if arguments.text_column is not None and Path(file or "").suffix.lower() not in TABLES:
        return f"--text_column needs a --file whose name ends in one of {', '.join(TABLES)}"
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        return "TEXT must be in the locale's encoding: put it into a file and use --file"
    if arguments.device not in ("auto", "cpu"):
        from experiments.system.devices import device_is_available

        if not device_is_available(arguments.device):
            return f"--device {arguments.device} is not available here: use --device cpu"
    return None


def load(arguments: argparse.Namespace, device: torch.device) -> Classifier:
    """Return the optimised classifier with its tokenizer, on a device."""
    from experiments.data.demo import demo_tokenizer
    from experiments.model.prediction import Classifier
    from experiments.model.saved import load_classifier
    from experiments.shortcuts.model import OptimizedClassifier
    from experiments.system.devices import choose_kernels, dtype_of
    from gpt_download import load_gpt2_tokenizer

    plain, description = load_classifier(arguments.model, arguments.weights)
    tokenizer = demo_tokenizer() if description.tokenizer == "bytes" else load_gpt2_tokenizer()
    choose_kernels(device)
    plain, dtype = plain.requires_grad_(False).to(device), dtype_of(description.precision)
    model = OptimizedClassifier(plain, no_padding=description.no_padding, dtype=dtype)
    return Classifier(model.eval(), description, tokenizer, device, arguments.batch_size)


def print_predictions(classifier: Classifier, chunks: Iterable[list[str]], form: Form) -> None:
    """Print the prediction for each text, and on stderr how many were cut."""
    if form.header:
        print(form.header)
    for texts in filter(None, chunks):
        for text, answer in zip(texts, classifier.classify(texts).tolist(), strict=True):
            print(form.line(text, answer))
    if count := classifier.num_cut:
        length = classifier.description.max_length
        print(f"Texts cut to {length} tokens, the length in training: {count:,}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the predictions that a command line asks for."""
    setup_terminal(INTERRUPTED)
    arguments = parse_args(argv)
    # Imported here, so that help and wrong flags do not wait for PyTorch.
    from experiments.data.tables import stream_texts
    from experiments.system import devices

    device = devices.select_device(arguments.device)
    with (
        one_line_errors("classify.py", arguments.debug, message=INTERRUPTED),
        devices.explain_full_memory(device, hint="lower --batch_size"),
        devices.kernels_restored(),
    ):
        with redirect_stdout(sys.stderr):  # messages about downloads
            classifier = load(arguments, device)
        file, names = arguments.file, classifier.description.class_names
        if arguments.json:
            form = json_lines(names)
        elif sys.stdout.isatty():
            form = table(names, shutil.get_terminal_size().columns)
        else:
            form = tab_separated(names)
        chunks = stream_texts(file, arguments.text_column) if file else [arguments.texts]
        print_predictions(classifier, chunks, form)


if __name__ == "__main__":
    main()
