"""The same experiment with nothing computed twice, and nothing that the logits do not depend on.

    model, datasets, report = take_shortcuts(plain_model, datasets)  # then train as before

`GPTClassifier` is the definition. The module here has its very parameters and `state_dict`, and
gives the same logits and gradients but for the order of sums:

1. *Frozen prefix.* Blocks that are never trained give a message the same hidden states every time:
   they are computed once (`HiddenStates`), and what is trained starts from them.
2. *Causal trimming.* Under the causal mask nothing after the chosen position matters
   (`needed_lengths`).
3. *One query.* Of the last block only the output at the chosen position is read: it needs one
   query, and no keys or values (`run_last_block`).
4. *Kernels.* PyTorch's fused attention, norm and GELU take the place of the written-out formulas
   (`run_block`).

Shapes: B messages, T tokens, C width, H heads of width D, K classes.
"""

import ctypes
import hashlib
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn
from torch.utils.data import Dataset

import gpt_classifier
import previous_chapters
from gpt_classifier import GPTClassifier, LinearWithLoRA
from gpt_download import naming, sha256_of
from previous_chapters import LayerNorm, TransformerBlock
from spam_data import SpamDataset, Splits

# ------------------------------------------------------------------------------- what is needed


def needed_lengths(model: GPTClassifier, dataset: SpamDataset) -> Tensor:
    """Returns (N,): how many tokens of each message its logits depend on, from the first on.

    Under the causal mask, those up to the position that is read; `flexible` never reads beyond
    the real tokens, averaging or not. Without the mask, or averaging over the padding, all.
    """
    is_causal = not model.trf_blocks[0].att.disable_causal_mask
    if is_causal and model.token_position == "flexible":
        return dataset.lengths
    if is_causal and model.token_position == "first" and not model.average_embeddings:
        return torch.ones_like(dataset.lengths)
    if dataset.no_padding:
        return dataset.lengths
    return torch.full_like(dataset.lengths, dataset.max_length)


def frozen_blocks(model: GPTClassifier) -> int:
    """Returns how many blocks, from the first on, give the same output throughout training."""
    if any(p.requires_grad for e in (model.tok_emb, model.pos_emb) for p in e.parameters()):
        return 0
    trained = [any(p.requires_grad for p in block.parameters()) for block in model.trf_blocks]
    return trained.index(True) if True in trained else len(trained)


# ---------------------------------------------------------------------------------- fast layers


def normalise(norm: LayerNorm, x: Tensor) -> Tensor:
    """Returns what `LayerNorm` does, (..., C), in one pass."""
    return F.layer_norm(x, norm.scale.shape, norm.scale, norm.shift, norm.eps)


def apply_linear(layer: nn.Linear | LinearWithLoRA, x: Tensor) -> Tensor:
    """Returns the layer's output, (..., in) to (..., out).

    LoRA's factor is applied at its narrow waist and its update added within the product. Merged
    or not is the same function, and merging costs a weight's gradient that nobody needs.
    """
    if isinstance(layer, nn.Linear):
        return layer(x)
    y = layer.linear(x)  # (..., out)
    waist = layer.lora.alpha * (x @ layer.lora.A)  # (..., rank)
    return torch.addmm(y.flatten(0, -2), waist.flatten(0, -2), layer.lora.B).view_as(y)


def weight_of(layer: nn.Linear | LinearWithLoRA) -> Tensor:
    """Returns the layer's whole weight (out, in), LoRA's update included."""
    if isinstance(layer, nn.Linear):
        return layer.weight
    return layer.linear.weight + (layer.lora.alpha * (layer.lora.A @ layer.lora.B)).T


def bias_of(layer: nn.Linear | LinearWithLoRA) -> Tensor:
    """Returns the layer's bias (out,), zeros if it has none."""
    linear = layer if isinstance(layer, nn.Linear) else layer.linear
    return linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias


