"""VQ-VAE, VQ-GAN and their prior: sizes, who is trained when, files, and that they learn."""

import dataclasses
import json

import pytest
import torch

from nextmove.codecs.vq import Averaged, Learnt
from nextmove.config import decode, encode
from nextmove.contracts import seeded, total, uniform
from nextmove.decoders import Autoregressive
from nextmove.decoders.reconstruction import Reconstruction
from nextmove.models.generator import Generator, ImageSpec, PriorSpec
from nextmove.models.image.tokenizer import Tokenizer
from nextmove.models.image.vqgan import VqGan
from nextmove.models.image.vqgan_prior import VqGanPrior, adopt
from nextmove.models.image.vqvae import VqVae
from nextmove.nn import Gpt, count
from nextmove.nn.autoencoder import Residual, Strided
from nextmove.nn.critic import PatchCritic
from nextmove.nn.perceptual import RandomFeatures
from nextmove.parts import PARTS

DIGITS = ImageSpec(8, 8, 1, 17)
SIZES = [(DIGITS, (4, 4)), (ImageSpec(28, 28), (7, 7)), (ImageSpec(32, 32, 3), (8, 8))]
SMALL_VAE = VqVae(trunk=Strided(width=16, blocks=1), codebook=Averaged(8, 4))
SMALL_GAN = VqGan(
    trunk=Residual(width=8, multiples=(1, 2), blocks=1, attention=(4,), inner=8, groups=4),
    codebook=Learnt(8, 4),
    judge=Reconstruction("l1", perceptual=RandomFeatures((8, 8)), critic=PatchCritic(width=4), start=2),
)
PRIOR = VqGanPrior(Autoregressive(Gpt(width=16, layers=1, heads=2)))


def images(spec: ImageSpec, n: int) -> torch.Tensor:
    draw = uniform((n, spec.channels, spec.height, spec.width), seeded(0)) * (spec.levels - 1)
    return draw.round() / (spec.levels - 1)


def trained(recipe: VqVae | VqGan, steps: int = 1, spec: ImageSpec = DIGITS) -> Tokenizer:
    torch.manual_seed(0)
    model = recipe.build(spec)
    for step in range(steps):
        model.loss({"image": images(spec, 4)}, rng=seeded(step))
    model.recipe = recipe
    return model


def prior_of(tokenizer: Tokenizer, spec: ImageSpec = DIGITS, recipe: VqGanPrior = PRIOR) -> Generator:
    model = recipe.build(PriorSpec(spec, tokenizer.recipe))
    adopt(model, tokenizer)
    return model


@pytest.mark.parametrize(("spec", "grid"), SIZES)
@pytest.mark.parametrize("recipe", [VqVae(), VqGan()])
def test_every_size_becomes_few_tokens(recipe, spec, grid):
    model = trained(recipe, spec=spec)
    ids = model.tokens(images(spec, 3))
    assert ids.shape == (3, grid[0] * grid[1])
    made = model.reconstruct(images(spec, 3))
    assert made.shape == (3, spec.channels, spec.height, spec.width)
    assert torch.equal(made, model.codec.decode(ids))


def test_loss_reaches_all_that_is_trained_once_the_critic_is_in():
    more = {"perceptual", "generator", "critic", "codebook"}
    for recipe, names in ((SMALL_VAE, set()), (SMALL_GAN, more)):
        model = trained(recipe, steps=2)
        terms = model.loss({"image": images(DIGITS, 4)}, rng=seeded(5))
        assert set(terms) == {"reconstruction", "commitment"} | names
        total(terms).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_the_critic_enters_after_its_start_and_the_count_is_saved():
    model = trained(SMALL_GAN, steps=0)
    found = [model.loss({"image": images(DIGITS, 4)}, rng=seeded(i))["critic"].item() for i in range(4)]
    assert found[:2] == [0, 0]
    assert min(found[2:]) > 0
    again = trained(SMALL_GAN, steps=0)
    again.load_state_dict(model.state_dict())
    assert again.codec.calls == 4
    again.eval().loss({"image": images(DIGITS, 4)}, rng=seeded(0))
    assert again.codec.calls == 4  # judging is not training


def test_figures_are_what_they_say():
    model = trained(SMALL_VAE, steps=3).eval()
    x = images(DIGITS, 6)
    found = model.figures(x)
    assert found["error"] == pytest.approx(float((2 * (model.reconstruct(x) - x)).square().mean()))
    share = torch.bincount(model.tokens(x).flatten(), minlength=8) / (6 * 16)
    assert found["perplexity"] == pytest.approx(float(torch.special.entr(share).sum().exp()))


def test_published_sizes():
    with torch.device("meta"):
        gan = VqGan.published().build(ImageSpec(256, 256, 3))
        vae = VqVae.published().build(ImageSpec(128, 128, 3))
        prior = VqGanPrior.published().build(PriorSpec(ImageSpec(256, 256, 3), VqGan.published()))
    # The authors' ImageNet configuration, f = 16 with 1024 codes, and its critic.
    assert count(gan.codec) == 72_141_699
    assert count(gan.judge.critic) == 2_765_633
    assert (gan.codec.length, gan.codec.classes) == (256, 1024)
    assert (vae.codec.grid, vae.codec.classes) == ((32, 32), 512)
    # 24 blocks, two tables, the positions of 256 ids, the last norm and the head.
    assert count(prior.decoder) == 24 * (12 * 1024**2 + 13 * 1024) + 1025 * 1024 + 256 * 1024 + 2 * 1024 + 1025 * 1024


