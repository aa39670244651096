"""An action expert: a transformer over action tokens that reads a prefix's keys and values (pi0, pi0.5, SmolVLA).

Shapes: B batch, H horizon, A action width, P positions of the prefix, L tokens of the suffix, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec, Memory, MemorySpec
from nextmove.nn.attention import Heads
from nextmove.nn.block import Block
from nextmove.nn.embedding import sinusoid
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.mask import CAUSAL, Mask, block_mask, extend_valid
from nextmove.nn.norm import RmsNorm
from nextmove.nn.product import Linear
from nextmove.nn.rope import Rotary
from nextmove.nn.stream import Stream


@dataclass(frozen=True)
class Expert:
    """An action expert of its own width; heads of keys and values, and their width, are those of the memory it reads.

    The suffix is [state, actions], the context's vector being the state; without one it is the actions alone. It
    attends to the prefix and itself, but the state to no action. The classmethods have published sizes.
    """

    width: int = 256
    heads: int = 4
    """Heads of queries, a multiple of the memory's."""
    layers: int = 0
    """0 = as many as the memory; else a divisor n of its m layers: layer i reads the memory's layer i m / n."""
    feedforward: Any = GatedMlp()
    """`feedforward.DenseMlp` or `feedforward.GatedMlp`."""
    norm: Any = RmsNorm()
    """`norm.LayerNorm` or `norm.RmsNorm`; without own gains where the time scales and shifts."""
    rotary: Rotary = Rotary()
    """Rotary positions, as of the network that read the prefix."""
    time: Literal["token", "adaptive"] = "adaptive"
    """How times enter: joined to each action's token by a network of two layers (pi0), or as scale, shift and gate of
    every part (pi0.5)."""
    periods: tuple[float, float] = (4e-3, 4.0)
    """Shortest and longest period of a time's sinusoid, for times in [0, 1] (Black et al. 2024)."""
    last_gate: bool = False
    """Whether the time's map for the last norm has rows for a gate too, which nothing reads (pi0.5, as published)."""
    causal: bool = False
    """Whether an action attends to none after it (SmolVLA)."""
    joint_every: int = 1
    """Layer i attends to prefix and suffix together where this divides i, and elsewhere to the memory's layer alone,
    through projections of its own (SmolVLA: 2); 0 = every layer to the memory alone."""

    @classmethod
    def pi0(cls) -> Expert:
        """pi0's expert of 300 M parameters beside Gemma-2B (Black et al. 2024)."""
        norm = RmsNorm(1e-6, offset=1.0)
        return cls(1024, 8, feedforward=GatedMlp(4096, "gelu_tanh"), norm=norm, time="token")

    @classmethod
    def pi05(cls) -> Expert:
        """pi0.5's, whose norms the time scales, shifts and gates (Physical Intelligence 2025)."""
        return replace(cls.pi0(), time="adaptive", last_gate=True)

    @classmethod
    def smolvla(cls) -> Expert:
        """SmolVLA's expert of 98 M parameters beside 16 layers of SmolLM2 (Shukor et al. 2025)."""
        return cls(720, 15, feedforward=GatedMlp(2048), time="token", causal=True, joint_every=2)

    def blocks(self, memory: MemorySpec) -> list[Block]:
        """Its layers; raises ValueError where they do not fit the memory's."""
        if memory.layers % (self.layers or memory.layers):
            raise ValueError(f"layers: expected a divisor of the memory's {memory.layers}, found {self.layers}")
        heads = Heads(self.heads, memory.n_kv_heads, memory.head_dim, bias=False, out_bias=False)
        condition = self.width if self.time == "adaptive" else 0
        joint = Block(self.width, heads, self.feedforward, self._norm, condition=condition)
        cross = replace(joint, attention=False, cross=memory.n_kv_heads * memory.head_dim)
        every = self.joint_every
        return [joint if every and i % every == 0 else cross for i in range(self.layers or memory.layers)]

    @property
    def _norm(self) -> Any:
        return replace(self.norm, gain=False) if self.time == "adaptive" else self.norm

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> ExpertNet:
        """The network (x (B, H, A), t (B, times), ctx) -> (B, H, out); `causal` forces the order among actions.

        Raises ValueError without a memory, with tokens, and where its sizes do not fit the memory's.
        """
        return ExpertNet(self, shape, out, times, context, causal)


