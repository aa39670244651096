"""What the few-step decoders (consistency, shortcut, MeanFlow) share: the linear path and Euler's integration along it.

x_t = t x + (1 - t) noise and velocity x - noise, t = 0 noise, t = 1 data. Shapes: B batch, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Known, Rng, Trunk, normal


def network(trunk: Trunk, shape: tuple[int, ...], times: int, context: ContextSpec) -> nn.Module:
    """The network of a trunk config for x (B, *shape), shape (H, A) or (C, height, width), and `times` times."""
    out = shape[0] if len(shape) == 3 else shape[-1]
    return trunk.build(shape=shape, out=out, times=times, context=context, causal=False)


def expand_like(row: Tensor, x: Tensor) -> Tensor:
    """One number a row (B,) shaped to broadcast over x (B, ...), in its dtype."""
    return row.to(x).view(-1, *[1] * (x.dim() - 1))


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The point of the path at times t (B,)."""
    t = expand_like(t, x)
    return t * x + (1 - t) * noise


def take_rows(ctx: Context, index: Tensor) -> Context:
    """The context of the rows `index` (n,)."""
    return ctx.replace(null=None).map(lambda part: part[index]).replace(batch=len(index))


Call = Callable[[Tensor, Tensor, Context], Tensor]
"""x, times and context to the network's answer."""


def full_precision(net: nn.Module, call: Call | None = None) -> Call:
    """`net`, or another way of calling it, outside autocast, in the dtype of its weights.

    For losses that subtract nearly equal answers, which the 8 bits of bfloat16 cannot tell apart, and for forward-mode
    differentiation, which autocast's cached casts do not survive.
    """
    weights = next((p for p in net.parameters() if p.is_floating_point()), None)

    def called(x: Tensor, times: Tensor, ctx: Context) -> Tensor:
        dtype = x.dtype if weights is None else weights.dtype
        ctx = ctx.map(lambda part: part.to(dtype) if part.is_floating_point() else part)
        with torch.autocast(x.device.type, enabled=False):
            answer: Tensor = (call or net)(x.to(dtype), times.to(torch.promote_types(dtype, torch.float32)), ctx)
        return answer.to(x.dtype)

    return called


def start(net: nn.Module, shape: tuple[int, ...], rng: Rng, noise: Tensor | None) -> Tensor:
    """The noise a sample starts from, like `noise` where given, else drawn on the network's device."""
    if noise is None:
        draw = normal(shape, rng)
        weights = next((p for p in net.parameters() if p.is_floating_point()), draw)
        return draw.to(weights.device, torch.promote_types(weights.dtype, torch.float32))
    if tuple(noise.shape) != shape:
        raise ValueError(f"noise: expected shape {shape}, found {tuple(noise.shape)}")
    return noise


def apply_known(x: Tensor, known: Known | None, point: Callable[[Tensor], Tensor] = lambda value: value) -> Tensor:
    """x with its known part set to `point(value)`: exact where the weight is 1, a blend where it lies in between."""
    if known is None:
        return x
    for name, part in (("value", known.value), ("weight", known.weight)):
        if part.shape != x.shape:
            raise ValueError(f"known.{name}: expected shape {tuple(x.shape)}, found {tuple(part.shape)}")
    weight = known.weight.to(x)
    value = torch.where(weight > 0, known.value.to(x), x)
    return torch.where(weight > 0, torch.lerp(x, point(value), weight), x)


Velocity = Callable[[Tensor, float], Tensor]
"""x (B, ...) and its time to the velocity of the coming step."""


def euler_integrate(
    velocity: Velocity, noise: Tensor, times: Sequence[float], dt: float, known: Known | None
) -> Tensor:
    """From noise to data by x + dt velocity(x, t) at each of `times`, without gradient.

    Before each call the known part is placed on the path (t value + (1 - t) noise, the same noise throughout) and set
    exactly at the end. The rest sees it only through calls at t > 0: in a one-step sampler it changes nothing else.
    """
    x = noise
    with torch.no_grad():
        for t in times:
            x = apply_known(x, known, lambda value, t=t: t * value + (1 - t) * noise)  # type: ignore[misc]
            x = x + dt * velocity(x, t)
        return apply_known(x, known)
