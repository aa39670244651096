"""The transformer of `Gpt` over a chunk of numbers in place of ids: noisy actions with their time, or queries.

So one network generates actions in every way: one id after another, denoised, or named in one call. The context stands
in front, as it does before ids, and sees no action; actions see it and each other.

Shapes: B batch, H horizon, A action width, P tokens of the context, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context
from nextmove.nn.embedding import Times
from nextmove.nn.init import init_normal
from nextmove.nn.mask import CAUSAL, Mask, block_mask, extend_valid
from nextmove.nn.product import Linear


class ChunkGpt(nn.Module):
    """(x (B, H, A), t (B, times), ctx) -> (B, H, out)."""

    def __init__(self, language: Any, horizon: int, actions: int, times: int, causal: bool) -> None:
        """language: a `GptNet` of `horizon` places and one class for each number of an answer, whose embedding is
        exchanged: for a map of actions, or of none a query for each place. causal: actions see earlier ones alone."""
        super().__init__()
        if language.head is None:
            raise ValueError("head: expected biased or plain where numbers are generated, found tied")
        width = language.config.width
        self.net, self.actions, self.causal = language, actions, causal
        self.net.embedding = Linear(actions, width) if actions else nn.Embedding(horizon, width)
        self.times = Times(times, width) if times else None
        init_normal(self.net.embedding)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """x (B, H, A), A = 0 where queries stand for the actions -> (B, H, out)."""
        places = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        h = self.net.embed(x if self.actions else places)
        h = h if self.times is None else h + self.times(t)[:, None]
        h, _ = self.net.read_embedded(h, ctx, mask=self._mask(ctx, x.shape[1]))
        y: Tensor = self.net.logits(h)
        return y

    def _mask(self, ctx: Context, length: int) -> Mask:
        """The context sees all of itself, actions see both."""
        prefix = self.net.context.count(ctx)
        if self.causal or not prefix:
            return CAUSAL if self.causal else None
        place = next(self.net.context.parameters()).device
        valid = self.net.context.valid(ctx)
        valid = torch.ones(1, prefix, dtype=torch.bool, device=place) if valid is None else valid
        return block_mask(
            extend_valid(valid, after=length), (torch.arange(prefix + length, device=place) >= prefix).long()
        )
