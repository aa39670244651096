"""Actions as the words that OpenVLA uses up: numpy's bins between evenly spaced edges, counted from the last word.

Shapes: B batch, H horizon, A action width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nextmove.codecs.counted import Counted


class EdgeBins(Counted):
    """Bins between `edges` evenly spaced numbers of [low, high] (Kim et al. 2024, section 3.2; released code).

    Class n - 1 is the number n that numpy.digitize gives a value among the edges: 1 to `edges` - 1 for the bins, and
    `edges` for `high` alone, which is decoded as the last bin. A class is decoded to the middle of its bin. Values
    outside are clamped to the ends and counted.
    """

    edge: Tensor

    def __init__(self, *, edges: int = 256, width: int = 1, low: float = -1.0, high: float = 1.0) -> None:
        if edges < 3:
            raise ValueError(f"edges: expected at least 3, found {edges}")
        super().__init__(bins=edges, width=width, low=low, high=high)
        # In float64 and by numpy, as published: the edges of other libraries differ in the last digit.
        self._edges = torch.from_numpy(np.linspace(low, high, edges))
        self.register_buffer("edge", self._edges.float(), persistent=False)

    def encode(self, raw: Tensor) -> Tensor:
        """Values (B, H, A) to ids (B, H A) int64 in [0, edges), step by step; values outside are clamped and counted.

        Raises ValueError for another width and for values not finite.
        """
        self.check(raw)
        self.count(raw, float(self._edges[0]), float(self._edges[-1]))
        return self.classes_of(raw).flatten(1)

    def decode(self, x: Tensor) -> Tensor:
        """ids (B, H A) to the middles of their bins, (B, H, A); raises ValueError for an id that is no class."""
        return self.values(self.by_step(x))

    def classes_of(self, values: Tensor) -> Tensor:
        """The classes of values of any shape."""
        edges = self._edges.to(values.device)
        inside = values.double().clamp(float(edges[0]), float(edges[-1])).contiguous()
        return torch.bucketize(inside, edges, right=True) - 1

    def values(self, classes: Tensor) -> Tensor:
        """The middles of the bins of classes of any shape."""
        edges = self._edges.to(classes.device)
        return ((edges[:-1] + edges[1:]) / 2).to(self.edge.dtype)[classes.clamp(max=self.bins - 2)]


def heard(ids: Tensor, vocabulary: int, bins: int = 256) -> Tensor:
    """The classes of any ids, where class i is the id i + 1 from the end of a vocabulary; others become the nearest.

    vocabulary: ids of the tokenizer, without those that pad a model's table (OpenVLA: 32000 of 32064). As published: an
    id that stands for no action is one of the ends.
    """
    return (vocabulary - 1 - ids).clamp(0, bins - 1)
