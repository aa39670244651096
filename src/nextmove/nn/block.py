"""The transformer block: self-attention, cross-attention and a feed-forward part, each of them added to one stream.

GPT, ViT, BERT, DiT, DETR, Flamingo's and Gemma's layers and action experts are configurations of it
(docs/architecture.md, "One block"). Shapes: B batch, L tokens, S tokens of the source, W width, C width of a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from nextmove.contracts import KeyValue
from nextmove.nn.attention import Attention, Heads
from nextmove.nn.dropout import Dropout
from nextmove.nn.feedforward import DenseMlp, GatedMlp, LinearMap
from nextmove.nn.mask import Mask
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.product import Linear


@dataclass(frozen=True)
class Block:
    """What a block is made of."""

    width: int
    heads: int | Heads
    feedforward: DenseMlp | GatedMlp | LinearMap = DenseMlp()
    norm: LayerNorm | RmsNorm = LayerNorm()
    place: Literal["before", "after", "both"] = "before"
    """Where the norms are: before each part (pre-norm, as GPT-2 and ViT), after the sum (post-norm, as Vaswani et al.
    2017 and BERT), or before and after each part, inside the sum (Gemma 2)."""
    attention: bool = True
    """Whether tokens attend to each other."""
    cross: int = 0
    """Width of the source's tokens that are attended to; 0 = no cross-attention."""
    cross_optional: bool = False
    """Whether the cross-attention is passed over where there is no source (BLIP's text transformer; Li et al. 2022)."""
    tanh_gate: bool = False
    """Each part times tanh of a learned number that starts at 0 (Flamingo; Alayrac et al. 2022, section 2.2)."""
    gate_channels: bool = False
    """With `tanh_gate`, a number for each channel in place of one for all."""
    layer_scale: float = 0.0
    """Start of a learned factor per channel of each part (Touvron et al. 2021b; DINOv2); 0 = none."""
    condition: int = 0
    """Width C of a condition that shifts and scales what enters each part and gates what it adds (adaLN of DiT; with
    `RmsNorm`, pi0.5's); its maps start at 0, so that the block starts as the identity. 0 = none."""
    film: int = 0
    """Width C of a condition by which the stream is scaled and shifted behind self-attention, x (1 + scale) + shift
    (Perez et al. 2018; OpenVLA-OFT, Kim et al. 2025); its maps start at 0. 0 = none."""
    dropout: float = 0.0
    """Of what each part adds."""
    attention_dropout: float = 0.0
    """Of attention weights."""
    hidden_dropout: float = 0.0
    """Of the feed-forward part's hidden units."""

    def __post_init__(self) -> None:
        if self.place not in ("before", "after", "both"):
            raise ValueError(f"place: expected before, after or both, found {self.place!r}")
        if self.condition and self.place == "after":
            raise ValueError(
                "condition: expected norms before the parts, which it shifts and scales, found place after"
            )
        if self.condition and self.cross_optional:
            raise ValueError("cross_optional: expected a block without condition, found one that has it")
        if self.film and (self.condition or not self.attention):
            raise ValueError("film: expected a block with self-attention and no other condition, found another")

    def build(self) -> TransformerBlock:
        """The module; raises ValueError if the heads do not divide `width`."""
        return TransformerBlock(self)


class Modulation(NamedTuple):
    """What a condition does to one part: (B, 1, W) each, or (B, L, W)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor | None = None


_UNCHANGED: Iterator[Modulation | None] = repeat(None)


class AdaLN(nn.Module):
    """A linear map from a condition to `count` rows for each of several parts; it starts at 0 (adaLN-zero)."""

    def __init__(self, condition: int, width: int, parts: int, count: int = 3) -> None:
        super().__init__()
        self.parts, self.count = parts, count
        self.linear = Linear(condition, parts * count * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor | None) -> list[Modulation]:
        """Shift, scale and, of three, gate of each part, from the activated condition (B, C) or (B, L, C)."""
        if condition is None:
            raise ValueError(f"condition: expected width {self.linear.in_features}, found none")
        y = self.linear(condition)
        rows = (y[:, None] if y.dim() == 2 else y).chunk(self.parts * self.count, -1)
        return [Modulation(*rows[i : i + self.count]) for i in range(0, len(rows), self.count)]


def modulated(h: Tensor, by: Modulation) -> Tensor:
    """h (B, L, W) scaled and shifted."""
    return torch.addcmul(by.shift, h, 1 + by.scale)


@dataclass(frozen=True)
class Source:
    """Another sequence that is attended to."""

    tokens: Tensor
    """(B, S, `cross`)."""
    mask: Mask = None
    """Over its S tokens, as of `nn.mask`."""
    position: Tensor | None = None
    """Broadcasts to the tokens; added to keys only."""
    values: Tensor | None = None
    """(B, S, `cross`), what is read where it is not the tokens themselves."""
    rotate: Callable[[Tensor], Tensor] | None = None
    """Applied to queries (B, heads, L, E)."""
    heard: Tensor | None = None
    """(B, L, 1) bool, False for queries that are answered with 0 whatever their mask says."""

    def read(self, attention: Attention, query: Tensor) -> Tensor:
        """What attention answers to queries (B, L, W): the same shape."""
        keys = self.tokens if self.position is None else self.tokens + self.position
        q, k, v = attention.project(query, keys, self.tokens if self.values is None else self.values)
        y = attention.attend(q if self.rotate is None else self.rotate(q), k, v, self.mask)
        return y if self.heard is None else y * self.heard


class Branch(nn.Module):
    """How one part of a block is entered from the stream, and how its answer is added."""

    def __init__(self, config: Block) -> None:
        super().__init__()
        self.after = config.place == "after"
        self.norm = config.norm.build(config.width)
        self.post_norm = config.norm.build(config.width) if config.place == "both" else None
        scale = torch.full((config.width,), config.layer_scale)
        self.scale = nn.Parameter(scale) if config.layer_scale else None
        gates = config.width if config.gate_channels else 1
        self.gate = nn.Parameter(torch.zeros(gates)) if config.tanh_gate else None
        self.dropout = Dropout(config.dropout) if config.dropout else None

    def enter(self, x: Tensor, by: Modulation | None) -> Tensor:
        """What the part reads of the stream x (B, L, W)."""
        if self.after:
            return x
        h: Tensor = self.norm(x)
        return h if by is None else modulated(h, by)

    def join(self, x: Tensor, y: Tensor, by: Modulation | None) -> Tensor:
        """The stream x with the part's answer y."""
        if self.post_norm is not None:
            y = self.post_norm(y)
        if self.scale is not None:
            y = y * self.scale
        if self.gate is not None:
            y = y * self.gate.tanh()
        if self.dropout is not None and self.training:
            y = self.dropout(y)
        x = x + y if by is None or by.gate is None else torch.addcmul(x, by.gate, y)
        return self.norm(x) if self.after else x


