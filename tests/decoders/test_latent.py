from typing import Any

import pytest
import torch
from tests.decoders.tiny import ActVaeEncoder, Mlp
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Known, normal, seeded
from nextmove.decoders.direct import Mixture, Regression
from nextmove.decoders.latent import Latent
from nextmove.decoders.meanflow import MeanFlow

SHAPE = (3, 2)


class Fixed(nn.Module):
    """A posterior that always says the same; keeps what it was asked."""

    def __init__(self, mean: float, logvar: float, latent: int) -> None:
        super().__init__()
        self.answer = torch.full((1, latent), mean), torch.full((1, latent), logvar)
        self.asked: list[Any] = []

    def forward(self, x: Tensor, ctx: Context, valid: Tensor) -> tuple[Tensor, ...]:
        self.asked.append((x, ctx, valid))
        return tuple(part.expand(len(x), -1) for part in self.answer)


class FixedConfig:
    def __init__(self, mean: float, logvar: float) -> None:
        self.mean, self.logvar = mean, logvar

    def build(self, *, shape: tuple[int, ...], context: ContextSpec, latent: int) -> nn.Module:
        return Fixed(self.mean, self.logvar, latent)


class Show:
    """A trunk whose network answers the first numbers of the context's vector."""

    def build(self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool) -> nn.Module:
        return _Show(shape[0], out, context.vector)


class _Show(nn.Module):
    def __init__(self, horizon: int, out: int, vector: int) -> None:
        super().__init__()
        self.horizon, self.out, self.vector = horizon, out, vector
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        assert ctx.vector is not None
        assert ctx.vector.shape[1] == self.vector
        return ctx.vector[:, None, : self.out].expand(-1, self.horizon, -1) + self.unused


def context(n: int) -> Context:
    return Context(n, vector=normal((n, 4), seeded(9)))


def built(mean: float, logvar: float, **options: Any) -> Any:
    config = Latent(Regression(Show(), loss="l1"), FixedConfig(mean, logvar), latent=2, **options)
    return config.build(shape=SHAPE, context=ContextSpec(vector=4))


def test_divergence_in_closed_form() -> None:
    x, eps = torch.zeros(5, *SHAPE), torch.zeros(5, 2)
    assert built(0.0, 0.0).loss_at(context(5), x, eps=eps)["kl"].item() == 0.0
    # KL(N(1, e) | N(0, 1)) = (1 + e - 1 - 1) / 2 for each of two numbers
    expected = 10 * 2 * 0.5 * (1 + torch.e - 1 - 1)
    assert built(1.0, 1.0).loss_at(context(5), x, eps=eps)["kl"].item() == pytest.approx(expected)
    assert built(1.0, 1.0, kl_weight=0.5).loss_at(context(5), x, eps=eps)["kl"].item() == pytest.approx(expected / 20)


def test_z_stands_before_the_vector_and_is_drawn_from_the_posterior() -> None:
    eps, x = normal((5, 2), seeded(1)), torch.zeros(5, *SHAPE)
    terms = built(1.0, 1.0).loss_at(context(5), x, eps=eps)
    assert sorted(terms) == ["kl", "l1"]
    z = 1 + torch.e**0.5 * eps
    torch.testing.assert_close(terms["l1"], z.abs().mean())
    drawn = built(1.0, 1.0).loss(context(5), x, weight=None, rng=seeded(1))
    assert drawn == terms


def test_a_context_without_a_vector_is_given_one() -> None:
    config = Latent(Regression(Show()), FixedConfig(0.0, 0.0), latent=2)
    decoder = config.build(shape=SHAPE, context=ContextSpec())
    assert decoder.sample(Context(3), shape=SHAPE, rng=seeded(0)).shape == (3, *SHAPE)
    nulled = Context(3, vector=torch.ones(3, 4), null=Context(3, vector=torch.zeros(3, 4)))
    decoder = built(0.0, 0.0)
    decoder.inner.loss_at = lambda ctx, x, **_: {"width": torch.tensor(float(ctx.null.vector.shape[1]))}
    assert decoder.loss_at(nulled, torch.zeros(3, *SHAPE), eps=torch.zeros(3, 2))["width"].item() == 6.0


def test_padding_counts_nowhere() -> None:
    torch.manual_seed(0)
    config = Latent(Regression(Mlp(width=16), loss="l1"), ActVaeEncoder(width=16), latent=2)
    decoder = config.build(shape=SHAPE, context=ContextSpec(vector=4))
    keep = torch.tensor([[True, True, False], [True, False, False]])
    x, eps = normal((2, *SHAPE), seeded(1)), normal((2, 2), seeded(2))
    other = torch.where(keep[..., None], x, 1e3)
    for weight in keep, keep[..., None].expand(2, *SHAPE), keep.float():
        one, two = (decoder.loss_at(context(2), value, weight=weight, eps=eps) for value in (x, other))
        assert one == two
    asked = built(0.0, 0.0)
    asked.loss_at(context(2), x, eps=eps)
    assert bool(asked.posterior.asked[0][2].all())


def test_samples_stand_at_the_centre_or_where_asked() -> None:
    decoder, z = built(3.0, 0.0), normal((5, 2), seeded(1))
    assert torch.equal(decoder.sample(context(5), shape=SHAPE, rng=seeded(0)), torch.zeros(5, *SHAPE))
    made = decoder.sample(context(5), shape=SHAPE, rng=seeded(0), z=z)
    assert torch.equal(made, z[:, None].expand(5, *SHAPE))
    known = Known(torch.full((5, *SHAPE), 7.0), torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1).expand(5, *SHAPE))
    x = decoder.sample(context(5), shape=SHAPE, rng=seeded(0), known=known)
    assert x[0].tolist() == [[7.0, 7.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("inner", [MeanFlow(Mlp(width=16)), Mixture(Mlp(width=16))])
def test_any_decoder_may_stand_inside(inner: Any) -> None:
    torch.manual_seed(0)
    config = Latent(inner, ActVaeEncoder(width=16), latent=2)
    decoder = config.build(shape=SHAPE, context=ContextSpec(vector=4))
    terms = decoder.loss(context(8), normal((8, *SHAPE), seeded(1)), weight=None, rng=seeded(2))
    assert len(terms) == 2
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in decoder.parameters())
    assert decoder.sample(context(8), shape=SHAPE, rng=seeded(0)).shape == (8, *SHAPE)
