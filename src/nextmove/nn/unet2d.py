"""The U-Net of DDPM (Ho et al. 2020, appendix B) for images of any size.

Shapes: B batch, C channels, D width of the condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.attention import Attention
from nextmove.nn.dropout import Dropout
from nextmove.nn.embedding import Times
from nextmove.nn.flat import flat, flat_width
from nextmove.nn.product import Linear
from nextmove.nn.renamed import BEFORE_3, Renames


class ResidualBlock(nn.Module):
    """Twice norm, swish and convolution beside a skip; between the two the condition shifts.

    With `scale` it scales and shifts what the second norm gives instead (Dhariwal & Nichol 2021, equation 3).
    """

    RENAMED: ClassVar[dict[int, Renames]] = dict.fromkeys(BEFORE_3, ((r"^told\.", "modulation."),))

    def __init__(self, inputs: int, out: int, condition: int, config: UNet2d) -> None:
        super().__init__()
        self.scale = config.scale
        self.norm1, self.conv1 = norm(inputs, config.groups), nn.Conv2d(inputs, out, 3, padding=1)
        self.modulation = Linear(condition, out * (2 if config.scale else 1))
        self.norm2, self.conv2 = norm(out, config.groups), nn.Conv2d(out, out, 3, padding=1)
        self.dropout = Dropout(config.dropout)
        self.skip = nn.Conv2d(inputs, out, 1) if inputs != out else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, h, w) and the activated condition (B, D) -> (B, C', h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        modulation = self.modulation(condition)[..., None, None]
        if self.scale:
            scale, shift = modulation.chunk(2, 1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + modulation)
        y: Tensor = self.skip(x) + self.conv2(self.dropout(F.silu(h)))
        return y


class AttentionBlock(nn.Module):
    """x + attention among all places of norm(x)."""

    def __init__(self, width: int, config: UNet2d) -> None:
        super().__init__()
        self.norm, self.attention = norm(width, config.groups), Attention(width, config.heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        h = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        h = self.attention(h, h, h)[0]
        return x + h.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class Downsample(nn.Conv2d):
    """Halves height and width, rounding up, by a 3x3 convolution padded as TensorFlow's "same"."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, stride=2)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, ceil(h / 2), ceil(w / 2))."""
        # An even side is padded at its end only.
        top, left = (side % 2 for side in input.shape[2:])
        return super().forward(F.pad(input, (left, 1, top, 1)))


