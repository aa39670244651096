"""Networks that take an image to a small grid of vectors and back, for tokenizers.

Shapes: B batch, C channels, D width of a vector, h w sides of the grid, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.attention import Attention
from nextmove.nn.dcgan import halvings


class PlainBlock(nn.Module):
    """x + conv 1 x 1 (ReLU(conv 3 x 3 (ReLU(x)))) (van den Oord et al. 2017, section 4.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, h, w) -> (B, W, h, w)."""
        y: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return y


@dataclass(frozen=True)
class Strided:
    """Strided 4 x 4 convolutions and residual blocks, as in VQ-VAE (van den Oord et al. 2017, section 4.1)."""

    width: int = 256
    blocks: int = 2
    halvings: int = 2
    """Fewer where a side would fall below 4 or could not be halved."""

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Sides of the grid of an image."""
        count = min(self.halvings, halvings(height, width, 4))
        return height >> count, width >> count

    def build(self, *, shape: tuple[int, ...], latent: int) -> tuple[nn.Module, nn.Module]:
        """(B, C, height, width) -> (B, D, h, w) and back; the way back names its last convolution `last`."""
        count = min(self.halvings, halvings(shape[1], shape[2], 4))
        return StridedEncoder(self, shape[0], latent, count), StridedDecoder(self, shape[0], latent, count)


class StridedEncoder(nn.Module):
    """`count` halvings, residual blocks, a 1 x 1 convolution to D."""

    def __init__(self, config: Strided, channels: int, latent: int, count: int) -> None:
        super().__init__()
        widths = (channels, *[config.width] * count)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.blocks = nn.Sequential(*(PlainBlock(config.width) for _ in range(config.blocks)))
        self.last = nn.Conv2d(config.width, latent, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, height, width) -> (B, D, h, w)."""
        for i, layer in enumerate(self.down):
            x = layer(F.relu(x) if i else x)
        z: Tensor = self.last(F.relu(self.blocks(x)))
        return z


class StridedDecoder(nn.Module):
    """A 3 x 3 convolution, residual blocks, `count` doublings by transposed convolutions."""

    def __init__(self, config: Strided, channels: int, latent: int, count: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(latent, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(PlainBlock(config.width) for _ in range(config.blocks)))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(config.width, config.width, 4, stride=2, padding=1) for _ in range(count - 1)
        )
        self.last = nn.ConvTranspose2d(config.width, channels, 4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, C, height, width)."""
        x = self.blocks(self.first(z))
        for layer in self.up:
            x = layer(F.relu(x))
        y: Tensor = self.last(F.relu(x))
        return y


@dataclass(frozen=True)
class Residual:
    """Residual blocks with group norm and swish, attention where the image is small (Esser et al. 2021, appendix).

    The network of DDPM's U-Net, without its times and without the ways across.
    """

    width: int = 128
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Width of each level as a multiple of `width`; the image is halved between levels."""
    blocks: int = 2
    """Residual blocks a level on the way down; one more on the way up."""
    attention: tuple[int, ...] = (16,)
    """Heights of the levels with attention after each block; the middle always has it."""
    inner: int = 256
    """Channels at the ends of both networks, before a 1 x 1 convolution to D."""
    groups: int = 32

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Sides of the grid of an image; raises ValueError for one that cannot be halved as often."""
        count = len(self.multiples) - 1
        if height % (1 << count) or width % (1 << count):
            raise ValueError(f"shape: expected sides that {1 << count} divides, found {height} x {width}")
        return height >> count, width >> count

    def build(self, *, shape: tuple[int, ...], latent: int) -> tuple[nn.Module, nn.Module]:
        """(B, C, height, width) -> (B, D, h, w) and back; the way back names its last convolution `last`."""
        _ = self.grid(shape[1], shape[2])
        return ResidualEncoder(self, shape, latent), ResidualDecoder(self, shape, latent)


class NormBlock(nn.Module):
    """x + two 3 x 3 convolutions, each behind group norm and swish; x through a 1 x 1 one where the width changes."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, before, 1e-6), nn.GroupNorm(groups, after, 1e-6)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.past = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, after, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        y: Tensor = self.past(x) + self.conv2(F.silu(self.norm2(h)))
        return y


class AttentionBlock(nn.Module):
    """x + attention of every cell to every cell, one head."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.GroupNorm(groups, width, 1e-6), Attention(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, h, w) -> (B, W, h, w)."""
        h = self.norm(x).flatten(2).mT
        return x + self.attention(h, h, h)[0].mT.view_as(x)


class Downsample(nn.Module):
    """A 3 x 3 convolution of stride 2, padded right and below."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, h, w) -> (B, W, h / 2, w / 2)."""
        y: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return y


class Upsample(nn.Module):
    """Every cell four times, then a 3 x 3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, h, w) -> (B, W, 2 h, 2 w)."""
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


def _level(config: Residual, before: int, after: int, blocks: int, height: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i in range(blocks):
        layers.append(NormBlock(before if i == 0 else after, after, config.groups))
        layers += [AttentionBlock(after, config.groups)] if height in config.attention else []
    return layers


def _middle(config: Residual, width: int) -> list[nn.Module]:
    block = NormBlock(width, width, config.groups), NormBlock(width, width, config.groups)
    return [block[0], AttentionBlock(width, config.groups), block[1]]


class ResidualEncoder(nn.Module):
    """Levels of residual blocks with a halving between them, the middle, convolutions to `inner` and to D."""

    def __init__(self, config: Residual, shape: tuple[int, ...], latent: int) -> None:
        super().__init__()
        widths = [config.width * m for m in (1, *config.multiples)]
        layers: list[nn.Module] = [nn.Conv2d(shape[0], config.width, 3, padding=1)]
        for i, (before, after) in enumerate(pairwise(widths)):
            layers += [Downsample(before)] if i else []
            layers += _level(config, before, after, config.blocks, shape[1] >> i)
        layers += [*_middle(config, widths[-1]), nn.GroupNorm(config.groups, widths[-1], 1e-6), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], config.inner, 3, padding=1))
        self.last = nn.Conv2d(config.inner, latent, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, height, width) -> (B, D, h, w)."""
        z: Tensor = self.last(self.layers(x))
        return z


class ResidualDecoder(nn.Module):
    """The way back: one residual block a level more, doublings in place of halvings."""

    def __init__(self, config: Residual, shape: tuple[int, ...], latent: int) -> None:
        super().__init__()
        widths = [config.width * m for m in (*config.multiples, config.multiples[-1])][::-1]
        layers: list[nn.Module] = [nn.Conv2d(latent, config.inner, 1), nn.Conv2d(config.inner, widths[0], 3, padding=1)]
        layers += _middle(config, widths[0])
        for i, (before, after) in enumerate(pairwise(widths)):
            layers += [Upsample(before)] if i else []
            layers += _level(config, before, after, config.blocks + 1, shape[1] >> (len(widths) - 2 - i))
        self.layers = nn.Sequential(*layers, nn.GroupNorm(config.groups, widths[-1], 1e-6), nn.SiLU())
        self.last = nn.Conv2d(widths[-1], shape[0], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, C, height, width)."""
        y: Tensor = self.last(self.layers(z))
        return y
