"""Networks just large enough for the tests, and formulas in their place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec

F64 = torch.float64


class Formula(nn.Module):
    """A known answer where a network is expected; keeps what it was asked."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function, self.asked = function, []

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        self.asked.append((x, t))
        return self.function(x, t)


@dataclass(frozen=True)
class Exact:
    """A trunk that builds a formula."""

    function: Any

    def build(self, **_: Any) -> nn.Module:
        return Formula(self.function)


@dataclass(frozen=True)
class Mlp:
    """Residual MLP on [x, vector] with every time embedded as a sinusoid."""

    width: int = 96
    layers: int = 2
    dropout: float = 0.0
    attention: bool = False

    def build(self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool) -> nn.Module:
        assert not causal
        return _Mlp(self, math.prod(shape[:-1]), shape[-1], out, times, context.vector)


class _Mlp(nn.Module):
    def __init__(self, c: Mlp, positions: int, A: int, out: int, times: int, vector: int) -> None:
        super().__init__()
        self.positions, self.out, self.vector = positions, out, vector
        self.first = nn.Linear(positions * A + vector, c.width)
        self.times = nn.ModuleList(
            nn.Sequential(nn.Linear(64, c.width), nn.SiLU(), nn.Linear(c.width, c.width)) for _ in range(times)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(c.width),
                nn.Linear(c.width, 2 * c.width),
                nn.SiLU(),
                nn.Dropout(c.dropout),
                nn.Linear(2 * c.width, c.width),
            )
            for _ in range(c.layers)
        )
        self.attention = c.attention
        self.last = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, positions * out))

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        parts = [x.flatten(1), *([ctx.vector] if ctx.vector is not None and self.vector else [])]
        h = self.first(torch.cat(parts, 1))
        for i, embed in enumerate(self.times):
            assert t is not None
            frequency = torch.exp(-math.log(10000) * torch.arange(32, device=x.device) / 31).to(t)
            angle = t[:, i : i + 1] * frequency
            h = h + embed(torch.cat([angle.sin(), angle.cos()], 1).to(h.dtype))
        for block in self.blocks:
            h = h + block(h)
            if self.attention:
                q = h.unflatten(1, (4, -1))[:, None]
                h = h + nn.functional.scaled_dot_product_attention(q, q, q)[:, 0].flatten(1)
        return self.last(h).view(len(x), *([self.positions] if x.dim() == 3 else []), self.out)


@dataclass(frozen=True)
class Gru:
    """Recurrent token network; its cache is the hidden state."""

    width: int = 64

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec) -> nn.Module:
        return _Gru(self.width, length, classes, context.vector)


class _Gru(nn.Module):
    def __init__(self, width: int, length: int, classes: int, vector: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(classes + 1, width), nn.Embedding(length, width)
        self.condition = nn.Linear(vector, width) if vector else None
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, classes))

    def forward(self, ids: Tensor, ctx: Context, cache: Any) -> tuple[Tensor, Any]:
        count, state = (0, None) if cache is None else cache
        h = self.embed(ids) + self.place.weight[count : count + ids.shape[1]]
        h = h if self.condition is None else h + self.condition(ctx.vector)[:, None]
        h, state = self.gru(h, state)
        return self.head(h), (count + ids.shape[1], state)


@dataclass(frozen=True)
class Causal:
    """Two layers of causal attention; its cache is keys and values. Counts its calls and the ids read."""

    width: int = 32

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec) -> nn.Module:
        return _Causal(self.width, length, classes, context.vector)


class _Causal(nn.Module):
    def __init__(self, width: int, length: int, classes: int, vector: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(classes + 1, width), nn.Embedding(length, width)
        self.condition = nn.Linear(vector, width) if vector else None
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.mix = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.head = nn.Linear(width, classes)
        self.read: list[int] = []

    def forward(self, ids: Tensor, ctx: Context, cache: Any) -> tuple[Tensor, Any]:
        self.read.append(ids.shape[1])
        past = 0 if cache is None else cache[0][0].shape[1]
        h = self.embed(ids) + self.place.weight[past : past + ids.shape[1]]
        h = h if self.condition is None else h + self.condition(ctx.vector)[:, None]
        n, after = ids.shape[1], []
        seen = torch.ones(n, past + n, dtype=torch.bool).tril(past)
        for i, (qkv, mix) in enumerate(zip(self.qkv, self.mix, strict=True)):
            q, k, v = qkv(h).chunk(3, -1)
            if cache is not None:
                k, v = torch.cat([cache[i][0], k], 1), torch.cat([cache[i][1], v], 1)
            after.append((k, v))
            score = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
            h = h + mix(torch.tanh(score.softmax(-1) @ v))
        return self.head(h), tuple(after)


@dataclass(frozen=True)
class ActVaeEncoder:
    """Mean over the valid steps of an MLP of [x, vector]."""

    width: int = 64

    def build(self, *, shape: tuple[int, ...], context: ContextSpec, latent: int) -> nn.Module:
        return _Posterior(self.width, shape, context.vector, latent)


class _Posterior(nn.Module):
    def __init__(self, width: int, shape: tuple[int, ...], vector: int, latent: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(shape[1] + vector, width), nn.SiLU(), nn.Linear(width, 2 * latent))

    def forward(self, x: Tensor, ctx: Context, valid: Tensor) -> tuple[Tensor, Tensor]:
        vector = [] if ctx.vector is None else [ctx.vector[:, None].expand(-1, x.shape[1], -1)]
        h = self.each(torch.cat([x, *vector], -1)).masked_fill(~valid[..., None], 0.0).sum(1)
        mean, logvar = (h / valid.sum(1, keepdim=True)).chunk(2, -1)
        return mean, logvar
