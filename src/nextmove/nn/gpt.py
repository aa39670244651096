"""GPT: a causal transformer over ids, with the context in front and keys and values kept (Radford et al. 2019).

Letters: B batch, L ids, K classes, P tokens of the context, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import Cache, Context, ContextSpec
from nextmove.nn.attention import Attention, KeyValue
from nextmove.nn.layers import kept
from nextmove.nn.rope import rotary, rotate
from nextmove.nn.transformer import Told, init_normal


@dataclass(frozen=True)
class Gpt:
    """A language model over class indices."""

    width: int = 192
    layers: int = 4
    heads: int = 4
    dropout: float = 0.0
    positions: Literal["learned", "rotary"] = "learned"

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec) -> GptNet:
        """The network (ids (B, L), ctx, cache) -> (logits (B, L, K), cache); the id `classes` is the start symbol.

        With learned positions a sequence, the start symbol counted, has at most `length` ids.
        """
        return GptNet(self, length, classes, context)


class Block(nn.Module):
    """Pre-norm causal self-attention, then feed-forward."""

    def __init__(self, config: Gpt) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.dropout)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gelu, self.dropout = nn.GELU("tanh"), nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, keep: Tensor | None, cache: KeyValue | None, angles: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, KeyValue]:
        """x (B, L, W), keep (B, all tokens so far) bool -> the same, and all keys and values so far."""
        h = self.norm1(x)
        turn = None if angles is None else partial(rotate, cosines=angles[0], sines=angles[1])
        y, cache = self.attention(h, h, h, keep=keep, causal=True, cache=cache, rotate=turn)
        x = x + self.dropout(y)
        return x + self.dropout(self.down(self.gelu(self.up(self.norm2(x))))), cache


class GptNet(nn.Module):
    """[context, ids] through causal blocks; logits for the ids."""

    def __init__(self, config: Gpt, length: int, classes: int, context: ContextSpec) -> None:
        super().__init__()
        if config.positions not in ("learned", "rotary"):
            raise ValueError(f"positions: expected learned or rotary, found {config.positions!r}")
        self.config, self.length = config, length
        self.told = Told(context, config.width)
        self.embedding = nn.Embedding(classes + 1, config.width)
        self.position = nn.Parameter(torch.empty(length, config.width)) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm, self.head = nn.LayerNorm(config.width), nn.Linear(config.width, classes)
        self.dropout = nn.Dropout(config.dropout)
        init_normal(self)
        if self.position is not None:
            nn.init.normal_(self.position, std=0.02)
        for name, weight in self.blocks.named_parameters():
            if name.endswith(("out_proj.weight", "down.weight")):
                # What the blocks add to the residual stream keeps its size at any depth.
                nn.init.normal_(weight, std=0.02 / (2 * config.layers) ** 0.5)

    def forward(self, ids: Tensor, ctx: Context, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """ids (B, L) in 0..K, logits (B, L, K) of the id after each, and the cache that the next call goes on from.

        The context is read only without a cache; its mask is needed at every call.
        """
        prefix = self.told.count(ctx)
        before = 0 if cache is None else cache[0][0].shape[2] - prefix
        x = self._embed(ids, before)
        if cache is None and prefix:
            x = torch.cat([self.told(ctx).to(x), x], 1)
        keep = self._keep(ctx, before + ids.shape[1])
        angles = self._angles(x, before + ids.shape[1])
        x, kept_layers = self.dropout(x), []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, keep, None if cache is None else cache[i], angles)
            kept_layers.append(layer)
        logits: Tensor = self.head(self.norm(x[:, -ids.shape[1] :]))
        return logits, tuple(kept_layers)

    def _embed(self, ids: Tensor, before: int) -> Tensor:
        """(B, L, W), position i of an id being the number of ids before it."""
        x: Tensor = self.embedding(ids)
        if self.position is None:
            return x
        if before + ids.shape[1] > self.length:
            raise ValueError(f"ids: expected at most {self.length} in a sequence, found {before + ids.shape[1]}")
        return x + self.position[before : before + ids.shape[1]]

    def _keep(self, ctx: Context, ids: int) -> Tensor | None:
        """Which of [context, all ids so far] may be attended to; None if all."""
        keep = kept(ctx.mask if self.told.token is not None else None, self.told.first, ctx.batch)
        return None if keep is None else torch.cat([keep, keep.new_ones(ctx.batch, ids)], 1)

    def _angles(self, x: Tensor, end: int) -> tuple[Tensor, Tensor] | None:
        """Rotary angles of the tokens x, the last of which is id `end` - 1; the context's positions are negative."""
        if self.config.positions == "learned":
            return None
        return rotary(torch.arange(end - x.shape[1], end, device=x.device), self.config.width // self.config.heads)
