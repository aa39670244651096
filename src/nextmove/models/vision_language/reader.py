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
from nextmove.models.vision_language.branches import joined, sharing
from nextmove.models.vision_language.model import ImageTextModel
from nextmove.models.vision_language.shots import Shots
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.wording import Turn, Wording, ending, ids_of
from nextmove.nn.places import patch_mask
from nextmove.nn.tiles import Tiles, tiled


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
        shots: Shots | None = None,
        tiles: Tiles | None = None,
    ) -> None:
        """skip: tokens of the tower that are left out in front; each: ids that stand for an image in a text."""
        super().__init__(spec, values=values)
        self.tower, self.bridge, self.decoder = tower, bridge, decoder
        self.wording, self.skip, self.each, self.shots = wording, skip, each, shots
        self.tiles = tiles
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
        if self.tiles is not None:
            return self._tiled(pixels, valid)
        own = None if pixels_valid is None else patch_mask(pixels_valid.flatten(0, 1), tower.config.patch)
        tokens: Tensor = tower(pixels.flatten(0, 1), own)[:, self.skip :]
        return self.shown(tokens.reshape(*pixels.shape[:2], *tokens.shape[1:]), valid)

    def _tiled(self, pixels: Tensor, valid: Tensor | None) -> Context:
        """The context of images larger than the tower's, by their tiles."""
        tower, tiles = self.tower, self.tiles
        assert tower is not None
        assert tiles is not None
        parts = tiled(pixels.flatten(0, 1), pixels.shape[-2] // tiles.rows)
        tokens: Tensor = tower(parts.flatten(0, 1))[:, self.skip :]
        y: Tensor = self.bridge(tokens)
        y = tiles(y.reshape(*parts.shape[:2], *y.shape[1:]))
        y = y.reshape(*pixels.shape[:2], *y.shape[1:])
        mask = None if valid is None or bool(valid.all()) else valid.repeat_interleave(y.shape[2], 1)
        return Context(len(y), tokens=y.flatten(1, 2), mask=mask)

    def shown(self, tokens: Tensor, valid: Tensor | None = None) -> Context:
        """The context of what a tower gives of images, (B, T, S, C), or (B, T, F, S, C) of F frames each."""
        y = self.bridge(tokens)
        mask = None if valid is None or bool(valid.all()) else valid.repeat_interleave(y.shape[2], 1)
        return Context(len(y), tokens=y.flatten(1, 2), mask=mask)

    def look(self, images: Tensor, valid: Tensor | None = None) -> Context:
        """The context of images (B, T, height, width, 3), uint8 or in [0, 1]."""
        if not images.shape[1]:
            return Context.empty(len(images))
        pixels = self.pixels(images)
        rows = pixels.view(*images.shape[:2], *pixels.shape[1:])
        return self.seen(rows, None if valid is None else valid.to(pixels.device))

    def ends(self) -> tuple[int, ...]:
        """The ids that end an answer."""
        return (ending(self.codec, self.wording, self.stop),)

    def first(self) -> list[int]:
        """The ids in front of everything."""
        wording = self.wording
        return ids_of(self.codec, wording.first, place=self.net.image, count=self.each, special=wording.special)

    def asked(self, turn: Turn) -> list[int]:
        """The ids of a question up to its answer; raises ValueError for another number of markers of images."""
        return ids_of(self.codec, self.wording.asked(turn), place=self.net.image, count=self.each)

    def said(self, answer: str) -> list[int]:
        """The ids of an answer with the one that ends it."""
        return [*self.codec.encode(self.wording.gap + answer).tolist(), *self.ends()[:1]]

    def conversation(self, turns: Sequence[Turn]) -> tuple[list[int], list[bool]]:
        """The ids of questions with their answers, and which of them are answers.

        Raises ValueError for a text over the context, and for another number of markers than of images.
        """
        ids, counts = self.first(), [False] * len(self.first())
        for i, turn in enumerate(turns):
            between = self.codec.encode(self.wording.after).tolist() if i and self.wording.after else []
            asked, said = [*between, *self.asked(turn)], self.said(turn.answer)
            ids += [*asked, *said]
            counts += [False] * len(asked) + [True] * len(said)
        self.check_length(len(ids), turns[-1].question if turns else "")
        return ids, counts

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """The ids of a conversation up to the last answer."""
        if len(turns) == 1:
            return [*self.first(), *self.asked(turns[0])]
        ids, _ = self.conversation(turns[:-1])
        between = self.codec.encode(self.wording.after).tolist() if self.wording.after else []
        return [*ids, *between, *self.asked(turns[-1])]

    def batch(self, rows: Sequence[Sequence[Turn]]) -> tuple[Tensor, Tensor]:
        """ids (B, L) of conversations, padded behind, and which of them are answers (B, L)."""
        made = joined([self.conversation(turns) for turns in rows], [[i] for i in range(len(rows))])
        return made.ids.to(self.device), made.counts.to(self.device)

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """{nll: mean cross entropy of the answers' ids, the ending one counted}.

        batch: `images` (B, T, height, width, 3), `images_valid` (B, T), and lists of B texts, `prompt` and `text`.
        With `shots` several rows become one conversation. Rows with equal `image_ids` (B, T), where the batch has them,
        share what they begin with (`branches`).
        """
        images, valid = batch["images"], batch["images_valid"]
        each = valid.sum(1).tolist()
        turns = [Turn(*row) for row in zip(batch["prompt"], batch["text"], each, strict=True)]
        heard: list[list[bool]] | None = None
        rows = [[turn] for turn in turns]
        if self.shots is None and getattr(self.net, "branches", False) and "image_ids" in batch:
            return self._loss_in_branches(rows, batch)
        if self.shots is not None:
            order, rows, heard = self.shots.gathered(turns, rng)
            images, valid = (part[order].flatten(1, 2) for part in (images, valid))
        ids, counts = self.batch(rows)
        if heard is not None:
            counts = _answers_that_count(counts, heard)
        options = {}
        if getattr(self.net.config, "whole", False):
            # Questions are padded by nothing: all that stands in front of the answer is the prefix.
            options["prefix"] = (counts.cumsum(1) == 0)[:, :-1]
        return self.decoder.loss_where(self.look(images, valid), ids, counts, **options)

    def _loss_in_branches(self, rows: Sequence[Sequence[Turn]], batch: Batch) -> dict[str, Tensor]:
        """The loss where rows that show the same images are branches of one."""
        asked = [self.conversation(turns) for turns in rows]
        groups = sharing(asked, batch["image_ids"], self.net.image)
        made = joined(asked, groups)
        ids, counts, branch = (part.to(self.device) for part in made)
        first = torch.tensor([group[0] for group in groups], device=batch["images"].device)
        images, valid = (batch[name][first] for name in ("images", "images_valid"))
        several = {"branch": branch[:, :-1]} if len(groups) < len(rows) else {}
        return self.decoder.loss_where(self.look(images, valid), ids, counts, **several)

    def check_length(self, count: int, text: str) -> None:
        """Raises ValueError for more ids than the context has, naming the text."""
        most = self.net.length
        if count > most:
            raise ValueError(
                f"text: expected at most {most} ids with those of its images ({self.each} an image), found {count}, "
                f"in {text[:60]!r}"
            )


def _answers_that_count(counts: Tensor, heard: Sequence[Sequence[bool]]) -> Tensor:
    """(B, L) bool: the answers of each row, in order, that are marked in `heard`."""
    before = torch.zeros_like(counts)
    before[:, 1:] = counts[:, :-1]
    number = (counts & ~before).cumsum(1)
    table = counts.new_zeros(len(counts), max(map(len, heard)) + 1)
    for i, row in enumerate(heard):
        table[i, 1 : len(row) + 1] = torch.tensor(row, device=counts.device)
    return counts & table.gather(1, number)
