"""ACT's networks: reference numbers, the equations written out, masks and every kind of context."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.golden.materialise import materialise
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn import Mlp
from nextmove.nn.detr import ActVaeEncoder, Detr

GOLDEN = Path(__file__).parents[1] / "golden" / "act_state"
SMALL = Detr(width=16, heads=4, feedforward=24, encoder_layers=2, decoder_layers=2, dropout=0.0)
Q = ActVaeEncoder(width=16, heads=4, feedforward=24, layers=2, dropout=0.0)
RENAME = {
    "vae_encoder_cls_embed.": "cls.",
    "vae_encoder_robot_state_input_proj.": "state.",
    "vae_encoder_action_input_proj.": "action.",
    "vae_encoder_latent_output_proj.": "latent.",
    "vae_encoder.": "encoder.",
    "encoder_latent_input_proj.": "inputs.0.",
    "encoder_robot_state_input_proj.": "inputs.1.",
    "encoder_env_state_input_proj.": "inputs.2.",
    "encoder_1d_feature_pos_embed.": "position.",
    "decoder_pos_embed.": "query.",
    "action_head.": "head.",
    ".layers.": ".blocks.",
    ".self_attn.": ".attention.",
    ".multihead_attn.": ".cross.",
    ".linear1.": ".feedforward.up.",
    ".linear2.": ".feedforward.down.",
    ".norm1.": ".attention_branch.norm.",
    ".norm3.": ".feedforward_branch.norm.",
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def context_of(spec, batch=2):
    vector = torch.randn(batch, spec.vector) if spec.vector else None
    tokens = torch.randn(batch, spec.tokens or 3, spec.token) if spec.token else None
    return Context(batch, vector, tokens)


def loud(net):
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.eval()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The reference's weights under our names, its inputs as it normalises them, its answers."""
    folder = tmp_path_factory.mktemp("act")
    materialise(GOLDEN, folder)
    detr, posterior = {}, {}
    for key, value in load_file(folder / "model.safetensors").items():
        name = key.removeprefix("model.")
        part = posterior if name.startswith("vae_encoder") else detr
        for theirs, ours in RENAME.items():
            name = name.replace(theirs, ours)
        stack = "cross" if name.startswith("decoder") else "feedforward"
        name = name.replace(".norm2.", f".{stack}_branch.norm.")
        part[name] = value
    io = load_file(folder / "io.safetensors")
    stats = load_file(folder / "policy_preprocessor_step_3_normalizer_processor.safetensors")
    scale = lambda x, name: (x - stats[f"{name}.mean"]) / (stats[f"{name}.std"] + 1e-8)  # noqa: E731
    state = scale(io["in.observation.state"], "observation.state")
    vector = torch.cat([state, io["in.observation.environment_state"]], 1)
    return detr, posterior, vector, scale(io["train.action"], "action"), io


