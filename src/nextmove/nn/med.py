"""BLIP's text transformer, one network in three modes: it reads a text, reads it looking at an image, or writes it.

BERT's blocks with a cross-attention to the image's tokens that is passed over where there is none. Reader and writer
share all but self-attention and the writer's head (Li et al. 2022, section 3.1).

Shapes: B texts, L ids, K classes, S tokens of an image, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Memory
from nextmove.nn.block import Source
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.mask import key_mask
from nextmove.nn.norm import LayerNorm
from nextmove.nn.text_encoder import TextEncoder, TextEncoderNet


@dataclass(frozen=True)
class Med:
    """Sizes of the text transformer; the defaults are BERT base's."""

    width: int = 768
    layers: int = 12
    heads: Any = 12
    """Number of heads, or `attention.Heads`."""
    feedforward: Any = DenseMlp(activation="gelu")
    """`feedforward.DenseMlp`."""
    norm: Any = LayerNorm(1e-12)
    dropout: float = 0.0
    own_table: bool = False
    """Whether the writer's head has a table of its own in place of the embeddings (as BLIP was pretrained)."""

    def reader(self, source: int) -> TextEncoder:
        """What reads a text, also looking at tokens of width `source`; its vector is that of the first token."""
        return TextEncoder(
            self.width, self.layers, self.heads, pool="first", feedforward=self.feedforward, norm=self.norm,
            dropout=self.dropout, place="after", embedding_norm=True, cross=source,
        )  # fmt: skip

    def writer(self, source: int) -> TextEncoder:
        """What writes a text, looking at tokens of width `source`."""
        return replace(self.reader(source), causal=True, words=self.feedforward.activation)

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = False) -> Writer:
        """The writer's network of texts of `length` ids that looks at the context's tokens; it has no start symbol."""
        if start or not context.token:
            raise ValueError(f"context: expected tokens of images and no start symbol, found {context}, start {start}")
        text = self.writer(context.token).build(classes=classes, length=length)
        return Writer(text, classes if self.own_table else 0)


class Writer(nn.Module):
    """(ids (B, L), ctx, state) -> (logits (B, L, K), state), looking at the context's tokens: a decoder's network."""

    def __init__(self, text: TextEncoderNet, classes: int = 0) -> None:
        """classes: of a table of the head's own; 0 = it is the embeddings."""
        super().__init__()
        self.text = text
        self.table = nn.Parameter(0.02 * torch.randn(classes, text.config.width)) if classes else None

    @property
    def length(self) -> int:
        """Most ids of a text."""
        return self.text.length

    def forward(self, ids: Tensor, ctx: Context, state: Memory | None = None) -> tuple[Tensor, Memory | None]:
        """Logits (B, L, K) of the id after each."""
        h, state = self.read(ids, ctx, state)
        return self.logits(h), state

    def last(self, ids: Tensor, ctx: Context, state: Memory | None = None) -> tuple[Tensor, Memory | None]:
        """As `forward`, but the logits (B, 1, K) of the last id only."""
        h, state = self.read(ids, ctx, state)
        return self.logits(h[:, -1:]), state

    def read(
        self, ids: Tensor, ctx: Context, state: Memory | None = None, *, valid: Tensor | None = None
    ) -> tuple[Tensor, Memory | None]:
        """What the blocks make of ids (B, L): (B, L, W), and the state; valid: (B, L), False for padding behind."""
        return self.text.read(ids, valid, source=look(ctx), state=state, remember=not torch.is_grad_enabled())

    def logits(self, h: Tensor) -> Tensor:
        """(B, L, K) of what `read` gives."""
        if self.table is None or self.text.words is None:
            return self.text.logits(h)
        y: Tensor = self.text.words(h, self.table)
        return y


def look(ctx: Context) -> Source:
    """The context's tokens as what is attended to; raises ValueError for a context without any."""
    if ctx.tokens is None:
        raise ValueError("context: expected tokens of an image, found none")
    return Source(ctx.tokens, None if ctx.mask is None else key_mask(ctx.mask))


def share(reader: TextEncoderNet, writer: TextEncoderNet) -> None:
    """Makes the writer's embeddings, cross-attention and feed-forward parts the reader's own."""
    for name in ("embedding", "position", "embedding_norm"):
        setattr(writer, name, getattr(reader, name))
    for mine, theirs in zip(reader.stream.blocks, writer.stream.blocks, strict=True):
        for name in ("cross", "cross_branch", "feedforward", "feedforward_branch"):
            setattr(theirs, name, getattr(mine, name))
