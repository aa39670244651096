"""A language model that reads images: what Flamingo, LLaVA, PaliGemma and SmolVLM have in common.

Images -> `tower` -> `bridge` -> tokens of a Context -> `decoder`, whose network puts them in the places of placeholder
ids (`nn.prefix`) or attends to them between its layers (`nn.interleaved`).

Shapes: B batch, T images of a row, N tokens of an image, L ids, W width of what the language model is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nextmove.contracts import Batch, Context, Rng
from nextmove.decoders.autoregressive import AutoregressiveDecoder
from nextmove.encoders.pictures import Values
from nextmove.models.vision_language.model import ImageTextModel
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.wording import Wording, ids_of
from nextmove.nn.places import patch_mask


class Reader(ImageTextModel):
    """Answers questions about images and writes captions, one id after another."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"decoder": None}

    def __init__(
        self,
        spec: PairSpec,
        *,
        tower: nn.Module | None,
        bridge: nn.Module,
        decoder: AutoregressiveDecoder,
        wording: Wording,
        skip: int = 0,
        each: int = 1,
        values: Values = "clip",
    ) -> None:
        """skip: tokens of the tower that are left out in front; each: ids that stand for an image in a text."""
        super().__init__(spec, values=values)
        self.tower, self.bridge, self.decoder = tower, bridge, decoder
        self.wording, self.skip, self.each = wording, skip, each
        self.stop: tuple[int, ...] = ()
        """Ids that end an answer where `wording` names no token."""

    @property
    def net(self) -> Any:
        """The network of ids and tokens of images."""
        return self.decoder.net

    def seen(self, pixels: Tensor, valid: Tensor | None = None, pixels_valid: Tensor | None = None) -> Context:
        """The tokens of images (B, T, 3, h, w), scaled as the tower reads them, as a context.

        valid: (B, T) bool, False where a row has no such image; pixels_valid: (B, T, h, w) bool, False for padding
        around images that are smaller than the tower's.
        """
        if self.tower is None:
            raise ValueError("images: expected a model with a vision tower, found one without")
        tower: Any = self.tower
        own = None if pixels_valid is None else patch_mask(pixels_valid.flatten(0, 1), tower.config.patch)
        tokens: Tensor = tower(pixels.flatten(0, 1), own)[:, self.skip :]
        return self.shown(tokens.reshape(*pixels.shape[:2], *tokens.shape[1:]), valid)

    def shown(self, tokens: Tensor, valid: Tensor | None = None) -> Context:
        """The context of what a tower gives of images, (B, T, S, C), or (B, T, F, S, C) of F frames each."""
        y = self.bridge(tokens)
        mask = None if valid is None or bool(valid.all()) else valid.repeat_interleave(y.shape[2], 1)
        return Context(len(y), tokens=y.flatten(1, 2), mask=mask)

    def look(self, images: Tensor, valid: Tensor | None = None) -> Context:
        """The context of images (B, T, height, width, 3), uint8 or in [0, 1]."""
        pixels = self.pixels(images)
        rows = pixels.view(*images.shape[:2], *pixels.shape[1:])
        return self.seen(rows, None if valid is None else valid.to(pixels.device))

    def ends(self) -> tuple[int, ...]:
        """The ids that end an answer."""
        return (self.codec.id_of(self.wording.end),) if self.wording.end else self.stop

    def asked(self, question: str, images: int) -> list[int]:
        """The ids of a question about so many images, up to the answer.

        Raises ValueError for another number of markers, and for a text over the context.
        """
        text = self.wording.asked(question, images)
        ids = ids_of(self.codec, text, place=self.net.image, count=self.each, special=self.wording.special)
        return self._within(ids, text)

    def batch(self, questions: Sequence[str], answers: Sequence[str], images: Sequence[int]) -> tuple[Tensor, ...]:
        """ids (B, L) of questions with their answers, padded behind, and two masks (B, L): answers, questions."""
        rows = [self.asked(*one) for one in zip(questions, images, strict=True)]
        said = [[*self.codec.encode(self.wording.gap + text).tolist(), *self.ends()[:1]] for text in answers]
        longest = max(len(row) + len(own) for row, own in zip(rows, said, strict=True))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        first, last = ids.new_zeros(len(rows), 1), ids.new_zeros(len(rows), 1)
        for i, (row, own) in enumerate(zip(rows, said, strict=True)):
            whole = self._within([*row, *own], questions[i])
            ids[i, : len(whole)] = torch.tensor(whole)
            first[i], last[i] = len(row), len(whole)
        place = torch.arange(longest)
        parts = ids, (place >= first) & (place < last), place < first
        return tuple(part.to(self.device) for part in parts)

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """{nll: mean cross entropy of the answers' ids, the ending one counted}.

        batch: `images` (B, T, height, width, 3), `images_valid` (B, T), and lists of B texts, `prompt` and `text`.
        """
        valid = batch["images_valid"]
        ids, counts, prefix = self.batch(batch["prompt"], batch["text"], valid.sum(1).tolist())
        options = {"prefix": prefix[:, :-1]} if getattr(self.net.config, "whole", False) else {}
        return self.decoder.loss_where(self.look(batch["images"], valid), ids, counts, **options)

    def _within(self, ids: list[int], text: str) -> list[int]:
        most = self.net.length
        if len(ids) > most:
            seen = sum(i == self.net.image for i in ids)
            raise ValueError(
                f"text: expected at most {most} ids with those of its images, found {len(ids)}, {seen} of them for "
                f"images, in {text[:60]!r}"
            )
        return ids
