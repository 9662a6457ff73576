"""The GPT of the book, and how to load the published weights into it.

From leaf to root, then `load_weights_into_gpt`. This is the reference implementation: it is written
to be read, and the optimised one is compared with it.

Shapes: B examples, T tokens, C width (`emb_dim`), H heads of width D = C / H, V outputs.

Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2); Raschka
2024, "Build a Large Language Model (From Scratch)", chapters 3 to 5, whose names these are.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

# ------------------------------------------------------------------------------- layers


class LayerNorm(nn.Module):
    """Normalise each token to mean 0 and variance 1, then scale and shift it."""

    def __init__(self, emb_dim: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised over its last dimension, (..., C) to (..., C)."""
        mean = x.mean(dim=-1, keepdim=True)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)  # GPT-2 divides by C, not C - 1
        return self.scale * (x - mean) / torch.sqrt(variance + self.eps) + self.shift


class GELU(nn.Module):
    """GPT-2's tanh approximation of the unit of Hendrycks & Gimpel 2016, arXiv 1606.08415."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x times (nearly) the normal distribution function at x."""
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class FeedForward(nn.Module):
    """Two linear layers with a GELU in between, four times as wide inside."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(cfg["emb_dim"], 4 * cfg["emb_dim"]),
            GELU(),
            nn.Linear(4 * cfg["emb_dim"], cfg["emb_dim"]),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed features, (B, T, C) to (B, T, C)."""
        return self.layers(x)


def causal_mask(context_length: int) -> Tensor:
    """Return (T, T): True where the key (column) comes after the query (row)."""
    return torch.ones(context_length, context_length, dtype=torch.bool).triu(diagonal=1)


class MultiHeadAttention(nn.Module):
    """Multi-head self-attention, causal unless `disable_causal_mask`.

    Args:
        d_in, d_out: width of the input, and of the output, a multiple of `num_heads`.
        context_length: maximum number of tokens in a sequence.
        dropout: probability with which attention weights are dropped in training.
        disable_causal_mask: let every token attend to every other, including padding.

    Raises:
        ValueError: when the heads do not divide the width.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
        disable_causal_mask: bool = False,
    ) -> None:
        super().__init__()
        if d_out % num_heads:
            raise ValueError(f"d_out must be a multiple of num_heads, got {d_out} and {num_heads}")
        self.num_heads = num_heads
        self.head_dim = d_out // num_heads
        self.disable_causal_mask = disable_causal_mask
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        if not disable_causal_mask:
            self.register_buffer("mask", causal_mask(context_length))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the heads, (B, T, C) to (B, T, C)."""
        B, T, _ = x.shape
        queries, keys, values = (
            linear(x).view(B, T, self.num_heads, self.head_dim).transpose(1, 2)  # (B, H, T, D)
            for linear in (self.W_query, self.W_key, self.W_value)
        )
        scores = queries @ keys.transpose(2, 3) / math.sqrt(self.head_dim)  # (B, H, T, T)
        if not self.disable_causal_mask:
            scores = scores.masked_fill(self.mask[:T, :T], -torch.inf)
        weights = self.dropout(torch.softmax(scores, dim=-1))  # (B, H, T, T)
        gathered = (weights @ values).transpose(1, 2).reshape(B, T, -1)  # (B, T, C)
        return self.out_proj(gathered)  # (B, T, C)


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each after a norm and with a residual."""

    def __init__(self, cfg: dict[str, Any], disable_causal_mask: bool = False) -> None:
        super().__init__()
        self.att = MultiHeadAttention(
            d_in=cfg["emb_dim"],
            d_out=cfg["emb_dim"],
            context_length=cfg["context_length"],
            dropout=cfg["drop_rate"],
            num_heads=cfg["n_heads"],
            qkv_bias=cfg["qkv_bias"],
            disable_causal_mask=disable_causal_mask,
        )
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(cfg["emb_dim"])
        self.norm2 = LayerNorm(cfg["emb_dim"])
        self.drop_resid = nn.Dropout(cfg["drop_rate"])

    def forward(self, x: Tensor) -> Tensor:
        """Return the input of the next block, (B, T, C) to (B, T, C)."""
        x = x + self.drop_resid(self.att(self.norm1(x)))
        return x + self.drop_resid(self.ff(self.norm2(x)))


class GPTModel(nn.Module):
    """GPT-2: embeddings, a stack of blocks, a final norm, and a linear head.

    Args:
        cfg: the book's dictionary: `vocab_size`, `context_length`, `emb_dim`, `n_heads`,
            `n_layers`, `drop_rate` and `qkv_bias`.
        disable_causal_mask: let every token attend to every other, including padding.
    """

    def __init__(self, cfg: dict[str, Any], disable_causal_mask: bool = False) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(cfg["vocab_size"], cfg["emb_dim"])
        self.pos_emb = nn.Embedding(cfg["context_length"], cfg["emb_dim"])
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.Sequential(
            *[TransformerBlock(cfg, disable_causal_mask) for _ in range(cfg["n_layers"])]
        )
        self.final_norm = LayerNorm(cfg["emb_dim"])
        self.out_head = nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits at every position, (B, T) to (B, T, V).

        Raises:
            ValueError: when the sequences are longer than the model's context.
        """
        T, context_length = tokens.shape[1], self.pos_emb.num_embeddings
        if context_length < T:
            raise ValueError(f"the model's context is {context_length} tokens, got {T}")
        positions = torch.arange(T, device=tokens.device)
        x = self.drop_emb(self.tok_emb(tokens) + self.pos_emb(positions))  # (B, T, C)
        x = self.final_norm(self.trf_blocks(x))  # (B, T, C)
        return self.out_head(x)  # (B, T, V)


