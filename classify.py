"""Tells the class of texts by a classifier that a run has kept.

    python additional_experiments.py --row 16 --save_model spam.safetensors
    python classify.py spam.safetensors "You won a prize" "See you at five"
    python classify.py spam.safetensors --file messages.csv --text_column body > answers.tsv
    tail -f messages.txt | python classify.py spam.safetensors - --json

It reads texts as the classifier was trained to: cut and padded to the same length, at the same
position, with the same mask and pooling. Texts that are longer are cut, and counted at the end.
A file is streamed: a million texts need no more memory than a thousand.
"""

if __name__ == "__main__":  # a wrong flag ends here: the imports below take seconds
    from experiments.model import flags
    from experiments.system import terminal as command_line

    command_line.take_over(command_line.JUST_STOPPED)
    flags.parse_args()

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout

import torch

from experiments.data.demo import demo_tokenizer
from experiments.data.streaming import stream_texts
from experiments.model.answers import Form, json_lines, tab_separated, table
from experiments.model.bases import load_saved
from experiments.model.flags import parse_args
from experiments.model.prediction import Classifier
from experiments.system.devices import (
    choose_kernels,
    kernels_restored,
    pick_device,
    telling_full_memory,
)
from experiments.system.terminal import JUST_STOPPED, one_line_errors
from gpt_download import load_gpt2_tokenizer


def load_classifier(arguments: argparse.Namespace, device: torch.device) -> Classifier:
    """Returns the classifier with its tokenizer, ready to be asked on a device."""
    model, description = load_saved(arguments.model, arguments.weights)
    is_demo = description.tokenizer == "bytes"
    tokenizer = demo_tokenizer() if is_demo else load_gpt2_tokenizer()
    choose_kernels(device)
    return Classifier(model, description, tokenizer, device, arguments.batch_size)


def choose_form(class_names: Sequence[str], as_json: bool) -> Form:
    """Returns how answers are printed: for a terminal, or for other programs."""
    if as_json:
        return json_lines(class_names)
    if sys.stdout.isatty():
        return table(class_names, shutil.get_terminal_size().columns)
    return tab_separated(class_names)


def print_answers(classifier: Classifier, chunks: Iterable[list[str]], form: Form) -> None:
    """Prints the answer to each text, and at the end, on stderr, how many were cut."""
    if form.header:
        print(form.header)
    for texts in chunks:
        if texts:
            for text, answer in zip(texts, classifier.classify(texts).tolist(), strict=True):
                print(form.line(text, answer))
    if count := classifier.num_cut:
        longest = classifier.description.max_length
        print(f"Texts cut to {longest} tokens, the trained length: {count:,}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what is asked for; ends with status 1 on what goes wrong."""
    arguments = parse_args(argv)
    device = pick_device(arguments.device)
    with (
        one_line_errors("classify.py", arguments.debug, words=JUST_STOPPED),
        telling_full_memory(device, way_out="lower --batch_size"),
        kernels_restored(),
    ):
        with redirect_stdout(sys.stderr):  # what downloads and checks tell is no answer
            classifier = load_classifier(arguments, device)
        form = choose_form(classifier.description.class_names, arguments.json)
        chunks = stream_texts(arguments.file, arguments.text_column) if arguments.file else None
        print_answers(classifier, chunks or [arguments.texts], form)


if __name__ == "__main__":
    main()
