"""Action experts: a prefix's memory and then the suffix is one pass of both under a block mask, gradients included."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nextmove import nn as networks
from nextmove.contracts import Context, ContextSpec, Memory, MemorySpec, seeded
from nextmove.decoders import Flow
from nextmove.decoders.diffusion import Sampler
from nextmove.decoders.guidance import Guidance
from nextmove.nn import Expert, count
from nextmove.nn.attention import Heads
from nextmove.nn.block import Block
from nextmove.nn.critic import DcganCritic
from nextmove.nn.dcgan import Dcgan
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.imagegpt import ImageTransformer
from nextmove.nn.mask import block_mask
from nextmove.nn.norm import RmsNorm
from nextmove.nn.pixelcnn import GatedCnn
from nextmove.nn.rope import Rotary, rotate
from nextmove.nn.stream import Stream

B, P, H, A, OUT, E, LAYERS, STATE = 2, 5, 4, 3, 6, 8, 4, 7
SPEC = ContextSpec(vector=STATE, memory=MemorySpec(LAYERS, 2, E))
ALONE = replace(SPEC, vector=0)
VALID = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1]], dtype=torch.bool)
SMALL = Expert(24, 4, feedforward=GatedMlp(20))
EXPERTS = {
    "pi0": (replace(SMALL, time="token"), SPEC),
    "pi0.5": (replace(SMALL, time="adaptive"), ALONE),
    "ordered": (replace(SMALL, time="adaptive", causal=True), SPEC),
    "smolvla": (replace(SMALL, time="token", causal=True, joint_every=2), ALONE),
    "fewer": (replace(SMALL, time="token", layers=2), ALONE),
    "apart": (replace(SMALL, joint_every=0), ALONE),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loud(net):
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.3)
    return net


def prefix_net():
    block = Block(16, Heads(4, 2, E, bias=False, out_bias=False), GatedMlp(), RmsNorm())
    return loud(Stream([block] * LAYERS, norm=RmsNorm(), rotary=Rotary()))


def built(name, times=1):
    config, spec = EXPERTS[name]
    return loud(config.build(shape=(H, A), out=OUT, times=times, context=spec))


def inputs(name):
    spec = EXPERTS[name][1]
    return torch.randn(B, H, A), torch.rand(B, 1), torch.randn(B, STATE) if spec.vector else None


def block_pass(block, h, others, mask, turn, condition):
    """One layer of the expert written out: its own queries, keys and values beside those of the prefix."""
    part, branch = block.attention, block.attention_branch
    changes = [None, None] if block.adaptive is None else block.adaptive(condition)
    asked = branch.enter(h, changes[0])
    q, k, v = part.project(asked, asked, asked)
    q, k = turn(q), turn(k)
    keys, values = torch.cat([others[0], k], 2), torch.cat([others[1], v], 2)
    keys, values = (x.repeat_interleave(2, 1) for x in (keys, values))
    scores = (q @ keys.mT) * E**-0.5
    y = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ values
    h = branch.join(h, part.out_proj(y.transpose(1, 2).flatten(2)), changes[0])
    last = block.feedforward_branch
    return last.join(h, block.feedforward(last.enter(h, changes[1])), changes[1])


def cross_pass(block, h, others, valid, turn, condition):
    """One layer that reads the prefix alone, through projections of its keys and values."""
    part, branch = block.cross, block.cross_branch
    changes = [None, None] if block.adaptive is None else block.adaptive(condition)
    flat = [x.transpose(1, 2).flatten(2) for x in others]
    q = turn((branch.enter(h, changes[0]) @ part.q_proj_weight.T).unflatten(2, (4, E)).transpose(1, 2))
    weights = (part.k_proj_weight, part.v_proj_weight)
    k, v = ((x @ w.T).unflatten(2, (2, E)).transpose(1, 2) for x, w in zip(flat, weights, strict=True))
    k, v = (x.repeat_interleave(2, 1) for x in (k, v))
    scores = (q @ k.mT) * E**-0.5
    y = scores.masked_fill(~valid[:, None, None], -torch.inf).softmax(-1) @ v
    h = branch.join(h, part.out_proj(y.transpose(1, 2).flatten(2)), changes[0])
    last = block.feedforward_branch
    return last.join(h, block.feedforward(last.enter(h, changes[1])), changes[1])


def joint(name, stream, net, prefix, x, t, vector):
    """The mixture in one pass: in each layer the prefix by its own weights, the suffix by the expert's."""
    config = EXPERTS[name][0]
    h, condition = net._embed(x, t)
    front = 0 if vector is None else 1
    if front:
        h = torch.cat([net.state(vector)[:, None], h], 1)
    length = h.shape[1]
    order = torch.arange(length) if config.causal else (torch.arange(length) >= front).long()
    whole = torch.cat([VALID, VALID.new_ones(B, length)], 1)
    mask = block_mask(whole, torch.cat([torch.full((P,), -1), order]))
    angles = Rotary().angles(whole.cumsum(1) - 1, E)
    mine, own = ([part[:, :P] for part in angles], [part[:, P:] for part in angles])
    steps = Rotary().angles(torch.arange(length), E)
    z = prefix
    layer = 0
    for i, block in enumerate(stream.blocks):
        kept = []

        def keep(q, k=kept):
            k.append(rotate(q, *mine))
            return k[-1]

        z, known = block(z, block_mask(VALID, torch.zeros(P, dtype=torch.long)), None, keep)
        if i % net.every:
            continue
        others, used = (known.keys, known.values), net.stream.blocks[layer]
        if used.attention is None:
            h = cross_pass(used, h, others, VALID, lambda q: rotate(q, *steps), condition)
        else:
            h = block_pass(used, h, others, mask[:, :, P:], lambda q: rotate(q, *own), condition)
        layer += 1
    h = net.stream.norm(h)
    if net.stream.adaptive is not None:
        shift, scale, _ = net.stream.adaptive(condition)[0]
        h = h * (1 + scale) + shift
    return net.head(h[:, front:])


