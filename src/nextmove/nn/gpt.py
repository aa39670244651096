"""GPT: a causal transformer over ids, with the context in front and keys and values kept (Radford et al. 2019).

The parts are chosen one by one: GPT-2 has layer norms, dense GELU units and learned positions; its successors have
root-mean-square norms, gated units, rotary positions, fewer heads of keys and values, and no biases.

Shapes: B batch, L ids, K classes, P tokens of the context, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec, Memory
from nextmove.nn.block import Block
from nextmove.nn.context_tokens import ContextTokens
from nextmove.nn.dropout import Dropout
from nextmove.nn.feedforward import Dense
from nextmove.nn.init import init_normal
from nextmove.nn.mask import CAUSAL, extend_valid
from nextmove.nn.norm import LayerNorm
from nextmove.nn.renamed import Renames
from nextmove.nn.rope import Rotary
from nextmove.nn.stream import Stream


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

    @property
    def block(self) -> Block:
        """One of its layers."""
        return Block(
            self.width,
            self.heads,
            self.feedforward,
            self.norm,
            dropout=self.dropout,
            attention_dropout=self.dropout,
        )

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = True) -> GptNet:
        """The network (ids (B, L), ctx, cache) -> (logits (B, L, K), cache); `start`: the id `classes` may be read.

        With learned positions a sequence, the start symbol counted, has at most `length` ids.
        """
        return GptNet(self, length, classes, context, start)


class GptNet(nn.Module):
    """[context, ids] through a causal stream; logits for the ids."""

    RENAMED: ClassVar[dict[int, Renames]] = {
        1: (
            (r"^told\.", "context."),
            (r"^norm\.", "stream.norm."),
            (r"^blocks\.(\d+)\.norm1\.", r"stream.blocks.\1.attention_branch.norm."),
            (r"^blocks\.(\d+)\.norm2\.", r"stream.blocks.\1.feedforward_branch.norm."),
            (r"^blocks\.(\d+)\.(up|down)\.", r"stream.blocks.\1.feedforward.\2."),
            (r"^blocks\.", "stream.blocks."),
        )
    }

    def __init__(self, config: Gpt, length: int, classes: int, context: ContextSpec, start: bool) -> None:
        super().__init__()
        if config.positions not in ("learned", "rotary"):
            raise ValueError(f"positions: expected learned or rotary, found {config.positions!r}")
        if config.head not in ("biased", "plain", "tied"):
            raise ValueError(f"head: expected biased, plain or tied, found {config.head!r}")
        self.config, self.length, self.classes = config, length, classes
        self.context = ContextTokens(context, config.width)
        self.embedding = nn.Embedding(classes + start, config.width)
        learned = config.positions == "learned"
        self.position = nn.Parameter(torch.empty(length, config.width)) if learned else None
        rotary = None if learned else config.rotary
        self.stream = Stream([config.block] * config.layers, norm=config.norm, rotary=rotary)
        tied = config.head == "tied"
        self.head = None if tied else nn.Linear(config.width, classes, bias=config.head == "biased")
        self.dropout = Dropout(config.dropout) if config.dropout else None
        init_normal(self)
        if self.position is not None:
            nn.init.normal_(self.position, std=0.02)
        for name, weight in self.stream.blocks.named_parameters():
            if name.endswith(("out_proj.weight", "down.weight")):
                # What the blocks add to the residual stream keeps its size at any depth.
                nn.init.normal_(weight, std=0.02 / (2 * config.layers) ** 0.5)

    def forward(self, ids: Tensor, ctx: Context, cache: Memory | None = None) -> tuple[Tensor, Memory]:
        """ids (B, L) in 0..K, logits (B, L, K) of the id after each, and the cache that the next call goes on from.

        The context is read only without a cache.
        """
        h, cache = self.read(ids, ctx, cache)
        return self.logits(h), cache

    def last(self, ids: Tensor, ctx: Context, cache: Memory | None = None) -> tuple[Tensor, Memory]:
        """As `forward`, but the logits (B, 1, K) of the last id only."""
        h, cache = self.read(ids, ctx, cache)
        return self.logits(h[:, -1:]), cache

    def logits(self, h: Tensor) -> Tensor:
        """(B, L, K) of what `read` gives."""
        if self.head is None:
            table = self.embedding.weight
            return F.linear(h, table if len(table) == self.classes else table[: self.classes])
        y: Tensor = self.head(h)
        return y

    def read(self, ids: Tensor, ctx: Context, cache: Memory | None = None) -> tuple[Tensor, Memory]:
        """What the stream makes of ids (B, L): (B, L, W), normalised, and the cache."""
        length, prefix = ids.shape[1], self.context.count(ctx)
        before = 0 if cache is None else cache.length - prefix
        x, valid = self.embed(ids, before), None
        if cache is None and prefix:
            x, valid = torch.cat([self.context(ctx).to(x), x], 1), self.context.valid(ctx)
            valid = None if valid is None else extend_valid(valid, after=length)
        # The last token is id `before + length - 1`; the context's positions are negative.
        end = before + length
        positions = torch.arange(end - x.shape[1], end, device=x.device) if self.position is None else None
        x = x if self.dropout is None else self.dropout(x)
        h, state = self.stream(x, positions=positions, mask=CAUSAL, memory=cache, valid=valid)
        # A slice of all of it would be copied on the way back.
        return h if h.shape[1] == length else h[:, -length:], state

    def embed(self, ids: Tensor, before: int = 0) -> Tensor:
        """What the stream reads for ids (B, L) that follow `before` others: (B, L, W)."""
        x: Tensor = self.embedding(ids)
        if self.config.scale != 1:
            x = x * self.config.scale
        if self.position is None:
            return x
        if before + ids.shape[1] > self.length:
            raise ValueError(f"ids: expected at most {self.length} in a sequence, found {before + ids.shape[1]}")
        return x + self.position[before : before + ids.shape[1]]
