"""Blocks of the book with fused kernels, and a last block that computes one query.

    block = OptimizedBlock(plain.trf_blocks[0])  # shares its parameters
    x = block(x)  # (B, T, C), equal but for the order of sums

Softmax, norms and the residual stream have the data type of the parameters.
Shapes: B examples, T tokens, C width, H heads of width D.
"""

import math
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from experiments.model.lora import LinearWithLoRA, merged_weight
from previous_chapters import LayerNorm, TransformerBlock

MAX_PLAIN_ATTENTION = 256  # tokens, up to which attention is plain products on a CPU


def normalise(norm: LayerNorm, x: Tensor) -> Tensor:
    """Return what `LayerNorm` does, (..., C), in one pass."""
    return F.layer_norm(x, norm.scale.shape, norm.scale, norm.shift, norm.eps)


def apply_linear(layer: nn.Linear | LinearWithLoRA, x: Tensor) -> Tensor:
    """Return the layer's output, (..., in) to (..., out), in the data type of the input."""
    linear = layer if isinstance(layer, nn.Linear) else layer.linear
    weight = linear.weight.to(x.dtype)
    bias = None if linear.bias is None else linear.bias.to(x.dtype)
    if linear is layer:
        return F.linear(x, weight, bias)
    A, B = layer.lora.A.to(x.dtype), layer.lora.B.to(x.dtype)
    y = _LoRAProduct.apply(x.flatten(0, -2), weight, bias, A, B, layer.lora.alpha)
    return y.unflatten(0, x.shape[:-1])


class _LoRAProduct(torch.autograd.Function):
    """A linear layer with LoRA, x W^T + b + alpha (x A) B, in the cheapest order of products.

    LoRA's part is added in place; merging would read and write a whole weight in each step.
    Source: Cherniuk, Mikhalev & Oseledets 2023, "Run LoRA Run", arXiv 2312.03415.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, alpha: float
    ) -> Tensor:  # (N, out), for x (N, in)
        x_A = alpha * (x @ A)  # (N, rank)
        ctx.save_for_backward(x, weight, A, B, x_A)
        ctx.alpha = alpha
        return F.linear(x, weight, bias).addmm_(x_A, B)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, A, B, x_A = ctx.saved_tensors
        of_x_A = ctx.alpha * (gradient @ B.T)  # (N, rank)
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        return (
            (gradient @ weight).addmm_(of_x_A, A.T) if needs_x else None,
            gradient.T @ x if needs_weight else None,
            gradient.sum(dim=0) if needs_bias else None,
            x.T @ of_x_A,
            x_A.T @ gradient,
            None,
        )


class ReusedGradient:
    """A trained embedding's gradient in one buffer, of which only the used rows are cleared.

    PyTorch makes a new table each time, whose zeros took 0.2 of 1.9 seconds of a step of row 5.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight  # (V, C)
        self.buffer: Tensor | None = None
        self.tokens: list[Tensor] = []  # whose rows are not zero

    def look_up(self, tokens: Tensor) -> Tensor:
        """Return the rows (B, T, C) of tokens (B, T), whose gradient goes into `weight.grad`."""
        x = F.embedding(tokens, self.weight.detach()).requires_grad_()
        x.register_hook(partial(self._add, tokens))
        return x

    def _add(self, tokens: Tensor, gradient: Tensor) -> None:
        if self.buffer is None:
            self.buffer = torch.zeros_like(self.weight)
        if self.weight.grad is None:
            for earlier in self.tokens:
                self.buffer.index_fill_(0, earlier, 0)
            self.tokens = []
            self.weight.grad = self.buffer
        self.weight.grad.index_add_(0, tokens.flatten(), gradient.flatten(0, -2))
        self.tokens.append(tokens.flatten())


