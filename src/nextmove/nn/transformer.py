"""Diffusion Policy's transformer: actions attend to each other and to the context's tokens (Chi et al. 2023).

Shapes: B batch, H horizon, A action width, S tokens of time and context, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.block import Block, Source
from nextmove.nn.context_tokens import ContextTokens
from nextmove.nn.dropout import Dropout
from nextmove.nn.embedding import Times
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.init import init_normal
from nextmove.nn.mask import CAUSAL, Mask, key_mask
from nextmove.nn.mish import Mish
from nextmove.nn.norm import LayerNorm
from nextmove.nn.product import Linear
from nextmove.nn.renamed import Renames, of_stacks
from nextmove.nn.stream import Stream


@dataclass(frozen=True)
class Transformer:
    """A decoder over action tokens whose memory is the time and the context."""

    width: int = 256
    layers: int = 8
    heads: int = 4
    dropout: float = 0.0
    memory_layers: int = 0
    """Encoder layers over the memory; 0 gives each token a network of two layers instead."""
    causal: bool = True
    """Actions see earlier actions only and, if the context is one token for each of the first observed steps, action i
    sees observations up to step i: for horizons that start at the first observed step, as Diffusion Policy's do."""

    @property
    def block(self) -> Block:
        """One of its layers over the memory; without cross-attention, one within it."""
        width, p = self.width, self.dropout
        part = DenseMlp(activation="gelu")
        return Block(width, self.heads, part, dropout=p, attention_dropout=p, hidden_dropout=p, cross=width)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> TransformerNet:
        """The network (x (B, H, A), t (B, times), ctx) -> (B, H, out); `causal` forces the order among actions."""
        return TransformerNet(self, shape, out, times, context, causal)


class TransformerNet(nn.Module):
    """Pre-norm layers; the memory is [time, vector, tokens] + positions."""

    RENAMED: ClassVar[dict[int, Renames]] = {1: ((r"^told\.", "context."), *of_stacks("memory"))}
    mask: Tensor | None

    def __init__(
        self,
        config: Transformer,
        shape: tuple[int, ...],
        out: int,
        times: int,
        context: ContextSpec,
        causal: bool = False,
    ) -> None:
        super().__init__()
        (horizon, actions), width = shape, config.width
        self.causal, self.actions = causal or config.causal, actions
        # Without time and context the memory is one empty token: attention needs at least one.
        self.empty = not (times or context.vector or context.token)
        self.times = Times(times, width) if times else None
        self.context = ContextTokens(context, width, before=int(bool(times) or self.empty))
        self.memory: nn.Module = (
            Stream([replace(config.block, cross=0)] * config.memory_layers, norm=LayerNorm())
            if config.memory_layers
            else nn.Sequential(Linear(width, 4 * width), Mish(), Linear(4 * width, width))
        )
        self.input = Linear(actions, width) if actions else None
        self.position = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.dropout = Dropout(config.dropout)
        self.decoder = Stream([config.block] * config.layers, norm=LayerNorm())
        self.head = Linear(width, out)
        steps = config.causal and not context.vector and 0 < context.tokens <= horizon
        mask = _steps(horizon, context.tokens, self.context.first) if steps else None
        self.register_buffer("mask", mask, persistent=False)
        for part in (self.context, self.memory, self.input, self.decoder, self.head):
            init_normal(part)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """x (B, H, A), t (B, times) or None if there are none -> (B, H, out)."""
        tokens, valid = self._tokens(t, ctx), self.context.valid(ctx)
        keys = None if valid is None else key_mask(valid)
        if isinstance(self.memory, Stream):
            tokens, _ = self.memory(tokens, mask=keys, remember=False)
        else:
            tokens = self.memory(tokens)
        h = self.position[: x.shape[1]].expand(x.shape[0], -1, -1)
        h = h if self.input is None else self.input(x) + h
        order: Mask = CAUSAL if self.causal else None
        source = Source(tokens, self._seen(x.shape[1], tokens.shape[1], keys))
        h, _ = self.decoder(self.dropout(h), mask=order, source=source, remember=False)
        y: Tensor = self.head(h)
        return y

    def _tokens(self, t: Tensor | None, ctx: Context) -> Tensor:
        """Time and context (B, S, W) before the memory's own layers."""
        before = []
        if self.times is not None:
            before.append(self.times(t))
        elif self.empty:
            before.append(self.position.new_zeros(ctx.batch, self.position.shape[1]))
        tokens: Tensor = self.dropout(self.context(ctx, *before))
        return tokens

    def _seen(self, actions: int, tokens: int, keys: Tensor | None) -> Tensor | None:
        """Which tokens of the memory each action attends to."""
        if self.mask is None:
            return keys
        mask = self.mask[:actions, :tokens]
        return mask if keys is None else keys & mask


def _steps(horizon: int, observed: int, before: int) -> Tensor:
    """(H, before + observed) bool: action i attends to the tokens in front and the observed steps up to i."""
    seen = torch.ones(horizon, observed, dtype=torch.bool).tril()
    return torch.cat([seen.new_ones(horizon, before), seen], 1)