class ExpertNet(nn.Module):
    """A stream over [state, actions] behind the context's memory, which each call reads and leaves as it is."""

    def __init__(
        self, config: Expert, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool
    ) -> None:
        super().__init__()
        (horizon, actions), width, memory = shape, config.width, context.memory
        if config.time not in ("token", "adaptive"):
            raise ValueError(f"time: expected token or adaptive, found {config.time!r}")
        if memory is None:
            raise ValueError("context.memory: expected the sizes of a prefix's keys and values, found none")
        if context.token:
            raise ValueError(f"context.token: expected none beside the memory, found tokens of width {context.token}")
        if context.vector and not config.joint_every:
            raise ValueError("joint_every: expected at least 1 with a state, which no action would see; found 0")
        adaptive = config.time == "adaptive"
        if adaptive and not times:
            raise ValueError("time: expected token where there are no times to scale and shift by, found adaptive")
        self.spec, self.expected, self.times = context, memory, times
        self.periods, self.causal = config.periods, causal or config.causal
        self.state = Linear(context.vector, width) if context.vector else None
        self.action = Linear(actions, width) if actions else None
        self.query = None if actions else nn.Parameter(torch.randn(horizon, width))
        inputs = width * (times if adaptive else 1 + times)
        self.time = nn.Sequential(Linear(inputs, width), nn.SiLU(), Linear(width, width)) if times else None
        self.adaptive = adaptive
        blocks = config.blocks(memory)
        self.every = memory.layers // len(blocks)
        self.stream = Stream(blocks, norm=config._norm, rotary=config.rotary, last=2 + config.last_gate)
        self.head = Linear(width, out)

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """x (B, H, A), t (B, times) or None if there are none -> (B, H, out)."""
        actions = x.shape[1]
        h, condition = self._embed(x, t)
        if self.state is not None:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected width {self.spec.vector}, found none")
            h = torch.cat([self.state(ctx.vector.to(self.state.weight))[:, None], h], 1)
        memory = self._memory(ctx, h.shape[1])
        mask = self._mask(memory, h.shape[1])
        # The maps around the stream may be wider numbers than its own.
        block: Any = self.stream.blocks[0]
        inner = block.feedforward.down.weight
        condition = None if condition is None else condition.to(inner)
        h, _ = self.stream(h.to(inner), mask=mask, memory=memory, condition=condition, remember=False)
        y: Tensor = self.head(h[:, h.shape[1] - actions :].to(self.head.weight))
        return y.to(x.dtype)

    def prepared(self, x: Tensor, t: Tensor | None, ctx: Context) -> tuple[Tensor, Tensor | None, Context]:
        """The same call with sinusoids (B, times W) in place of times: their angles are lost in few bits."""
        like = x.new_empty(0, 0, self.stream.width)
        return x, t if self.time is None else self._sinusoids(t, like), ctx

    def _embed(self, x: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The actions' tokens (B, H, W) and the activated condition (B, W)."""
        if self.action is None:
            assert self.query is not None
            h = self.query[: x.shape[1]].expand(len(x), -1, -1)
        else:
            h = self.action(x.to(self.action.weight))
        if self.time is None:
            return h, None
        sinusoids = self._sinusoids(t, h)
        if self.adaptive:
            return h, F.silu(self.time(sinusoids))
        return self.time(torch.cat([h, sinusoids[:, None].expand(-1, h.shape[1], -1)], -1)), None

    def _sinusoids(self, t: Tensor | None, like: Tensor) -> Tensor:
        """(B, times W)."""
        if t is None:
            raise ValueError("t: expected the times the network was built for, found none")
        if t.dim() == 2 and t.shape[1] == self.times * like.shape[2]:
            return t.to(like)
        if t.dim() != 2 or t.shape[1] != self.times:
            raise ValueError(f"t: expected (B, {self.times}), found {tuple(t.shape)}")
        shortest, longest = self.periods
        turns, exact = t.double() * (2 * math.pi / shortest), torch.float64
        rows = [sinusoid(turns[:, i], like.shape[2], longest / shortest, exact) for i in range(self.times)]
        return torch.cat(rows, 1).to(like)

    def _memory(self, ctx: Context, length: int) -> Memory:
        """The layers that are read, with room for `length` tokens behind them."""
        want, memory = self.expected, ctx.memory
        expected = f"context.memory: expected {want.layers} layers of {want.n_kv_heads} heads, {want.head_dim} wide"
        if memory is None:
            raise ValueError(f"{expected}, found none")
        sizes = {None if kv is None else (kv.keys.shape[1], kv.keys.shape[3]) for kv in memory.layers}
        if len(memory.layers) != want.layers or sizes != {(want.n_kv_heads, want.head_dim)}:
            raise ValueError(f"{expected}, found {len(memory.layers)} of {sorted(map(str, sizes))}")
        held = memory.room(length)
        return held if self.every == 1 else Memory(held.layers[:: self.every], held.mask, held.count)

    def _mask(self, memory: Memory, length: int) -> Mask:
        """Prefix and suffix see what is before them; without an order, actions see each other and the state none."""
        if self.causal:
            return CAUSAL
        if self.state is None:
            return None
        device, before = memory.count.device, memory.length
        valid = torch.ones(1, before, dtype=torch.bool, device=device) if memory.mask is None else memory.mask
        block = (torch.arange(before + length, device=device) - before).clamp(-1, 1)
        return block_mask(extend_valid(valid, after=length), block, length)
