"""Points chosen one by one, each farthest from those before (Eldar et al. 1997), compiled by numba.

No sum is left to the processor's ways: products and sums are rounded one by one in a stated order, so that the choice
is the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nextmove.host.compiled import compiled


@compiled(error_model="numpy")
def spread(x: Any, y: Any, z: Any, last: int, count: int) -> Any:
    """Numbers (count,) of points at x, y, z (N,), the first of them `last`; of several at one distance the first."""
    nearest = np.full(len(x), np.inf, np.float32)
    # Floats from 0 on are in the order of their bits, whose maximum many lanes find at once.
    bits = nearest.view(np.int32)
    chosen = np.empty(count, np.int64)
    for number in range(count):
        chosen[number] = last
        here, there, above = x[last], y[last], z[last]
        for i in range(len(x)):
            across, along, up = x[i] - here, y[i] - there, z[i] - above
            square = across * across + along * along + up * up
            nearest[i] = square if square < nearest[i] else nearest[i]
        top = np.int32(-1)
        for i in range(len(x)):
            top = max(top, bits[i])
        last = 0
        while bits[last] != top:
            last += 1
    return chosen