# ---------------------------------------------------------------------------- text and its tokens


def text_to_token_ids(text: str, tokenizer: Any) -> Tensor:
    """Return the tokens of a text, (1, T)."""
    return torch.tensor([tokenizer.encode(text, allowed_special={"<|endoftext|>"})])


def token_ids_to_text(token_ids: Tensor, tokenizer: Any) -> str:
    """Return the text of tokens (1, T)."""
    return tokenizer.decode(token_ids.flatten().tolist())


@torch.no_grad()
def generate_text_simple(
    model: nn.Module, idx: Tensor, max_new_tokens: int, context_size: int
) -> Tensor:
    """Return tokens (B, T) with the most probable ones after them, (B, T + max_new_tokens).

    Each is chosen from the logits of the last `context_size` tokens.
    """
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]  # (B, V)
        idx = torch.cat([idx, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return idx


class GPTDatasetV1(Dataset):
    """Windows of `max_length` tokens of a text, each with the windows one token later."""

    def __init__(self, txt: str, tokenizer: Any, max_length: int, stride: int) -> None:
        tokens = text_to_token_ids(txt, tokenizer)[0]
        starts = range(0, len(tokens) - max_length, stride)
        self.input_ids = [tokens[i : i + max_length] for i in starts]
        self.target_ids = [tokens[i + 1 : i + max_length + 1] for i in starts]

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, idx: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (T,) and the targets (T,) of a window."""
        return self.input_ids[idx], self.target_ids[idx]


def create_dataloader_v1(
    txt: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
) -> DataLoader:
    """Return batches of inputs and targets, both (B, T), for pretraining on a text."""
    import tiktoken  # not needed to classify

    dataset = GPTDatasetV1(txt, tiktoken.get_encoding("gpt2"), max_length, stride)
    options = {"shuffle": shuffle, "drop_last": drop_last, "num_workers": num_workers}
    return DataLoader(dataset, batch_size, **options)


# ------------------------------------------------------------------------------ weights


def load_weights_into_gpt(gpt: GPTModel, params: dict[str, Any]) -> None:
    """Copy GPT-2's published weights into a GPT.

    The vocabulary's head gets the weights of the token embedding, which GPT-2 uses twice. A model
    on the meta device gets memory on the CPU here, so that mapped weights are in memory once.

    Args:
        gpt: the model; its device and data type do not change.
        params: arrays in the book's layout, as `gpt_download.download_and_load_gpt2` returns
            them; the `w` of a linear layer is (in, out). `c_attn` has no `b` if `qkv_bias` is off.

    Raises:
        ValueError: when the number of blocks or the shape of an array is not the model's.
    """
    if len(params["blocks"]) != len(gpt.trf_blocks):
        found = len(params["blocks"])
        raise ValueError(f"the model has {len(gpt.trf_blocks)} blocks, the weights have {found}")
    if gpt.tok_emb.weight.is_meta:
        gpt.to_empty(device="cpu")
        for block in gpt.trf_blocks:
            for mask in block.att.buffers():
                mask.copy_(causal_mask(len(mask)))
    _fill(gpt.tok_emb, weight=params["wte"])
    _fill(gpt.pos_emb, weight=params["wpe"])
    for block, arrays in zip(gpt.trf_blocks, params["blocks"], strict=True):
        _fill_block(block, arrays)
    _fill(gpt.final_norm, scale=params["g"], shift=params["b"])
    _fill(gpt.out_head, weight=params["wte"])


def _fill_block(block: TransformerBlock, arrays: dict[str, Any]) -> None:
    """Copy one block; queries, keys and values are in one (C, 3C) array."""
    attention, (widen, _, narrow) = block.att, block.ff.layers
    c_attn, width = arrays["attn"]["c_attn"], 3 * attention.out_proj.in_features
    if wrong := [n for array in c_attn.values() if (n := array.shape[-1]) != width]:
        raise ValueError(f"c_attn has width {wrong[0]}, expected {width}")
    thirds = {name: np.split(array, 3, axis=-1) for name, array in c_attn.items()}
    for i, linear in enumerate((attention.W_query, attention.W_key, attention.W_value)):
        bias = thirds["b"][i] if "b" in thirds else None
        _fill(linear, weight=thirds["w"][i].T, bias=bias)
    for linear, array in (
        (attention.out_proj, arrays["attn"]["c_proj"]),
        (widen, arrays["mlp"]["c_fc"]),
        (narrow, arrays["mlp"]["c_proj"]),
    ):
        _fill(linear, weight=array["w"].T, bias=array["b"])
    for norm, array in ((block.norm1, arrays["ln_1"]), (block.norm2, arrays["ln_2"])):
        _fill(norm, scale=array["g"], shift=array["b"])


def _fill(module: nn.Module, **arrays: Any) -> None:
    """Copy arrays into parameters by their names; None for a bias that the module lacks."""
    for name, values in arrays.items():
        parameter = getattr(module, name)
        expected, found = (None if x is None else tuple(x.shape) for x in (parameter, values))
        if expected != found:
            where = f"{type(module).__name__}.{name}"
            raise ValueError(f"{where} has shape {expected} in the model, {found} in the weights")
        if parameter is not None:
            with torch.no_grad():
                parameter.copy_(torch.as_tensor(values))
