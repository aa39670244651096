"""A language model that reads images beside its text: gated blocks attend to the tokens of the image last named.

Shapes: B batch, L ids, K classes, T images of a row, N tokens of each, D their width, W width of the language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Memory
from nextmove.nn.block import Source
from nextmove.nn.gpt import Gpt, GptNet


class Glance(NamedTuple):
    """What is carried from call to call: the memory, (B,) how many images were named, (B, T) which are seen now."""

    memory: Memory
    named: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Interleaved:
    """A language model with gated blocks and the id that stands for an image (Alayrac et al. 2022, section 2.3)."""

    trunk: Gpt
    latents: int
    """Tokens N of each image."""
    image: int = -1
    """The id of an image; -1: the first behind the classes, whose embedding is learned apart."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = False) -> InterleavedNet:
        """The network of ids (B, L) in 0..K and tokens of images, `context.token` = D wide."""
        return InterleavedNet(self, length, classes, context)


class InterleavedNet(nn.Module):
    """(ids (B, L), ctx with tokens (B, T N, D), state) -> (logits (B, L, K), state)."""

    def __init__(self, config: Interleaved, length: int, classes: int, context: ContextSpec) -> None:
        super().__init__()
        gated = config.trunk.gated
        if gated is None or gated.source != context.token:
            found = "none" if gated is None else gated.source
            raise ValueError(f"trunk.gated.source: expected the images' {context.token}, found {found}")
        self.config, self.length = config, length
        self.image = classes if config.image < 0 else config.image
        self.readable = max(classes, self.image + 1)
        """Ids that may be read; those from `classes` on are never written."""
        # As other ids are embedded: in front of all a vector of 0 stays 0 through every norm, whose gradients there
        # multiply to infinity in a deep language model.
        self.mark = nn.Parameter(torch.randn(config.trunk.width) * 0.02) if config.image < 0 else None
        self.language: GptNet = config.trunk.build_tokens(
            length=length, classes=classes, context=ContextSpec(), start=False
        )

    def forward(self, ids: Tensor, ctx: Context, state: Glance | None = None) -> tuple[Tensor, Glance]:
        """Logits (B, L, K) of the id after each, and the state that the next call goes on from."""
        h, state = self.read(ids, ctx, state)
        return self.logits(h), state

    def last(self, ids: Tensor, ctx: Context, state: Glance | None = None) -> tuple[Tensor, Glance]:
        """As `forward`, but the logits (B, 1, K) of the last id only."""
        h, state = self.read(ids, ctx, state)
        return self.logits(h[:, -1:]), state

    def logits(self, h: Tensor) -> Tensor:
        """(..., K) of what `read` gives."""
        return self.language.logits(h)

    def read(
        self, ids: Tensor, ctx: Context, state: Glance | None = None, *, seen: Tensor | None = None
    ) -> tuple[Tensor, Glance]:
        """What the language model makes of ids (B, L): (B, L, W), and the state.

        seen: (B, L, T) bool, which images each id may look at; None: the one last named, and none before the first.
        What comes later and names no image goes on with those of the last id.
        """
        each = self.config.latents
        tokens = self._none(len(ids)) if ctx.tokens is None else ctx.tokens
        there = None if ctx.mask is None else ctx.mask[:, ::each]
        memory, before = (None, ids.new_zeros(len(ids))) if state is None else (state.memory, state.named)
        named = before[:, None] + (ids == self.image).cumsum(1)
        if seen is None:
            images = torch.arange(1, tokens.shape[1] // each + 1, device=ids.device)
            seen = named[..., None] == images
            if state is not None:
                seen = torch.where((named == before[:, None])[..., None], state.seen[:, None], seen)
        if there is not None:
            seen = seen & there[:, None]
        if ctx.tokens is None:
            seen = torch.zeros_like(seen)
        heard = seen.any(-1, keepdim=True)
        # A row of a mask without any key is undefined; what it gives is not heard.
        source = Source(tokens, (seen | ~heard).repeat_interleave(each, -1), heard=heard)
        h, memory = self.language.read_embedded(self._embedded(ids), Context.empty(len(ids)), memory, source=source)
        return h, Glance(memory, named[:, -1], seen[:, -1])

    def _none(self, batch: int) -> Tensor:
        """Tokens of an image that nobody hears."""
        gated = self.config.trunk.gated
        assert gated is not None
        return self.language.embedding.weight.new_zeros(batch, self.config.latents, gated.source)

    def _embedded(self, ids: Tensor) -> Tensor:
        if self.mark is None:
            return self.language.embed(ids)
        place = ids == self.image
        x = self.language.embed(ids.masked_fill(place, 0))
        return torch.where(place[..., None], self.mark.to(x), x)
