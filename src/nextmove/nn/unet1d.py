"""The conditional 1-D U-Net of Diffusion Policy (Chi et al. 2023).

Shapes: B batch, H horizon, A action width, C channels, D width of the condition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.conv import Conv1d, Upsample1d
from nextmove.nn.embedding import Times
from nextmove.nn.flat import flat, flat_width
from nextmove.nn.mish import Mish
from nextmove.nn.product import Linear


class ConvBlock(nn.Sequential):
    """Convolution, group norm, Mish: (B, C, H) -> (B, C', H)."""

    def __init__(self, inputs: int, out: int, kernel: int, groups: int) -> None:
        super().__init__(Conv1d(inputs, out, kernel, padding=kernel // 2), nn.GroupNorm(groups, out), Mish())


class FilmBlock(nn.Module):
    """Two convolution blocks with a residual; the condition shifts, and scales, what the first gives.

    The scale multiplies as it is, not as 1 + scale.
    """

    def __init__(self, inputs: int, out: int, condition: int, kernel: int, groups: int, scale: bool) -> None:
        super().__init__()
        self.scale = scale
        self.first = ConvBlock(inputs, out, kernel, groups)
        self.second = ConvBlock(out, out, kernel, groups)
        self.film = Linear(condition, out * (2 if scale else 1))
        self.skip = Conv1d(inputs, out, 1) if inputs != out else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H) and the activated condition (B, D) -> (B, C', H)."""
        film = self.film(condition)[..., None]
        h = self.first(x)
        if self.scale:
            scale, bias = film.chunk(2, 1)
            h = torch.addcmul(bias, scale, h)
        else:
            h = h + film
        y: Tensor = self.second(h) + self.skip(x)
        return y


class Stage(nn.Module):
    """Two FiLM blocks and a change of resolution."""

    def __init__(self, inputs: int, out: int, resample: nn.Module, film: tuple[int, int, int, bool]) -> None:
        super().__init__()
        self.first, self.second = FilmBlock(inputs, out, *film), FilmBlock(out, out, *film)
        self.resample = resample

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The result before and after the change of resolution."""
        x = self.second(self.first(x, condition), condition)
        return x, self.resample(x)


class UNet(nn.Module):
    """(x (B, H, A), t, ctx) -> (B, H, out)."""

    def __init__(self, config: UNet1d, shape: tuple[int, ...], out: int, times: int, context: ContextSpec) -> None:
        super().__init__()
        widths, factor = config.widths, 2 ** (len(config.widths) - 1)
        if shape[0] % factor:
            raise ValueError(f"horizon: expected a multiple of {factor} for {len(widths)} levels, found {shape[0]}")
        self.times = Times(times, config.time_width) if times else None
        # A network that only reads the context starts from one learnt channel.
        self.start = None if shape[1] else nn.Parameter(torch.randn(1, 1, shape[0]))
        condition = (config.time_width if times else 0) + flat_width(context)
        if not condition:
            raise ValueError("context: expected a time, a vector or tokens to be conditioned on, found none")
        self.spec = context
        film = (condition, config.kernel, config.groups, config.scale)
        down, last = [], shape[1] or 1
        for i, width in enumerate(widths):
            bottom = i == len(widths) - 1
            down.append(Stage(last, width, nn.Identity() if bottom else Conv1d(width, width, 3, 2, 1), film))
            last = width
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleList(FilmBlock(last, last, *film) for _ in range(2))
        self.up = nn.ModuleList(
            Stage(2 * wide, narrow, Upsample1d(narrow), film)
            for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.final = ConvBlock(widths[0], widths[0], config.kernel, config.final_groups)
        self.head = Conv1d(widths[0], out, 1)
        self.activate = Mish()

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """y (B, H, out)."""
        return self.with_levels(x, t, ctx)[0]

    def with_levels(self, x: Tensor, t: Tensor | None, ctx: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """y (B, H, out), and what each level but the last gave on the way down, (B, C, H'), finest first."""
        parts = flat(ctx, self.spec)
        if self.times is not None:
            parts = [self.times(t), *parts]
        condition = self.activate(torch.cat(parts, -1))
        h = x.transpose(1, 2) if self.start is None else self.start.expand(len(x), -1, -1)
        skips = []
        for level in self.down:
            skip, h = level(h, condition)
            skips.append(skip)
        levels = tuple(skips[:-1])
        for block in self.middle:
            h = block(h, condition)
        # The skip of the finest level is never used, as published.
        for level in self.up:
            _, h = level(torch.cat([h, skips.pop()], 1), condition)
        y: Tensor = self.head(self.final(h)).transpose(1, 2)
        return y, levels


@dataclass(frozen=True)
class UNet1d:
    """Sizes of the conditional 1-D U-Net; the defaults are the paper's for low-dimensional observations."""

    widths: tuple[int, ...] = (256, 512, 1024)
    kernel: int = 5
    groups: int = 8
    time_width: int = 256
    final_groups: int = 8
    scale: bool = True
    """Whether the condition scales as well as shifts."""

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd number of taps, found {self.kernel}")
        for name in ("groups", "final_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not self.widths or any(width < 1 or width % self.groups for width in self.widths):
            raise ValueError(f"widths: expected multiples of groups, {self.groups}, found {list(self.widths)}")
        if self.widths[0] % self.final_groups:
            raise ValueError(
                f"final_groups: expected a divisor of the first of widths, {self.widths[0]}, found {self.final_groups}"
            )

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> nn.Module:
        """The network; raises ValueError for a horizon it cannot halve, or where a causal one is asked for."""
        if causal:
            raise ValueError("UNet1d: convolves over the whole chunk and cannot be causal")
        return UNet(self, shape, out, times, context)
