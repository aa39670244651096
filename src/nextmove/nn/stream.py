"""Blocks in a row over one stream of tokens.

Shapes: B batch, L tokens, P tokens remembered, W width, C width of a condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Cache
from nextmove.nn.attention import as_heads
from nextmove.nn.block import Adaptive, Block, Source, modulated
from nextmove.nn.mask import Mask
from nextmove.nn.rope import Rotary, rotate


class Stream(nn.Module):
    """Transformer blocks of one width, then a norm where there is one.

    A condition that steers the blocks shifts and scales what leaves the last norm too (DiT's final layer).
    """

    def __init__(self, blocks: Sequence[Block], *, norm: Any = None, rotary: Rotary | None = None) -> None:
        super().__init__()
        first = blocks[0]
        self.blocks = nn.ModuleList(block.build() for block in blocks)
        self.norm = None if norm is None else norm.build(first.width)
        adaptive = first.condition and norm is not None
        self.adaptive = Adaptive(first.condition, first.width, 1, 2) if adaptive else None
        self.rotary, self.head = rotary, as_heads(first.heads).settled(first.width).width

    def forward(
        self,
        x: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Mask = None,
        memory: Cache | None = None,
        position: Tensor | None = None,
        source: Source | None = None,
        condition: Tensor | None = None,
        remember: bool = True,
    ) -> tuple[Tensor, Cache]:
        """h (B, L, W) of x and, to `remember`, the keys and values of each layer, those of `memory` in front.

        positions: (L,) or, row by row, (B, L) integers for rotary positions; by default they go on from the memory's
        number of tokens. mask: over the P + L tokens (`nn.mask`). position: added to queries and keys; source: what is
        cross-attended to; condition: (B, C) or (B, L, C), activated. As of `TransformerBlock`.
        """
        turn, layers = self._turn(x, positions, memory), []
        for i, block in enumerate(self.blocks):
            cache = None if memory is None else memory[i]
            x, cache = block(
                x, mask=mask, cache=cache, rotate=turn, position=position, source=source, condition=condition
            )
            if remember:
                layers.append(cache)
        if self.norm is not None:
            x = self.norm(x)
        if self.adaptive is not None:
            x = modulated(x, self.adaptive(condition)[0])
        return x, tuple(layers)

    def _turn(self, x: Tensor, positions: Tensor | None, memory: Cache | None) -> Any:
        """The rotation of this call's queries and keys."""
        if self.rotary is None:
            return None
        if positions is None:
            before = 0 if memory is None else memory[0][0].shape[2]
            positions = torch.arange(before, before + x.shape[1], device=x.device)
        cosines, sines = self.rotary.angles(positions, self.head)
        return partial(rotate, cosines=cosines, sines=sines)
