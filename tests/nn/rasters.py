"""What every network over raster ids is asked: which numbers each logit reads, and whether its cache is exact."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, Known, seeded, uniform
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling

Pixel = tuple[int, int]


def built(trunk: Any, grid: tuple[int, int, int], classes: int = 3, condition: int = 0) -> Any:
    torch.manual_seed(0)
    length = grid[0] * grid[1] * grid[2]
    trunk = dataclasses.replace(trunk, grid=grid)
    return trunk.build_tokens(length=length, classes=classes, context=ContextSpec(vector=condition)).eval()


def positive(net: Any) -> Any:
    """The same with weights above 0: nothing dies or cancels in ReLUs and gates, so all that is read has a gradient."""
    net = net.double()
    with torch.no_grad():
        for weight in net.parameters():
            weight.abs_().mul_(0.3).add_(0.01)
    return net


def read(net: Any, grid: tuple[int, int, int], place: Pixel, colour: int = 0) -> set[tuple[int, int, int]]:
    """The (row, column, colour) of the numbers that the logits of one colour at `place` have a gradient to."""
    x = torch.ones(1, grid[2], grid[0], grid[1], dtype=torch.float64, requires_grad=True)
    logits = net.image(x, Context.empty(1))
    logits[0, (place[0] * grid[1] + place[1]) * grid[2] + colour].sum().backward()
    return {(row, column, c) for c, row, column in x.grad[0].nonzero().tolist()}


def earlier(grid: tuple[int, int, int], place: Pixel) -> set[Pixel]:
    return {(i, j) for i in range(grid[0]) for j in range(grid[1]) if (i, j) < place}


def moved(places: set[Pixel], offsets: Any, grid: tuple[int, int, int]) -> set[Pixel]:
    """The pixels inside the image that are one of `offsets` away from one of `places`."""
    found = {(i + y, j + x) for i, j in places for y, x in offsets}
    return {(i, j) for i, j in found if 0 <= i < grid[0] and 0 <= j < grid[1]}


def assert_reads_exactly(
    net: Any,
    grid: tuple[int, int, int],
    place: Pixel,
    pixels: set[Pixel],
    hidden: set[tuple[int, int, int]] = frozenset(),  # type: ignore[assignment]
) -> None:
    """All colours of `pixels` but the hidden ones, of the place itself those before its own, and nothing else."""
    for colour in range(grid[2]):
        whole = {(i, j, c) for i, j in pixels for c in range(grid[2])} - hidden
        assert read(net, grid, place, colour) == whole | {(*place, c) for c in range(colour)}


def conditions(n: int, width: int) -> Context:
    return Context(n, vector=torch.randn(n, width, generator=seeded(2)) if width else None)


def assert_cache_changes_nothing(trunk: Any, grid: tuple[int, int, int], width: int) -> None:
    net, ctx, k = built(trunk, grid, condition=width), conditions(2, width), 3
    ids = torch.randint(k, (2, net.length), generator=seeded(1))
    ids[:, 0] = k
    full = net(ids, ctx, None)[0]
    for cut in range(1, net.length):
        logits, cache = net(ids[:, :cut], ctx, None)
        torch.testing.assert_close(logits, full[:, :cut], atol=1e-5, rtol=1e-5)
        # Two at once, then one by one, and once more from the same cache.
        for _ in range(2):
            more, last = net(ids[:, cut : cut + 2], ctx, cache)
            parts = [more]
            for i in range(cut + 2, net.length):
                more, last = net(ids[:, i : i + 1], ctx, last)
                parts.append(more)
            torch.testing.assert_close(torch.cat(parts, 1), full[:, cut:], atol=1e-5, rtol=1e-5)


def assert_sampled_alike(trunk: Any, grid: tuple[int, int, int]) -> None:
    """Cached, after a prefix read at once, and with the whole read anew at each step: the same ids."""
    length, k, n = grid[0] * grid[1] * grid[2], 3, 16
    torch.manual_seed(0)
    decoder = Autoregressive(dataclasses.replace(trunk, grid=grid), classes=k)
    model: Any = decoder.build(shape=(length,), context=ContextSpec(vector=2)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    ctx, noise = conditions(n, 2), uniform((n, length), seeded(3))
    cached = model.sample(ctx, shape=(length,), rng=seeded(3))
    assert len(cached.unique()) == k
    assert torch.equal(anew(model, ctx, noise, k), cached)
    for prefix in (1, length // 2, length - 1):
        known = Known(cached, (torch.arange(length) < prefix).expand(n, length))
        assert torch.equal(model.sample(ctx, shape=(length,), rng=seeded(3), known=known), cached)


def anew(model: Any, ctx: Context, noise: Tensor, start: int) -> Tensor:
    ids = torch.full((len(noise), 1), start)
    for i in range(noise.shape[1]):
        with torch.no_grad():
            logits = model.net(ids, ctx, None)[0][:, -1]
        ids = torch.cat([ids, Sampling().choose(logits, noise[:, i])[:, None]], 1)
    return ids[:, 1:]


def assert_one_pixel_of_work(trunk: Any, grid: tuple[int, int, int]) -> None:
    net, shapes = built(trunk, grid), []
    net.body.head.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape[2:])))
    cache = None
    for _ in range(net.length):
        _, cache = net(torch.zeros(1, 1, dtype=torch.long), Context.empty(1), cache)
    assert shapes == [(1, grid[1])] + [(1, 1)] * (net.length - 1)