def test_chunk_and_losses_of_the_reference(reference):
    detr, posterior, vector, action, io = reference
    config = Detr(32, 4, 48, 2, 1, dropout=0.0, parts=(8, 7, 5))
    net = config.build(shape=(8, 0), out=6, times=0, context=ContextSpec(vector=20)).eval()
    net.load_state_dict(detr)
    nothing = torch.zeros(2, 8, 0)
    y = net(nothing, None, Context(2, torch.cat([torch.zeros(2, 8), vector], 1)))
    torch.testing.assert_close(y, io["out.normalized"], atol=1e-5, rtol=1e-5)

    q = ActVaeEncoder(32, 4, 48, 2, 0.0, state=7).build(shape=(8, 6), context=ContextSpec(vector=12), latent=8).eval()
    q.load_state_dict(posterior)
    valid = ~io["train.action_is_pad"]
    mean, logvar = q(action, Context(2, vector), valid)
    kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1).mean()
    torch.testing.assert_close(kl, io["loss.kld_loss"], atol=1e-5, rtol=1e-5)
    z = mean + (logvar / 2).exp() * io["train.latent_eps"]
    y = net(nothing, None, Context(2, torch.cat([z, vector], 1)))
    l1 = ((y - action).abs() * valid[..., None]).sum() / (valid.sum() * 6)
    torch.testing.assert_close(l1, io["loss.l1_loss"], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        net.encoder.blocks[0].feedforward.up.weight[0, 0] += 1.0
    changed = net(nothing, None, Context(2, torch.cat([z, vector], 1)))
    assert not torch.allclose(changed, y, atol=1e-5)


def attend(layer, q, k, v):
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(layer.state_dict())
    return theirs(q, k, v, need_weights=False)[0]


@pytest.mark.parametrize("pre", [False, True])
def test_equations_written_out(pre):
    spec = ContextSpec(vector=5, token=3, tokens=2)
    config = Detr(16, 4, 24, 1, 1, 0.0, "gelu", pre, (2, 3))
    net, ctx = loud(config.build(shape=(6, 4), out=3, times=1, context=spec)), context_of(spec)
    x, t = torch.randn(2, 6, 4), torch.rand(2, 1)
    time = net.times(t)[:, None]
    first = [net.inputs[0](ctx.vector[:, :2])[:, None] + time, net.inputs[1](ctx.vector[:, 2:])[:, None] + time]
    m = torch.cat([*first, net.token(ctx.tokens)], 1)
    p = torch.cat([net.position.weight, net.token_position.weight])
    layer = net.encoder.blocks[0]
    before = lambda branch, x: branch.norm(x) if pre else x  # noqa: E731
    after = lambda branch, x: x if pre else branch.norm(x)  # noqa: E731
    one, two = layer.attention_branch, layer.feedforward_branch
    h = before(one, m)
    m = after(one, m + attend(layer.attention, h + p, h + p, h))
    m = after(two, m + layer.feedforward(before(two, m)))
    m = net.encoder.norm(m) if pre else m
    layer, d = net.decoder.blocks[0], net.query.weight
    one, two, three = layer.attention_branch, layer.cross_branch, layer.feedforward_branch
    y = net.action(x)
    h = before(one, y)
    y = after(one, y + attend(layer.attention, h + d, h + d, h))
    h = before(two, y)
    y = after(two, y + attend(layer.cross, h + d, m + p, m))
    y = after(three, y + layer.feedforward(before(three, y)))
    torch.testing.assert_close(net(x, t, ctx), net.head(net.decoder.norm(y)))


CONTEXTS = [
    ContextSpec(vector=5),
    ContextSpec(token=3, tokens=2),
    ContextSpec(5, 16),
    ContextSpec(5, 3, 2),
    ContextSpec(),
]


@pytest.mark.parametrize(("spec", "times", "actions"), list(itertools.product(CONTEXTS, [0, 1, 2], [0, 4])))
def test_shapes_and_gradients_of_every_parameter(spec, times, actions):
    net = SMALL.build(shape=(6, actions), out=3, times=times, context=spec)
    t = torch.rand(2, times) if times else None
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.randn(2, 6, actions), t, context_of(spec))
    assert y.shape == (2, 6, 3)
    assert y.isfinite().all()
    y.float().pow(2).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_keys_start_and_norms():
    spec = ContextSpec(vector=5, token=3, tokens=2)
    plain = SMALL.build(shape=(6, 0), out=3, times=0, context=spec)
    assert "encoder.norm.weight" not in plain.state_dict()
    assert "decoder.norm.weight" in plain.state_dict()
    weight = plain.encoder.blocks[0].attention.in_proj_weight
    assert weight.abs().max().item() == pytest.approx((6 / 64) ** 0.5, rel=0.05)
    same = SMALL.build(shape=(6, 0), out=3, times=0, context=ContextSpec(token=16))
    assert not any(key.startswith(("token", "position", "action", "inputs")) for key in same.state_dict())


def test_order_of_parts_tokens_and_times_matters():
    spec = ContextSpec(vector=4, token=3, tokens=2)
    config = Detr(16, 4, 24, 2, 1, 0.0, parts=(2, 2))
    net, ctx = loud(config.build(shape=(6, 4), out=3, times=2, context=spec)), context_of(spec)
    x, t = torch.randn(2, 6, 4), torch.rand(2, 2)
    y = net(x, t, ctx)
    flipped = (ctx.replace(tokens=ctx.tokens.flip(1)), ctx.replace(vector=ctx.vector[:, [2, 3, 0, 1]]))
    for other in (net(x, t, flipped[0]), net(x, t, flipped[1]), net(x, t.flip(1), ctx), net(x.flip(1), t, ctx)):
        assert not torch.allclose(other, y, atol=1e-5)


def test_masked_tokens_are_not_seen():
    spec = ContextSpec(vector=5, token=3, tokens=2)
    net, ctx = loud(SMALL.build(shape=(6, 0), out=3, times=0, context=spec)), context_of(spec)
    ctx = ctx.replace(mask=torch.tensor([[True, False], [True, True]]))
    other = ctx.replace(tokens=ctx.tokens + torch.tensor([0.0, 9.0])[None, :, None])
    x = torch.zeros(2, 6, 0)
    torch.testing.assert_close(net(x, None, ctx)[0], net(x, None, other)[0])
    assert not torch.allclose(net(x, None, ctx)[1], net(x, None, other)[1])


def test_causal_build_orders_the_actions():
    net = loud(SMALL.build(shape=(6, 4), out=3, times=0, context=ContextSpec(vector=5), causal=True))
    x, ctx = torch.randn(2, 6, 4, requires_grad=True), context_of(ContextSpec(vector=5))
    for i in range(6):
        (grad,) = torch.autograd.grad(net(x, None, ctx)[:, i].pow(2).sum(), x)
        assert (grad.abs().sum((0, 2)) > 0).tolist() == [j <= i for j in range(6)]


