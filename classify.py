"""Classify texts with a classifier that a run has saved.

    python additional_experiments.py --row 16 --save_model spam.safetensors
    python classify.py spam.safetensors "You won a prize" "See you at five"
    python classify.py spam.safetensors --file messages.csv --text_column body > answers.tsv
    python classify.py spam.safetensors --file labelled.csv --label_column class --keep_columns id
    tail -f messages.txt | python classify.py spam.safetensors - --json

Texts are read as in training, with the same token, mask and length. How many were cut or are blank
is printed at the end. Files are streamed: a million texts need no more memory than a thousand.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from experiments.config.arguments import Parser, device, hint, path, probability, whole_number
from experiments.config.settings import CustomData, flags_of
from experiments.model import answers
from experiments.system.terminal import (
    INTERRUPTED,
    UsageError,
    describe_error,
    one_line_errors,
    printable,
    progress,
    reader_may_stop,
    setup_terminal,
)

if TYPE_CHECKING:
    import torch

    from experiments.data.tables import Rows
    from experiments.model.prediction import Classifier

READING = ("encoding", "separator", "quoting", "no_header")  # flags of custom data


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
        problem = describe_error(error)
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
    add("--file", metavar="FILE", help="a file with a column of texts, in a format of --data of "
        "additional_experiments.py, or with one text per line; - is standard input")
    add("--text_column", action="append", default=[], metavar="NAME", help="name of the text "
        "column; repeated, of several, which are joined (default: as in training, or detected)")
    add("--label_column", metavar="NAME", help="name of the column of correct labels: prints "
        "accuracy, F1 and confusion matrix on stderr")
    add("--keep_columns", type=lambda text: text.split(","), default=[], metavar="NAME,NAME",
        help="other columns to print, or all")
    add("--threshold", type=probability, metavar="P", help="probability from which the second "
        "of two classes is predicted (default: the more probable class)")
    for f in (f for f in flags_of(CustomData) if f.name in READING):
        action = {"action": "store_true"} if f.default is False else {}
        add(f"--{f.name}", default=f.default, help=f.metadata["help"], **f.metadata["options"],
            **action)
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
    if bool(texts) == bool(file):
        expected = f"TEXT or --file {file}, not both" if file else "a TEXT, --file FILE, or -"
        return f"expected {expected}{'' if file else ' for standard input'}"
    if file not in (None, "-") and (Path(file).is_dir() or not Path(file).exists()):
        return f"--file must be a file, got {file!r}"
    if len(texts) == 1 and os.path.isfile(texts[0]):  # noqa: PTH113 (false for too long a name)
        return f"TEXT is the name of a file: to classify its texts, use --file {quote(texts[0])}"
    columns = ("text_column", "label_column", "keep_columns", *READING)
    if not file and (given := [name for name in columns if getattr(arguments, name)]):
        return f"--{given[0]} requires --file FILE"
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        return "TEXT must be in the locale's encoding: put it into a file and use --file"
    if arguments.device not in ("auto", "cpu"):
        from experiments.system.devices import device_is_available

        if not device_is_available(arguments.device):
            return f"--device {arguments.device} is not available here: use --device cpu"
    return None


def load(arguments: argparse.Namespace, device: torch.device) -> Classifier:
    """Return the optimised classifier with its tokenizer, on a device."""
    from experiments.data.sms_spam import demo_tokenizer
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


def choose_form(as_json: bool, class_names: list[str], others: list[str]) -> answers.Form:
    """Return JSON lines, a table for a terminal, or tab-separated values for all else."""
    if as_json:
        return answers.json_lines(class_names, others)
    if sys.stdout.isatty():
        return answers.table(class_names, shutil.get_terminal_size().columns)
    return answers.tab_separated(class_names, others)


def print_predictions(
    classifier: Classifier,
    chunks: Iterable[Rows],
    form: answers.Form,
    threshold: float | None = None,
) -> Counter[tuple[str, str]]:
    """Print the prediction for each text; return the counts of label and predicted class."""
    counts: Counter[tuple[str, str]] = Counter()
    class_names = classifier.description.class_names
    is_shown = not isinstance(chunks, list) and sys.stderr.isatty() and not sys.stdout.isatty()
    if form.header:
        print(form.header)
    with progress("Classifying", None, "texts") if is_shown else nullcontext() as bar:
        for rows in chunks:
            probabilities = classifier.classify(rows.texts).tolist()
            predicted = [answers.predicted_class(each, threshold) for each in probabilities]
            others = zip(*rows.others, strict=True) if rows.others else [()] * len(predicted)
            for columns in zip(rows.texts, probabilities, predicted, others, strict=True):
                print(form.line(answers.Answer(*columns)))
            counts.update(zip(rows.labels, map(class_names.__getitem__, predicted), strict=False))
            if bar:
                bar.update(len(predicted))
    return counts


def print_answers(arguments: argparse.Namespace, classifier: Classifier) -> None:
    """Print the predictions, and on stderr what a user should know about them."""
    from experiments.data.tables import Rows, open_table

    class_names, file = classifier.description.class_names, arguments.file
    name = "standard input" if file == "-" else file
    if arguments.threshold is not None and len(class_names) != 2:
        raise UsageError(f"--threshold requires 2 classes, the classifier has {len(class_names)}")
    how = CustomData(
        text_column=tuple(arguments.text_column), label_column=arguments.label_column,
        **{name: getattr(arguments, name) for name in READING},
    )  # fmt: skip
    with ExitStack() as stack:
        chunks, others, notes = [Rows([], arguments.texts, [], [])], [], []
        if file:
            remembered = classifier.description.text_columns
            opened = open_table(file, how, arguments.keep_columns, remembered)
            chunks = stack.enter_context(opened)
            others, notes = chunks.others, chunks.source.notes
            if chunks.source.is_guessed:
                print_note(f"{name}: {chunks}")
        num_notes = len(notes)
        for note in notes:
            print_note(f"{name}: {note}")
        form = choose_form(arguments.json, class_names, others)
        counts = print_predictions(classifier, chunks, form, arguments.threshold)
    for note in notes[num_notes:]:
        print_note(f"{name}: {note}")
    if classifier.num_cut:
        length = f"{classifier.description.max_length} tokens, the length in training"
        print_note(f"Texts cut to {length}: {classifier.num_cut:,}")
    if classifier.num_blank:
        print_note(f"Texts that are empty or blank: {classifier.num_blank:,}")
    if arguments.label_column is not None:
        from experiments.comparison.statistics import wilson_interval

        scores = answers.describe_scores(counts, class_names, wilson_interval, arguments.json)
        print_note(scores)


def print_note(text: str) -> None:
    """Print a text on stderr."""
    print(printable(text), file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the predictions that a command line asks for."""
    setup_terminal(INTERRUPTED)
    arguments = parse_args(argv)
    # Imported here, so that help and wrong flags do not wait for PyTorch.
    from experiments.system import devices

    device = devices.select_device(arguments.device)
    with (
        one_line_errors("classify.py", arguments.debug, message=INTERRUPTED),
        devices.explain_full_memory(device, hint="lower --batch_size"),
        devices.kernels_restored(),
    ):
        with redirect_stdout(sys.stderr):  # messages about downloads
            classifier = load(arguments, device)
        with reader_may_stop():
            print_answers(arguments, classifier)


if __name__ == "__main__":
    main()
