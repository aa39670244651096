"""The judge of reconstructions: terms by hand, the adaptive weight as defined, and who may move what."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from nextmove.contracts import Context, normal, seeded
from nextmove.decoders.adversarial import critic_loss
from nextmove.decoders.reconstruction import Reconstruction, adaptive_weight
from nextmove.nn.critic import PatchCritic
from nextmove.nn.perceptual import RandomFeatures

SHAPE = (1, 8, 8)
FULL = Reconstruction("l1", perceptual=RandomFeatures((8, 8)), critic=PatchCritic(width=4, layers=1), start=3)


def pair() -> tuple[nn.Conv2d, Tensor, Tensor]:
    """A last layer, x and what the layer makes."""
    torch.manual_seed(0)
    last = nn.Conv2d(1, 1, 3, padding=1)
    x = normal((4, *SHAPE), seeded(0)).clamp(-1, 1)
    return last, x, last(x)


def build(config: Reconstruction) -> nn.Module:
    torch.manual_seed(1)
    return config.build(shape=SHAPE)


def test_distances_by_hand():
    x, made = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, -3.0]]]])
    for name, value in (("mse", 5.0), ("l1", 2.0)):
        judge = build(Reconstruction(name, variance=2.0))
        terms = judge.loss_at(x, made, last=made, step=0)
        assert {k: v.item() for k, v in terms.items()} == {"reconstruction": value / 2}


def test_the_adaptive_weight_is_its_definition():
    last, x, made = pair()
    far, seen = (made - x).abs().mean(), -(made**2).mean()
    norms = [torch.autograd.grad(t, last.weight, retain_graph=True)[0].square().sum().sqrt() for t in (far, seen)]
    weight = adaptive_weight(far, seen, last.weight)
    assert not weight.requires_grad
    assert weight.item() == pytest.approx((norms[0] / (norms[1] + 1e-4)).item(), rel=1e-6)
    assert adaptive_weight(far * 1e9, seen * 0, last.weight).item() == 1e4


def test_terms_are_the_papers():
    last, x, made = pair()
    judge = build(FULL)
    terms = judge.loss_at(x, made, last=last.weight, step=3)
    critic = build(FULL).critic
    plain = -critic(made, Context(4)).mean()
    nll = (made - x).abs().mean() + judge.perceptual(x, made).mean()
    assert terms["reconstruction"].item() == pytest.approx((made - x).abs().mean().item())
    assert terms["perceptual"].item() == pytest.approx(judge.perceptual(x, made).mean().item())
    expected = 0.8 * adaptive_weight(nll, plain, last.weight) * plain
    assert terms["generator"].item() == pytest.approx(expected.item(), rel=1e-4)
    half = critic_loss("hinge", critic(x, Context(4)), critic(made, Context(4))) / 2
    assert terms["critic"].item() == pytest.approx(half.item(), rel=1e-4)


def test_each_term_moves_whom_it_may():
    for name in ("reconstruction", "perceptual", "generator", "critic"):
        last, x, made = pair()
        judge = build(FULL)
        judge.loss_at(x, made, last=last.weight, step=3)[name].backward()
        assert (last.weight.grad is not None) == (name != "critic")
        assert all((p.grad is not None) == (name == "critic") for p in judge.critic.parameters())


def test_the_critic_enters_at_its_start():
    last, x, made = pair()
    judge = build(FULL)
    early = judge.loss_at(x, made, last=last.weight, step=2)
    assert early["generator"].item() == early["critic"].item() == 0
    assert not early["critic"].requires_grad
    assert list(early) == list(judge.loss_at(x, made, last=last.weight, step=3))


def test_without_gradients_there_is_nothing_to_balance():
    last, x, made = pair()
    with torch.no_grad():
        terms = build(FULL).loss_at(x, made.detach(), last=last.weight, step=3)
    assert terms["generator"].item() == 0
    assert terms["critic"].item() > 0


@dataclass(frozen=True)
class Mean:
    """A perceptual distance for the test: of mean brightness."""

    def build(self, *, shape: tuple[int, ...]) -> nn.Module:
        return _Mean()


class _Mean(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x.mean((1, 2, 3)) - y.mean((1, 2, 3))).square()


def test_another_distance_may_be_put_in():
    last, x, made = pair()
    judge = build(Reconstruction(perceptual=Mean(), perceptual_weight=3.0))
    found = judge.loss_at(x, made, last=last.weight, step=0)["perceptual"]
    assert found.item() == pytest.approx(3 * ((x.mean((1, 2, 3)) - made.mean((1, 2, 3))) ** 2).mean().item())


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(ValueError, match="distance: expected one of mse, l1; found 'ssim'"):
        Reconstruction("ssim")
    with pytest.raises(ValueError, match="variance: expected a number above 0, found 0"):
        Reconstruction(variance=0.0)
