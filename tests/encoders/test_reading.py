"""A prefix read once, and what goes on behind it, is one pass over both: logits, velocities and gradients."""

from dataclasses import replace

import pytest
import torch
from tests.nn.test_memory import Written
from torch import nn

from nextmove.contracts import TASK, Context, Feature, seeded
from nextmove.decoders import Autoregressive, Flow, Regression
from nextmove.decoders.sampling import Sampling
from nextmove.encoders.framed import Framed
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import MASK, Reading
from nextmove.nn import Continued, Expert, Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.continued import follow
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.mask import block_mask
from nextmove.nn.norm import RmsNorm
from nextmove.nn.vit import VisionTower

B, SIDE, STATE, A, H, K = 2, 8, 3, 4, 3, 16
TOP, WRIST, OWN = "observation.images.top", "observation.images.wrist", "observation.state"
INPUTS = {
    TOP: Feature("image", (10, 12, 3)),
    WRIST: Feature("image", (8, 8, 3), optional=True),
    OWN: Feature("state", (STATE,)),
    TASK: Feature("text"),
}
TOWER = VisionTower(SIDE, 4, 12, 1, 2, DenseMlp(16), class_token=False, pool="none")
LANGUAGE = Gpt(16, 2, Heads(4, 2, 8, bias=False, out_bias=False), positions="rotary", norm=RmsNorm(), head="plain",
               feedforward=GatedMlp(24), embed_scale=4.0)  # fmt: skip
READING = Reading(LANGUAGE, towers=(TOWER,))
EXPERT = Expert(12, 4, feedforward=GatedMlp(20), time="token")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loud(*nets):
    for net in nets:
        for weight in net.parameters():
            nn.init.normal_(weight, std=0.3)


def encoder(config=READING, inputs=INPUTS):
    made = config.build(inputs)
    if made.scale is not None:
        made.scale.set({"mean": torch.zeros(STATE), "std": torch.ones(STATE)}, eps=0.0)
    loud(made)
    return made


def observed(**extra):
    images = torch.randint(0, 256, (B, 1, 10, 12, 3), dtype=torch.uint8)
    wrist = torch.randint(0, 256, (B, 1, 8, 8, 3), dtype=torch.uint8)
    return {TOP: images, WRIST: wrist, OWN: torch.randn(B, 1, STATE), TASK: ["push", "open the drawer"]} | extra


def grads(loss, *nets):
    return torch.autograd.grad(loss, [w for net in nets for w in net.parameters()], allow_unused=True)


