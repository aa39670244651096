"""A language model that reads images as a prefix: their tokens stand in the places of placeholder ids.

Shapes: B batch, L ids, K classes, S tokens of all images of a row, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Memory
from nextmove.nn.gpt import Gpt, GptNet
from nextmove.nn.mask import CAUSAL, Mask, block_mask, branch_mask


class Sight(NamedTuple):
    """What is carried from call to call: the language model's memory, and (B,) how many tokens of images were read."""

    memory: Memory
    used: Tensor


@dataclass(frozen=True)
class Prefix:
    """A language model and the id that stands for a token of an image."""

    trunk: Gpt
    image: int = -1
    """The placeholder; -1: the first id behind the classes, which no text has."""
    whole: bool = False
    """Whether what is read first sees all of itself (PaliGemma; Beyer et al. 2024, section 3.1), not only what comes
    before."""
    first: int = 0
    """Position of the first token."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = False) -> PrefixNet:
        """The network of ids (B, L) in 0..K and tokens of images, `context.token` = W wide."""
        return PrefixNet(self, length, classes, context)


class PrefixNet(nn.Module):
    """(ids (B, L), ctx with tokens (B, S, W), state) -> (logits (B, L, K), state)."""

    def __init__(self, config: Prefix, length: int, classes: int, context: ContextSpec) -> None:
        super().__init__()
        if context.token != config.trunk.width:
            width = config.trunk.width
            raise ValueError(f"context.token: expected the language model's {width}, found {context.token}")
        self.config, self.length = config, length
        self.image = classes if config.image < 0 else config.image
        self.readable = max(classes, self.image + 1)
        """Ids that may be read; those from `classes` on are never written."""
        self.language: GptNet = config.trunk.build_tokens(
            length=length, classes=classes, context=ContextSpec(), start=False
        )

    @property
    def branches(self) -> bool:
        """Whether several texts may go on from one beginning in one row."""
        return not self.config.whole

    def forward(self, ids: Tensor, ctx: Context, state: Sight | None = None) -> tuple[Tensor, Sight]:
        """Logits (B, L, K) of the id after each, and the state that the next call goes on from."""
        h, state = self.read(ids, ctx, state)
        return self.logits(h), state

    def last(self, ids: Tensor, ctx: Context, state: Sight | None = None) -> tuple[Tensor, Sight]:
        """As `forward`, but the logits (B, 1, K) of the last id only."""
        h, state = self.read(ids, ctx, state)
        return self.logits(h[:, -1:]), state

    def logits(self, h: Tensor) -> Tensor:
        """(..., K) of what `read` gives."""
        return self.language.logits(h)

    def read(
        self,
        ids: Tensor,
        ctx: Context,
        state: Sight | None = None,
        *,
        prefix: Tensor | None = None,
        branch: Tensor | None = None,
        valid: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Sight]:
        """What the language model makes of ids (B, L): (B, L, W), and the state.

        prefix: (B, L) bool, what sees all of itself where there is such a prefix; None: all ids without a state, none
        behind one. branch: (B, L) integers, 0 for what all see and another for each text that goes on from there
        without seeing the others (`nn.mask.branch_mask`); read without a state. valid: (B, L) bool, False for padding;
        positions: (L,) or (B, L) integers, by default those that go on from the state, padding not counted.

        A placeholder that was written behind all images of its row is an id as any other.

        Raises ValueError where a row's images have other numbers of tokens than there are places for them.
        """
        memory, used = (None, ids.new_zeros(len(ids))) if state is None else state
        place = ids == self.image
        if state is not None and self.image < self.language.classes:
            place = place & ~self._spent(ctx, used)[:, None]
        x = self.language.embed(ids.masked_fill(place, 0))
        if bool(place.any()) or (state is None and ctx.tokens is not None):
            x, used = self._seen(x, place, ctx, used, state is None), used + place.sum(1)
        if positions is None and self.config.first:
            before: Any = 0
            if memory is not None:
                before = memory.length if memory.mask is None else memory.count[:, None]
            after = torch.arange(ids.shape[1], device=ids.device) if valid is None else valid.cumsum(1) - 1
            positions = before + after + self.config.first
        mask = self._mask(prefix, memory, place, valid)
        if branch is not None:
            mask = branch_mask(branch)
            positions = mask[:, 0].sum(-1) - 1 + self.config.first
        h, memory = self.language.read_embedded(
            x, Context.empty(len(ids)), memory, positions=positions, mask=mask, valid=valid
        )
        return h, Sight(memory, used)

    def _mask(self, prefix: Tensor | None, memory: Memory | None, place: Tensor, valid: Tensor | None) -> Mask:
        if not self.config.whole or memory is not None:
            return CAUSAL
        count = place.shape[1] if prefix is None else int(prefix.sum(1).max())
        near = [window for window in self.config.trunk.windows if window]
        if near and min(near) < count:
            raise ValueError(
                f"ids: expected at most {min(near)} in a prefix, which sees all of itself, as far as windows of "
                f"attention reach, found {count}"
            )
        if prefix is None:
            return None
        # The prefix is one block, and every id behind it one of its own.
        return block_mask(torch.ones_like(prefix) if valid is None else valid, (~prefix).cumsum(1))

    def _spent(self, ctx: Context, used: Tensor) -> Tensor:
        """(B,) bool: the rows whose images have all been read."""
        if ctx.tokens is None:
            return torch.ones_like(used, dtype=torch.bool)
        return used >= (ctx.tokens.shape[1] if ctx.mask is None else ctx.mask.sum(1))

    def _seen(self, x: Tensor, place: Tensor, ctx: Context, used: Tensor, all: bool) -> Tensor:
        """Embeddings x (B, L, W) with tokens of images in their places, from number `used` (B,) of each row on.

        all: whether there have to be places for all of them.
        """
        if ctx.tokens is None:
            raise ValueError(f"images: expected tokens for {int(place.sum())} places, found none")
        valid = place.new_ones(ctx.tokens.shape[:2]) if ctx.mask is None else ctx.mask
        rank, wanted = valid.cumsum(1) - 1, place.sum(1)
        taken = valid & (rank >= used[:, None]) & (rank < (used + wanted)[:, None])
        found = valid.sum(1) if all else taken.sum(1)
        if not torch.equal(found, wanted):
            row = int((found != wanted).nonzero()[0, 0])
            raise ValueError(
                f"images: row {row} has {int(used[row] + wanted[row])} places for their tokens, found "
                f"{int(valid[row].sum())} tokens"
            )
        return x.masked_scatter(place[..., None], ctx.tokens[taken].to(x))
