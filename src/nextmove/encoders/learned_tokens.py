"""Images to a few learned tokens a step, by which attention reads a history of images at little cost.

Shapes: B batch, T observation steps, S tokens, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Rng
from nextmove.encoders.camera import CameraEncoder
from nextmove.encoders.part import present
from nextmove.nn.embedding import table


class LearnedTokenEncoder(CameraEncoder):
    """Images (B, T, height, width, 3) by name -> tokens (B, S, W) with positions (S, W), step after step.

    Of each step the tokens of one camera after the other. What they are tokens of is learned, so their positions only
    tell how long ago they were (`nn.embedding.table`).
    """

    @property
    def each(self) -> int:
        """Tokens of a step."""
        return self.config.learned * len(self.cameras)

    def count(self, steps: int) -> int:
        """Tokens S of this many steps."""
        return steps * self.each

    def positions(self, steps: int) -> Tensor:
        """(S, W)."""
        like = next(p for p in self.parameters() if p.is_floating_point())
        return table(steps, self.width).flip(0).repeat_interleave(self.each, 0).to(like)

    def forward(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None = None) -> Tensor:
        """Tokens (B, S, W); those of an optional camera that is absent are zeros. Raises ValueError as the others."""
        there, found = present(inputs, self.inputs), []
        for i, name in enumerate(self.cameras):
            if name in there:
                found.append(
                    self.seen(i, inputs, batch, steps, rng).view(batch, steps, self.config.learned, self.width)
                )
            else:
                found.append(next(self.parameters()).new_zeros(batch, steps, self.config.learned, self.width))
        return torch.cat(found, 2).flatten(1, 2)