def same(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def parts(made, obs):
    """What `ReadingEncoder.prefix` is called with."""
    seen = [made.seen(obs, name, B) for name in made.cameras]
    words = made.config.state == "words"
    state = made.shown(obs)
    texts = made.config.prompt.texts(obs[TASK], state if words else None)
    ids, mask = made.config.prompt.ids(made.tokenizer, texts)
    return [one for one in seen if one is not None], ids, mask, None if words else state


@pytest.mark.parametrize("order", ["whole", "causal"])
def test_going_on_is_one_pass_over_prefix_and_ids(order):
    made = encoder(replace(READING, order=order))
    lead = (7, 9)
    net = Continued(((40, K // 2, -1), (100, K // 2, 2)), lead).build_tokens(length=5, classes=K, context=made.spec)
    follow(net, made.language)
    table = [40 - i for i in range(K // 2)] + [100 + 2 * i for i in range(K // 2)]
    obs, ids = observed(), torch.randint(0, K, (B, 5))
    started = torch.cat([ids.new_full((B, 1), K), ids], 1)
    logits = net(started, made(obs, batch=B), None)[0]
    assert logits.shape == (B, 6, K)
    x, valid, _ = made.embedded(*parts(made, obs))
    suffix = torch.cat([torch.tensor(lead).expand(B, -1), torch.tensor(table)[ids]], 1)
    whole = torch.cat([x, made.language.embed(suffix)], 1)
    heard = torch.cat([valid, torch.ones(B, suffix.shape[1], dtype=torch.bool)], 1)
    block = torch.arange(whole.shape[1])
    block = (block - x.shape[1]).clamp(min=-1) if order == "whole" else block
    h, _ = made.language.read_embedded(whole, Context.empty(B), mask=block_mask(heard, block), valid=heard)
    expected = made.language.logits(h[:, x.shape[1] + 1 :])[..., table]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    same(grads(logits.square().mean(), made), grads(expected.square().mean(), made))
    assert not list(net.parameters()), "the weights are the encoder's"


@pytest.mark.parametrize("state", ["vector", "words", "token"])
def test_velocity_and_gradients_are_those_of_one_pass(state):
    template = "{task}, State: {state};\n" if state == "words" else "{task}\n"
    made = encoder(replace(READING, state=state, prompt=Prompt(template, 96), state_width=0 if state == "words" else 5))
    config = replace(EXPERT, causal=state == "token", time="adaptive" if state == "words" else "token")
    net = config.build(shape=(H, A), out=A, times=1, context=made.spec)
    loud(net)
    obs, x_t, t = observed(), torch.randn(B, H, A), torch.rand(B, 1)
    velocity = net(x_t, t, made(obs, batch=B))
    expected = joint(made, net, obs, x_t, t)
    torch.testing.assert_close(velocity, expected, atol=1e-5, rtol=1e-4)
    same(grads(velocity.square().mean(), made, net), grads(expected.square().mean(), made, net))


def joint(made, net, obs, x_t, t):
    """The velocity by one pass in which each layer attends over both streams at once."""
    *seen, state = parts(made, obs)
    prefix, valid, apart = made.embedded(*seen, state)
    h, condition = net._embed(x_t, t)
    if net.state is not None:
        h = torch.cat([net.state(state)[:, None], h], 1)
    length, after = prefix.shape[1], h.shape[1]
    block = torch.zeros(length + after, dtype=torch.long)
    if apart is not None:
        block[:length] = apart.long()
    block[length:] = 2
    block[length + int(net.state is not None) :] = 3
    if net.causal:
        block[length:] = torch.arange(after) + 2
    heard = torch.cat([valid, torch.ones(B, after, dtype=torch.bool)], 1)
    mask, turn = block_mask(heard, block), made.language.stream._rotations(h, heard.cumsum(1) - 1, None, None)[0]
    for mine, theirs in zip(made.language.stream.blocks, net.stream.blocks, strict=True):
        changes = [None, None] if theirs.adaptive is None else theirs.adaptive(condition)
        pair = [(mine, prefix, None, None), (theirs, h, *changes)]
        asked = [block.attention_branch.enter(s, by) for block, s, by, _ in pair]
        qkv = [block.attention.project(a, a, a) for (block, *_), a in zip(pair, asked, strict=True)]
        q, k, v = (torch.cat(rows, 2) for rows in zip(*qkv, strict=True))
        k, v = (x.repeat_interleave(2, 1) for x in (turn(k), v))
        y = ((turn(q) @ k.mT) * 8**-0.5).masked_fill(~mask, -torch.inf).softmax(-1) @ v
        y = y.transpose(1, 2).flatten(2).split([length, after], 1)
        out = []
        for (block, s, by, second), own in zip(pair, y, strict=True):
            s = block.attention_branch.join(s, block.attention.out_proj(own), by)
            part = block.feedforward_branch
            out.append(part.join(s, block.feedforward(part.enter(s, second)), second))
        prefix, h = out
    h = net.stream.norm(h)
    if net.stream.adaptive is not None:
        by = net.stream.adaptive(condition)[0]
        h = h * (1 + by.scale) + by.shift
    return net.head(h[:, -H:])


def test_an_absent_camera_is_one_that_nobody_may_see():
    made, obs = encoder(), observed()
    net = EXPERT.build(shape=(H, A), out=A, times=1, context=made.spec)
    x_t, t = torch.randn(B, H, A), torch.rand(B, 1)
    without = {name: value for name, value in obs.items() if name != WRIST}
    nowhere = obs | {WRIST + MASK: torch.zeros(B, dtype=torch.bool)}
    found = [net(x_t, t, made(seen, batch=B)) for seen in (without, nowhere, obs)]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[0], found[2])
    with pytest.raises(ValueError, match=TOP):
        made({name: value for name, value in obs.items() if name != TOP}, batch=B)


def test_a_black_camera_is_seen():
    made, obs = encoder(replace(READING, absent="black")), observed()
    without = {name: value for name, value in obs.items() if name != WRIST}
    black = obs | {WRIST: torch.zeros_like(obs[WRIST])}
    mine, theirs = made(without, batch=B).memory, made(black, batch=B).memory
    torch.testing.assert_close(mine.layers[1].keys, theirs.layers[1].keys)


def test_placeholders_are_read_in_one_pass_that_the_prefix_sees():
    made = encoder(replace(READING, read=False))
    config = Continued(lead=(7,), end=(2,), whole=True, shifted=True)
    decoder = Regression(config, loss="l1").build(shape=(H, A), context=made.spec)
    follow(decoder, made.language)
    loud(decoder)
    obs = observed()
    ctx = made(obs, batch=B)
    x = decoder.sample(ctx, shape=(H, A), rng=seeded(0))
    width = LANGUAGE.width
    suffix = torch.cat([made.language.embed(torch.tensor([[7]])), torch.zeros(1, H * A, width),
                        made.language.embed(torch.tensor([[2]]))], 1).expand(B, -1, -1)  # fmt: skip
    heard = torch.cat([ctx.mask, torch.ones(B, suffix.shape[1], dtype=torch.bool)], 1)
    h, _ = made.language.read_embedded(torch.cat([ctx.tokens, suffix], 1), Context.empty(B), mask=None, valid=heard)
    first = ctx.tokens.shape[1]
    expected = decoder.net.head(h[:, first : first + H * A].reshape(B, H, A * width))
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-4)


def test_what_is_drawn_one_by_one_is_the_likeliest_of_all_at_once():
    made = encoder(replace(READING, order="causal"))
    config = Continued(((40, K, -1),), (7,))
    decoder = Autoregressive(config, classes=K, sampling=Sampling(temperature=0.0)).build(shape=(5,), context=made.spec)
    follow(decoder, made.language)
    ctx = made(observed(), batch=B)
    ids = decoder.sample(ctx, shape=(5,), rng=seeded(0))
    assert torch.equal(decoder.logits(ctx, ids).argmax(-1), ids)


@torch.no_grad()
def test_flow_makes_plans_without_copying_the_prefix():
    made = encoder(replace(READING, state="vector", towers=(replace(TOWER, image=64),)))
    decoder, obs, copied = Flow(EXPERT).build(shape=(H, A), context=made.spec), observed(), {}
    for steps in (1, 10):
        ctx = made(obs, batch=B)
        held = [layer.keys.numel() + layer.values.numel() for layer in ctx.memory.layers]
        with Written() as written:
            plan = decoder.with_sampling(None, steps).sample(ctx, shape=(H, A), rng=seeded(0))
        assert plan.shape == (B, H, A)
        copied[steps] = written.copied
    # The first call makes room behind the prefix; the nine behind it copy less than one prefix between them.
    assert copied[1] >= sum(held)
    assert copied[10] - copied[1] < sum(held) / 2


def test_words():
    prompt = Prompt("Task: {task}, State: {state};\nAction: ", clean=True, bins=256)
    states = torch.tensor([[-1.1, -1.0, 0.0, 0.999, 1.0, 3.0]])
    assert prompt.texts([" pick_up\n"], states) == ["Task: pick up, State: -1 0 128 255 255 255;\nAction: "]
    assert Prompt("In: {task}?", lower=True).texts(["Open It\n"]) == ["In: open it?"]
    with pytest.raises(ValueError, match="at most 4 ids, found 10"):
        Prompt(length=4).ids(Prompt().tokenizer(), ["abcdefgh"])
    with pytest.raises(ValueError, match="template"):
        replace(READING, state="words")
    with pytest.raises(ValueError, match="at least the tokenizer's 259"):
        encoder(replace(READING, ids=258))


def test_pictures_keep_their_proportions():
    wide = torch.full((1, 4, 8, 3), 255, dtype=torch.uint8)
    centre, corner, whole = (Framed(place)(wide, 4)[0, 0] for place in ("centre", "corner", "stretch"))
    assert centre[:, 0].tolist() == [0, 1, 1, 0]
    assert corner[:, 0].tolist() == [0, 0, 1, 1]
    assert whole.min() == 1


def test_ids_that_the_language_model_lacks():
    made = encoder()
    net = Continued(((255, 4, 2),), (1,)).build_tokens(length=4, classes=4, context=made.spec)
    with pytest.raises(ValueError, match="below the language model's 259, found 261"):
        follow(net, made.language)
    with pytest.raises(ValueError, match="expected 5 ids"):
        Continued(((255, 4, 2),), (1,)).build_tokens(length=4, classes=5, context=made.spec)
    with pytest.raises(ValueError, match="found none"):
        follow(net, None)