@pytest.mark.parametrize("name", EXPERTS)
def test_memory_and_suffix_are_one_joint_pass_with_its_gradients(name):
    stream, net = prefix_net(), built(name)
    prefix, (x, t, vector) = torch.randn(B, P, 16, requires_grad=True), inputs(name)
    expected = joint(name, stream, net, prefix, x, t, vector)

    def apart():
        return net(x, t, Context(B, vector, memory=stream(prefix, valid=VALID)[1]))

    found = apart()
    assert found.shape == (B, H, OUT)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    weights = [prefix, *net.parameters(), *stream.parameters()]
    mine, theirs = (
        torch.autograd.grad(y.square().sum(), weights, allow_unused=True, materialize_grads=True)
        for y in (found, expected)
    )
    scale = max(float(g.abs().max()) for g in theirs)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * scale, rtol=1e-4)
    assert all(float(g.abs().max()) > 0 for g in mine[: 1 + len(list(net.parameters()))])
    with torch.no_grad():
        memory = stream(prefix, valid=VALID)[1]
        for _ in range(2):
            again = net(x, t, Context(B, vector, memory=memory))
            torch.testing.assert_close(again, expected, atol=1e-4, rtol=1e-4)
        assert memory.length == P


def test_a_memory_alone_is_that_of_the_whole_pass():
    stream, x = prefix_net(), torch.randn(B, P, 16)
    whole = stream(x, valid=VALID)[1]
    alone = stream(x, valid=VALID, answer=False)[1]
    assert torch.equal(alone.count, whole.count)
    assert torch.equal(alone.mask, whole.mask)
    for mine, theirs in zip(alone.layers, whole.layers, strict=True):
        assert torch.equal(mine.keys, theirs.keys)
        assert torch.equal(mine.values, theirs.values)


