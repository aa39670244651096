"""A small residual network for images of about 100 px that a few CPU cores can train."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from nextmove.nn.resnet import BasicBlock, Norm, norm_of


class SmallResidualNetwork(nn.Module):
    """(B, 3, height, width) -> (B, C, height / 2^n, width / 2^n), rounded up, for n widths; C is the last of them."""

    def __init__(self, config: SmallResNet, channels: int) -> None:
        super().__init__()
        width = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 5, 2, 2, bias=False), norm_of(config.norm, width), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        for i, out in enumerate(config.widths):
            blocks += [BasicBlock(width, out, 1 if i == 0 else 2, config.norm)]
            blocks += [BasicBlock(out, out, 1, config.norm) for _ in range(config.blocks - 1)]
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.out = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def first(self, x: Tensor) -> Tensor:
        """What the blocks read."""
        y: Tensor = self.stem(x)
        return y

    def last(self, x: Tensor) -> Tensor:
        """The feature maps: what the last block gave."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The last stage's feature maps."""
        y: Tensor = self.blocks(self.first(x))
        return self.last(y)


@dataclass(frozen=True)
class SmallResNet:
    """Sizes: the stem and the stages halve the image as often as there are widths."""

    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    """Residual blocks of each stage."""
    norm: Norm = "group"

    @property
    def stride(self) -> int:
        """Pixels that one value of the last feature maps stands for, along each side."""
        return 2 ** len(self.widths)

    @property
    def out(self) -> int:
        """Channels of the last feature maps."""
        return self.widths[-1]

    def build(self, channels: int = 3) -> SmallResidualNetwork:
        """The network without a classifier."""
        return SmallResidualNetwork(self, channels)
