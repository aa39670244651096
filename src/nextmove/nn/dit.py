"""DiT: a transformer over patches of an image, conditioned by adaptive norms (Peebles & Xie 2023).

Shapes: B batch, C channels, p side of a patch, L patches, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.block import AdaLN, Block
from nextmove.nn.embedding import Times, cells
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.flat import flat, flat_width
from nextmove.nn.norm import LayerNorm
from nextmove.nn.product import Linear
from nextmove.nn.renamed import Renames
from nextmove.nn.stream import Stream

SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
"""The paper's width, layers and heads (table 1)."""


class DiffusionTransformer(nn.Module):
    """(x (B, C, height, width), t, ctx) -> (B, out, height, width)."""

    RENAMED: ClassVar[dict[int, Renames]] = {
        1: (
            (r"^told\.", "condition."),
            (r"^adaptive\.", "stream.adaptive."),
            (r"^blocks\.(\d+)\.mlp\.0\.", r"stream.blocks.\1.feedforward.up."),
            (r"^blocks\.(\d+)\.mlp\.3\.", r"stream.blocks.\1.feedforward.down."),
            (r"^blocks\.", "stream.blocks."),
        )
    }
    position: Tensor

    def __init__(self, config: Dit, shape: tuple[int, ...], out: int, times: int, context: ContextSpec) -> None:
        super().__init__()
        C, *sides = shape
        p, width, given = config.patch, config.width, flat_width(context)
        if len(shape) != 3 or any(side % p for side in sides):
            raise ValueError(f"shape: expected (C, height, width) of patches of side {p}, found {shape}")
        if not times and not given:
            raise ValueError("context: expected a time, a vector or tokens to be conditioned on, found none")
        self.spec, self.patch = context, p
        self.times = Times(times, config.time_width, width, width, "silu") if times else None
        self.condition = Linear(given, width) if given and given != width else nn.Identity()
        self.input = Linear(C * p * p, width)
        self.register_buffer("position", cells(sides[0] // p, sides[1] // p, width), persistent=False)
        self.stream = Stream([config.block] * config.layers, norm=config.block.norm)
        self.head = Linear(width, p * p * out)
        self._init()

    def _init(self) -> None:
        """Uniform by fan-in and fan-out, biases 0; small normal times; gates, scales, shifts and the head 0."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        for part in self.times.modules() if self.times is not None else ():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.02)
        for part in self.modules():
            if isinstance(part, AdaLN):
                nn.init.zeros_(part.linear.weight)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """y (B, out, height, width)."""
        p, parts = self.patch, [] if self.times is None else [self.times(t)]
        given = flat(ctx, self.spec)
        if given:
            parts.append(self.condition(torch.cat(given, -1)))
        condition = F.silu(parts[0] if len(parts) == 1 else parts[0] + parts[1])
        # (B, C, rows, p, columns, p) to one row of C p p numbers a patch.
        rows, columns = x.shape[2] // p, x.shape[3] // p
        patches = x.reshape(len(x), -1, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5)
        h = self.input(patches.flatten(3).flatten(1, 2)) + self.position
        h, _ = self.stream(h, condition=condition, remember=False)
        y: Tensor = self.head(h)
        y = y.view(len(x), rows, columns, p, p, -1)
        return y.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, *x.shape[2:])


@dataclass(frozen=True)
class Dit:
    """Sizes of a DiT; `sized` gives the paper's."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    patch: int = 2
    """Side of a patch; it divides the image's height and width."""
    time_width: int = 256
    dropout: float = 0.0
    """Within the two-layer networks (the paper has none)."""

    @property
    def block(self) -> Block:
        """One of its layers: norms without own weights, all of whose scales come from the condition."""
        norm = LayerNorm(1e-6, gain=False)
        return Block(
            self.width, self.heads, DenseMlp(), norm, condition=self.width, hidden_dropout=self.dropout
        )  # fmt: skip

    @classmethod
    def sized(cls, size: Literal["S", "B", "L", "XL"], patch: int = 2) -> Dit:
        """DiT-S, B, L or XL."""
        width, layers, heads = SIZES[size]
        return cls(width, layers, heads, patch)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> nn.Module:
        """The network; raises ValueError for an image its patches do not cover, or where a causal one is asked for.

        The condition (the context, flattened) is added to the time's embedding, as it is if it is `width` wide and else
        through a linear map. The times' sinusoid ends at frequency 1e-4; the paper's, one step above.
        """
        if causal:
            raise ValueError("Dit: every patch sees all others and cannot be causal")
        return DiffusionTransformer(self, shape, out, times, context)
