"""EfficientNets (Tan & Le 2019) and EfficientNet-Lite0 (Lite 2020), whose ImageNet weights come with a package.

Inverted residual blocks (Sandler et al. 2018), in the former with channels weighed by their means (Hu et al. 2018).
Shapes: B batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.frozen import FrozenBatchNorm2d, convolved, normed

STEM, HEAD, EPS = 32, 1280, 1e-3
STAGES = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
CUT = {8: 3, 16: 5, 32: 7}
"""How many stages there are up to maps of a stride."""
Norm = Literal["frozen", "batch", "group"]
Padding = Literal["same", "even"]


@dataclass(frozen=True)
class Plan:
    """What a network of this kind is made of."""

    stem: int
    stages: tuple[tuple[int, int, int, int, int], ...]
    """As `STAGES`."""
    head: int
    """Channels of the convolution behind the last stage; 0 = none."""
    norm: Norm
    squeeze: float = 0.0
    """Channels that the weights of channels are computed through, as a share of those that enter a block; 0 = none."""
    swish: bool = False
    """Swish in place of ReLU6."""
    padding: Padding = "same"

    @property
    def out(self) -> int:
        """Channels of the last feature maps."""
        return self.head or self.stages[-1][3]

    def activated(self, x: Tensor) -> Tensor:
        """The activation of x."""
        return F.silu(x) if self.swish else F.relu6(x)

    def normed(self, width: int) -> nn.Module:
        """A norm of maps."""
        if self.norm == "group":
            return nn.GroupNorm(width // 8, width, EPS)
        return FrozenBatchNorm2d(width, EPS) if self.norm == "frozen" else nn.BatchNorm2d(width, EPS, momentum=0.01)

    def padded(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """x as a convolution of stride 2 wants it: more behind than in front."""
        if conv.stride[0] == 1:
            return x
        sides = []
        for size, kernel in zip(x.shape[:-3:-1], conv.kernel_size[::-1], strict=True):
            total = kernel - 2 if self.padding == "even" else max((-(-size // 2) - 1) * 2 + kernel - size, 0)
            sides += [total // 2, total - total // 2]
        return F.pad(x, sides)


def _conv(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width, out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)


class Squeeze(nn.Module):
    """Maps (B, C, height, width) times a number in (0, 1) for each channel, from the means of all channels."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        means = x.mean((2, 3), keepdim=True)
        inner = F.silu(convolved(self.reduce, means, self.reduce.weight, self.reduce.bias))
        return x * convolved(self.expand, inner, self.expand.weight, self.expand.bias).sigmoid()


class InvertedResidual(nn.Module):
    """Wider, filtered channel by channel, narrower again; a skip where nothing changes in size."""

    def __init__(self, plan: Plan, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.plan, self.out = plan, out
        self.expand = _conv(width, inner, 1) if expansion > 1 else None
        self.expand_norm = plan.normed(inner) if expansion > 1 else None
        self.depthwise, self.depthwise_norm = _conv(inner, inner, kernel, stride, inner), plan.normed(inner)
        self.squeeze = Squeeze(inner, max(1, int(width * plan.squeeze))) if plan.squeeze else None
        self.project, self.project_norm = _conv(inner, out, 1), plan.normed(out)
        self.skip = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, height / stride, width / stride)."""
        h, plan = x, self.plan
        if self.expand is not None and self.expand_norm is not None:
            h = plan.activated(normed(self.expand, self.expand_norm, h))
        h = plan.activated(normed(self.depthwise, self.depthwise_norm, plan.padded(h, self.depthwise)))
        h = h if self.squeeze is None else self.squeeze(h)
        h = normed(self.project, self.project_norm, h)
        return x + h if self.skip else h


class EfficientNetNetwork(nn.Module):
    """(B, 3, height, width) -> (B, out, height / stride, width / stride)."""

    def __init__(self, plan: Plan, stride: int, channels: int) -> None:
        super().__init__()
        self.plan, self.out, self.stride = plan, plan.out, stride
        self.stem, self.stem_norm = _conv(channels, plan.stem, 3, 2), plan.normed(plan.stem)
        width, blocks = plan.stem, []
        for kernel, step, expansion, out, count in plan.stages:
            for i in range(count):
                blocks.append(InvertedResidual(plan, width, out, kernel, 1 if i else step, expansion))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv(width, plan.head, 1) if plan.head else None
        self.head_norm = plan.normed(plan.head) if plan.head else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def first(self, x: Tensor) -> Tensor:
        """What the first block reads."""
        return self.plan.activated(normed(self.stem, self.stem_norm, self.plan.padded(x, self.stem)))

    def last(self, x: Tensor) -> Tensor:
        """What becomes of the last block's maps."""
        if self.head is None or self.head_norm is None:
            return x
        return self.plan.activated(normed(self.head, self.head_norm, x))

    def forward(self, x: Tensor) -> Tensor:
        """The last feature maps."""
        return self.last(self.blocks(self.first(x)))


