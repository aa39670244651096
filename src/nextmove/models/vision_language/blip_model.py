"""A model that compares images and texts, judges whether they match, and writes captions: BLIP's three tasks.

Shapes: B rows, I images, T texts, L ids, S tokens of an image, W width of texts, C width of the common space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Batch, Context, ContextSpec, Rng, Shard
from nextmove.decoders.autoregressive import Autoregressive, AutoregressiveDecoder
from nextmove.decoders.beams import beam_search
from nextmove.decoders.distilled import Compared, Distilled, DistilledContrast
from nextmove.decoders.matching import matching_loss, matching_pairs
from nextmove.encoders.pictures import Values
from nextmove.models.vision_language.model import ImageTextModel, patches
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.text_ids import text_ids
from nextmove.nn.block import Source
from nextmove.nn.med import Med, Writer, share
from nextmove.nn.text_encoder import TextEncoderNet
from nextmove.nn.vit import VisionTower
from nextmove.nn.watched import watched

NO_WRITER = "model: expected one that writes captions, found one without a decoder for them"


@dataclass(frozen=True)
class Marks:
    """The ids that tell the text transformer what to do, and those that end a text."""

    join: int
    """In place of the first: it is read looking at an image."""
    write: int
    """In place of the first: it is written."""
    end: int


class BlipModel(ImageTextModel):
    """An image tower and one text transformer in three modes; parts that a model has not are None."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"decoder": None}

    marked: Marks | None
    reader: TextEncoderNet | None
    decoder: AutoregressiveDecoder | None
    image_project: nn.Linear | None
    text_project: nn.Linear | None
    match: nn.Linear | None
    contrast: DistilledContrast | None

    def __init__(
        self,
        spec: PairSpec,
        *,
        image: VisionTower,
        text: Med,
        reads: bool = True,
        writes: bool = True,
        space: int = 256,
        distilled: Distilled | None = None,
        smoothing: float = 0.1,
        prompt: str = "",
        values: Values = "clip",
    ) -> None:
        """space: C; distilled: how the comparison is learned, None = it is not; prompt: what captions begin with."""
        super().__init__(spec, values=values)
        if spec.images != 1:
            raise ValueError(f"spec.images: expected 1 image a text, found {spec.images}")
        self.prompt, self.marked = prompt, None
        self.image = image.build()
        self.reader = self.image_project = self.text_project = self.match = self.contrast = self.decoder = None
        if reads:
            self.reader = text.reader(image.width).build(classes=spec.classes, length=spec.length)
            self.image_project, self.text_project = nn.Linear(image.width, space), nn.Linear(text.width, space)
            self.match = nn.Linear(text.width, 2)
        if writes:
            rule = Autoregressive(trunk=text, classes=spec.classes, smoothing=smoothing, start=False)
            self.decoder = rule.build(shape=(spec.length,), context=ContextSpec(tokens=image.tokens, token=image.width))
        if self.reader is not None and self.decoder is not None:
            share(self.reader, self.writer.text)
        if distilled is not None and reads:
            self.contrast = distilled.build(space, self.followed())

    @property
    def writer(self) -> Writer:
        """The network of the decoder; raises ValueError for a model that does not write."""
        if self.decoder is None:
            raise ValueError(NO_WRITER)
        assert isinstance(self.decoder.net, Writer)
        return self.decoder.net

    def followed(self) -> nn.ModuleDict:
        """What compares images and texts, of which momentum keeps running means."""
        parts = {"image": self.image, "text": self.reader, "image_project": self.image_project}
        found = parts | {"text_project": self.text_project}
        return nn.ModuleDict({name: part for name, part in found.items() if part is not None})

    def begun(self) -> None:
        """Momentum's copies begin where the model does."""
        if self.contrast is not None:
            self.contrast.follower.begin(self.followed())

    def marks(self) -> Marks:
        """The ids of <enc>, <dec> and </s>, or those that were set; raises ValueError for a tokenizer without them."""
        if self.marked is None:
            return Marks(*(self.codec.id_of(token) for token in ("<enc>", "<dec>", "</s>")))
        return self.marked

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """{contrast, matching, caption} of `images` (B, 1, height, width, 3) and their `text`, as far as it has parts.

        Raises ValueError for a part of a batch: queue and negatives are of a whole one.
        """
        if isinstance(rng, Shard):
            raise ValueError(
                "blip: expected a whole batch in one process, found a part of one: its queue and its negatives are the "
                "batch's; train it in one process with accumulate 1"
            )
        ids, valid = self.ids([self.prompt + text for text in batch["text"]])
        numbers = text_ids(batch["text"], ids.device)
        shown = batch["image_ids"][:, 0].to(numbers) if "image_ids" in batch else torch.full_like(numbers, -1)
        pixels = self.pixels(batch["images"][:, :1])
        return self.loss_at(pixels, ids, valid, rng=rng, numbers=torch.stack([shown, numbers]))

    def loss_at(
        self,
        pixels: Tensor,
        ids: Tensor,
        valid: Tensor,
        *,
        rng: Rng | None = None,
        alpha: float | None = None,
        numbers: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms of pixels (B, 3, h, w) and ids (B, L) with their mask.

        rng: draws negatives; None = the likeliest. alpha: weight of momentum's answers, by default as it rises in
        training. numbers: (2, B), equal for equal images and equal texts, which then belong together too.
        """
        tokens = self.image(pixels)
        terms: dict[str, Tensor] = {}
        if self.contrast is not None:
            parts = self.followed()
            found: Compared = self.contrast(
                _projected(parts, tokens, self._read(ids, valid)),
                lambda copies: _projected(copies, copies["image"](pixels), copies["text"].read(ids, valid)[0]),
                parts,
                alpha=alpha,
                numbers=numbers,
            )
            rows, others, counted = matching_pairs(found.texts, found.images, rng, found.same)
            logits = self.judge(tokens[rows], ids[others], valid[others])
            terms |= {"contrast": found.loss, "matching": matching_loss(logits, len(ids), counted)}
        if self.decoder is not None:
            terms["caption"] = self._caption_loss(tokens, ids, valid)
        return terms

    def judge(self, tokens: Tensor, ids: Tensor, valid: Tensor) -> Tensor:
        """Logits (B, 2) of images' tokens (B, S, W') and texts (B, L): the second is that they match."""
        h = self._read(_first(ids, self.marks().join), valid, tokens)
        assert self.match is not None
        found: Tensor = self.match(h[:, 0])
        return found

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors (I, C) of images (I, height, width, 3), uint8 or floating in [0, 1]."""
        self._reads()
        assert self.image_project is not None
        return F.normalize(self.image_project(self.image(self.pixels(images[:, None]))[:, 0]), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (T, C) of texts."""
        self._reads()
        assert self.text_project is not None
        return F.normalize(self.text_project(self._read(*self.ids(texts))[:, 0]), dim=-1)

    @torch.no_grad()
    def compare(self, image: Tensor, text: Tensor) -> Tensor:
        """Cosines (I, T) of unit vectors (I, C) and (T, C)."""
        return image @ text.mT

    @torch.no_grad()
    def matches(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Probability (B,) that images (B, height, width, 3) and texts belong together, pair by pair."""
        ids, valid = self.ids(texts)
        return self.judge(self.image(self.pixels(images[:, None])), ids, valid).softmax(-1)[:, 1]

    @torch.no_grad()
    def attention(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, rows, columns) how much each text looks at each patch of its image (B, height, width, 3), sums of 1.

        Of the last layer that looks, over all heads and ids between the first and the last.
        """
        tokens = self.image(self.pixels(images[:, None]))
        text = self.writer.text if self.reader is None else self.reader
        last: Any = text.stream.blocks[-1].cross
        with watched(last) as weights:
            for row, said in zip(tokens, texts, strict=True):
                ids, valid = self.ids([said])
                text.read(ids, valid, source=Source(row[None]))
        each = [patches(found[:, :, 1:-1], self.image.config.extra) for found in weights]
        return torch.cat(each)

    @torch.no_grad()
    def caption(
        self, images: Tensor, *, new: int = 0, beams: int = 3, least: int = 0, prompt: str | None = None
    ) -> list[str]:
        """Captions of images (B, height, width, 3); new: most ids, 0 = as many as fit; beams: 1 = the likeliest ids.

        Raises ValueError for a model that does not write, and a prompt that leaves no room.
        """
        marks, prompt = self.marks(), self.prompt if prompt is None else prompt
        begun = [marks.write, *self.codec.encode(prompt.strip()).tolist()]
        room = self.spec.length - len(begun)
        if room < 1 or new > room:
            raise ValueError(f"new: expected at most {room} ids behind the prompt, found {new}")
        ctx = self.seen(self.pixels(images[:, None]))
        ids = torch.tensor(begun, device=self.device).expand(len(images), -1)
        made = self.written(ctx, ids, new=new or room, beams=beams, least=least, stop=(marks.end,), pad=marks.end)
        return [self._text(row[1:].tolist(), marks.end) for row in made]

    def seen(self, pixels: Tensor) -> Context:
        """The tokens of images (B, 3, h, w) as what the writer looks at."""
        return Context(len(pixels), tokens=self.image(pixels))

    def written(self, ctx: Context, ids: Tensor, *, new: int, beams: int, **options: Any) -> Tensor:
        """ids (B, P + n) of the best texts that go on from prompts (B, P); options: as of `decoders.beams`."""
        decoder = self.decoder
        if decoder is None:
            raise ValueError(NO_WRITER)
        return beam_search(decoder, ctx, ids, new=new, width=beams, **options)

    def _caption_loss(self, tokens: Tensor, ids: Tensor, valid: Tensor) -> Tensor:
        assert self.decoder is not None
        ctx = Context(len(tokens), tokens=tokens)
        counts = valid.clone()
        # What captions are asked for with is not learned.
        counts[:, : len(self.codec.encode(self.prompt.strip())) + 1 if self.prompt else 1] = False
        return self.decoder.loss_where(ctx, _first(ids, self.marks().write), counts)["nll"]

    def _read(self, ids: Tensor, valid: Tensor, tokens: Tensor | None = None) -> Tensor:
        """What the reader makes of texts (B, L, W), looking at images' tokens where there are some."""
        reader = self._reads()
        source = None if tokens is None else Source(tokens)
        return reader.read(ids, valid, source=source)[0]

    def _reads(self) -> TextEncoderNet:
        if self.reader is None:
            raise ValueError("model: expected one that compares images and texts, found one that writes captions alone")
        return self.reader

    def _text(self, ids: list[int], end: int) -> str:
        whole = ids[: ids.index(end)] if end in ids else ids
        return self.codec.decode(whole).strip()


def _projected(parts: nn.ModuleDict, tokens: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (B, C) of images' tokens and of texts', each by its first token."""
    image, text = parts["image_project"](tokens[:, 0]), parts["text_project"](h[:, 0])
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def _first(ids: Tensor, mark: int) -> Tensor:
    """ids (B, L) with another first one."""
    return torch.cat([torch.full_like(ids[:, :1], mark), ids[:, 1:]], 1)
