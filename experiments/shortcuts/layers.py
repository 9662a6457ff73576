"""The book's layers by fused kernels, and the last block by one query.

Each takes the module whose parameters it uses, and returns what the module would but for the order
of sums. A product has the data type of its input; softmax, norms and the residual stream have that
of the parameters. Shapes: B messages, T tokens, C width, H heads of width D.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from experiments.model.lora import LinearWithLoRA
from experiments.training.memory_workload import SHORT
from previous_chapters import LayerNorm, TransformerBlock


def normalise(norm: LayerNorm, x: Tensor) -> Tensor:
    """Returns what `LayerNorm` does, (..., C), in one pass."""
    return F.layer_norm(x, norm.scale.shape, norm.scale, norm.shift, norm.eps)


def apply_linear(layer: nn.Linear | LinearWithLoRA, x: Tensor) -> Tensor:
    """Returns the layer's output, (..., in) to (..., out), in the data type of the input."""
    linear = layer if isinstance(layer, nn.Linear) else layer.linear
    weight, bias = (p if p is None else p.to(x.dtype) for p in (linear.weight, linear.bias))
    if linear is layer:
        return F.linear(x, weight, bias)
    A, B = layer.lora.A.to(x.dtype), layer.lora.B.to(x.dtype)
    y = LoRAProduct.apply(x.flatten(0, -2), weight, bias, A, B, layer.lora.alpha)
    return y.unflatten(0, x.shape[:-1])


class LoRAProduct(torch.autograd.Function):
    """A linear layer with its LoRA, x W^T + b + alpha (x A) B, in the cheapest order of products.

    Both ways everything goes through the narrow waist (N, rank), and what it adds to an output or a
    gradient is added where that lies. Merged or not is the same function; to merge would read and
    write a whole weight in each step.

    Source: Cherniuk, Mikhalev & Oseledets 2023, "Run LoRA Run", arXiv 2312.03415.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, alpha: float
    ) -> Tensor:
        """Returns (N, out) for x (N, in)."""
        waist = alpha * (x @ A)  # (N, rank)
        ctx.save_for_backward(x, weight, A, B, waist)
        ctx.alpha = alpha
        return F.linear(x, weight, bias).addmm_(waist, B)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of the forward pass's inputs, of those that want one."""
        x, weight, A, B, waist = ctx.saved_tensors
        of_waist = ctx.alpha * (gradient @ B.T)  # (N, rank)
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        return (
            (gradient @ weight).addmm_(of_waist, A.T) if of_x else None,
            gradient.T @ x if of_weight else None,
            gradient.sum(dim=0) if of_bias else None,
            x.T @ of_waist,
            waist.T @ gradient,
            None,
        )


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


def attend(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> Tensor:
    """Returns what each query gathers, softmax(q k^T / sqrt(D)) v, all of shape (B, H, T, D).

    PyTorch's fused kernel keeps no (T, T) weights. On a CPU it takes four times as long as plain
    products on 120 tokens, twice as long on 256, and as long on 512.
    """
    T, D = q.shape[-2:]
    if T > SHORT or not q.is_cpu:
        return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    dtype = torch.promote_types(q.dtype, torch.float32)  # of the softmax
    hidden = torch.full((T, T), -torch.inf if is_causal else 0.0, dtype=dtype).triu(1)
    queries, keys = (x.to(dtype).flatten(0, 1) for x in (q, k))  # (B H, T, D)
    scores = torch.baddbmm(hidden, queries, keys.transpose(1, 2), alpha=1 / math.sqrt(D))
    weights = torch.softmax(scores, dim=-1).to(v.dtype)  # (B H, T, T)
    return (weights @ v.flatten(0, 1)).unflatten(0, q.shape[:2])


def run_feed_forward(
    block: TransformerBlock, x: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """Returns the block's second half, residual included, (..., C) to (..., C).

    Args:
        block: whose second half it is.
        x: its input.
        dtype: of the products, which is that of x if None.
    """
    widen, _, narrow = block.ff.layers
    h = normalise(block.norm2, x).to(dtype or x.dtype)
    wide = F.gelu(apply_linear(widen, h), approximate="tanh")
    return x + apply_linear(narrow, wide)


def run_block(block: TransformerBlock, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Returns what the block does, (B, T, C) to (B, T, C), by PyTorch's fused kernels.

    Args:
        block: which is run.
        x: its input.
        dtype: of the products, which is that of x if None.
    """
    attention = block.att
    h = normalise(block.norm1, x).to(dtype or x.dtype)
    heads = (attention.num_heads, attention.head_dim)
    q, k, v = (
        apply_linear(layer, h).unflatten(-1, heads).transpose(1, 2)  # (B, H, T, D)
        for layer in (attention.W_query, attention.W_key, attention.W_value)
    )
    is_causal = not attention.disable_causal_mask
    gathered = attend(q, k, v, is_causal)  # (B, H, T, D)
    x = x + apply_linear(attention.out_proj, gathered.transpose(1, 2).flatten(2))  # (B, T, C)
    return run_feed_forward(block, x, dtype)


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
