"""Critics: networks that score images, high for data.

Shapes: B batch, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.dcgan import halvings, init_dcgan


def _check_unconditional(context: ContextSpec) -> None:
    if context != ContextSpec():
        raise ValueError(f"context: this critic sees only the image, expected an empty context, found {context}")


@dataclass(frozen=True)
class DcganCritic:
    """The mirror image of DCGAN's generator: one score an image (Radford et al. 2016)."""

    width: int = 64
    """Channels of the first layer; they double from layer to layer."""
    least: int = 0
    """As the generator's; one last convolution sees all that is left."""
    norm: bool = True
    """Batch norm in all layers but the first and the last."""

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> DcganCriticNet:
        """The network `(x (B, C, height, width), ctx) -> scores (B,)`."""
        _check_unconditional(context)
        return DcganCriticNet(self, shape)


class DcganCriticNet(nn.Module):
    """Strided convolutions with LeakyReLU of slope 0.2."""

    def __init__(self, config: DcganCritic, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        count, wide = halvings(height, width, config.least), config.width
        layers: list[nn.Module] = [nn.Conv2d(channels, wide, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2)]
        for _ in range(count - 1):
            layers.append(nn.Conv2d(wide, 2 * wide, 4, stride=2, padding=1, bias=not config.norm))
            layers += [nn.BatchNorm2d(2 * wide)] if config.norm else []
            layers.append(nn.LeakyReLU(0.2))
            wide *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(wide, 1, (height >> count, width >> count), bias=False))
        init_dcgan(self)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """scores (B,)."""
        scores: Tensor = self.layers(x).flatten()
        return scores


@dataclass(frozen=True)
class PatchCritic:
    """PatchGAN: a score for each overlapping patch of the image (Isola et al. 2017; 70 x 70 with three layers)."""

    width: int = 64
    """Channels of the first layer; they double from layer to layer up to eight times as many."""
    layers: int = 3
    """Halvings; fewer where the image has no room for them."""

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> PatchCriticNet:
        """The network `(x (B, C, height, width), ctx) -> scores (B, rows, columns)`."""
        _check_unconditional(context)
        return PatchCriticNet(self, shape)


class PatchCriticNet(nn.Module):
    """4 x 4 convolutions, batch norm in all but the first and the last, LeakyReLU of slope 0.2."""

    def __init__(self, config: PatchCritic, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, side = shape[0], min(shape[1:])
        # The last two convolutions each take one row off.
        count = next((c for c in range(config.layers, 0, -1) if side >> c >= 3), 0)
        if count < 1:
            raise ValueError(f"shape: expected sides of at least 6, found {shape[1]} x {shape[2]}")
        layers: list[nn.Module] = [nn.Conv2d(channels, config.width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        wide = config.width
        for layer in range(1, count + 1):
            after, stride = config.width * min(2**layer, 8), 2 if layer < count else 1
            layers += [
                nn.Conv2d(wide, after, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
            wide = after
        self.layers = nn.Sequential(*layers, nn.Conv2d(wide, 1, 4, padding=1))
        init_dcgan(self)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """scores (B, rows, columns)."""
        scores: Tensor = self.layers(x).squeeze(1)
        return scores