class EfficientNetLiteNetwork(EfficientNetNetwork):
    """That of EfficientNet-Lite0, whose sizes are rounded up where a stride does not divide them."""


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
        _check_head(self.head, self.stride)

    @property
    def plan(self) -> Plan:
        """What it is made of."""
        return Plan(STEM, STAGES[: CUT[self.stride]], HEAD if self.head else 0, self.norm)

    @property
    def out(self) -> int:
        """Channels of the last feature maps."""
        return self.plan.out

    def build(self, channels: int = 3) -> EfficientNetLiteNetwork:
        """The network without its classifier."""
        return EfficientNetLiteNetwork(self.plan, self.stride, channels)


@dataclass(frozen=True)
class EfficientNet:
    """An EfficientNet by its factors of width and depth, as far as is asked for; the defaults are B3's.

    Channels are B0's times `width`, to the nearest multiple of 8 that takes no tenth off; blocks of a stage B0's times
    `depth`, rounded up (Tan & Le 2019, section 4).
    """

    width: float = 1.2
    depth: float = 1.4
    norm: Norm = "batch"
    """`frozen`: batch norm with constant statistics; `group`: of groups of 8 channels, for small networks that are
    trained from scratch and whose weights are averaged."""
    stride: Literal[8, 16, 32] = 32
    """Pixels that one value of the last maps stands for; the stages behind are left out."""
    head: bool = True
    """The convolution in front of its classifier; of stride 32."""
    padding: Padding = "even"
    """In front of a stride of 2: `same` as many values as half of the side, rounded up; `even` as if it were
    even, rounded down: RT-1's, which is built before the size is known."""

    def __post_init__(self) -> None:
        _check_head(self.head, self.stride)
        for name in ("width", "depth"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, found {getattr(self, name)}")

    @property
    def plan(self) -> Plan:
        """What it is made of."""
        stages = tuple(
            (kernel, stride, expansion, self._channels(out), math.ceil(count * self.depth))
            for kernel, stride, expansion, out, count in STAGES[: CUT[self.stride]]
        )
        head = self._channels(HEAD) if self.head else 0
        return Plan(self._channels(STEM), stages, head, self.norm, 0.25, True, self.padding)

    @property
    def out(self) -> int:
        """Channels of the last feature maps."""
        return self.plan.out

    def build(self, channels: int = 3) -> EfficientNetNetwork:
        """The network without its classifier."""
        return EfficientNetNetwork(self.plan, self.stride, channels)

    def _channels(self, count: int) -> int:
        wanted = count * self.width
        nearest = max(8, int(wanted + 4) // 8 * 8)
        return nearest + 8 if nearest < 0.9 * wanted else nearest


def _check_head(head: bool, stride: int) -> None:
    if head and stride != 32:
        raise ValueError(f"head: expected a stride of 32, behind which it is, found {stride}")
