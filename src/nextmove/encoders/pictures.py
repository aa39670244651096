"""Images as a network reads them: resized, cropped, recoloured and scaled, in training and acting by one class.

Shapes: B batch, T observation steps, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import Rng, uniform
from nextmove.contracts.pixels import resized

Values = Literal["imagenet", "imagenet-bf16", "clip", "symmetric", "efficientnet-lite", "unit"]
SCALES: dict[Values, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "imagenet-bf16": ((0.484375, 0.455078125, 0.40625), (0.228515625, 0.2236328125, 0.224609375)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "efficientnet-lite": ((127 / 255,) * 3, (128 / 255,) * 3),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""What is taken off values in [0, 1], and what they are divided by. ImageNet's and CLIP's are their images' mean and
deviation, ImageNet's those that published residual networks were trained with, and once more as OpenVLA's processor
has them, rounded to bf16; EfficientNet-Lite's are (x - 127) / 128 of 0 to 255."""
GRAY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a colour's lightness (ITU-R BT.601)."""
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Jitter:
    """How much colours change at random in training; 0: not at all."""

    brightness: float = 0.0
    """All values times a factor in 1 - this to 1 + this."""
    contrast: float = 0.0
    """Likewise the distances of all values from the image's mean lightness."""
    saturation: float = 0.0
    """Likewise the distances of colours from their own lightness."""
    hue: float = 0.0
    """Colours turned about grey by up to this share of a full turn."""

    def __bool__(self) -> bool:
        return any((self.brightness, self.contrast, self.saturation, self.hue))


class Pictures(nn.Module):
    """Images (B, T, height, width, C), uint8 or floating in [0, 1], -> (B T, C, h, w) as a network reads them.

    With an `rng` (training) crops and colours are drawn, the same for all steps of a row; without, the crop is the
    middle one. Resizing uint8 rounds to whole levels, as `contracts.pixels.resized` does where frames are kept. One
    affine map of the colours does brightness, contrast, saturation and hue, in this order and unclipped, and the
    scaling.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        resize: tuple[int, int] | None = None,
        crop: tuple[int, int] | None = None,
        jitter: Jitter | None = None,
        values: Values = "imagenet",
        whole: bool = True,
        averaged: bool = True,
    ) -> None:
        """whole: resize uint8 to whole levels; off, as floating values. averaged: as of `contracts.pixels.resized`."""
        super().__init__()
        self.resize, self.crop, self.jitter, self.whole = resize, crop, jitter or Jitter(), whole
        self.averaged, self.values = averaged, values
        mean, std = SCALES[values]
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that the network sees of an image of this size."""
        return self.crop or self.resize or (height, width)

    def forward(self, image: Tensor, rng: Rng | None = None) -> Tensor:
        """(B T, C, h, w); in memory the channels of a place lie side by side, which convolutions read fastest."""
        batch, steps = image.shape[:2]
        x = image.flatten(0, 1)
        top = 1.0 if x.is_floating_point() else 255.0
        if self.resize and tuple(x.shape[1:3]) != self.resize:
            x = resized(x if self.whole else x.to(self.mean), self.resize, averaged=self.averaged)
        x = self.cropped(x, batch, steps, rng)
        x = x.to(self.mean)
        if rng is not None and self.jitter:
            # Scaled by one map together with the change of colours.
            x = self.recoloured(x / top, batch, steps, rng)
        else:
            x = (x - top * self.mean) / (top * self.std)
        return x.permute(0, 3, 1, 2)

    def cropped(self, x: Tensor, batch: int, steps: int, rng: Rng | None) -> Tensor:
        """Images (B T, height, width, C): a part of each of the size asked for."""
        if self.crop is None:
            return x
        (height, width), rooms = self.crop, [x.shape[1] - self.crop[0], x.shape[2] - self.crop[1]]
        if rng is None:
            # Halves go to the even number, as in torchvision.
            down, across = round(rooms[0] / 2), round(rooms[1] / 2)
            return x[:, down : down + height, across : across + width]
        room = torch.tensor(rooms)
        places = (uniform((batch, 2), rng) * (room + 1)).long().clamp(max=room)
        rows = x.view(batch, steps, *x.shape[1:])
        return torch.cat([
            row[:, down : down + height, across : across + width]
            for row, (down, across) in zip(rows, places.tolist(), strict=True)
        ])  # fmt: skip

    def recoloured(self, x: Tensor, batch: int, steps: int, rng: Rng) -> Tensor:
        """Images (B T, height, width, C) with values in [0, 1], changed at random and scaled."""
        draws = (2 * uniform((batch, 4), rng) - 1).to(x).repeat_interleave(steps, 0)
        own = self.jitter
        bright, contrast, vivid = (
            1 + size * draws[:, i, None, None] for i, size in enumerate((own.brightness, own.contrast, own.saturation))
        )
        gray, one = x.new_tensor(GRAY), torch.eye(3, dtype=x.dtype, device=x.device)
        light = bright[:, 0] * (x.flatten(1, 2).mean(1) @ gray)[:, None]
        # Rows are colours: x A.
        saturate = vivid * one + (1 - vivid) * gray[:, None].expand(3, 3)
        turn = saturate @ _turned(2 * math.pi * own.hue * draws[:, 3])
        matrix = bright * contrast * turn / self.std
        shift = ((1 - contrast[:, 0]) * light)[:, None] * x.new_ones(3) @ turn
        return torch.baddbmm((shift - self.mean) / self.std, x.flatten(1, 2), matrix).view_as(x)


def _turned(angle: Tensor) -> Tensor:
    """Maps (N, 3, 3) of colours as rows that turn their hue by angles (N,), rad, lightness kept."""
    there = torch.tensor(_YIQ, dtype=torch.float64, device=angle.device)
    cos, sin, zero = angle.cos().double(), angle.sin().double(), torch.zeros_like(angle, dtype=torch.float64)
    turn = torch.stack([zero + 1, zero, zero, zero, cos, -sin, zero, sin, cos], -1).view(-1, 3, 3)
    return (there.inverse() @ turn @ there).mT.to(angle)