class LastingGradient:
    """A trained embedding's gradient in one buffer, zero but for the rows of the last tokens.

    A batch looks up some hundred of 50,257 rows, but PyTorch's gradient is a new table each time,
    whose zeros took 0.2 of 1.9 seconds of a step of row 5.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight  # (V, C)
        self.buffer: Tensor | None = None
        self.tokens: list[Tensor] = []  # whose rows are not zero

    def add(self, tokens: Tensor, gradient: Tensor) -> None:
        """Adds (B, T, C) to the rows of tokens (B, T) in `weight.grad`."""
        if self.buffer is None:
            self.buffer = torch.zeros_like(self.weight)
        if self.weight.grad is None:
            for earlier in self.tokens:
                self.buffer.index_fill_(0, earlier, 0)
            self.tokens = []
            self.weight.grad = self.buffer
        self.weight.grad.index_add_(0, tokens.flatten(), gradient.flatten(0, -2))
        self.tokens.append(tokens.flatten())


class LookUp(torch.autograd.Function):
    """An embedding, whose backward pass leaves the gradient to a `LastingGradient`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor, gradient: LastingGradient) -> Tensor:
        """Returns the rows (B, T, C) of tokens (B, T)."""
        ctx.save_for_backward(tokens)
        ctx.gradient = gradient
        return F.embedding(tokens, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        """Adds to the weight's gradient, and so returns none."""
        ctx.gradient.add(*ctx.saved_tensors, gradient)
        return None, None, None


def run_feed_forward(block: TransformerBlock, x: Tensor) -> Tensor:
    """Returns the block's second half, residual included, (..., C) to (..., C)."""
    widen, _, narrow = block.ff.layers
    wide = F.gelu(apply_linear(widen, normalise(block.norm2, x)), approximate="tanh")
    return x + apply_linear(narrow, wide)


def run_block(block: TransformerBlock, x: Tensor) -> Tensor:
    """Returns what the block does, (B, T, C) to (B, T, C), by PyTorch's fused kernels."""
    attention = block.att
    h = normalise(block.norm1, x)
    heads = (attention.num_heads, attention.head_dim)
    q, k, v = (
        apply_linear(layer, h).unflatten(-1, heads).transpose(1, 2)  # (B, H, T, D)
        for layer in (attention.W_query, attention.W_key, attention.W_value)
    )
    is_causal = not attention.disable_causal_mask
    gathered = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)  # (B, H, T, D)
    x = x + apply_linear(attention.out_proj, gathered.transpose(1, 2).flatten(2))  # (B, T, C)
    return run_feed_forward(block, x)


def run_last_block(block: TransformerBlock, x: Tensor, positions: Tensor) -> Tensor:
    """Returns the block's output at one position a message, (B, T, C) to (B, C).

    One query q needs no keys: q . (W_k h_t) = (W_k^T q) . h_t. And since the weights a_t of a
    softmax sum to one, no values: sum a_t (W_v h_t + b_v) = W_v (sum a_t h_t) + b_v. The norm's
    scale and shift move out of both in the same way, and what is added to all scores alike, such
    as the key's bias, cancels in the softmax.

    Args:
        block: the last block.
        x: its input.
        positions: (B,), whose output is wanted.
    """
    attention, norm = block.att, block.norm1
    rows = torch.arange(len(x), device=x.device)
    heads = (attention.num_heads, attention.head_dim)
    plain = F.layer_norm(x, norm.scale.shape, eps=norm.eps)  # (B, T, C), without scale and shift
    h = norm.scale * plain[rows, positions] + norm.shift  # (B, C)
    q = apply_linear(attention.W_query, h).unflatten(-1, heads)  # (B, H, D)
    key_weight = weight_of(attention.W_key).unflatten(0, heads)  # (H, D, C)
    q_of_input = norm.scale * torch.einsum("bhd,hdc->bhc", q, key_weight)  # (B, H, C)

    scores = q_of_input @ plain.transpose(1, 2) / math.sqrt(attention.head_dim)  # (B, H, T)
    # Cancels in the softmax; there for its gradient, zero, with which AdamW decays the bias.
    scores = scores + 0 * bias_of(attention.W_key).sum()
    if not attention.disable_causal_mask:
        is_later = torch.arange(x.shape[1], device=x.device) > positions[:, None]  # (B, T)
        scores = scores.masked_fill(is_later[:, None], -torch.inf)

    mean = norm.scale * (torch.softmax(scores, dim=-1) @ plain) + norm.shift  # (B, H, C)
    value_weight = weight_of(attention.W_value).unflatten(0, heads)  # (H, D, C)
    gathered = torch.einsum("bhc,hdc->bhd", mean, value_weight).flatten(1)  # (B, C)
    gathered = gathered + bias_of(attention.W_value)
    return run_feed_forward(block, x[rows, positions] + apply_linear(attention.out_proj, gathered))


