"""ACT's networks: a DETR over what is observed with one query per action, and the encoder of its variational posterior.

Zhao et al. 2023 (section IV-B, figure 4); the layers are DETR's (Carion et al. 2020), positions entering queries and
keys only. Shapes: B batch, H horizon, A action width, S tokens, Z latent, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.block import Block, Source
from nextmove.nn.embedding import Times, table
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.flat import check_context
from nextmove.nn.mask import CAUSAL, extend_valid, key_mask
from nextmove.nn.norm import LayerNorm
from nextmove.nn.product import Linear
from nextmove.nn.renamed import Renames, of_stacks
from nextmove.nn.stream import Stream

Activation = Literal["relu", "gelu", "glu"]


@dataclass(frozen=True)
class Detr:
    """Encoder over the context's tokens, decoder over H learned queries."""

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
    -1 = what the others leave, no token where that is nothing."""

    @property
    def block(self) -> Block:
        """One of its encoder's layers."""
        return _block(self)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> DetrNet:
        """The network (x (B, H, A), t (B, times), ctx) -> (B, H, out).

        Raises ValueError if `parts` do not add up to the context vector.
        """
        return DetrNet(self, shape, out, times, context, causal)


@dataclass(frozen=True)
class ActVaeEncoder:
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
    def block(self) -> Block:
        """One of its encoder's layers."""
        return _block(self)

    def build(self, *, shape: tuple[int, ...], context: ContextSpec, latent: int) -> ActVaeEncoderNet:
        """The network (x (B, H, A), ctx, valid (B, H) bool | None) -> mean and log variance (B, Z) each."""
        return ActVaeEncoderNet(self, shape, context, latent)


def _block(config: Detr | ActVaeEncoder) -> Block:
    """DETR's encoder layer."""
    hidden, activation, p = config.feedforward, config.activation, config.dropout
    if activation not in ("relu", "gelu", "glu"):
        raise ValueError(f"activation: expected relu, gelu or glu, found {activation!r}")
    # torch's glu gates by the sigmoid of the second half.
    glu = GatedMlp(hidden, "sigmoid", bias=True, gate="second")
    return Block(
        config.width,
        config.heads,
        glu if activation == "glu" else DenseMlp(hidden, activation),
        place="before" if config.pre_norm else "after",
        dropout=p,
        attention_dropout=p,
        hidden_dropout=p,
    )


def _encoder(config: Detr | ActVaeEncoder, layers: int) -> Stream:
    """Normalised at its end only where it normalises before its parts."""
    return Stream([config.block] * layers, norm=LayerNorm() if config.pre_norm else None)


