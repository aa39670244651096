"""Whether images find their texts and texts their images.

Shapes: R rows, n rows of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def groups(texts: Sequence[str], images: Sequence[Any], ways: int, seed: int = 0) -> list[Array]:
    """Rows in groups of `ways` (n,) in which no text and no image comes twice, each row at most once, drawn by `seed`.

    Where there are fewer different texts or images, groups are that small.
    """
    ways = min(ways, len(set(texts)), len(set(images)))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(texts))
    found: list[Array] = []
    left = list(order)
    while left:
        chosen: list[int] = []
        said, shown = set[str](), set[Any]()
        for row in left:
            if texts[row] not in said and images[row] not in shown:
                chosen.append(int(row))
                said.add(texts[row])
                shown.add(images[row])
            if len(chosen) == ways:
                break
        if len(chosen) < ways:
            break
        found.append(np.array(chosen))
        taken = set(chosen)
        left = [row for row in left if int(row) not in taken]
    return found


def recalled(scores: Array) -> tuple[Array, Array]:
    """Of scores (n, n) of images and texts, whether each image's best text, and each text's best image, is its own."""
    own = np.arange(len(scores))
    return scores.argmax(1) == own, scores.argmax(0) == own


def wrong_partner(texts: Sequence[str], seed: int = 0) -> Array:
    """For each row another row (R,) with another text, drawn by `seed`; its own where all texts are equal."""
    generator, found = np.random.Generator(np.random.PCG64(seed)), np.arange(len(texts))
    for row, text in enumerate(texts):
        others = [i for i, other in enumerate(texts) if other != text]
        if others:
            found[row] = others[int(generator.integers(len(others)))]
    return found


def heated(image: Array, weights: Array) -> Array:
    """An image (height, width, 3) uint8, darkened where weights (rows, columns) are small."""
    height, width = image.shape[:2]
    rows = np.arange(height) * weights.shape[0] // height
    columns = np.arange(width) * weights.shape[1] // width
    strength = weights[rows][:, columns] / max(float(weights.max()), 1e-12)
    bright: Array = np.rint(image * (0.2 + 0.8 * strength[..., None])).astype(np.uint8)
    return bright
