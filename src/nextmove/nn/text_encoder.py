"""A transformer that reads a text's ids: by configuration CLIP's, SigLIP's, BERT, T5's encoder, sentence encoders.

Shapes: B texts, L ids, K classes, S tokens of a source, W width, C width of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from nextmove.contracts import Memory
from nextmove.nn.attention import as_heads
from nextmove.nn.block import Block, Source
from nextmove.nn.dropout import Dropout
from nextmove.nn.feedforward import Activation, DenseMlp
from nextmove.nn.init import init_normal
from nextmove.nn.mask import CAUSAL, Mask
from nextmove.nn.norm import LayerNorm
from nextmove.nn.product import Linear
from nextmove.nn.relative import Relative
from nextmove.nn.stream import Stream
from nextmove.nn.words import WordHead

Pool = Literal["end", "mean", "first", "last", "largest", "marked"]


class Encoded(NamedTuple):
    """What a text says: tokens (B, L, W), undefined at padding, and one vector (B, C)."""

    tokens: Tensor
    vector: Tensor


@dataclass(frozen=True)
class TextEncoder:
    """Embedding, positions, blocks, a norm; the vector is pooled and, where `out` is given, projected."""

    width: int = 128
    layers: int = 4
    heads: Any = 4
    """Number of heads, or `attention.Heads`."""
    out: int = 0
    """Width C of the vector, by a linear map; 0 = `width`, without a map."""
    causal: bool = False
    """Whether a token attends to none after it."""
    pool: Pool = "mean"
    """The last token that is no padding, or the mean of all that are none; the first token (BERT); the last place
    (SigLIP, whose texts are filled up to one length and have no mask); the token of the largest id, which in CLIP's
    vocabulary ends a text; or the first token of the id `mark`."""
    mark: int = -1
    """The id by which "marked" pools."""
    feedforward: Any = DenseMlp()
    """`feedforward.DenseMlp` or `feedforward.GatedMlp`."""
    norm: Any = LayerNorm()
    """`norm.LayerNorm` or `norm.RmsNorm`."""
    dropout: float = 0.0
    place: Literal["before", "after"] = "before"
    """Where the blocks' norms are, as of `block.Block`; behind blocks that have them after (BERT) is no further one."""
    types: int = 0
    """Kinds of segments, whose embeddings are added (BERT: 2); 0 = none."""
    embedding_norm: bool = False
    """A norm of the embeddings (BERT)."""
    relative: Relative | None = None
    """Learned numbers for distances in place of learned positions (T5)."""
    cross: int = 0
    """Width of the tokens of another sequence that each block attends to where they are given (BLIP); 0 = none."""
    out_bias: bool = False
    """Whether the map to `out` has a bias (SigLIP, BERT)."""
    out_tanh: bool = False
    """Whether its tanh is taken (BERT)."""
    words: Activation | None = None
    """Activation of a head that says which id stands at a place (BERT's hidden words); none = no head."""

    @classmethod
    def clip(cls) -> TextEncoder:
        """The text tower of CLIP ViT-B/32 (Radford et al. 2021, table 19); of ids 49408, length 77."""
        return cls(512, 12, 8, out=512, causal=True, pool="end", feedforward=DenseMlp(2048, "quick_gelu"))

    @property
    def block(self) -> Block:
        """One of its blocks."""
        return Block(
            self.width, self.heads, self.feedforward, self.norm, self.place, cross=self.cross, cross_optional=True,
            dropout=self.dropout,
        )  # fmt: skip

    def build(self, *, classes: int, length: int) -> TextEncoderNet:
        """The network of texts of at most `length` ids in 0 .. `classes` - 1."""
        return TextEncoderNet(self, classes, length)


