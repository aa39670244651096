"""A recurrent network that reads one observed step per action (Hochreiter and Schmidhuber 1997).

Letters: B batch, H steps, A action width, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.embedding import Times

State = tuple[Tensor, Tensor]
"""Hidden and cell values, each (layers, B, W)."""


@dataclass(frozen=True)
class Lstm:
    """Long short-term memory over the tokens of the context."""

    width: int = 400
    layers: int = 2

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> LstmNet:
        """The network (x (B, H, A), t (B, times), ctx with H tokens) -> (B, H, out); it is causal in any case."""
        return LstmNet(self, shape, out, times, context)


class LstmNet(nn.Module):
    """[token, vector, x] of each step -> linear map (+ times) -> LSTM, from zero -> head; the mask is not read."""

    def __init__(self, config: Lstm, shape: tuple[int, ...], out: int, times: int, context: ContextSpec) -> None:
        super().__init__()
        (self.horizon, actions), self.spec = shape, context
        if not context.token or context.tokens != self.horizon:
            raise ValueError(f"context.tokens: expected one for each of {self.horizon} steps, found {context.tokens}")
        self.input = nn.Linear(context.token + context.vector + actions, config.width)
        self.times = Times(times, config.width) if times else None
        self.lstm = nn.LSTM(config.width, config.width, config.layers, batch_first=True)
        self.head = nn.Linear(config.width, out)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """x (B, H, A), t (B, times) or None if there are none -> (B, H, out).

        Raises ValueError if the context does not hold one token for each of the H steps.
        """
        steps = x.shape[1]
        if ctx.tokens is None or ctx.tokens.shape[1] != steps:
            found = "none" if ctx.tokens is None else f"{ctx.tokens.shape[1]}"
            raise ValueError(f"context.tokens: expected one for each of {steps} steps, found {found}")
        parts = [ctx.tokens]
        if self.spec.vector:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected width {self.spec.vector}, found none")
            parts.append(ctx.vector[:, None].expand(-1, steps, -1))
        h = self.input(torch.cat([*parts, x.to(ctx.tokens)], -1))
        if self.times is not None:
            h = h + self.times(t)[:, None]
        return self.read(h)[0]

    def read(self, h: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Steps (B, H, W) after those that left `state` (zeros at first) -> (B, H, out) and the state they leave."""
        h, state = self.lstm(h, state)
        return self.head(h), state
