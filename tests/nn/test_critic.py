"""DCGAN's two networks and the patch critic: published sizes, initial weights, what a score sees."""

import pytest
import torch
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn import count
from nextmove.nn.critic import DcganCritic, PatchCritic
from nextmove.nn.dcgan import Dcgan, halvings

NOTHING = ContextSpec()


def test_published_sizes():
    shape = (3, 64, 64)
    with torch.device("meta"):
        generator = Dcgan(width=64).build(latent=100, shape=shape, context=NOTHING)
        critic = DcganCritic(width=64).build(shape=shape, context=NOTHING)
        patch = PatchCritic().build(shape=(3, 256, 256), context=NOTHING)
    assert count(generator) == 3_576_704
    assert count(critic) == 2_765_568
    assert count(patch) == 2_765_633


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 48), (3, 64, 64)])
@pytest.mark.parametrize("least", [2, 4])
def test_image_sizes(shape, least):
    ctx = Context(3)
    generator = Dcgan(width=4, least=least).build(latent=5, shape=shape, context=NOTHING)
    x = generator(torch.randn(3, 5), ctx)
    assert x.shape == (3, *shape)
    assert 0 < x.detach().abs().max() < 1
    critic = DcganCritic(width=4, least=least).build(shape=shape, context=NOTHING)
    assert critic(x, ctx).shape == (3,)
    assert PatchCritic(width=4).build(shape=shape, context=NOTHING)(x, ctx).dim() == 3


def test_halvings_stop_at_odd_or_small_sides():
    assert [halvings(s, s, 4) for s in (8, 28, 32, 64)] == [1, 2, 3, 4]
    assert [halvings(s, s, 0) for s in (8, 16, 28, 32, 64)] == [2, 3, 2, 3, 4]
    assert halvings(8, 64, 4) == 1
    with pytest.raises(ValueError, match="shape: expected even sides of at least 8, found 6 x 8"):
        halvings(6, 8, 4)


def test_initial_weights_are_the_papers():
    torch.manual_seed(0)
    shape = (3, 64, 64)
    nets = [
        Dcgan().build(latent=100, shape=shape, context=NOTHING),
        DcganCritic().build(shape=shape, context=NOTHING),
        PatchCritic().build(shape=shape, context=NOTHING),
    ]
    for net in nets:
        kernels = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        drawn = torch.cat([m.weight.detach().flatten() for m in kernels])
        gains = torch.cat([m.weight.detach() for m in norms])
        assert drawn.mean().item() == pytest.approx(0, abs=1e-4)
        assert drawn.std().item() == pytest.approx(0.02, rel=0.01)
        assert gains.mean().item() == pytest.approx(1, abs=5e-3)
        assert gains.std().item() == pytest.approx(0.02, rel=0.15)
        assert all(m.bias.abs().max() == 0 for m in [*kernels, *norms] if m.bias is not None)


def test_norms_stand_everywhere_but_at_the_image_and_the_score():
    shape = (3, 32, 32)
    critic = DcganCritic(width=8).build(shape=shape, context=NOTHING)
    kinds = [type(m).__name__ for m in critic.layers]
    assert kinds == ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 2, "Conv2d"]
    assert not any(
        isinstance(m, nn.BatchNorm2d) for m in DcganCritic(norm=False).build(shape=shape, context=NOTHING).modules()
    )
    generator = Dcgan(width=8).build(latent=5, shape=shape, context=NOTHING)
    kinds = [type(m).__name__ for m in generator.layers]
    assert kinds == [*["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 3, "ConvTranspose2d"]
    assert all(m.negative_slope == 0.2 for m in critic.modules() if isinstance(m, nn.LeakyReLU))


def test_a_patch_score_sees_70_by_70_pixels():
    net = PatchCritic(width=2).build(shape=(1, 128, 128), context=NOTHING).eval()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    x = torch.randn(1, 1, 128, 128, requires_grad=True)
    scores = net(x, Context(1))
    assert scores.shape == (1, 14, 14)
    (slope,) = torch.autograd.grad(scores[0, 7, 7], x)
    seen = (slope[0, 0] != 0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [70, 70]


def test_a_small_image_has_fewer_layers():
    for side, scores in ((8, 2), (28, 1), (32, 2)):
        net = PatchCritic(width=2).build(shape=(1, side, side), context=NOTHING)
        assert net(torch.randn(2, 1, side, side), Context(2)).shape == (2, scores, scores)
    with pytest.raises(ValueError, match="shape: expected sides of at least 6, found 4 x 8"):
        PatchCritic().build(shape=(1, 4, 8), context=NOTHING)


def test_a_generator_reads_the_context_and_a_critic_refuses_it():
    spec = ContextSpec(vector=3)
    net = Dcgan(width=4).build(latent=5, shape=(1, 8, 8), context=spec).eval()
    z, vector = torch.randn(2, 5), torch.randn(2, 3)
    assert not torch.equal(net(z, Context(2, vector)), net(z, Context(2, vector + 1)))
    for config in (DcganCritic(), PatchCritic()):
        with pytest.raises(ValueError, match="context: this critic sees only the image"):
            config.build(shape=(1, 8, 8), context=spec)
