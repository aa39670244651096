"""A trunk without a language model of its own: it goes on in the one that has read the prefix.

`Autoregressive(Continued(vocabulary=((31999, 256, -1),), lead=(29871,)), classes=256)` writes actions as ids of the
language model (RT-2, OpenVLA, pi0-FAST); `Regression(Continued(whole=True))` reads all actions off placeholders in one
pass (OpenVLA-OFT). `follow` hands it the encoder's language model; weights stay the encoder's.

Shapes: B batch, L ids, K classes, H horizon, A action width, n placeholders of a step, P tokens of the prefix, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec, Memory
from nextmove.nn.embedding import sinusoid
from nextmove.nn.gpt import GptNet
from nextmove.nn.mask import CAUSAL, Mask, extend_valid
from nextmove.nn.product import Linear, linear
from nextmove.nn.projector import Projector


@dataclass(frozen=True)
class Continued:
    """How classes or placeholders stand in the vocabulary and the sight of a language model."""

    vocabulary: tuple[tuple[int, int, int], ...] = ()
    """Ids of the classes in turn, as runs (first id, how many, step); none: class i is id i."""
    lead: tuple[int, ...] = ()
    """Ids between the prefix and the first class or placeholder, where a decoder of ids has its start symbol. Words
    that end in the same id have it here instead (OpenVLA: 29871)."""
    learnt: bool = False
    """Whether the ids of `lead` behind its first are learnt too, over the whole vocabulary (pi0-FAST's "Action: ");
    where a plan is made they are given."""
    end: tuple[int, ...] = ()
    """Ids behind the placeholders."""
    whole: bool = False
    """Whether placeholders see each other, and the prefix, where its tokens come unread, sees them; else each what is
    before it."""
    each: int = 0
    """Placeholders n of a step; 0 = as many as it has numbers."""
    shifted: bool = False
    """Whether a placeholder is read one token earlier, as ids are (OpenVLA-OFT)."""
    inputs: Projector = Projector(2)
    """What makes a token of a noisy number (OpenVLA-OFT's diffusion), which takes a placeholder's place."""
    early: bool = False
    """Whether times stand between pictures and words, where the prefix comes unread (OpenVLA-OFT); else in front of the
    placeholders."""
    head: Any = None
    """Config whose `build(width, out)` is the module (B, H, n W) -> (B, H, out); none: a linear map."""
    others: bool = False
    """Whether the last class stands for all other ids, so that the loss counts the whole vocabulary, as language models
    are trained (RT-2, OpenVLA); it is never drawn."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool = True) -> ContinuedNet:
        """The network (ids (B, L) in 0..K, ctx, memory) -> (logits (B, L, K), memory), K being the start symbol."""
        if not start or not self.lead:
            raise ValueError("lead: expected at least one id in place of the decoder's start symbol, found none")
        return ContinuedNet(self, classes)

    def build(
        self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool = False
    ) -> PlaceholderNet:
        """The network (x (B, H, A), t, ctx) -> (B, H, out)."""
        return PlaceholderNet(self, shape, out, times, context.memory is None)


def follow(decoder: Any, language: GptNet | None) -> None:
    """Hands every `Continued` network of a decoder the language model; raises ValueError where there is none."""
    for part in decoder.modules():
        if isinstance(part, Following):
            if language is None:
                raise ValueError("decoder.trunk: Continued goes on in the encoder's language model, found none")
            part.follow(language)


class Following(nn.Module):
    """A network that holds a language model that is another module's part."""

    _held: tuple[GptNet, ...] = ()

    def follow(self, language: GptNet) -> None:
        """Goes on in this one from now on."""
        # In a tuple it is no submodule: its weights are saved, counted and moved where it stands.
        self._held = (language,)

    @property
    def language(self) -> GptNet:
        """The language model; raises ValueError before `follow`."""
        if not self._held:
            raise ValueError("continued: expected a language model, found none; `follow` hands it one")
        return self._held[0]

    def embedded(self, ids: tuple[int, ...], batch: int) -> Tensor:
        """(B, L, W) of the same ids in each row."""
        language = self.language
        return language.embed(torch.tensor(ids, device=language.embedding.weight.device)).expand(batch, -1, -1)


class ContinuedNet(Following):
    """(ids (B, L), ctx with a memory, state) -> (logits (B, L, K) of the classes, state)."""

    table: Tensor | None

    def __init__(self, config: Continued, classes: int) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        ids = [first + step * i for first, count, step in config.vocabulary for i in range(count)]
        if len(ids) + config.others != classes and (ids or config.others):
            each = "each class but the last" if config.others else "each class"
            raise ValueError(f"vocabulary: expected {classes - config.others} ids, one for {each}, found {len(ids)}")
        if len({*ids}) < len(ids) or any(i < 0 for i in ids):
            raise ValueError("vocabulary: expected different ids from 0 on, found one twice or below 0")
        with torch.device("cpu"):
            self.register_buffer("table", torch.tensor(ids) if ids else None, persistent=False)

    def follow(self, language: GptNet) -> None:
        """Goes on in this language model; raises ValueError for ids that it does not have."""
        largest = max(*self.config.lead, self.classes - 1 if self.table is None else int(self.table.max()))
        if largest >= language.classes:
            raise ValueError(f"vocabulary: expected ids below the language model's {language.classes}, found {largest}")
        super().follow(language)

    def forward(self, ids: Tensor, ctx: Context, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """Logits (B, L, K) of the class after each, and the memory that the next call goes on from."""
        h, state = self.read(ids, ctx, state)
        return self.logits(h), state

    @property
    def opening(self) -> int:
        """How many ids in front of the classes are learnt."""
        return len(self.config.lead) - 1 if self.config.learnt else 0

    def taught(self, ids: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """Logits as of `forward`, and the cross entropy (B, `opening`) of the ids of `lead` behind its first."""
        h, _ = self._whole(ids, ctx, None)
        logits = self.language.logits(h[:, : self.opening])
        expected = torch.tensor(self.config.lead[1:], device=h.device).expand(len(h), -1)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).transpose(1, 2)
        return self.logits(h[:, self.opening :]), F.cross_entropy(wide, expected, reduction="none")

    def last(self, ids: Tensor, ctx: Context, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """As `forward`, but the logits (B, 1, K) of the last class only."""
        h, state = self.read(ids, ctx, state)
        found = self._own(h[:, -1:])
        return F.pad(found, (0, int(self.config.others)), value=-torch.inf), state

    def read(self, ids: Tensor, ctx: Context, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """What the language model makes of classes (B, L), the start symbol first: (B, L, W), and the memory."""
        h, state = self._whole(ids, ctx, state)
        return h[:, h.shape[1] - ids.shape[1] :], state

    def _whole(self, ids: Tensor, ctx: Context, state: Memory | None) -> tuple[Tensor, Memory]:
        """As `read`, with what it makes of `lead`, all of which stands in the place of the start symbol."""
        if state is None:
            if ctx.memory is None:
                raise ValueError("context.memory: expected that of a prefix, found none")
            state = ctx.memory
            x = torch.cat([self.embedded(self.config.lead, len(ids)), self._embed(ids[:, 1:])], 1)
        else:
            x = self._embed(ids)
        return self.language.read_embedded(x, Context.empty(len(ids)), state)

    def logits(self, h: Tensor) -> Tensor:
        """(..., K) of what `read` gives: of the ids that are classes alone, and of all others together."""
        if not self.config.others:
            return self._own(h)
        assert self.table is not None
        whole, rows = self.language.logits(h), self.table.to(h.device)
        rest = whole.index_fill(-1, rows, -torch.inf).logsumexp(-1, keepdim=True)
        return torch.cat([whole[..., rows], rest], -1)

    def _own(self, h: Tensor) -> Tensor:
        if self.table is None:
            return self.language.logits(h)[..., : self.classes]
        spoken, cap = self.language.spoken(), self.language.config.logit_cap
        rows = self.table.to(spoken.weight.device)
        y = linear(h, spoken.weight[rows], None if spoken.bias is None else spoken.bias[rows])
        return cap * (y / cap).tanh() if cap else y

    def _embed(self, classes: Tensor) -> Tensor:
        ids = classes if self.table is None else self.table.to(classes.device)[classes]
        return self.language.embed(ids.to(self.language.embedding.weight.device))


class PlaceholderNet(Following):
    """[lead, time, placeholders, end] behind the prefix, read at the placeholders."""

    def __init__(self, config: Continued, shape: tuple[int, ...], out: int, times: int, unread: bool) -> None:
        super().__init__()
        (_, numbers), self.config, self.out, self.times = shape, config, out, times
        self.each = numbers or config.each or out
        if config.early and not unread:
            raise ValueError("early: expected false where the encoder has read the prefix (encoder.read), found true")
        if config.shifted and not config.lead and (config.early or not times):
            raise ValueError("shifted: expected a token in front of the placeholders, as of `lead`, found none")
        if unread and not config.whole:
            raise ValueError(
                "whole: expected true where the encoder has not read the prefix (encoder.read), found false"
            )
        self.numbers = numbers
        self.inputs: nn.Module | None = None
        self.head: nn.Module | None = None

    def follow(self, language: GptNet) -> None:
        """Goes on in this language model; head and inputs are made for its width, once."""
        super().follow(language)
        if self.head is None:
            width, config = language.config.width, self.config
            wide = self.each * width
            self.head = Linear(wide, self.out) if config.head is None else config.head.build(wide, self.out)
            self.inputs = config.inputs.build(1, width) if self.numbers else None

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """x (B, H, A), t (B, times) or None -> (B, H, out)."""
        batch, horizon = x.shape[:2]
        count = horizon * self.each
        parts = [self.embedded(self.config.lead, batch)] if self.config.lead else []
        like = self.language.embedding.weight
        width = like.shape[1]
        times = self._times(t)
        parts += [] if self.config.early else times
        first = sum(part.shape[1] for part in parts) - int(self.config.shifted)
        if self.inputs is None:
            parts.append(like.new_zeros(batch, count, width))
        else:
            parts.append(self.inputs(x.reshape(batch, count, 1).to(like)))
        parts += [self.embedded(self.config.end, batch)] if self.config.end else []
        h = self._read(torch.cat(parts, 1), ctx, times if self.config.early else [])[:, first : first + count]
        assert self.head is not None
        y: Tensor = self.head(h.reshape(batch, horizon, self.each * width))
        return y

    def _times(self, t: Tensor | None) -> list[Tensor]:
        """A token (B, 1, W) of each time."""
        like = self.language.embedding.weight
        if not self.times:
            return []
        if t is None:
            raise ValueError("t: expected the times the network was built for, found none")
        return [sinusoid(t[:, i], like.shape[1])[:, None].to(like) for i in range(self.times)]

    def _read(self, x: Tensor, ctx: Context, early: Sequence[Tensor]) -> Tensor:
        """What the language model makes of the suffix x (B, L, W); early: tokens between pictures and words."""
        mask: Mask = None if self.config.whole else CAUSAL
        empty = Context.empty(len(x))
        if ctx.memory is not None:
            return self.language.read_embedded(x, empty, ctx.memory, mask=mask)[0]
        if ctx.tokens is None:
            raise ValueError("context: expected the memory of a prefix, or its tokens, found neither")
        valid = None if ctx.mask is None else extend_valid(ctx.mask, after=x.shape[1])
        if early and valid is not None:
            told = valid.new_ones(len(x), len(early))
            valid = torch.cat([valid[:, : ctx.place], told, valid[:, ctx.place :]], 1)
        before, after = ctx.tokens[:, : ctx.place].to(x), ctx.tokens[:, ctx.place :].to(x)
        h, _ = self.language.read_embedded(torch.cat([before, *early, after, x], 1), empty, mask=mask, valid=valid)
        return h[:, h.shape[1] - x.shape[1] :]
