"""MeanFlow as MP1 trains it, against its formulas in its own direction, and steps taught by two steps."""

from __future__ import annotations

import math

import pytest
import torch
from tests.decoders import gauss
from tests.decoders.tiny import Exact
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, normal, seeded, uniform
from nextmove.decoders import MeanFlow
from nextmove.decoders.dispersive import dispersive
from nextmove.nn import Mlp, UNet1d

TRUNK = UNet1d(widths=(8, 16, 16), kernel=3, groups=2, final_groups=2, time_width=8)
B, H, A = 12, 4, 3


def drawn() -> tuple[Context, Tensor, Tensor, Tensor, Tensor]:
    t, u = (uniform((B,), seeded(i)).double() for i in (3, 4))
    h = torch.where(torch.arange(B) % 3 == 0, 0, (1 - t) * u)
    x, noise = (normal((B, H, A), seeded(i)).double() for i in (1, 2))
    return Context(B, vector=normal((B, 5), seeded(5)).double()), x, noise, t, h


def test_the_loss_is_mp1s() -> None:
    torch.manual_seed(0)
    config = MeanFlow(TRUNK, guidance=2.0, dispersive=0.5, per_entry=True, power=0.5, floor=1e-3)
    decoder = config.build(shape=(H, A), context=ContextSpec(vector=5)).double()
    ctx, x, noise, t, h = drawn()
    terms = decoder.loss_at(ctx, x, t=t, h=h, noise=noise)

    # MP1's direction: t = 1 is noise, r <= t, v = e - x.
    def u(z: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return -decoder.net(z, torch.stack([1 - t, t - r], 1), ctx)

    late, early = 1 - t, 1 - t - h
    z, v = (1 - late)[:, None, None] * x + late[:, None, None] * noise, noise - x
    with torch.no_grad():
        v = 2 * v - u(z, late, late)
    made, slope = torch.func.jvp(u, (z, late, early), (v, torch.ones_like(late), torch.zeros_like(early)))
    d = ((made - (v - h[:, None, None] * slope).detach()) ** 2).mean((1, 2))
    torch.testing.assert_close(terms["mean_flow"], (d / (d.detach() + 1e-3) ** 0.5).mean())

    features = []
    hooks = [level.second.register_forward_hook(lambda *call: features.append(call[2])) for level in decoder.net.down]
    decoder.net(z, torch.stack([1 - late, h], 1), ctx)
    for hook in hooks:
        hook.remove()
    expected = 0.0
    for level in features[:-1]:
        apart = torch.cdist(level.flatten(1), level.flatten(1)) ** 2
        expected += torch.log(torch.exp(-apart / apart.max()).mean())
    torch.testing.assert_close(terms["dispersive"], 0.5 * expected, rtol=1e-4, atol=1e-6, check_dtype=False)

    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in decoder.parameters())


def test_padded_rows_are_not_driven_apart() -> None:
    torch.manual_seed(0)
    config = MeanFlow(TRUNK, dispersive=1.0)
    decoder = config.build(shape=(H, A), context=ContextSpec(vector=5)).double()
    ctx, x, noise, t, h = drawn()
    weight = torch.ones(B, H, dtype=torch.bool)
    weight[::2] = False
    some = torch.arange(1, B, 2)
    alone = decoder.loss_at(Context(6, vector=ctx.vector[some]), x[some], t=t[some], h=h[some], noise=noise[some])  # type: ignore[index]
    found = decoder.loss_at(ctx, x, weight=weight, t=t, h=h, noise=noise)
    torch.testing.assert_close(found, alone)


def test_dispersion_by_hand() -> None:
    two = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    torch.testing.assert_close(dispersive([two, 7 * two + 100]), torch.tensor(2 * math.log((2 + 2 / math.e) / 4)))
    rows = torch.cat([two, two + 1])
    dispersive([rows]).backward()
    assert two.grad is not None
    assert two.grad.isfinite().all()
    assert float(dispersive([torch.ones(5, 3)])) == 0
    assert float(dispersive([torch.ones(1, 3)])) == 0


def test_a_trunk_that_shows_no_levels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decoder\.dispersive: expected 0 with Mlp, .* choose --trunk unet1d"):
        MeanFlow(Mlp(), dispersive=0.5).build(shape=(H, A), context=ContextSpec(vector=5))


def average(x: Tensor, times: Tensor) -> Tensor:
    """The exact average velocity from t to t + h."""
    t, h = times[:, :1, None], times[:, 1:, None]
    return torch.where(h > 0, (gauss.move(x, t, t + h) - x) / h.clamp_min(1e-12), gauss.velocity(x, t))


def test_two_steps_of_an_exact_model_are_one() -> None:
    decoder = MeanFlow(Exact(average), rule="two_steps").build(shape=(1, 1), context=ContextSpec())
    x, drawn = normal((64, 1, 1), seeded(0)).double(), uniform((3, 64), seeded(1)).double()
    t = 0.9 * drawn[0]
    h, cut = 0.05 + (0.95 - t) * drawn[1], 0.1 + 0.8 * drawn[2]
    target = decoder.two_steps(x, t, h, cut, Context.empty(64))
    torch.testing.assert_close(target, average(x, torch.stack([t, h], 1)), atol=1e-12, rtol=0.0)


def test_a_step_is_taught_by_its_two_parts() -> None:
    torch.manual_seed(0)
    decoder = MeanFlow(TRUNK, rule="two_steps", power=0.0).build(shape=(H, A), context=ContextSpec(vector=5)).double()
    ctx, x, noise, t, h = drawn()
    cut = 0.2 + 0.5 * uniform((B,), seeded(9)).double()
    x_t = t[:, None, None] * x + (1 - t)[:, None, None] * noise
    far, part = h > 0, cut[:, None, None]

    def net(x: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return decoder.net(x, torch.stack([t, h], 1), ctx)

    first = net(x_t, t, cut * h)
    second = net(x_t + part * h[:, None, None] * first, t + cut * h, (1 - cut) * h)
    target = torch.where(far[:, None, None], part * first + (1 - part) * second, x - noise)
    expected = ((net(x_t, t, h) - target) ** 2).sum((1, 2)).mean()
    found = decoder.loss_at(ctx, x, t=t, h=h, noise=noise, cut=cut)["mean_flow"]
    torch.testing.assert_close(found, expected)
    given = decoder.loss(ctx, x, weight=None, rng=seeded(5))["mean_flow"]
    torch.testing.assert_close(decoder.loss(ctx, x, weight=None, rng=seeded(5))["mean_flow"], given)
