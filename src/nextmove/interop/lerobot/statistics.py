"""Our scales as the statistics by which LeRobot's formulas give the same numbers: the way back of `Scaled.set`.

Shapes: D width of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nextmove.codecs import Scaled
from nextmove.codecs.joined import Joined
from nextmove.codecs.scaled import BUFFERS, STATISTICS

EPS = 1e-8
"""What LeRobot adds to a spread, and puts in place of a range of 0."""
FAR = 1e30
"""A spread beside which every number is nothing: how a constant, which is encoded as 0, is written."""


@dataclass(frozen=True)
class Columns:
    """The scale of one feature's columns, each number (D,) in float64."""

    mode: str
    shift: Tensor
    scale: Tensor
    offset: Tensor
    back_shift: Tensor
    back_scale: Tensor

    @property
    def forward(self) -> dict[str, Tensor]:
        """The statistics (D,) of the way into the model's space, empty for none."""
        constant = self.scale.isinf()
        if self.mode == "mean_std":
            return self._named(self.shift, torch.where(constant, FAR, self.scale - EPS))
        low = torch.where(constant, self.shift - FAR, self.shift)
        return self._named(low, torch.where(constant, self.shift + FAR, self.shift + 2 * self.scale))

    @property
    def back(self) -> dict[str, Tensor]:
        """The statistics (D,) of the way back."""
        if self.mode == "mean_std":
            return self._named(self.back_shift, self.back_scale)
        return self._named(self.back_shift, self.back_shift + 2 * self.back_scale)

    def _named(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        if self.mode == "identity":
            return {}
        return {key: value.float() for key, value in zip(STATISTICS[self.mode], (first, second), strict=True)}


def columns(scale: Scaled | Joined, widths: Mapping[str, int]) -> dict[str, Columns]:
    """The scales of features that lie side by side, by name."""
    codecs: Sequence[Scaled] = list(scale.parts) if isinstance(scale, Joined) else [scale]  # type: ignore[arg-type]
    found, places = {}, [(codec, i) for codec in codecs for i in range(codec.width)]
    for name, width in widths.items():
        own, places = places[:width], places[width:]
        numbers = [torch.stack([getattr(codec, buffer)[i] for codec, i in own]).double() for buffer in BUFFERS]
        found[name] = Columns(own[0][0].mode, *numbers)
    return found
