"""The GAN recipe: image sizes, published sizes, samples from averaged weights, and that it learns."""

import json

import pytest
import torch

from nextmove.config import decode, encode
from nextmove.contracts import normal, seeded, total, uniform
from nextmove.decoders.adversarial import Adversarial, Translate
from nextmove.models.generator import ImageSpec
from nextmove.models.image.gan import Gan
from nextmove.nn import count
from nextmove.nn.critic import DcganCritic
from nextmove.nn.dcgan import Dcgan
from nextmove.parts import PARTS
from nextmove.training.ema import Ema

SIZES = [ImageSpec(8, 8, 1, 17), ImageSpec(28, 28), ImageSpec(32, 32, 3)]


def images(spec: ImageSpec, n: int) -> torch.Tensor:
    draw = uniform((n, spec.channels, spec.height, spec.width), seeded(0)) * (spec.levels - 1)
    return draw.round() / (spec.levels - 1)


@pytest.mark.parametrize("spec", SIZES)
def test_every_size_trains_and_samples(spec):
    torch.manual_seed(0)
    model = Gan().build(spec)
    terms = model.loss({"image": images(spec, 4)}, rng=seeded(1))
    total(terms).backward()
    assert all(p.grad is not None for p in model.parameters())
    made = model.eval().generate(3, rng=seeded(2))
    assert made.shape == (3, spec.channels, spec.height, spec.width)
    levels = made * (spec.levels - 1)
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert torch.equal(made, model.generate(3, rng=seeded(2)))


def test_the_published_configuration():
    with torch.device("meta"):
        model = Gan.published().build(ImageSpec(64, 64, 3))
    assert count(model.decoder.generator) == 3_576_704
    assert count(model.decoder.critic) == 2_765_568
    assert Gan.published().optim.betas == (0.5, 0.999)


def test_the_recipe_survives_json():
    for recipe in (Gan(), Gan.published()):
        assert decode(Gan, json.loads(json.dumps(encode(recipe))), parts=PARTS) == recipe


def test_weights_survive_their_dict():
    torch.manual_seed(0)
    spec = SIZES[0]
    model, other = Gan().build(spec), Gan().build(spec)
    model.loss({"image": images(spec, 4)}, rng=seeded(1))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval().generate(4, rng=seeded(2)), other.eval().generate(4, rng=seeded(2)))


def test_labels_are_refused():
    with pytest.raises(ValueError, match=r"spec\.classes: a GAN is not conditioned on labels, expected 0, found 10"):
        Gan().build(ImageSpec(8, 8, classes=10))


def digits() -> torch.Tensor:
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images / 16).float()[:, None]


def sliced(a: torch.Tensor, b: torch.Tensor) -> float:
    """Sliced 2-Wasserstein distance of two sets (N, D) over 200 directions."""
    ways = torch.nn.functional.normalize(normal((a.shape[1], 200), seeded(0)), dim=0)
    return float(((a @ ways).sort(0)[0] - (b @ ways).sort(0)[0]).square().mean().sqrt())


def alike(a: torch.Tensor, b: torch.Tensor) -> float:
    """Correlation, over pairs of pixels, of the covariances of two sets (N, D)."""
    pairs = ~torch.eye(a.shape[1], dtype=torch.bool)
    return float(torch.corrcoef(torch.stack([torch.cov(a.T)[pairs], torch.cov(b.T)[pairs]]))[0, 1])


@pytest.mark.slow
def test_it_learns_digits():
    """The averaged generator ends near unseen digits, and its pixels vary together as theirs do."""
    torch.manual_seed(0)
    nets = Adversarial(Dcgan(width=16), DcganCritic(width=16), latent=16, augment=Translate(1))
    model, data, pick = Gan(decoder=nets).build(SIZES[0]), digits(), seeded(0)
    ema, optim = Ema(model, 0.98), torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.5, 0.99))
    for step in range(600):
        batch = data[torch.randint(1437, (32,), generator=pick)]
        optim.zero_grad()
        total(model.loss({"image": batch}, rng=seeded(step))).backward()
        optim.step()
        ema.update(step + 1)
    ema.refresh()
    made, held = ema.model.generate(360, rng=seeded(9)).flatten(1), data[1437:].flatten(1)
    # .12 and .62 here; uniform noise .33 and -.02, shuffled pixels of digits .06 and .01, other digits .05 and .86.
    assert sliced(made, held) < 0.16
    assert alike(made, held) > 0.45
