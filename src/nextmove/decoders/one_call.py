"""What decoders have in common that call the network once and draw nothing in training.

The network reads only the context: x has width 0 and there is no time. Shapes: B batch, L positions (steps, or ids).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Rng
from nextmove.decoders.resampled import Resampled


class OneCall(Resampled, nn.Module):
    """A decoder around `net(x (B, L, 0), None, ctx) -> (B, L, out)`; subclasses add `loss_at`."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"net": "step"}

    def __init__(self, config: Any, net: nn.Module) -> None:
        super().__init__()
        self.config, self.net = config, net

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """`loss_at`; nothing is drawn."""
        return self.loss_at(ctx, x, weight=weight)

    @abstractmethod
    def loss_at(self, ctx: Context, x: Tensor, *, weight: Tensor | None = None) -> dict[str, Tensor]:
        """The loss terms of x by name, means over what `weight` counts."""

    def answer(self, ctx: Context, length: int) -> Tensor:
        """What the network answers, (B, L, out), in its dtype."""
        found: Tensor = self.net(self.nothing(ctx, length), None, ctx)
        return found

    def nothing(self, ctx: Context, length: int) -> Tensor:
        """x (B, L, 0) in the network's dtype, on its device."""
        weights = next((p for p in self.net.parameters() if p.is_floating_point()), torch.empty(0))
        return weights.new_empty(ctx.batch, length, 0)


def network(trunk: Any, length: int, out: int, context: ContextSpec) -> nn.Module:
    """The network of such a decoder for L positions."""
    net: nn.Module = trunk.build(shape=(length, 0), out=out, times=0, context=context, causal=False)
    return net