class ShortcutClassifier(nn.Module):
    """A `GPTClassifier`'s own parameters on the shortest way to the same logits.

    Args:
        plain: the classifier whose modules are shared.
        depth: how many of the first blocks the inputs have behind them; None for tokens.
        pooled: whether the inputs are what the head reads, (B, C).
        no_padding: whether all tokens of the messages are real.

    Raises:
        ValueError: when the plain model drops out, so that nothing frozen stays the same.
    """

    def __init__(
        self,
        plain: GPTClassifier,
        depth: int | None,
        pooled: bool = False,
        no_padding: bool = False,
    ) -> None:
        super().__init__()
        if any(m.p > 0 for m in plain.modules() if isinstance(m, nn.Dropout)):
            raise ValueError("shortcuts need a model without dropout (drop_rate 0)")
        for name, module in plain.named_children():
            self.add_module(name, module)
        self.token_position = plain.token_position
        self.average_embeddings = plain.average_embeddings
        if no_padding and (self.average_embeddings or self.token_position == "last"):
            self.token_position = "flexible"  # the same, where all tokens are real
        self.depth = depth
        self.pooled = pooled
        self.gradient = LastingGradient(self.tok_emb.weight)

    def train(self, mode: bool = True) -> "ShortcutClassifier":
        """Returns the module in training or evaluation mode.

        Raises:
            RuntimeError: when something that was computed before is to be trained after all.
        """
        frozen = [] if self.depth is None else [self.tok_emb, self.pos_emb]
        frozen += self.trf_blocks[: len(self.trf_blocks) if self.pooled else self.depth or 0]
        if any(p.requires_grad for module in frozen for p in module.parameters()):
            raise RuntimeError("the hidden states need a frozen prefix: take shortcuts anew")
        return super().train(mode)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Returns logits (B, K) for tokens (B, T), hidden states (B, T, C), or what is pooled."""
        if self.pooled:
            return apply_linear(self.out_head, inputs)
        x = self.embed(inputs) if self.depth is None else inputs
        return apply_linear(self.out_head, self.pool(x, lengths, self.depth or 0))

    def embed(self, tokens: Tensor) -> Tensor:
        """Returns the input of the first block, (B, T) to (B, T, C)."""
        weight = self.tok_emb.weight
        is_trained = weight.requires_grad and torch.is_grad_enabled()
        x = LookUp.apply(weight, tokens, self.gradient) if is_trained else self.tok_emb(tokens)
        return x + self.pos_emb.weight[: tokens.shape[1]]

    def pool(self, x: Tensor, lengths: Tensor, depth: int) -> Tensor:
        """Returns what the head reads (B, C), from the hidden states (B, T, C) before a block."""
        T = x.shape[1]
        for block in self.trf_blocks[depth:-1]:
            x = run_block(block, x)
        if not self.average_embeddings:
            by_name = {"first": torch.zeros_like(lengths), "last": torch.full_like(lengths, T - 1)}
            positions = by_name.get(self.token_position, lengths - 1)
            return normalise(self.final_norm, run_last_block(self.trf_blocks[-1], x, positions))
        x = normalise(self.final_norm, run_block(self.trf_blocks[-1], x))  # (B, T, C)
        if self.token_position != "flexible":
            return x.mean(dim=1)
        is_real = torch.arange(T, device=x.device) < lengths[:, None]  # (B, T)
        return (x * is_real[:, :, None]).sum(dim=1) / lengths[:, None]


# ---------------------------------------------------------------------------------- hidden states

PREFIX_TOKENS = 2048  # in one batch of the frozen prefix
POOL = 64  # messages
MEMORY_SHARE = 1 / 8  # of the machine's memory; larger hidden states go to a file


@dataclass(frozen=True)
class HiddenStates:
    """The hidden states of every distinct message before one block.

    They assume that embeddings and earlier blocks never change, that nothing is dropped out, and
    the messages, mask, data type and kernels they were computed with.
    """

    depth: int  # blocks behind them
    values: Tensor  # (tokens of all messages, C)
    lengths: Tensor  # (M,), tokens of each message
    place: str  # where they lie, in words

    def batch(self, messages: Tensor) -> Tensor:
        """Returns (B, T, C) for the numbers of some messages (B,), zeros after the shorter."""
        lengths = self.lengths[messages]
        x = self.values.new_zeros(len(messages), int(lengths.max()), self.values.shape[1])
        ends = self.ends[messages]
        for row, length, end in zip(x, lengths.tolist(), ends.tolist(), strict=True):
            row[:length] = self.values[end - length : end]
        return x

    @cached_property
    def ends(self) -> Tensor:
        """Where each message's tokens end, (M,)."""
        return self.lengths.cumsum(0)


