"""The formulas that docstrings of decoders state are what their defaults compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.decoders.tiny import F64, Exact
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, normal, seeded, total
from nextmove.decoders import Consistency, Diffusion, Flow, MeanFlow, Shortcut
from nextmove.decoders.paths import DiscreteVP, betas

SHAPE = (3, 2)


def answer(x: Tensor, t: Tensor) -> Tensor:
    """Nonlinear in x and in all that a network is conditioned on."""
    return torch.sin(0.7 * x) + 0.3 * torch.tanh(t.to(x) / 200).sum(1)[:, None, None]


def made(config: Any) -> tuple[Any, Any, Tensor, Tensor, Tensor]:
    """The decoder, `net(x, *times)`, data, noise and times."""
    decoder = config.build(shape=SHAPE, context=ContextSpec())
    x, e = (normal((4, *SHAPE), seeded(i)).to(F64) for i in (1, 2))

    def net(x: Tensor, *times: Tensor | float) -> Tensor:
        columns = torch.stack([torch.as_tensor(t, dtype=F64).expand(4) for t in times], 1)
        return decoder.net(x, columns, Context.empty(4))

    return decoder, net, x, e, torch.tensor([0.1, 0.35, 0.6, 0.8], dtype=F64)


def column(t: Tensor) -> Tensor:
    return t[:, None, None]


def drawn(decoder: Any, e: Tensor, **options: Any) -> Tensor:
    return decoder.sample(Context.empty(4), shape=SHAPE, rng=seeded(0), noise=e, **options)


def agree(found: Tensor, stated: Tensor) -> None:
    torch.testing.assert_close(found, stated, rtol=1e-12, atol=1e-12)


def test_flow() -> None:
    decoder, net, x, e, t = made(Flow(Exact(answer)))
    x_t = column(t) * x + (1 - column(t)) * e
    found = total(decoder.loss_at(Context.empty(4), x, t=t, noise=e))
    agree(found, (net(x_t, 1000 * t) - (x - e)).square().mean())
    y = e
    for k in range(10):
        y = y + net(y, 1000 * k / 10) / 10
    agree(drawn(decoder, e), y.detach())


def test_diffusion() -> None:
    decoder, net, x, e, _ = made(Diffusion(Exact(answer)))
    alpha_bar = torch.cat([torch.cumprod(1 - betas(DiscreteVP()).to(F64), 0), torch.ones(1, dtype=F64)])  # [-1]: data
    i = torch.tensor([0, 20, 60, 99])
    a, b = column(alpha_bar[i]).sqrt(), column(1 - alpha_bar[i]).sqrt()
    found = total(decoder.loss_at(Context.empty(4), x, t=1 - (i + 1).to(F64) / 100, noise=e))
    torch.testing.assert_close(found, (net(a * x + b * e, i) - e).square().mean(), rtol=1e-5, atol=1e-6)
    y, own = e, normal((100, 4, *SHAPE), seeded(3)).to(F64)
    for step, i in enumerate(range(99, -1, -1)):
        now, then = alpha_bar[i], alpha_bar[i - 1]
        x1 = ((y - (1 - now).sqrt() * net(y, i)) / now.sqrt()).clamp(-1, 1)
        beta = 1 - now / then
        mean = then.sqrt() * beta / (1 - now) * x1 + (1 - beta).sqrt() * (1 - then) / (1 - now) * y
        y = mean + (beta * (1 - then) / (1 - now)).sqrt() * own[step]
    torch.testing.assert_close(drawn(decoder, e, step_noise=own), y.detach(), rtol=1e-3, atol=1e-4)


def test_mean_flow() -> None:
    decoder, net, x, e, t = made(MeanFlow(Exact(answer)))
    h = torch.tensor([0.2, 0.0, 0.3, 0.1], dtype=F64)
    x_t, v = column(t) * x + (1 - column(t)) * e, x - e
    small = 1e-6
    ahead, behind = (net(x_t + d * v, t + d, h - d) for d in (small, -small))
    error = (net(x_t, t, h) - (v + column(h) * (ahead - behind) / (2 * small)).detach()).square().flatten(1).sum(1)
    stated = (error / (error.detach() + 1e-2)).mean()
    found = total(decoder.loss_at(Context.empty(4), x, t=t, h=h, noise=e))
    torch.testing.assert_close(found, stated, rtol=1e-8, atol=0)
    agree(drawn(decoder, e), (e + net(e, 0, 1)).detach())


def test_consistency() -> None:
    decoder, net, x, e, t = made(Consistency(Exact(answer)))
    t[3] = 0.95
    r = t + 3e-2
    at = {name: column(s) * x + (1 - column(s)) * e for name, s in (("t", t), ("r", r))}
    v_t, v_r = net(at["t"], 1000 * t), net(at["r"], 1000 * r)
    f_t, f_r = at["t"] + (1 - column(t)) * v_t, at["r"] + (1 - column(r)) * v_r
    f_r = torch.where(column(r) < 0.9, f_r, x)
    apart = torch.where(column(t) < 0.9, (v_t - v_r).square(), 0)
    found = total(decoder.loss_at(Context.empty(4), x, t=t, noise=e))
    agree(found, (f_t - f_r).square().mean() + 1e-5 * apart.mean())
    agree(drawn(decoder, e), (e + net(e, 10)).detach())


@pytest.mark.parametrize("level", [3, 7])
def test_shortcut(level: int) -> None:
    decoder, net, x, e, _ = made(Shortcut(Exact(answer)))
    n, t = 2**level, torch.tensor([0, 0.125, 0.5, 0.875], dtype=F64)
    x_t = column(t) * x + (1 - column(t)) * e
    target = x - e
    if n < 128:
        first = net(x_t, 1000 * t, level + 1)
        target = ((first + net(x_t + first / (2 * n), 1000 * (t + 1 / (2 * n)), level + 1)) / 2).detach()
    found = decoder.loss_at(Context.empty(4), x, t=t, level=torch.full((4,), level), noise=e)
    agree(total(found), (net(x_t, 1000 * t, level) - target).square().mean())
    agree(drawn(decoder, e), (e + net(e, 0, 0)).detach())
