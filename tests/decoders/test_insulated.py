"""Knowledge insulation: the language model learns from words alone, the expert from its own rule and acts as before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nextmove import store
from nextmove.contracts import TASK, Context, ContextSpec, Feature, MemorySpec, Shard, seeded
from nextmove.decoders import Autoregressive, Flow
from nextmove.decoders.insulated import Insulated
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.pi05 import Pi05
from nextmove.nn import Continued, Expert, Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.continued import follow
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.norm import RmsNorm

B, H, A, K, P = 3, 4, 2, 16, 5
LANGUAGE = Gpt(16, 2, Heads(2, 1, 8, bias=False, out_bias=False), positions="rotary", norm=RmsNorm(), head="plain",
               feedforward=GatedMlp(24))  # fmt: skip
CONFIG = Insulated(
    Flow(trunk=Expert(12, 2, feedforward=GatedMlp(20), time="token")),
    Autoregressive(Continued(vocabulary=((4, K, 1),), lead=(1,)), classes=K),
    share=0.5,
)


def made(config=CONFIG):
    torch.manual_seed(0)
    language = LANGUAGE.build_tokens(length=0, classes=24, context=ContextSpec(), start=False)
    decoder = config.build(shape=(H, A), context=ContextSpec(memory=MemorySpec(2, 1, 8)))
    follow(decoder, language)
    for p in decoder.parameters():
        nn.init.normal_(p, std=0.3)
    ids = torch.randint(24, (B, P), generator=seeded(1))
    _, memory = language.read_embedded(language.embed(ids), Context.empty(B))
    return decoder, language, Context(B, memory=memory)


def test_each_term_moves_its_own_weights():
    decoder, language, ctx = made()
    terms = decoder.loss(ctx, torch.randn(B, H, A, generator=seeded(2)), weight=None, rng=seeded(3))
    assert len(terms) == 2
    of_words = torch.autograd.grad(terms.pop("words"), [*language.parameters()], allow_unused=True, retain_graph=True)
    assert sum(grad is not None and bool(grad.abs().max() > 0) for grad in of_words) > 5
    (of_flow,) = terms.values()
    mine = [*decoder.inner.parameters()]
    found = torch.autograd.grad(of_flow, [*mine, *language.parameters()], allow_unused=True)
    assert any(bool(grad.abs().max() > 0) for grad in found[: len(mine)] if grad is not None)
    assert all(grad is None for grad in found[len(mine) :])


def test_the_expert_learns_and_acts_as_without_it():
    decoder, _, ctx = made()
    x = torch.randn(B, H, A, generator=seeded(2))
    weight = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    terms = decoder.loss(ctx, x, weight=weight, rng=seeded(3))
    alone = decoder.inner.loss(ctx, x, weight=weight, rng=seeded(3))
    assert all(torch.equal(terms[name], value) for name, value in alone.items())
    sampled = [part.sample(ctx, shape=(H, A), rng=seeded(4)) for part in (decoder, decoder.inner)]
    assert torch.equal(*sampled)
    ids = decoder.ids(x)
    words = decoder.words.log_prob(ctx, ids).view(B, H, A)[weight]
    torch.testing.assert_close(terms["words"], -0.5 * words.mean())
    counted = decoder.counted(weight, shape=(B, H, A), rng=seeded(3))
    assert float(counted["words"].sum()) == 2 * float(weight.sum())


def test_bins_are_the_nearest_ones():
    decoder, *_ = made()
    x = torch.tensor([[[-2.0, -1.0], [0.07, 0.0], [1.0, 3.0], [1 / 15, -1 / 15]]])
    assert decoder.ids(x).tolist() == [[0, 0, 8, 8, 15, 15, 8, 7]]


def test_pi05_writes_fasts_tokens_and_is_saved(tmp_path):
    camera, own = "observation.images.top", "observation.state"
    spec = PolicySpec(
        {camera: Feature("image", (64, 64, 3)), own: Feature("state", (3,)), TASK: Feature("text")}, 3, 10
    )
    policy = store.create("pi05", spec, Pi05.insulated())
    batch = {
        camera: torch.zeros(2, 1, 64, 64, 3, dtype=torch.uint8),
        own: torch.randn(2, 1, 3, generator=seeded(4)),
        TASK: ["push", "pull it"],
        "action": torch.randn(2, policy.horizon, 3, generator=seeded(5)).cumsum(1),
        "action_is_pad": torch.zeros(2, policy.horizon, dtype=torch.bool),
    }
    policy.fit([batch])
    terms = policy.loss(batch, rng=seeded(0))
    assert {"words"} < set(terms)
    x, fast = policy.codec.encode(batch["action"], batch), policy.codec.beside
    ids = policy.decoder.ids(x)
    # The language model writes what the expert plans, and what it writes is decoded to it.
    assert x.shape == (2, policy.horizon, 3)
    assert torch.equal(ids, fast.encode(x))
    torch.testing.assert_close(fast.decode(ids), x, atol=0.05 * policy.horizon**0.5, rtol=0)
    errors = -policy.decoder.words.log_prob(policy.context(batch), ids)
    rows = [errors[i, : int((ids[i] >= 0).sum())].mean() for i in range(2)]
    torch.testing.assert_close(terms["words"], (rows[0] + rows[1]) / 2, rtol=1e-4, atol=1e-5)
    nobody = type(policy.decoder)(policy.decoder.config, policy.decoder.inner, policy.decoder.words)
    with pytest.raises(ValueError, match="expected a tokenizer of actions"):
        nobody.ids(x)
    masks = {"action_is_pad": batch["action_is_pad"]}
    halves = [
        policy.loss({n: v[i : i + 1] for n, v in batch.items()}, rng=Shard(seeded(0), i, 2, masks, {})) for i in (0, 1)
    ]
    torch.testing.assert_close(sum(half["words"] for half in halves) / 2, terms["words"], rtol=1e-4, atol=1e-5)
    again = store.load(store.save(policy, tmp_path))
    assert again.card.recipe == policy.card.recipe
    assert torch.equal(again.decoder.ids(x), ids)
    assert isinstance(again.decoder.words.net, type(policy.decoder.words.net))
