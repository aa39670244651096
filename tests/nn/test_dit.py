import math

import pytest
import torch
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.encoders import Labels
from nextmove.nn import Dit, count
from nextmove.nn.embedding import cells

SMALL = Dit(width=24, layers=2, heads=3, time_width=8)
NOTHING = ContextSpec()
# The official code with learned variances (8 of 4 channels out) and 1001 labels, its fixed positions not counted; they
# add 256 times the width, as in the 675,129,632 it reports for XL.
PUBLISHED = {"S": 32_865_056, "B": 130_315_808, "L": 457_840_672, "XL": 674_834_720}


def loud(net):
    torch.manual_seed(0)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.2)
    return net.eval()


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_published_networks_have_their_numbers_of_parameters(size):
    config = Dit.sized(size)
    with torch.device("meta"):
        labels = Labels(1000, config.width)
        net = config.build(shape=(4, 32, 32), out=8, times=1, context=labels.spec)
    assert count(net) + count(labels) == PUBLISHED[size]
    assert size != "XL" or PUBLISHED[size] + 256 * config.width == 675_129_632


def theirs_as_ours(tensors, layers, width):
    """The tensors of diffusers' DiTTransformer2DModel under our names."""
    first = "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1"
    columns = tensors[f"{first}.weight"].chunk(2, 1)
    out = {
        "input.weight": tensors["pos_embed.proj.weight"].flatten(1), "input.bias": tensors["pos_embed.proj.bias"],
        # Cosines come first there.
        "times.nets.0.0.weight": torch.cat([columns[1], columns[0]], 1),
        "times.nets.0.0.bias": tensors[f"{first}.bias"],
    }  # fmt: skip
    names = {"times.nets.0.2": first.replace("linear_1", "linear_2"), "stream.adaptive.linear": "proj_out_1"}
    names["head"] = "proj_out_2"
    for i in range(layers):
        theirs, ours = f"transformer_blocks.{i}", f"stream.blocks.{i}"
        names[f"{ours}.adaptive.linear"] = f"{theirs}.norm1.linear"
        names[f"{ours}.attention.out_proj"] = f"{theirs}.attn1.to_out.0"
        names[f"{ours}.feedforward.up"] = f"{theirs}.ff.net.0.proj"
        names[f"{ours}.feedforward.down"] = f"{theirs}.ff.net.2"
        for kind in ("weight", "bias"):
            packed = torch.cat([tensors[f"{theirs}.attn1.to_{part}.{kind}"] for part in "qkv"])
            out[f"{ours}.attention.in_proj_{kind}"] = packed
    return out | {f"{o}.{kind}": tensors[f"{t}.{kind}"] for o, t in names.items() for kind in ("weight", "bias")}


def test_equals_diffusers_with_equal_weights():
    import diffusers

    width, layers = 24, 2
    theirs = loud(
        diffusers.DiTTransformer2DModel(
            num_attention_heads=3, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=layers,
            sample_size=8, num_embeds_ada_norm=10, norm_eps=1e-6,
        )
    )  # fmt: skip
    tensors = theirs.state_dict()
    # Every block there has its own embedding of time and label; ours, like the paper's, is one for all.
    for name in list(tensors):
        if ".norm1.emb." in name:
            tensors[name].copy_(tensors[name.replace(name.split(".")[1], "0", 1)])
    config = Dit(width=width, layers=layers, heads=3)
    ours = config.build(shape=(4, 8, 8), out=8, times=1, context=ContextSpec(vector=width)).eval()
    ours.load_state_dict(theirs_as_ours(tensors, layers, width))
    theirs, ours = theirs.double(), ours.double()
    x, t, label = torch.randn(3, 4, 8, 8).double(), torch.tensor([0, 7, 60]), torch.tensor([3, 9, 0])
    table = tensors["transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"]
    with torch.no_grad():
        found = ours(x, t[:, None].float(), Context(3, vector=table[label]))
        expected = theirs(x, timestep=t, class_labels=label).sample
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_positions_tell_columns_and_rows_apart():
    found = cells(2, 3, 8)
    # Cell (row 1, column 2): frequencies 1 and .01 of 2, then of 1.
    along = lambda place: [math.sin(place), math.sin(0.01 * place), math.cos(place), math.cos(0.01 * place)]  # noqa: E731
    torch.testing.assert_close(found[1 * 3 + 2], torch.tensor(along(2) + along(1)))
    with pytest.raises(ValueError, match="width: expected a multiple of 4"):
        cells(2, 2, 6)


