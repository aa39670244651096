"""What an attention layer looks at, collected while a network is called.

Shapes: B batch, L queries, S keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from nextmove.nn.attention import Attention
from nextmove.nn.mask import Mask


@contextmanager
def watched(attention: Attention) -> Iterator[list[Tensor]]:
    """Yields a list to which every call inside adds its weights (B, heads, L, S), without gradient."""
    found: list[Tensor] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask = None) -> Tensor:
        found.append(attention.weights(q.detach(), k.detach(), mask))
        return Attention.attend(attention, q, k, v, mask)

    # On the instance, where it comes before the class's.
    attention.__dict__["attend"] = attend
    try:
        yield found
    finally:
        del attention.__dict__["attend"]
