"""Codecs side by side: columns of one tensor that are scaled in different ways.

Shapes: D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nextmove.codecs.scaled import Scaled


class Joined(nn.Module):
    """The first `parts[0].width` columns go through the first codec, the next through the second, and so on."""

    def __init__(self, parts: Sequence[Scaled]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.widths = [part.width for part in parts]

    @property
    def width(self) -> int:
        """Columns of all codecs together."""
        return sum(self.widths)

    def encode(self, raw: Tensor) -> Tensor:
        """Data (..., D) to model space."""
        return self._each(raw, lambda part: part.encode)

    def decode(self, x: Tensor) -> Tensor:
        """Model space (..., D) to data."""
        return self._each(x, lambda part: part.decode)

    def _each(self, values: Tensor, way: Callable[[Scaled], Callable[[Tensor], Tensor]]) -> Tensor:
        if values.shape[-1] != self.width:
            raise ValueError(f"values: expected width {self.width}, found {values.shape[-1]}")
        pieces = zip(self.parts, torch.split(values, self.widths, -1), strict=True)
        return torch.cat([way(part)(piece) for part, piece in pieces], -1)  # type: ignore[arg-type]
