"""Transformer layers that keep positions apart from content: queries and keys are told where, values are not.

As in DETR (Carion et al. 2020, appendix A.3) and ACT; with positions absent they are the layers of Vaswani et al. 2017.
Letters: B batch, L tokens, S tokens of the memory, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.attention import Attention
from nextmove.nn.dropout import Dropout
from nextmove.nn.mask import CAUSAL, key_mask

Activation = Literal["relu", "gelu", "glu"]


@dataclass(frozen=True)
class Sizes:
    """What the layers of a stack share."""

    width: int
    heads: int
    feedforward: int
    dropout: float = 0.0
    activation: Activation = "relu"
    pre_norm: bool = False
    """Normalise what enters a block; otherwise what leaves it, the way past it included."""


class FeedForward(nn.Module):
    """Two linear maps; the first is twice as wide under "glu", whose second half gates the first."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        if sizes.activation not in ("relu", "gelu", "glu"):
            raise ValueError(f"activation: expected relu, gelu or glu, found {sizes.activation!r}")
        self.activation, self.dropout = sizes.activation, Dropout(sizes.dropout)
        self.linear1 = nn.Linear(sizes.width, sizes.feedforward * (2 if sizes.activation == "glu" else 1))
        self.linear2 = nn.Linear(sizes.feedforward, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D)."""
        y: Tensor = self.linear2(self.dropout(getattr(F, self.activation)(self.linear1(x))))
        return y


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.pre_norm, self.dropout = sizes.pre_norm, Dropout(sizes.dropout)
        self.self_attn = Attention(sizes.width, sizes.heads, sizes.dropout)
        self.feedforward = FeedForward(sizes)
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor, position: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """x (B, L, D); position broadcasts to x; keep (B, L) bool, True = may be attended to."""
        h = self.norm1(x) if self.pre_norm else x
        told = _add(h, position)
        x = x + self.dropout(self.self_attn(told, told, h, mask=None if keep is None else key_mask(keep))[0])
        x = x if self.pre_norm else self.norm1(x)
        x = x + self.dropout(self.feedforward(self.norm2(x) if self.pre_norm else x))
        return x if self.pre_norm else self.norm2(x)


class DecoderLayer(nn.Module):
    """Self-attention, attention to a memory, then feed-forward."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.pre_norm, self.dropout = sizes.pre_norm, Dropout(sizes.dropout)
        self.self_attn = Attention(sizes.width, sizes.heads, sizes.dropout)
        self.multihead_attn = Attention(sizes.width, sizes.heads, sizes.dropout)
        self.feedforward = FeedForward(sizes)
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.norm3 = nn.LayerNorm(sizes.width)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        position: Tensor | None = None,
        memory_position: Tensor | None = None,
        *,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """x (B, L, D), memory (B, S, D); positions broadcast to each.

        keep (B, S) bool and mask (L, S) bool say which parts of the memory may be attended to; causal: x_i sees x_<=i.
        """
        h = self.norm1(x) if self.pre_norm else x
        told = _add(h, position)
        x = x + self.dropout(self.self_attn(told, told, h, mask=CAUSAL if causal else None)[0])
        x = x if self.pre_norm else self.norm1(x)
        asked = _add(self.norm2(x) if self.pre_norm else x, position)
        keys = _add(memory, memory_position)
        if keep is not None:
            mask = key_mask(keep) if mask is None else key_mask(keep) & mask
        x = x + self.dropout(self.multihead_attn(asked, keys, memory, mask=mask)[0])
        x = x if self.pre_norm else self.norm2(x)
        x = x + self.dropout(self.feedforward(self.norm3(x) if self.pre_norm else x))
        return x if self.pre_norm else self.norm3(x)


class Encoder(nn.Module):
    """Encoder layers in a row, normalised at the end only if they normalise first."""

    def __init__(self, sizes: Sizes, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(layers))
        self.norm = nn.LayerNorm(sizes.width) if sizes.pre_norm else nn.Identity()

    def forward(self, x: Tensor, position: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """As EncoderLayer."""
        for layer in self.layers:
            x = layer(x, position, keep)
        y: Tensor = self.norm(x)
        return y


class Decoder(nn.Module):
    """Decoder layers in a row, always normalised at the end."""

    def __init__(self, sizes: Sizes, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(layers))
        self.norm = nn.LayerNorm(sizes.width)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        position: Tensor | None = None,
        memory_position: Tensor | None = None,
        *,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """As DecoderLayer."""
        for layer in self.layers:
            x = layer(x, memory, position, memory_position, keep=keep, mask=mask, causal=causal)
        y: Tensor = self.norm(x)
        return y


def kept(ctx_mask: Tensor | None, before: int, batch: int) -> Tensor | None:
    """The mask (B, S) of context tokens with `before` tokens that are always seen in front; None if all are seen."""
    if ctx_mask is None:
        return None
    return torch.cat([ctx_mask.new_ones(batch, before), ctx_mask], 1)


def _add(x: Tensor, position: Tensor | None) -> Tensor:
    return x if position is None else x + position
