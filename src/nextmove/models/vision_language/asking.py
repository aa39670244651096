"""Questions about images that have been read once, and conversations that go on from what was said.

Shapes: P ids read so far, L new ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Context, Rng
from nextmove.decoders.autoregressive import AutoregressiveDecoder, Reading
from nextmove.decoders.prompts import continued
from nextmove.decoders.sampling import Sampling
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.wording import IMAGE, Turn, ids_of

GREEDY = Sampling(temperature=0.0)
ROOM = 256
"""Ids for which there is space behind a prefix at first."""


class Thread:
    """Ids that are read and written one behind the other; what was read is never read again."""

    def __init__(self, decoder: AutoregressiveDecoder, ctx: Context, state: Any = None) -> None:
        self.decoder, self.ctx, self.state = decoder, ctx, state
        self.unread: list[int] = []
        """Ids behind what the network remembers: the last one written."""

    @property
    def length(self) -> int:
        """P, with those still to be read."""
        memory = getattr(self.state, "memory", self.state)
        return (0 if memory is None else memory.length) + len(self.unread)

    @torch.inference_mode()
    def read(self, ids: Sequence[int]) -> None:
        """Reads ids without answering."""
        net: Any = self.decoder.net
        _, self.state = net.read(torch.tensor([[*self.unread, *ids]]), self.ctx, self.state)
        self.unread = []

    @torch.inference_mode()
    def branch(self, new: int) -> Thread:
        """Another thread behind the same memory, with room for so many ids, into which each branch writes anew."""
        space = -(-max(new, 1) // ROOM) * ROOM
        state = self.state
        if state is not None:
            own = getattr(state, "memory", state).room(space)
            state = state._replace(memory=own) if hasattr(state, "_replace") else own
        made = Thread(self.decoder, self.ctx, state)
        made.unread = list(self.unread)
        return made

    def answer(
        self, ids: Sequence[int], *, new: int, stop: Sequence[int], rng: Rng, sampling: Sampling | None = None
    ) -> Iterator[int]:
        """The ids that follow what was read and these, at most `new`, the ending one included."""
        prompt = torch.tensor([[*self.unread, *ids]])
        reading = Reading(self.decoder, self.ctx, 0, self.state)
        made = continued(
            self.decoder, self.ctx, prompt, new=new, rng=rng, sampling=sampling, stop=stop, reading=reading
        )
        last: list[int] = []
        try:
            for drawn in made:
                last = [int(drawn)]
                yield last[0]
        finally:
            # Also of an answer that is broken off: what was written last is still to be read.
            self.state, self.unread = reading.state, last


class Seen:
    """Images that a model has looked at, about which any number of questions is asked.

    The images' part of the prompt is read once. Each question is a branch behind it: nothing of the prefix is copied
    again. Where question and image see each other (PaliGemma), only what the tower gave is kept.
    """

    def __init__(self, model: Reader, images: Tensor) -> None:
        """images: (T, height, width, 3), uint8 or floating in [0, 1]."""
        self.model, self.count = model, len(images)
        with torch.inference_mode():
            self.ctx = model.look(images[None])
        self.prefix = Thread(model.decoder, self.ctx)
        self.shared = self._shared()
        if self.shared:
            self.prefix.read(self.shared)

    def _shared(self) -> list[int]:
        """The ids that every question begins with."""
        model = self.model
        if getattr(model.net.config, "whole", False) or not self.count:
            return []
        own = model.wording
        shown = own.before + own.image * self.count
        # Up to the last image: pieces of text are cut at images, so what follows has the same ids either way.
        return [*model.first(), *self._ids(shown[: shown.rindex(IMAGE) + len(IMAGE)])]

    def _ids(self, text: str) -> list[int]:
        return ids_of(self.model.codec, text, place=self.model.net.image, count=self.model.each)

    def ask(
        self,
        question: str,
        *,
        new: int,
        rng: Rng,
        sampling: Sampling | None = None,
        shots: Sequence[tuple[str, str]] = (),
    ) -> Iterator[str]:
        """The answer, in parts as they are certain.

        shots: questions and answers about the first images, one each, in front; the rest belong to the question.

        Raises ValueError for markers of another number of images, and for a text over the context.
        """
        model = self.model
        turns = [*(Turn(*shot) for shot in shots), Turn(question, images=self.count - len(shots))]
        ids = model.prompt(turns)
        model.check_length(len(ids) + new, question)
        common = len(self.shared) if ids[: len(self.shared)] == self.shared else 0
        thread = self.prefix.branch(len(ids) - common + new) if common else Thread(model.decoder, self.ctx)
        ends = model.ends()
        written = thread.answer(ids[common:], new=new, stop=ends, rng=rng, sampling=sampling)
        return model.codec.stream(i for i in written if i not in ends)


@torch.no_grad()
def answers(model: Reader, images: Tensor, valid: Tensor, rows: Sequence[Sequence[Turn]], *, new: int) -> list[str]:
    """The likeliest answers to the last question of each row; rows of equal length are answered together.

    images: (B, T, height, width, 3); valid: (B, T) bool, False where a row has no such image.

    Raises ValueError for a text over the context.
    """
    prompts = [model.prompt(turns) for turns in rows]
    said, ends = [""] * len(rows), model.ends()
    for length in sorted({len(ids) for ids in prompts}):
        chosen = [i for i, ids in enumerate(prompts) if len(ids) == length]
        model.check_length(length + new, rows[chosen[0]][-1].question)
        ctx = model.look(images[chosen], valid[chosen])
        prompt = torch.tensor([prompts[i] for i in chosen])
        made = continued(
            model.decoder, ctx, prompt, new=new, rng=torch.Generator(), sampling=GREEDY, stop=ends, pad=ends[0]
        )
        for i, row in zip(chosen, torch.stack([*made], 1).tolist(), strict=True):
            end = next((k for k, drawn in enumerate(row) if drawn in ends), len(row))
            said[i] = model.codec.decode(row[:end])
    return said
