"""ACT's networks: a DETR over what is observed with one query per action, and the encoder of its variational posterior.

Zhao et al. 2023 (section IV-B, figure 4); the layers are DETR's (Carion et al. 2020), positions entering queries and
keys only. Letters: B batch, H horizon, A action width, S tokens, Z latent, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.embedding import Times, table
from nextmove.nn.layers import Activation, Decoder, Encoder, Sizes, kept


@dataclass(frozen=True)
class Detr:
    """Encoder over the told tokens, decoder over H learned queries."""

    width: int = 512
    heads: int = 8
    feedforward: int = 3200
    encoder_layers: int = 4
    decoder_layers: int = 1
    """1 equals ACT's original code, which builds seven and returns the first one's output."""
    dropout: float = 0.1
    activation: Activation = "relu"
    pre_norm: bool = False
    parts: tuple[int, ...] = ()
    """Widths into which the context vector is cut, one token each (ACT: latent, state, environment); empty = one,
    -1 = what the others leave."""

    @property
    def sizes(self) -> Sizes:
        """What the layers share."""
        return Sizes(self.width, self.heads, self.feedforward, self.dropout, self.activation, self.pre_norm)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> DetrNet:
        """The network (x (B, H, A), t (B, times), ctx) -> (B, H, out).

        Raises ValueError if `parts` do not add up to the context vector.
        """
        return DetrNet(self, shape, out, times, context, causal)


@dataclass(frozen=True)
class Posterior:
    """ACT's posterior: an encoder over [cls, state, actions] read at cls."""

    width: int = 512
    heads: int = 8
    feedforward: int = 3200
    layers: int = 4
    dropout: float = 0.1
    activation: Activation = "relu"
    pre_norm: bool = False
    state: int = -1
    """How many leading columns of the context vector it sees: -1 = all, 0 = none."""

    @property
    def sizes(self) -> Sizes:
        """What the layers share."""
        return Sizes(self.width, self.heads, self.feedforward, self.dropout, self.activation, self.pre_norm)

    def build(self, *, shape: tuple[int, ...], context: ContextSpec, latent: int) -> PosteriorNet:
        """The network (x (B, H, A), ctx, valid (B, H) bool | None) -> mean and log variance (B, Z) each."""
        return PosteriorNet(self, shape, context, latent)