def test_published_sizes():
    """Of the experts alone, without what reads their inputs and outputs (pi0: 311 M with its unused embedding)."""
    pi0 = ContextSpec(vector=32, memory=MemorySpec(18, 1, 256))
    with torch.device("meta"):
        nets = {
            "pi0": Expert.pi0().build(shape=(50, 32), out=32, times=1, context=pi0),
            "pi05": Expert.pi05().build(shape=(50, 32), out=32, times=1, context=replace(pi0, vector=0)),
            "smolvla": Expert.smolvla().build(
                shape=(50, 32), out=32, times=1, context=ContextSpec(memory=MemorySpec(16, 5, 64))
            ),
        }
    layer = 1024 * (2048 + 256 + 256 + 2048) + 3 * 1024 * 4096
    assert count(nets["pi0"].stream) == 18 * (layer + 2 * 1024) + 1024
    assert count(nets["pi05"].stream) == 18 * (layer + 2 * 3 * 1024 * 1025) + 3 * 1024 * 1025
    sizes = {1: 720 * 320, 0: 320 * 320}
    layers = sum(720 * 960 * 2 + 2 * sizes[i % 2 == 0] + 3 * 720 * 2048 + 2 * 720 for i in range(16))
    assert count(nets["smolvla"].stream) == layers + 720


def sampled(guidance=None, cut=None):
    """Flow around an expert: the net's calls, and what it samples under a memory of two rows."""
    config, spec = EXPERTS["pi0.5"]
    sampler = Sampler(steps=3) if guidance is None else Sampler(steps=3, guidance=guidance)
    decoder = Flow(trunk=config, sampler=sampler).build(shape=(H, A), context=spec)
    loud(decoder)
    prefix, other = torch.randn(B, P, 16, generator=seeded(1)), torch.randn(B, P, 16, generator=seeded(2))
    stream = prefix_net().eval()
    with torch.no_grad():
        memory, null = stream(prefix, valid=VALID)[1], stream(other)[1]
    return decoder.eval(), Context(B, memory=memory, null=Context(B, memory=null))


def test_decoders_train_and_sample_through_a_memory():
    decoder, ctx = sampled()
    loss = decoder.loss(ctx, torch.randn(B, H, A), weight=None, rng=seeded(0))
    sum(loss.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())
    x = decoder.sample(ctx, shape=(H, A), rng=seeded(3))
    other = decoder.sample(ctx.null, shape=(H, A), rng=seeded(3))
    assert (x - other).abs().max() > 1e-2
    assert torch.equal(decoder.sample(ctx, shape=(H, A), rng=seeded(3)), x)


def test_guidance_mixes_what_two_memories_say():
    torch.manual_seed(0)
    decoder, ctx = sampled(Guidance(2.5))
    noise, nets = torch.randn(B, H, A, generator=seeded(4)), decoder.net

    def mixed(x, t, ctx):
        c, null = nets(x, t, ctx), nets(x, t, ctx.null)
        return null + 2.5 * (c - null)

    found = decoder.sample(ctx, shape=(H, A), rng=seeded(5), noise=noise)
    decoder.sampler = replace(decoder.sampler, guidance=Guidance())
    with torch.no_grad():
        decoder.net = Replaced(mixed)
        expected = decoder.sample(ctx, shape=(H, A), rng=seeded(5), noise=noise)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


