"""How images are prepared: sizes, crops, colours and scales, and that training and acting see the same."""

from __future__ import annotations

import colorsys

import pytest
import torch

from nextmove.contracts import Shard, seeded
from nextmove.contracts.pixels import resized
from nextmove.encoders.pictures import GRAY, SCALES, Jitter, Pictures, Values

IMAGE = torch.randint(256, (4, 2, 20, 24, 3), generator=seeded(0), dtype=torch.uint8)


def back(x: torch.Tensor, values: Values = "imagenet") -> torch.Tensor:
    """Network's values as values in [0, 1], channels last."""
    mean, std = (torch.tensor(part) for part in SCALES[values])
    return x.permute(0, 2, 3, 1) * std + mean


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [("symmetric", -1.0, 1.0), ("unit", 0.0, 1.0), ("efficientnet-lite", -127 / 128, 1.0), ("imagenet", None, None)],
)
def test_values_are_scaled_as_the_networks_were_trained(values: Values, low: float | None, high: float | None) -> None:
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2, 1).expand(-1, -1, -1, -1, 3)
    x = Pictures(values=values)(ends)
    if low is None:
        mean, std = (torch.tensor(part) for part in SCALES["imagenet"])
        torch.testing.assert_close(x[0, :, 0], torch.stack([-mean / std, (1 - mean) / std], 1))
    else:
        torch.testing.assert_close(x[0, :, 0], torch.tensor([[low, high]]).expand(3, -1))


def test_numbers_in_0_to_1_are_what_their_levels_are() -> None:
    own = Pictures(crop=(8, 9))
    torch.testing.assert_close(own(IMAGE.float() / 255), own(IMAGE))


def test_a_frame_kept_at_its_size_is_the_frame_that_is_resized_when_acting() -> None:
    own = Pictures(resize=(9, 12))
    kept = resized(IMAGE.flatten(0, 1), (9, 12)).unflatten(0, (4, 2))
    assert kept.dtype == torch.uint8
    assert torch.equal(own(kept), own(IMAGE))
    exact = Pictures(resize=(9, 12), whole=False)(IMAGE)
    off = (back(exact) - back(own(IMAGE))).abs().max().item() * 255
    assert 0 < off < 1.01


def test_without_draws_the_middle_is_seen_unchanged() -> None:
    still, moving = Pictures(crop=(9, 12)), Pictures(crop=(9, 12), jitter=Jitter(0.3, 0.3, 0.3, 0.1))
    assert torch.equal(still(IMAGE), moving(IMAGE))
    assert torch.equal(still(IMAGE), Pictures()(IMAGE)[:, :, 6:15, 6:18])


def test_draws_are_those_of_the_rng_and_by_row() -> None:
    own = Pictures(crop=(9, 12), jitter=Jitter(0.3, 0.3, 0.3, 0.1))
    same = IMAGE[:1].expand(4, -1, -1, -1, -1)
    seen = own(same, seeded(1)).unflatten(0, (4, 2))
    assert torch.equal(seen.flatten(0, 1), own(same, seeded(1)))
    assert not torch.equal(seen.flatten(0, 1), own(same, seeded(2)))
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)
    alike = own(same[:, :1].expand(-1, 2, -1, -1, -1), seeded(1)).unflatten(0, (4, 2))
    torch.testing.assert_close(alike[:, 0], alike[:, 1])
    halves = [own(IMAGE[2 * i : 2 * i + 2], Shard(seeded(1), i, 2)) for i in range(2)]
    torch.testing.assert_close(torch.cat(halves), own(IMAGE, seeded(1)))


def test_values_are_scaled_by_the_very_steps_that_published_networks_were_trained_with() -> None:
    image = torch.rand(2, 1, 5, 6, 3, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(part) for part in SCALES["imagenet"])
    # Another order of rounding moves a diffusion policy's plans by 1e-5.
    assert torch.equal(Pictures()(image), ((image[:, 0] - mean) / std).permute(0, 3, 1, 2))


def means(x: torch.Tensor) -> torch.Tensor:
    return (x * torch.tensor(GRAY)).sum(-1)


def changed(jitter: Jitter) -> tuple[torch.Tensor, torch.Tensor]:
    """Values before and after, (4, height, width, 3)."""
    image = IMAGE[:, :1]
    return image[:, 0].double() / 255, back(
        Pictures(jitter=jitter, values="symmetric")(image, seeded(3)), "symmetric"
    ).double()


def test_brightness_is_one_factor_of_everything() -> None:
    before, after = changed(Jitter(brightness=0.4))
    factor = (after.sum((1, 2, 3)) / before.sum((1, 2, 3)))[:, None, None, None]
    torch.testing.assert_close(after, factor * before, atol=1e-5, rtol=1e-5)
    assert (factor - 1).abs().max() > 0.1
    assert bool(((factor > 0.6) & (factor < 1.4)).all())


def test_contrast_spreads_about_the_mean_lightness() -> None:
    before, after = changed(Jitter(contrast=0.4))
    middle = means(before).mean((1, 2))[:, None, None, None]
    factor = (after - middle).flatten(1).norm(dim=1) / (before - middle).flatten(1).norm(dim=1)
    torch.testing.assert_close(after, middle + factor[:, None, None, None] * (before - middle), atol=1e-5, rtol=1e-5)
    assert (factor - 1).abs().max() > 0.1


def test_saturation_and_hue_keep_lightness() -> None:
    for jitter in (Jitter(saturation=0.4), Jitter(hue=0.2)):
        before, after = changed(jitter)
        assert (after - before).abs().max() > 0.05
        torch.testing.assert_close(means(after), means(before), atol=2e-4, rtol=1e-4)
    before, after = changed(Jitter(saturation=0.4))
    gray = means(before)[..., None]
    factor = ((after - gray) / (before - gray)).flatten(1).median(1).values[:, None, None, None]
    torch.testing.assert_close(after, gray + factor * (before - gray), atol=1e-5, rtol=1e-5)


def test_hue_turns_colours_the_way_round_they_go() -> None:
    red = torch.tensor([200, 60, 60], dtype=torch.uint8).expand(16, 1, 2, 2, 3)
    seen = back(Pictures(jitter=Jitter(hue=0.25), values="unit")(red, seeded(5)), "unit")[:, 0, 0]
    found = [colorsys.rgb_to_hsv(*(float(v) for v in row))[0] for row in seen]
    turned = [h - round(h) for h in found]
    assert max(turned) > 0.1
    assert min(turned) < -0.1
    assert max(abs(t) for t in turned) < 0.3
