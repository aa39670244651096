"""A causal transformer over observed steps that answers each of them in one pass: RT-1's (Brohan et al. 2022).

Each step is a row of tokens that are seen and then of places for what is done, which hold nothing but their position.
So no answer depends on another one, and all are computed at once.

Shapes: B batch, T steps, S tokens that a step shows, M answers to a step, K outputs, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.attention import Heads
from nextmove.nn.block import Block
from nextmove.nn.feedforward import LinearMap
from nextmove.nn.init import init_normal
from nextmove.nn.norm import LayerNorm
from nextmove.nn.product import Linear
from nextmove.nn.stream import Stream


@dataclass(frozen=True)
class Stepwise:
    """Sizes of the transformer; the defaults are RT-1's."""

    steps: int = 6
    """Observed steps T at most; a policy's timing decides."""
    width: int = 512
    layers: int = 8
    heads: Any = Heads(8, head_dim=128)
    """Number of heads, or `attention.Heads`."""
    feedforward: Any = LinearMap()
    """`feedforward.LinearMap`, `DenseMlp` or `GatedMlp`."""
    norm: Any = LayerNorm(1e-6)
    dropout: float = 0.1
    """Of attention weights, and of what `LinearMap` answers or others hold."""
    embedding: bool = False
    """The weights of an embedding of past actions, which RT-1 multiplies by 0: kept with a checkpoint that has them,
    never trained and never read."""

    @property
    def block(self) -> Block:
        """One of its layers."""
        p = self.dropout
        return Block(self.width, self.heads, self.feedforward, self.norm, attention_dropout=p, hidden_dropout=p)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = True
    ) -> StepwiseNet:
        """The network (x (B, T M, 0), None, ctx) -> (B, T M, K), of whose x only the length matters.

        Raises ValueError for a decoder that has an x or times, for a length that the steps do not divide, and for a
        context without tokens.
        """
        return StepwiseNet(self, shape, out, times, context)


class StepwiseNet(nn.Module):
    """Tokens of each step, then its places, through one stream; a place is answered where the token before it stands.

    So the first answer to a step is read off the last token that it shows. Places are seen by tokens behind them, and
    by no place. Where a context has a vector of all steps beside its tokens, each step begins with a token of its part.
    """

    def __init__(self, config: Stepwise, shape: tuple[int, ...], out: int, times: int, context: ContextSpec) -> None:
        super().__init__()
        steps = config.steps
        if times or shape[1:] != (0,):
            raise ValueError(
                f"trunk: expected a decoder of one call that shows it no x, found x {shape}, {times} times"
            )
        if context.memory is not None or not context.token or context.tokens % steps or not context.tokens:
            raise ValueError(f"context.tokens: expected a multiple of {steps} steps, found {context}")
        if shape[0] % steps or context.vector % steps:
            found = f"{shape[0]} and a vector of {context.vector}"
            raise ValueError(f"shape: expected a length that {steps} observed steps divide, found {found}")
        width = config.width
        self.config, self.spec = config, context
        self.shown, self.answers = context.tokens // steps, shape[0] // steps
        self.state = Linear(context.vector // steps, width) if context.vector else None
        self.token = Linear(context.token, width)
        self.position = nn.Linear(steps * self.length, width)
        self.action = Linear(out, context.token) if config.embedding else None
        self.stream = Stream([config.block] * config.layers)
        self.head = Linear(width, out)
        init_normal(self)
        if self.action is not None:
            self.action.requires_grad_(False)

    @property
    def length(self) -> int:
        """Tokens of a step: a state where there is one, those shown, and the places."""
        return int(self.state is not None) + self.shown + self.answers

    def mask(self, steps: int) -> Tensor:
        """(L, L) bool over the tokens of so many steps: none behind, and no place for a place."""
        device = self.token.weight.device
        place = (torch.arange(self.length, device=device) >= self.length - self.answers).repeat(steps)
        earlier = torch.ones(len(place), len(place), dtype=torch.bool, device=device).tril()
        return earlier & ~(place[:, None] & place)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """(B, T M, K) of x (B, T M, 0), for as many steps T as x has answers to, at most as many as it was built for.

        Raises ValueError for another number of tokens than these steps show.
        """
        steps = x.shape[1] // self.answers
        h = self._embedded(ctx, steps)
        h, _ = self.stream(h, mask=self.mask(steps)[None], remember=False)
        first = self.length - self.answers - 1
        places = h.view(len(h), steps, self.length, -1)[:, :, first:-1]
        y: Tensor = self.head(places.flatten(1, 2))
        return y

    def _embedded(self, ctx: Context, steps: int) -> Tensor:
        """What enters the stream, (B, L, W)."""
        expected = (steps * self.shown, self.spec.token)
        if ctx.tokens is None or ctx.tokens.shape[1:] != expected or steps > self.config.steps:
            found = None if ctx.tokens is None else tuple(ctx.tokens.shape[1:])
            raise ValueError(
                f"context.tokens: expected {expected} of at most {self.config.steps} steps, found {found} of {steps}"
            )
        shown: Tensor = self.token(ctx.tokens).view(ctx.batch, steps, self.shown, -1)
        # A place is a token of zeros: of the map's numbers the bias alone is left.
        nothing = self.token.bias.to(shown).expand(len(shown), steps, self.answers, -1)
        row = [shown, nothing]
        if self.state is not None:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected width {self.spec.vector}, found none")
            row.insert(0, self.state(ctx.vector.view(len(shown), steps, -1))[:, :, None])
        x = torch.cat(row, 2).flatten(1, 2)
        return x + (self.position.weight[:, : x.shape[1]].mT + self.position.bias).to(x)
