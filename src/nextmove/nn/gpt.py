"""GPT: a causal transformer over ids, with the context in front and cached keys and values (Radford et al. 2019).

The parts are chosen one by one: GPT-2 has layer norms, dense GELU units and learned positions; its successors have
root-mean-square norms, gated units, rotary positions, fewer heads of keys and values, and no biases (Llama); norms on
both sides, windows in some layers and capped scores (Gemma 2 and 3); scores that fall with distance (MPT).

Shapes: B batch, L ids, K classes, P tokens of the context, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Memory
from nextmove.contracts.layers import Product
from nextmove.nn.alibi import Alibi
from nextmove.nn.attention import as_heads
from nextmove.nn.block import Block, Source
from nextmove.nn.chunk_gpt import ChunkGpt
from nextmove.nn.context_tokens import ContextTokens
from nextmove.nn.dropout import Dropout
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.gated import Gated
from nextmove.nn.init import init_normal
from nextmove.nn.mask import CAUSAL, Mask, extend_valid
from nextmove.nn.norm import LayerNorm
from nextmove.nn.product import Linear, linear
from nextmove.nn.quantised import packed_parts
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
    positions: Literal["learned", "rotary", "alibi"] = "learned"
    rotary: Rotary = Rotary()
    """How rotary positions rotate."""
    alibi: Alibi = Alibi()
    """How scores fall with distance, with positions "alibi" (MPT)."""
    norm: Any = LayerNorm()
    """`norm.LayerNorm` or `norm.RmsNorm`, of every norm but those inside attention."""
    feedforward: Any = DenseMlp()
    """`feedforward.DenseMlp` or `feedforward.GatedMlp`."""
    head: Literal["biased", "plain", "tied"] = "biased"
    """Linear map to logits with or without a bias, or the embedding itself."""
    embed_scale: float = 1.0
    """What embedded ids are multiplied by (Gemma: sqrt(width)), rounded to their dtype."""
    place: Literal["before", "both"] = "before"
    """Where the norms of a block are (`block.Block`; Gemma 2: both)."""
    windows: tuple[int, ...] = ()
    """Last keys that a layer's queries read, of the layers in turn (Gemma 2: one of two); 0 = all, () = as `heads`."""
    window_rotary: Rotary | None = None
    """How positions rotate in layers with a window (Gemma 3); None: as in the others."""
    logit_cap: float = 0.0
    """Logits l become cap tanh(l / cap) (Gemma 2); 0 = as they are."""
    gated: Gated | None = None
    """Gated blocks between its layers that attend to the tokens of images (Flamingo)."""

    @property
    def blocks(self) -> list[Block]:
        """Its layers."""
        heads, windows = as_heads(self.heads), self.windows
        each = [replace(heads, window=windows[i % len(windows)]) if windows else heads for i in range(self.layers)]
        return [
            Block(self.width, own, self.feedforward, self.norm, self.place,
                  dropout=self.dropout, attention_dropout=self.dropout)
            for own in each
        ]  # fmt: skip

    @property
    def rotaries(self) -> Rotary | list[Rotary] | None:
        """The rotation of positions, of all layers or of each."""
        if self.positions != "rotary":
            return None
        local = self.window_rotary
        return (
            self.rotary if local is None else [local if as_heads(b.heads).window else self.rotary for b in self.blocks]
        )

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = True) -> GptNet:
        """The network (ids (B, L), ctx, state) -> (logits (B, L, K), state); `start`: the id `classes` may be read.

        With learned positions a sequence, the start symbol counted, has at most `length` ids.
        """
        return GptNet(self, length, classes, context, start)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> ChunkGpt:
        """The same layers over numbers, (x (B, H, A), t (B, times), ctx) -> (B, H, out).

        Raises ValueError for a tied head, which numbers have no embedding for, and for a shape that is not (H, A).
        """
        if len(shape) != 2:
            raise ValueError(f"shape: expected (H, A), found {shape}; this network reads chunks, not images")
        horizon, actions = shape
        return ChunkGpt(GptNet(self, horizon, out, context, start=False), horizon, actions, times, causal)


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
        if config.positions not in ("learned", "rotary", "alibi"):
            raise ValueError(f"positions: expected learned, rotary or alibi, found {config.positions!r}")
        if config.head not in ("biased", "plain", "tied"):
            raise ValueError(f"head: expected biased, plain or tied, found {config.head!r}")
        self.config, self.length, self.classes = config, length, classes
        self.context = ContextTokens(context, config.width)
        self.embedding = nn.Embedding(classes + start, config.width)
        learned = config.positions == "learned"
        self.position = nn.Parameter(torch.empty(length, config.width)) if learned else None
        gated = {} if config.gated is None else config.gated.blocks(config.width, config.layers)
        alibi = config.alibi if config.positions == "alibi" else None
        self.stream = Stream(config.blocks, norm=config.norm, rotary=config.rotaries, alibi=alibi, gated=gated)
        tied = config.head == "tied"
        self.head = None if tied else Linear(config.width, classes, bias=config.head == "biased")
        self.dropout = Dropout(config.dropout) if config.dropout else None
        init_normal(self)
        if self.position is not None:
            nn.init.normal_(self.position, std=0.02)
        for name, weight in self.stream.blocks.named_parameters():
            if name.endswith(("out_proj.weight", "down.weight")):
                # What the blocks add to the residual stream keeps its size at any depth.
                nn.init.normal_(weight, std=0.02 / (2 * config.layers) ** 0.5)

    def forward(self, ids: Tensor, ctx: Context, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """ids (B, L) in 0..K, logits (B, L, K) of the id after each, and the state that the next call goes on from.

        The context is read only without a state.
        """
        h, state = self.read(ids, ctx, state)
        return self.logits(h), state

    def last(self, ids: Tensor, ctx: Context, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """As `forward`, but the logits (B, 1, K) of the last id only."""
        h, state = self.read(ids, ctx, state)
        return self.logits(h[:, -1:]), state

    def logits(self, h: Tensor) -> Tensor:
        """(B, L, K) of what `read` gives."""
        y = linear(h, self.spoken().weight) if self.head is None else self.head(h)
        cap = self.config.logit_cap
        return cap * (y / cap).tanh() if cap else y

    def spoken(self) -> Product:
        """The linear map to logits."""
        if self.head is not None:
            packed = packed_parts(self.head, "weight")
            return Product(None if packed else self.head.weight, self.head.bias, packed)
        packed = packed_parts(self.embedding, "weight")
        if packed:
            (whole,) = packed
            return Product(None, None, [whole.cut(0, self.classes)])
        table = self.embedding.weight
        return Product(table if len(table) == self.classes else table[: self.classes])

    def read(self, ids: Tensor, ctx: Context, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """What the stream makes of ids (B, L): (B, L, W), normalised, and the state."""
        return self.read_embedded(self.embed(ids), ctx, state)

    def read_embedded(
        self,
        x: Tensor,
        ctx: Context,
        state: Memory | None = None,
        *,
        positions: Tensor | None = None,
        mask: Mask = CAUSAL,
        valid: Tensor | None = None,
        source: Source | None = None,
        answer: bool = True,
    ) -> tuple[Tensor, Memory]:
        """As `read`, of embeddings x (B, L, W): those of ids (`embed`) with features in the places of some, or others.

        valid: (B, L) bool, False for padding; positions: (L,) or (B, L) integers, by default those that go on from the
        state, padding not counted. mask: over all tokens of state, context and x (`nn.mask`); a tensor says all.
        source: what gated blocks attend to; answer: as of `Stream.forward`.
        """
        length, prefix = x.shape[1], self.context.count(ctx)
        before = 0 if state is None else state.length - prefix
        if positions is None and (valid is not None or (state is not None and state.mask is not None and not prefix)):
            positions = self._counted(x, state, prefix, valid)
        x = self._positioned(x, positions, before)
        if state is None and prefix:
            x, context_valid = torch.cat([self.context(ctx).to(x), x], 1), self.context.valid(ctx)
            own = None if valid is None else extend_valid(valid, before=prefix)
            context_valid = None if context_valid is None else extend_valid(context_valid, after=length)
            valid = own if context_valid is None else context_valid if own is None else context_valid & own
            if positions is not None:
                ahead = torch.arange(-prefix, 0, device=x.device).expand(*positions.shape[:-1], -1)
                positions = torch.cat([ahead, positions], -1)
        if positions is None and self.config.positions == "rotary":
            # The last token is id `before + length - 1`; the context's positions are negative.
            positions = torch.arange(before + length - x.shape[1], before + length, device=x.device)
        x = x if self.dropout is None else self.dropout(x)
        # A stream that a runtime computes answers in any case.
        options = {"answer": False} if not answer and isinstance(self.stream, Stream) else {}
        h, state = self.stream(x, positions=positions, mask=mask, memory=state, valid=valid, source=source, **options)
        # A slice of all of it would be copied on the way back.
        return h if h.shape[1] == length else h[:, -length:], state

    def embed(self, ids: Tensor) -> Tensor:
        """The embeddings (B, L, W) of ids (B, L), without their positions."""
        x: Tensor = self.embedding(ids)
        # The factor itself has the dtype of what it multiplies, as where such models were trained.
        return x * x.new_tensor(self.config.embed_scale) if self.config.embed_scale != 1 else x

    def _counted(self, x: Tensor, state: Memory | None, prefix: int, valid: Tensor | None) -> Tensor:
        """Positions (B, L) that count what is no padding."""
        if prefix:
            raise ValueError("positions: expected those of x, which has padding beside a context, found none")
        own = torch.arange(x.shape[1], device=x.device)[None] if valid is None else valid.cumsum(1) - 1
        return own if state is None else state.count[:, None] + own

    def _positioned(self, x: Tensor, positions: Tensor | None, before: int) -> Tensor:
        """x with learned positions, where there are some."""
        if self.position is None:
            return x
        last = before + x.shape[1] if positions is None else int(positions.max()) + 1
        if last > self.length:
            raise ValueError(f"ids: expected at most {self.length} in a sequence, found {last}")
        return x + (self.position[before:last] if positions is None else self.position[positions.clamp(min=0)])
