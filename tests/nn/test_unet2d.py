import re

import pytest
import torch
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.interop.diffusers import unet2d_tensors
from nextmove.nn import UNet2d, count
from nextmove.nn.unet2d import Downsample

SMALL = UNet2d(channels=8, multipliers=(1, 2, 2), blocks=1, attention=(1,), dropout=0.0, groups=4)
NOTHING = ContextSpec()


def loud(net):
    """Weights without zeros, so that nothing is hidden behind a start at zero."""
    torch.manual_seed(0)
    for name, weight in net.named_parameters():
        nn.init.normal_(weight, mean=float("norm" in name and "weight" in name), std=0.1)
    return net.eval()


def built(config=SMALL, shape=(2, 8, 8), out=3, times=1, context=NOTHING):
    return loud(config.build(shape=shape, out=out, times=times, context=context))


def test_the_published_network_has_its_number_of_parameters():
    with torch.device("meta"):
        net = UNet2d().build(shape=(3, 32, 32), out=3, times=1, context=NOTHING)
    assert count(net) == 35_746_307


CASES = {
    "ddpm": (UNet2d(channels=32, multipliers=(1, 2, 2), attention=(1,)), {}, NOTHING),
    "scale": (
        UNet2d(channels=32, multipliers=(1, 2), scale=True),
        {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 32},
        NOTHING,
    ),
    "labels": (UNet2d(channels=32, multipliers=(1, 2)), {"num_class_embeds": 5}, ContextSpec(vector=128)),
}


AGES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
OLD_NAMES = re.compile("|".join(map(re.escape, AGES)))
"""What the first published checkpoints call the projections of attention."""


@pytest.mark.parametrize("case", CASES)
def test_equals_diffusers_with_equal_weights(case):
    import diffusers

    config, options, context = CASES[case]
    levels = range(len(config.multipliers))
    theirs = diffusers.UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, layers_per_block=config.blocks, norm_eps=1e-6,
        block_out_channels=[config.channels * m for m in config.multipliers], dropout=0.0,
        down_block_types=["AttnDownBlock2D" if i in config.attention else "DownBlock2D" for i in levels],
        up_block_types=["AttnUpBlock2D" if i in config.attention else "UpBlock2D" for i in reversed(levels)],
        attention_head_dim=None, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0, **options,
    )  # fmt: skip
    loud(theirs)
    ours = config.build(shape=(3, 16, 16), out=3, times=1, context=context).eval()
    tensors = theirs.state_dict()
    table = tensors.pop("class_embedding.weight", None)
    state = unet2d_tensors(tensors)
    ours.load_state_dict(state)
    old = {OLD_NAMES.sub(lambda m: AGES[m[0]], name): value for name, value in tensors.items()}
    assert old.keys() != tensors.keys()
    assert unet2d_tensors(old).keys() == state.keys()
    x, t, label = torch.randn(4, 3, 16, 16), torch.tensor([0, 7, 500, 999]), torch.tensor([4, 0, 2, 1])
    with torch.no_grad():
        condition = Context(4, vector=None if table is None else table[label])
        found = ours(x, t[:, None].float(), condition)
        expected = theirs(x, t, class_labels=None if table is None else label).sample
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (7, 10), (1, 5)])
def test_any_size_goes_through_and_every_input_reaches_every_output(size):
    net = built(shape=(2, *size))
    x = torch.randn(1, 2, *size, requires_grad=True)
    y = net(x, torch.ones(1, 1), Context.empty(1))
    assert y.shape == (1, 3, *size)
    y[0, 0, -1, 0].backward()
    # The middle's attention sees the whole image.
    assert bool((x.grad != 0).all())


def test_an_odd_side_is_halved_upwards_and_centred():
    down = Downsample(1)
    nn.init.ones_(down.weight)
    nn.init.zeros_(down.bias)
    # Windows of three: even sides start at 0, odd ones at -1.
    assert down(torch.arange(1.0, 5).expand(1, 1, 1, 4))[0, 0, 0].tolist() == [6.0, 7.0]
    assert down(torch.arange(1.0, 6).expand(1, 1, 1, 5))[0, 0, 0].tolist() == [3.0, 9.0, 9.0]


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_every_weight_learns_and_the_whole_context_counts(times, scale):
    config = UNet2d(channels=8, multipliers=(1, 2), blocks=1, groups=4, dropout=0.0, heads=2, scale=scale)
    spec = ContextSpec(vector=5, token=3, tokens=2)
    net = built(config, times=times, context=spec)
    x, t = torch.randn(2, 2, 8, 8, requires_grad=True), torch.rand(2, times, requires_grad=True)
    ctx = Context(2, torch.randn(2, 5, requires_grad=True), torch.randn(2, 2, 3, requires_grad=True))
    (net(x, t if times else None, ctx) ** 2).sum().backward()
    for part in (x, ctx.vector, ctx.tokens, *([t] if times else [])):
        assert bool((part.grad != 0).all())
    for name, weight in net.named_parameters():
        # Keys' biases shift all scores of a query alike.
        grad = weight.grad.chunk(3)[0] if name.endswith("in_proj_bias") else weight.grad
        assert bool((grad != 0).any()), name


def test_a_row_does_not_depend_on_its_neighbours_and_starts_at_zero():
    # In float32 rounding depends on the batch by more than a millionth on some processors.
    net = built().double()
    x, t = torch.randn(4, 2, 8, 8), torch.rand(4, 1)
    with torch.no_grad():
        together = net(x.double(), t.double(), Context.empty(4))
        alone = net(x[2:3].double(), t[2:3].double(), Context.empty(1))
        torch.testing.assert_close(alone, together[2:3], atol=1e-12, rtol=1e-11)
    fresh = SMALL.build(shape=(2, 8, 8), out=3, times=1, context=NOTHING)
    assert torch.equal(fresh(x, t, Context.empty(4)), torch.zeros(4, 3, 8, 8))


def test_errors():
    build = {"shape": (1, 8, 8), "out": 1, "times": 1, "context": NOTHING}
    with pytest.raises(ValueError, match="groups: expected a divisor of 8 channels, found 32"):
        UNet2d(channels=8).build(**build)
    with pytest.raises(ValueError, match="cannot be causal"):
        SMALL.build(**build, causal=True)
    with pytest.raises(ValueError, match=r"shape: expected \(C, height, width\), found \(16, 2\)"):
        SMALL.build(**{**build, "shape": (16, 2)})
    with pytest.raises(ValueError, match="context: expected a time"):
        SMALL.build(**{**build, "times": 0})
    with pytest.raises(ValueError, match=r"tensor 'down_blocks\.0\.foo\.0\.weight': has no place"):
        unet2d_tensors({"down_blocks.0.foo.0.weight": torch.zeros(1)})