def attend(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v; all tensors have the shape (B, H, T, D).

    On a CPU, PyTorch's fused kernel, which stores no (T, T) weights, takes four times as long as
    plain products on 120 tokens, twice on 256, and as long on 512.
    """
    T, D = q.shape[-2:]
    if T > MAX_PLAIN_ATTENTION or not q.is_cpu:
        return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    dtype = torch.promote_types(q.dtype, torch.float32)  # of the softmax
    mask = torch.full((T, T), -torch.inf if is_causal else 0.0, dtype=dtype).triu(1)
    queries, keys = q.to(dtype).flatten(0, 1), k.to(dtype).flatten(0, 1)  # (B H, T, D)
    scores = torch.baddbmm(mask, queries, keys.transpose(1, 2), alpha=1 / math.sqrt(D))
    weights = torch.softmax(scores, dim=-1).to(v.dtype)  # (B H, T, T)
    return (weights @ v.flatten(0, 1)).unflatten(0, q.shape[:2])


class OptimizedBlock(nn.Module):
    """A block of the book with fused kernels; the names of its parameters are the book's.

    Args:
        dtype: data type of the matrix products; if None, that of the parameters.
        cast_once: stores a copy of frozen linear weights in that data type; trained weights are
            shared, and cast when they are used.
    """

    def __init__(
        self, block: TransformerBlock, dtype: torch.dtype | None = None, cast_once: bool = True
    ) -> None:
        super().__init__()
        if dtype and cast_once:
            block = _cast_frozen_weights(block, dtype)
        for name, module in block.named_children():
            self.add_module(name, module)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (B, T, C) to (B, T, C)."""
        attention, (expand, _, project) = self.att, self.ff.layers
        dtype = self.dtype or x.dtype
        h = normalise(self.norm1, x).to(dtype)
        heads = (attention.num_heads, attention.head_dim)
        q, k, v = (
            apply_linear(layer, h).unflatten(-1, heads).transpose(1, 2)  # (B, H, T, D)
            for layer in (attention.W_query, attention.W_key, attention.W_value)
        )
        context = attend(q, k, v, not attention.disable_causal_mask)  # (B, H, T, D)
        x = x + apply_linear(attention.out_proj, context.transpose(1, 2).flatten(2))  # (B, T, C)
        h = apply_linear(expand, normalise(self.norm2, x).to(dtype))  # (B, T, 4 C)
        return x + apply_linear(project, F.gelu(h, approximate="tanh"))


class SingleQueryBlock(OptimizedBlock):
    """A last block, of which only the output at one position of each example is read.

    One query q needs no keys: q . (W_k h_t) = (W_k^T q) . h_t. Nor values, since the weights a_t of
    a softmax sum to one: sum a_t (W_v h_t + b_v) = W_v (sum a_t h_t) + b_v. The norm's scale and
    shift move out alike. What is added to all scores, such as the key's bias, cancels.
    """

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return the outputs (B, C) at positions (B,), for the block's input (B, T, C)."""
        attention, norm, (expand, _, project) = self.att, self.norm1, self.ff.layers
        rows = torch.arange(len(x), device=x.device)
        heads = (attention.num_heads, attention.head_dim)
        plain = F.layer_norm(x, norm.scale.shape, eps=norm.eps)  # (B, T, C), without scale, shift
        h = norm.scale * plain[rows, positions] + norm.shift  # (B, C)
        q = apply_linear(attention.W_query, h).unflatten(-1, heads)  # (B, H, D)
        key_weight = merged_weight(attention.W_key).unflatten(0, heads)  # (H, D, C)
        q_of_input = norm.scale * torch.einsum("bhd,hdc->bhc", q, key_weight)  # (B, H, C)

        scores = q_of_input @ plain.transpose(1, 2) / math.sqrt(attention.head_dim)  # (B, H, T)
        # Cancels in the softmax; here for its gradient, zero, with which AdamW decays the bias.
        scores = scores + 0 * _bias_of(attention.W_key).sum()
        if not attention.disable_causal_mask:
            is_later = torch.arange(x.shape[1], device=x.device) > positions[:, None]  # (B, T)
            scores = scores.masked_fill(is_later[:, None], -torch.inf)

        mean = norm.scale * (torch.softmax(scores, dim=-1) @ plain) + norm.shift  # (B, H, C)
        value_weight = merged_weight(attention.W_value).unflatten(0, heads)  # (H, D, C)
        context = torch.einsum("bhc,hdc->bhd", mean, value_weight).flatten(1)  # (B, C)
        context = context + _bias_of(attention.W_value)
        x = x[rows, positions] + apply_linear(attention.out_proj, context)  # (B, C)
        h = apply_linear(expand, normalise(self.norm2, x))  # (B, 4 C)
        return x + apply_linear(project, F.gelu(h, approximate="tanh"))


def _bias_of(layer: nn.Linear | LinearWithLoRA) -> Tensor:
    linear = layer if isinstance(layer, nn.Linear) else layer.linear
    return linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias


def _cast_frozen_weights(block: TransformerBlock, dtype: torch.dtype) -> TransformerBlock:
    shared = {id(tensor): tensor for tensor in (*block.parameters(), *block.buffers())}
    block = deepcopy(block, shared)
    for layer in block.modules():
        if isinstance(layer, nn.Linear):
            for name, parameter in layer.named_parameters():
                if not parameter.requires_grad:
                    cast = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
                    setattr(layer, name, cast)
    return block
