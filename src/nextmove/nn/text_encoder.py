"""A transformer that reads a text's ids: CLIP's (Radford et al. 2021) and, without causal order, sentence encoders'.

Shapes: B texts, L ids, K classes, W width, C width of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from nextmove.nn.block import Block
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.init import init_normal
from nextmove.nn.mask import CAUSAL
from nextmove.nn.norm import LayerNorm
from nextmove.nn.product import Linear
from nextmove.nn.stream import Stream


class Encoded(NamedTuple):
    """What a text says: tokens (B, L, W), undefined at padding, and one vector (B, C)."""

    tokens: Tensor
    vector: Tensor


@dataclass(frozen=True)
class TextEncoder:
    """Embedding, learned positions, blocks, a norm; the vector is pooled and, where `out` is given, projected."""

    width: int = 128
    layers: int = 4
    heads: Any = 4
    """Number of heads, or `attention.Heads`."""
    out: int = 0
    """Width C of the vector, by a map without bias; 0 = `width`, without a map."""
    causal: bool = False
    """Whether a token attends to none after it."""
    pool: Literal["end", "mean"] = "mean"
    """The last token that is no padding (CLIP's end of text), or the mean of all that are none."""
    feedforward: Any = DenseMlp()
    """`feedforward.DenseMlp` or `feedforward.GatedMlp`."""
    norm: Any = LayerNorm()
    """`norm.LayerNorm` or `norm.RmsNorm`."""
    dropout: float = 0.0

    @classmethod
    def clip(cls) -> TextEncoder:
        """The text tower of CLIP ViT-B/32 (Radford et al. 2021, table 19); of ids 49408, length 77."""
        return cls(512, 12, 8, out=512, causal=True, pool="end", feedforward=DenseMlp(2048, "quick_gelu"))

    def build(self, *, classes: int, length: int) -> TextEncoderNet:
        """The network of texts of at most `length` ids in 0 .. `classes` - 1."""
        return TextEncoderNet(self, classes, length)


class TextEncoderNet(nn.Module):
    """(ids (B, L), mask (B, L)) -> `Encoded`."""

    def __init__(self, config: TextEncoder, classes: int, length: int) -> None:
        super().__init__()
        if config.pool not in ("end", "mean"):
            raise ValueError(f"pool: expected end or mean, found {config.pool!r}")
        self.config, self.length = config, length
        self.embedding = nn.Embedding(classes, config.width)
        self.position = nn.Parameter(torch.empty(length, config.width))
        block = Block(config.width, config.heads, config.feedforward, config.norm, dropout=config.dropout)
        self.stream = Stream([block] * config.layers, norm=config.norm)
        self.project = Linear(config.width, config.out, bias=False) if config.out else None
        init_normal(self)
        nn.init.normal_(self.position, std=0.01)

    @property
    def width(self) -> int:
        """C."""
        return self.config.out or self.config.width

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Encoded:
        """What texts say whose padding, on either side, `mask` (B, L) marks with False; None = there is none.

        Raises ValueError for texts that are longer than the network's, or empty.
        """
        if not 0 < ids.shape[1] <= self.length:
            raise ValueError(f"ids: expected 1 to {self.length} in a text, found {ids.shape[1]}")
        valid = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        # Positions count the tokens that are no padding.
        place = (valid.cumsum(1) - 1).clamp(min=0)
        x = self.embedding(ids) + self.position[place]
        order = CAUSAL if self.config.causal else None
        h, _ = self.stream(x, mask=order, valid=None if mask is None else valid, remember=False)
        vector = self._pooled(h, valid)
        return Encoded(h, vector if self.project is None else self.project(vector))

    def _pooled(self, h: Tensor, valid: Tensor) -> Tensor:
        if self.config.pool == "mean":
            weight = valid.to(h)[..., None]
            return (h * weight).sum(1) / weight.sum(1).clamp(min=1)
        count = torch.arange(valid.shape[1], device=valid.device)
        last = torch.where(valid, count, 0).argmax(1)
        return h[torch.arange(len(h), device=h.device), last]
