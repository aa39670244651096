"""The adversarial rule: one backward pass is two, nobody moves another's weights, batch norm sees nothing mixed."""

import math

import pytest
import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Known, Rows, normal, seeded, total, uniform
from nextmove.decoders.adversarial import (
    Adversarial,
    AdversarialDecoder,
    Translate,
    critic_loss,
    frozen,
    generator_loss,
    roughness,
)
from nextmove.nn.critic import DcganCritic
from nextmove.nn.dcgan import Dcgan

SHAPE = (2, 8, 8)


def small(seed: int = 0, **options) -> AdversarialDecoder:
    torch.manual_seed(seed)
    config = Adversarial(Dcgan(width=8, least=2), DcganCritic(width=8, least=2), latent=6, **options)
    decoder = config.build(shape=SHAPE, context=ContextSpec())
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    return decoder


def data(n: int = 5) -> Tensor:
    return uniform((n, *SHAPE), seeded(3)) * 2 - 1


def grads(module: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def test_rules_by_hand():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    log1p = [math.log(1 + math.exp(v)) for v in (-2.0, 1.0, 0.5, -3.0)]
    assert critic_loss("non_saturating", real, fake).item() == pytest.approx(sum(log1p) / 2, abs=1e-6)
    expected = (math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(3.0))) / 2
    assert generator_loss("non_saturating", fake, real).item() == pytest.approx(expected, abs=1e-6)
    assert critic_loss("hinge", real, fake).item() == pytest.approx((0 + 2) / 2 + (1.5 + 0) / 2)
    assert generator_loss("hinge", fake, real).item() == pytest.approx(1.25)
    pairs = (math.log(1 + math.exp(0.5 - 2)) + math.log(1 + math.exp(-3.0 + 1))) / 2
    assert critic_loss("relativistic", real, fake).item() == pytest.approx(pairs, abs=1e-6)
    back = (math.log(1 + math.exp(2 - 0.5)) + math.log(1 + math.exp(-1 + 3.0))) / 2
    assert generator_loss("relativistic", fake, real).item() == pytest.approx(back, abs=1e-6)
    # Where the critic cannot tell, its loss is log 4 (Goodfellow et al. 2014, theorem 1).
    assert critic_loss("non_saturating", torch.zeros(3), torch.zeros(3)).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("rule", ["non_saturating", "hinge", "relativistic"])
@pytest.mark.parametrize(("r1", "r2"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.2)])
def test_one_backward_pass_has_the_gradients_of_two(rule, r1, r2):
    x, z = data(), normal((5, 6), seeded(1))
    together = small(rule=rule, r1=r1, r2=r2)
    total(together.loss_at(Context(5), x, z=z)).backward()

    apart = small(rule=rule, r1=r1, r2=r2)
    made = apart.generator(z, Context(5))
    apart.critic.requires_grad_(False)
    generator_loss(rule, apart.critic(made, Context(5)), apart.critic(x, Context(5))).backward()
    apart.critic.requires_grad_(True)
    seen = x.clone().requires_grad_()
    real = apart.critic(seen, Context(5))
    still = made.detach().requires_grad_()
    fake = apart.critic(still, Context(5))
    loss = critic_loss(rule, real, fake)
    loss = loss + (r1 / 2 * roughness(real, seen) if r1 else 0) + (r2 / 2 * roughness(fake, still) if r2 else 0)
    loss.backward()
    for mine, theirs in zip(grads(together), grads(apart), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_each_term_leaves_the_other_player_without_gradient():
    x, z = data(), normal((5, 6), seeded(1))
    for name, moved in (("generator", "generator"), ("critic", "critic"), ("r1", "critic"), ("r2", "critic")):
        decoder = small(r1=0.3, r2=0.3)
        decoder.loss_at(Context(5), x, z=z)[name].backward()
        for part in ("generator", "critic"):
            found = grads(getattr(decoder, part))
            # The slope of a critic does not depend on the offset of its last norm's neighbours; some weight moves.
            assert any(g is not None for g in found) == (part == moved)


def test_batch_norm_sees_data_and_samples_apart_and_once_each():
    decoder, x, z = small(), data(), normal((5, 6), seeded(1))
    by_hand = small()
    decoder.loss_at(Context(5), x, z=z)
    with torch.no_grad():
        made = by_hand.generator(z, Context(5))
        by_hand.critic(x, Context(5))
        by_hand.critic(made, Context(5))
    expected = dict(by_hand.named_buffers())
    assert any("running_mean" in name for name in expected)
    for name, buffer in decoder.named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=1e-5, atol=1e-7)


def test_the_frozen_critic_answers_the_same_and_passes_the_gradient():
    critic = small().critic
    x = data().requires_grad_()
    before = [b.clone() for b in critic.buffers()]
    expected = critic(x, Context(5))
    (slope,) = torch.autograd.grad(expected.sum(), x)
    for buffer, old in zip(critic.buffers(), before, strict=True):
        buffer.copy_(old)
    held = frozen(critic)(x, Context(5))
    assert torch.equal(held, expected)
    held.sum().backward()
    torch.testing.assert_close(x.grad, slope)
    assert all(p.grad is None for p in critic.parameters())
    assert all(torch.equal(a, b) for a, b in zip(critic.buffers(), before, strict=True))


class Linear(nn.Module):
    """score = w x, so that the slope is w everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.arange(1.0, 4.0))

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        return x @ self.w


class Affine(nn.Module):
    """x = scale z + shift."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))

    def forward(self, z: Tensor, ctx: Context) -> Tensor:
        return self.scale * z + self.shift


