"""Whether the loss is computed in bf16: as asked for, as the run began, or where steps of the model are faster in it.

A processor without products of its own for bf16 computes it by way of float32, many times slower: it is not tried.
What faster products are worth depends on the model: docs/results.md, "Training steps in bf16 and in float32".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import torch

from nextmove.contracts import _torch

FASTER = 1.1
"""How much faster steps must be, and products, of which they are made."""
ROUNDS, SECONDS = 5, 1.5
"""Steps in each precision at most, in turns; none is begun after these seconds but the first of each."""
WIDTHS = (256, 512, 1024)
"""Of square matrices, each with a batch of as many rows as the first."""
REPEATS = 7
HOPELESS = 0.5
"""A size that is multiplied so much slower settles it: the next would take four times as long to say the same."""

Trial: TypeAlias = Callable[[], AbstractContextManager[Callable[[bool], None]]]
"""Yields what computes the gradients of a step, in bf16 or not; afterwards everything is as it was."""


@dataclass(frozen=True)
class Precision:
    """The decision and, as text, what it rests on."""

    bf16: bool
    why: str


def choose(
    asked: Literal["auto", "on", "off"], device: torch.device, trial: Trial, kept: bool | None = None
) -> Precision:
    """What a run computes its loss in; `kept`: the decision of its first start, if it is resumed.

    On a CPU whose products in bf16 are faster a few steps are tried.
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
    if ratio < FASTER:
        return Precision(False, f"this processor multiplies {ratio:.2f} times as fast in bf16 as in float32")
    with trial() as gradients:
        gradients(False)  # What is wrong with the model itself is said as it would be by the first step.
        try:
            ratio = steps(gradients)
        except RuntimeError as problem:
            return Precision(False, f"it cannot be computed in bf16 ({problem})")
    return Precision(ratio >= FASTER, f"this model makes {ratio:.2f} times as many steps in bf16 as in float32")


def steps(gradients: Callable[[bool], None]) -> float:
    """How many times as fast as in float32 the gradients of a step are computed in bf16: the best times of turns."""
    best, began = [math.inf, math.inf], time.perf_counter()
    for _ in range(ROUNDS):
        for mixed in (False, True):
            start = time.perf_counter()
            gradients(mixed)
            best[mixed] = min(best[mixed], time.perf_counter() - start)
        if time.perf_counter() - began > SECONDS:
            break
    return best[False] / best[True]


@lru_cache(maxsize=8)
def products(threads: int) -> float:
    """How many times as fast as in float32 matrices are multiplied in bf16 here: the median of a few sizes.

    The first size that is `HOPELESS` stands for all. Float32 counts the faster of torch's product and oneDNN's, as
    networks compute theirs (`nn.product`).

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
        if ratios[-1] < HOPELESS:
            return ratios[-1]
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