class DetrNet(nn.Module):
    """Memory: a token per part of the vector (+ times), then the tokens of the context.

    Every part has a learned position. Context tokens have those of `Context.positions` where they come with some (ACT's
    image tokens: queries and keys only), else learned ones if their largest number is known, else none. The queries'
    content is 0, or x projected where there is an x.
    """

    RENAMED: ClassVar[dict[int, Renames]] = {1: of_stacks("encoder")}

    def __init__(
        self, config: Detr, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool
    ) -> None:
        super().__init__()
        check_context(context, positions=True)
        (horizon, actions), width = shape, config.width
        rest = context.vector - sum(config.parts) - 1
        self.parts = tuple(rest if part == -1 else part for part in config.parts if part != -1 or rest)
        if not self.parts and context.vector:
            self.parts = (context.vector,)
        if sum(self.parts) != context.vector or min(self.parts, default=1) < 1:
            raise ValueError(f"parts: expected widths that add up to {context.vector}, found {config.parts}")
        self.causal, self.spec, self.width = causal, context, width
        # A token of zeros stands for an absent vector where a time needs a place, or there is no context. Another joins
        # a lone token: reading one alone, every query would get the same answer.
        self.first = len(self.parts) or int(bool(times) or not context.token)
        if self.first + ((context.tokens or 2) if context.token else 0) == 1:
            self.first += 1
        self.inputs = nn.ModuleList(Linear(part, width) for part in self.parts)
        self.times = Times(times, width) if times else None
        self.position = nn.Embedding(self.first, width) if self.first else None
        self.token = Linear(context.token, width) if context.token not in (0, width) else None
        learned = context.token and context.tokens and not context.positions
        self.token_position = nn.Embedding(context.tokens, width) if learned else None
        self.action = Linear(actions, width) if actions else None
        self.query = nn.Embedding(horizon, width)
        self.encoder = _encoder(config, config.encoder_layers)
        reading = replace(config.block, cross=width)
        self.decoder = Stream([reading] * config.decoder_layers, norm=LayerNorm())
        self.head = Linear(width, out)
        for weight in (*self.encoder.parameters(), *self.decoder.parameters()):
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """x (B, H, A), t (B, times) or None if there are none -> (B, H, out)."""
        tokens, position = self._tokens(t, ctx)
        valid = ctx.mask if self.spec.token else None
        mask = None if valid is None else key_mask(extend_valid(valid, before=self.first))
        memory, _ = self.encoder(tokens, position=position, mask=mask, remember=False)
        query = self.query.weight[: x.shape[1]]
        h = torch.zeros_like(query).expand(x.shape[0], -1, -1) if self.action is None else self.action(x)
        source, order = Source(memory, mask, position), CAUSAL if self.causal else None
        h, _ = self.decoder(h, position=query, mask=order, source=source, remember=False)
        y: Tensor = self.head(h)
        return y

    def _tokens(self, t: Tensor | None, ctx: Context) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, W) and their positions (S, W) or (B, S, W)."""
        tokens, positions = [], []
        if self.position is not None:
            tokens.append(self._first(t, ctx))
            positions.append(self.position.weight)
        if self.spec.token:
            if ctx.tokens is None:
                raise ValueError(f"context.tokens: expected tokens of width {self.spec.token}, found none")
            tokens.append(ctx.tokens if self.token is None else self.token(ctx.tokens))
            positions.append(self._where(ctx))
        if self.spec.token and self.spec.positions and self.position is not None:
            positions[0] = positions[0].expand(len(positions[1]), -1, -1)
        return torch.cat(tokens, 1), torch.cat(positions, -2)

    def _first(self, t: Tensor | None, ctx: Context) -> Tensor:
        """The tokens (B, ., W) of the parts of the vector, then zeros, the times added to each."""
        tokens = []
        if self.parts:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected width {self.spec.vector}, found none")
            columns = torch.split(ctx.vector, list(self.parts), 1)
            tokens = [net(part)[:, None] for net, part in zip(self.inputs, columns, strict=True)]
        zeros = self.query.weight.new_zeros(ctx.batch, self.first - len(tokens), self.width)
        h = torch.cat([*tokens, zeros], 1)
        if self.times is None:
            return h
        time: Tensor = self.times(t)
        return h + time[:, None]

    def _where(self, ctx: Context) -> Tensor:
        """Positions (S, W) or (B, S, W) of the context's tokens."""
        assert ctx.tokens is not None
        if self.spec.positions:
            expected = (*ctx.tokens.shape[:2], self.width)
            if ctx.positions is None or tuple(ctx.positions.shape) != expected:
                found = None if ctx.positions is None else tuple(ctx.positions.shape)
                raise ValueError(f"context.positions: expected {expected}, found {found}")
            return ctx.positions
        count = ctx.tokens.shape[1]
        if self.token_position is None:
            return self.query.weight.new_zeros(count, self.width)
        if count > self.spec.tokens:
            raise ValueError(f"context.tokens: expected at most {self.spec.tokens} tokens, found {count}")
        return self.token_position.weight[:count]


class ActVaeEncoderNet(nn.Module):
    """q(z | x, state); padded actions are not attended to."""

    RENAMED: ClassVar[dict[int, Renames]] = {1: of_stacks("encoder")}
    position: Tensor

    def __init__(self, config: ActVaeEncoder, shape: tuple[int, ...], context: ContextSpec, latent: int) -> None:
        super().__init__()
        (horizon, actions), width = shape, config.width
        self.columns = context.vector if config.state < 0 else config.state
        if self.columns > context.vector:
            raise ValueError(
                f"state: expected at most the {context.vector} columns of the context, found {config.state}"
            )
        self.cls = nn.Embedding(1, width)
        self.state = Linear(self.columns, width) if self.columns else None
        self.action = Linear(actions, width)
        self.encoder = _encoder(config, config.layers)
        self.latent = Linear(width, 2 * latent)
        self.register_buffer("position", table(horizon + 1 + bool(self.columns), width), persistent=False)

    def forward(self, x: Tensor, ctx: Context, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, Z) of z given x (B, H, A); valid (B, H) bool, False = padding."""
        front = [self.cls.weight.expand(x.shape[0], 1, -1)]
        if self.state is not None:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected at least {self.columns} columns, found none")
            front.append(self.state(ctx.vector[:, : self.columns])[:, None])
        mask = None if valid is None else key_mask(extend_valid(valid, before=len(front)))
        h = torch.cat([*front, self.action(x)], 1)
        h, _ = self.encoder(h, position=self.position[: h.shape[1]].to(h), mask=mask, remember=False)
        mean, logvar = self.latent(h[:, 0]).chunk(2, -1)
        return mean, logvar
