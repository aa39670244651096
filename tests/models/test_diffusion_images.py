"""Diffusion, flow and MeanFlow of images: every trunk under every decoder, labels and guidance, and what they learn."""

import pytest
import torch
from torch import nn

from nextmove.config import decode, encode
from nextmove.contracts import Context, Optim, normal, seeded, total, uniform
from nextmove.decoders import Diffusion, Flow, MeanFlow, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.guidance import Guidance
from nextmove.decoders.likelihood import Ode, bits_per_dim, log_likelihood
from nextmove.decoders.paths import DiscreteVP
from nextmove.decoders.solvers import Ancestral, Ddim
from nextmove.evaluation import quality
from nextmove.models.generator import ImageSpec
from nextmove.models.image.ddpm import Ddpm
from nextmove.models.image.dit import DitDiffusion
from nextmove.models.image.flow import FlowMatching
from nextmove.models.image.meanflow import MeanFlowImages
from nextmove.nn import Dit, UNet2d, count

TRUNKS = {
    "unet2d": UNet2d(channels=8, multipliers=(1, 2), blocks=1, groups=4, dropout=0.1),
    "dit": Dit(width=24, layers=2, heads=3, time_width=8, dropout=0.1),
}
DECODERS = {
    "flow": lambda trunk: Flow(trunk, sampler=Sampler(steps=3), drop=0.1, pairing="optimal"),
    "ddpm": lambda trunk: Diffusion(trunk, DiscreteVP(20, "linear"), sampler=Sampler(Ancestral(), 20, Indices(), 1.0)),
    "v": lambda trunk: Diffusion(trunk, target="v", sampler=Sampler(Ddim(), 5, Indices(), clip=1.0), drop=0.1),
    "meanflow": lambda trunk: MeanFlow(trunk, drop=0.1),
}
RECIPES = {"flow": FlowMatching, "ddpm": Ddpm, "v": Ddpm, "meanflow": MeanFlowImages}
SPEC = ImageSpec(8, 8, levels=17, classes=10)
PARTS = (*TRUNKS.values(), Flow, Diffusion, MeanFlow)


def built(decoder, trunk, spec=SPEC):
    """A small generator with weights far from their start at zero."""
    torch.manual_seed(0)
    model = RECIPES[decoder](decoder=DECODERS[decoder](TRUNKS[trunk]), label_width=12).build(spec)
    for name, weight in model.named_parameters():
        nn.init.normal_(weight, mean=float("norm" in name and "weight" in name), std=0.1)
    return model


def batch(n=6, spec=SPEC):
    level = (uniform((n, spec.channels, spec.height, spec.width), seeded(0)) * spec.levels).floor()
    return {"image": level / (spec.levels - 1), "label": torch.arange(n) % 10}


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_trunk_goes_with_every_decoder(decoder, trunk):
    model = built(decoder, trunk)
    loss = total(model.loss(batch(32), rng=seeded(1)))
    loss.backward()
    assert bool(loss.isfinite())
    for name, weight in model.named_parameters():
        grad = weight.grad.chunk(3)[0] if name.endswith("in_proj_bias") else weight.grad
        assert bool((grad != 0).any()), name
    model.eval()
    made = model.generate(3, rng=seeded(2), inputs={"label": torch.tensor([1, 2, 3])})
    assert made.shape == (3, 1, 8, 8)
    assert torch.equal(made * 16, (made * 16).round())
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    assert torch.equal(made, model.generate(3, rng=seeded(2), inputs={"label": torch.tensor([1, 2, 3])}))
    assert not torch.equal(made, model.generate(3, rng=seeded(2), inputs={"label": torch.tensor([4, 5, 6])}))
    assert model.generate(2, rng=seeded(2)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(("decoder", "spec"), [
    ("flow", ImageSpec(28, 28)), ("ddpm", ImageSpec(32, 32, channels=3)), ("meanflow", ImageSpec(28, 28)),
])  # fmt: skip
def test_other_sizes_without_labels(decoder, spec):
    for trunk in TRUNKS:
        model = built(decoder, trunk, spec)
        assert model.encoder is None
        assert model.decoder.config.drop == 0
        assert bool(total(model.loss(batch(2, spec), rng=seeded(0))).isfinite())
        assert model.eval().generate(1, rng=seeded(0)).shape == (1, spec.channels, spec.height, spec.width)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_guided_sampling_is_its_definition(trunk):
    model, weight, steps = built("flow", trunk).eval(), 2.5, 4
    label = torch.tensor([3, 7])
    decoder = model.decoder.with_sampler(Sampler(steps=steps, guidance=Guidance(weight)))
    x = noise = normal((2, 1, 8, 8), seeded(0))
    ctx = model.context({"label": label}, 2)
    with torch.no_grad():
        for k in range(steps):
            t = torch.full((2, 1), 1000 * k / steps)
            vectors, null = (model.decoder.net(x, t, c) for c in (ctx, model.context({}, 2)))
            x = x + (null + weight * (vectors - null)) / steps
    found = decoder.sample(ctx, shape=(1, 8, 8), rng=seeded(9), noise=noise)
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-5)
    plain = model.decoder.sample(ctx, shape=(1, 8, 8), rng=seeded(9), noise=noise, steps=steps)
    assert float((found - plain).abs().max()) > 1e-2


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "ddpm"])  # The one built without dropping.
def test_a_tenth_of_the_rows_has_no_condition(decoder):
    model = built(decoder, "dit")
    vectors = []
    handle = model.decoder.net.register_forward_pre_hook(lambda module, args: vectors.append(args[2].vector))
    model.loss(batch(400), rng=seeded(0))
    handle.remove()
    null = model.encoder.table.weight[10]
    rows = torch.cat([(part == null).all(1) for part in vectors])
    assert len(rows) == 400
    assert 0.06 < float(rows.float().mean()) < 0.14


