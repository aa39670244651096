"""Autoregressive image generators: whole from recipe to saved folder, published sizes, and that each learns."""

import dataclasses
from typing import Any

import pytest
import torch

from nextmove import store
from nextmove.codecs.palette import Palette
from nextmove.codecs.pixels import Pixels
from nextmove.contracts import Context, Known, Optim, Rows, seeded, total, uniform
from nextmove.data.images import digits
from nextmove.models.generator import Generator, ImageSpec
from nextmove.models.image.imagegpt import ImageGpt
from nextmove.models.image.pixelcnn import PixelCnn, PlainPixelCnn
from nextmove.models.image.pixelrnn import DiagonalPixelRnn, PixelRnn
from nextmove.nn import count
from nextmove.systems import find
from nextmove.training.optim import Update

NAMES = ["pixelrnn", "pixelrnn-diagonal", "pixelcnn-plain", "pixelcnn", "imagegpt"]
GREY, COLOUR, LABELLED = ImageSpec(4, 5, 1, 3), ImageSpec(4, 3, 3, 4), ImageSpec(4, 5, 1, 3, classes=4)


def shrunk(name: str, **sizes: Any) -> Any:
    """The system's recipe with a small network."""
    recipe = find(name).load()()
    small = dataclasses.replace(recipe.decoder.trunk, **{"width": 8, "layers": 2, **sizes})
    if name == "imagegpt":
        recipe = dataclasses.replace(recipe, colours=6)
    return dataclasses.replace(recipe, decoder=dataclasses.replace(recipe.decoder, trunk=small))


def images(spec: ImageSpec, n: int, seed: int = 0) -> torch.Tensor:
    draw = uniform((n, spec.channels, spec.height, spec.width), seeded(seed)) * (spec.levels - 1)
    return draw.round() / (spec.levels - 1)


def made(name: str, spec: ImageSpec) -> Generator:
    torch.manual_seed(0)
    model: Generator = store.create(name, spec, shrunk(name))
    if isinstance(model.codec, Palette):
        model.codec.fit(images(spec, 40))
    return model.eval()


@pytest.mark.parametrize("spec", [GREY, COLOUR, LABELLED], ids=["grey", "colour", "labelled"])
@pytest.mark.parametrize("name", NAMES)
def test_every_generator_is_whole(name, spec, tmp_path):
    model, batch = made(name, spec), {"image": images(spec, 6)}
    inputs = {"label": torch.tensor([0, 1, 2, 3, 0, 1])} if spec.classes else {}
    loss = total(model.train().loss(batch | inputs, rng=seeded(0)))
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    store.save(model.eval(), tmp_path / "model")
    again = store.load(tmp_path / "model")
    drawn = model.generate(6, rng=seeded(1), inputs=inputs)
    assert drawn.shape == (6, spec.channels, spec.height, spec.width)
    assert torch.equal(again.generate(6, rng=seeded(1), inputs=inputs), drawn)
    torch.testing.assert_close(model.codec.decode(model.encode({"image": drawn})), drawn)
    assert not torch.equal(model.generate(6, rng=seeded(2), inputs=inputs), drawn)
    with pytest.raises(ValueError, match=r"image: expected \(B, "):
        model.loss({"image": batch["image"][..., :2]} | inputs, rng=seeded(0))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_completed_from_its_upper_half(name):
    model, n = made(name, GREY), 5
    ids = model.encode({"image": images(GREY, n)})
    half = len(ids[0]) // 2
    known = Known(ids, (torch.arange(len(ids[0])) < half).expand_as(ids))
    drawn = model.encode({"image": model.generate(n, rng=Rows([seeded(i) for i in range(n)]), known=known)})
    assert torch.equal(drawn[:, :half], ids[:, :half])
    alone = Known(ids[2:3], known.weight[2:3])
    one = model.encode({"image": model.generate(1, rng=Rows([seeded(2)]), known=alone)})
    assert torch.equal(one, drawn[2:3])


def test_labels_condition_every_layer():
    for name in NAMES:
        model = made(name, LABELLED)
        with torch.no_grad():
            model.encoder.table.weight.mul_(100)
            for weight in model.decoder.net.parameters():
                weight.add_(0.05 * torch.randn(weight.shape, generator=seeded(3)))
        ids = model.encode({"image": images(LABELLED, 1)})
        p = [model.decoder.log_prob(model.context({"label": torch.tensor([k])}, 1), ids) for k in range(4)]
        assert all((p[0] - other).abs().max() > 1e-5 for other in p[1:])


