"""Residual networks for images (He et al. 2016), and the expected place of each feature map.

Shapes: B batch, C channels, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.frozen import FrozenBatchNorm2d, convolved, normed

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)
DEEP = 50
"""Layers from which on blocks are bottlenecks."""
Norm = Literal["group", "batch", "frozen"]


def norm_of(kind: Norm, width: int) -> nn.Module:
    """The norm of maps with `width` channels."""
    if kind == "frozen":
        return FrozenBatchNorm2d(width)
    # Groups of 16 channels as in Diffusion Policy (Chi et al. 2023): averaged weights do not suit batch norm.
    return nn.BatchNorm2d(width) if kind == "batch" else nn.GroupNorm(max(1, width // 16), width)


class ResidualBlock(nn.Module):
    """A skip around convolutions; parameters are named as torchvision's."""

    def __init__(self, width: int, out: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.out = out
        self.downsample: nn.Module | None = None
        if stride != 1 or width != out:
            self.downsample = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), norm_of(norm, out))

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the skip, (B, out, height / stride, width / stride)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, height / stride, width / stride)."""
        skip = x if self.downsample is None else normed(self.downsample[0], self.downsample[1], x)  # type: ignore[index]
        return F.relu(self.branch(x) + skip, inplace=True)


class BasicBlock(ResidualBlock):
    """Two convolutions of 3 x 3."""

    def __init__(self, width: int, out: int, stride: int, norm: Norm) -> None:
        super().__init__(width, out, stride, norm)
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), norm_of(norm, out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), norm_of(norm, out)

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the skip."""
        return normed(self.conv2, self.bn2, F.relu(normed(self.conv1, self.bn1, x), inplace=True))


class Bottleneck(ResidualBlock):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1, the middle one a quarter as wide."""

    def __init__(self, width: int, out: int, stride: int, norm: Norm, dilation: int = 1) -> None:
        super().__init__(width, out, stride, norm)
        inner = out // 4
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1, bias=False), norm_of(norm, inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = norm_of(norm, inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, out, 1, bias=False), norm_of(norm, out)

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the skip."""
        x = F.relu(normed(self.conv1, self.bn1, x), inplace=True)
        x = F.relu(normed(self.conv2, self.bn2, x), inplace=True)
        return normed(self.conv3, self.bn3, x)


class ResidualNetwork(nn.Module):
    """(B, 3, height, width) -> (B, out, height / stride, width / stride), rounded up."""

    def __init__(self, config: ResNet, channels: int) -> None:
        super().__init__()
        self.stride = config.stride
        self.conv1, self.bn1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False), norm_of(config.norm, 64)
        width = 64
        for i, (blocks, inner) in enumerate(zip(BLOCKS[config.layers], WIDTHS, strict=True)):
            stage: list[nn.Module] = []
            dilated = config.dilate and i == len(WIDTHS) - 1
            for j in range(blocks):
                stride = 1 if i == 0 or j or dilated else 2
                if config.layers < DEEP:
                    stage.append(BasicBlock(width, inner, stride, config.norm))
                    width = inner
                else:
                    stage.append(Bottleneck(width, 4 * inner, stride, config.norm, 2 if dilated and j else 1))
                    width = 4 * inner
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.out = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def blocks(self) -> list[ResidualBlock]:
        """The blocks of all stages in order."""
        return [block for i in range(len(WIDTHS)) for block in getattr(self, f"layer{i + 1}")]

    def first(self, x: Tensor) -> Tensor:
        """What the first block reads, (B, 64, height / 4, width / 4), rounded up."""
        return F.max_pool2d(F.relu(normed(self.conv1, self.bn1, x), inplace=True), 3, 2, 1)

    def last(self, x: Tensor) -> Tensor:
        """What becomes of the last block's maps: nothing more."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The last stage's feature maps."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


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


class MapTokens(nn.Module):
    """Feature maps (B, C, height, width) -> (B, height width, W), a token a place, row by row (Carion et al. 2020)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Each place's channels by one linear map."""
        return convolved(self.projection, maps, self.projection.weight, self.projection.bias).flatten(2).mT


@dataclass(frozen=True)
class ResNet:
    """Sizes of a residual network."""

    layers: Literal[18, 34, 50, 101, 152] = 18
    norm: Norm = "group"
    """`frozen`: batch norm whose statistics and gains are constants, for weights that come with them."""
    dilate: bool = False
    """The last stage keeps its stride out and dilates instead, so that maps are twice as fine; 50 layers or more."""

    def __post_init__(self) -> None:
        if self.dilate and self.layers < DEEP:
            raise ValueError(
                f"dilate: expected at least {DEEP} layers, whose blocks can be dilated, found {self.layers}"
            )

    @property
    def stride(self) -> int:
        """Pixels that one value of the last feature maps stands for, along each side."""
        return 16 if self.dilate else 32

    @property
    def out(self) -> int:
        """Channels of the last feature maps."""
        return WIDTHS[-1] if self.layers < DEEP else 4 * WIDTHS[-1]

    def build(self, channels: int = 3) -> ResidualNetwork:
        """The network without its classifier."""
        return ResidualNetwork(self, channels)