@pytest.mark.parametrize(("shape", "patch"), [((1, 8, 8), 2), ((1, 28, 28), 4), ((3, 32, 32), 4), ((2, 6, 10), 2)])
def test_every_pixel_reaches_every_other(shape, patch):
    config = Dit(width=24, layers=1, heads=3, patch=patch, time_width=8)
    net = loud(config.build(shape=shape, out=2, times=1, context=NOTHING))
    x = torch.randn(1, *shape, requires_grad=True)
    y = net(x, torch.ones(1, 1), Context.empty(1))
    assert y.shape == (1, 2, *shape[1:])
    y[0, 1, -1, 0].backward()
    assert bool((x.grad != 0).all())


def test_patches_keep_their_place():
    net = loud(SMALL.build(shape=(2, 4, 6), out=2, times=1, context=NOTHING))
    nn.init.zeros_(net.stream.adaptive.linear.weight)
    for block in net.stream.blocks:
        nn.init.zeros_(block.adaptive.linear.weight)
        nn.init.zeros_(block.adaptive.linear.bias)
    x = torch.randn(1, 2, 4, 6, requires_grad=True)
    net(x, torch.ones(1, 1), Context.empty(1))[0, 0, 2, 5].backward()
    # With closed gates a pixel depends on its own patch alone.
    own = torch.zeros(1, 2, 4, 6, dtype=torch.bool)
    own[:, :, 2:4, 4:6] = True
    assert torch.equal(x.grad != 0, own)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_every_weight_learns_and_the_whole_context_counts(times):
    net = loud(SMALL.build(shape=(2, 4, 4), out=2, times=times, context=ContextSpec(vector=5, token=3, tokens=2)))
    x, t = torch.randn(2, 2, 4, 4, requires_grad=True), torch.rand(2, times, requires_grad=True)
    ctx = Context(2, torch.randn(2, 5, requires_grad=True), torch.randn(2, 2, 3, requires_grad=True))
    (net(x, t if times else None, ctx) ** 2).sum().backward()
    for part in (x, ctx.vector, ctx.tokens, *([t] if times else [])):
        assert bool((part.grad != 0).all())
    for name, weight in net.named_parameters():
        grad = weight.grad.chunk(3)[0] if name.endswith("in_proj_bias") else weight.grad
        assert bool((grad != 0).any()), name


def test_starts_at_zero_with_open_ends_only_where_the_paper_has_them():
    net = SMALL.build(shape=(2, 4, 4), out=2, times=1, context=NOTHING)
    assert torch.equal(net(torch.randn(2, 2, 4, 4), torch.rand(2, 1), Context.empty(2)), torch.zeros(2, 2, 4, 4))
    zero = {
        name.rsplit(".", 1)[0]
        for name, weight in net.named_parameters()
        if name.endswith("weight") and not weight.any()
    }
    assert zero == {*(f"stream.{part}adaptive.linear" for part in ("blocks.0.", "blocks.1.", "")), "head"}


def test_errors():
    build = {"shape": (1, 8, 8), "out": 1, "times": 1, "context": NOTHING}
    with pytest.raises(ValueError, match=r"patches of side 2, found \(1, 7, 8\)"):
        SMALL.build(**{**build, "shape": (1, 7, 8)})
    with pytest.raises(ValueError, match=r"shape: expected \(C, height, width\)"):
        SMALL.build(**{**build, "shape": (16, 2)})
    with pytest.raises(ValueError, match="cannot be causal"):
        SMALL.build(**build, causal=True)
    with pytest.raises(ValueError, match="context: expected a time"):
        SMALL.build(**{**build, "times": 0})