def test_r1_of_a_linear_critic_is_its_squared_weight():
    decoder = AdversarialDecoder(Adversarial(None, None, latent=3, r1=0.5), Affine(), Linear())
    x = normal((4, 3), seeded(0))
    with torch.no_grad():  # as in validation
        assert decoder.loss(Context(4), x, weight=None, rng=seeded(1))["r1"].item() == pytest.approx(0.25 * 14)
    decoder.loss(Context(4), x, weight=None, rng=seeded(1))["r1"].backward()
    torch.testing.assert_close(decoder.critic.w.grad, 0.5 * decoder.critic.w.detach())
    assert not x.requires_grad


def test_loss_draws_z_then_moves_of_data_then_of_samples():
    decoder, rng = small(augment=Translate(2)), seeded(4)
    z = normal((5, 6), rng)
    moves = Translate(2).draw(5, rng), Translate(2).draw(5, rng)
    expected = decoder.loss_at(Context(5), data(), z=z, moves=moves)
    found = decoder.loss(Context(5), data(), weight=None, rng=seeded(4))
    assert {k: v.item() for k, v in found.items()} == {k: v.item() for k, v in expected.items()}
    still = decoder.loss_at(Context(5), data(), z=z, moves=(torch.zeros_like(moves[0]), torch.zeros_like(moves[1])))
    plain = small().loss_at(Context(5), data(), z=z)
    assert still["critic"].item() == pytest.approx(plain["critic"].item(), rel=1e-5)


def test_translate_is_indexing_with_the_border_repeated():
    x, moves = data(4), torch.tensor([[0, 0], [2, -1], [-2, 2], [1, 1]])
    found = Translate(2).apply(x, moves)
    for b, (down, right) in enumerate(moves.tolist()):
        for i in range(8):
            for j in range(8):
                source = x[b, :, min(max(i - down, 0), 7), min(max(j - right, 0), 7)]
                assert torch.equal(found[b, :, i, j], source)
    drawn = Translate(2).draw(4000, seeded(0))
    assert drawn.shape == (4000, 2)
    share = torch.bincount(drawn.flatten() + 2) / 8000
    assert share.tolist() == pytest.approx([0.2] * 5, abs=0.02)
    some = Translate(1, share=0.3).draw(9000, seeded(0))
    # A ninth of the moves leads nowhere.
    assert some.ne(0).any(1).double().mean().item() == pytest.approx(0.3 * 8 / 9, abs=0.02)
    x.requires_grad_()
    (Translate(1).apply(x, torch.ones(4, 2).long()).square().sum() / 2).backward()
    assert x.grad[:, :, 0, 0].ne(x[:, :, 0, 0]).all()  # a corner is repeated: it counts four times


def test_samples_are_a_function_of_the_row_and_the_known_part_is_set():
    decoder = small().eval()
    rows = [seeded(i) for i in range(3)]
    x = decoder.sample(Context(3), shape=SHAPE, rng=Rows(rows))
    alone = decoder.sample(Context(1), shape=SHAPE, rng=Rows([seeded(1)]))
    torch.testing.assert_close(x[1:2], alone, atol=1e-6, rtol=1e-5)
    z = normal((3, 6), seeded(7))
    x = decoder.sample(Context(3), shape=SHAPE, rng=seeded(0), z=z)
    assert torch.equal(x, decoder.sample(Context(3), shape=SHAPE, rng=seeded(7)))
    assert x.abs().max() < 1
    assert not x.requires_grad
    weight = torch.zeros(3, *SHAPE)
    weight[:, :, :3] = 1
    part = decoder.sample(Context(3), shape=SHAPE, rng=seeded(7), known=Known(torch.full_like(x, 0.5), weight))
    assert torch.equal(part[:, :, :3], torch.full((3, 2, 3, 8), 0.5))
    assert torch.equal(part[:, :, 3:], x[:, :, 3:])


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(ValueError, match=r"rule: expected one of non_saturating, hinge, relativistic; found 'wgan'"):
        Adversarial(None, None, rule="wgan")
    with pytest.raises(ValueError, match="latent: expected at least 1, found 0"):
        Adversarial(None, None, latent=0)
    with pytest.raises(ValueError, match=r"r2: expected a weight of at least 0, found -1"):
        Adversarial(None, None, r2=-1.0)
    with pytest.raises(ValueError, match=r"a share in \[0, 1\], found pixels 1, share 40"):
        Translate(1, share=40)
    with pytest.raises(ValueError, match="weight: a critic judges an x as a whole"):
        small().loss(Context(5), data(), weight=torch.ones(5), rng=seeded(0))


class Judge(nn.Module):
    """A small MLP of x (B, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2))
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        return self.head(self.net(x)).flatten()


@pytest.mark.parametrize("rule", ["non_saturating", "hinge"])
def test_a_generator_learns_mean_and_spread(rule):
    torch.manual_seed(0)
    decoder = AdversarialDecoder(Adversarial(None, None, latent=3, rule=rule, r1=0.1), Affine(), Judge())
    optim = torch.optim.Adam(decoder.parameters(), lr=1e-2, betas=(0.5, 0.99), fused=True)
    mean, spread = torch.tensor([1.0, -0.5, 0.0]), torch.tensor([0.5, 1.5, 1.0])
    for step in range(600):
        x = mean + spread * normal((128, 3), seeded(step, 1))
        optim.zero_grad()
        total(decoder.loss(Context(128), x, weight=None, rng=seeded(step))).backward()
        optim.step()
        for group in optim.param_groups:
            group["lr"] = 1e-2 * (1 - step / 600)
    torch.testing.assert_close(decoder.generator.shift.detach(), mean, atol=0.15, rtol=0)
    torch.testing.assert_close(decoder.generator.scale.detach().abs(), spread, atol=0.2, rtol=0)