@pytest.mark.parametrize(("state", "sees"), [(-1, 5), (3, 3), (0, 0)])
def test_posterior_sees_leading_columns_and_valid_actions(state, sees):
    spec = ContextSpec(vector=5)
    config = ActVaeEncoder(16, 4, 24, 2, 0.0, state=state)
    q = loud(config.build(shape=(6, 4), context=spec, latent=3))
    ctx, x = context_of(spec), torch.randn(2, 6, 4, requires_grad=True)
    ctx.vector.requires_grad_()
    valid = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    mean, logvar = q(x, ctx, valid)
    assert mean.shape == logvar.shape == (2, 3)
    (grad,) = torch.autograd.grad(mean.sum() + logvar.pow(2).sum(), x, retain_graph=True)
    assert torch.equal(grad.abs().sum(2) > 0, valid)
    (grad,) = torch.autograd.grad(mean.pow(2).sum(), ctx.vector, allow_unused=True)
    assert (0 if grad is None else int((grad.abs().sum(0) > 0).sum())) == sees
    torch.testing.assert_close(q(x, ctx)[0][1], mean[1])
    assert not torch.allclose(q(x.flip(1), ctx)[0], q(x, ctx)[0], atol=1e-5)


@pytest.mark.parametrize("pre", [False, True])
def test_posterior_gradients_and_keys(pre):
    q = ActVaeEncoder(16, 4, 24, 2, pre_norm=pre).build(shape=(6, 4), context=ContextSpec(vector=5), latent=3)
    with torch.autocast("cpu", torch.bfloat16):
        mean, logvar = q(torch.randn(2, 6, 4), context_of(ContextSpec(vector=5)), None)
    (mean.float().sum() + logvar.float().pow(2).sum()).backward()
    assert [name for name, p in q.named_parameters() if p.grad is None] == []
    assert "position" not in q.state_dict()
    assert ("encoder.norm.weight" in q.state_dict()) is pre


def test_what_does_not_fit_is_named():
    spec = ContextSpec(vector=5, token=3, tokens=2)
    with pytest.raises(ValueError, match=r"parts: expected widths that add up to 5, found \(2, 2\)"):
        Detr(parts=(2, 2)).build(shape=(6, 0), out=3, times=0, context=spec)
    with pytest.raises(ValueError, match="state: expected at most the 5 columns of the context, found 6"):
        ActVaeEncoder(state=6).build(shape=(6, 4), context=spec, latent=3)
    net = SMALL.build(shape=(6, 0), out=3, times=1, context=spec)
    x, ctx = torch.zeros(2, 6, 0), context_of(spec)
    for wrong, t, message in [
        (ctx.replace(vector=None), torch.rand(2, 1), "context.vector: expected width 5, found none"),
        (ctx.replace(tokens=None), torch.rand(2, 1), "context.tokens: expected tokens of width 3, found none"),
        (
            ctx.replace(tokens=torch.rand(2, 3, 3)),
            torch.rand(2, 1),
            "context.tokens: expected at most 2 tokens, found 3",
        ),
        (ctx, None, "t: expected the times"),
    ]:
        with pytest.raises(ValueError, match=message):
            net(x, t, wrong)


def test_positions_of_context_tokens_enter_queries_and_keys_only():
    """As a learned table does that holds the same numbers; the other networks refuse them."""
    own = loud(
        SMALL.build(shape=(3, 2), out=2, times=1, context=ContextSpec(vector=4, token=5, tokens=6), causal=False)
    )
    spec = ContextSpec(vector=4, token=5, tokens=6, positions=True)
    given = SMALL.build(shape=(3, 2), out=2, times=1, context=spec, causal=False).eval()
    weights = own.state_dict()
    table = weights.pop("token_position.weight")
    given.load_state_dict(weights)
    x, t, ctx = torch.randn(2, 3, 2), torch.rand(2, 1), context_of(ContextSpec(vector=4, token=5, tokens=6))
    rows = ctx.replace(positions=table.expand(2, -1, -1))
    torch.testing.assert_close(given(x, t, rows), own(x, t, ctx))
    other = rows.replace(positions=torch.stack([table, table.flip(0)]))
    moved = given(x, t, other)
    torch.testing.assert_close(moved[0], own(x, t, ctx)[0])
    assert not torch.allclose(moved[1], own(x, t, ctx)[1])
    with pytest.raises(ValueError, match=r"context.positions: expected \(2, 6, 16\), found None"):
        given(x, t, ctx)
    with pytest.raises(ValueError, match=r"context.positions: expected none"):
        Mlp().build(shape=(3, 2), out=2, times=1, context=spec, causal=False)
