"""What models of images and texts have in common: how images are scaled and texts become ids.

Shapes: B batch, N images of a row, L ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nextmove.codecs.tokenizer import Tokenizer, Tokens
from nextmove.encoders.pictures import Pictures, Values
from nextmove.models.model import Model
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.vit import VisionTower


def sized(tower: VisionTower, spec: PairSpec) -> VisionTower:
    """The tower for images of the spec's size; raises ValueError where that is no square of whole patches."""
    if spec.height != spec.width or spec.height % tower.patch:
        raise ValueError(
            f"spec: expected squares whose side is a multiple of the {tower.patch} px of a patch, found "
            f"{spec.height} x {spec.width}"
        )
    return replace(tower, image=spec.height)


def patches(weights: Tensor, extra: int) -> Tensor:
    """(B, rows, columns), sums of 1, of attention weights (B, heads, L, S): means over heads and queries.

    extra: tokens in front of the patches', left out.
    """
    found = weights.mean((1, 2))[:, extra:]
    side = int(found.shape[1] ** 0.5)
    return (found / found.sum(1, keepdim=True)).view(len(found), side, -1)


class ImageTextModel(Model):
    """A model of images and texts; `codec` reads texts and is a file beside the weights."""

    def __init__(self, spec: PairSpec, *, values: Values = "clip") -> None:
        """values: how images are scaled, see `encoders.pictures.SCALES`."""
        super().__init__()
        self.spec = spec
        self.codec = Tokenizer.absent(spec.classes, spec.tokenizer)
        self.pictures = Pictures(resize=(spec.height, spec.width), values=values)

    def begun(self) -> None:
        """Told when a part has been given other weights to begin with; copies of it follow."""

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return next(self.parameters()).device

    def pixels(self, images: Tensor) -> Tensor:
        """Images (B, N, height, width, 3), uint8 or floating in [0, 1], as (B N, 3, h, w), resized and scaled.

        Raises ValueError for another number of axes or channels.
        """
        if images.dim() != 5 or images.shape[-1] != 3:
            raise ValueError(f"images: expected (B, N, height, width, 3), found {tuple(images.shape)}")
        x: Tensor = self.pictures(images.to(self.device))
        return x

    def ids(self, texts: Sequence[str], *, fixed: bool = False) -> Tokens:
        """ids (B, L) of texts with their special tokens and the mask of what is no padding, L at most `spec.length`.

        fixed: always that long. Raises ValueError for a text that is longer.
        """
        ids, mask = self.codec.batch(texts, length=self.spec.length, fixed=fixed, cut=None)
        return Tokens(ids.to(self.device), mask.to(self.device))