def distinct_messages(lengths: Splits, datasets: Splits) -> tuple[list[Tensor], Splits]:
    """Returns the distinct messages, cut to their needed lengths, shortest first.

    Returns:
        The tokens of each, and for each split which of them its messages are, (N,).
    """
    cut = [
        [tokens[:n] for tokens, n in zip(dataset.tokens, needed, strict=True)]
        for dataset, needed in zip(datasets, lengths, strict=True)
    ]
    keys = [[tokens.numpy().tobytes() for tokens in split] for split in cut]
    by_key = {k: t for split in zip(keys, cut, strict=True) for k, t in zip(*split, strict=True)}
    by_key = dict(sorted(by_key.items(), key=lambda item: len(item[0])))
    number = {key: i for i, key in enumerate(by_key)}
    return list(by_key.values()), Splits(*(torch.tensor([number[k] for k in s]) for s in keys))


def prefix_batches(messages: list[Tensor], is_causal: bool) -> Iterator[list[Tensor]]:
    """Yields batches of messages, shortest first; without the mask, of one length each."""
    batch: list[Tensor] = []
    for tokens in messages:
        is_full = (len(batch) + 1) * len(tokens) > PREFIX_TOKENS
        if batch and (is_full or not (is_causal or len(tokens) == len(batch[0]))):
            yield batch
            batch = []
        batch.append(tokens)
    if batch:
        yield batch


@torch.no_grad()
def run_prefix(
    model: ShortcutClassifier, messages: list[Tensor], depth: int, values: Tensor
) -> None:
    """Fills `values` (tokens of all messages, C) with the hidden states before block `depth`."""
    device = model.pos_emb.weight.device
    filled = 0
    for batch in prefix_batches(messages, not model.trf_blocks[0].att.disable_causal_mask):
        tokens = nn.utils.rnn.pad_sequence(batch, batch_first=True)  # (B, T)
        x = model.embed(tokens.to(device))  # (B, T, C)
        for block in model.trf_blocks[:depth]:
            x = run_block(block, x)
        for row, of_message in zip(x, batch, strict=True):
            values[filled : filled + len(of_message)] = row[: len(of_message)]
            filled += len(of_message)


def compute_hidden_states(
    model: ShortcutClassifier,
    messages: list[Tensor],
    depth: int,
    cache_dir: Path | None = None,
    conditions: str = "",
    memo: dict[str, HiddenStates] | None = None,
) -> HiddenStates:
    """Returns the hidden states of messages before block `depth`, from the cache if it has them.

    Args:
        model: whose embeddings and first blocks are run.
        messages: the tokens of each.
        depth: how many blocks are run.
        cache_dir: where they are kept for the next run; None keeps nothing.
        conditions: what else they depend on, such as precision and kernels.
        memo: where the last are kept for the next call in this process.

    Raises:
        OSError: when a file is needed and cannot be written, say because the disk is full.
    """
    key = ""
    if cache_dir is not None or memo is not None:
        key = prefix_key(model, messages, depth, conditions)
    if memo is not None:
        if key not in memo:
            memo.clear()  # first, so that two are never in memory
            memo[key] = make_hidden_states(model, messages, depth, cache_dir, key)
        return memo[key]
    return make_hidden_states(model, messages, depth, cache_dir, key)


def make_hidden_states(
    model: ShortcutClassifier, messages: list[Tensor], depth: int, cache_dir: Path | None, key: str
) -> HiddenStates:
    """Returns hidden states, in memory, in a file without a name, or in the cache under a key."""
    lengths = torch.tensor([len(tokens) for tokens in messages])
    weight = model.pos_emb.weight
    shape = (int(lengths.sum()), weight.shape[1])

    def fill(values: Tensor) -> None:
        run_prefix(model, messages, depth, values)

    if cache_dir is not None:
        path = cache_dir / f"{key}.hidden"
        values = cached_values(path, shape, weight.dtype, fill)
        return HiddenStates(depth, values, lengths, f"in {path}")
    if math.prod(shape) * weight.itemsize <= MEMORY_SHARE * total_memory():
        values, place = torch.empty(shape, dtype=weight.dtype), "in memory"
    else:
        with tempfile.TemporaryFile() as file:  # has no name: it goes when it is unmapped
            values, place = mapped(file, shape, weight.dtype), "in a file that goes with the run"
    fill(values)
    return HiddenStates(depth, values, lengths, place)