class Replaced(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


UNREADING = {
    "Mlp": lambda c: networks.Mlp().build(shape=(H, A), out=A, times=1, context=c),
    "PlainMlp": lambda c: networks.PlainMlp().build(shape=(H, A), out=A, times=1, context=c),
    "UNet1d": lambda c: networks.UNet1d(widths=(8,)).build(shape=(H, A), out=A, times=1, context=c),
    "UNet2d": lambda c: networks.UNet2d().build(shape=(1, 8, 8), out=1, times=1, context=c),
    "Dit": lambda c: networks.Dit().build(shape=(1, 8, 8), out=1, times=1, context=c),
    "Transformer": lambda c: networks.Transformer().build(shape=(H, A), out=A, times=1, context=c),
    "Detr": lambda c: networks.Detr(width=16, heads=2).build(shape=(H, A), out=A, times=1, context=c),
    "Lstm": lambda c: networks.Lstm().build(shape=(H, A), out=A, times=1, context=replace(c, token=3, tokens=H)),
    "Rnn": lambda c: networks.Rnn().build_tokens(length=4, classes=3, context=c),
    "Gpt": lambda c: networks.Gpt().build_tokens(length=4, classes=3, context=c),
    "ImageTransformer": lambda c: ImageTransformer().build_tokens(length=4, classes=3, context=c),
    "GatedCnn": lambda c: GatedCnn(grid=(2, 2, 1)).build_tokens(length=4, classes=3, context=c),
    "Dcgan": lambda c: Dcgan().build(latent=4, shape=(1, 8, 8), context=c),
    "DcganCritic": lambda c: DcganCritic().build(shape=(1, 8, 8), context=c),
}


@pytest.mark.parametrize("name", UNREADING)
def test_a_network_that_would_not_read_a_memory_refuses_it(name):
    with pytest.raises(ValueError, match=r"^context(\.memory)?: .*(expected none, .*found 2 layers|MemorySpec)"):
        UNREADING[name](ContextSpec(memory=MemorySpec(2, 2, 8)))


def test_what_an_expert_cannot_read_is_named():
    x, t, vector = inputs("pi0")
    net, expected = built("pi0"), r"context.memory: expected 4 layers of 2 heads, 8 wide, found "
    memory = prefix_net()(torch.randn(B, P, 16))[1]
    for found, what in (
        (None, "none"),
        (Memory(memory.layers[:3], None, memory.count), "3 of"),
        (memory.map(lambda part: part[..., :6] if part.dim() == 4 else part), r"4 of .*\(2, 6\)"),
    ):
        with pytest.raises(ValueError, match=expected + what):
            net(x, t, Context(B, vector, memory=found))
    with pytest.raises(ValueError, match=r"context\.vector: expected width 7, found none"):
        net(x, t, Context(B, memory=memory))
    for config, spec, message in (
        (SMALL, ContextSpec(vector=3), "context.memory: expected the sizes of a prefix's keys and values, found none"),
        (SMALL, replace(SPEC, token=3, tokens=2), "context.token: expected none beside the memory"),
        (replace(SMALL, layers=3), SPEC, "layers: expected a divisor of the memory's 4, found 3"),
        (replace(SMALL, heads=3), SPEC, "heads.n_kv_heads: expected a divisor of 3 heads, found 2"),
        (replace(SMALL, joint_every=0), SPEC, "joint_every: expected at least 1 with a state"),
        (replace(SMALL, time="late"), SPEC, "time: expected token or adaptive, found 'late'"),
    ):
        with pytest.raises(ValueError, match=message):
            config.build(shape=(H, A), out=A, times=1, context=spec)
    with pytest.raises(ValueError, match="time: expected token where there are no times"):
        SMALL.build(shape=(H, A), out=A, times=0, context=SPEC)
    with pytest.raises(ValueError, match="t: expected the times the network was built for, found none"):
        net(x, None, Context(B, vector, memory=memory))


def test_times_have_the_published_sinusoid():
    """sin and cos of 2 pi t / period with periods from 4e-3 to 4 in equal ratios (openpi)."""
    net, t = built("pi0"), torch.tensor([[0.3], [1.0]])
    found = net._sinusoids(t, torch.zeros(B, H, 24))
    period = 4e-3 * (4.0 / 4e-3) ** torch.linspace(0, 1, 12, dtype=torch.float64)
    angle = 2 * torch.pi * t.double() / period
    torch.testing.assert_close(found.double(), torch.cat([angle.sin(), angle.cos()], 1), atol=3e-4, rtol=0)
    assert F.relu(found).max() > 0.9
