"""What is wrong with flags together, or with flags beside a model or messages, and the way out."""

from importlib.util import find_spec
from pathlib import Path

from experiments.config.settings import TINY, Network, Own, Reading, Settings, Training
from experiments.config.sizes import LONGEST_MESSAGE, PAD_TOKEN_ID, SHARES, sizes_of
from experiments.system.torchrun import count_processes


def find_conflict(settings: Settings, model_size_given: bool) -> str | None:
    """Returns what is wrong with the flags together and the way out, or None."""
    network, reading, machine = settings.network, settings.reading, settings.machine
    folders = {
        "data_dir": reading.data_dir,
        "output_dir": settings.output.output_dir,
        "cache_dir": machine.cache_dir,
        "tensorboard": settings.output.tensorboard,
    }
    files = [
        f"--{name} {folder}"
        for name, folder in folders.items()
        if folder and folder.exists() and not folder.is_dir()
    ]
    conflicts = (
        (
            reading.demo and (network.model_size != TINY or network.weights != "random"),
            "--demo runs the tiny random model: leave out --model_size and --weights",
        ),
        (
            network.checkpoint and model_size_given,
            "--weights PATH brings its own size: leave out --model_size",
        ),
        (
            network.model_size == TINY and network.weights == "pretrained",
            f'no weights were published for --model_size "{TINY}": add --weights random',
        ),
        (
            reading.no_padding and settings.training.batch_size > 1,
            "--no_padding gives messages of different lengths, which make no batch: "
            "add --batch_size 1 (and --accumulation_steps for larger steps)",
        ),
        (
            reading.no_padding and isinstance(reading.context_length, int),
            "--no_padding keeps every message's own length: leave out --context_length",
        ),
        (
            machine.no_shortcuts and machine.cache_dir,
            "--no_shortcuts has no hidden states to keep: leave out --cache_dir",
        ),
        (
            settings.baseline and settings.num_seeds > 1,
            "--baseline is the same for every seed: leave out --num_seeds",
        ),
        (files, f"{' and '.join(files)} is a file: name a folder"),
        (
            machine.parallel == "shard" and count_processes() == 1,
            "--parallel shard needs several processes: start them by "
            "torchrun --nproc_per_node=2 additional_experiments.py",
        ),
        (
            count_processes() > 1 and settings.own.data == Path("-"),
            "--data - is read once, by one process: name a file",
        ),
        (
            not device_is_available(machine.device),
            f"--device {machine.device} is not available here: use --device cpu",
        ),
    )
    return (
        next((message for is_so, message in conflicts if is_so), None)
        or find_conflict_of_data(settings.reading, settings.own)
        or find_conflict_of_saving(settings)
        or find_conflict_of_watching(settings)
        or find_misfit(settings.network, settings.reading, settings.own)
        or (
            None
            if settings.own.data
            else find_misfit_of_training(
                settings.training, sizes_of(settings.reading.demo)["train"]
            )
        )
    )


def find_conflict_of_data(reading: Reading, own: Own) -> str | None:
    """Returns what is wrong with the flags of the user's own messages, or None."""
    defaults = {"split": SHARES, "split_seed": 123}
    needing = [
        f"--{name}"
        for name, value in vars(own).items()
        if name != "data" and value != defaults.get(name) and value not in (None, False)
    ]
    files = [own.data, own.validation_data, own.test_data]
    conflicts = (
        (needing and not own.data, f"{' and '.join(needing)} needs --data FILE"),
        (own.data and reading.demo, "--demo has made-up messages: leave out --data"),
        (files.count(Path("-")) > 1, "only one file can be standard input: name the others"),
        (
            own.validation_data and own.test_data and own.split != SHARES,
            "nothing is left to --split where --validation_data and --test_data are given",
        ),
    )
    return next((message for is_so, message in conflicts if is_so), None)


def find_conflict_of_watching(settings: Settings) -> str | None:
    """Returns what is wrong with what is to be watched, or None."""
    if not settings.output.tensorboard:
        return None
    if settings.baseline:
        return "--baseline has no losses to watch: leave out --tensorboard"
    if not find_spec("tensorboard"):
        return "--tensorboard needs a package that is not there: pip install tensorboard"
    return None


def find_conflict_of_saving(settings: Settings) -> str | None:
    """Returns what is wrong with the flags of what is kept, or None."""
    file, whole = settings.output.save_model, settings.output.save_whole
    conflicts = (
        (whole and not file, "--save_whole says how --save_model FILE keeps it: add that"),
        (file and settings.baseline, "--baseline has no model: leave out --save_model"),
        (
            file and file.suffix != ".safetensors",
            f"--save_model {file} is a .safetensors file: name it so",
        ),
        (
            file and settings.num_seeds > 1 and "{seed}" not in file.name,
            "--save_model needs {seed} in the file's name where --num_seeds makes several",
        ),
    )
    return next((message for is_so, message in conflicts if is_so), None)


def find_misfit(network: Network, reading: Reading, own: Own) -> str | None:
    """Returns what of the model does not fit the flags and the way out, or None.

    Raises:
        OSError: when the checkpoint cannot be read.
        ValueError: when it is none that can be taken.
    """
    config = network.config
    vocabulary, longest = config["vocab_size"], config["context_length"]
    length = reading.context_length
    is_published = not (reading.demo or own.data)
    takes_longest = length == "longest_training_example" and not reading.no_padding
    misfits = (
        (
            vocabulary <= PAD_TOKEN_ID,
            f"--weights: the checkpoint knows {vocabulary} tokens, GPT-2's tokenizer "
            f"{PAD_TOKEN_ID + 1}: use a checkpoint of GPT-2's vocabulary",
        ),
        (
            isinstance(length, int) and length > longest,
            f"--context_length {length} exceeds the model's {longest}: use {longest} or less",
        ),
        (
            takes_longest and is_published and longest < LONGEST_MESSAGE,
            f"the longest training message has {LONGEST_MESSAGE} tokens, the model's context "
            f"{longest}: add --context_length {longest}",
        ),
        (
            network.lora_rank > 4 * config["emb_dim"],
            f"--lora_rank {network.lora_rank} exceeds the model's widest layer: use "
            f"{4 * config['emb_dim']} or less",
        ),
    )
    return next((message for is_so, message in misfits if is_so), None)


def find_misfit_of_training(training: Training, messages: int) -> str | None:
    """Returns what does not fit so many training messages and the way out, or None."""
    steps = training.count_steps(messages)
    misfits = (
        (
            training.batch_size > messages,
            f"--batch_size {training.batch_size} exceeds the {messages:,} training messages",
        ),
        (
            training.max_steps is not None and training.max_steps > steps,
            f"--max_steps {training.max_steps} exceeds the {steps} steps of --num_epochs "
            f"{training.num_epochs}: raise --num_epochs or lower --max_steps",
        ),
        (
            training.warmup_steps > (training.max_steps or steps),
            f"--warmup_steps {training.warmup_steps} exceeds the {training.max_steps or steps} "
            "steps of the run: lower it",
        ),
    )
    return next((message for is_so, message in misfits if is_so), None)


def device_is_available(name: str) -> bool:
    """Says whether torch can compute there."""
    if name in ("auto", "cpu"):
        return True
    import torch  # seconds, which only those wait for who name a device

    if name == "mps":
        return torch.backends.mps.is_available()
    number = int(name.partition(":")[2] or 0)
    return torch.cuda.is_available() and number < torch.cuda.device_count()
