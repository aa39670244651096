"""Residual networks for images (He et al. 2016), and the expected place of each feature map.

Shapes: B batch, C channels, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)


def _norm(kind: str, width: int) -> nn.Module:
    # Groups of 16 channels as in Diffusion Policy (Chi et al. 2023): averaged weights do not suit batch norm.
    return nn.BatchNorm2d(width) if kind == "batch" else nn.GroupNorm(max(1, width // 16), width)


def _convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    # For maps of one value oneDNN leaves parts of the weight's gradient in bf16 unwritten (torch 2.13, avx512_bf16).
    if x.shape[-2:] == (1, 1) and torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = conv(x.float())
            return y
    y = conv(x)
    return y


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3 and a skip; parameters are named as torchvision's."""

    def __init__(self, width: int, out: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), _norm(norm, out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), _norm(norm, out)
        self.out = out
        self.downsample: nn.Module | None = None
        if stride != 1 or width != out:
            self.downsample = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), _norm(norm, out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, height / stride, width / stride)."""
        y = self.bn2(_convolved(self.conv2, F.relu(self.bn1(_convolved(self.conv1, x)))))
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(y + skip)


class ResidualNetwork(nn.Module):
    """(B, 3, height, width) -> (B, 512, height / 32, width / 32), rounded up."""

    def __init__(self, config: ResNet, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False), _norm(config.norm, 64)
        width = 64
        for i, (blocks, out) in enumerate(zip(BLOCKS[config.layers], WIDTHS, strict=True)):
            strides = [1 if i == 0 else 2] + [1] * (blocks - 1)
            stage = [BasicBlock(width if j == 0 else out, out, s, config.norm) for j, s in enumerate(strides)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
            width = out
        self.out = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def blocks(self) -> list[BasicBlock]:
        """The blocks of all stages in order."""
        return [block for i in range(len(WIDTHS)) for block in getattr(self, f"layer{i + 1}")]

    def stem(self, x: Tensor) -> Tensor:
        """What the first block reads, (B, 64, height / 4, width / 4), rounded up."""
        return F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The last stage's feature maps."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


class SpatialSoftmax(nn.Module):
    """Feature maps (B, C, height, width) -> (B, 2 K) expected x, y in [-1, 1] of K maps (Levine et al. 2016)."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.keypoints = nn.Conv2d(channels, keypoints, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """x0, y0, x1, y1, ..."""
        height, width = maps.shape[-2:]
        share = self.keypoints(maps).flatten(2).softmax(-1).unflatten(-1, (height, width))
        across = torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype)
        down = torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype)
        x, y = (share.sum(-2) * across).sum(-1), (share.sum(-1) * down).sum(-1)
        return torch.stack([x, y], -1).flatten(1)


@dataclass(frozen=True)
class ResNet:
    """Sizes of a residual network."""

    layers: Literal[18, 34] = 18
    norm: Literal["group", "batch"] = "group"

    def build(self, channels: int = 3) -> ResidualNetwork:
        """The network without its classifier."""
        return ResidualNetwork(self, channels)
