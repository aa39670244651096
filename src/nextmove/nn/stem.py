"""Convolutions in front of a vision transformer, in place of one product with each patch (Xiao et al. 2021).

A patch of raw pixels is a poor word: what is small, as a cube 5 px wide is, falls apart at the borders of patches and
is learned anew for each of its places in one. Convolutions of stride 2 that overlap see it alike everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEM = (24, 48, 96, 128)
"""Widths of the small towers', for patches of 16 px."""


class Stem(nn.Sequential):
    """Images (B, channels, height, width) -> maps (B, out, height / patch, width / patch).

    A 3 x 3 convolution of stride 2 with a ReLU for each of `widths`, and one whose kernel is what is left of the patch,
    1 x 1 as published. Left out are the batch norms of the paper: a stem of four learns without, and images do not
    depend on those beside them.

    Raises:
        ValueError: The patch's side, px, is no multiple of 2 to the number of widths.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], out: int, patch: int, *, bias: bool = True) -> None:
        left, rest = divmod(patch, 2 ** len(widths))
        if rest or not left:
            raise ValueError(
                f"stem: expected widths whose strides of 2 divide the patch, found {len(widths)} of them for a patch "
                f"of {patch} px"
            )
        layers: list[nn.Module] = []
        for before, width in zip((channels, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.ReLU()]
            nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layers[-2].bias)  # type: ignore[arg-type]
        super().__init__(*layers, nn.Conv2d(widths[-1], out, left, left, bias=bias))

    def forward(self, input: Tensor) -> Tensor:
        """The maps; pixels are laid out channel by channel last, in which CPUs convolve faster."""
        x = input.contiguous(memory_format=torch.channels_last)
        for layer in self:
            x = layer(x)
        return x
