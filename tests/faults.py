"""What can go wrong, and what happens then: the table of docs/faults.md.

A test that shows one of these carries its name: `@pytest.mark.fault("cut")`.
"""

import ast
from pathlib import Path

FAULTS = {
    "address": (
        "An address is down, forbids (403), fails (500), redirects in a loop, or serves a web page",
        "the next one is asked; when all fail, each is named with its reason, and how to place the "
        "file by hand",
    ),
    "slow": (
        "An address sends hardly anything of the file, or nothing",
        "it is given up, and the next one is asked",
    ),
    "endless": (
        "An address sends more than the file can have",
        "it is given up at that size, or at 16 GiB where the size is not known",
    ),
    "plain http": (
        "An address is not https, or redirects to one that is not",
        "it is not asked, unless `HF_ENDPOINT` names it",
    ),
    "cut": (
        "The connection is cut in the middle",
        "what came is kept, and a later request, or a later run, asks for the rest",
    ),
    "spoiled part": (
        "A byte of the unfinished file is wrong",
        "the digest shows it, and the download starts over",
    ),
    "wrong bytes": (
        "A file has the right size and wrong bytes, or was put there by something else",
        "refused with expected and actual digest; the file in its place is left alone",
    ),
    "zip": (
        "A zip has members with `../`, an oversized one, or lacks the one that is wanted",
        "one member is read, up to its known size, and nothing else is written",
    ),
    "tensor": (
        "A checkpoint's tensor is missing, unknown, misshapen, there twice, not finite, or not of "
        "floating-point numbers",
        "refused by the tensor's name",
    ),
    "half precision": (
        "A checkpoint is in half precision",
        "converted to float32",
    ),
    "other function": (
        "A checkpoint's `config.json` tells of another function than the book's GPT, contradicts "
        "the tensors, or is none",
        "heads are honoured; what the book's GPT cannot express is refused by the setting's name "
        "and value",
    ),
    "shard": (
        "A shard of a checkpoint is missing or named by itself, or its index is damaged",
        "refused; the shard is named",
    ),
    "pickle": (
        "A checkpoint is a PyTorch pickle (`.pth`, `.bin`)",
        "refused, with three lines that convert it; nothing is unpickled",
    ),
    "adapter": (
        "A LoRA adapter stands in the place of a checkpoint",
        "refused, with how it is merged",
    ),
    "no safetensors": (
        "A pointer of Git LFS, a web page, a GGUF file, a checkpoint of TensorFlow's, or a file "
        "with a truncated or damaged header stands in the place of a checkpoint",
        "refused as what it is",
    ),
    "offline": (
        "There is no network, or `HF_HUB_OFFLINE=1`",
        "what is on this machine is used; all that is missing is named at once, with where to "
        "place it",
    ),
    "mirror": (
        "The hub is behind a mirror (`HF_ENDPOINT`) or a proxy",
        "the mirror or the proxy is asked",
    ),
    "at once": (
        "Two runs start at once in an empty folder",
        "one downloads, the other waits; both end right",
    ),
    "disk full": (
        "The disk is full while a file is written",
        "status 1 with the file's name; earlier files stay whole, and there is no half one",
    ),
    "signal": (
        "Ctrl-C or SIGTERM, at any moment after Python itself has started",
        "status 130 or 143 and one message, after the progress bar; no half file, and the same "
        "command goes on",
    ),
    "killed": (
        "SIGKILL, at any moment",
        "no half file; the same command goes on, and nothing is run twice",
    ),
    "not finite": (
        "The loss becomes infinite or no number",
        "the run stops, names batch, learning rate and what to try, and is recorded as failed",
    ),
    "too little memory": (
        "A run needs more memory than there is",
        "status 2 before anything is fetched, with the figures, and the flags with which it would "
        "fit; `--ignore_memory` goes on",
    ),
    "memory full": (
        "The memory of the device is full",
        "status 1 with what to lower, and the peak (but where Linux itself ends the process)",
    ),
    "refused": (
        "An address or a proxy refuses (401, 403, 407, 429)",
        "the message says which variable helps: `HF_TOKEN`, `HTTPS_PROXY`, `NO_PROXY`, and for the "
        "hub, that `HF_ENDPOINT` can name a mirror",
    ),
    "certificate": (
        "A certificate is not trusted, or the file of those that are is not there",
        "told with the variables that name certificates",
    ),
    "token": (
        "The hub redirects to another address, or the token is none",
        "the token is sent to the hub's own address only, and shown in no message",
    ),
    "changed since": (
        "A file that was verified changes, also under its old date and size",
        "it is read again, and refused",
    ),
    "windows copy": (
        "The messages, a split or the merges are copies with the line ends of Windows",
        "told as that, with a command that converts them",
    ),
    "read-only data": (
        "The messages lie where nothing can be written",
        "the splits are made in memory",
    ),
    "memory disk": (
        "The folder for temporary files is in memory (tmpfs), and hidden states are to go there",
        "`/var/tmp` is taken; where that is in memory too, `TMPDIR` and `--cache_dir` are named",
    ),
    "fewer digits": (
        "The environment turns float32 products into those of TF32",
        "a product is held against float64; the run prints it, and its record says it",
    ),
    "read-only": (
        "A folder cannot be written to",
        "status 1, before anything is computed",
    ),
    "names": (
        "A folder's name has spaces and non-ASCII characters",
        "works",
    ),
    "line ends": (
        "The system ends lines in another way (Windows)",
        "CSV files end them by `\\n` everywhere",
    ),
    "encoding": (
        "The locale is not UTF-8, or output is piped to a file",
        "works; what the encoding lacks is printed as an escape",
    ),
    "closed pipe": (
        "The reader of the output goes away",
        "status 1 with one message",
    ),
    "notebook": (
        "In a notebook, a flag of `%run` is wrong, or the cell is interrupted",
        "one sentence; the kernel goes on, with its own signal handlers and streams",
    ),
    "old python": (
        "Python is older than 3.11",
        "status 1 and one sentence, before anything else is imported",
    ),
    "no device": (
        "A device is named that is not there (`--device cuda:1`)",
        "status 2 and one sentence",
    ),
    "flags": (
        "Flags are wrong, or wrong together",
        "status 2 and one sentence, before anything is downloaded",
    ),
    "messages": (
        "A message is empty, very long, or holds any Unicode or the text of a special token",
        "read as the text it is; plain and fast path agree",
    ),
    "labels": (
        "A CSV's labels are written as 1.0 and 0.0, True and False, or spam and ham",
        "read as 1 and 0; any other is refused with the number of its message",
    ),
    "own file": (
        "A user's own file is damaged, empty, in another encoding or format, or lacks a column",
        "read, or refused in one sentence that names the file, what it has, and the way out",
    ),
    "own classes": (
        "A user's own labels are missing, too few, alike, unknown to training, or at odds",
        "what cannot work is refused in one sentence; the rest is counted and told before training",
    ),
    "saved model": (
        "A file is no saved classifier, is damaged, or its base is another or was moved",
        "refused in one sentence with expected and actual; a moved base is named by `--weights`",
    ),
    "broken record": (
        "A record is broken, of an unknown version, or without test messages",
        "named and left out",
    ),
    "mixed records": (
        "Records are of several weights, data or precisions",
        "each has its own groups, by name; two of them are compared only where both are named",
    ),
    "other messages": (
        "Records hold other test messages, or in another order",
        "status 1 and one sentence",
    ),
    "damaged cache": (
        "Hidden states on the disk are damaged, cut short, or of something else",
        "computed again",
    ),
    "process": (
        "One of several processes of a run fails, is killed, or is stopped",
        "all end within half a minute, and the first one's last line says which and why",
    ),
    "killed worker": (
        "One of several workers on the same folder of records is killed",
        "its claim ends with it, and the others, or a new start, make what it was at",
    ),
}


def marked_tests() -> dict[str, list[str]]:
    """The names of the tests that carry each fault's name."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for decorator in getattr(node, "decorator_list", []):
                if ast.unparse(decorator).startswith("pytest.mark.fault("):
                    for argument in decorator.args:
                        found.setdefault(argument.value, []).append(f"{path.name}::{node.name}")
    return found


def faults_table() -> str:
    """The table of docs/faults.md."""
    tests = marked_tests()
    lines = ["| fault | what happens | tests |", "| --- | --- | --- |"]
    lines += [
        f"| {fault} | {outcome} | {'<br>'.join(f'`{name}`' for name in tests.get(key, []))} |"
        for key, (fault, outcome) in FAULTS.items()
    ]
    return "\n".join(lines) + "\n"
