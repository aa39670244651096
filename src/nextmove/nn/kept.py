"""What is computed from weights once and used until they change: copies in another order, folded norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

LOOKS = 64
"""How many of the weights are compared with those that the result was computed from, at every use."""


class Kept:
    """Results by weight, each held as long as the weight lives and made anew where one of its sources has changed."""

    def __init__(self) -> None:
        self._found: Any = WeakIdKeyDictionary()

    def __len__(self) -> int:
        return len(self._found)

    def of(self, make: Callable[[], Any], weight: Tensor, *others: Tensor) -> Any:
        """What `make` computes from the weight and the others, contiguous and no inference tensors all of them."""
        # Fused optimisers of others move weights without a new version, hence the look at the values themselves. An odd
        # distance between them: one that divides by the row's length would see one column only, which may stand still.
        state = tuple((tensor._version, tensor.data_ptr()) for tensor in (weight, *others))
        seen = weight.detach().view(-1)[:: weight.numel() // LOOKS | 1]
        found = self._found.get(weight)
        if found is None or found[0] != state or not torch.equal(found[1], seen):
            found = self._found[weight] = (state, seen.clone(), make())
        return found[2]


def lasting(weight: Tensor) -> bool:
    """Whether it is there at the next call too and says when it changes."""
    return isinstance(weight, nn.Parameter) and weight.is_contiguous() and not weight.is_inference()