def test_diffusion_and_flow_are_of_equal_size():
    spec = ImageSpec(8, 8)
    sizes = [count(recipe().build(spec)) for recipe in (Ddpm, FlowMatching)]
    assert sizes == [1_112_801, 1_112_801]
    assert Ddpm.cosine().build(spec).decoder.config.target == "v"


def test_published_sizes():
    with torch.device("meta"):
        assert count(Ddpm.published().build(ImageSpec(32, 32, channels=3))) == 35_746_307
        # DiT-S/2 on 4 channels; the paper's 8 channels out (learnt variances) would add 16 (384 + 1).
        model = DitDiffusion.published("S").build(ImageSpec(32, 32, channels=4, classes=1000))
    assert count(model) == 32_865_056 - 16 * 385


@pytest.mark.parametrize("recipe", [Ddpm(), Ddpm.published(), FlowMatching(), MeanFlowImages(), DitDiffusion()])
def test_recipes_survive_json(recipe):
    parts = (UNet2d, Dit, Flow, Diffusion, MeanFlow, Optim)
    assert decode(type(recipe), encode(recipe), parts=parts) == recipe


def test_wrong_images_and_labels_are_named():
    model = built("flow", "dit")
    with pytest.raises(ValueError, match=r"image: expected \(B, 1, 8, 8\), found \(6, 3, 8, 8\)"):
        model.loss(batch(spec=ImageSpec(8, 8, channels=3)), rng=seeded(0))
    with pytest.raises(ValueError, match="label: expected 0 to 9, found 10"):
        model.generate(1, rng=seeded(0), inputs={"label": torch.tensor([10])})


@pytest.mark.slow
def test_a_short_training_on_digits():
    """Flow on a small DiT: better than a fitted Gaussian, of 2.95 bits and clipped draws of 1-NN accuracy .926."""
    from nextmove.data.images import digits

    found = digits()
    torch.manual_seed(0)
    trunk = Dit(width=96, layers=3, heads=3, time_width=64)
    model = FlowMatching(decoder=Flow(trunk, sampler=Sampler(steps=20))).build(ImageSpec(8, 8, levels=17))
    steps, optim = 180, torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optim, 3e-3, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        rows = (uniform((128,), seeded(1, step)) * len(found.train)).long()
        optim.zero_grad()
        total(model.loss(found.train.batch(rows), rng=seeded(2, step))).backward()
        optim.step()
        schedule.step()
    model.eval()
    samples = model.generate(360, rng=seeded(3))
    judged = quality.judge_samples(samples.numpy(), found.test.image.numpy(), found.train.image.numpy())
    x = model.encode({"image": found.test.image[:60]}, seeded(4))
    log_p = log_likelihood(model.decoder, Context.empty(60), x, rng=seeded(5), ode=Ode(steps=8, trace="probe"))
    bits = float(bits_per_dim(log_p, 64, 17).mean())
    assert judged["against_test"]["accuracy"] < 0.92, judged
    assert judged["sliced_w2"] < 0.15, judged
    assert bits < 2.95


def test_pairs_of_reflow_train_a_generator_as_they_are():
    from nextmove.decoders.reflow import simulate

    model = built("flow", "unet2d").eval()
    label = torch.arange(4) % SPEC.classes
    pairs = simulate(model, 4, rng=seeded(1), steps=2, label=label)
    seen = {}
    loss_at = model.decoder.loss_at
    model.decoder.loss_at = lambda ctx, x, **draws: seen.update(x=x, **draws) or loss_at(ctx, x, **draws)
    model.loss(pairs.batch([2, 0]), rng=seeded(2))
    assert torch.equal(seen["x"], pairs.x[[2, 0]])
    assert torch.equal(seen["noise"], pairs.noise[[2, 0]])
