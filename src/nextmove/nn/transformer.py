"""Diffusion Policy's transformer: actions attend to each other and to what they are told, as tokens (Chi et al. 2023).

Letters: B batch, H horizon, A action width, S told tokens, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.attention import Attention
from nextmove.nn.dropout import Dropout
from nextmove.nn.embedding import Times
from nextmove.nn.layers import Decoder, Encoder, Sizes, kept
from nextmove.nn.mish import Mish


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

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> TransformerNet:
        """The network (x (B, H, A), t (B, times), ctx) -> (B, H, out); `causal` forces the order among actions."""
        return TransformerNet(self, shape, out, times, context, causal)


class Told(nn.Module):
    """The context as tokens with learned positions: the vector projected to one token, then each token projected."""

    def __init__(self, spec: ContextSpec, width: int, before: int = 0) -> None:
        """`before`: how many tokens the caller puts in front. Raises ValueError if the number of tokens is unknown."""
        super().__init__()
        if spec.token and not spec.tokens:
            raise ValueError(f"context.tokens: expected the largest number of tokens, found {spec.tokens}")
        self.spec = spec
        self.vector = nn.Linear(spec.vector, width) if spec.vector else None
        self.token = nn.Linear(spec.token, width) if spec.token else None
        self.first = before + (spec.vector > 0)
        count = self.first + (spec.tokens if spec.token else 0)
        self.position = nn.Parameter(0.02 * torch.randn(count, width)) if count else None

    def count(self, ctx: Context) -> int:
        """The number S of tokens `forward` gives when nothing is put in front."""
        tokens = 0 if self.token is None or ctx.tokens is None else ctx.tokens.shape[1]
        return (self.vector is not None) + tokens

    def forward(self, ctx: Context, *before: Tensor) -> Tensor:
        """(B, S, W), S > 0: `before` (B, W) each, the vector, the tokens; raises ValueError naming a missing part."""
        parts = [x[:, None] for x in before]
        if self.vector is not None:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected width {self.spec.vector}, found none")
            parts.append(self.vector(ctx.vector)[:, None])
        if self.token is not None:
            if ctx.tokens is None or ctx.tokens.shape[1] > self.spec.tokens:
                found = "none" if ctx.tokens is None else f"{ctx.tokens.shape[1]}"
                raise ValueError(f"context.tokens: expected at most {self.spec.tokens} tokens, found {found}")
            parts.append(self.token(ctx.tokens))
        told = torch.cat(parts, 1)
        return told if self.position is None else told + self.position[: told.shape[1]]


class TransformerNet(nn.Module):
    """Pre-norm layers; the memory is [time, vector, tokens] + positions."""

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
        # With nothing to be told, the memory is one empty token: attention needs at least one.
        self.empty = not (times or context.vector or context.token)
        self.times = Times(times, width) if times else None
        self.told = Told(context, width, before=int(bool(times) or self.empty))
        sizes = Sizes(width, config.heads, 4 * width, config.dropout, "gelu", pre_norm=True)
        self.memory: nn.Module = (
            Encoder(sizes, config.memory_layers)
            if config.memory_layers
            else nn.Sequential(nn.Linear(width, 4 * width), Mish(), nn.Linear(4 * width, width))
        )
        self.input = nn.Linear(actions, width) if actions else None
        self.position = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.dropout = Dropout(config.dropout)
        self.decoder, self.head = Decoder(sizes, config.layers), nn.Linear(width, out)
        steps = config.causal and not context.vector and 0 < context.tokens <= horizon
        mask = _steps(horizon, context.tokens, self.told.first) if steps else None
        self.register_buffer("mask", mask, persistent=False)
        for part in (self.told, self.memory, self.input, self.decoder, self.head):
            init_normal(part)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """x (B, H, A), t (B, times) or None if there are none -> (B, H, out)."""
        told, keep = self._told(t, ctx)
        told = self.memory(told, keep=keep) if isinstance(self.memory, Encoder) else self.memory(told)
        h = self.position[: x.shape[1]].expand(x.shape[0], -1, -1)
        h = h if self.input is None else self.input(x) + h
        mask = None if self.mask is None else self.mask[: x.shape[1], : told.shape[1]]
        y: Tensor = self.head(self.decoder(self.dropout(h), told, keep=keep, mask=mask, causal=self.causal))
        return y

    def _told(self, t: Tensor | None, ctx: Context) -> tuple[Tensor, Tensor | None]:
        """The memory before its own layers, and which of it may be attended to."""
        before = []
        if self.times is not None:
            before.append(self.times(t))
        elif self.empty:
            before.append(self.position.new_zeros(ctx.batch, self.position.shape[1]))
        told = self.dropout(self.told(ctx, *before))
        return told, kept(ctx.mask if self.told.token is not None else None, self.told.first, ctx.batch)


def init_normal(module: nn.Module | None) -> None:
    """GPT-2's start: matrices normal with deviation 0.02, biases 0 (Radford et al. 2019)."""
    for part in [] if module is None else module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, Attention):
            for weight in part.projections():
                nn.init.normal_(weight, std=0.02)


def _steps(horizon: int, observed: int, before: int) -> Tensor:
    """(H, before + observed) bool: action i sees what stands in front and the observed steps up to i."""
    seen = torch.ones(horizon, observed, dtype=torch.bool).tril()
    return torch.cat([seen.new_ones(horizon, before), seen], 1)