@pytest.mark.parametrize("recipe", [SMALL_VAE, SMALL_GAN])
def test_a_prior_speaks_the_tokens_of_a_frozen_tokenizer(recipe):
    tokenizer = trained(recipe)
    model = prior_of(tokenizer)
    x = images(DIGITS, 3)
    assert torch.equal(model.encode({"image": x}), tokenizer.tokens(x))
    before = {k: v.clone() for k, v in model.codec.state_dict().items()}
    model.train()
    total(model.loss({"image": x}, rng=seeded(0))).backward()
    assert all(torch.equal(v, before[k]) for k, v in model.codec.state_dict().items())
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"decoder"}
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    made = model.eval().generate(5, rng=seeded(1))
    ids = model.decoder.sample(model.context({}, 5), shape=(16,), rng=seeded(1))
    assert torch.equal(made, tokenizer.codec.decode(ids))


def test_a_prior_may_be_conditioned_on_labels():
    model = prior_of(trained(SMALL_VAE), dataclasses.replace(DIGITS, classes=10))
    batch = {"image": images(DIGITS, 4), "label": torch.tensor([0, 3, 9, 3])}
    total(model.loss(batch, rng=seeded(0))).backward()
    assert (model.encoder.table.weight.grad.abs().sum(1) > 0).nonzero().flatten().tolist() == [0, 3, 9]
    assert model.generate(2, rng=seeded(0), inputs={"label": torch.tensor([1, 2])}).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("recipe", [SMALL_VAE, SMALL_GAN])
def test_a_prior_is_rebuilt_from_plain_json_and_tensors(recipe):
    model, whole = prior_of(trained(recipe)), PriorSpec(DIGITS, recipe)
    spec = decode(PriorSpec, json.loads(json.dumps(encode(whole))), parts=(*PARTS, VqVae, VqGan))
    assert spec == whole
    again = decode(VqGanPrior, json.loads(json.dumps(encode(PRIOR))), parts=PARTS).build(spec)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().generate(4, rng=seeded(1)), model.eval().generate(4, rng=seeded(1)))


@pytest.mark.parametrize("recipe", [VqVae(), VqVae.published(), VqGan(), VqGan.published(), VqGanPrior()])
def test_recipes_survive_json(recipe):
    assert decode(type(recipe), json.loads(json.dumps(encode(recipe))), parts=PARTS) == recipe


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(ValueError, match="tokenizer: expected one of images ImageSpec"):
        prior_of(trained(SMALL_VAE), ImageSpec(8, 8))
    with pytest.raises(ValueError, match="tokenizer: expected a trained one, found one that has seen no image"):
        prior_of(trained(SMALL_VAE, steps=0))
    empty = PRIOR.build(PriorSpec(DIGITS, SMALL_VAE))
    with pytest.raises(ValueError, match="expected a trained tokenizer"):
        empty.loss({"image": images(DIGITS, 2)}, rng=seeded(0))
    with pytest.raises(ValueError, match="generate: a tokenizer has no prior"):
        trained(SMALL_VAE).generate(4, rng=seeded(0))
    with pytest.raises(ValueError, match=r"image: expected \(B, 1, 8, 8\), found \(2, 3, 8, 8\)"):
        trained(SMALL_VAE).loss({"image": torch.zeros(2, 3, 8, 8)}, rng=seeded(0))


def digits() -> torch.Tensor:
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images / 16).float()[:, None]


def fit(model: torch.nn.Module, data: torch.Tensor, steps: int, betas: tuple[float, float]) -> None:
    optim = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=2e-3, betas=betas)
    pick = seeded(0)
    for step in range(steps):
        batch = data[torch.randint(len(data), (64,), generator=pick)]
        optim.zero_grad()
        total(model.loss({"image": batch}, rng=seeded(step))).backward()
        optim.step()


def test_a_tokenizer_and_its_prior_learn_digits():
    """Error below an eighth of the data's variance with most codes in use; a prior that uses what is before an id."""
    torch.manual_seed(0)
    recipe = dataclasses.replace(VqVae(), trunk=Strided(width=32, blocks=1), codebook=Averaged(32, 16))
    model, data = recipe.build(DIGITS), digits()
    fit(model, data[:1437], 150, (0.9, 0.99))
    found = model.eval().figures(data[1437:])
    assert found["error"] < float((2 * data).var()) / 8
    assert found["perplexity"] > 16
    model.recipe = recipe
    prior = prior_of(model, recipe=VqGanPrior(Autoregressive(Gpt(width=32, layers=1, heads=2))))
    fit(prior, data[:1437], 150, (0.9, 0.99))
    with torch.no_grad():
        nll = total(prior.eval().loss({"image": data[1437:]}, rng=seeded(0)))
    ids = model.tokens(data)
    each = torch.nn.functional.one_hot(ids, 32).float().mean(0)
    independent = torch.special.entr(each).sum(1).mean()
    assert nll < independent
