"""Images and texts in one space: what CLIP and SigLIP share.

Shapes: B rows, I images, T texts, C width of the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Batch, Rng, joined
from nextmove.decoders.contrastive import Contrastive, equal_pairs
from nextmove.encoders.pictures import Values
from nextmove.models.vision_language.model import ImageTextModel, patches
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.text_ids import text_ids
from nextmove.nn.dual import DualEncoderNet
from nextmove.nn.watched import watched


class Dual(ImageTextModel):
    """Two towers and the loss that brings what belongs together together."""

    def __init__(
        self,
        spec: PairSpec,
        net: DualEncoderNet,
        contrast: Contrastive,
        *,
        values: Values = "clip",
        fixed: bool = False,
        mask: bool = True,
    ) -> None:
        """fixed: texts are filled up to `spec.length`; mask: whether the text tower is told of padding."""
        super().__init__(spec, values=values)
        if spec.images != 1:
            raise ValueError(f"spec.images: expected 1 image a text, found {spec.images}")
        self.net, self.contrast, self.fixed, self.mask = net, contrast, fixed, mask

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """{contrastive: ()} of `images` (B, 1, height, width, 3) and their `text`, a list of B strings."""
        if self.training:
            self.contrast.bound(self.net.scale)
        found = {name: joined(name, value, rng) for name, value in self.compared(batch).items()}
        same = equal_pairs(found["image_id"], found["text_id"]) if self.contrast.shared else None
        return self.contrast.loss(self.net.logits(found["image"].float(), found["text"].float()), same)

    def compared(self, batch: Batch) -> dict[str, Tensor]:
        """Unit vectors `image` and `text` (B, C), and numbers `image_id` and `text_id` (B,), equal for equal ones."""
        numbers = text_ids(batch["text"], self.device)
        images = batch["image_ids"][:, 0] if "image_ids" in batch else torch.full_like(numbers, -1)
        return {
            "image": self.net.images(self.pixels(batch["images"][:, :1])),
            "text": self._texts(batch["text"]),
            "image_id": images.to(numbers),
            "text_id": numbers,
        }

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors (I, C) of images (I, height, width, 3), uint8 or floating in [0, 1]."""
        return self.net.images(self.pixels(images[:, None]))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (T, C) of texts."""
        return self._texts(texts)

    @torch.no_grad()
    def compare(self, image: Tensor, text: Tensor) -> Tensor:
        """Logits (I, T) of unit vectors (I, C) and (T, C)."""
        return self.net.logits(image, text)

    @torch.no_grad()
    def attention(self, images: Tensor, texts: Sequence[str] = ()) -> Tensor:
        """(I, rows, columns) how much of what images (I, height, width, 3) say comes from each patch, sums of 1.

        What stands for an image (its class token, or the query that pools) attends in the last layer, over all heads.
        """
        tower = self.net.image
        layer: Any = tower.stream.blocks[-1].attention if tower.pool is None else tower.pool.attention
        with watched(layer) as weights:
            self.embed_images(images)
        return patches(weights[0][:, :, :1], tower.config.extra)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        ids, valid = self.ids(texts, fixed=self.fixed)
        return self.net.texts(ids, valid if self.mask else None)
