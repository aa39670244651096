"""Perceiver resampler: any number of image tokens to a fixed number of latents (Alayrac et al. 2022, appendix A.1.1).

Shapes: B batch, T images of a row, F frames of each, S tokens of a frame, D width, N latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.nn.attention import Heads
from nextmove.nn.block import Block, Source
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm


@dataclass(frozen=True)
class Perceiver:
    """Sizes of a resampler."""

    latents: int = 64
    """Tokens of an image that leave it."""
    layers: int = 6
    heads: Heads = Heads(8, head_dim=64, bias=False, out_bias=False)
    feedforward: DenseMlp = DenseMlp(activation="gelu", bias=False)
    norm: LayerNorm = LayerNorm()
    frames: int = 0
    """Most frames of an image with learned embeddings of their order; 0 = none."""
    images: int = 0
    """Most images of a row with learned embeddings of their order; 0 = none."""

    def build(self, width: int) -> PerceiverNet:
        """The module of tokens `width` wide."""
        return PerceiverNet(self, width)


class PerceiverNet(nn.Module):
    """(B, T, F, S, D), or (B, T, S, D) of one frame each, -> (B, T, N, D).

    Latents attend to an image's tokens and to themselves, layer by layer.
    """

    def __init__(self, config: Perceiver, width: int) -> None:
        super().__init__()
        self.config = config
        self.latents = nn.Parameter(torch.randn(config.latents, width))
        self.frames = nn.Parameter(torch.randn(config.frames, width)) if config.frames else None
        self.images = nn.Parameter(torch.randn(config.images, 1, width)) if config.images else None
        block = Block(width, config.heads, config.feedforward, config.norm, attention=False, cross=width)
        self.blocks = nn.ModuleList(block.build() for _ in range(config.layers))
        self.media_norms = nn.ModuleList(config.norm.build(width) for _ in range(config.layers))
        self.norm = config.norm.build(width)

    def forward(self, x: Tensor) -> Tensor:
        """Raises ValueError for more images or frames than there are embeddings for."""
        x = x[:, :, None] if x.dim() == 4 else x
        batch, count, frames = x.shape[:3]
        for name, table, found in (("frames", self.frames, frames), ("images", self.images, count)):
            if table is not None and found > len(table):
                raise ValueError(f"x: expected at most {len(table)} {name}, found {found}")
        if self.frames is not None:
            x = x + self.frames[:frames, None]
        x = x.flatten(2, 3)
        if self.images is not None:
            x = x + self.images[:count]
        media, latents = x.flatten(0, 1), self.latents.expand(batch * count, -1, -1)
        for block, norm in zip(self.blocks, self.media_norms, strict=True):
            branch: Any = block.cross_branch
            # Keys and values are of the image and of the latents themselves, both normed.
            tokens = torch.cat([norm(media), branch.norm(latents)], 1)
            latents, _ = block(latents, source=Source(tokens))
        y: Tensor = self.norm(latents)
        return y.view(batch, count, *y.shape[1:])
