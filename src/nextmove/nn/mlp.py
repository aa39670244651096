"""MLP trunks: a residual one for flattened chunks, and the plain one of behaviour cloning.

Shapes: B batch, H horizon, A action width, S context tokens, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.dropout import Dropout
from nextmove.nn.embedding import Times
from nextmove.nn.flat import flat, flat_width
from nextmove.nn.product import Linear


class ResidualBlock(nn.Module):
    """x + Linear(SiLU(Linear(LayerNorm(x + time))))."""

    def __init__(self, width: int, time: int, dropout: float) -> None:
        super().__init__()
        self.time = Linear(time, width) if time else None
        self.norm = nn.LayerNorm(width)
        self.first = Linear(width, width)
        self.second = Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        """(B, W) -> (B, W)."""
        h = x if self.time is None else x + self.time(t)
        y: Tensor = x + self.second(self.dropout(nn.functional.silu(self.first(self.norm(h)))))
        return y


class ResidualMlp(nn.Module):
    """(x (B, H, A), t, ctx) -> (B, H, out), all steps of the horizon seen at once."""

    def __init__(self, config: Mlp, shape: tuple[int, ...], out: int, times: int, context: ContextSpec) -> None:
        super().__init__()
        self.rows, self.out, self.spec = shape[0], out, context
        self.times = (
            Times(times, config.time_width, 2 * config.time_width, 2 * config.time_width, "silu") if times else None
        )
        self.input = Linear(shape[0] * shape[1] + flat_width(context), config.width)
        time = 2 * config.time_width if times else 0
        self.blocks = nn.ModuleList(ResidualBlock(config.width, time, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = Linear(config.width, shape[0] * out)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """y (B, H, out)."""
        h = self.input(torch.cat([x.flatten(1), *flat(ctx, self.spec)], -1))
        e = None if self.times is None else nn.functional.silu(self.times(t))
        for block in self.blocks:
            h = block(h, e)
        y: Tensor = self.head(self.norm(h)).view(-1, self.rows, self.out)
        return y


@dataclass(frozen=True)
class Mlp:
    """Residual MLP over the flattened chunk."""

    width: int = 512
    depth: int = 4
    """Residual blocks of two layers."""
    time_width: int = 64
    dropout: float = 0.0

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> nn.Module:
        """The network; raises ValueError where a causal one is asked for."""
        if causal:
            raise ValueError("Mlp: sees the whole chunk at once and cannot be causal")
        return ResidualMlp(self, shape, out, times, context)


class Stack(nn.Module):
    """Linear and ReLU in turn over everything side by side."""

    def __init__(
        self, widths: tuple[int, ...], shape: tuple[int, ...], out: int, times: int, context: ContextSpec
    ) -> None:
        super().__init__()
        self.rows, self.out, self.spec = shape[0], out, context
        self.times = Times(times, 64) if times else None
        sizes = (shape[0] * shape[1] + flat_width(context) + (64 if times else 0), *widths)
        layers = [layer for i, o in pairwise(sizes) for layer in (Linear(i, o), nn.ReLU())]
        self.layers = nn.Sequential(*layers, Linear(sizes[-1], shape[0] * out))

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """y (B, H, out)."""
        parts = [x.flatten(1), *flat(ctx, self.spec)]
        if self.times is not None:
            parts.append(self.times(t))
        y: Tensor = self.layers(torch.cat(parts, -1)).view(-1, self.rows, self.out)
        return y


@dataclass(frozen=True)
class PlainMlp:
    """The MLP of robomimic's behaviour cloning (Mandlekar et al. 2021)."""

    widths: tuple[int, ...] = (1024, 1024)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> nn.Module:
        """The network; raises ValueError where a causal one is asked for."""
        if causal:
            raise ValueError("PlainMlp: sees the whole chunk at once and cannot be causal")
        return Stack(self.widths, shape, out, times, context)
