"""What a network predicts (e, x1, v = a e - b x1, or the velocity u = a' x1 + b' e) and how one gives the others.

At fixed x every target is a linear map of every other. Where a division is needed it is by a (target eps: bad near pure
noise), by b (target x0: bad near data) or by the Wronskian (velocity: never 0 on the paths here); v divides by nothing
that vanishes.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from nextmove.decoders.paths import N, Node

AnyNode = Node[float] | Node[Tensor]
Target = Literal["eps", "x0", "v", "velocity"]


def target_value(target: Target, x1: Tensor, e: Tensor, n: AnyNode) -> Tensor:
    """What the network should answer, given data and noise."""
    if target == "eps":
        return e
    if target == "x0":
        return x1
    if target == "v":
        return n.a * e - n.b * x1
    return n.da * x1 + n.db * e


def to_x1(target: Target, x: Tensor, y: Tensor, n: AnyNode) -> Tensor:
    """The data that an answer y at x implies."""
    if target == "x0":
        return y
    if target == "eps":
        # Kept as two roundings: a is small, so a fused product would differ visibly from other implementations.
        return (x - n.b * y) / n.a
    if target == "v":
        x1 = n.a * x - n.b * y
        return x1 if n.vp else x1 / (n.a2 + n.b2)
    return (n.db * x - n.b * y) / n.w


def to_e(target: Target, x: Tensor, y: Tensor, n: AnyNode) -> Tensor:
    """The noise that an answer y at x implies."""
    if target == "eps":
        return y
    if target == "x0":
        return (x - n.a * y) / n.b
    if target == "v":
        e = n.a * y + n.b * x
        return e if n.vp else e / (n.a2 + n.b2)
    return (n.a * y - n.da * x) / n.w


def to_u(target: Target, x: Tensor, y: Tensor, n: AnyNode) -> Tensor:
    """The velocity dx/dt that an answer y at x implies."""
    if target == "velocity":
        return y
    if target == "eps":
        return (n.da * x + n.w * y) / n.a
    if target == "x0":
        return (n.db * x - n.w * y) / n.b
    norm = n.a2 + n.b2
    return y * (n.w / norm) if n.vp else ((n.a * n.da + n.b * n.db) * x + n.w * y) / norm


def slope(target: Target, n: Node[N]) -> N:
    """b dy/dx1 at fixed x: how an answer moves with the data it implies, times b (so that it is always finite)."""
    if target == "eps":
        return -n.a
    if target == "x0":
        return n.b
    return -(n.a2 + n.b2) if target == "v" else -n.w


def usable(target: Target, n: Node[float]) -> bool:
    """Whether an answer at this time gives a finite velocity."""
    if not (math.isfinite(n.da) and math.isfinite(n.db)):
        return False
    return not (target == "eps" and n.a == 0) and not (target == "x0" and n.b == 0)
