"""What the few-step decoders promise alike."""

from typing import Any

import pytest
import torch
from tests.decoders.tiny import Exact, Mlp

from nextmove.contracts import Context, ContextSpec, Known, Rows, normal, seeded, total
from nextmove.decoders.consistency import Consistency
from nextmove.decoders.meanflow import MeanFlow
from nextmove.decoders.shortcut import Shortcut

CONFIGS = [Consistency, Shortcut, MeanFlow]
SHAPE = (4, 2)


def context(n: int) -> Context:
    return Context(n, vector=normal((n, 3), seeded(9)))


def built(config: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    return config(Mlp(width=32), **options).build(shape=SHAPE, context=ContextSpec(vector=3))


@pytest.mark.parametrize("config", CONFIGS)
def test_known_positions_lie_on_the_path_and_end_exact(config: Any) -> None:
    decoder = config(Exact(lambda x, t: torch.ones_like(x))).build(shape=SHAPE, context=ContextSpec())
    noise, value = normal((3, *SHAPE), seeded(1)), normal((3, *SHAPE), seeded(2))
    weight = torch.zeros(3, *SHAPE)
    weight[:, :2] = 1.0
    value[:, 2:] = torch.nan  # what is not known is not looked at
    x = decoder.sample(Context(3), shape=SHAPE, rng=seeded(0), noise=noise, known=Known(value, weight), steps=4)
    assert torch.equal(x[:, :2], value[:, :2])
    assert bool(x.isfinite().all())
    eps = getattr(decoder.config, "eps", 0.0)
    for i, (seen, _) in enumerate(decoder.net.asked):
        t = i / 4 * (1 - eps) + eps
        torch.testing.assert_close(seen[:, :2], t * value[:, :2] + (1 - t) * noise[:, :2])
        torch.testing.assert_close(seen[:, 2:], noise[:, 2:] + i / 4)
    with pytest.raises(ValueError, match=r"known\.value: expected shape \(3, 4, 2\), found \(3, 2\)"):
        decoder.sample(Context(3), shape=SHAPE, rng=seeded(0), known=Known(value[:, 0], weight))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_half_known_value_is_a_blend(config: Any) -> None:
    decoder = config(Exact(lambda x, t: torch.zeros_like(x))).build(shape=SHAPE, context=ContextSpec())
    noise, half = torch.zeros(1, *SHAPE), torch.full((1, *SHAPE), 0.5)
    x = decoder.sample(Context(1), shape=SHAPE, rng=seeded(0), noise=noise, known=Known(half + 0.5, half), steps=1)
    torch.testing.assert_close(x, half, atol=0.01, rtol=0.0)


@pytest.mark.parametrize("config", CONFIGS)
def test_noise_is_the_draw_and_rows_are_independent(config: Any) -> None:
    decoder = built(config)
    drawn = decoder.sample(context(3), shape=SHAPE, rng=seeded(4))
    given = decoder.sample(context(3), shape=SHAPE, rng=seeded(0), noise=normal((3, *SHAPE), seeded(4)))
    assert torch.equal(drawn, given)
    assert not drawn.requires_grad
    rows = decoder.sample(context(3), shape=SHAPE, rng=Rows([seeded(i) for i in range(3)]), steps=2)
    ctx = context(3)
    one = Context(1, vector=ctx.vector[1:2])
    torch.testing.assert_close(rows[1:2], decoder.sample(one, shape=SHAPE, rng=Rows([seeded(1)]), steps=2))
    with pytest.raises(ValueError, match=r"noise: expected shape \(3, 4, 2\), found \(2, 4, 2\)"):
        decoder.sample(context(3), shape=SHAPE, rng=seeded(0), noise=torch.zeros(2, *SHAPE))


@pytest.mark.parametrize("config", CONFIGS)
def test_weight_like_x_is_taken(config: Any) -> None:
    decoder, x = built(config), normal((5, *SHAPE), seeded(1))
    keep = torch.rand(5, 4, generator=seeded(2)) < 0.6
    loss = lambda weight: total(decoder.loss(context(5), x, weight=weight, rng=seeded(3)))  # noqa: E731
    torch.testing.assert_close(loss(keep), loss(keep[..., None].expand(5, *SHAPE)))
    assert loss(keep) != loss(None)


@pytest.mark.parametrize("config", CONFIGS)
def test_images_keep_their_channels(config: Any) -> None:
    asked = {}

    class Trunk:
        def build(self, **given: Any) -> torch.nn.Module:
            asked.update(given)
            return torch.nn.Identity()

    config(Trunk()).build(shape=(3, 8, 8), context=ContextSpec())
    assert asked["out"] == 3
    assert asked["times"] == (1 if config is Consistency else 2)
    assert asked["causal"] is False
