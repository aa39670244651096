"""DCGAN's generator: an image grown from a vector by transposed convolutions (Radford et al. 2016).

Shapes: B batch, Z width of the latent, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.flat import flat, flat_width


def halvings(height: int, width: int, least: int) -> int:
    """How often both sides can be halved with none falling below `least`; raises ValueError if not once.

    0 stands for an eighth of the smaller side, at least 2 and at most 4.
    """
    least, count = least or min(4, max(2, min(height, width) // 8)), 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * least:
        height, width, count = height // 2, width // 2, count + 1
    if not count:
        raise ValueError(f"shape: expected even sides of at least {2 * least}, found {height} x {width}")
    return count


def init_dcgan(module: nn.Module) -> None:
    """Convolutions N(0, 0.02), gains of norms N(1, 0.02), biases 0 (Radford et al. 2016, section 4)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=0.02)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) and part.bias is not None:
            nn.init.zeros_(part.bias)


@dataclass(frozen=True)
class Dcgan:
    """Transposed convolutions with batch norm and ReLU; the sides double from layer to layer, the channels halve."""

    width: int = 64
    """Channels of the last layer before the image."""
    least: int = 0
    """The image is halved down to this side or just above it, where z enters; 0: 2 to 4, by its size."""

    def build(self, *, latent: int, shape: tuple[int, ...], context: ContextSpec) -> DcganNet:
        """The network `(z (B, Z), ctx) -> x (B, C, height, width)` in (-1, 1)."""
        return DcganNet(self, latent, shape, context)


class DcganNet(nn.Module):
    """No norm at the output, tanh there; no biases, which the norms would undo."""

    def __init__(self, config: Dcgan, latent: int, shape: tuple[int, ...], context: ContextSpec) -> None:
        super().__init__()
        (channels, height, width), self.spec = shape, context
        count = halvings(height, width, config.least)
        size, wide = (height >> count, width >> count), config.width << (count - 1)
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent + flat_width(context), wide, size, bias=False)]
        for _ in range(count - 1):
            layers += [nn.BatchNorm2d(wide), nn.ReLU()]
            layers.append(nn.ConvTranspose2d(wide, wide // 2, 4, stride=2, padding=1, bias=False))
            wide //= 2
        layers += [nn.BatchNorm2d(wide), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(wide, channels, 4, stride=2, padding=1, bias=False))
        init_dcgan(self)

    def forward(self, z: Tensor, ctx: Context) -> Tensor:
        """x (B, C, height, width); what the context says stands beside z."""
        condition = torch.cat([z, *flat(ctx, self.spec)], 1)
        x: Tensor = self.layers(condition[:, :, None, None]).tanh()
        return x
