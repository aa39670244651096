"""Dropout that costs no more than a product."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout` whose masks are drawn eight at a time: one random byte a value, `p` rounded to a 256th.

    Drawing a float each takes longer on a CPU than the layers around it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The same shape."""
        dropped = round(self.p * 256)
        if not self.training or not dropped or dropped == 256 or input.device.type != "cpu":
            return super().forward(input)
        words = torch.empty((input.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: input.numel()].view(input.shape) >= dropped
        return input * kept.to(input.dtype).mul_(256 / (256 - dropped))