class TransformerBlock(nn.Module):
    """Self-attention, then cross-attention, then feed-forward; what a configuration lacks is left out."""

    def __init__(self, config: Block) -> None:
        super().__init__()
        width, parts = config.width, config.attention + bool(config.cross) + 1
        self.adaptive = AdaLN(config.condition, width, parts) if config.condition else None
        self.film = AdaLN(config.film, width, 1, 2) if config.film else None
        self.attention_branch = Branch(config) if config.attention else None
        self.attention = self._attention(config) if config.attention else None
        self.cross_branch = Branch(config) if config.cross else None
        self.cross = self._attention(config, config.cross) if config.cross else None
        self.cross_optional = config.cross_optional
        self.feedforward_branch = Branch(config)
        self.feedforward = config.feedforward.build(width, config.hidden_dropout)

    @staticmethod
    def _attention(config: Block, source: int = 0) -> Attention:
        return Attention(config.width, config.heads, config.attention_dropout, source=source)

    def forward(
        self,
        x: Tensor,
        mask: Mask = None,
        past: KeyValue | None = None,
        rotate: Callable[[Tensor], Tensor] | None = None,
        position: Tensor | None = None,
        source: Source | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, KeyValue | None]:
        """x (B, L, W) -> the same, and its keys and values, those of `past` in front.

        mask: over past and own keys; rotate: applied to queries and new keys of self-attention; position: broadcasts
        to x, added to the queries and keys of self-attention and the queries of cross-attention (Carion et al. 2020,
        appendix A.3); condition: (B, C) or (B, L, C), activated.
        """
        # From the table itself: looking modules up as attributes costs a small stream a few percent of its time.
        parts: dict[str, Any] = self._modules
        adaptive, part = parts.get("adaptive"), parts.get("attention")
        changes = _UNCHANGED if adaptive is None else iter(adaptive(condition))
        if part is not None:
            by, branch = next(changes), parts["attention_branch"]
            h = branch.enter(x, by)
            asked = h if position is None else h + position
            y, past = part(asked, asked, h, mask, past, rotate)
            x = branch.join(x, y, by)
            if parts.get("film") is not None:
                x = modulated(x, parts["film"](condition)[0])
        part = parts.get("cross")
        if part is not None and (source is not None or not self.cross_optional):
            if source is None:
                raise ValueError("source: expected tokens for the cross-attention, found none")
            by, branch = next(changes), parts["cross_branch"]
            h = branch.enter(x, by)
            asked = h if position is None else h + position
            x = branch.join(x, source.read(part, asked), by)
        by, branch = next(changes), parts["feedforward_branch"]
        return branch.join(x, parts["feedforward"](branch.enter(x, by)), by), past

    def remembered(
        self,
        x: Tensor,
        past: KeyValue | None = None,
        rotate: Callable[[Tensor], Tensor] | None = None,
        position: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> KeyValue:
        """The keys and values that `forward` gives, without what it makes of x (B, L, W)."""
        if self.attention is None or self.attention_branch is None:
            raise ValueError("block: expected self-attention, whose keys are remembered, found none")
        h = self.attention_branch.enter(x, None if self.adaptive is None else self.adaptive(condition)[0])
        asked = h if position is None else h + position
        _, k, v = self.attention.project(asked, asked, h)
        k = k if rotate is None else rotate(k)
        return KeyValue(k, v) if past is None else past.append(k, v)
