"""EfficientNet-Lite0: a small network for images whose ImageNet weights come with a package (Tan & Le 2019; Lite 2020).

Inverted residual blocks (Sandler et al. 2018) without squeezing, ReLU6, padded as TensorFlow pads. Shapes: B batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.frozen import FrozenBatchNorm2d, normed

STEM, HEAD, EPS = 32, 1280, 1e-3
STAGES = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
CUT = {8: 3, 16: 5, 32: 7}
"""How many stages there are up to maps of a stride."""


def _norm(kind: str, width: int) -> nn.Module:
    return FrozenBatchNorm2d(width, EPS) if kind == "frozen" else nn.BatchNorm2d(width, EPS, momentum=0.01)


def _same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Padded so that a convolution of stride 2 gives half of the sides, rounded up: more behind than in front."""
    if conv.stride[0] == 1:
        return x
    sides = []
    for size, kernel in zip(x.shape[:-3:-1], conv.kernel_size[::-1], strict=True):
        total = max((-(-size // 2) - 1) * 2 + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)


def _conv(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width, out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)


class InvertedResidual(nn.Module):
    """Wider, filtered channel by channel, narrower again; a skip where nothing changes in size."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int, norm: str) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = _conv(width, inner, 1) if expansion > 1 else None
        self.expand_norm = _norm(norm, inner) if expansion > 1 else None
        self.depthwise, self.depthwise_norm = _conv(inner, inner, kernel, stride, inner), _norm(norm, inner)
        self.project, self.project_norm = _conv(inner, out, 1), _norm(norm, out)
        self.skip = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, height / stride, width / stride), rounded up."""
        h = x
        if self.expand is not None and self.expand_norm is not None:
            h = F.relu6(normed(self.expand, self.expand_norm, h))
        h = F.relu6(normed(self.depthwise, self.depthwise_norm, _same(h, self.depthwise)))
        h = normed(self.project, self.project_norm, h)
        return x + h if self.skip else h


class EfficientNetLiteNetwork(nn.Module):
    """(B, 3, height, width) -> (B, out, height / stride, width / stride), rounded up."""

    def __init__(self, config: EfficientNetLite, channels: int) -> None:
        super().__init__()
        self.out, self.stride = config.out, config.stride
        self.stem, self.stem_norm = _conv(channels, STEM, 3, 2), _norm(config.norm, STEM)
        width, blocks = STEM, []
        for kernel, stride, expansion, out, count in STAGES[: CUT[config.stride]]:
            for i in range(count):
                blocks.append(InvertedResidual(width, out, kernel, 1 if i else stride, expansion, config.norm))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv(width, HEAD, 1) if config.head else None
        self.head_norm = _norm(config.norm, HEAD) if config.head else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """The last feature maps."""
        x = self.blocks(F.relu6(normed(self.stem, self.stem_norm, _same(x, self.stem))))
        if self.head is None or self.head_norm is None:
            return x
        return F.relu6(normed(self.head, self.head_norm, x))


@dataclass(frozen=True)
class EfficientNetLite:
    """EfficientNet-Lite0, as far as is asked for."""

    norm: Literal["frozen", "batch"] = "frozen"
    """`frozen`: with the statistics of its weights, as averaged weights want."""
    stride: Literal[8, 16, 32] = 16
    """Pixels that one value of the last maps stands for; the stages behind are left out."""
    head: bool = False
    """The convolution to 1280 channels in front of its classifier; of stride 32."""

    def __post_init__(self) -> None:
        if self.head and self.stride != 32:
            raise ValueError(f"head: expected a stride of 32, behind which it is, found {self.stride}")

    @property
    def out(self) -> int:
        """Channels of the last feature maps."""
        return HEAD if self.head else STAGES[CUT[self.stride] - 1][3]

    def build(self, channels: int = 3) -> EfficientNetLiteNetwork:
        """The network without its classifier."""
        return EfficientNetLiteNetwork(self, channels)
