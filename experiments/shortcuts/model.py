"""The optimised classifier: the parameters of a plain one, and the same logits for less work."""

import operator

import torch
from torch import Tensor, nn

from experiments.model.classifier import GPTClassifier, checkpointed
from experiments.shortcuts.layers import (
    OptimizedBlock,
    ReusedGradient,
    SingleQueryBlock,
    apply_linear,
    normalise,
)
from experiments.system.distributed import world


class OptimizedClassifier(nn.Module):
    """A `GPTClassifier` with optimised blocks, and the same parameters under the same names.

    Args:
        is_cached: whether the inputs are activations of the frozen prefix, if the design has one.
        no_padding: whether all tokens of the examples are real.
        dtype, cast_once: as `OptimizedBlock` takes them.

    Raises:
        ValueError: when the plain model has dropout, with which frozen layers vary.
    """

    def __init__(
        self,
        plain: GPTClassifier,
        *,
        is_cached: bool = False,
        no_padding: bool = False,
        dtype: torch.dtype | None = None,
        cast_once: bool = True,
    ) -> None:
        super().__init__()
        if any(m.p > 0 for m in plain.modules() if isinstance(m, nn.Dropout)):
            raise ValueError("shortcuts need a model without dropout (drop_rate 0)")
        for name, module in plain.named_children():
            self.add_module(name, module)
        design = self.design = plain.design
        single = None if design.average_embeddings else plain.trf_blocks[-1]
        self.trf_blocks = nn.ModuleList(
            SingleQueryBlock(block) if block is single else OptimizedBlock(block, dtype, cast_once)
            for block in plain.trf_blocks
        )
        # Designs that freeze all blocks share the activations of those that train the last one.
        depth = min(design.num_frozen_blocks, design.config["n_layers"] - 1)
        self.depth = depth if is_cached and design.num_frozen_blocks else None  # of the inputs
        self.is_pooled = is_cached and depth < design.num_frozen_blocks  # inputs are features
        self.dtype = dtype
        self.reads_padding = not no_padding and design.token_position != "flexible"
        self.activation_checkpointing = plain.activation_checkpointing
        # Of several processes each would know the rows of its own tokens only.
        self.gradient = ReusedGradient(self.tok_emb.weight) if world.size == 1 else None

    @property
    def frozen_prefix(self) -> list[nn.Module]:
        """The modules that training does not run, because it starts from their output."""
        if self.depth is None:
            return []
        if self.is_pooled:
            return [self.tok_emb, self.pos_emb, *self.trf_blocks, self.final_norm]
        return [self.tok_emb, self.pos_emb, *self.trf_blocks[: self.depth]]

    def train(self, mode: bool = True) -> "OptimizedClassifier":
        """Set the mode; raise RuntimeError when a layer is trainable whose output is cached."""
        if any(p.requires_grad for module in self.frozen_prefix for p in module.parameters()):
            raise RuntimeError("cached activations need a frozen prefix: compute them again")
        return super().train(mode)

    def forward(self, inputs: Tensor, lengths: Tensor, features_only: bool = False) -> Tensor:
        """Return logits (B, K), or features (B, C), the input of the head.

        The inputs are tokens (B, T), activations (B, T, C) or features (B, C), of which the first
        `lengths` (B,) are real.
        """
        if self.is_pooled and not features_only:
            return apply_linear(self.out_head, inputs)
        x = self.embed(inputs) if self.depth is None else inputs.to(self.pos_emb.weight.dtype)
        T, run = x.shape[1], checkpointed if self.activation_checkpointing else operator.call
        for block in [*self.trf_blocks][self.depth or 0 : -1]:
            x = run(block, x)  # (B, T, C)
        last = self.trf_blocks[-1]
        if not self.design.average_embeddings:
            positions = torch.full_like(lengths, T - 1) if self.reads_padding else lengths - 1
            if self.design.token_position == "first":
                positions = torch.zeros_like(lengths)
            x = normalise(self.final_norm, run(last, x, positions))  # (B, C)
        else:
            x = normalise(self.final_norm, run(last, x))  # (B, T, C)
            if self.reads_padding:
                x = x.mean(dim=1)
            else:
                is_real = torch.arange(T, device=x.device) < lengths[:, None]  # (B, T)
                x = (x * is_real[:, :, None]).sum(dim=1) / lengths[:, None]
        return x if features_only else apply_linear(self.out_head, x)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the input of the first block, (B, T) to (B, T, C)."""
        is_trained = self.tok_emb.weight.requires_grad and torch.is_grad_enabled()
        look_up = self.gradient.look_up if self.gradient and is_trained else self.tok_emb
        return look_up(tokens) + self.pos_emb.weight[: tokens.shape[1]]