def test_imagegpt_writes_levels_where_they_are_few_and_colours_otherwise():
    assert isinstance(ImageGpt().codec(ImageSpec(8, 8, 1, 17)), Pixels)
    palette = ImageGpt().codec(ImageSpec(32, 32, 3, 256))
    assert isinstance(palette, Palette)
    assert (palette.classes, palette.length) == (512, 1024)
    assert isinstance(ImageGpt(colours=16).codec(ImageSpec(8, 8, 1, 17)), Palette)


def test_published_imagegpts_have_the_published_counts():
    sizes = {"S": (512, 24, 76.57), "M": (1024, 36, 455.16), "L": (1536, 48, 1362.25)}
    for size, (d, layers, millions) in sizes.items():
        with torch.device("meta"):
            model = ImageGpt.published(size).build(ImageSpec(32, 32, 3))
        found = count(model.decoder)
        assert found == layers * (12 * d * d + 2 * d) + 1024 * d + 2 * 512 * d + 2 * d
        assert round(found / 1e6, 2) == millions


def around(h: int) -> int:
    """The first 7 x 7 convolution to 2 h and a head of 1024 for 3 x 256 classes."""
    return 2 * h * (3 * 4 * 7 + 1) + 1024 * (2 * h + 1) + 768 * (1024 + 1)


def test_published_pixel_models_have_the_counts_of_their_tables():
    """The papers state layers and widths but no counts: the formulas are those of the tables, 3 channels, h = 128."""
    h = 128
    up = 2 * h * (h + 1)
    plain = around(h) + 15 * (h * (2 * h + 1) + h * (2 * 3 * h + 1) + up)
    row = around(h) + 12 * (4 * h * (2 * 2 * h + 1) + 3 * 4 * h * h + up)
    diagonal = around(h) + 12 * (8 * h * (2 * h + 1) + 2 * 2 * 4 * h * h + up)
    # Gated: both stacks to 2 h, what goes across, and 1 x 1 along the row; the first layers read 3 channels.
    gated = 2 * h * (3 * 5 * 7 + 1) + 2 * h * (3 * 4 + 1) + 14 * 2 * h * (2 * 3 * h + 1 + 2 * h + 1)
    gated += 15 * (2 * h * (2 * h + 1) + h * (h + 1)) + 1024 * (h + 1) + 768 * (1024 + 1)
    recipes = {PlainPixelCnn: plain, PixelRnn: row, DiagonalPixelRnn: diagonal, PixelCnn: gated}
    for recipe, expected in recipes.items():
        with torch.device("meta"):
            model = recipe.published().build(ImageSpec(32, 32, 3))
        assert count(model.decoder) == expected


def test_defaults_build_for_all_the_sizes_they_are_meant_for():
    for spec in ImageSpec(8, 8, 1, 2), ImageSpec(8, 8, 1, 17), ImageSpec(28, 28), ImageSpec(32, 32, 3):
        for name in NAMES:
            with torch.device("meta"):
                model = find(name).load()().build(spec)
            assert count(model) < 1_500_000
            assert model.decoder.config.classes == model.codec.classes


def trained(name: str, images: torch.Tensor, steps: int, optim: Optim, **sizes: Any) -> Generator:
    torch.manual_seed(0)
    model: Generator = shrunk(name, **sizes).build(ImageSpec(8, 8, 1, 2)).train()
    optim = dataclasses.replace(optim, weight_decay=0.01, clip=1.0)
    rng, update = seeded(0), Update(dict(model.named_parameters()), optim, undecayed=set())
    for step in range(steps):
        chosen = torch.randint(len(images), (32,), generator=rng)
        update.zero()
        total(model.loss({"image": images[chosen]}, rng=rng)).backward()
        update.apply(min(1.0, 2 * (1 - step / steps), (step + 1) / 20), float(update.norm()))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "sizes", "steps", "most"),
    [
        ("pixelrnn", {"width": 16, "layers": 2}, 150, 20.5),
        ("pixelrnn-diagonal", {"width": 16, "layers": 1}, 150, 20.5),
        ("pixelcnn-plain", {"width": 16, "layers": 3}, 150, 20.5),
        ("pixelcnn", {"width": 24, "layers": 3}, 150, 20.5),
        ("imagegpt", {"width": 32, "layers": 2, "heads": 4}, 200, 20.5),
    ],
)
def test_every_generator_learns_binarised_digits(name, sizes, steps, most):
    """Nats an image on the test part; pixels independent of each other stand at 25.25."""
    data = digits()
    binary = [(part.image >= 0.5).float() for part in (data.train, data.test)]
    model = trained(name, binary[0], steps, find(name).load()().optim, dropout=0.0, **sizes)
    with torch.no_grad():
        nats = -model.decoder.log_prob(Context.empty(360), model.encode({"image": binary[1]})).sum(1).mean()
    assert nats < most
