"""Rows of the same images that are shuffled as one: what a model makes of the images then serves all of them.

Shapes: R rows, G groups, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nextmove.data.errors import DataError
from nextmove.data.pairs import Pairs
from nextmove.data.tables import Array


class Together:
    """Groups of `each` rows, those of an image side by side; a step has as many rows as without groups.

    Images of other numbers of rows share groups, and the last group is filled up with the first rows.
    """

    decodes = False

    def __init__(self, pairs: Pairs, each: int, batch: int) -> None:
        """Raises DataError unless `each` divides the rows of a batch."""
        if batch % each:
            raise DataError(f"together: expected a divisor of the {batch} rows of a batch, found {each}")
        self.pairs, self.each = pairs, each
        _, number = np.unique(pairs.index, axis=0, return_inverse=True)
        order = np.argsort(number.ravel(), kind="stable")
        self.order: Array = np.resize(order, (-(-len(order) // each), each))
        """(G, each) numbers of rows."""

    def __len__(self) -> int:
        return len(self.order)

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Any]:
        """The rows of these groups, as `Pairs.batch` gives them."""
        return self.pairs.batch(self.order[np.asarray(indices, np.int64)].ravel())
