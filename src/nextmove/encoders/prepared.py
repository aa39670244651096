"""Pictures of any size as a published vision tower reads them: brought to its size, cut, scaled.

Resizing is Pillow's, bytes to bytes, as it was when these towers were trained: torch's antialiased filters differ from
it by whole levels. `encoders.pictures.Pictures` prepares frames of one known size, in training too.

Shapes: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextmove.encoders.pictures import SCALES, Values

Filter = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Picture = NDArray[np.uint8] | Tensor
"""(height, width, 3) uint8, of any size."""


@dataclass(frozen=True)
class Prepared:
    """What happens to a picture, in this order; pictures (height, width, 3) uint8 -> (N, 3, h, w) float32."""

    square: bool = False
    """Filled up to a square around its middle, by the mean colour (LLaVA)."""
    size: int | tuple[int, int] | None = 224
    """Its shorter side, px, the longer in proportion; or height and width; none: as it comes."""
    filter: Filter = "bicubic"
    crop: tuple[int, int] | None = (224, 224)
    """Height and width of the middle that is kept; what is missing is black."""
    scale: float = 1 / 255
    """What bytes are multiplied by."""
    mean: tuple[float, ...] = field(default=SCALES["clip"][0])
    std: tuple[float, ...] = field(default=SCALES["clip"][1])

    @classmethod
    def clip(cls, side: int = 224) -> Prepared:
        """CLIP's (Radford et al. 2021): the shorter side, the middle."""
        return cls(size=side, crop=(side, side))

    @classmethod
    def stretched(cls, side: int, values: Values = "symmetric", filter: Filter = "bicubic") -> Prepared:
        """To a square, whatever shape it had: SigLIP's; with values "clip" and 384 px BLIP's; "bilinear" ViT's."""
        return cls(size=(side, side), filter=filter, crop=None, mean=SCALES[values][0], std=SCALES[values][1])

    @classmethod
    def dinov2(cls, side: int = 224) -> Prepared:
        """DINOv2's (Oquab et al. 2023): 256 px of the shorter side for a middle of 224, in this proportion."""
        return cls(size=side * 256 // 224, crop=(side, side), mean=SCALES["imagenet"][0], std=SCALES["imagenet"][1])

    def __call__(self, pictures: Sequence[Picture]) -> Tensor:
        """(N, 3, h, w); raises ValueError naming a picture that is no (height, width, 3) uint8, or is empty.

        Pictures must come out at one size: with neither `crop` nor a fixed `size` they have to go in so.
        """
        rows = [self.one(picture, f"picture {i}") for i, picture in enumerate(pictures)]
        sizes = {tuple(row.shape[1:]) for row in rows}
        if len(sizes) > 1:
            raise ValueError(f"pictures: expected one size after resizing and cropping, found {sorted(sizes)}")
        return torch.stack(rows) if rows else torch.zeros(0, 3, *(self.crop or (0, 0)))

    def one(self, picture: Picture, name: str = "picture") -> Tensor:
        """(3, h, w) of one."""
        x = np.asarray(picture)
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
            raise ValueError(f"{name}: expected (height, width, 3) uint8, found {x.shape} {x.dtype}")
        if 0 in x.shape:
            raise ValueError(f"{name}: expected pixels, found an empty picture {x.shape}")
        x = self._squared(x) if self.square else x
        x = x if self.size is None else self._resized(x)
        x = x if self.crop is None else _middle(x, self.crop)
        found = torch.from_numpy(np.array(x)).permute(2, 0, 1) * self.scale
        mean, std = (torch.tensor(part)[:, None, None] for part in (self.mean, self.std))
        return ((found - mean) / std).contiguous()

    def _squared(self, x: Any) -> Any:
        height, width = x.shape[:2]
        side = max(height, width)
        colour = np.array([int(part * 255) for part in self.mean], np.uint8)
        whole = np.broadcast_to(colour, (side, side, 3)).copy()
        top, left = (side - height) // 2, (side - width) // 2
        whole[top : top + height, left : left + width] = x
        return whole

    def _resized(self, x: Any) -> Any:
        from PIL import Image

        height, width = x.shape[:2]
        if isinstance(self.size, int):
            short, long = sorted((height, width))
            longer = max(1, int(self.size * long / short))
            rows, columns = (self.size, longer) if height <= width else (longer, self.size)
        else:
            assert self.size is not None
            rows, columns = self.size
        if (rows, columns) == (height, width):
            return x
        by = Image.Resampling[self.filter.upper()]
        return np.asarray(Image.fromarray(x).resize((columns, rows), by))


def _middle(x: Any, size: tuple[int, int]) -> Any:
    """The middle of x (height, width, 3), what is missing of it black."""
    rooms = [(part - own, own) for part, own in zip(x.shape[:2], size, strict=True)]
    if min(room for room, _ in rooms) < 0:
        pads = [(-room // 2 if room < 0 else 0, (1 - room) // 2 if room < 0 else 0) for room, _ in rooms]
        x = np.pad(x, [*pads, (0, 0)])
    (top, left), (rows, columns) = [max(0, room) // 2 for room, _ in rooms], size
    return x[top : top + rows, left : left + columns]