class Upsample(nn.Module):
    """Repeats every place, then convolves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """(B, C, h, w) -> (B, C, *size)."""
        y: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return y


class Stage(nn.Module):
    """ResidualBlock blocks at one resolution, each followed by attention where the level has it."""

    def __init__(self, widths: list[tuple[int, int]], condition: int, attend: bool, config: UNet2d) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(i, o, condition, config) for i, o in widths)
        self.attend = nn.ModuleList(AttentionBlock(o, config) if attend else nn.Identity() for _, o in widths)

    def forward(self, x: Tensor, condition: Tensor, beside: Sequence[Tensor] = ()) -> list[Tensor]:
        """What each block gives; `beside` is set beside the input of each."""
        found = []
        for k, (block, attend) in enumerate(zip(self.blocks, self.attend, strict=True)):
            x = attend(block(torch.cat([x, beside[k]], 1) if beside else x, condition))
            found.append(x)
        return found


class UNet(nn.Module):
    """(x (B, C, h, w), t, ctx) -> (B, out, h, w)."""

    RENAMED: ClassVar[dict[int, Renames]] = dict.fromkeys(BEFORE_3, ((r"^told\.", "condition."),))

    def __init__(self, config: UNet2d, shape: tuple[int, ...], out: int, times: int, context: ContextSpec) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"shape: expected (C, height, width), found {shape}")
        widths, first, D = [config.channels * m for m in config.multipliers], config.channels, 4 * config.channels
        given = flat_width(context)
        if not times and not given:
            raise ValueError("context: expected a time, a vector or tokens to be conditioned on, found none")
        self.spec, self.blocks = context, config.blocks
        self.times = Times(times, first, D, D, "silu") if times else None
        self.condition = Linear(given, D) if given and given != D else nn.Identity()
        self.input = nn.Conv2d(shape[0], first, 3, padding=1)
        attend = [i in config.attention for i in range(len(widths))]
        down, skips, last = [], [first], first
        for i, width in enumerate(widths):
            down.append(Stage([(last, width)] + [(width, width)] * (config.blocks - 1), D, attend[i], config))
            skips += [width] * (config.blocks + (i < len(widths) - 1))
            last = width
        self.down = nn.ModuleList(down)
        self.smaller = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.middle = Stage([(last, last)], D, True, config)
        self.bottom = ResidualBlock(last, last, D, config)
        up = []
        for i, width in reversed(list(enumerate(widths))):
            sizes = []
            for _ in range(config.blocks + 1):
                sizes.append((last + skips.pop(), width))
                last = width
            up.append(Stage(sizes, D, attend[i], config))
        self.up = nn.ModuleList(up)
        self.larger = nn.ModuleList(Upsample(width) for width in widths[:0:-1])
        self.norm, self.head = norm(last, config.groups), nn.Conv2d(last, out, 3, padding=1)
        init_scaled(self)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """y (B, out, h, w)."""
        condition = self._condition(t, ctx)
        skips = [self.input(x)]
        for i, level in enumerate(self.down):
            skips += level(skips[-1], condition)
            if i < len(self.smaller):
                skips.append(self.smaller[i](skips[-1]))
        h = self.bottom(self.middle(skips[-1], condition)[-1], condition)
        for i, level in enumerate(self.up):
            h = level(h, condition, [skips.pop() for _ in range(self.blocks + 1)])[-1]
            if skips:
                h = self.larger[i](h, skips[-1].shape[2:])
        y: Tensor = self.head(F.silu(self.norm(h)))
        return y

    def _condition(self, t: Tensor | None, ctx: Context) -> Tensor:
        """The activated condition (B, D): the time's, plus the context's."""
        parts = [] if self.times is None else [self.times(t)]
        given = flat(ctx, self.spec)
        if given:
            parts.append(self.condition(torch.cat(given, -1)))
        return F.silu(parts[0] if len(parts) == 1 else parts[0] + parts[1])


@dataclass(frozen=True)
class UNet2d:
    """Sizes of the U-Net; the defaults are the paper's for CIFAR-10 (35.7 M parameters)."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Channels of each level, in units of `channels`; each level halves the resolution of the one before."""
    blocks: int = 2
    """ResidualBlock blocks of a level on the way down; one more on the way up."""
    attention: tuple[int, ...] = (1,)
    """Levels, 0 the finest, with attention (the paper's 16x16 of 32x32); the middle always has it."""
    dropout: float = 0.1
    groups: int = 32
    """Groups of the group norms."""
    heads: int = 1
    scale: bool = False
    """Whether the condition scales as well as shifts."""

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> nn.Module:
        """The network; raises ValueError for channels that `groups` does not divide, or if a causal one is asked for.

        The condition (the context, flattened) is added to the time's embedding, as it is if it is 4 `channels` wide and
        else through a linear map.
        """
        if causal:
            raise ValueError("UNet2d: convolves over the whole image and cannot be causal")
        return UNet(self, shape, out, times, context)


def norm(width: int, groups: int) -> nn.GroupNorm:
    """The group norm of `width` channels."""
    if width % groups:
        raise ValueError(f"groups: expected a divisor of {width} channels, found {groups}")
    return nn.GroupNorm(groups, width, eps=1e-6)


def init_scaled(net: UNet) -> None:
    """The paper's start: uniform by fan-in and fan-out, biases 0, and what ends a residual branch or the net 0."""
    for part in net.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    ends: list[nn.Module] = [part.conv2 for part in net.modules() if isinstance(part, ResidualBlock)]
    ends += [part.attention.out_proj for part in net.modules() if isinstance(part, AttentionBlock)]
    for end in [*ends, net.head]:
        nn.init.zeros_(end.get_parameter("weight"))
