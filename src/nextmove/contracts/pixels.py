"""Images as they are kept and shown: sizes in whole levels.

Shapes: N images.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resized(images: Tensor, size: tuple[int, int], *, averaged: bool = True) -> Tensor:
    """Images (N, height, width, channels) at another height and width, bilinear; `averaged`: over all that they join.

    Of uint8 to uint8, rounded: a frame that is kept at this size is, to the bit, the frame that a policy makes of the
    camera's own. Floating images stay as they come out.
    """
    if tuple(images.shape[1:3]) == size:
        return images
    return F.interpolate(images.permute(0, 3, 1, 2), size, mode="bilinear", antialias=averaged).permute(0, 2, 3, 1)
