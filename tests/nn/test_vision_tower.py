"""The vision tower: which tokens there are, where they are, which hidden state is given, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nextmove.nn import count
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.places import Places, patch_mask
from nextmove.nn.vit import VisionTower, VisionTowerNet

SMALL = VisionTower(32, 8, 16, 3, 2, DenseMlp(24, "gelu"))
CLIP = replace(SMALL, norm=LayerNorm(), patch_bias=False, pre_norm=True, normed=False)


def built(config: VisionTower) -> VisionTowerNet:
    torch.manual_seed(0)
    net = config.build().eval()
    for weight in net.parameters():
        weight.data.add_(0.2 * torch.randn_like(weight))
    return net


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (SMALL, 17),
        (replace(SMALL, registers=4, mask_token=True, layer_scale=1.0), 21),
        (replace(SMALL, class_token=False, pool="attention"), 16),
        (CLIP, 17),
        (replace(SMALL, image=0), 17),
        (replace(SMALL, stem=(4, 6, 8)), 17),
        (replace(CLIP, stem=(4,)), 17),
        (replace(SMALL, image=38), 17),
    ],
)
def test_tokens_and_their_vector(config: VisionTower, tokens: int) -> None:
    net = built(config)
    image = torch.randn(2, 3, config.image or 32, config.image or 32)
    with torch.enable_grad():
        found = net(image, hidden=torch.rand(2, 4, 4) > 0.5 if config.mask_token else None)
        assert found.shape == (2, tokens, 16)
        assert config.tokens in (tokens, config.extra)
        vector = net.pooled(found)
        assert vector.shape == (2, 16)
        vector.square().sum().backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None] == []


def test_the_layer_given_is_the_one_that_is_asked_for() -> None:
    image = torch.randn(2, 3, 32, 32)
    whole = built(CLIP)
    states = [whole.embedded(image)]
    for block in whole.stream.blocks:
        states.append(block(states[-1])[0])
    for layer, normed in [(-1, False), (-2, False), (-2, True), (0, True), (3, False)]:
        net = built(replace(CLIP, layer=layer, normed=normed))
        torch.testing.assert_close(net(image), states[layer])
        # What is pooled is normed once, whatever is given.
        torch.testing.assert_close(net.pooled(net(image)), whole.stream.norm(states[layer][:, 0]))
    net = built(replace(CLIP, normed=True))
    torch.testing.assert_close(net(image), whole.stream.norm(states[-1]))
    torch.testing.assert_close(net.pooled(net(image)), whole.pooled(whole(image)))
    assert built(replace(CLIP, post_norm=False, normed=True))(image).shape == (2, 17, 16)


@pytest.mark.parametrize("resize", ["bicubic", "antialias"])
def test_positions_of_another_size_are_interpolated(resize) -> None:
    torch.manual_seed(0)
    places = Places(4, 16, resize, first=1)
    # A table that rises evenly stays even inside when it is interpolated.
    ramp = torch.arange(4.0)[:, None].expand(4, 4).reshape(-1, 1).expand(-1, 16)
    places.table[1:] = ramp
    assert torch.equal(places(4, 4), ramp)
    wide = places(8, 6).view(8, 6, 16)
    assert wide.shape == (8, 6, 16)
    torch.testing.assert_close(wide[3:5, 2, 0], torch.tensor([1.25, 1.75]), atol=0.06, rtol=0)
    assert not torch.allclose(Places(4, 16, "antialias")(2, 3), Places(4, 16, "bicubic")(2, 3))
    net = built(replace(SMALL, resize=resize))
    assert net(torch.randn(1, 3, 48, 40)).shape == (1, 31, 16)


def test_a_small_image_reads_the_table_by_buckets_and_is_alone() -> None:
    net = built(replace(SMALL, class_token=False, resize="buckets", pool="mean"))
    image = torch.randn(2, 3, 32, 32)
    pixels = torch.ones(2, 32, 32)
    pixels[1, 16:], pixels[1, :, 17:] = 0, 0
    valid = patch_mask(pixels, 8)
    assert valid[1].tolist() == [[True, True, True, False]] * 2 + [[False] * 4] * 2
    assert torch.equal(net.places(4, 4), net.places.table)
    rows = net.places(4, 4, valid)
    assert torch.equal(rows[0], net.places.table)
    # Two rows out of four, three columns out of four: as far along each side.
    table = net.places.table.view(4, 4, 16)
    assert torch.equal(rows[1].view(4, 4, 16)[:2, :3], table[[0, 2]][:, [0, 1, 2]])
    whole = net(image, valid)
    torch.testing.assert_close(whole[:1], net(image[:1]))
    changed = image.clone()
    changed[1, :, 16:] += 1
    torch.testing.assert_close(net(changed, valid)[1][valid[1].flatten()], whole[1][valid[1].flatten()])
    alone = net(image[1:, :, :16, :24])
    torch.testing.assert_close(whole[1][valid[1].flatten()], alone[0])
    torch.testing.assert_close(net.pooled(whole, valid)[1], alone[0].mean(0))


def test_a_hidden_patch_is_not_seen() -> None:
    net = built(replace(SMALL, mask_token=True))
    image, hidden = torch.randn(1, 3, 32, 32), torch.zeros(1, 4, 4, dtype=torch.bool)
    hidden[0, 1, 2] = True
    before = net(image, hidden=hidden)
    image[:, :, 8:16, 16:24] += 1
    assert torch.equal(net(image, hidden=hidden), before)
    assert not torch.allclose(net(image), before)


def meta(config: VisionTower) -> int:
    with torch.device("meta"):
        return count(config.build())


def test_the_published_sizes() -> None:
    def dino(width: int, layers: int, heads: int, feedforward: DenseMlp | GatedMlp) -> VisionTower:
        return VisionTower(518, 14, width, layers, heads, feedforward, mask_token=True, layer_scale=1.0)

    dense = DenseMlp(activation="gelu")
    assert meta(VisionTower()) == 86_567_656 - 769_000  # without its classifier
    assert meta(VisionTower(336, 14, 1024, 24, 16, patch_bias=False, pre_norm=True)) == 303_507_456
    assert meta(VisionTower(224, 14, 1152, 27, 16, DenseMlp(4304), class_token=False, pool="none")) == 412_442_352
    assert meta(dino(384, 12, 6, dense)) == 22_056_576
    assert meta(replace(dino(384, 12, 6, dense), registers=4)) == 22_056_576 + 1536
    assert meta(dino(768, 12, 12, dense)) == 86_580_480
    assert meta(dino(1024, 24, 16, dense)) == 304_368_640
    assert meta(dino(1536, 40, 24, GatedMlp(4096, bias=True))) == 1_136_480_768


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "max"}, "pool: expected class, attention, mean or none, found 'max'"),
        ({"class_token": False}, "pool: expected attention, mean or none of a tower without class token, found class"),
        ({"layer": 4}, "layer: expected -4 to 3, found 4"),
        ({"image": 4}, "image: expected at least a patch of 8 px, found 4"),
        ({"resize": "cubic"}, "resize: expected none, bicubic, antialias or buckets, found 'cubic'"),
        ({"heads": 3}, "heads: expected a divisor of width 16, found 3"),
    ],
)
def test_a_contradiction_is_named(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes).build()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 3, 32, 40), "images: expected 4 x 4 patches, found 4 x 5; a tower with resize='bicubic'"),
        (torch.zeros(1, 1, 32, 32), r"images: expected \(B, 3, height, width\) of at least 8 px, found \(1, 1, 32"),
        (torch.zeros(1, 3, 32, 4), r"images: expected \(B, 3, height, width\) of at least 8 px, found \(1, 3, 32, 4"),
        (torch.zeros(3, 32, 32), r"images: expected \(B, 3, height, width\)"),
    ],
)
def test_wrong_images_are_named(image: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(SMALL)(image)


def test_wrong_masks_are_named() -> None:
    net, image = built(replace(SMALL, pool="none")), torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"valid: expected patches \(1, 4, 4\), found \(1, 32, 32\)"):
        net(image, torch.ones(1, 32, 32))
    with pytest.raises(ValueError, match="hidden: expected a tower with a mask token"):
        net(image, hidden=torch.ones(1, 4, 4))
    with pytest.raises(ValueError, match="pool: expected a tower with a rule for one vector"):
        net.pooled(net(image))


def test_a_stem_sees_things_alike_wherever_they_are_and_beyond_its_patch() -> None:
    net = built(replace(SMALL, patch=8, stem=(4, 6, 8)))
    image = torch.zeros(1, 3, 32, 32)
    image[..., 9:12, 10:14] = 1.0
    there = torch.roll(image, (8, 8), (2, 3))
    empty, found, moved = (net.embed(x) for x in (torch.zeros_like(image), image, there))
    seen, shifted = found - empty, moved - empty
    # Maps at the border see that there is nothing beyond it.
    torch.testing.assert_close(seen[..., 1:3, 1:3], shifted[..., 2:4, 2:4])
    assert seen[..., 1, 1].abs().max() > 0
    image[..., 7, 7] = 1.0  # of the patch before
    assert (net.embed(image) - found)[..., 1, 1].abs().max() > 0


@pytest.mark.parametrize(("patch", "stem"), [(6, (4, 4)), (8, (4, 4, 4, 4))])
def test_strides_that_do_not_divide_the_patch_are_refused(patch: int, stem: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"stem: expected widths .* divide the patch, found {len(stem)} .* {patch} px"):
        replace(SMALL, patch=patch, stem=stem).build()