class DetrNet(nn.Module):
    """Memory: a token per part of the vector (+ times), then the tokens of the context.

    Every part has a learned position; so has every context token if their largest number is known (otherwise the
    tokens must bring their own). The queries' content is 0, or x projected where there is an x.
    """

    def __init__(
        self, config: Detr, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool
    ) -> None:
        super().__init__()
        (horizon, actions), width = shape, config.width
        rest = context.vector - sum(config.parts) - 1
        self.parts = tuple(rest if part == -1 else part for part in config.parts)
        if not self.parts and context.vector:
            self.parts = (context.vector,)
        if sum(self.parts) != context.vector or min(self.parts, default=1) < 1:
            raise ValueError(f"parts: expected widths that add up to {context.vector}, found {config.parts}")
        self.causal, self.spec, self.width = causal, context, width
        # A token of zeros stands for an absent vector where a time needs a place, or nothing at all is told. Another
        # joins a lone token: of one alone every query would be told the same, whatever it asks.
        self.first = len(self.parts) or int(bool(times) or not context.token)
        if self.first + ((context.tokens or 2) if context.token else 0) == 1:
            self.first += 1
        self.inputs = nn.ModuleList(nn.Linear(part, width) for part in self.parts)
        self.times = Times(times, width) if times else None
        self.position = nn.Embedding(self.first, width) if self.first else None
        self.token = nn.Linear(context.token, width) if context.token not in (0, width) else None
        self.token_position = nn.Embedding(context.tokens, width) if context.token and context.tokens else None
        self.action = nn.Linear(actions, width) if actions else None
        self.query = nn.Embedding(horizon, width)
        self.encoder = Encoder(config.sizes, config.encoder_layers)
        self.decoder = Decoder(config.sizes, config.decoder_layers)
        self.head = nn.Linear(width, out)
        for weight in (*self.encoder.parameters(), *self.decoder.parameters()):
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """x (B, H, A), t (B, times) or None if there are none -> (B, H, out)."""
        told, position = self._told(t, ctx)
        keep = kept(ctx.mask if self.spec.token else None, self.first, ctx.batch)
        memory = self.encoder(told, position, keep)
        query = self.query.weight[: x.shape[1]]
        h = torch.zeros_like(query).expand(x.shape[0], -1, -1) if self.action is None else self.action(x)
        y: Tensor = self.head(self.decoder(h, memory, query, position, keep=keep, causal=self.causal))
        return y

    def _told(self, t: Tensor | None, ctx: Context) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, W) and their positions (S, W)."""
        told, positions = [], []
        if self.position is not None:
            told.append(self._first(t, ctx))
            positions.append(self.position.weight)
        if self.spec.token:
            if ctx.tokens is None:
                raise ValueError(f"context.tokens: expected tokens of width {self.spec.token}, found none")
            told.append(ctx.tokens if self.token is None else self.token(ctx.tokens))
            positions.append(self._where(ctx.tokens))
        return torch.cat(told, 1), torch.cat(positions)

    def _first(self, t: Tensor | None, ctx: Context) -> Tensor:
        """The tokens (B, ., W) of the parts of the vector, then zeros, the times added to each."""
        told = []
        if self.parts:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected width {self.spec.vector}, found none")
            columns = torch.split(ctx.vector, list(self.parts), 1)
            told = [net(part)[:, None] for net, part in zip(self.inputs, columns, strict=True)]
        zeros = self.query.weight.new_zeros(ctx.batch, self.first - len(told), self.width)
        h = torch.cat([*told, zeros], 1)
        if self.times is None:
            return h
        time: Tensor = self.times(t)
        return h + time[:, None]

    def _where(self, tokens: Tensor) -> Tensor:
        """Positions (S, W) of the context's tokens."""
        count = tokens.shape[1]
        if self.token_position is None:
            return self.query.weight.new_zeros(count, self.width)
        if count > self.spec.tokens:
            raise ValueError(f"context.tokens: expected at most {self.spec.tokens} tokens, found {count}")
        return self.token_position.weight[:count]


class PosteriorNet(nn.Module):
    """q(z | x, state); padded actions are not attended to."""

    position: Tensor

    def __init__(self, config: Posterior, shape: tuple[int, ...], context: ContextSpec, latent: int) -> None:
        super().__init__()
        (horizon, actions), width = shape, config.width
        self.columns = context.vector if config.state < 0 else config.state
        if self.columns > context.vector:
            raise ValueError(f"state: expected at most the {context.vector} columns told, found {config.state}")
        self.cls = nn.Embedding(1, width)
        self.state = nn.Linear(self.columns, width) if self.columns else None
        self.action = nn.Linear(actions, width)
        self.encoder = Encoder(config.sizes, config.layers)
        self.latent = nn.Linear(width, 2 * latent)
        self.register_buffer("position", table(horizon + 1 + bool(self.columns), width), persistent=False)

    def forward(self, x: Tensor, ctx: Context, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, Z) of z given x (B, H, A); valid (B, H) bool, False = padding."""
        told = [self.cls.weight.expand(x.shape[0], 1, -1)]
        if self.state is not None:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected at least {self.columns} columns, found none")
            told.append(self.state(ctx.vector[:, : self.columns])[:, None])
        keep = kept(valid, len(told), x.shape[0])
        h = torch.cat([*told, self.action(x)], 1)
        h = self.encoder(h, self.position[: h.shape[1]].to(h), keep)
        mean, logvar = self.latent(h[:, 0]).chunk(2, -1)
        return mean, logvar