def total_memory() -> float:
    """Returns the machine's memory in bytes; 0 where the system does not tell (Windows)."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# -------------------------------------------------------------------------- hidden states on disk


def prefix_key(
    model: ShortcutClassifier, messages: list[Tensor], depth: int, conditions: str
) -> str:
    """Returns a digest of all that the hidden states before block `depth` depend on."""
    attention = model.trf_blocks[0].att
    code = [sha256_of(Path(module.__file__)) for module in (previous_chapters, gpt_classifier)]
    code.append(sha256_of(Path(__file__)))
    told = (depth, attention.num_heads, attention.disable_causal_mask, torch.__version__, code)
    digest = hashlib.sha256(f"{told} {conditions}".encode())
    prefix = nn.ModuleList([model.tok_emb, model.pos_emb, *model.trf_blocks[:depth]])
    for name, parameter in prefix.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().numpy())
    for tokens in messages:
        digest.update(len(tokens).to_bytes(8, "little") + tokens.numpy().tobytes())
    return digest.hexdigest()


def cached_values(
    path: Path, shape: tuple[int, int], dtype: torch.dtype, fill: Callable[[Tensor], None]
) -> Tensor:
    """Returns hidden states mapped from a file, which is computed first where it is not whole.

    The file ends with a digest of its name and content: one that was cut short, or belongs to
    something else, is computed again. A lock lets two processes share one computation.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = math.prod(shape) * dtype.itemsize
    with FileLock(f"{path}.lock"):
        if path.is_file() and path.stat().st_size == size + hashlib.sha256().digest_size:
            with path.open("rb") as file:
                values = mapped(file, shape, dtype, mode="c")
                file.seek(size)
                if file.read() == digest_of(path.name, values):
                    return values
        part = path.with_name(path.name + ".part")  # of an interrupted run, if there is one
        with naming(part), part.open("w+b") as file:
            values = mapped(file, shape, dtype)
            fill(values)
            file.seek(size)
            file.write(digest_of(path.name, values))
        del values  # Windows renames no file that is mapped
        part.replace(path)
        with path.open("rb") as file:
            return mapped(file, shape, dtype, mode="c")


def digest_of(name: str, values: Tensor) -> bytes:
    """Returns the SHA-256 of a name and hidden states."""
    digest = hashlib.sha256(name.encode())
    digest.update(values.numpy())
    return digest.digest()


def mapped(file: BinaryIO, shape: tuple[int, int], dtype: torch.dtype, mode: str = "r+") -> Tensor:
    """Returns a tensor over an open file, which first gets its room on the disk if written to.

    Raises:
        OSError: when the disk is full. Without room the process would die at a later write.
    """
    if mode == "r+":
        size = math.prod(shape) * dtype.itemsize
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    numbers = np.memmap(file, torch.empty(0, dtype=dtype).numpy().dtype, mode, shape=shape)
    return torch.from_numpy(numbers)


# --------------------------------------------------------------------------------------- kernels

LARGEST_ERROR = 1e-6  # relative, of a float32 product; what bfloat16 operands give is 2e-3


def choose_kernels(device: torch.device, plain: bool = False) -> str:
    """Lets oneDNN take float32 products where that is exact, and returns whose kernels are used.

    `plain` leaves them to PyTorch, as a new process does.

    PyTorch's own float32 products on a CPU are MKL's, which are slow on AMD's. The setting that
    hands them to oneDNN permits bfloat16 operands; whether a CPU has these, and would lose digits,
    a product tells that is held against float64.
    """
    matmul = torch.backends.mkldnn.matmul
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return "PyTorch's products"
    matmul.fp32_precision = "none"
    if plain:
        return "PyTorch's products"
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    matmul.fp32_precision = "bf16"
    error = float(((a @ b).double() - exact).norm() / exact.norm())
    if error < LARGEST_ERROR:
        return "oneDNN's float32 products"
    matmul.fp32_precision = "none"
    return "PyTorch's products"


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed for the next tensor of the size, instead of asking the system.

    Fresh pages for the gradients took a third of row 2's steps. Other systems' ways are their own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # as malloc.h numbers them
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**25)  # the most it takes


