"""Classes side by side: exact likelihoods, independent draws, weights and known ids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Known, seeded
from nextmove.decoders.categorical import Categorical
from nextmove.decoders.sampling import Sampling

L, K = 4, 3


class Fixed(nn.Module):
    """Logits whatever the context is."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(L, K, generator=torch.Generator().manual_seed(0)))

    def build(self, **asked: object) -> Fixed:
        assert asked == {"shape": (L, 0), "out": K, "times": 0, "context": ContextSpec(), "causal": False}
        return self

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        assert x.shape == (ctx.batch, L, 0)
        return self.table.expand(ctx.batch, -1, -1)


def decoder(**options: object):
    return Categorical(Fixed(), classes=K, **options).build(shape=(L,), context=ContextSpec())  # type: ignore[arg-type]


def test_the_loss_is_the_mean_of_what_counts() -> None:
    own, x = decoder(), torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])
    each = -own.net.table.log_softmax(-1).expand(2, -1, -1).gather(-1, x[..., None])[..., 0]
    found = own.loss(Context(2), x, weight=None, rng=seeded(0))
    torch.testing.assert_close(found, {"nll": each.mean()})
    # One weight for an action of two ids.
    weight = torch.tensor([[True, False], [True, True]])
    counted = own.counted(weight, shape=(2, L), rng=seeded(0))["nll"]
    assert counted.tolist() == [[True, True, False, False], [True] * 4]
    found = own.loss(Context(2), x, weight=weight, rng=seeded(0))
    torch.testing.assert_close(found["nll"], each[counted].mean())
    assert own.counted(None, shape=(2, L), rng=seeded(0)) == {}
    with pytest.raises(ValueError, match="weight: expected a divisor of 4 columns, found 3"):
        own.loss_at(Context(2), x, weight=torch.ones(2, 3))


def test_the_likeliest_are_taken_in_one_call() -> None:
    own = decoder()
    ids = own.sample(Context(2), shape=(L,), rng=seeded(0))
    assert torch.equal(ids, own.net.table.argmax(-1).expand(2, -1))
    known = Known(torch.full((2, L), 1), torch.tensor([[1.0, 0, 0, 0.4], [0, 0, 0, 1.0]]))
    held = own.sample(Context(2), shape=(L,), rng=seeded(0), known=known)
    expected = ids.clone()
    expected[0, 0] = expected[1, 3] = 1
    assert torch.equal(held, expected)


def test_draws_follow_the_distributions() -> None:
    own, rows = decoder(sampling=Sampling()), 4000
    ids = own.sample(Context(rows), shape=(L,), rng=seeded(0))
    shares = torch.stack([(ids == k).float().mean(0) for k in range(K)], -1)
    torch.testing.assert_close(shares, own.net.table.softmax(-1).detach(), atol=0.03, rtol=0)
    noise = torch.zeros(1, L)
    assert own.sample(Context(1), shape=(L,), rng=seeded(0), noise=noise).tolist() == [[0] * L]


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="classes: expected at least 2, found 1"):
        Categorical(Fixed(), classes=1)
    with pytest.raises(ValueError, match=r"shape: expected \(L,\), found \(2, 3\)"):
        Categorical(Fixed(), classes=K).build(shape=(2, 3), context=ContextSpec())
