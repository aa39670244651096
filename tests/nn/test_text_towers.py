"""Text towers beside CLIP's: which token stands for a text, BERT's parts, T5's distances, memory, two towers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from nextmove.nn import count
from nextmove.nn.attention import Heads
from nextmove.nn.block import Source
from nextmove.nn.dual import DualEncoder
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.relative import Relative
from nextmove.nn.text_encoder import TextEncoder, TextEncoderNet
from nextmove.nn.vit import VisionTower

IDS = torch.tensor([[3, 8, 2, 5, 7, 0], [4, 1, 5, 6, 2, 7]])
BERT = TextEncoder(
    16, 2, 2, pool="first", norm=LayerNorm(1e-12), place="after", types=2, embedding_norm=True, words="gelu", cross=12
)  # fmt: skip
T5 = TextEncoder(16, 2, Heads(2, head_dim=6, bias=False, out_bias=False, scale=1.0), norm=RmsNorm(1e-6),
                 feedforward=GatedMlp(24, "gelu_tanh"), relative=Relative(8, 16))  # fmt: skip


def built(config: TextEncoder, length: int = 12) -> TextEncoderNet:
    torch.manual_seed(0)
    net = config.build(classes=9, length=length).eval()
    for weight in net.parameters():
        weight.data.add_(0.2 * torch.randn_like(weight))
    return net


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    ("pool", "places"), [("first", [0, 0]), ("last", [5, 5]), ("largest", [1, 5]), ("marked", [3, 2])]
)
def test_the_token_that_stands_for_a_text(pool, places):
    made = built(TextEncoder(16, 1, 2, pool=pool, mark=5))(IDS)
    assert torch.equal(made.vector, made.tokens[[0, 1], places])


def test_a_text_without_its_mark_is_named():
    with pytest.raises(ValueError, match="ids: expected the id 6 in every text, found none in row 0"):
        built(TextEncoder(16, 1, 2, pool="marked", mark=6))(IDS)


def test_berts_parts_all_matter():
    net, source = built(replace(BERT, out=16, out_bias=True, out_tanh=True)), torch.randn(2, 5, 12)
    types, mask = (IDS > 4).long(), IDS > 0
    with torch.enable_grad():
        made = net(IDS, mask, types, Source(source))
        (made.vector.square().sum() + net.logits(made.tokens).square().sum()).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None] == []
    assert net.logits(made.tokens).shape == (2, 6, 9)
    assert made.vector.abs().max() < 1
    plain = net(IDS, mask)
    assert not torch.allclose(net(IDS, mask, types).vector, plain.vector)
    assert not torch.allclose(net(IDS, mask, None, Source(source)).vector, plain.vector)
    torch.testing.assert_close(net(IDS, mask, torch.zeros_like(IDS)).vector, plain.vector)
    # Behind post-norm blocks there is no further norm: each token has mean and deviation of the last one's gain.
    assert net.stream.norm is None
    assert built(TextEncoder(16, 2, 2, cross=12, place="after")).stream.crosses == [False, False]


def test_a_causal_one_goes_on_from_its_memory():
    net, source = built(replace(BERT, causal=True)), Source(torch.randn(2, 5, 12))
    whole, _ = net.read(IDS, source=source)
    first, state = net.read(IDS[:, :2], source=source, remember=True)
    parts = [first]
    for i in range(2, 6):
        step, state = net.read(IDS[:, i : i + 1], source=source, state=state, remember=True)
        parts.append(step)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    # Without a source the memory's own keys are not taken for one.
    whole, _ = net.read(IDS)
    _, state = net.read(IDS[:, :5], remember=True)
    last, _ = net.read(IDS[:, 5:], state=state, remember=True)
    torch.testing.assert_close(last[:, 0], whole[:, 5])


def test_distances_in_place_of_positions():
    net = built(T5, length=4)
    # Beyond any length.
    ids = IDS.repeat(1, 4)
    made = net(ids)
    bias = net.relative(24)[0]
    assert bias.shape == (2, 24, 24)
    # Alike along diagonals, different by direction, and one bucket from afar.
    assert torch.equal(bias[:, :-1, :-1], bias[:, 1:, 1:])
    assert not torch.allclose(bias[:, 0, 1], bias[:, 1, 0])
    assert torch.equal(bias[:, 0, 16], bias[:, 0, 23])
    assert not torch.equal(bias[:, 0, 2], bias[:, 0, 16])
    # Padding says nothing, whichever side it is on; a text of padding alone stays finite.
    for left in (0, 3):
        wide, mask = torch.full((2, 27), 6), torch.zeros(2, 27, dtype=torch.bool)
        wide[:, left : left + 24], mask[:, left : left + 24] = ids, True
        torch.testing.assert_close(net(wide, mask).tokens[mask], made.tokens.flatten(0, 1))
    assert net(ids, torch.zeros_like(ids)).tokens.isfinite().all()
    with torch.enable_grad():
        net(ids).vector.square().sum().backward()
    assert net.relative.table.weight.grad.abs().sum() > 0


def test_what_contradicts_itself_is_named():
    for config, message in [
        (replace(T5, causal=True), "relative: expected an encoder that reads both ways"),
        (replace(T5, relative=Relative(7)), "relative: expected an even number of at least 4 buckets"),
        (replace(T5, relative=Relative(32, 8)), "a distance over a quarter of it, found 32 and 8"),
        (TextEncoder(pool="marked"), "mark: expected the id that 'marked' pools by, found -1"),
        (TextEncoder(place="both"), "place: expected before or after, found 'both'"),
    ]:
        with pytest.raises(ValueError, match=message):
            config.build(classes=9, length=4)
    with pytest.raises(ValueError, match="types: expected none of a network without kinds"):
        built(T5)(IDS, types=IDS)
    with pytest.raises(ValueError, match="words: expected a network with a head for ids"):
        built(T5).logits(torch.zeros(1, 2, 16))


def sizes(image: VisionTower, text: TextEncoder, classes: int, length: int, **options) -> int:
    with torch.device("meta"):
        return count(DualEncoder(image, text, **options).build(classes=classes, length=length))


def test_the_published_sizes_of_two_towers():
    def clip(side: int, patch: int, width: int, layers: int, text: int) -> int:
        image = VisionTower(side, patch, width, layers, width // 64, patch_bias=False, pre_norm=True, normed=False)
        reader = TextEncoder(text, 12, text // 64, out=text, causal=True, pool="end")
        return sizes(image, reader, 49408, 77)

    def siglip(side: int, patch: int, width: int, layers: int, heads: int, hidden: int) -> int:
        part, norm = DenseMlp(hidden), LayerNorm(1e-6)
        image = VisionTower(side, patch, width, layers, heads, part, norm, class_token=False, pool="attention")
        reader = TextEncoder(width, layers, heads, width, pool="last", feedforward=part, norm=norm, out_bias=True)
        return sizes(image, reader, 32000, 64, project=False, bias=True)

    assert clip(224, 32, 768, 12, 512) == 151_277_313
    assert clip(224, 16, 768, 12, 512) == 149_620_737
    assert clip(224, 14, 1024, 24, 768) == 427_616_513
    assert clip(336, 14, 1024, 24, 768) == 427_944_193
    assert siglip(224, 16, 768, 12, 12, 3072) == 203_155_970
    assert siglip(384, 14, 1152, 27, 16, 4304) == 877_960_498


def test_two_towers_meet_in_one_space():
    image = VisionTower(16, 8, 16, 1, 2, pre_norm=True, normed=False)
    config = DualEncoder(image, TextEncoder(8, 1, 2, out=12, causal=True, pool="end"))
    torch.manual_seed(0)
    net = config.build(classes=9, length=6)
    pictures = net.images(torch.randn(3, 3, 16, 16))
    texts = net.texts(IDS, IDS > 0)
    assert (pictures.shape, texts.shape) == ((3, 12), (2, 12))
    torch.testing.assert_close(pictures.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(net.logits(pictures, texts), pictures @ texts.mT / 0.07)
    sigmoid = replace(config, text=replace(config.text, out=16), project=False, bias=True, scale=math.log(10))
    net = sigmoid.build(classes=9, length=6)
    pictures, texts = net.images(torch.randn(3, 3, 16, 16)), net.texts(IDS)
    torch.testing.assert_close(net.logits(pictures, texts), 10 * pictures @ texts.mT - 10)
    with pytest.raises(ValueError, match=r"image.width: expected 12 as of the texts' vectors, found 16"):
        replace(config, project=False).build(classes=9, length=6)
