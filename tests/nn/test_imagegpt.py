"""The transformer of ImageGPT: against its published equations, its start, and the cache."""

import math

import pytest
import torch
from tests.nn import rasters

from nextmove.contracts import Context, ContextSpec, Known, seeded, uniform
from nextmove.decoders import Autoregressive
from nextmove.nn.imagegpt import ImageTransformer

NOTHING = Context.empty(3)


def built(width=16, layers=2, heads=4, length=9, classes=5):
    torch.manual_seed(0)
    trunk = ImageTransformer(width=width, layers=layers, heads=heads)
    return trunk.build_tokens(length=length, classes=classes, context=ContextSpec()).eval()


def rms(x, gain):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain


def published(net, ids, heads):
    """The equations of Chen et al. 2020 as its code has them, head by head; ids begin with the start symbol."""
    x = net.embedding.weight[ids] + net.position[: ids.shape[1]]
    hidden = torch.ones(ids.shape[1], ids.shape[1]).triu(1).bool()
    for block in net.stream.blocks:
        h, own = rms(x, block.attention_branch.norm.weight), x.shape[-1] // heads
        y = 0
        for k in range(heads):
            at = slice(k * own, (k + 1) * own)
            q, key, v = (h @ w[at].T for w in block.attention.in_proj_weight.chunk(3))
            scores = (q @ key.mT / math.sqrt(own)).masked_fill(hidden, -1e10)
            y = y + scores.softmax(-1) @ v @ block.attention.out_proj.weight[:, at].T
        x = x + y
        h = rms(x, block.feedforward_branch.norm.weight) @ block.feedforward.up.weight.T
        x = x + (h * torch.sigmoid(1.702 * h)) @ block.feedforward.down.weight.T
    return rms(x, net.stream.norm.weight) @ net.head.weight.T


def test_it_is_the_published_network():
    net, ids = built(), torch.randint(5, (3, 9), generator=seeded(1))
    ids[:, 0] = 5
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    torch.testing.assert_close(net(ids, NOTHING, None)[0], published(net, ids, 4), atol=1e-5, rtol=1e-5)
    assert not [name for name, _ in net.named_parameters() if name.endswith("bias")]


def test_it_starts_as_published():
    net, d, layers = built(width=256, layers=4, heads=8, length=64, classes=512), 256, 4
    stds = {
        "embedding.weight": 0.02,
        "position": 0.01,
        "stream.blocks.1.attention.in_proj_weight": d**-0.5,
        "stream.blocks.1.attention.out_proj.weight": (d * layers) ** -0.5,
        "stream.blocks.1.feedforward.up.weight": 0.02,
        "stream.blocks.1.feedforward.down.weight": 0.02,
        "head.weight": 0.0,
    }
    weights = dict(net.named_parameters())
    for name, std in stds.items():
        assert weights[name].std().item() == pytest.approx(std, rel=0.03), name
    logits = net(torch.tensor([[512, 3, 4]]), Context.empty(1), None)[0]
    assert torch.equal(logits, torch.zeros(1, 3, 512))


def test_sampled_ids_are_the_same_however_they_are_read():
    torch.manual_seed(0)
    decoder = Autoregressive(ImageTransformer(width=16, layers=2, heads=4), classes=5)
    model = decoder.build(shape=(9,), context=ContextSpec()).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
    ctx = Context.empty(64)
    ids = model.sample(ctx, shape=(9,), rng=seeded(3))
    assert len(ids.unique()) == 5
    for prefix in range(1, 9):
        known = Known(ids, (torch.arange(9) < prefix).expand(64, 9))
        assert torch.equal(model.sample(ctx, shape=(9,), rng=seeded(3), known=known), ids)
    assert torch.equal(rasters.anew(model, ctx, uniform((64, 9), seeded(3)), 5), ids)