# ------------------------------------------------------------------------------------- one switch


class ShortcutDataset(Dataset):
    """A data set's labels and lengths, beside inputs that are further along than tokens."""

    def __init__(self, plain: SpamDataset, inputs_of: Callable[[list[int]], Tensor]) -> None:
        self.plain = plain
        self.inputs_of = inputs_of

    def __len__(self) -> int:
        return len(self.plain)

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the inputs (B, ...), lengths (B,) and labels (B,) of some messages."""
        return self.inputs_of(indices), self.plain.lengths[indices], self.plain.labels[indices]


class Shortcuts(NamedTuple):
    """What takes the place of the plain model and its data sets."""

    model: ShortcutClassifier
    datasets: Splits
    report: str


def take_shortcuts(
    plain: GPTClassifier,
    datasets: Splits,
    cache_dir: Path | None = None,
    conditions: str = "",
    memo: dict[str, HiddenStates] | None = None,
) -> Shortcuts:
    """Returns a model and data sets that give the same logits and gradients with less work.

    Args:
        plain: the model, with what is to be trained unfrozen already.
        datasets: its data sets.
        cache_dir: as `compute_hidden_states` takes it, like the next.
        conditions: what else the hidden states depend on.
        memo: keeps the last hidden states for a call with the same prefix.

    Raises:
        ValueError: when the model drops out.
        OSError: when hidden states need a file that cannot be written.
    """
    needed = Splits(*(needed_lengths(plain, dataset) for dataset in datasets))
    no_padding = datasets.train.no_padding
    frozen = frozen_blocks(plain)
    if frozen == 0:
        model = ShortcutClassifier(plain, depth=None, no_padding=no_padding)
        inputs = [cut_tokens(d.tokens, n) for d, n in zip(datasets, needed, strict=True)]
        report = "Hidden states: none, for the first block is trained"
        return Shortcuts(model, with_inputs(datasets, inputs), report)

    depth = min(frozen, len(plain.trf_blocks) - 1)  # where rows that freeze more can share them
    is_pooled = frozen > depth and not any(p.requires_grad for p in plain.final_norm.parameters())
    model = ShortcutClassifier(plain, depth, is_pooled, no_padding)
    messages, which = distinct_messages(needed, datasets)
    hidden = compute_hidden_states(model, messages, depth, cache_dir, conditions, memo)
    if is_pooled:
        inputs = [
            pool_all(model, hidden, numbers, dataset).__getitem__
            for numbers, dataset in zip(which, datasets, strict=True)
        ]
    else:
        inputs = [partial(batch_of, hidden, numbers) for numbers in which]
    report = (
        f"Hidden states: {len(messages):,} distinct messages, {depth} blocks computed once, "
        f"{hidden.values.nbytes / 2**20:,.0f} MiB {hidden.place}"
    )
    return Shortcuts(model, with_inputs(datasets, inputs), report)


def with_inputs(datasets: Splits, inputs: list[Callable[[list[int]], Tensor]]) -> Splits:
    """Returns the data sets with other inputs."""
    return Splits(*(ShortcutDataset(d, i) for d, i in zip(datasets, inputs, strict=True)))


def batch_of(hidden: HiddenStates, numbers: Tensor, indices: list[int]) -> Tensor:
    """Returns the hidden states (B, T, C) of some messages of a split, `numbers` (N,) overall."""
    return hidden.batch(numbers[indices])


def cut_tokens(tokens: Tensor, needed: Tensor) -> Callable[[list[int]], Tensor]:
    """Returns a function from indices to tokens (B, T), cut to the longest that is needed."""
    return lambda indices: tokens[indices, : int(needed[indices].max())]


@torch.no_grad()
def pool_all(
    model: ShortcutClassifier, hidden: HiddenStates, numbers: Tensor, dataset: SpamDataset
) -> Tensor:
    """Returns what the head reads of all messages of a split, (N, C)."""
    device = model.pos_emb.weight.device
    is_causal = not model.trf_blocks[0].att.disable_causal_mask
    size = POOL if is_causal or not dataset.no_padding else 1  # without a mask, of one length
    pooled = [
        model.pool(hidden.batch(some).to(device), lengths.to(device), hidden.depth)
        for some, lengths in zip(numbers.split(size), dataset.lengths.split(size), strict=True)
    ]
    return torch.cat(pooled)
