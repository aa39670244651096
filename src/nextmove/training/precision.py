"""Whether the loss is computed in bf16: as asked for, as the run began, or where products of matrices are faster in it.

Products stand for the whole step and do not decide for every model: docs/results.md, "Training steps in bf16 and in
float32". A processor without such instructions computes bf16 by way of float32 and is slower.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from nextmove.contracts import _torch

FASTER = 1.3
"""How much faster products must be."""
WIDTHS = (256, 512, 1024)
"""Of square matrices, each with a batch of as many rows as the first."""
REPEATS = 15


@dataclass(frozen=True)
class Precision:
    """The decision and, as text, what it rests on."""

    bf16: bool
    why: str


def choose(asked: Literal["auto", "on", "off"], device: torch.device, kept: bool | None = None) -> Precision:
    """What a run computes its loss in; `kept`: the decision of its first start, if it is resumed.

    On a CPU the first call for a number of threads takes some tens of milliseconds.
    """
    if asked != "auto":
        return Precision(asked == "on", "as asked for")
    if kept is not None:
        return Precision(kept, "as at the run's first start")
    if device.type == "cuda":
        able = bool(torch.cuda.is_bf16_supported())
        return Precision(able, f"the GPU computes {'in it' if able else 'no bf16'}")
    if device.type != "cpu":
        return Precision(False, f"not known to be faster on {device.type}")
    ratio = products(torch.get_num_threads())
    return Precision(ratio >= FASTER, f"this processor multiplies {ratio:.2f} times as fast in bf16 as in float32")


@lru_cache(maxsize=8)
def products(threads: int) -> float:
    """How many times as fast as in float32 matrices are multiplied in bf16 here: the median of a few sizes.

    Float32 counts the faster of torch's product and oneDNN's, as networks compute theirs (`nn.product`).

    threads: as many as torch has now. Each time is the best of several in turns, so that other programs on the machine
    matter little; nothing is drawn.
    """
    ratios = []
    for width in WIDTHS:
        pairs = [
            (torch.ones(WIDTHS[0], width, dtype=kind), torch.ones(width, width, dtype=kind))
            for kind in (torch.float32, torch.bfloat16)
        ]
        times = [[_seconds(a, b) for a, b in pairs] for _ in range(1 + REPEATS)]
        wide, narrow = (min(column) for column in zip(*times[1:], strict=True))
        ratios.append(wide / narrow)
    return sorted(ratios)[len(ratios) // 2]


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    with torch.no_grad():
        began = time.perf_counter()
        a @ b
        found = time.perf_counter() - began
        if a.dtype == torch.float32 and _torch.can_pack():
            began = time.perf_counter()
            _torch.product(a, b, None)
            found = min(found, time.perf_counter() - began)
        return found
