"""Two sources side by side: every batch of the first brings as many rows of the second with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nextmove.data.errors import DataError
from nextmove.data.loader import Source
from nextmove.data.tables import Array


class Mixed:
    """Rows of a source with a row of another beside each, under a name of its own.

    An epoch is as long as the longer of the two, so that all rows of both come; which row is beside which depends on
    numbers alone.
    """

    def __init__(self, source: Source, beside: Source, name: str) -> None:
        """Raises DataError for a source without rows."""
        for what, own in (("source", source), (name, beside)):
            if not len(own):
                raise DataError(f"{what}: expected rows, found none")
        self.source, self.beside, self.name = source, beside, name
        self.repeats = -(-len(beside) // len(source))

    @property
    def decodes(self) -> bool:
        """Whether making a batch decodes images."""
        return getattr(self.source, "decodes", True) or getattr(self.beside, "decodes", True)

    def __len__(self) -> int:
        return len(self.source) * self.repeats

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Any]:
        """These rows of the source, and under the other's name as many of its own."""
        chosen = np.asarray(indices, np.int64)
        own = self.source.batch(chosen % len(self.source))
        return {**own, self.name: self.beside.batch(chosen % len(self.beside))}
