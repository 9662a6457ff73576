"""Classify texts with a classifier that a run has saved.

    python additional_experiments.py --row 16 --save_model spam.safetensors
    python classify.py spam.safetensors "You won a prize" "See you at five"
    python classify.py spam.safetensors --file messages.csv --text_column body > answers.tsv
    python classify.py spam.safetensors --file labelled.csv --label_column class --keep_columns id
    tail -f messages.txt | python classify.py spam.safetensors - --json

Texts are read as in training, with the same token, mask and length; the number of texts that were
cut is printed at the end. Files are streamed: a million texts need no more memory than a thousand.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout, suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from experiments.config.settings import CustomData, flags_of
from experiments.model.answers import (
    Form,
    Scores,
    json_lines,
    predicted_class,
    tab_separated,
    table,
)
from experiments.system.arguments import (
    Parser,
    device,
    hint,
    path,
    probability,
    whole_number,
)
from experiments.system.progress import progress
from experiments.system.terminal import (
    INTERRUPTED,
    UsageError,
    one_line_errors,
    printable,
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
    if len(texts) == 1 and _is_file(texts[0]):
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


def _is_file(text: str) -> bool:
    with suppress(OSError, ValueError):  # too long for a name, or with a null character
        return Path(text).is_file()
    return False


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


def print_predictions(
    classifier: Classifier, chunks: Iterable[Rows], form: Form, threshold: float | None = None
) -> Scores:
    """Print the prediction for each text, and return the counts of correct and wrong ones."""
    scores = Scores(classifier.description.class_names)
    is_shown = not isinstance(chunks, list) and sys.stderr.isatty() and not sys.stdout.isatty()
    if form.header:
        print(form.header)
    with progress("Classifying", None, "texts") if is_shown else nullcontext() as bar:
        for rows in chunks:
            answers = classifier.classify(rows.texts).tolist()
            predicted = [predicted_class(answer, threshold) for answer in answers]
            others = zip(*rows.others, strict=True) if rows.others else [()] * len(answers)
            for columns in zip(rows.texts, answers, predicted, others, strict=True):
                print(form.line(*columns))
            scores.add(rows.labels, predicted)
            if bar:
                bar.update(len(answers))
    return scores


def print_answers(arguments: argparse.Namespace, classifier: Classifier) -> None:
    """Print the predictions, and on stderr what a user should know about them."""
    from experiments.data.tables import Rows, open_table

    facts, found, notes = classifier.description, None, []
    if arguments.threshold is not None and len(facts.class_names) != 2:
        raise UsageError(
            f"--threshold requires 2 classes, the classifier has {len(facts.class_names)}"
        )
    how = CustomData(
        text_column=tuple(arguments.text_column), label_column=arguments.label_column,
        **{name: getattr(arguments, name) for name in READING},
    )  # fmt: skip
    with ExitStack() as stack:
        chunks = [Rows([], arguments.texts, [], [])]
        if arguments.file:
            opened = open_table(arguments.file, how, arguments.keep_columns, facts.text_columns)
            chunks = found = stack.enter_context(opened)
            notes = found.source.notes
            if found.source.is_guessed:
                print(printable(f"{arguments.file}: {found}"), file=sys.stderr)
        for note in notes:
            print(printable(f"{arguments.file}: {note}"), file=sys.stderr)
        num_notes, others = len(notes), found.others if found else []
        if arguments.json:
            form = json_lines(facts.class_names, others)
        elif sys.stdout.isatty():
            form = table(facts.class_names, shutil.get_terminal_size().columns)
        else:
            form = tab_separated(facts.class_names, others)
        scores = print_predictions(classifier, chunks, form, arguments.threshold)
    for note in notes[num_notes:]:
        print(printable(f"{arguments.file}: {note}"), file=sys.stderr)
    if count := classifier.num_cut:
        length = facts.max_length
        print(f"Texts cut to {length} tokens, the length in training: {count:,}", file=sys.stderr)
    if arguments.label_column is not None:
        from experiments.comparison.statistics import wilson_interval

        interval = wilson_interval(scores.correct, scores.total) if scores.total else (0, 1)
        print(printable(scores.describe(interval, arguments.json)), file=sys.stderr)


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
