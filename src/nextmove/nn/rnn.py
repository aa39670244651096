"""Recurrent networks over ids, or over one observed step per action.

Shapes: B batch, H steps, A action width, W width, L ids, K classes, N layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, RecurrentState
from nextmove.nn.embedding import Times
from nextmove.nn.flat import check_context
from nextmove.nn.product import Linear

HiddenAndCell = tuple[Tensor, Tensor]
"""Hidden and cell values, each (layers, B, W)."""


@dataclass(frozen=True)
class Rnn:
    """h' = tanh(A x + B h + c) over ids (Elman 1990)."""

    width: int = 400
    layers: int = 2
    dropout: float = 0.0
    """Between layers."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = True) -> RecurrentNet:
        """The network (ids (B, L), ctx, state) -> (logits (B, L, K), state); `start`: the id `classes` may be read."""
        dropout = self.dropout if self.layers > 1 else 0.0
        cells = nn.RNN(self.width, self.width, self.layers, batch_first=True, dropout=dropout)
        return RecurrentNet(cells, classes, context, start)


@dataclass(frozen=True)
class Lstm:
    """Long short-term memory over the tokens of the context or over ids (Hochreiter and Schmidhuber 1997)."""

    width: int = 400
    layers: int = 2
    dropout: float = 0.0
    """Between layers."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = True) -> RecurrentNet:
        """As of `Rnn`; the forget gates begin 1 higher, so that a new network remembers (Jozefowicz et al. 2015)."""
        dropout = self.dropout if self.layers > 1 else 0.0
        cells = nn.LSTM(self.width, self.width, self.layers, batch_first=True, dropout=dropout)
        with torch.no_grad():
            for layer in range(self.layers):
                # PyTorch's order is input, forget, cell, output; its other bias stays as it is.
                getattr(cells, f"bias_ih_l{layer}")[self.width : 2 * self.width] += 1
        return RecurrentNet(cells, classes, context, start)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> LstmNet:
        """The network (x (B, H, A), t (B, times), ctx with H tokens) -> (B, H, out); it is causal in any case."""
        return LstmNet(self, shape, out, times, context)


class LstmNet(nn.Module):
    """[token, vector, x] of each step -> linear map (+ times) -> LSTM, from zero -> head; the mask is not read."""

    def __init__(self, config: Lstm, shape: tuple[int, ...], out: int, times: int, context: ContextSpec) -> None:
        super().__init__()
        check_context(context)
        (self.horizon, actions), self.spec = shape, context
        if not context.token or context.tokens != self.horizon:
            raise ValueError(f"context.tokens: expected one for each of {self.horizon} steps, found {context.tokens}")
        self.input = Linear(context.token + context.vector + actions, config.width)
        self.times = Times(times, config.width) if times else None
        dropout = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(config.width, config.width, config.layers, batch_first=True, dropout=dropout)
        self.head = Linear(config.width, out)

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

    def read(self, h: Tensor, state: HiddenAndCell | None = None) -> tuple[Tensor, HiddenAndCell]:
        """Steps (B, H, W) after those that left `state` (zeros at first) -> (B, H, out) and the state they leave."""
        h, state = self.lstm(h, state)
        return self.head(h), state


class RecurrentNet(nn.Module):
    """Ids (+ the context's vector) -> recurrent cells -> head; what came before is known by the state alone."""

    def __init__(self, cells: nn.RNNBase, classes: int, context: ContextSpec, start: bool) -> None:
        super().__init__()
        check_context(context)
        if context.token:
            raise ValueError(f"context.token: expected none, found width {context.token}")
        self.embedding = nn.Embedding(classes + start, cells.input_size)
        self.vector = Linear(context.vector, cells.input_size) if context.vector else None
        self.cells, self.head = cells, Linear(cells.hidden_size, classes)

    def forward(self, ids: Tensor, ctx: Context, state: RecurrentState | None = None) -> tuple[Tensor, RecurrentState]:
        """ids (B, L) in 0..K, logits (B, L, K) of the id after each, and the state ((h, c),) that the next call needs.

        h and c are (B, N, W), c (B, 0, W) where the cells have none.
        """
        h, state = self.read(ids, ctx, state)
        return self.head(h), state

    def last(self, ids: Tensor, ctx: Context, state: RecurrentState | None = None) -> tuple[Tensor, RecurrentState]:
        """As `forward`, but the logits (B, 1, K) of the last id only."""
        h, state = self.read(ids, ctx, state)
        return self.head(h[:, -1:]), state

    def read(self, ids: Tensor, ctx: Context, state: RecurrentState | None = None) -> tuple[Tensor, RecurrentState]:
        """Outputs (B, L, W) of the last layer, and the state."""
        x = self.embedding(ids)
        if self.vector is not None:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected width {self.vector.in_features}, found none")
            x = x + self.vector(ctx.vector)[:, None]
        lstm = isinstance(self.cells, nn.LSTM)
        hidden = None
        if state is not None:
            # PyTorch has the layers in front; ours, like every state, the rows.
            h, c = (part.transpose(0, 1).contiguous() for part in state[0])
            hidden = (h, c) if lstm else h
        y, hidden = self.cells(x, hidden)
        h, c = hidden if lstm else (hidden, hidden[:0])
        return y, ((h.transpose(0, 1), c.transpose(0, 1)),)
