"""GPT: a causal transformer over ids, with the context in front and keys and values kept (Radford et al. 2019).

The parts are chosen one by one: GPT-2 has layer norms, dense GELU units and learned positions; its successors have
root-mean-square norms, gated units, rotary positions, fewer heads of keys and values, and no biases.

Letters: B batch, L ids, K classes, P tokens of the context, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Cache, Context, ContextSpec
from nextmove.nn.attention import Attention, KeyValue, as_heads
from nextmove.nn.dropout import Dropout
from nextmove.nn.feedforward import Dense
from nextmove.nn.layers import kept
from nextmove.nn.mask import CAUSAL, Mask, block_mask
from nextmove.nn.norm import LayerNorm
from nextmove.nn.rope import Rotary, rotate
from nextmove.nn.transformer import Told, init_normal

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary positions."""


@dataclass(frozen=True)
class Gpt:
    """A language model over class indices."""

    width: int = 192
    layers: int = 4
    heads: Any = 4
    """Number of heads, or `attention.Heads`."""
    dropout: float = 0.0
    positions: Literal["learned", "rotary"] = "learned"
    rotary: Rotary = Rotary()
    """How rotary positions turn."""
    norm: Any = LayerNorm()
    """`norm.LayerNorm` or `norm.RmsNorm`, of every norm but those inside attention."""
    feedforward: Any = Dense()
    """`feedforward.Dense` or `feedforward.Gated`."""
    head: Literal["biased", "plain", "tied"] = "biased"
    """Linear map to logits with or without a bias, or the embedding itself."""
    scale: float = 1.0
    """What embedded ids are multiplied by (Gemma: sqrt(width))."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = True) -> GptNet:
        """The network (ids (B, L), ctx, cache) -> (logits (B, L, K), cache); `start`: the id `classes` may be read.

        With learned positions a sequence, the start symbol counted, has at most `length` ids.
        """
        return GptNet(self, length, classes, context, start)


class Block(nn.Module):
    """Pre-norm causal self-attention, then feed-forward."""

    def __init__(self, config: Gpt) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2 = config.norm.build(width), config.norm.build(width)
        self.attention = Attention(width, config.heads, config.dropout)
        self.up, self.down = config.feedforward.build(width)
        self.dropout = Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: Tensor, mask: Mask, cache: KeyValue | None, angles: Angles | None) -> tuple[Tensor, KeyValue]:
        """x (B, L, W), mask over all tokens so far -> the same, and all keys and values so far."""
        h = self.norm1(x)
        turn = None if angles is None else partial(rotate, cosines=angles[0], sines=angles[1])
        y, cache = self.attention(h, h, h, mask=mask, cache=cache, rotate=turn)
        x = x + self.dropout(y)
        return x + self.dropout(self.down(self.up(self.norm2(x)))), cache


class GptNet(nn.Module):
    """[context, ids] through causal blocks; logits for the ids."""

    def __init__(self, config: Gpt, length: int, classes: int, context: ContextSpec, start: bool) -> None:
        super().__init__()
        if config.positions not in ("learned", "rotary"):
            raise ValueError(f"positions: expected learned or rotary, found {config.positions!r}")
        if config.head not in ("biased", "plain", "tied"):
            raise ValueError(f"head: expected biased, plain or tied, found {config.head!r}")
        self.config, self.length, self.classes = config, length, classes
        self.told = Told(context, config.width)
        self.embedding = nn.Embedding(classes + start, config.width)
        self.position = nn.Parameter(torch.empty(length, config.width)) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = config.norm.build(config.width)
        tied = config.head == "tied"
        self.head = None if tied else nn.Linear(config.width, classes, bias=config.head == "biased")
        self.dropout = Dropout(config.dropout) if config.dropout else nn.Identity()
        self.turned = as_heads(config.heads).settled(config.width).width
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
        h, cache = self.read(ids, ctx, cache)
        return self.logits(h), cache

    def last(self, ids: Tensor, ctx: Context, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """As `forward`, but the logits (B, 1, K) of the last id only."""
        h, cache = self.read(ids, ctx, cache)
        return self.logits(h[:, -1:]), cache

    def logits(self, h: Tensor) -> Tensor:
        """(B, L, K) of what `read` gives."""
        h, table = self.norm(h), self.embedding.weight
        if self.head is None:
            return F.linear(h, table if len(table) == self.classes else table[: self.classes])
        y: Tensor = self.head(h)
        return y

    def read(self, ids: Tensor, ctx: Context, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """What the blocks make of ids (B, L): (B, L, W), not yet normalised, and the cache."""
        prefix = self.told.count(ctx)
        before = 0 if cache is None else cache[0][0].shape[2] - prefix
        x = self._embed(ids, before)
        if cache is None and prefix:
            x = torch.cat([self.told(ctx).to(x), x], 1)
        mask = self._mask(ctx, before + ids.shape[1], x.shape[1])
        angles = self._angles(x, before + ids.shape[1])
        x, kept_layers = self.dropout(x), []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, mask, None if cache is None else cache[i], angles)
            kept_layers.append(layer)
        # A slice of all of it would be copied on the way back.
        return x if x.shape[1] == ids.shape[1] else x[:, -ids.shape[1] :], tuple(kept_layers)

    def _embed(self, ids: Tensor, before: int) -> Tensor:
        """(B, L, W), position i of an id being the number of ids before it."""
        x: Tensor = self.embedding(ids)
        if self.config.scale != 1:
            x = x * self.config.scale
        if self.position is None:
            return x
        if before + ids.shape[1] > self.length:
            raise ValueError(f"ids: expected at most {self.length} in a sequence, found {before + ids.shape[1]}")
        return x + self.position[before : before + ids.shape[1]]

    def _mask(self, ctx: Context, ids: int, queries: int) -> Mask:
        """Each of the last tokens of [context, all ids so far] attends to those up to itself that are not masked."""
        keep = kept(ctx.mask if self.told.token is not None else None, self.told.first, ctx.batch)
        if keep is None:
            return CAUSAL
        valid = torch.cat([keep, keep.new_ones(ctx.batch, ids)], 1)
        return block_mask(valid, torch.arange(valid.shape[1], device=valid.device), queries)

    def _angles(self, x: Tensor, end: int) -> Angles | None:
        """Rotary angles of the tokens x, the last of which is id `end` - 1; the context's positions are negative."""
        if self.config.positions == "learned":
            return None
        positions = torch.arange(end - x.shape[1], end, device=x.device)
        return self.config.rotary.angles(positions, self.turned)