class TextEncoderNet(nn.Module):
    """(ids (B, L), mask (B, L)) -> `Encoded`."""

    def __init__(self, config: TextEncoder, classes: int, length: int) -> None:
        super().__init__()
        _check(config)
        self.config, self.length, width = config, length, config.width
        self.embedding = nn.Embedding(classes, width)
        learned = config.relative is None
        self.position = nn.Parameter(torch.empty(length, width)) if learned else None
        heads = as_heads(config.heads).n_heads
        self.relative = None if config.relative is None else config.relative.build(heads)
        self.types = nn.Embedding(config.types, width) if config.types else None
        self.embedding_norm = config.norm.build(width) if config.embedding_norm else None
        self.dropout = Dropout(config.dropout) if config.dropout and config.embedding_norm else None
        self.stream = Stream([config.block] * config.layers, norm=config.norm if config.place == "before" else None)
        self.project = Linear(width, config.out, bias=config.out_bias) if config.out else None
        self.words = WordHead(width, classes, config.words, config.norm) if config.words else None
        init_normal(self)
        if self.position is not None:
            nn.init.normal_(self.position, std=0.01)

    @property
    def width(self) -> int:
        """C."""
        return self.config.out or self.config.width

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None, source: Source | None = None
    ) -> Encoded:
        """What texts say whose padding, on either side, `mask` (B, L) marks with False; None = there is none.

        types: (B, L) kinds of segments, 0 by default; source: another sequence, which is attended to. Raises ValueError
        for texts that are longer than the network's, or empty.
        """
        h, _ = self.read(ids, mask, types=types, source=source)
        return Encoded(h, self.pooled(h, ids, mask))

    def read(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        *,
        types: Tensor | None = None,
        source: Source | None = None,
        state: Memory | None = None,
        remember: bool = False,
    ) -> tuple[Tensor, Memory | None]:
        """Tokens (B, L, W) and, to `remember`, the memory that a causal network goes on from as `state`."""
        before = 0 if state is None else state.length
        if not ids.shape[1] > 0 or (self.position is not None and before + ids.shape[1] > self.length):
            raise ValueError(f"ids: expected 1 to {self.length} in a text, found {before + ids.shape[1]}")
        valid = None if mask is None else mask.bool()
        x = self._embedded(ids, valid, types, state)
        h, state = self.stream(
            x, mask=self._order(ids, valid), valid=valid, source=source, memory=state, remember=remember
        )
        return h, state

    def pooled(self, h: Tensor, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """The vector (B, C) of tokens h (B, L, W); raises ValueError for a text without the id that marks its place."""
        valid = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        if self.config.pool == "mean":
            weight = valid.to(h)[..., None]
            vector = (h * weight).sum(1) / weight.sum(1).clamp(min=1)
        else:
            vector = h[torch.arange(len(h), device=h.device), self._place(ids, valid)]
        if self.project is not None:
            vector = self.project(vector)
        return vector.tanh() if self.config.out_tanh else vector

    def logits(self, h: Tensor) -> Tensor:
        """(B, L, K) of tokens h (B, L, W): which id stands there; raises ValueError without a head for it."""
        if self.words is None:
            raise ValueError("words: expected a network with a head for ids, found one without")
        found: Tensor = self.words(h, self.embedding.weight)
        return found

    def _embedded(self, ids: Tensor, valid: Tensor | None, types: Tensor | None, state: Memory | None) -> Tensor:
        """What enters the first block."""
        x: Tensor = self.embedding(ids)
        if self.types is not None:
            x = x + (self.types.weight[0] if types is None else self.types(types))
        elif types is not None:
            raise ValueError("types: expected none of a network without kinds of segments, found some")
        if self.position is not None:
            # Positions count the tokens that are no padding.
            place = (torch.ones_like(ids) if valid is None else valid.long()).cumsum(1) - 1
            place = place.clamp(min=0) if state is None else place + state.count[:, None]
            x = x + self.position[place]
        x = x if self.embedding_norm is None else self.embedding_norm(x)
        return x if self.dropout is None else self.dropout(x)

    def _order(self, ids: Tensor, valid: Tensor | None) -> Mask:
        """Who attends to whom, as far as padding alone does not say it."""
        if self.relative is None:
            return CAUSAL if self.config.causal else None
        bias: Tensor = self.relative(ids.shape[1])
        # The least number rather than -inf: a text that is all padding stays defined.
        return bias if valid is None else bias.masked_fill(~valid[:, None, None], torch.finfo(bias.dtype).min)

    def _place(self, ids: Tensor, valid: Tensor) -> Tensor:
        """(B,) places of the tokens that stand for the texts."""
        rule, count = self.config.pool, torch.arange(ids.shape[1], device=ids.device)
        if rule in ("first", "last"):
            return ids.new_full((len(ids),), 0 if rule == "first" else ids.shape[1] - 1)
        if rule == "end":
            return torch.where(valid, count, 0).argmax(1)
        if rule == "largest":
            return ids.argmax(1)
        marked = ids == self.config.mark
        if not torch.compiler.is_compiling() and not bool(marked.any(1).all()):
            row = int(marked.any(1).int().argmin())
            raise ValueError(f"ids: expected the id {self.config.mark} in every text, found none in row {row}")
        return marked.int().argmax(1)


def _check(config: TextEncoder) -> None:
    """Raises ValueError naming a field that contradicts another."""
    pools = ("end", "mean", "first", "last", "largest", "marked")
    if config.pool not in pools:
        raise ValueError(f"pool: expected {', '.join(pools[:-1])} or {pools[-1]}, found {config.pool!r}")
    if config.place not in ("before", "after"):
        raise ValueError(f"place: expected before or after, found {config.place!r}")
    if config.pool == "marked" and config.mark < 0:
        raise ValueError(f"mark: expected the id that 'marked' pools by, found {config.mark}")
    if config.relative is not None and config.causal:
        raise ValueError("relative: expected an encoder that reads both ways, found a causal one")
